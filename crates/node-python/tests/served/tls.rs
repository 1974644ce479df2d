//! Whose certificate is served, and what is left of its key.

use package::config::TlsMode;
use serde_json::json;

use crate::client::{self, get, run};
use crate::stage::Stage;

const PLAIN: &str = r#"
import os

def app(environ, start_response):
    start_response("200 OK", [])
    private = os.path.dirname(os.environ["SECRETS_PATH"])
    return [repr(os.listdir(private)).encode()]
"#;

#[test]
fn the_owners_certificate_is_served_and_the_evidence_says_so() {
    let mut stage = Stage::new("plain:app", &[("plain.py", PLAIN)]);
    stage.config.tls_mode = TlsMode::OwnerCertificate;
    let key = rcgen::KeyPair::generate().unwrap();
    let owners = rcgen::CertificateParams::new(vec!["owner.fr".into()]).unwrap().self_signed(&key).unwrap();
    let node = stage.start();
    let address = stage.address;
    run(async {
        let attested = client::served_certificate(address).await;
        let pair = json!({ "ssl_certificate": owners.pem(), "ssl_private_key": key.serialize_pem() });
        client::run_application(address, pair).await;
        assert_eq!(client::served_certificate(address).await, owners.der().to_vec());
        let path = format!("/.well-known/mse/evidence?nonce={}", "00".repeat(16));
        let evidence = get(address, &path).await;
        let evidence = attestation::ratls::LiveEvidence::from_json(&evidence.body).unwrap();
        assert_eq!(evidence.certificate, attested);
        let claims = attestation::ratls::Claims::decode(&evidence.claims).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(claims.app.unwrap().served_spki, Some(attestation::ratls::spki_sha256(&spki)));
        assert_eq!(get(address, "/").await.text(), "[]", "certificate and key are gone once they were read");
    });
    assert_eq!(node.stop().code(), Some(0));

    let node = stage.start();
    run(async {
        client::healthy(address).await;
        assert_eq!(client::served_certificate(address).await, owners.der().to_vec());
    });
    assert_eq!(node.stop().code(), Some(0));
}
