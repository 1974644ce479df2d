//! The HTTPS listener: TLS, HTTP/1.1 and HTTP/2, and an end that waits for what is under way.
//!
//! Everybody can reach it: handshakes, headers and idle connections have their time, and there are so many
//! connections and no more, of one caller fewer than of all together.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::api::limits::Places;
use crate::error::{Error, Result};

/// Connections at once.
const CONNECTIONS: usize = 1024;

/// The same of one caller: an IPv4 address, or an IPv6 network of 64 bits.
const CONNECTIONS_OF_ONE: usize = 256;

/// How long a handshake, and a request's head, may take; and how long a connection may idle.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest head of a request, in bytes; of HTTP/1, of a hundred lines (the library's limit).
const HEAD: usize = 32 * 1024;

/// How long what a client still sends is taken after the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long requests that are under way may take when the server ends.
const ENDING: Duration = Duration::from_secs(20);

/// A listener, bound.
pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    patience: Duration,
    of_one: usize,
}

impl Server {
    /// Binds `listen`; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr, tls: rustls::ServerConfig, router: Router) -> Result<Server> {
        let failed = |source| Error::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let tls = TlsAcceptor::from(Arc::new(tls));
        Ok(Server { listener, tls, router, patience: PATIENCE, of_one: CONNECTIONS_OF_ONE })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        let listen = SocketAddr::from(([0, 0, 0, 0], 0));
        self.listener.local_addr().map_err(|source| Error::Listen { listen, source })
    }

    /// Serves until `end`; then takes no more, and waits for what is under way.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let (ending, watching) = watch::channel(());
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let callers = Places::default();
        let mut end = pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                () = &mut end => break,
            };
            let (stream, peer, place) = accepted;
            let Some(call) = callers.enter(router::network(peer.ip()), self.of_one) else {
                tracing::debug!(%peer, "has all the connections that one caller may have");
                continue;
            };
            let (tls, router, mut watching) = (self.tls.clone(), self.router.clone(), watching.clone());
            let patience = self.patience;
            tokio::spawn(async move {
                let _places = (place, call);
                if let Err(error) = connection(stream, peer, tls, router, patience, &mut watching).await {
                    tracing::debug!(%peer, %error, "a connection ended early");
                }
            });
        }
        drop(self.listener);
        drop(watching);
        let _ = ending.send(());
        // Every connection holds a receiver.
        let _ = tokio::time::timeout(ENDING, ending.closed()).await;
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, SocketAddr, Place) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = room.clone().acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                // Too many open files, say: others may close theirs.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// What a connection is busy with: requests, until the last byte of their answers.
struct Activity(Mutex<(usize, Instant)>);

/// A request under way.
struct UnderWay(Arc<Activity>);

impl Activity {
    fn new() -> Arc<Activity> {
        Arc::new(Activity(Mutex::new((0, Instant::now()))))
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (change(state.0), Instant::now());
    }

    fn begin(self: &Arc<Activity>) -> UnderWay {
        self.count(|requests| requests + 1);
        UnderWay(self.clone())
    }

    /// Returns when nothing was under way for so long, from now on.
    async fn idle(&self, patience: Duration) {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            let (requests, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let due = match requests {
                0 => since.max(begun) + patience,
                _ => now + patience,
            };
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.count(|requests| requests.saturating_sub(1));
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    patience: Duration,
    ending: &mut watch::Receiver<()>,
) -> std::result::Result<(), Failure> {
    let _ = stream.set_nodelay(true);
    let stream = tokio::select! {
        stream = tokio::time::timeout(patience, tls.accept(stream)) => stream??,
        _ = ending.changed() => return Ok(()),
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let activity = Activity::new();
    let counted = activity.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, under_way) = (router.clone(), counted.begin());
        Box::pin(async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer: std::result::Result<Response, Infallible> = router.oneshot(request).await;
            answer.map(|answer| answer.map(|body| held(body, under_way)))
        })
    });
    let stream = TokioIo::new(Flowing::new(stream, patience));
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PATIENCE)
            .max_concurrent_streams(100)
            .max_header_list_size(HEAD as u32)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        // Of HTTP/2 the library waits for ever: for its first bytes, and for the next request.
        tokio::select! {
            done = &mut connection => return Ok(done?),
            _ = ending.changed() => {}
            () = activity.idle(patience) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            done = &mut connection => Ok(done?),
            () = activity.idle(patience) => Ok(()),
        }
    } else {
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(HEAD)
            .serve_connection(stream, service);
        tokio::select! {
            done = poll_fn(|cx| connection.poll_without_shutdown(cx)) => done?,
            _ = ending.changed() => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
            }
        }
        let mut stream = connection.into_parts().io.into_inner().into_inner();
        let _ = tokio::time::timeout(LINGER, hang_up(&mut stream)).await;
        Ok(())
    }
}

/// A stream whose other end takes what is written: one that takes nothing for `patience` has its connection ended, so
/// that answers which nobody reads are not kept.
struct Flowing<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Flowing<S> {
    fn new(stream: S, patience: Duration) -> Flowing<S> {
        Flowing { stream, patience, stalled: None }
    }

    fn into_inner(self) -> S {
        self.stream
    }

    /// `outcome`, or an error where there has been none for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flowing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flowing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}

/// Says the end, and takes what still comes: closing a socket with unread bytes resets the connection, and a client whose
/// large body was refused would lose the answer that says why.
async fn hang_up(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut ignored = vec![0; 16 * 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// A body that holds something until it has ended or is dropped.
fn held(body: Body, something: UnderWay) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _ = &something;
        frame
    }))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::Empty;
    use jiff::Timestamp;
    use rustls::RootCertStore;
    use rustls_pki_types::ServerName;
    use tokio::sync::{Notify, oneshot};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::authority::{Authority, Certificates};

    /// How long a test waits for what must come.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Tells that something is gone.
    struct Dropped(Arc<Notify>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    struct World {
        address: SocketAddr,
        tls: TlsConnector,
        old_tls: TlsConnector,
        go_on: Arc<Notify>,
        unread: Arc<Notify>,
        _end: oneshot::Sender<()>,
    }

    impl World {
        async fn new(change: impl FnOnce(&mut Server)) -> World {
            let data = tempfile::tempdir().unwrap();
            let authority = Arc::new(Authority::open_or_create(data.path(), Timestamp::now()).unwrap());
            let (_, der) = pem_rfc7468::decode_vec(authority.pem().as_bytes()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(der.into()).unwrap();
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let of_api = Certificates::of_api(authority, listen.ip(), &[], Timestamp::now()).unwrap();

            let go_on = Arc::new(Notify::new());
            let waiting = go_on.clone();
            let slow = move || async move {
                let last = async move {
                    waiting.notified().await;
                    Ok::<_, io::Error>("end")
                };
                Body::from_stream(stream::once(last))
            };
            let unread = Arc::new(Notify::new());
            let dropped = unread.clone();
            let endless = move || {
                let mark = Dropped(dropped.clone());
                async move {
                    Body::from_stream(stream::repeat_with(move || {
                        let _ = &mark;
                        Ok::<_, io::Error>(vec![0; 64 * 1024])
                    }))
                }
            };
            let router = Router::new().route("/", get(|| async { "here" })).route("/slow", get(slow));
            let router = router.route("/endless", get(endless));
            let tls = Arc::new(of_api).server().unwrap();
            let mut server = Server::bind(listen, tls, router).await.unwrap();
            change(&mut server);
            let address = server.address().unwrap();
            let (end, ended) = oneshot::channel();
            tokio::spawn(server.serve(async move { drop(ended.await) }));

            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let old_tls = TlsConnector::from(Arc::new(config.clone()));
            config.alpn_protocols = vec![b"h2".to_vec()];
            World { address, tls: TlsConnector::from(Arc::new(config)), old_tls, go_on, unread, _end: end }
        }

        async fn call(&self) -> io::Result<TlsStream<TcpStream>> {
            let name = ServerName::try_from("localhost").unwrap();
            self.tls.connect(name, TcpStream::connect(self.address).await?).await
        }
    }

    async fn ask(
        stream: TlsStream<TcpStream>,
        path: &str,
    ) -> (Response<Incoming>, tokio::task::JoinHandle<hyper::Result<()>>) {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("https://localhost{path}")).body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        // As long as this one lives the client keeps the connection.
        std::mem::forget(sender);
        (answer, connection)
    }

    async fn ends(connection: impl Future) {
        tokio::time::timeout(LIMIT, connection).await.expect("the server ends it");
    }

    #[tokio::test]
    async fn who_says_nothing_over_http2_is_not_waited_for() {
        let world = World::new(|server| server.patience = Duration::from_millis(300)).await;
        let (slow, slow_connection) = ask(world.call().await.unwrap(), "/slow").await;

        let mut silent = world.call().await.unwrap();
        ends(async { while silent.read(&mut [0; 512]).await.is_ok_and(|length| length > 0) {} }).await;

        let (answer, idle) = ask(world.call().await.unwrap(), "/").await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "here");
        ends(idle).await;

        // What is under way is nothing idle: it began before the others, and is still there.
        world.go_on.notify_one();
        assert_eq!(slow.into_body().collect().await.unwrap().to_bytes(), "end");
        ends(slow_connection).await;
    }

    #[tokio::test]
    async fn one_caller_does_not_take_all_places() {
        let world = World::new(|server| server.of_one = 2).await;
        let held = [world.call().await.unwrap(), world.call().await.unwrap()];
        assert!(world.call().await.is_err(), "a third one");
        drop(held);
        ends(async {
            while world.call().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_not_kept() {
        let world = World::new(|server| server.patience = Duration::from_millis(200)).await;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(world.address).await.unwrap();
        let mut stream = world.old_tls.connect(name, stream).await.unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        tokio::time::timeout(LIMIT, world.unread.notified()).await.expect("it is kept");
        // Until here the connection is open.
        drop(stream);
    }

    #[tokio::test]
    async fn the_head_of_a_request_has_a_limit() {
        let world = World::new(|_| {}).await;
        let answer = async |head: String| {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TcpStream::connect(world.address).await.unwrap();
            let mut stream = world.old_tls.connect(name, stream).await.unwrap();
            // Refused before its end: the rest may find a closed connection.
            let _ = stream.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let head =
            |more: String| format!("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
        let good = answer(head(format!("x: {}\r\n", "y".repeat(HEAD / 2)))).await;
        assert!(good.starts_with("HTTP/1.1 200 "), "{good}");
        let long = answer(head(format!("x: {}\r\n", "y".repeat(2 * HEAD)))).await;
        assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
        let many = answer(head("x: y\r\n".repeat(200))).await;
        assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    }

    #[tokio::test]
    async fn who_sends_too_much_hears_why() {
        let world = World::new(|_| {}).await;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(world.address).await.unwrap();
        let mut stream = world.old_tls.connect(name, stream).await.unwrap();
        // No route takes it: it is refused before anything of the body was read.
        let length = 8 << 20;
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; length]).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 405 "), "{}", String::from_utf8_lossy(&answer));
    }
}
