//! The HTTPS listener: TLS, HTTP/1.1 and HTTP/2, and an end that waits for what is under way.
//!
//! Everybody can reach it: handshakes, headers and idle connections have their time, and there are so many
//! connections and no more.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::error::{Error, Result};

/// Connections at once.
const CONNECTIONS: usize = 1024;

/// How long a handshake, and a request's head, may take; and how long a connection may idle.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long requests that are under way may take when the server ends.
const ENDING: Duration = Duration::from_secs(20);

/// A listener, bound.
pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
}

impl Server {
    /// Binds `listen`; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr, tls: rustls::ServerConfig, router: Router) -> Result<Server> {
        let failed = |source| Error::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        Ok(Server { listener, tls: TlsAcceptor::from(Arc::new(tls)), router })
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
        let mut end = pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                () = &mut end => break,
            };
            let (stream, peer, place) = accepted;
            let (tls, router, mut watching) = (self.tls.clone(), self.router.clone(), watching.clone());
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = connection(stream, peer, tls, router, &mut watching).await {
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

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    ending: &mut watch::Receiver<()>,
) -> std::result::Result<(), Failure> {
    let _ = stream.set_nodelay(true);
    let stream = tokio::select! {
        stream = tokio::time::timeout(PATIENCE, tls.accept(stream)) => stream??,
        _ = ending.changed() => return Ok(()),
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer: std::result::Result<Response, Infallible> = router.oneshot(request).await;
            answer
        }
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PATIENCE)
            .max_concurrent_streams(100)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        tokio::select! {
            done = &mut connection => return Ok(done?),
            _ = ending.changed() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(stream, service);
        let mut connection: Pin<&mut _> = pin!(connection);
        tokio::select! {
            done = &mut connection => return Ok(done?),
            _ = ending.changed() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}
