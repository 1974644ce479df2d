//! Servers for the tests of this crate: real TLS, real HTTP, keys that can be changed or be the wrong ones.

#![allow(clippy::unwrap_used)]

pub(crate) mod enclave;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, RwLock};

use attestation::ratls::{self, CertificateRequest, Claims};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::records::{Origin, Record};
use crate::target::Target;

pub(crate) const APP_ID: [u8; 16] = [0x5a; 16];

/// A key and an RA-TLS certificate for it, whose quote is no quote: nothing here looks at it.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn generate() -> Identity {
        Identity::valid_until("2100-01-01T00:00:00Z")
    }

    pub(crate) fn valid_until(not_after: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let claims = Claims { pubkey_hash: [0; 32], nonce: None, app: None }.encode();
        let certificate = ratls::issue(&CertificateRequest {
            subject: "CN=another.name",
            hosts: &["another.name".to_owned()],
            not_before: "2000-01-01T00:00:00Z".parse().unwrap(),
            not_after: not_after.parse().unwrap(),
            key: &key,
            quote: b"no quote",
            claims: &claims,
        });
        Identity::of(certificate.unwrap(), &key)
    }

    pub(crate) fn of(certificate: Vec<u8>, key: &KeyPair) -> Identity {
        Identity { certificate, key: key.serialize_der() }
    }

    /// This certificate with another's private key: an impostor who copied the certificate.
    pub(crate) fn stolen_by(&self, thief: &Identity) -> Identity {
        Identity { certificate: self.certificate.clone(), key: thief.key.clone() }
    }

    pub(crate) fn record(&self) -> Record {
        Record::sample(Origin::Verify, &self.certificate, APP_ID)
    }

    pub(crate) fn spki_sha256(&self) -> [u8; 32] {
        self.record().spki_sha256()
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![CertificateDer::from(self.certificate.clone())], key))
    }
}

pub(crate) type ServerBody = BoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Response<ServerBody>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

pub(crate) fn body(text: impl Into<Bytes>) -> ServerBody {
    Full::new(text.into()).boxed()
}

pub(crate) fn ok(text: impl Into<Bytes>) -> Response<ServerBody> {
    Response::new(body(text))
}

/// A server that is there until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shown: Arc<Shown>,
    connections: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::AbortHandle>,
}

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap().clone())
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

impl Server {
    pub(crate) fn start<F, A>(identity: &Identity, handler: F) -> Server
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        Server::speaking(rustls::ALL_VERSIONS, identity, handler)
    }

    pub(crate) fn speaking<F, A>(
        versions: &[&'static SupportedProtocolVersion],
        identity: &Identity,
        handler: F,
    ) -> Server
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let shown = Arc::new(Shown(RwLock::new(identity.certified())));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = RUNTIME.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, handler, count) = (acceptor.clone(), handler.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Server { address, shown, connections, tasks: vec![accepting.abort_handle()] }
    }

    /// From now on new connections are shown another identity.
    pub(crate) fn change(&self, identity: &Identity) {
        *self.shown.0.write().unwrap() = identity.certified();
    }

    /// A name that no resolver knows, at the server's address.
    pub(crate) fn target(&self) -> Target {
        target_at(self.address)
    }

    /// Connections whose handshake succeeded.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

pub(crate) fn target_at(address: SocketAddr) -> Target {
    Target::new("myapp.fr", address.port()).unwrap().resolve_to(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// An address where nothing listens.
pub(crate) fn nowhere() -> Target {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    target_at(listener.local_addr().unwrap())
}
