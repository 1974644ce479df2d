//! The listener, and the course of each connection: in, hello, route, node, relay, end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::hello::{ClientHello, HelloReader};
use crate::limits::{self, Door};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::relay::{Buffers, End, Tally, relay};
use crate::table::{Found, Route, Table};
use crate::upstream::Termination;

/// How much of a hello is read at once.
const PIECE: usize = 4096;
/// How long a refused user's bytes are still taken, so that what it was told is not lost in a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How long to wait when the system has no more file descriptors, say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// When a silent peer is first asked whether it is there, and how often after that.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Limits of a router.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at once, of all applications and in whatever stage. Each takes two file descriptors.
    pub connections: usize,
    /// Connections at once of one application.
    pub connections_per_app: usize,
    /// Connections at once whose hello is not complete.
    pub hellos: usize,
    /// The same of one caller: an IPv4 address, or an IPv6 network of 64 bits.
    pub hellos_per_address: usize,
    /// How long a hello may take, from the moment the connection was accepted.
    pub hello: Duration,
    /// How long connecting to a node may take; and, where TLS ends here, each of the two handshakes.
    pub connect: Duration,
    /// How long a connection may be silent both ways.
    pub idle: Duration,
    /// How long running connections may go on once the router is told to stop.
    pub drain: Duration,
    /// Bytes of a buffer. A connection holds two at most, and none while nothing is under way.
    pub buffer: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections: 8192,
            connections_per_app: 1024,
            hellos: 1024,
            hellos_per_address: 256,
            hello: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60 * 60),
            drain: Duration::from_secs(30),
            buffer: 128 * 1024,
        }
    }
}

/// How stopping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves after the router was told to stop.
    pub finished: usize,
    /// Connections that were cut off at the end of the time for it.
    pub cut_off: usize,
}

/// The operator's public port.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    buffers: Buffers,
    door: Door,
}

impl Router {
    /// A router over this table, which may change at any time.
    pub fn new(settings: Settings, table: Arc<Table>) -> Router {
        let metrics = Arc::new(Metrics::default());
        let (buffers, door) = (Buffers::new(settings.buffer), Door::new(metrics.clone()));
        Router { shared: Arc::new(Shared { settings, table, metrics, buffers, door }) }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Serves until `stop` is done; then takes no more connections, lets those that run go on for
    /// [`Settings::drain`], and cuts off the rest. Dropping the future cuts off everything at once.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> Drained {
        let mut running = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((user, address)) => self.shared.clone().admit(user, address.ip(), &mut running),
                    Err(error) => {
                        self.shared.metrics.accept_errors.add(1);
                        // The failure of one connection is over; a lack of descriptors is not.
                        if error.kind() != io::ErrorKind::ConnectionAborted {
                            sleep(ACCEPT_AGAIN).await;
                        }
                    }
                },
            }
        }
        drop(listener);
        while running.try_join_next().is_some() {}
        let left = running.len();
        let _ =
            timeout(self.shared.settings.drain, async { while running.join_next().await.is_some() {} }).await;
        let cut_off = running.len();
        self.shared.metrics.cut_off.add(cut_off as u64);
        running.shutdown().await;
        Drained { finished: left - cut_off, cut_off }
    }
}

impl Shared {
    /// Gives a connection its place and its task.
    fn admit(self: Arc<Self>, user: TcpStream, address: IpAddr, running: &mut JoinSet<()>) {
        self.metrics.accepted.add(1);
        prepare(&user);
        match self.door.enter(address, &self.settings) {
            Ok((open, caller)) => {
                let deadline = Instant::now() + self.settings.hello;
                running.spawn(async move {
                    let _open = open;
                    self.handle(user, caller, deadline).await;
                });
            }
            Err(reason) => {
                self.metrics.refuse(reason);
                // There is no room to wait for the user to hear it.
                if let Some(alert) = reason.alert() {
                    let _ = user.try_write(&alert);
                }
            }
        }
    }

    async fn handle(&self, mut user: TcpStream, caller: limits::Caller, deadline: Instant) {
        let mut reader = HelloReader::new();
        let hello = read_hello(&mut user, &mut reader, deadline).await;
        drop(caller);
        let refused = match hello.and_then(|hello| self.find(hello)) {
            Ok((found, hello)) => self.route(&mut user, &found, hello, reader.into_received()).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = refused {
            self.metrics.refuse(reason);
            if let Some(alert) = reason.alert() {
                dismiss(&mut user, &alert).await;
            }
        }
    }

    fn find(&self, hello: ClientHello) -> Result<(Arc<Found>, ClientHello), Refusal> {
        let name = hello.name.as_ref().ok_or(Refusal::NoName)?;
        let found = self.table.find(name).ok_or(Refusal::UnknownName)?;
        found.metrics.asked.add(1);
        Ok((found, hello))
    }

    /// Leads a connection to its node. An error is for the user to be told: nothing was sent to it yet.
    async fn route(
        &self,
        user: &mut TcpStream,
        found: &Found,
        hello: ClientHello,
        received: Vec<u8>,
    ) -> Result<(), Refusal> {
        let _place = limits::at_app(found.app.clone(), &self.settings)
            .inspect_err(|_| found.metrics.app_busy.add(1))?;
        match &found.route {
            Route::PassThrough { address } => self.pass_through(user, found, *address, received).await,
            Route::Terminate(termination) => {
                self.terminate(user, found, termination, &hello.protocols, received).await
            }
        }
    }

    async fn pass_through(
        &self,
        user: &mut TcpStream,
        found: &Found,
        address: SocketAddr,
        received: Vec<u8>,
    ) -> Result<(), Refusal> {
        let mut node = in_time(self.settings.connect, async {
            let mut node = TcpStream::connect(address).await?;
            prepare(&node);
            node.write_all(&received).await?;
            Ok(node)
        })
        .await
        .map_err(|_| unreachable(found))?;
        let tally = self.routed(found);
        for counter in tally.up {
            counter.add(received.len() as u64);
        }
        drop(received);
        let end = relay(user, &mut node, &self.buffers, self.settings.idle, &tally).await;
        drop(node);
        self.ended(end, user).await;
        Ok(())
    }

    async fn terminate(
        &self,
        user: &mut TcpStream,
        found: &Found,
        termination: &Termination,
        offered: &[Vec<u8>],
        received: Vec<u8>,
    ) -> Result<(), Refusal> {
        let agreed = timeout(self.settings.connect, termination.connect(&found.app.id, offered))
            .await
            .unwrap_or(Err(Refusal::Unreachable))
            .inspect_err(|reason| {
                if *reason == Refusal::Unreachable {
                    unreachable(found);
                }
            })?;
        let mut node = agreed.connected.stream;
        let replay = Replay { received, replayed: 0, stream: user };
        let accepting = TlsAcceptor::from(agreed.config).accept(replay);
        let mut user = in_time(self.settings.connect, accepting).await.map_err(|_| Refusal::Handshake)?;
        let tally = self.routed(found);
        let end = relay(&mut user, &mut node, &self.buffers, self.settings.idle, &tally).await;
        drop(node);
        self.ended(end, &mut user).await;
        Ok(())
    }

    fn routed<'a>(&'a self, found: &'a Found) -> Tally<'a> {
        self.metrics.routed.add(1);
        found.metrics.routed.add(1);
        Tally {
            up: [&self.metrics.bytes_up, &found.metrics.bytes_up],
            down: [&self.metrics.bytes_down, &found.metrics.bytes_down],
        }
    }

    async fn ended(&self, end: End, user: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
        match end {
            End::Finished => {}
            End::Unheard => linger(user).await,
            End::Broken => self.metrics.broken.add(1),
            End::Idle => self.metrics.idle.add(1),
        }
    }
}

fn unreachable(found: &Found) -> Refusal {
    found.metrics.unreachable.add(1);
    Refusal::Unreachable
}

/// Reads until the hello is complete, at the latest until `deadline`, however often something comes.
async fn read_hello(
    stream: &mut (impl AsyncRead + Unpin),
    reader: &mut HelloReader,
    deadline: Instant,
) -> Result<ClientHello, Refusal> {
    let reading = async {
        let mut piece = [0; PIECE];
        loop {
            let length = stream.read(&mut piece).await.map_err(|_| Refusal::HungUp)?;
            if length == 0 {
                return Err(Refusal::HungUp);
            }
            if let Some(hello) = reader.push(&piece[..length])? {
                return Ok(hello);
            }
        }
    };
    timeout_at(deadline, reading).await.unwrap_or(Err(Refusal::TooSlow))
}

/// Tells the user why, and hangs up so that it can hear it.
async fn dismiss(user: &mut (impl AsyncRead + AsyncWrite + Unpin), alert: &[u8]) {
    let told = in_time(LINGER, async {
        user.write_all(alert).await?;
        user.shutdown().await
    });
    if told.await.is_ok() {
        linger(user).await;
    }
}

/// Takes what still comes, for a while: closing a socket with unread bytes resets the connection, and the peer
/// would lose what it has not read.
async fn linger(user: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; PIECE];
    let _ = timeout(LINGER, async { while user.read(&mut ignored).await.is_ok_and(|length| length > 0) {} })
        .await;
}

/// With an error of time in the place of one more nesting.
async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sets what makes a connection quick and shows when its other end is gone. A socket that refuses either still works.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A stream with the bytes in front of it that were already taken from it.
struct Replay<S> {
    received: Vec<u8>,
    replayed: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.received[self.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, space);
        }
        let length = rest.len().min(space.remaining());
        space.put_slice(&rest[..length]);
        self.replayed += length;
        if self.replayed == self.received.len() {
            self.received = Vec::new();
            self.replayed = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
