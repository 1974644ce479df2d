//! Sealing for an enclave that was verified: only it can open the result.
//!
//! Format: `secrets::seal`; the recipient is bound by fingerprint and application id.

use attestation::quote::Quote;
use attestation::ratls::{Binding, Claims, RatlsCertificate};
use jiff::Timestamp;
use secrets::seal::{Payload, Recipient, SealingPublicKey};

use crate::error::Error;
use crate::records::{Origin, Record};

/// Seals for the enclave of this record, which must be one that the owner of secrets made, by `verify` or by a
/// deployment, and that holds now: a node which the operator spawned and checked itself says nothing to that owner.
pub fn seal(record: &Record, payload: &Payload, now: Timestamp) -> Result<Vec<u8>, Error> {
    if !matches!(record.origin(), Origin::Verify | Origin::Deployed) {
        return Err(Error::Origin { wanted_for: "sealing", found: record.origin().as_str() });
    }
    record.check_current(now)?;
    seal_for(record.fingerprint(), record.app_id(), record.sealing_key(), payload)
}

/// Seals for whoever made this RA-TLS certificate, **verified by nobody**: the fingerprint, the id and the key are
/// taken from it as they are. Whoever made the certificate up reads the secrets.
pub fn seal_unverified(certificate: &RatlsCertificate, payload: &Payload) -> Result<Vec<u8>, Error> {
    let Binding::Interoperable { claims } = &certificate.binding else {
        return Err(Error::NotANode { missing: "claims" });
    };
    let claims = Claims::decode(claims).map_err(|_| Error::NotANode { missing: "readable claims" })?;
    let app = claims.app.ok_or(Error::NotANode { missing: "claims of a node" })?;
    let quote =
        Quote::parse(&certificate.quote).map_err(|_| Error::NotANode { missing: "readable quote" })?;
    seal_for(quote.report.mr_enclave, app.app_id, &app.sealing_key, payload)
}

fn seal_for(
    fingerprint: [u8; 32],
    app_id: [u8; 16],
    sealing_key: &[u8],
    payload: &Payload,
) -> Result<Vec<u8>, Error> {
    let wrong = |error: secrets::Error| Error::Sealing(error.to_string());
    let key = SealingPublicKey::from_bytes(sealing_key).map_err(wrong)?;
    secrets::seal::seal(&Recipient { fingerprint, app_id, key }, payload).map_err(wrong)
}
