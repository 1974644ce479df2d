//! A simulated enclave with everything that a node shows: real quotes, claims, certificate, live evidence.

use std::sync::{Arc, LazyLock};

use attestation::evidence::{Arguments, Evidence};
use attestation::judgement::{Refused, Verified};
use attestation::policy::Policy;
use attestation::ratls::{
    self, AppClaims, CertificateRequest, Claims, LiveEvidence, RatlsCertificate, TlsMode,
};
use attestation::trust::{SimulatedRoot, TrustAnchors};
use attestation::{Expected, admit};
use gramine::sigstruct::{Date, SigStruct, SignerKey};
use jiff::Timestamp;
use platform::Platform;
use platform::simulated::{Enclave, Installation};
use rcgen::KeyPair;
use secrets::seal::SealingKey;
use tempfile::TempDir;

use super::{APP_ID, Identity, Server, body, ok};
use crate::live::Live;

const VECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4");

/// One machine and one measurement for all tests: both take time to make.
struct Machine {
    installation: Installation,
    enclave: Enclave,
    directory: TempDir,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let installation =
        Installation::open_or_create(&directory.path().join("simulator"), Timestamp::now()).unwrap();
    let read = |name: &str| std::fs::read(format!("{VECTOR}/{name}")).unwrap();
    let manifest = String::from_utf8(read("app.manifest.sgx")).unwrap();
    // The vector asks for no quotes.
    let manifest = manifest.replace("remote_attestation = \"none\"", "remote_attestation = \"dcap\"");
    let libpal = read("libpal.so");
    let signer = SignerKey::from_pem(&String::from_utf8(read("key.pem")).unwrap()).unwrap();
    let date = Date { year: 2026, month: 1, day: 1 };
    let signed = SigStruct::sign(manifest.as_bytes(), &libpal, &signer, date).unwrap();
    let enclave =
        Enclave::load(&installation, manifest.as_bytes(), &libpal, &signed.to_bytes(), directory.path());
    Machine { installation, enclave: enclave.unwrap(), directory }
});

/// A node's identity in that enclave.
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) sealing_key: SealingKey,
    pub(crate) app: AppClaims,
}

impl Node {
    pub(crate) fn new() -> Node {
        Node::in_mode(TlsMode::RaTls, None)
    }

    pub(crate) fn in_mode(mode: TlsMode, served_spki: Option<[u8; 32]>) -> Node {
        let key = KeyPair::generate().unwrap();
        let sealing_key = SealingKey::generate().unwrap();
        let mut app = AppClaims::new(APP_ID, sealing_key.public().as_bytes().to_vec(), mode);
        app.served_spki = served_spki;
        let pubkey_hash = ratls::spki_sha256(&rcgen::PublicKeyData::subject_public_key_info(&key));
        let claims = Claims { pubkey_hash, nonce: None, app: Some(app.clone()) }.encode();
        let quote = MACHINE.enclave.quote(&ratls::report_data(&claims)).unwrap();
        let certificate = ratls::issue(&CertificateRequest {
            subject: "CN=myapp.fr",
            hosts: &["myapp.fr".to_owned()],
            not_before: Timestamp::now() - jiff::SignedDuration::from_hours(1),
            not_after: Timestamp::now() + jiff::SignedDuration::from_hours(24),
            key: &key,
            quote: &quote,
            claims: &claims,
        });
        Node { identity: Identity::of(certificate.unwrap(), &key), sealing_key, app }
    }

    pub(crate) fn fingerprint() -> [u8; 32] {
        MACHINE.enclave.mrenclave()
    }

    /// The directory of the simulator which made it.
    pub(crate) fn simulator() -> std::path::PathBuf {
        MACHINE.directory.path().join("simulator")
    }

    pub(crate) fn evidence(&self, nonce: &[u8]) -> LiveEvidence {
        let certificate = RatlsCertificate::parse(&self.identity.certificate).unwrap();
        let nonce = Some(nonce.to_vec());
        let claims =
            Claims { pubkey_hash: certificate.spki_sha256, nonce, app: Some(self.app.clone()) }.encode();
        let quote = MACHINE.enclave.quote(&ratls::report_data(&claims)).unwrap();
        LiveEvidence::new(certificate.der, quote, claims)
    }

    /// Gives live evidence, under its own TLS key or another.
    pub(crate) fn serve(self: &Arc<Node>, shown: &Identity) -> Server {
        let node = self.clone();
        Server::start(shown, move |request| {
            let nonce = request.uri().query().and_then(|query| query.strip_prefix("nonce="));
            let nonce = hex::decode(nonce.unwrap_or_default()).unwrap();
            let answer = match request.uri().path() {
                "/.well-known/mse/evidence" => ok(node.evidence(&nonce).to_json()),
                _ => http::Response::builder().status(404).body(body("")).unwrap(),
            };
            async move { answer }
        })
    }
}

pub(crate) fn arguments() -> Arguments {
    Arguments {
        host: "myapp.fr".to_owned(),
        port: 7777,
        size_mb: 1024,
        days: 1,
        subject: "CN=myapp.fr".to_owned(),
        app_id: uuid::Uuid::from_bytes(APP_ID).to_string(),
        platform: "simulated".to_owned(),
        runtime: "process".to_owned(),
    }
}

/// What `verify` does, with collateral straight from the machine.
pub(crate) fn verify(live: &Live) -> Result<Verified<Evidence>, Box<Refused>> {
    let collateral = MACHINE.installation.collateral_for(live.quote(), Timestamp::now()).unwrap();
    let root = SimulatedRoot::from_pem(MACHINE.installation.root_pem().as_bytes()).unwrap();
    let expected = Expected {
        mrenclave: vec![Node::fingerprint()],
        nonce: Some(live.nonce().to_vec()),
        ..Expected::default()
    };
    let anchors = TrustAnchors::intel().with_simulated(root);
    admit(live.with(collateral, arguments()), &anchors, &Policy::strict(), &expected, Timestamp::now())
}
