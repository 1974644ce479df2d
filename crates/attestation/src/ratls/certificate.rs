//! Reading an RA-TLS certificate of either form.
//!
//! Format: RFC 5280, with the extensions of [`super`]. Nothing of it is trusted: the certificate comes from the operator or
//! from the network. Parsing refuses what could mean two things (duplicate or unknown critical extensions, bytes after the
//! end); whether the quote is genuine and binds this certificate's key is judged elsewhere.

use super::cbor::Reader;
use super::{
    EVIDENCE, FILE, LEGACY_QUOTE_OID, MAX_CERTIFICATE_BYTES, MAX_CLAIMS_BYTES, MAX_QUOTE_BYTES,
    MISSPELT_LEGACY_QUOTE_OID, TAGGED_EVIDENCE_OID, TAGGED_EVIDENCE_TAG, spki_sha256,
};
use crate::Error;
use crate::certificate::{Signed, check_number_of_extensions, single_from_pem, timestamp};
use crate::recognise::{Kind, kind_of, without_bom};
use der::{Decode, Reader as _, SliceReader};
use jiff::Timestamp;
use ring::signature;
use std::collections::BTreeSet;
use std::net::IpAddr;
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const WHAT: &str = "RA-TLS certificate";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
/// Key usage, basic constraints, extended key usage: what an honest certificate may mark critical, with the names.
const KNOWN_CRITICAL: [&str; 4] = [SUBJECT_ALT_NAME, "2.5.29.15", "2.5.29.19", "2.5.29.37"];

/// How the quote is bound to the certificate's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Report data = SHA-256 of these claims, which hold the key's hash.
    Interoperable {
        /// The claims, exactly as carried; see [`super::Claims::decode`].
        claims: Vec<u8>,
    },
    /// Report data starts with the hash of the key (of its uncompressed point, or of its SubjectPublicKeyInfo).
    Legacy,
}

/// An RA-TLS certificate, parsed and not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatlsCertificate {
    /// The whole certificate, DER.
    pub der: Vec<u8>,
    /// Its SubjectPublicKeyInfo, DER, as carried.
    pub spki_der: Vec<u8>,
    /// SHA-256 of [`Self::spki_der`].
    pub spki_sha256: [u8; 32],
    /// The public key as an uncompressed point: `04 | x | y` (65 bytes on P-256, 97 on P-384).
    pub ec_point: Vec<u8>,
    /// The raw quote.
    pub quote: Vec<u8>,
    /// What ties the quote to the key.
    pub binding: Binding,
    /// DNS names and IP addresses of the subject alternative name.
    pub hosts: Vec<String>,
    /// The subject, in the notation of RFC 4514.
    pub subject: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    tbs_der: Vec<u8>,
    signature: Vec<u8>,
    signature_algorithm: String,
    issuer_is_subject: bool,
}

impl RatlsCertificate {
    /// Reads a certificate in DER, at most [`MAX_CERTIFICATE_BYTES`], nothing after it.
    ///
    /// Where both extensions are present (Gramine writes both, with a quote each), the interoperable one is taken.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Malformed`] for anything but an X.509 v3 certificate with a quote in it.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        Error::check_size(WHAT, der, MAX_CERTIFICATE_BYTES)?;
        let Signed { body, algorithm, signature } = Signed::read(der, WHAT)?;
        let tbs_der = &der[body];
        let tbs = TbsCertificate::from_der(tbs_der)
            .map_err(|error| malformed("X.509 in DER", error.to_string()))?;
        if tbs.version() != Version::V3 {
            return Err(malformed("X.509 version 3", format!("{:?}", tbs.version())));
        }
        if *tbs.signature() != algorithm {
            return Err(malformed("one signature algorithm", "two different ones"));
        }

        check_number_of_extensions(WHAT, &tbs)?;
        let mut seen = BTreeSet::new();
        let (mut evidence, mut legacy, mut hosts, mut foreign) = (None, None, Vec::new(), None);
        for extension in tbs.extensions().into_iter().flatten() {
            let oid = extension.extn_id.to_string();
            let value = extension.extn_value.as_bytes();
            match oid.as_str() {
                TAGGED_EVIDENCE_OID => evidence = Some(value),
                LEGACY_QUOTE_OID | MISSPELT_LEGACY_QUOTE_OID => {
                    if legacy.is_some_and(|other| other != value) {
                        return Err(self::evidence("one quote in the older extension", "two different ones"));
                    }
                    legacy = Some(value);
                }
                SUBJECT_ALT_NAME => hosts = parse_hosts(value)?,
                other if extension.critical && !KNOWN_CRITICAL.contains(&other) => {
                    return Err(malformed("no unknown critical extension", other));
                }
                other => foreign = foreign.or(maker_of(other)),
            }
            if !seen.insert(oid) {
                return Err(malformed("each extension once", format!("{} twice", extension.extn_id)));
            }
        }
        let (quote, binding) = match (evidence, legacy) {
            (Some(evidence), _) => {
                let (quote, claims) = parse_tagged_evidence(evidence)?;
                (quote, Binding::Interoperable { claims })
            }
            (None, Some(quote)) => (quote.to_vec(), Binding::Legacy),
            (None, None) => {
                let expected = format!("a quote in extension {TAGGED_EVIDENCE_OID} or {LEGACY_QUOTE_OID}");
                return Err(self::evidence(expected, foreign.unwrap_or("none")));
            }
        };
        Error::check_size("quote in the RA-TLS certificate", &quote, MAX_QUOTE_BYTES)?;

        let spki_der = raw_spki(tbs_der).map_err(|error| malformed("X.509 in DER", error.to_string()))?;
        Ok(RatlsCertificate {
            spki_sha256: spki_sha256(&spki_der),
            ec_point: parse_ec_point(tbs.subject_public_key_info())?,
            quote,
            binding,
            hosts,
            subject: tbs.subject().to_string(),
            not_before: timestamp(tbs.validity().not_before),
            not_after: timestamp(tbs.validity().not_after),
            signature,
            signature_algorithm: algorithm.oid.to_string(),
            issuer_is_subject: tbs.issuer() == tbs.subject(),
            der: der.to_vec(),
            tbs_der: tbs_der.to_vec(),
            spki_der,
        })
    }

    /// Reads a certificate in PEM (RFC 7468): one `CERTIFICATE` block.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::parse(&single_from_pem(pem)?)
    }

    /// Reads a certificate file, PEM or DER, with or without a byte order mark.
    ///
    /// # Errors
    /// As [`Self::parse`]; a file of another kind is called by its name, as [`FILE`].
    pub fn from_file(file: &[u8]) -> Result<Self, Error> {
        match kind_of(file) {
            Kind::CertificatePem => Self::from_pem(without_bom(file)),
            Kind::CertificateDer | Kind::Binary => Self::parse(file),
            other => Err(Error::malformed(FILE, "a certificate in PEM or DER", other.to_string())),
        }
    }

    /// The certificate in PEM (RFC 7468).
    pub fn to_pem(&self) -> String {
        pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, &self.der).unwrap_or_default()
    }

    /// Whether issuer and subject are equal and the certificate's own key made its signature.
    pub fn self_signature_is_valid(&self) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm =
            match (self.ec_point.len(), self.signature_algorithm.as_str()) {
                (65, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
                (65, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
                (97, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
                (97, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
                _ => return false,
            };
        let key = signature::UnparsedPublicKey::new(algorithm, &self.ec_point);
        self.issuer_is_subject && key.verify(&self.tbs_der, &self.signature).is_ok()
    }
}

/// Whose an extension is that carries evidence in a form which is not read here, or that marks another certificate.
fn maker_of(oid: &str) -> Option<&'static str> {
    match oid {
        "1.2.840.113741.1.13.1" => Some(
            "extension 1.2.840.113741.1.13.1, of Intel: this is a PCK certificate, or one of Intel's attested TLS library",
        ),
        oid if oid.starts_with("1.3.6.1.4.1.311.105.") => {
            Some("an extension below 1.3.6.1.4.1.311.105, as Open Enclave, EGo and MarbleRun write it")
        }
        oid if oid.starts_with("1.2.840.113741.1337.") => {
            Some("another extension below 1.2.840.113741.1337, as RA-TLS with EPID quotes had them")
        }
        _ => None,
    }
}

/// An error about the evidence inside a certificate that is in order itself.
fn evidence(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::malformed(EVIDENCE, expected, found)
}

/// CBOR tag 60000 `[quote: bstr, claims: bstr]`.
fn parse_tagged_evidence(value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut reader = Reader::new(value);
    let tag = reader.tag("the evidence extension")?;
    if tag != TAGGED_EVIDENCE_TAG {
        return Err(evidence(format!("CBOR tag {TAGGED_EVIDENCE_TAG}"), format!("tag {tag}")));
    }
    let elements = reader.array("the tagged evidence")?;
    if elements != 2 {
        return Err(evidence("[quote, claims]", format!("{elements} elements")));
    }
    let quote = reader.bytes("the quote")?.to_vec();
    let claims = reader.bytes("the claims")?.to_vec();
    reader.finish("the tagged evidence")?;
    Error::check_size(super::CLAIMS, &claims, MAX_CLAIMS_BYTES)?;
    Ok((quote, claims))
}

/// The SubjectPublicKeyInfo inside the signed part, as the bytes that were carried.
fn raw_spki(tbs_der: &[u8]) -> der::Result<Vec<u8>> {
    SliceReader::new(tbs_der)?.sequence(|fields| {
        // version, serialNumber, signature, issuer, validity, subject
        for _ in 0..6 {
            fields.tlv_bytes()?;
        }
        let spki = fields.tlv_bytes()?.to_vec();
        while !fields.is_finished() {
            fields.tlv_bytes()?;
        }
        Ok(spki)
    })
}

fn parse_ec_point(spki: &x509_cert::spki::SubjectPublicKeyInfoOwned) -> Result<Vec<u8>, Error> {
    let curve = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.decode_as::<der::asn1::ObjectIdentifier>().ok())
        .map(|oid| oid.to_string());
    let length = match (spki.algorithm.oid.to_string().as_str(), curve.as_deref()) {
        (EC_PUBLIC_KEY, Some(P256)) => 65,
        (EC_PUBLIC_KEY, Some(P384)) => 97,
        (oid, _) => return Err(malformed("a key on P-256 or P-384", format!("algorithm {oid}"))),
    };
    let point = spki.subject_public_key.as_bytes().unwrap_or_default();
    match point.len() == length && point[0] == 4 {
        true => Ok(point.to_vec()),
        false => Err(malformed("an uncompressed point of the curve", "another key")),
    }
}

fn parse_hosts(value: &[u8]) -> Result<Vec<String>, Error> {
    let names = SubjectAltName::from_der(value)
        .map_err(|error| malformed("a subject alternative name", error.to_string()))?;
    let mut hosts = Vec::new();
    for name in &names.0 {
        match name {
            GeneralName::DnsName(name) => hosts.push(name.to_string()),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let address = <[u8; 4]>::try_from(octets)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                    .map_err(|_| {
                        malformed("an IP address of 4 or 16 bytes", format!("{} bytes", octets.len()))
                    })?;
                hosts.push(address.to_string());
            }
            _ => {}
        }
    }
    Ok(hosts)
}

fn malformed(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::malformed(WHAT, expected, found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{
        CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    };

    #[test]
    fn keys_of_both_curves_sign_for_themselves() {
        for (algorithm, length) in [(&PKCS_ECDSA_P256_SHA256, 65), (&PKCS_ECDSA_P384_SHA384, 97)] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let mut params = CertificateParams::new(vec!["myapp.fr".to_owned()]).unwrap();
            let oid = [1, 2, 840, 113_741, 1337, 6];
            params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![1])];
            let der = params.self_signed(&key).unwrap().der().to_vec();
            let mut certificate = RatlsCertificate::parse(&der).unwrap();
            assert_eq!(certificate.ec_point.len(), length);
            assert!(certificate.self_signature_is_valid());

            // Under the name of the other digest the same signature is none.
            let other = if length == 65 { ECDSA_SHA384 } else { ECDSA_SHA256 };
            certificate.signature_algorithm = other.to_owned();
            assert!(!certificate.self_signature_is_valid());

            // Another form of the point, of the same length.
            let point = certificate.ec_point.clone();
            let at = der.windows(point.len()).position(|bytes| bytes == point).unwrap();
            let mut hybrid = der.clone();
            hybrid[at] = 6;
            assert!(RatlsCertificate::parse(&hybrid).is_err());
        }
    }

    /// Signatures that OpenSSL made over "signed part", of each curve with the digest that is not named after it.
    #[test]
    fn either_digest_goes_with_either_curve() {
        let vectors = [
            (
                ECDSA_SHA384,
                "0420adb75bf02760e762a332a83ee780ff5805b8952680a192388d873dc3c514994e12c446513643913eef2de3ba0080023083d41119c335c8490d9bd996bdb691",
                "3044022012f33a6ff10113cb3e38c4fc33a4a91abdb9d7c9d38fb9bd29d18777729521b802204a38a2c2eb59026cf0911c9adf6dad40a041f9ed9d88cde13fa9d32a0ac95450",
            ),
            (
                ECDSA_SHA256,
                "04a38b7e8c5b311b485f2ea61556bdd587aa97cf8d066a96b8186e596138508ca9843086a64f7e2879d16f8d5c72c66c8049fc1bf57a3c22a6e386575d2247206f50936857be5a5de46c17c5be796a3b1d524c5cc4c6ad214c53a0dbc53f908f1e",
                "3066023100857e7f6f5c0ae138d2b938552b921cde800b0bad579f3f813d8934ba493673aecc37361ccec39191a09ecbae91196a39023100f5aaa081281e09abbcd4be6b288dbb18322f554ae05812b233a16a382c9f8cebaa399356c28c3fffccbece26a72a3ea4",
            ),
        ];
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["myapp.fr".to_owned()]).unwrap();
        let oid = [1, 2, 840, 113_741, 1337, 6];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![1])];
        let parsed = RatlsCertificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
        for (algorithm, point, signature) in vectors {
            let mut certificate = RatlsCertificate {
                ec_point: hex::decode(point).unwrap(),
                tbs_der: b"signed part".to_vec(),
                signature: hex::decode(signature).unwrap(),
                signature_algorithm: algorithm.to_owned(),
                ..parsed.clone()
            };
            assert!(certificate.self_signature_is_valid());
            certificate.tbs_der[0] ^= 1;
            assert!(!certificate.self_signature_is_valid());
        }
    }
}
