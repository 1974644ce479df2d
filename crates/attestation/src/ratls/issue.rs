//! Making an RA-TLS certificate: self-signed X.509 v3, P-256 with SHA-256, the interoperable evidence extension inside.
//!
//! The node calls this with a key that never leaves the enclave, the claims that hold that key's hash, and the quote whose
//! report data binds those claims. Nothing is checked here that a verifier must check again.

use super::TAGGED_EVIDENCE_TAG;
use crate::Error;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::str::FromStr;
use std::time::Duration;
use x509_cert::name::Name;

/// What goes into an RA-TLS certificate.
pub struct CertificateRequest<'a> {
    /// A name in the notation of RFC 4514 (`CN=myapp.fr,O=Example`), or plain text that becomes the common name.
    pub subject: &'a str,
    /// Subject alternative names: DNS names and IP addresses.
    pub hosts: &'a [String],
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The P-256 key pair that the certificate names and that signs it.
    pub key: &'a KeyPair,
    /// The raw quote.
    pub quote: &'a [u8],
    /// The claims, CBOR, exactly as hashed into the quote's report data.
    pub claims: &'a [u8],
}

/// Makes the certificate, in DER.
///
/// # Errors
/// [`Error::Issue`] for a subject or host that X.509 cannot carry, a window that ends before it starts, or a key of
/// another kind.
pub fn issue(request: &CertificateRequest<'_>) -> Result<Vec<u8>, Error> {
    if !request.key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
        return Err(refused("the key is not an ECDSA key on P-256"));
    }
    if request.not_after <= request.not_before {
        return Err(refused(format!(
            "it would end at {}, before it starts at {}",
            request.not_after, request.not_before
        )));
    }
    let mut params =
        CertificateParams::new(request.hosts).map_err(|error| refused(format!("host names: {error}")))?;
    params.distinguished_name = distinguished_name(request.subject)?;
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(request.not_before)?;
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(request.not_after)?;
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(serial_number()?.into());
    // Non-critical: an ordinary TLS client must be able to use the certificate once it was verified.
    params.custom_extensions.push(CustomExtension::from_oid_content(
        &[2, 23, 133, 5, 4, 9],
        tagged_evidence(request.quote, request.claims),
    ));
    let certificate = params.self_signed(request.key).map_err(|error| refused(error.to_string()))?;
    Ok(certificate.der().to_vec())
}

/// CBOR tag 60000 `[quote, claims]`.
fn tagged_evidence(quote: &[u8], claims: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::with_capacity(quote.len() + claims.len() + 16));
    let written: Result<_, minicbor::encode::Error<std::convert::Infallible>> = encoder
        .tag(minicbor::data::Tag::new(TAGGED_EVIDENCE_TAG))
        .and_then(|e| e.array(2))
        .and_then(|e| e.bytes(quote))
        .and_then(|e| e.bytes(claims));
    debug_assert!(written.is_ok());
    encoder.into_writer()
}

fn distinguished_name(subject: &str) -> Result<DistinguishedName, Error> {
    let mut name = DistinguishedName::new();
    if !subject.contains('=') {
        name.push(DnType::CommonName, subject);
        return Ok(name);
    }
    let parsed = Name::from_str(subject).map_err(|error| {
        refused(format!("subject {subject:?} is not a name like CN=myapp.fr,O=Example: {error}"))
    })?;
    for attribute in parsed.iter() {
        let oid: Vec<u64> = attribute.oid.arcs().map(u64::from).collect();
        let kind = DnType::from_oid(&oid);
        if name.get(&kind).is_some() {
            return Err(refused(format!("subject {subject:?} has the attribute {} twice", attribute.oid)));
        }
        let value = std::str::from_utf8(attribute.value.value())
            .map_err(|_| refused(format!("subject {subject:?} has a value that is not text")))?;
        name.push(kind, value);
    }
    Ok(name)
}

/// A random positive serial number of 16 bytes (RFC 5280, 4.1.2.2).
fn serial_number() -> Result<Vec<u8>, Error> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| refused(format!("no random numbers: {error}")))?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial.to_vec())
}

/// Seconds since 1970, which is how instants reach rcgen: X.509 has no finer ones.
pub(crate) fn since_1970(at: Timestamp) -> Result<Duration, Error> {
    u64::try_from(at.as_second())
        .map(Duration::from_secs)
        .map_err(|_| refused(format!("{at} is before 1970, which X.509 times here cannot say")))
}

fn refused(why: impl Into<String>) -> Error {
    Error::Issue { what: "RA-TLS certificate", reason: why.into() }
}
