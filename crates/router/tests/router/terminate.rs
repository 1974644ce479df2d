//! TLS that ends at the router, and goes on over another connection to the node.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use router::{Connected, Connecting, Protocol, Refusal, Route, Settings, Termination, Upstream};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, KeyLog};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::*;

/// The operator's certificate, for the one name there is.
#[derive(Debug)]
struct Certificates(Arc<CertifiedKey>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some(NAME)).then(|| self.0.clone())
    }
}

/// For which application, and with which protocols, a channel was asked for.
type Asked = Arc<Mutex<Vec<(String, Vec<Protocol>)>>>;

/// A stand-in for attested channels: TLS to one certificate.
struct Channels {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    asked: Asked,
}

impl Upstream for Channels {
    fn connect<'a>(&'a self, app: &'a str, protocols: &'a [Protocol]) -> Connecting<'a> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((app.to_owned(), protocols.to_vec()));
            let mut config = ClientConfig::clone(&believing(&self.certificate, &[]));
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.name().to_vec()).collect();
            let stream = connect(self.address, Arc::new(config)).await?;
            let protocol = stream.get_ref().1.alpn_protocol().and_then(Protocol::from_name);
            Ok(Connected { stream: Box::new(stream), protocol })
        })
    }
}

struct Terminating {
    running: Running,
    operator: Identity,
    asked: Asked,
    keys: Arc<Keys>,
}

#[derive(Debug, Default)]
struct Keys(AtomicUsize);

impl KeyLog for Keys {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn in_front_of(node: &Node) -> Terminating {
    leading_to(node.address, &node.identity).await
}

/// Expects `identity` at `address`.
async fn leading_to(address: SocketAddr, identity: &Identity) -> Terminating {
    let (operator, asked, keys) = (Identity::new(), Arc::default(), Arc::<Keys>::default());
    let channels = Channels { address, certificate: identity.certificate.clone(), asked: Arc::clone(&asked) };
    let certificates = Arc::new(Certificates(operator.certified()));
    let termination =
        Termination::with_key_log(certificates, Arc::new(channels), Some(keys.clone())).unwrap();
    let running = start(Settings::default(), Route::Terminate(termination)).await;
    Terminating { running, operator, asked, keys }
}

async fn get_http1(at: &Terminating, config: Arc<ClientConfig>) -> (Option<Vec<u8>>, Bytes) {
    let stream = connect(at.running.address, config).await.unwrap();
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", NAME).body(Empty::<Bytes>::new()).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    (protocol, response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn the_user_speaks_what_the_node_speaks() {
    let modern = Node::http(&["h2", "http/1.1"]).await;
    let at = in_front_of(&modern).await;
    // Only the operator's certificate is believed: TLS ends at the router.
    let config = believing(&at.operator.certificate, &["h2", "http/1.1"]);
    let stream = connect(at.running.address, config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("https://{NAME}/two")).body(Empty::<Bytes>::new()).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "HTTP/2.0 /two");
    assert_eq!(*at.asked.lock().unwrap(), [("app".into(), vec![Protocol::Http2, Protocol::Http1])]);
    assert!(at.keys.0.load(Ordering::Relaxed) > 0);

    let silent = get_http1(&at, believing(&at.operator.certificate, &[])).await;
    assert_eq!(silent, (None, "HTTP/1.1 /".into()));

    let old = Node::http(&["http/1.1"]).await;
    let at = in_front_of(&old).await;
    let found = get_http1(&at, believing(&at.operator.certificate, &["h2", "http/1.1"])).await;
    assert_eq!(found, (Some(b"http/1.1".to_vec()), "HTTP/1.1 /".into()));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let node = Node::http(&["http/1.1"]).await;
    let at = in_front_of(&node).await;
    let config = believing(&at.operator.certificate, &["http/1.1"]);
    // An answer is read, and with it the ticket before it.
    get_http1(&at, config.clone()).await;
    let stream = connect(at.running.address, config).await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn either_way_ends_for_itself_inside_tls() {
    let node = Node::twice().await;
    let at = in_front_of(&node).await;
    let mut stream = connect(at.running.address, believing(&at.operator.certificate, &[])).await.unwrap();
    let question = vec![5; 1 << 20];
    soon("the question is sent", stream.write_all(&question)).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    // With an end that TLS vouches for, or reading would fail.
    soon("the answer", stream.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == question.repeat(2));
    let metrics = at.running.table.metrics().remove(0).2;
    assert_eq!((metrics.bytes_up.get(), metrics.bytes_down.get()), (1 << 20, 2 << 20));
}

#[tokio::test]
async fn an_end_that_tls_does_not_vouch_for_is_not_passed_on_as_one() {
    let node = Node::twice().await;
    let at = in_front_of(&node).await;
    let mut stream = connect(at.running.address, believing(&at.operator.certificate, &[])).await.unwrap();
    stream.write_all(b"half a quest").await.unwrap();
    let metrics = at.running.table.metrics().remove(0).2;
    until("it is under way", || metrics.bytes_up.get() == 12).await;
    let (mut tcp, _) = stream.into_inner();
    tcp.shutdown().await.unwrap();
    until("the end is seen", || at.running.router.metrics().broken.get() == 1).await;
    assert_eq!(metrics.bytes_down.get(), 0, "the node did not take it for a question");
}

#[tokio::test]
async fn nothing_goes_to_a_node_that_is_not_the_one() {
    let node = Node::http(&["http/1.1"]).await;
    let at = leading_to(node.address, &Identity::new()).await;
    let config = believing(&at.operator.certificate, &["http/1.1"]);
    let error = connect(at.running.address, config).await.unwrap_err();
    assert_eq!(alert(error), rustls::AlertDescription::InternalError);
    assert_eq!(at.running.router.metrics().refused(Refusal::Unreachable), 1);
    assert_eq!(at.running.table.metrics()[0].2.unreachable.get(), 1);
}

#[tokio::test]
async fn users_without_a_protocol_or_trust_in_common_are_refused() {
    let node = Node::http(&["http/1.1"]).await;
    let at = in_front_of(&node).await;
    for protocols in [&["h2"][..], &["h3"]] {
        let config = believing(&at.operator.certificate, protocols);
        let error = connect(at.running.address, config).await.unwrap_err();
        // The node refuses the one, the router the other.
        let expected = match protocols {
            ["h3"] => rustls::AlertDescription::NoApplicationProtocol,
            _ => rustls::AlertDescription::InternalError,
        };
        assert_eq!(alert(error), expected);
    }
    assert_eq!(at.running.router.metrics().refused(Refusal::NoProtocol), 1);
    let error = connect(at.running.address, believing(&Identity::new().certificate, &[])).await.unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    until("it is counted", || at.running.router.metrics().refused(Refusal::Handshake) == 1).await;
    until("every place is given back", || at.running.router.metrics().open.get() == 0).await;
}

fn alert(error: io::Error) -> rustls::AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(description)) => *description,
        other => panic!("expected an alert, found {other:?}"),
    }
}
