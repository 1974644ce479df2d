//! From a question to a sealed file, with a simulated enclave; and every way in which an answer is not believed.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use attestation::pcs::Update;
use http::Response;
use jiff::Timestamp;
use secrets::code::CodeKey;
use secrets::seal::Payload;
use zeroize::Zeroizing;

use super::*;
use crate::collate::{Sources, says_simulated};
use crate::records::{Origin, Record, Store};
use crate::seal::{seal, seal_unverified};
use crate::testing::enclave::{Node, verify};
use crate::testing::{APP_ID, Identity, Server, body, nowhere, ok};

const LIMIT: Duration = Duration::from_secs(20);

fn payload() -> Payload {
    Payload {
        secrets: Some(Zeroizing::new(b"{\"key\":1}".to_vec())),
        code_key: Some(CodeKey::from_bytes([3; 32])),
    }
}

#[test]
fn what_a_node_answers_becomes_a_record_that_secrets_are_sealed_for() {
    let node = Arc::new(Node::new());
    let server = node.serve(&node.identity);
    let nonce = fresh_nonce().unwrap();
    let live = request(&server.target(), &nonce, LIMIT).unwrap();
    assert_eq!(live.nonce(), nonce);
    let verified = verify(&live).unwrap();
    assert_eq!(live.channel(&verified).unwrap(), ChannelKind::Attested);
    live.require_attested(&verified).unwrap();

    let record = Record::of(&verified, Origin::Verify).unwrap();
    assert_eq!(record.fingerprint(), Node::fingerprint());
    assert_eq!(record.app_id(), APP_ID);
    assert_eq!(record.certificate(), node.identity.certificate);
    assert_eq!((record.policy(), record.tcb_status()), ("strict", "UpToDate"));
    assert!(record.is_simulated());
    assert!(record.valid_until() > Timestamp::now());
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.save(&record).unwrap();
    let record = store.by_certificate(&node.identity.certificate).unwrap().unwrap();
    assert_eq!(record, Record::of(&verified, Origin::Verify).unwrap());

    let sealed = seal(&record, &payload(), Timestamp::now()).unwrap();
    let opened = node.sealing_key.open(&Node::fingerprint(), &APP_ID, &sealed).unwrap();
    assert_eq!(opened.secrets.unwrap().as_slice(), b"{\"key\":1}");
    assert_eq!(opened.code_key.unwrap().as_bytes(), &[3; 32]);
    assert!(node.sealing_key.open(&[0; 32], &APP_ID, &sealed).is_err(), "bound to the fingerprint");
}

#[test]
fn sealing_wants_a_verification_that_is_for_others_and_holds() {
    let node = Arc::new(Node::new());
    let server = node.serve(&node.identity);
    let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    let verified = verify(&live).unwrap();
    let spawned = Record::of(&verified, Origin::SpawnedHere).unwrap().named("app_name");
    assert!(matches!(seal(&spawned, &payload(), Timestamp::now()), Err(Error::Origin { .. })));
    let record = Record::of(&verified, Origin::Verify).unwrap();
    assert!(matches!(seal(&record, &payload(), Timestamp::MAX), Err(Error::Expired { .. })));

    let certificate = attestation::ratls::RatlsCertificate::parse(record.certificate()).unwrap();
    let sealed = seal_unverified(&certificate, &payload()).unwrap();
    node.sealing_key.open(&Node::fingerprint(), &APP_ID, &sealed).unwrap();
}

#[test]
fn genuine_evidence_relayed_by_another_peer_is_refused() {
    let (node, relay) = (Arc::new(Node::new()), Identity::generate());
    let server = node.serve(&relay);
    let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    assert_eq!(live.peer().spki_sha256, relay.spki_sha256());
    // Genuine it is; but this connection does not end in that enclave.
    let error = live.channel(&verify(&live).unwrap()).unwrap_err();
    let Error::NotThisPeer { connection, evidence, .. } = &error else { panic!("{error}") };
    assert_eq!(connection, &hex::encode(relay.spki_sha256()));
    assert_eq!(evidence, &hex::encode(node.identity.spki_sha256()));
}

#[test]
fn the_verification_of_other_evidence_says_nothing_of_this_connection() {
    let node = Arc::new(Node::new());
    let server = node.serve(&node.identity);
    let one = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    let two = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    let error = one.channel(&verify(&two).unwrap()).unwrap_err();
    assert!(matches!(error, Error::NotThisPeer { .. }), "{error}");
}

#[test]
fn evidence_over_an_earlier_nonce_is_refused() {
    let node = Arc::new(Node::new());
    let kept = node.evidence(&fresh_nonce().unwrap()).to_json();
    let server = Server::start(&node.identity, move |_| {
        let kept = kept.clone();
        async { ok(kept) }
    });
    let error = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap_err();
    assert!(matches!(error, Error::Nonce { .. }) && error.is_refusal(), "{error}");
}

#[test]
fn an_owners_certificate_is_called_what_it_is() {
    let owner = Identity::generate();
    let served = Some(owner.spki_sha256());
    let node = Arc::new(Node::in_mode(TlsMode::OwnerCertificate, served));
    let server = node.serve(&owner);
    let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    let verified = verify(&live).unwrap();
    assert_eq!(live.channel(&verified).unwrap(), ChannelKind::OwnerCertificate);
    let error = live.require_attested(&verified).unwrap_err();
    assert!(error.to_string().contains("channel: owner certificate, not attested"), "{error}");
    assert_eq!(Record::of(&verified, Origin::Verify).unwrap().served_spki(), served);

    // Neither a key that the enclave does not serve, nor one that its measured mode gives it no leave to serve.
    for node in [
        Node::in_mode(TlsMode::OwnerCertificate, Some([1; 32])),
        Node::in_mode(TlsMode::OwnerCertificate, None),
        Node::in_mode(TlsMode::RaTls, served),
    ] {
        let server = Arc::new(node).serve(&owner);
        let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
        let error = live.channel(&verify(&live).unwrap()).unwrap_err();
        assert!(matches!(error, Error::NotThisPeer { .. }), "{error}");
    }
}

#[test]
fn a_busy_node_is_asked_again() {
    let node = Arc::new(Node::new());
    let nonce = fresh_nonce().unwrap();
    let (calls, answer) = (Arc::new(AtomicUsize::new(0)), node.evidence(&nonce).to_json());
    let counted = calls.clone();
    let server = Server::start(&node.identity, move |_| {
        let response = match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Response::builder().status(429).body(body("")).unwrap(),
            _ => ok(answer.clone()),
        };
        async { response }
    });
    request(&server.target(), &nonce, LIMIT).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn answers_that_are_no_evidence_are_named() {
    let identity = Identity::generate();
    let answer = Arc::new(Mutex::new((200, String::new())));
    let shown = answer.clone();
    let server = Server::start(&identity, move |_| {
        let (status, text) = shown.lock().unwrap().clone();
        async move { Response::builder().status(status).body(body(text)).unwrap() }
    });
    let long = " ".repeat(MAX_LIVE_EVIDENCE_BYTES + 1);
    for (status, text) in [(404, ""), (200, "<html>"), (200, "{}"), (503, ""), (200, long.as_str())] {
        *answer.lock().unwrap() = (status, text.to_owned());
        let error = request(&server.target(), &[1; 32], LIMIT).unwrap_err();
        let expected = matches!(error, Error::UnexpectedAnswer { .. })
            || text.len() > 100 && matches!(error, Error::AnswerTooLong { .. });
        assert!(expected, "{status} {error}");
    }
    assert!(matches!(request(&nowhere(), &[1; 32], LIMIT), Err(Error::Unreachable { .. })));
    for nonce in [&[0; 15][..], &[0; 65]] {
        assert!(matches!(request(&nowhere(), nonce, LIMIT), Err(Error::Configuration(_))));
    }
}

#[test]
fn the_simulator_is_asked_for_collateral_as_intel_would_be() {
    let node = Arc::new(Node::new());
    let server = node.serve(&node.identity);
    let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    assert!(says_simulated(live.quote()));
    let simulator = Node::simulator();
    let source = Sources { simulator: Some(&simulator), ..Sources::default() }.choose().unwrap();
    let collateral = source.collateral(live.quote(), Timestamp::now(), None).unwrap();
    assert!(collateral.tcb_info.contains("\"version\""));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("collateral.json");
    std::fs::write(&path, collateral.to_json()).unwrap();
    let source = Sources { file: Some(&path), ..Sources::default() }.choose().unwrap();
    assert_eq!(source.collateral(live.quote(), Timestamp::now(), None).unwrap(), collateral);
    let source = Sources { evidence: Some(&collateral), ..Sources::default() }.choose().unwrap();
    assert_eq!(source.collateral(live.quote(), Timestamp::now(), None).unwrap(), collateral);

    std::fs::write(&path, "{}").unwrap();
    let source = Sources { file: Some(&path), ..Sources::default() }.choose().unwrap();
    let error = source.collateral(live.quote(), Timestamp::now(), None).unwrap_err();
    assert!(matches!(error, Error::CollateralFile { .. }), "{error}");
    let nowhere = directory.path().join("none");
    let source = Sources { simulator: Some(&nowhere), ..Sources::default() }.choose().unwrap();
    let error = source.collateral(live.quote(), Timestamp::now(), None).unwrap_err();
    assert!(matches!(error, Error::Simulator(_)), "{error}");
}

#[test]
fn a_service_is_asked_for_the_tcb_recovery_that_is_wanted() {
    let node = Arc::new(Node::new());
    let server = node.serve(&node.identity);
    let live = request(&server.target(), &fresh_nonce().unwrap(), LIMIT).unwrap();
    for (update, early) in [(Update::Early, true), (Update::Standard, false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // The first answer ends it: there is no such platform.
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
            line
        });
        let source = Sources { pccs: Some(&url), update: Some(update), ..Sources::default() };
        source.choose().unwrap().collateral(live.quote(), Timestamp::now(), None).unwrap_err();
        let line = asked.join().unwrap();
        assert!(line.contains("/tcb?"), "{line}");
        assert_eq!(line.contains("update=early"), early, "{line}");
    }
}
