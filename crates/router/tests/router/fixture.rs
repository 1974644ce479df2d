//! Nodes, users, and a router between them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use router::{Drained, Entry, Name, Route, Router, Settings, Table};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that the tests' application has.
pub const NAME: &str = "app.apps.localhost";
/// No test waits longer for anything.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Fails the test in the place of waiting for ever.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Waits for a condition that nothing announces.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate that signs itself, and its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn new() -> Identity {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Identity { certificate: made.cert.der().clone(), key }
    }

    pub fn certified(&self) -> Arc<CertifiedKey> {
        let key = provider().key_provider.load_private_key(self.key.clone_key()).unwrap();
        Arc::new(CertifiedKey::new(vec![self.certificate.clone()], key))
    }

    fn server(&self, protocols: &[&str]) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = list(protocols);
        TlsAcceptor::from(Arc::new(config))
    }
}

pub fn list(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

/// A TLS client that believes this certificate and no other.
pub fn believing(certificate: &CertificateDer<'static>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = list(protocols);
    Arc::new(config)
}

pub async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let connecting = TlsConnector::from(config).connect(ServerName::try_from(NAME).unwrap(), tcp);
    soon("a TLS handshake", connecting).await
}

/// A stand-in for a node: HTTP under its own certificate.
pub struct Node {
    pub address: SocketAddr,
    pub identity: Identity,
    serving: JoinHandle<()>,
}

impl Node {
    /// Speaks HTTP in the protocols it offers; see [`answer`].
    pub async fn http(protocols: &[&str]) -> Node {
        Node::serving(protocols, |stream| async move {
            let service = service_fn(answer);
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// Reads all that is sent, then answers with it twice over.
    pub async fn twice() -> Node {
        Node::serving(&[], |mut stream| async move {
            let mut heard = Vec::new();
            if stream.read_to_end(&mut heard).await.is_ok() {
                let _ = stream.write_all(&heard.repeat(2)).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    async fn serving<F: Future<Output = ()> + Send + 'static>(
        protocols: &[&str],
        serve: impl Fn(tokio_rustls::server::TlsStream<TcpStream>) -> F + Copy + Send + Sync + 'static,
    ) -> Node {
        let identity = Identity::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, acceptor) = (listener.local_addr().unwrap(), identity.server(protocols));
        let serving = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        serve(stream).await;
                    }
                });
            }
        });
        Node { address, identity, serving }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `GET /echo` with `Upgrade`: every byte back; `POST`: length and SHA-256 of the body; all else: a greeting.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/echo" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut reader, mut writer) = split(TokioIo::new(upgrade.await.unwrap()));
            let _ = copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        return Ok(response.body(Full::default()).unwrap());
    }
    if request.method() == "POST" {
        let (mut length, mut hash, mut body) = (0, Sha256::new(), request.into_body());
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                length += data.len();
                hash.update(data);
            }
        }
        return Ok(Response::new(Full::from(summary(length, hash))));
    }
    Ok(Response::new(Full::from(format!("{:?} {}", request.version(), request.uri().path()))))
}

pub fn summary(length: usize, hash: Sha256) -> String {
    format!("{length} {:x?}", &hash.finalize()[..])
}

/// A stand-in for a node that takes one connection and hands it to the test, bytes as they come.
pub async fn plain_node() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// A router that runs.
pub struct Running {
    pub address: SocketAddr,
    pub table: Arc<Table>,
    pub router: Router,
    pub stop: oneshot::Sender<()>,
    pub drained: JoinHandle<Drained>,
}

pub async fn start(settings: Settings, route: Route) -> Running {
    let table = Arc::new(Table::new());
    table.insert(entry(NAME, "app", route)).unwrap();
    let router = Router::new(settings, table.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let drained = tokio::spawn({
        let router = router.clone();
        async move {
            let stopped = async move { _ = stopped.await };
            router.serve(listener, stopped).await
        }
    });
    Running { address, table, router, stop, drained }
}

pub fn entry(name: &str, app: &str, route: Route) -> Entry {
    Entry { name: name.parse::<Name>().unwrap(), app: app.to_owned(), route }
}

pub async fn passing_to(address: SocketAddr) -> Running {
    start(Settings::default(), Route::PassThrough { address }).await
}

/// The first bytes of a TLS connection to `name`.
pub fn hello(name: &str) -> Vec<u8> {
    let config = believing(&Identity::new().certificate, &[]);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Connects and sends `bytes`.
pub async fn say(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that comes until the other end is done.
pub async fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    soon("the end of a connection", stream.read_to_end(&mut heard)).await.unwrap();
    heard
}
