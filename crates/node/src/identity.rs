//! Who this instance is: a TLS key and a sealing key made inside the enclave, and the certificate that carries the
//! quote which binds both to its measurement. Made at the first start, kept in the sealed state.

use attestation::ratls::{self, AppClaims, CertificateRequest, Claims};
use package::config::{NodeConfig, TlsMode};
use package::instance::Instance;
use platform::Platform;
use rcgen::PublicKeyData;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use secrets::seal::SealingKey;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Error, Result};

pub(crate) struct Identity {
    pub(crate) app_id: Uuid,
    /// P-256, PKCS #8 (RFC 5208).
    pub(crate) tls_key: Zeroizing<Vec<u8>>,
    /// The RA-TLS certificate, DER.
    pub(crate) certificate: Vec<u8>,
    pub(crate) sealing_key: SealingKey,
    /// SHA-256 of the TLS key's SubjectPublicKeyInfo.
    pub(crate) spki: [u8; 32],
}

impl Identity {
    /// Makes fresh keys and has them quoted.
    pub(crate) fn create(
        instance: &Instance,
        config: &NodeConfig,
        platform: &dyn Platform,
    ) -> Result<Identity> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|e| Error::Tls(e.to_string()))?;
        let mut identity = Identity {
            app_id: instance.app_id,
            tls_key: Zeroizing::new(key.serialize_der()),
            certificate: Vec::new(),
            sealing_key: SealingKey::generate()?,
            spki: ratls::spki_sha256(&key.subject_public_key_info()),
        };
        let claims = identity.claims(config.tls_mode, None, None).encode();
        let quote = platform.quote(&ratls::report_data(&claims))?;
        let hosts: Vec<String> = [&instance.host].into_iter().chain(&instance.other_hosts).cloned().collect();
        identity.certificate = ratls::issue(&CertificateRequest {
            subject: &instance.subject,
            hosts: &hosts,
            not_before: instance.not_before,
            not_after: instance.not_after,
            key: &key,
            quote: &quote,
            claims: &claims,
        })?;
        Ok(identity)
    }

    /// Puts together what the sealed state kept.
    pub(crate) fn restore(
        app_id: Uuid,
        tls_key: Zeroizing<Vec<u8>>,
        certificate: Vec<u8>,
        sealing_key: SealingKey,
    ) -> Result<Identity> {
        let pkcs8 = PrivatePkcs8KeyDer::from(tls_key.as_slice());
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|e| Error::Tls(e.to_string()))?;
        let spki = ratls::spki_sha256(&key.subject_public_key_info());
        Ok(Identity { app_id, tls_key, certificate, sealing_key, spki })
    }

    /// What the enclave claims of itself, bound to a quote by hash.
    pub(crate) fn claims(&self, mode: TlsMode, nonce: Option<Vec<u8>>, served: Option<[u8; 32]>) -> Claims {
        let mode = match mode {
            TlsMode::RaTls => ratls::TlsMode::RaTls,
            TlsMode::OwnerCertificate => ratls::TlsMode::OwnerCertificate,
            TlsMode::OperatorCertificate => ratls::TlsMode::OperatorCertificate,
        };
        let mut app =
            AppClaims::new(*self.app_id.as_bytes(), self.sealing_key.public().as_bytes().to_vec(), mode);
        app.served_spki = served;
        Claims { pubkey_hash: self.spki, nonce, app: Some(app) }
    }

    /// TLS for the configuration server: this key and certificate, HTTP/1.1.
    pub(crate) fn tls_config(&self) -> Result<rustls::ServerConfig> {
        let certificate = CertificateDer::from(self.certificate.clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.tls_key.to_vec()));
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map_err(|e| Error::Tls(e.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
