//! RA-TLS: a certificate whose key is bound to a quote.
//!
//! Two forms are read, one is written:
//!
//! * *interoperable* (written and read): a non-critical extension 2.23.133.5.4.9 (TCG DICE tagged evidence, as profiled by
//!   the Confidential Computing Consortium's "Interoperable RA-TLS"), holding CBOR tag 60000 `[quote: bstr, claims: bstr]`.
//!   The quote's report data is SHA-256 of the claims bytes as carried, then 32 zero bytes; the claims hold the hash of the
//!   certificate's key ([`Claims`]).
//! * *legacy* (read only): extension 1.2.840.113741.1337.6 holding the raw quote, whose report data starts with the hash of
//!   the key itself. Gramine before 1.8 wrote its OID as 0.6.9.42.840.113741.1337.6 (tag and length of the DER are part of
//!   the content), which is read as the same.
//!
//! Nothing here is trusted and nothing here judges: parsing tells what a certificate says, [`crate::verify`] whether that
//! is true. A parsed certificate's signature has not been checked unless
//! [`RatlsCertificate::self_signature_is_valid`] was asked.

mod cbor;
mod certificate;
mod claims;
mod issue;
mod live;

pub use certificate::{Binding, RatlsCertificate};
pub use claims::{AppClaims, Claims, TlsMode, report_data};
pub(crate) use issue::since_1970;
pub use issue::{CertificateRequest, issue};
pub use live::{LiveEvidence, MAX_LIVE_EVIDENCE_BYTES};

use sha2::{Digest, Sha256};

/// Extension of the interoperable form: TCG DICE tagged evidence.
pub const TAGGED_EVIDENCE_OID: &str = "2.23.133.5.4.9";
/// Extension of the legacy form: a raw SGX quote.
pub const LEGACY_QUOTE_OID: &str = "1.2.840.113741.1337.6";
/// The same as Gramine wrote it before version 1.8: the DER of [`LEGACY_QUOTE_OID`] taken for the content of an OID.
pub const MISSPELT_LEGACY_QUOTE_OID: &str = "0.6.9.42.840.113741.1337.6";
/// What an [`Error::Malformed`](crate::Error::Malformed) names where a file is no certificate at all.
pub const FILE: &str = "RA-TLS certificate file";
/// What an [`Error::Malformed`](crate::Error::Malformed) names where the certificate is in order and the evidence in it is
/// not, or is not there.
pub const EVIDENCE: &str = "RA-TLS evidence";
/// What an [`Error::Malformed`](crate::Error::Malformed) names where the claims are not in order.
pub const CLAIMS: &str = "RA-TLS claims";
/// CBOR tag of `[quote, claims]` for SGX and TDX quotes in the interoperable form.
pub const TAGGED_EVIDENCE_TAG: u64 = 60000;
/// The longest certificate that is read, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 131_072;
/// The longest claims that are read, in bytes.
pub const MAX_CLAIMS_BYTES: usize = 16_384;
/// The longest quote that is read out of a certificate, in bytes.
pub const MAX_QUOTE_BYTES: usize = 32_768;
/// Shortest and longest nonce, in bytes.
pub const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// SHA-256 of a DER SubjectPublicKeyInfo (RFC 5280, 4.1): the name of a key everywhere in this project.
pub fn spki_sha256(spki_der: &[u8]) -> [u8; 32] {
    Sha256::digest(spki_der).into()
}

#[cfg(test)]
mod tests;
