//! A client of HTTP/1.1 and HTTP/2 over TLS that accepts any certificate and remembers it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::stage::{APP_ID, SOON};

pub type Body = BoxBody<Bytes, std::convert::Infallible>;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Runs what the tests do over the network.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(async { tokio::time::timeout(2 * SOON, work).await.expect("not in time") })
}

pub fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    RUNTIME.spawn(work)
}

/// Connects, offering this protocol.
pub async fn connect(address: SocketAddr, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("myapp.fr").unwrap(), stream).await
}

/// The certificate that is served there.
pub async fn served_certificate(address: SocketAddr) -> Vec<u8> {
    let stream = connect(address, "http/1.1").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "myapp.fr")
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// Sends one request on a connection of its own.
pub async fn send(address: SocketAddr, request: Request<Body>) -> Result<Response<Incoming>, String> {
    let stream = connect(address, "http/1.1").await.map_err(|e| format!("connect: {e}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("handshake: {e}"))?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|e| format!("request: {e:?}"))
}

/// The same over HTTP/2.
pub async fn send_http2(address: SocketAddr, mut request: Request<Body>) -> Response<Incoming> {
    let stream = connect(address, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("https://myapp.fr{}", request.uri()).parse().unwrap();
    sender.send_request(request).await.unwrap()
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    Answer::of(send(address, request("GET", path).body(full("")).unwrap()).await.unwrap()).await
}

pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Answer {
    Answer::of(send(address, request("POST", path).body(full(body)).unwrap()).await.unwrap()).await
}

/// Configures the node, which must accept it; `extra` are the fields beside the id.
pub async fn configure(address: SocketAddr, extra: serde_json::Value) {
    let mut body = serde_json::json!({ "uuid": APP_ID });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let answer = post(address, "/", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Configures the node and waits until the application is healthy.
pub async fn run_application(address: SocketAddr, extra: serde_json::Value) {
    configure(address, extra).await;
    healthy(address).await;
}

/// Waits until the application answers its health check.
pub async fn healthy(address: SocketAddr) {
    let start = Instant::now();
    loop {
        let answer = send(address, request("GET", "/health").body(full("")).unwrap()).await;
        if answer.as_ref().is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        assert!(start.elapsed() < SOON, "the application is not healthy: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
