//! TLS to a PCCS that is known by its certificate and by nothing else.
//!
//! Intel's installer gives a PCCS a self-signed X.509 certificate of version 1 with a common name only. No verifier of
//! certificate chains takes one, so the pinned certificate is compared byte by byte, and the handshake's signature
//! is checked with its key. Names and dates do not count: whoever pins a certificate has looked at it.

use std::sync::Arc;

use der::asn1::AnyRef;
use der::{Decode, Encode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
};
use sha2::{Digest, Sha256};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    TcpConnector, Transport, TransportAdapter,
};

use crate::certificate::{MAX_PEM_LEN, chain_from_pem};
use crate::error::Error;

/// The certificate of one server, of any X.509 version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedCertificate {
    der: Vec<u8>,
    /// The content of the key's AlgorithmIdentifier.
    algorithm: Vec<u8>,
    key: Vec<u8>,
}

impl PinnedCertificate {
    /// Reads PEM (of several certificates the first, the server's own) or DER.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_PEM_LEN`]; [`Error::Malformed`] for anything that is no certificate.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "the server's certificate";
        let wrong = |found: String| Error::malformed(WHAT, "an X.509 certificate in PEM or DER", found);
        Error::check_size(WHAT, bytes, MAX_PEM_LEN)?;
        let text = bytes.trim_ascii();
        let der = match text.starts_with(b"-----BEGIN") {
            true => chain_from_pem(text)?.into_iter().next().unwrap_or_default(),
            false => bytes.to_vec(),
        };
        let parsed = x509_cert::Certificate::from_der(&der)
            .map_err(|error| wrong(format!("something else ({error})")))?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        let algorithm = key.algorithm.to_der().map_err(|error| wrong(error.to_string()))?;
        let algorithm = AnyRef::from_der(&algorithm).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            algorithm: algorithm.value().to_vec(),
            key: key.subject_public_key.raw_bytes().to_vec(),
            der,
        })
    }
}

/// An agent that speaks TLS with the holder of this certificate's key only.
pub(super) fn agent(
    config: ureq::config::Config,
    pin: &PinnedCertificate,
) -> Result<ureq::Agent, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier { pin: pin.clone(), provider: Arc::clone(&provider) };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(PinnedConnector(Arc::new(tls)));
    Ok(ureq::Agent::with_parts(config, connector, DefaultResolver::default()))
}

/// Compares the certificate, then lets its key prove itself.
#[derive(Debug)]
struct Verifier {
    pin: PinnedCertificate,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = self.provider.signature_verification_algorithms.mapping.iter();
        let mut algorithms =
            schemes.filter(|(scheme, _)| *scheme == signed.scheme).flat_map(|(_, algorithms)| *algorithms);
        let right = algorithms.any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == self.pin.algorithm
                && algorithm.verify_signature(&self.pin.key, message, signed.signature()).is_ok()
        });
        match right {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.pin.der {
            return Ok(ServerCertVerified::assertion());
        }
        let digest = |der: &[u8]| hex::encode(Sha256::digest(der));
        Err(CertificateError::Other(rustls::OtherError(Arc::new(AnotherCertificate {
            expected: digest(&self.pin.der),
            found: digest(end_entity),
        })))
        .into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check(message, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // RFC 8446, 4.2.3: PKCS #1 v1.5 signs certificates only.
        match signed.scheme {
            SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512 => Err(CertificateError::BadSignature.into()),
            _ => self.check(message, signed),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("another certificate: expected the one with SHA-256 {expected}, found {found}")]
struct AnotherCertificate {
    expected: String,
    found: String,
}

/// Puts TLS over the TCP connection of an `https` address.
#[derive(Debug)]
struct PinnedConnector(Arc<ClientConfig>);

impl<In: Transport> Connector<In> for PinnedConnector {
    type Out = Either<In, PinnedTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host).map_err(|_| ureq::Error::HostNotFound)?.to_owned();
        let mut connection =
            ClientConnection::new(Arc::clone(&self.0), name).map_err(std::io::Error::other)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(PinnedTransport { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

struct PinnedTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for PinnedTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinnedTransport")
    }
}

impl Transport for PinnedTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(std::io::Write::write_all(&mut self.stream, output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = std::io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
