//! Evidence of a live node: bound to its key and to the verifier's nonce, one quote at a time.
#![allow(clippy::unwrap_used)]

mod support;

use attestation::ratls::{Claims, LiveEvidence, RatlsCertificate, report_data};
use node::evidence::{PATH, PLACES};
use support::{APP_ID, Stage, eventually};

#[test]
fn a_quote_binds_key_nonce_and_claims() {
    let stage = Stage::plain();
    let running = stage.start();
    let nonce = [0xab; 32];
    let answer = running.get(&format!("{PATH}?nonce={}", hex::encode(nonce)));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let evidence = LiveEvidence::from_json(&answer.body).unwrap();
    assert_eq!(evidence.certificate, running.node.certificate());
    // This platform's quotes are the report data.
    assert_eq!(evidence.quote, report_data(&evidence.claims));
    let claims = Claims::decode(&evidence.claims).unwrap();
    assert_eq!(claims.nonce.as_deref(), Some(nonce.as_slice()));
    assert_eq!(claims.app.unwrap().app_id, *APP_ID.as_bytes());
    let certificate = RatlsCertificate::parse(running.node.certificate()).unwrap();
    assert_eq!(claims.pubkey_hash, certificate.spki_sha256);
    assert_eq!(certificate.hosts, ["myapp.fr", "config.myapp.fr"]);
}

#[test]
fn bad_nonces_and_methods_are_refused() {
    let stage = Stage::plain();
    let running = stage.start();
    for query in ["".to_owned(), "?nonce=".into(), format!("?nonce={}", "0".repeat(31)), "?nonce=xyz".into()]
    {
        let answer = running.get(&format!("{PATH}{query}"));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-nonce"), "{query}");
    }
    let nonce = "00".repeat(16);
    let answer = running.client().ask("POST", &format!("{PATH}?nonce={nonce}"), b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
}

#[test]
fn quotes_queue_briefly_and_hold_up_nothing_else() {
    let stage = Stage::plain();
    let running = stage.start();
    stage.platform.hold(true);
    let query = format!("nonce={}", "00".repeat(16));
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..PLACES).map(|_| scope.spawn(|| running.get(&format!("{PATH}?{query}")).status)).collect();
        eventually("the queue is full", || {
            // A place that is free would make this one wait as well, so it is asked only once they are taken.
            running.node.waiting_quotes() == PLACES
        });
        let refused = running.get(&format!("{PATH}?{query}"));
        assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many-quotes"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(running.get("/").status, 200);
        assert_eq!(running.post(&serde_json::json!({ "uuid": APP_ID })).status, 200);
        stage.platform.hold(false);
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), 200);
        }
    });
}
