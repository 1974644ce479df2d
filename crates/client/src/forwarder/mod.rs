//! A local door: plain HTTP on a loopback address, carried to a verified enclave over an attested channel.
//!
//! For browsers and clients that cannot verify an enclave themselves. HTTP/1.1 (RFC 9112), bodies streamed both
//! ways, WebSocket and other upgrades. Only requests that this machine's own programs send to the door on purpose
//! are answered: see [`guard`] for what a web page could try. Each client connection gets a connection to the
//! enclave of its own, made anew when the enclave closes it.

mod guard;
mod headers;
#[cfg(test)]
mod tests;
mod upstream;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};

use crate::error::Error;
use crate::forwarder::guard::Guard;
use crate::forwarder::upstream::{Link, Upstream};
use crate::records::Record;
use crate::target::Target;

/// Client connections at a time.
const CONNECTIONS: usize = 256;
/// A client may take this long over the head of a request.
const HEAD: Duration = Duration::from_secs(30);

type Body = BoxBody<Bytes, hyper::Error>;

/// Verifies the enclave anew and returns its record: called when the peer's key is not the verified one.
pub type Verify = Box<dyn Fn() -> Result<Record, Error> + Send + Sync>;

/// An open door. It closes when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Opens a door at `listen` (a loopback address; port 0 for any) to the enclave of this record.
    pub fn start(record: &Record, upstream: &Target, listen: SocketAddr) -> Result<Forwarder, Error> {
        record.check_current(jiff::Timestamp::now())?;
        Forwarder::open(Upstream::fixed(record, upstream), listen)
    }

    /// The same, verifying the enclave by `verify`: before the door opens, and again whenever the peer shows another
    /// key. Until that succeeds, nothing is carried. An application that serves its owner's certificate is refused: no
    /// verification reaches that key.
    pub fn start_verifying(
        verify: Verify,
        upstream: &Target,
        listen: SocketAddr,
    ) -> Result<Forwarder, Error> {
        let record = verify()?;
        upstream::check_verified(&record, upstream)?;
        Forwarder::open(Upstream::verified_by(verify, &record, upstream), listen)
    }

    fn open(upstream: Upstream, listen: SocketAddr) -> Result<Forwarder, Error> {
        let refuse = |reason: String| Error::Door { address: listen, reason };
        if !listen.ip().is_loopback() {
            let reason = "it is no loopback address, and beyond this machine plain HTTP protects nothing";
            return Err(refuse(reason.to_owned()));
        }
        let listener = TcpListener::bind(listen).map_err(|error| refuse(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| refuse(error.to_string()))?;
        listener.set_nonblocking(true).map_err(|error| refuse(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("forwarder")
            .enable_all()
            .build()
            .map_err(|error| Error::System { what: "a runtime", reason: error.to_string() })?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let door = Arc::new(Door { guard: Guard::new(address), upstream });
            runtime.block_on(serve(listener, door, stopped));
            // A resolver or a verification may still be at work on a thread of its own.
            runtime.shutdown_background();
        });
        Ok(Forwarder { address, stop, thread: Some(thread) })
    }

    /// Where the door is.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the door, by the name that browsers know: `http://localhost:<port>/`.
    pub fn url(&self) -> String {
        let host = if self.address.ip() == std::net::Ipv4Addr::LOCALHOST { "localhost" } else { "" };
        if host.is_empty() {
            format!("http://{}/", self.address)
        } else {
            format!("http://{host}:{}/", self.address.port())
        }
    }

    /// Waits until the door closes, which it does only when its listener fails.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.join();
    }
}

struct Door {
    guard: Guard,
    upstream: Upstream,
}

async fn serve(listener: TcpListener, door: Arc<Door>, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = stopped.changed() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: others may close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let door = door.clone();
        tokio::spawn(async move {
            let link = Arc::new(tokio::sync::Mutex::new(Link::new()));
            let service = service_fn(|request| answer(door.clone(), link.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A client that goes away in the middle is nobody's error.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer(
    door: Arc<Door>,
    link: Arc<tokio::sync::Mutex<Link>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    if let Err(refusal) = door.guard.check(&request) {
        return Ok(plain(refusal.status, refusal.reason));
    }
    let sent = door.upstream.carry(&door.guard, link, request).await;
    Ok(sent.unwrap_or_else(|error| {
        let status = match error {
            Error::TooSlow { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        plain(status, &error.to_string())
    }))
}

fn plain(status: StatusCode, reason: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{reason}\n"))).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    // The rest of a refused request is not read, so the connection cannot be used again.
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}
