//! A configuration is accepted whole, once; whatever is wrong with one is named, and leaves everything as it was.
#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use node::Node;
use package::config::{CodeForm, TlsMode};
use secrets::code::CodeKey;
use secrets::seal::{Payload, Recipient, SealingPublicKey};
use serde_json::{Value, json};
use support::{APP_ID, MRENCLAVE, Running, Stage, archive, mode};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Asserts that the configuration is refused for this reason, and that nothing changed.
fn refused(stage: &Stage, running: &Running, body: &Value, reason: &str) -> Value {
    let before = stage.snapshot();
    let answer = running.post(body);
    assert_eq!(answer.problem(), reason, "{answer:?}");
    assert_eq!(answer.header("mse-status"), Some("Waiting"));
    assert!(!running.node.is_configured());
    assert!(stage.snapshot() == before, "a refused configuration changed something");
    answer.json()
}

/// Sealed secrets for the identity that the node claims.
fn sealed_for(running: &Running, app_id: Uuid, payload: &Payload) -> String {
    let recipient = Recipient {
        fingerprint: MRENCLAVE,
        app_id: *app_id.as_bytes(),
        key: SealingPublicKey::from_bytes(&claims(running).sealing_key).unwrap(),
    };
    URL_SAFE_NO_PAD.encode(secrets::seal::seal(&recipient, payload).unwrap())
}

fn claims(running: &Running) -> attestation::ratls::AppClaims {
    let evidence = running.get(&format!("/.well-known/mse/evidence?nonce={}", "00".repeat(16)));
    let evidence = attestation::ratls::LiveEvidence::from_json(&evidence.body).unwrap();
    attestation::ratls::Claims::decode(&evidence.claims).unwrap().app.unwrap()
}

fn sealed_secrets(text: &str) -> Payload {
    Payload { secrets: Some(Zeroizing::new(text.as_bytes().to_vec())), code_key: None }
}

#[test]
fn a_right_configuration_puts_code_and_secrets_in_place() {
    let (stage, key) = Stage::encrypted();
    let running = stage.start();
    let payload = Payload { code_key: Some(key), ..sealed_secrets(r#"{"sealed": true}"#) };
    let sealed = sealed_for(&running, APP_ID, &payload);
    let body = json!({ "uuid": APP_ID, "app_secrets": { "clear": true }, "app_sealed_secrets": sealed });
    let answer = running.post(&body);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    running.server.wait().unwrap();

    let places = stage.places();
    assert_eq!(std::fs::read(places.module.join("app.py")).unwrap(), b"app = None\n");
    assert_eq!(std::fs::read(places.module.join("data/x")).unwrap(), [1; 300_000]);
    assert_eq!(std::fs::read(places.secrets()).unwrap(), br#"{"clear":true}"#);
    assert_eq!(std::fs::read(places.sealed_secrets()).unwrap(), br#"{"sealed": true}"#);
    assert!(running.node.prepare().unwrap().confidential);
    let tls = running.node.write_tls_files().unwrap();
    for file in [places.secrets(), places.sealed_secrets(), tls.certificate, tls.key, places.state.clone()] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for directory in [&places.home, &places.tmp, &places.key, &places.module] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    running.node.forget_tls_files().unwrap();
    assert!(!places.tls_key().exists() && !places.tls_certificate().exists());
}

#[test]
fn a_missing_malformed_or_wrong_id_gets_one_answer_whatever_else_is_sent() {
    let (stage, key) = Stage::encrypted();
    let running = stage.start();
    let key = key.to_hex();
    let mut answers = Vec::new();
    for body in [
        json!({}),
        json!({ "uuid": "" }),
        json!({ "uuid": "not an id" }),
        json!({ "uuid": Uuid::nil() }),
        json!({ "uuid": Uuid::from_u128(1), "code_secret_key": "zz" }),
        json!({ "uuid": Uuid::from_u128(1), "code_secret_key": *key, "app_sealed_secrets": "!!" }),
        json!({ "code_secret_key": *key }),
    ] {
        answers.push(refused(&stage, &running, &body, "wrong-id"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[test]
fn a_wrong_code_key_is_refused() {
    let (stage, key) = Stage::encrypted();
    let running = stage.start();
    let (key, other) = (key.to_hex(), CodeKey::generate().unwrap());
    let with = |key: &str| json!({ "uuid": APP_ID, "code_secret_key": key, "app_secrets": {} });
    refused(&stage, &running, &json!({ "uuid": APP_ID }), "code-key-missing");
    refused(&stage, &running, &with(&other.to_hex()), "wrong-code-key");
    refused(&stage, &running, &with(&key[1..]), "code-key-malformed");
    refused(&stage, &running, &with("hunter2"), "code-key-malformed");
    let sealed = sealed_for(&running, APP_ID, &Payload { secrets: None, code_key: Some(other) });
    let both = json!({ "uuid": APP_ID, "code_secret_key": *key, "app_sealed_secrets": sealed });
    refused(&stage, &running, &both, "code-keys-differ");
    assert_eq!(running.post(&with(&key)).status, 200);
}

#[test]
fn a_damaged_or_cut_code_archive_is_refused() {
    let (stage, key) = Stage::encrypted();
    let whole = std::fs::read(stage.archive()).unwrap();
    let body = json!({ "uuid": APP_ID, "code_secret_key": *key.to_hex() });
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    // The second ends where a message ends, so that only the missing last one can tell.
    for damaged in [changed, whole[..whole.len() - 100].to_vec(), whole[..32 + 2 * (65536 + 17)].to_vec()] {
        std::fs::write(stage.archive(), damaged).unwrap();
        let running = stage.start();
        refused(&stage, &running, &body, "wrong-code-key");
    }
}

#[test]
fn code_without_the_application_is_refused() {
    let stage = Stage::plain();
    let running = stage.start();
    for (content, reason) in [
        (archive(&[("other.py", b"")]), "code-unusable"),
        (b"not a tar".repeat(200), "code-unusable"),
        (archive(&[("app/__init__.py", b"")]), ""),
    ] {
        std::fs::write(stage.archive(), content).unwrap();
        let body = json!({ "uuid": APP_ID });
        match reason {
            "" => assert_eq!(running.post(&body).status, 200),
            reason => drop(refused(&stage, &running, &body, reason)),
        }
    }
}

#[test]
fn a_key_for_code_in_clear_is_refused() {
    let stage = Stage::plain();
    let running = stage.start();
    let body = json!({ "uuid": APP_ID, "code_secret_key": "00".repeat(32) });
    refused(&stage, &running, &body, "code-key-unexpected");
}

#[test]
fn sealed_secrets_for_anything_else_are_refused() {
    let stage = Stage::plain();
    let running = stage.start();
    let other_id = sealed_for(&running, Uuid::from_u128(1), &sealed_secrets("{}"));
    let stranger = Stage::plain();
    let other_node = sealed_for(&stranger.start(), APP_ID, &sealed_secrets("{}"));
    let mut changed = sealed_for(&running, APP_ID, &sealed_secrets("{}")).into_bytes();
    changed[1000] = if changed[1000] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (sealed, reason) in [
        (other_id.as_str(), "sealed-secrets-refused"),
        (&other_node, "sealed-secrets-refused"),
        (&changed, "sealed-secrets-refused"),
        ("", "sealed-secrets-refused"),
        ("AAAA", "sealed-secrets-refused"),
        ("a+b/", "sealed-secrets-malformed"),
    ] {
        let body = json!({ "uuid": APP_ID, "app_secrets": { "a": 1 }, "app_sealed_secrets": sealed });
        refused(&stage, &running, &body, reason);
    }
}

#[test]
fn secrets_are_json_objects() {
    let stage = Stage::plain();
    let running = stage.start();
    for secrets in [json!([]), json!("{}"), json!(1)] {
        refused(&stage, &running, &json!({ "uuid": APP_ID, "app_secrets": secrets }), "secrets-malformed");
    }
    for body in ["", "[]", "{", r#"{"uuid": 1}"#, r#"{"unknown": 1}"#] {
        assert_eq!(
            running.client().ask("POST", "/", body.as_bytes()).problem(),
            "malformed-request",
            "{body}"
        );
    }
}

#[test]
fn an_application_may_require_sealed_secrets() {
    let (mut stage, key) = Stage::encrypted();
    stage.config.sealed_secrets_required = true;
    let running = stage.start();
    let clear = json!({ "uuid": APP_ID, "app_secrets": {}, "code_secret_key": *key.to_hex() });
    refused(&stage, &running, &clear, "sealed-secrets-required");
    let with = |sealed: String| json!({ "uuid": APP_ID, "app_sealed_secrets": sealed });
    let only_key = sealed_for(&running, APP_ID, &Payload { secrets: None, code_key: Some(key.clone()) });
    refused(&stage, &running, &with(only_key), "sealed-secrets-required");
    let payload = Payload { code_key: Some(key), ..sealed_secrets("{}") };
    let sealed = sealed_for(&running, APP_ID, &payload);
    assert_eq!(running.post(&with(sealed)).status, 200);
}

#[test]
fn a_body_over_the_limit_is_refused_with_its_reason() {
    let mut stage = Stage::plain();
    stage.limits.body_bytes = 100_000;
    let running = stage.start();
    let before = stage.snapshot();
    let pad = |length: usize| {
        let empty = json!({ "uuid": APP_ID, "app_secrets": { "pad": "" } }).to_string().len();
        json!({ "uuid": APP_ID, "app_secrets": { "pad": "x".repeat(length - empty) } })
    };
    for length in [100_001, 5_000_000] {
        let answer = running.post(&pad(length));
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"));
    }
    let mut chunked = running.client();
    chunked.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        chunked.send(format!("4000\r\n{}\r\n", " ".repeat(0x4000)).as_bytes());
    }
    chunked.send(b"0\r\n\r\n");
    assert_eq!(chunked.answer().problem(), "body-too-large");
    assert!(stage.snapshot() == before);
    assert_eq!(running.post(&pad(100_000)).status, 200);
}

#[test]
fn a_second_configuration_is_refused() {
    let stage = Stage::plain();
    let running = stage.start();
    // Both are under way at once: the second is complete only after the first was answered.
    let body = json!({ "uuid": APP_ID, "app_secrets": { "first": 1 } }).to_string();
    let second = json!({ "uuid": APP_ID, "app_secrets": { "second": 2 } }).to_string();
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}", second.len(), &second[..10]);
    let mut late = running.client();
    late.send(head.as_bytes());
    assert_eq!(running.client().ask("POST", "/", body.as_bytes()).status, 200);
    let before = stage.snapshot();
    late.send(&second.as_bytes()[10..]);
    let answer = late.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (409, "already-configured"));
    assert!(stage.snapshot() == before);
    assert_eq!(running.node.configure(second.as_bytes()).unwrap_err().kind(), "already-configured");
}

#[test]
fn of_many_configurations_at_once_one_is_accepted() {
    let stage = Stage::plain();
    let running = stage.start();
    let accepted = std::thread::scope(|scope| {
        let ask = |number: u32| {
            let body = json!({ "uuid": APP_ID, "app_secrets": { "number": number } }).to_string();
            running.node.configure(body.as_bytes()).is_ok().then_some(number)
        };
        let asked: Vec<_> = (0..8).map(|number| scope.spawn(move || ask(number))).collect();
        asked.into_iter().filter_map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(accepted.len(), 1);
    let secrets: Value = serde_json::from_slice(&std::fs::read(stage.places().secrets()).unwrap()).unwrap();
    assert_eq!(secrets["number"], accepted[0]);
}

#[test]
fn the_owners_certificate_must_fit_its_key() {
    let mut stage = Stage::plain();
    stage.config.tls_mode = TlsMode::OwnerCertificate;
    let running = stage.start();
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["owner.fr".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let ((certificate, key), (_, other_key)) = (make(), make());
    let with = |certificate: &str, key: &str| json!({ "uuid": APP_ID, "ssl_certificate": certificate, "ssl_private_key": key });
    refused(&stage, &running, &json!({ "uuid": APP_ID }), "certificate-required");
    refused(
        &stage,
        &running,
        &json!({ "uuid": APP_ID, "ssl_certificate": certificate }),
        "certificate-required",
    );
    refused(&stage, &running, &with(&certificate, &other_key), "certificate-unusable");
    refused(&stage, &running, &with(&certificate, "x"), "certificate-unusable");
    refused(&stage, &running, &with(&key, &certificate), "certificate-unusable");
    assert_eq!(claims(&running).served_spki, None);
    assert_eq!(running.post(&with(&certificate, &key)).status, 200);

    let tls = running.node.write_tls_files().unwrap();
    assert_eq!(std::fs::read_to_string(&tls.certificate).unwrap(), certificate);
    assert_eq!(std::fs::read_to_string(&tls.key).unwrap(), key);
    let answer = running.node.answer_evidence("GET", &format!("nonce={}", "07".repeat(32)));
    let evidence = attestation::ratls::LiveEvidence::from_json(answer.body.as_bytes()).unwrap();
    assert_eq!(evidence.certificate, running.node.certificate(), "evidence stays bound to the RA-TLS key");
    let claims = attestation::ratls::Claims::decode(&evidence.claims).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::from_pem(&key).unwrap());
    assert_eq!(claims.app.unwrap().served_spki, Some(attestation::ratls::spki_sha256(&spki)));
}

#[test]
fn another_mode_refuses_an_owners_certificate() {
    let stage = Stage::plain();
    assert_eq!(stage.config.code, CodeForm::Plain);
    let running = stage.start();
    for field in ["ssl_certificate", "ssl_private_key"] {
        refused(&stage, &running, &json!({ "uuid": APP_ID, field: "x" }), "certificate-unexpected");
    }
}

#[test]
fn other_requests_are_answered_plainly() {
    let stage = Stage::plain();
    let running = stage.start();
    let welcome = running.get("/");
    assert_eq!((welcome.status, welcome.header("mse-status")), (200, Some("Waiting")));
    assert_eq!(running.get("/health").problem(), "not-found");
    assert_eq!(running.get("/health").header("mse-status"), Some("Waiting"));
    let mut client = running.client();
    let refused = client.ask("PUT", "/", b"x");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, POST")));
    assert_eq!(client.ask("GET", "/", b"").status, 200, "the connection goes on");
}

#[test]
fn an_application_of_the_measured_image_need_not_be_in_the_code() {
    let mut stage = Stage::plain();
    stage.config.application = "installed.web:app".into();
    let refused =
        Node::open(stage.setup()).unwrap().configure(json!({ "uuid": APP_ID }).to_string().as_bytes());
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), "code-unusable");
    assert!(refused.to_string().contains("packages of the image"), "{refused}");
    let node = Node::open(stage.setup()).unwrap().with_module_installed(true);
    node.configure(json!({ "uuid": APP_ID }).to_string().as_bytes()).unwrap();
    assert_eq!(node.prepare().unwrap().application, "installed.web:app");
}
