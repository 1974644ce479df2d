//! The owner's own certificate, for applications that serve it instead of the enclave's.
//!
//! It arrives as PEM (RFC 7468) in the configuration. It is accepted only if its key matches; who issued it is the
//! owner's affair, and judged by whoever connects.

use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::Refusal;

const LONGEST_CHAIN: usize = 16;

/// A certificate chain with the matching private key.
pub(crate) struct OwnerCertificate {
    chain: String,
    key: Zeroizing<String>,
    spki: [u8; 32],
}

impl OwnerCertificate {
    /// Checks that both parse, belong together, and can be served.
    pub(crate) fn from_pem(chain: &str, key: &str) -> Result<OwnerCertificate, Refusal> {
        let refuse = |why: &str| Refusal::Certificate(why.to_owned());
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .take(LONGEST_CHAIN + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| refuse("`ssl_certificate` is not PEM"))?;
        if certificates.is_empty() || certificates.len() > LONGEST_CHAIN {
            return Err(refuse("expected 1 to 16 certificates in `ssl_certificate`, found fewer or more"));
        }
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| refuse("expected one private key in PEM in `ssl_private_key`, found none"))?;
        let certified =
            CertifiedKey::from_der(certificates, private, &rustls::crypto::ring::default_provider())
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        refuse("the private key belongs to another certificate")
                    }
                    rustls::Error::InvalidCertificate(_) => refuse("the first certificate is malformed"),
                    _ => refuse("the private key is malformed, or of a kind that TLS does not use"),
                })?;
        let spki = certified.key.public_key().ok_or_else(|| refuse("the private key has no public half"))?;
        let spki = attestation::ratls::spki_sha256(&spki);
        Ok(OwnerCertificate { chain: chain.to_owned(), key: Zeroizing::new(key.to_owned()), spki })
    }

    /// The chain, PEM.
    pub(crate) fn chain_pem(&self) -> &str {
        &self.chain
    }

    /// The private key, PEM.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key
    }

    /// SHA-256 of the SubjectPublicKeyInfo that the application will serve.
    pub(crate) fn spki(&self) -> [u8; 32] {
        self.spki
    }
}
