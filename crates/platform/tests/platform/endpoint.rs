//! The PCS endpoint, asked by the project's own client and by hand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use attestation::pcs::{Client, Options};
use attestation::trust::SimulatedRoot;
use attestation::{Expected, Policy, Quote, Subject, TrustAnchors, judge};
use jiff::Timestamp;
use platform::pcs_endpoint::{Endpoint, LOOPBACK, serve};
use platform::simulated::Installation;
use platform::{Error, Platform};
use tempfile::TempDir;

use crate::fixture::Inputs;

struct Served {
    _home: TempDir,
    installation: Installation,
    endpoint: Endpoint,
}

fn served() -> Served {
    let home = tempfile::tempdir().unwrap();
    let installation =
        Installation::open_or_create(&home.path().join("simulator"), Timestamp::now()).unwrap();
    let endpoint = serve(installation.clone(), LOOPBACK).unwrap();
    Served { _home: home, installation, endpoint }
}

/// Status, head in lower case, body.
type Answer = (u16, String, Vec<u8>);

impl Served {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.endpoint.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!(
            "GET /sgx/certification/v4/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), answer[end + 4..].to_vec())
    }

    fn fmspc(&self) -> String {
        hex::encode(self.installation.fmspc())
    }
}

#[test]
fn a_verifier_gets_from_here_what_it_needs() {
    let mut inputs = Inputs::new();
    let served = served();
    inputs.installation = served.installation.clone();
    let enclave = inputs.load().unwrap();
    let quote = enclave.quote(&[1; 64]).unwrap();

    let now = Timestamp::now();
    let client = Client::new(served.endpoint.url(), Options::default()).unwrap();
    let collateral = client.collateral_for(&Quote::parse(&quote).unwrap(), now).unwrap();

    let root = SimulatedRoot::from_pem(served.installation.root_pem().as_bytes()).unwrap();
    let anchors = TrustAnchors::intel().with_simulated(root);
    let expected = Expected { mrenclave: vec![enclave.mrenclave()], ..Expected::default() };
    // `now` was read before the collateral was signed, as careful callers do.
    let judgement = judge(&Subject::Quote(quote), &collateral, &anchors, &Policy::strict(), &expected, now);
    assert!(judgement.is_accepted(), "{:?}", judgement.failures().collect::<Vec<_>>());
}

#[test]
fn its_address_is_that_of_a_pccs() {
    let served = served();
    assert!(served.endpoint.address().ip().is_loopback());
    assert_eq!(
        served.endpoint.url(),
        format!("http://127.0.0.1:{}/sgx/certification/v4/", served.endpoint.address().port())
    );
}

#[test]
fn documents_come_with_their_issuer_chains_in_intels_headers() {
    let served = served();
    let tcb = format!("tcb?fmspc={}", served.fmspc());
    for (path, header, kind, start) in [
        (tcb.as_str(), "tcb-info-issuer-chain", "application/json", "{\"tcbInfo\":{\"id\":\"SGX\""),
        (
            "qe/identity",
            "sgx-enclave-identity-issuer-chain",
            "application/json",
            "{\"enclaveIdentity\":{\"id\":\"QE\"",
        ),
        (
            "pckcrl?ca=platform",
            "sgx-pck-crl-issuer-chain",
            "application/x-pem-file",
            "-----BEGIN X509 CRL-----\n",
        ),
    ] {
        let (status, head, body) = served.get(path);
        assert_eq!(status, 200, "{path}: {head}");
        assert!(body.starts_with(start.as_bytes()), "{path}: {}", body.escape_ascii());
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        let chain = format!("\r\n{header}: -----begin%20certificate-----%0a");
        assert!(head.contains(&chain), "{path}: {head}");
        // Two certificates: who signed, and the root.
        assert_eq!(head.matches("begin%20certificate").count(), 2, "{path}");
    }
}

#[test]
fn crls_come_in_the_encoding_that_was_asked_for() {
    let served = served();
    let (_, _, platform) = served.get("pckcrl?ca=platform&encoding=der");
    let (_, _, processor) = served.get("pckcrl?encoding=der&ca=processor");
    assert_eq!((platform[0], processor[0]), (0x30, 0x30));
    let issuer = |crl: &[u8]| attestation::crl::Crl::parse(crl).unwrap().issuer;
    assert_ne!(issuer(&platform), issuer(&processor));
    let (status, _, root) = served.get("rootcacrl");
    assert_eq!(status, 200);
    attestation::crl::Crl::parse(&hex::decode(root).unwrap()).unwrap();
    let (_, _, pem) = served.get("pckcrl?ca=processor&encoding=pem");
    assert!(pem.ends_with(b"-----END X509 CRL-----\n"));
}

#[test]
fn wrong_questions_get_pcs_answers() {
    let served = served();
    let own = served.fmspc();
    for (path, expected) in [
        ("tcb", 400),
        ("tcb?fmspc=", 400),
        ("tcb?fmspc=0123", 400),
        ("tcb?fmspc=0123456789zz", 400),
        ("tcb?fmspc=0123456789ab", 404),
        (&format!("tcb?fmspc={own}&update=late"), 400),
        (&format!("tcb?fmspc={own}&fmspc={own}"), 400),
        (&format!("tcb?fmspc={own}&tcbEvaluationDataNumber=3"), 400),
        (&format!("tcb?fmspc={}&update=early", own.to_uppercase()), 200),
        ("qe/identity?update=early", 200),
        ("qe/identity?fmspc=1", 400),
        ("pckcrl", 400),
        ("pckcrl?ca=root", 400),
        ("pckcrl?ca=platform&encoding=xml", 400),
        ("rootcacrl?ca=platform", 400),
        ("", 404),
        ("pckcert", 404),
        ("../v4/rootcacrl", 404),
    ] {
        let (status, head, _) = served.get(path);
        assert_eq!(status, expected, "{path}: {head}");
    }
    assert_eq!(served.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").0, 404);
    let (status, head, _) =
        served.send("POST /sgx/certification/v4/rootcacrl HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status, 405);
    assert!(head.contains("allow: get"));
}

#[test]
fn an_endless_head_is_cut_off() {
    let served = served();
    let mut stream = served.connect();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let mut request = "GET /sgx/certification/v4/rootcacrl HTTP/1.1\r\nHost: x\r\n".to_owned();
    request.push_str(&line.repeat(60));
    // The other side may close while this is still being written.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
    assert_eq!(served.get("rootcacrl").0, 200);
}

#[test]
fn idle_connections_hold_nobody_up() {
    let served = served();
    let idle: Vec<_> = (0..40).map(|_| served.connect()).collect();
    assert_eq!(served.get("rootcacrl").0, 200);
    drop(idle);
}

#[test]
fn it_stops_when_dropped() {
    let served = served();
    let address = served.endpoint.address();
    // A client that is still connected does not keep it.
    let mut connected = served.connect();
    drop(served.endpoint);
    assert!(TcpStream::connect(address).is_err());
    let mut rest = Vec::new();
    assert!(!matches!(connected.read_to_end(&mut rest), Ok(length) if length > 0));
}

#[test]
fn an_address_in_use_is_named() {
    let home = tempfile::tempdir().unwrap();
    let installation =
        Installation::open_or_create(&home.path().join("simulator"), Timestamp::now()).unwrap();
    let taken = TcpListener::bind(LOOPBACK).unwrap();
    let address = taken.local_addr().unwrap();
    match serve(installation, address) {
        Err(Error::Listen { address: found, .. }) => assert_eq!(found, address),
        other => panic!("expected that {address} is taken, found {other:?}"),
    }
}
