//! Trust anchors: the roots that a chain may end in. Intel's, an explicit one of the caller's and a simulator's are three
//! different types.
//!
//! A root is never taken from a quote, from evidence or from a PCCS: whatever root those carry must equal, byte for
//! byte, one that the caller (or this file) brought.
//!
//! Intel has issued three certificates for its root key. Two are pinned: today's, and the one valid until 2033 that quotes of
//! machines provisioned before still carry. The third allows no CA below it (path length 0), so that no chain can end in it.
//! Pinning the key instead would accept whatever else that key ever signs about itself, with any window and any rights.

use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::certificate::{self, Certificate};
use crate::error::Error;
use crate::recognise::{Kind, kind_of, without_bom};

/// SHA-256 of the DER of "Intel SGX Root CA", valid from 2018-05-21 to 2049-12-31.
pub const INTEL_ROOT_SHA256: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e,
    0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];

/// SHA-256 of the DER of Intel's earlier certificate for the same key and name, valid from 2018-05-21 to 2033-05-21, with
/// path length 1 as today's.
pub const INTEL_ROOT_2033_SHA256: [u8; 32] = [
    0xfc, 0x64, 0xf8, 0x07, 0x6d, 0x79, 0xa4, 0xfe, 0xe9, 0xd1, 0xd4, 0x73, 0xd7, 0x4c, 0x89, 0xeb, 0x8d,
    0x8f, 0xd5, 0x5c, 0x5a, 0xba, 0xfe, 0xab, 0xeb, 0xa7, 0x36, 0x6d, 0x20, 0x42, 0x94, 0x04,
];

/// SHA-256 of Intel's root key, the uncompressed point: names a certificate of that key which is not pinned.
const INTEL_ROOT_KEY_SHA256: [u8; 32] = [
    0xa5, 0x12, 0xdd, 0xae, 0x5b, 0x8a, 0x05, 0xfd, 0x07, 0x38, 0xd7, 0x08, 0xf2, 0x9d, 0xdc, 0xca, 0xca,
    0x53, 0xaa, 0xd8, 0xb3, 0x69, 0x8e, 0x77, 0x19, 0x4c, 0xb0, 0x5c, 0xc0, 0x72, 0x3e, 0x89,
];

/// Whether this is the SHA-256 of a pinned certificate of Intel's root. All of them have one key, name and serial number.
pub fn is_intel_root(sha256: &[u8; 32]) -> bool {
    [INTEL_ROOT_SHA256, INTEL_ROOT_2033_SHA256].contains(sha256)
}

/// Whether `root` is of Intel's root key; says nothing of whether it is pinned.
pub(crate) fn has_intels_key(root: &Certificate) -> bool {
    root.key().is_some_and(|point| sha256(&point) == INTEL_ROOT_KEY_SHA256)
}

/// Which sort of trust anchor a chain ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnchorKind {
    /// Intel's root, compiled in.
    Intel,
    /// A root that the caller named (`--root-ca`).
    Explicit,
    /// The root of a simulator installation (`--allow-simulated`, `--simulated-root`).
    Simulated,
}

impl std::fmt::Display for AnchorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Intel => "Intel's root",
            Self::Explicit => "an explicit root",
            Self::Simulated => "a simulator's root",
        })
    }
}

/// A root that the caller trusts by name, beside Intel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplicitRoot([u8; 32]);

impl ExplicitRoot {
    /// Reads one certificate in PEM or DER.
    ///
    /// # Errors
    /// [`Error::Root`] where that is not one certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        root_sha256(pem).map(Self)
    }
}

/// The root of one simulator installation. What chains to it is simulated and proves nothing about hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedRoot([u8; 32]);

impl SimulatedRoot {
    /// Reads one certificate in PEM or DER.
    ///
    /// # Errors
    /// [`Error::Root`] where that is not one certificate, or is Intel's.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let sha256 = root_sha256(pem)?;
        if is_intel_root(&sha256) {
            return Err(Error::Root { expected: "the root of a simulator".into(), found: "Intel's".into() });
        }
        Ok(Self(sha256))
    }
}

/// The anchors of one judgement.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    explicit: Vec<ExplicitRoot>,
    simulated: Vec<SimulatedRoot>,
}

impl TrustAnchors {
    /// Intel's pinned root, in either of its certificates, and nothing else.
    pub fn intel() -> Self {
        Self { explicit: Vec::new(), simulated: Vec::new() }
    }

    /// Adds a root of the caller's.
    pub fn with_explicit(mut self, root: ExplicitRoot) -> Self {
        self.explicit.push(root);
        self
    }

    /// Adds a simulator's root.
    pub fn with_simulated(mut self, root: SimulatedRoot) -> Self {
        self.simulated.push(root);
        self
    }

    /// Which anchor a root certificate with this SHA-256 is. A root that is both a simulator's and explicit is a
    /// simulator's.
    pub fn find(&self, sha256: &[u8; 32]) -> Option<AnchorKind> {
        if is_intel_root(sha256) {
            Some(AnchorKind::Intel)
        } else if self.simulated.iter().any(|root| root.0 == *sha256) {
            Some(AnchorKind::Simulated)
        } else if self.explicit.iter().any(|root| root.0 == *sha256) {
            Some(AnchorKind::Explicit)
        } else {
            None
        }
    }
}

/// SHA-256 of the DER of the one certificate in `file`.
fn root_sha256(file: &[u8]) -> Result<[u8; 32], Error> {
    let wrong = |found: String| Error::Root { expected: "one root certificate in PEM or DER".into(), found };
    let der = match kind_of(file) {
        Kind::CertificatePem => {
            certificate::single_from_pem(without_bom(file)).map_err(|error| wrong(error.to_string()))?
        }
        Kind::CertificateDer => file.to_vec(),
        other => return Err(wrong(other.to_string())),
    };
    Certificate::parse(&der).map_err(|e| wrong(e.to_string()))?;
    Ok(sha256(&der))
}

/// SHA-256: FIPS 180-4.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn intels_earlier_certificate_is_pinned_and_of_the_same_key() {
        let pem = include_bytes!("../tests/judging/intel-sgx-root-2033.pem");
        let der = certificate::single_from_pem(pem).unwrap();
        let earlier = Certificate::parse(&der).unwrap();
        assert_eq!(sha256(&der), INTEL_ROOT_2033_SHA256);
        assert!(has_intels_key(&earlier));
        assert_eq!(TrustAnchors::intel().find(&sha256(&der)), Some(AnchorKind::Intel));
        assert!(SimulatedRoot::from_pem(pem).unwrap_err().to_string().contains("Intel's"));
    }
}
