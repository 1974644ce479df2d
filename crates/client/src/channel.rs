//! TLS to a verified enclave: the peer must hold the very key that verification found, and nothing else
//! about it matters.
//!
//! The certificate of a node signs itself, so there is no chain to follow, and its names and dates were
//! judged when the record was made. Here the SHA-256 of its SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7)
//! is compared, and the handshake signature proves that the peer holds the private key (TLS 1.3: RFC 8446,
//! section 4.4.3; TLS 1.2: RFC 5246, section 7.4.3). Sessions are never resumed: every connection proves it
//! anew.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::records::Record;
use crate::target::Target;

/// How long a connection, its handshake included, may take.
const CONNECTING: Duration = Duration::from_secs(10);

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// SHA-256 of a SubjectPublicKeyInfo.
pub type KeyHash = [u8; 32];

/// A way to one node, and the keys that its peer may hold.
#[derive(Clone, Debug)]
pub struct Channel {
    target: Target,
    accepted: Accepted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Accepted {
    /// Exactly these keys.
    Keys(Vec<KeyHash>),
    /// Whoever answers: only to ask for evidence, which is then tied to the key that was seen.
    Anyone,
}

/// The peer of an established connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of its SubjectPublicKeyInfo; it proved to hold the private key.
    pub spki_sha256: KeyHash,
    /// Its certificate (DER), of which nothing but the key was looked at.
    pub certificate: Vec<u8>,
}

impl Channel {
    /// A channel to the enclave of this record: any other peer is refused.
    pub fn attested(record: &Record, target: &Target) -> Channel {
        Channel { target: target.clone(), accepted: Accepted::Keys(record.keys()) }
    }

    /// A channel to the enclave's own key alone, for what nobody else may learn: a certificate of the owner's, which
    /// the application may serve, exists elsewhere too and is refused.
    pub(crate) fn to_enclave(record: &Record, target: &Target) -> Channel {
        Channel { target: target.clone(), accepted: Accepted::Keys(vec![record.spki_sha256()]) }
    }

    /// A channel to whoever answers, for [`crate::live`] alone.
    pub(crate) fn to_anyone(target: &Target) -> Channel {
        Channel { target: target.clone(), accepted: Accepted::Anyone }
    }

    /// Whether both accept the same keys.
    pub(crate) fn accepts_the_same_as(&self, other: &Channel) -> bool {
        self.accepted == other.accepted
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A stream to the node, over TCP and TLS, that offers it these protocols (ALPN, RFC 7301), most wanted first. What is
    /// spoken in it is the caller's affair. Unlike everything else here, for asynchronous callers.
    pub async fn open(&self, protocols: &[&[u8]]) -> Result<TlsStream<TcpStream>, Error> {
        Ok(self.connect_offering(protocols).await?.0)
    }

    /// Connects over TCP, then TLS; offers `http/1.1` only.
    pub(crate) async fn connect(&self) -> Result<(TlsStream<TcpStream>, Peer), Error> {
        self.connect_offering(&[b"http/1.1"]).await
    }

    async fn connect_offering(&self, protocols: &[&[u8]]) -> Result<(TlsStream<TcpStream>, Peer), Error> {
        let limit = CONNECTING;
        tokio::time::timeout(limit, self.connect_unhurried(protocols)).await.unwrap_or_else(|_| {
            Err(Error::TooSlow { target: self.target.to_string(), what: "complete a connection", limit })
        })
    }

    async fn connect_unhurried(&self, protocols: &[&[u8]]) -> Result<(TlsStream<TcpStream>, Peer), Error> {
        let tcp = self.connect_tcp().await?;
        let verifier = Arc::new(KeyVerifier { accepted: self.accepted.clone(), seen: OnceLock::new() });
        let handshake = |reason: String| Error::Handshake { target: self.target.to_string(), reason };
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| handshake(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = self.target.server_name().map_err(|()| handshake("the name cannot be sent".to_owned()))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let seen = verifier.seen.get();
        match (connected, seen) {
            (Ok(stream), Some(peer)) => Ok((stream, peer.clone())),
            (Ok(_), None) => Err(handshake("it showed no certificate".to_owned())),
            (Err(_), Some(peer)) if !self.accepted.contains(&peer.spki_sha256) => Err(Error::WrongKey {
                target: self.target.to_string(),
                expected: self.accepted.to_hex(),
                found: hex::encode(peer.spki_sha256),
            }),
            // TLS itself objects, or the connection broke off before it could.
            (Err(error), _) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Err(handshake(error.to_string()))
            }
            (Err(error), _) => {
                Err(Error::Conversation { target: self.target.to_string(), reason: error.to_string() })
            }
        }
    }

    async fn connect_tcp(&self) -> Result<TcpStream, Error> {
        let target = self.target.clone();
        let addresses = tokio::task::spawn_blocking(move || target.addresses())
            .await
            .map_err(|error| Error::System { what: "a resolver", reason: error.to_string() })??;
        let mut failure = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Only latency is at stake: a socket that refuses the option still works.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(source) => {
                    failure.get_or_insert(Error::Unreachable { address: address.to_string(), source });
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Unresolved {
            host: self.target.host(),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        }))
    }
}

impl Accepted {
    fn contains(&self, key: &KeyHash) -> bool {
        match self {
            Accepted::Keys(keys) => keys.contains(key),
            Accepted::Anyone => true,
        }
    }

    fn to_hex(&self) -> String {
        match self {
            Accepted::Keys(keys) => keys.iter().map(hex::encode).collect::<Vec<_>>().join(" or "),
            Accepted::Anyone => "any".to_owned(),
        }
    }
}

/// Looks at the key of the leaf certificate only, and remembers it.
#[derive(Debug)]
struct KeyVerifier {
    accepted: Accepted,
    seen: OnceLock<Peer>,
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let spki_sha256 = key_hash(end_entity)?;
        let peer = Peer { spki_sha256, certificate: end_entity.to_vec() };
        if self.seen.get_or_init(|| peer.clone()) != &peer {
            return Err(rustls::Error::General("the peer showed two certificates".to_owned()));
        }
        if self.accepted.contains(&spki_sha256) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of the SubjectPublicKeyInfo in a certificate (DER).
pub(crate) fn key_hash(certificate: &CertificateDer<'_>) -> Result<KeyHash, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info().as_ref()).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::version::{TLS12, TLS13};

    use super::*;
    use crate::exchange::block_on;
    use crate::testing::{Identity, Server, nowhere, ok, target_at};

    async fn hello(_: http::Request<hyper::body::Incoming>) -> http::Response<crate::testing::ServerBody> {
        ok("hello")
    }

    fn connect(record: &Record, target: &Target) -> Result<Peer, Error> {
        block_on(async { Ok(Channel::attested(record, target).connect().await?.1) })
    }

    #[test]
    fn the_key_of_the_record_is_accepted_whatever_names_and_dates_the_peer_shows() {
        // Its name is another, and its certificate ended long ago.
        let identity = Identity::valid_until("2001-01-01T00:00:00Z");
        for version in [&TLS12, &TLS13] {
            let server = Server::speaking(&[version], &identity, hello);
            let peer = connect(&identity.record(), &server.target()).unwrap();
            assert_eq!(peer.spki_sha256, identity.spki_sha256());
            assert_eq!(peer.certificate, identity.certificate);
        }
    }

    #[test]
    fn another_key_is_refused_and_both_are_named() {
        let (identity, other) = (Identity::generate(), Identity::generate());
        let server = Server::start(&other, hello);
        let error = connect(&identity.record(), &server.target()).unwrap_err();
        let Error::WrongKey { expected, found, .. } = error else { panic!("{error}") };
        assert_eq!(expected, hex::encode(identity.spki_sha256()));
        assert_eq!(found, hex::encode(other.spki_sha256()));
        assert_eq!(server.connections(), 0, "the handshake must not succeed on the other side either");
    }

    #[test]
    fn a_copied_certificate_is_of_no_use_without_its_key() {
        let (identity, thief) = (Identity::generate(), Identity::generate());
        for version in [&TLS12, &TLS13] {
            let server = Server::speaking(&[version], &identity.stolen_by(&thief), hello);
            let error = connect(&identity.record(), &server.target()).unwrap_err();
            assert!(matches!(error, Error::Handshake { .. }), "{error}");
        }
    }

    #[test]
    fn a_certificate_of_the_owners_is_accepted_once_the_record_names_it() {
        let (identity, owner) = (Identity::generate(), Identity::generate());
        let server = Server::start(&owner, hello);
        let pem = attestation::ratls::RatlsCertificate::parse(&owner.certificate).unwrap().to_pem();
        let record = identity.record();
        assert!(record.clone().serving(&pem).is_err(), "the measured TLS mode does not allow it");
        let record = record.with_tls_mode(attestation::ratls::TlsMode::OwnerCertificate);
        assert!(connect(&record, &server.target()).is_err());
        let record = record.serving(&pem).unwrap();
        assert_eq!(record.served_spki(), Some(owner.spki_sha256()));
        connect(&record, &server.target()).unwrap();
    }

    /// Says something, reads nothing more, and hangs up.
    fn talker(words: &'static [u8]) -> Target {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target_at(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 100];
            std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
            std::io::Write::write_all(&mut stream, words).unwrap();
        });
        target
    }

    #[test]
    fn a_connection_that_breaks_off_is_told_from_a_peer_that_speaks_something_else() {
        let record = Identity::generate().record();
        let error = connect(&record, &talker(b"")).unwrap_err();
        assert!(matches!(error, Error::Conversation { .. }) && error.is_passing(), "{error}");
        let error = connect(&record, &talker(b"HTTP/1.1 400 Bad Request\r\n\r\n")).unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }) && !error.is_passing(), "{error}");
    }

    #[test]
    fn nobody_there_is_told_from_somebody_else_there() {
        let error = connect(&Identity::generate().record(), &nowhere()).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.is_passing() && !error.is_refusal());
    }
}
