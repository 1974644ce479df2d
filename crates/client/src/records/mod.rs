//! Records of verification: what one verification found, kept so that later commands can rest on it.
//!
//! A [`Record`] is made of a `Verified<Evidence>`, which only verification can make, or read by a [`Store`],
//! which reads only what it wrote itself. There is no third way, so that a function which takes a record
//! takes something verified. The one exception says so in its origin: [`Record::unverified`], for an owner who asked
//! to go without.
//!
//! Not trusted: the directory. A file that is put there, changed, renamed or brought from another store is
//! refused, for it is signed with a key that only this user can read. Whoever can read that key can forge
//! records; that is this user, and their system.

mod store;
#[cfg(test)]
mod tests;

pub use store::Store;

use attestation::evidence::Evidence;
use attestation::judgement::{Platform, Verified};
use attestation::quote::Quote;
use attestation::ratls::{Claims, RatlsCertificate, TlsMode};
use jiff::Timestamp;

use crate::channel::{KeyHash, key_hash};
use crate::collate::says_simulated;
use crate::error::Error;
use crate::live::Live;

/// Which command verified, and so what the record may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `verify`: somebody computed the fingerprint from a package of their own, or was given it by its owner.
    Verify,
    /// `spawn`: the operator checked its own node against the package it was given.
    SpawnedHere,
    /// `cloud deploy`: the owner checked the app against its own package, between the two stages.
    Deployed,
    /// `cloud deploy --no-verify`: nobody checked anything.
    Unverified,
}

impl Origin {
    /// The name in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Verify => "verify",
            Origin::SpawnedHere => "spawned here",
            Origin::Deployed => "deployed",
            Origin::Unverified => "unverified",
        }
    }
}

/// An enclave that was verified: who it is, and how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    origin: Origin,
    node: Option<String>,
    certificate: Vec<u8>,
    certificate_until: Timestamp,
    spki_sha256: KeyHash,
    fingerprint: [u8; 32],
    app_id: [u8; 16],
    sealing_key: Vec<u8>,
    tls_mode: TlsMode,
    served_spki: Option<KeyHash>,
    simulated: bool,
    tcb_status: String,
    policy: String,
    judged_at: Timestamp,
    valid_until: Option<Timestamp>,
}

impl Record {
    /// What was verified, kept. Evidence without the claims of a node is refused: it is genuine, and of no use
    /// here.
    pub fn of(verified: &Verified<Evidence>, origin: Origin) -> Result<Record, Error> {
        let app = verified.app().ok_or(Error::NotANode { missing: "claims of a node" })?;
        let judgement = verified.judgement();
        let certificate = verified.evidence().certificate.clone();
        let parsed = RatlsCertificate::parse(&certificate)
            .map_err(|_| Error::NotANode { missing: "RA-TLS certificate" })?;
        Ok(Record {
            origin,
            node: None,
            certificate_until: parsed.not_after,
            certificate,
            spki_sha256: verified.spki_sha256(),
            fingerprint: verified.mrenclave(),
            app_id: app.app_id,
            sealing_key: app.sealing_key.clone(),
            tls_mode: app.tls_mode,
            served_spki: app.served_spki,
            simulated: verified.platform() == Platform::Simulated,
            tcb_status: verified.tcb_status().as_str().to_owned(),
            policy: judgement.policy().to_owned(),
            judged_at: judgement.judged_at(),
            valid_until: judgement.valid_until(),
        })
    }

    /// What a node says of itself, believed without any check: whoever answered may be anybody. For an owner who was
    /// told what that means.
    pub fn unverified(live: &Live) -> Result<Record, Error> {
        let malformed = |missing| Error::NotANode { missing };
        let certificate =
            RatlsCertificate::parse(live.certificate()).map_err(|_| malformed("RA-TLS certificate"))?;
        let claims = Claims::decode(live.claims()).map_err(|_| malformed("claims of a node"))?;
        let app = claims.app.ok_or(malformed("claims of a node"))?;
        let quote = Quote::parse(live.quote()).map_err(|_| malformed("quote"))?;
        Ok(Record {
            origin: Origin::Unverified,
            node: None,
            certificate_until: certificate.not_after,
            spki_sha256: certificate.spki_sha256,
            certificate: certificate.der,
            fingerprint: quote.report.mr_enclave,
            app_id: app.app_id,
            sealing_key: app.sealing_key,
            tls_mode: app.tls_mode,
            served_spki: app.served_spki,
            simulated: says_simulated(live.quote()),
            tcb_status: "not judged".to_owned(),
            policy: "none".to_owned(),
            judged_at: Timestamp::now(),
            valid_until: None,
        })
    }

    /// The same, as the record of the node of this name on this machine, or of this app on a backend.
    pub fn named(mut self, node: &str) -> Record {
        self.node = Some(node.to_owned());
        self
    }

    /// The same, for a node that was just configured with a certificate of its owner's (PEM, leaf first): from
    /// now on it may show that key too. Only a node whose measured TLS mode says so is given such a key.
    pub fn serving(mut self, owner_certificate_pem: &str) -> Result<Record, Error> {
        if self.tls_mode != TlsMode::OwnerCertificate {
            return Err(Error::Configuration(
                "the application serves its own RA-TLS certificate, not one of its owner's".to_owned(),
            ));
        }
        use rustls_pki_types::pem::PemObject as _;
        let leaf = rustls_pki_types::CertificateDer::from_pem_slice(owner_certificate_pem.as_bytes())
            .map_err(|error| Error::Configuration(format!("the owner's certificate is not PEM: {error}")))?;
        let key = key_hash(&leaf).map_err(|error| {
            Error::Configuration(format!("the owner's certificate is malformed: {error}"))
        })?;
        self.served_spki = Some(key);
        Ok(self)
    }

    /// Which command verified.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The node's name on this machine, if it is one of this machine's; the app's id, if it was deployed.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The RA-TLS certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the RA-TLS certificate: the key that the enclave proved to hold.
    pub fn spki_sha256(&self) -> KeyHash {
        self.spki_sha256
    }

    /// The key of the owner's certificate, where the application serves that one: then the channel is not
    /// attested, and whoever uses it must say so.
    pub fn served_spki(&self) -> Option<KeyHash> {
        self.served_spki.filter(|served| *served != self.spki_sha256)
    }

    /// The fingerprint: the MRENCLAVE that was both expected and found.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The application id.
    pub fn app_id(&self) -> [u8; 16] {
        self.app_id
    }

    /// The public key to seal for (X-Wing, 1216 bytes).
    pub fn sealing_key(&self) -> &[u8] {
        &self.sealing_key
    }

    /// Whose certificate the application serves.
    pub fn tls_mode(&self) -> TlsMode {
        self.tls_mode
    }

    /// Whether the enclave is simulated: then it proves nothing, and every command that rests on this record
    /// must say SIMULATED.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// The worst TCB status of platform and QE, by Intel's name. One that was tolerated must be shown.
    pub fn tcb_status(&self) -> &str {
        &self.tcb_status
    }

    /// Name of the policy that accepted.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// When it was judged.
    pub fn judged_at(&self) -> Timestamp {
        self.judged_at
    }

    /// Until when this record may be relied on. The certificate's end always counts; the end of what Intel signed
    /// counts wherever something is entrusted to the enclave, and so not for the operator's own node, which gets
    /// nothing that the operator does not have.
    pub fn valid_until(&self) -> Timestamp {
        match (self.origin, self.valid_until) {
            (Origin::Verify | Origin::Deployed, Some(until)) => until.min(self.certificate_until),
            _ => self.certificate_until,
        }
    }

    /// Refuses a record that no longer holds.
    pub fn check_current(&self, now: Timestamp) -> Result<(), Error> {
        let until = self.valid_until();
        if now <= until { Ok(()) } else { Err(Error::Expired { until, now }) }
    }

    /// The keys that a peer may hold.
    pub(crate) fn keys(&self) -> Vec<KeyHash> {
        [self.spki_sha256].into_iter().chain(self.served_spki()).collect()
    }
}

#[cfg(test)]
impl Record {
    /// A record that no verification made, for the tests of this crate alone.
    pub(crate) fn sample(origin: Origin, certificate: &[u8], app_id: [u8; 16]) -> Record {
        let key = key_hash(&certificate.into());
        let end = jiff::Timestamp::MAX;
        Record {
            origin,
            node: None,
            certificate_until: RatlsCertificate::parse(certificate).map_or(end, |parsed| parsed.not_after),
            certificate: certificate.to_owned(),
            spki_sha256: key.unwrap_or_default(),
            fingerprint: [7; 32],
            app_id,
            sealing_key: vec![9; 1216],
            tls_mode: TlsMode::RaTls,
            served_spki: None,
            simulated: true,
            tcb_status: "UpToDate".to_owned(),
            policy: "strict".to_owned(),
            judged_at: Timestamp::UNIX_EPOCH,
            valid_until: None,
        }
    }

    pub(crate) fn with_tls_mode(mut self, mode: TlsMode) -> Record {
        self.tls_mode = mode;
        self
    }

    pub(crate) fn with_valid_until(mut self, until: Timestamp) -> Record {
        self.valid_until = Some(until);
        self
    }
}
