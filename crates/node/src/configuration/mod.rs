//! The configuration server: HTTPS on the application's own port, until a configuration is accepted.
//!
//! It trusts nobody who connects. Each connection is a task of its own with a time limit for every step (TLS, header,
//! body), bodies and their sum are limited, and when too many connections are open the oldest idle one makes room: no
//! client holds up another. Only HTTP/1.1 is spoken, and each answer is small.
//!
//! Once a configuration is accepted the server stops accepting, and hands the listening socket on as soon as the owner
//! has the answer. What was accepted before is finished meanwhile; what is not accepted waits in the kernel's backlog.

mod answers;
mod body;
mod connections;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::node::Node;
use crate::{Error, Result, request};
use connections::{Connections, Ticket};

/// How much, and how long, a client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; one more closes the oldest idle one.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's header, and for the time between two requests.
    pub header: Duration,
    /// Bytes of a request's line and header fields.
    pub header_bytes: usize,
    /// For a request's body.
    pub body: Duration,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are under way, beyond the first [`body::FREE`] of each.
    pub bodies_bytes: usize,
    /// For connections that were accepted before the configuration was.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            header_bytes: 32 * 1024,
            body: Duration::from_secs(30),
            body_bytes: request::LIMIT,
            bodies_bytes: 8 * request::LIMIT,
            finish: Duration::from_secs(3),
        }
    }
}

/// A running configuration server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    socket: Mutex<mpsc::Receiver<TcpListener>>,
    thread: Option<JoinHandle<()>>,
}

/// What the server is about. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Waiting,
    /// A configuration was accepted; its answer is on the way.
    Accepted,
    /// The owner has the answer.
    Answered,
    /// Nobody wants this server any more.
    Stopped,
}

/// What every connection shares.
struct Shared {
    node: Arc<Node>,
    tls: TlsAcceptor,
    limits: Limits,
    phase: watch::Sender<Phase>,
    connections: Connections,
    body_room: Arc<Semaphore>,
}

/// Blocking work at a time: every place in the queue for quotes, and some for configurations.
const BLOCKING_THREADS: usize = crate::evidence::PLACES + 3;

impl Server {
    /// Serves `node` on a listening socket, on a thread of its own.
    pub fn start(node: Arc<Node>, listener: TcpListener, limits: Limits) -> Result<Server> {
        let address = listener.local_addr().map_err(Error::io("look at", "the listening socket"))?;
        listener.set_nonblocking(true).map_err(Error::io("prepare", "the listening socket"))?;
        let tls = TlsAcceptor::from(Arc::new(node.tls_config()?));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(Duration::from_secs(1))
            .thread_name("mse-configuration")
            .build()
            .map_err(Error::io("start", "the configuration server"))?;
        let (phase, _) = watch::channel(Phase::Waiting);
        let (sender, socket) = mpsc::channel();
        let shared = Arc::new(Shared {
            node,
            tls,
            phase: phase.clone(),
            connections: Connections::new(limits.connections),
            body_room: Arc::new(Semaphore::new(limits.bodies_bytes / body::UNIT)),
            limits,
        });
        let thread = std::thread::Builder::new()
            .name("mse-configuration".into())
            .spawn(move || {
                runtime.block_on(serve(shared, listener, sender));
                runtime.shutdown_background();
            })
            .map_err(Error::io("start", "the configuration server"))?;
        Ok(Server { address, phase, socket: Mutex::new(socket), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Blocks until a configuration is accepted and answered; returns the listening socket, still listening.
    ///
    /// # Errors
    /// [`Error::ServerEnded`] if the server was stopped, or asked before.
    pub fn wait(&self) -> Result<TcpListener> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.recv().map_err(|_| Error::ServerEnded)
    }

    /// Stops the server, whatever is under way.
    pub fn stop(&self) {
        advance(&self.phase, Phase::Stopped);
    }

    /// Lets the server finish what it accepted before the configuration, without waiting for it.
    pub fn finish_in_background(mut self) {
        drop(self.thread.take());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop();
            let _ = thread.join();
        }
    }
}

fn advance(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|now| {
        let forward = *now < to;
        if forward {
            *now = to;
        }
        forward
    });
}

async fn reached(phase: &mut watch::Receiver<Phase>, at_least: Phase) {
    let _ = phase.wait_for(|now| *now >= at_least).await;
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, socket: mpsc::Sender<TcpListener>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut phase = shared.phase.subscribe();
    loop {
        tokio::select! {
            // In this order: whoever connects once the configuration was answered meets the application.
            biased;
            () = reached(&mut phase, Phase::Accepted) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(&shared, stream),
                // Out of descriptors, most likely: let go of one, and do not spin.
                Err(_) => {
                    shared.connections.evict();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    if *phase.borrow() == Phase::Stopped {
        return;
    }
    // The owner's answer comes first; a client that does not fetch it cannot keep the application from starting.
    let _ = tokio::time::timeout(shared.limits.finish, reached(&mut phase, Phase::Answered)).await;
    if let Ok(listener) = listener.into_std() {
        let _ = socket.send(listener);
    }
    drop(socket);
    tokio::select! {
        () = shared.connections.all_closed() => {}
        () = tokio::time::sleep(shared.limits.finish) => {}
        () = reached(&mut phase, Phase::Stopped) => {}
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    shared
        .connections
        .admit(|ticket| tokio::spawn(connection(shared.clone(), stream, ticket)).abort_handle());
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, ticket: Ticket) {
    let handshake = tokio::time::timeout(shared.limits.handshake, shared.tls.accept(stream)).await;
    let Ok(Ok(stream)) = handshake else { return };
    let ticket = &ticket;
    let service = service_fn(|request| answers::answer(&shared, ticket, request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(shared.limits.header);
    // Room for the head that is a little too long, so that its sender is told; hyper wants 8 KiB at least.
    server.max_buf_size((shared.limits.header_bytes / 2 * 3).max(8 * 1024));
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut phase = shared.phase.subscribe();
    let served = tokio::select! {
        _ = connection.as_mut() => true,
        () = reached(&mut phase, Phase::Accepted) => false,
    };
    if !served {
        // A connection that was not asked anything yet is asked once; its answer closes it.
        if ticket.was_asked() {
            connection.as_mut().graceful_shutdown();
        }
        let _ = connection.await;
    }
    if ticket.has_configured() {
        advance(&shared.phase, Phase::Answered);
    }
}
