//! The enclave's end of the door: connections that are made when needed, and made again when they break.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::Mutex;

use crate::channel::Channel;
use crate::error::Error;
use crate::forwarder::guard::Guard;
use crate::forwarder::{Body, Verify, headers};
use crate::records::Record;
use crate::target::Target;

/// After a failed verification, how long until the next: each costs the node a quote.
const HOLD_OFF: Duration = Duration::from_secs(5);

/// Where requests go, and what is known of who is there.
pub(super) struct Upstream {
    target: Target,
    channel: RwLock<Channel>,
    verify: Option<Arc<Verify>>,
    /// When verification failed last; held while one is made, so that there is one at a time.
    failed: Mutex<Option<Instant>>,
}

/// The connection to the enclave which belongs to one client connection.
pub(super) struct Link {
    sender: Option<SendRequest<Incoming>>,
}

impl Link {
    pub(super) fn new() -> Link {
        Link { sender: None }
    }
}

impl Upstream {
    pub(super) fn fixed(record: &Record, target: &Target) -> Upstream {
        Upstream::over(Channel::attested(record, target), None)
    }

    pub(super) fn verified_by(verify: Verify, record: &Record, target: &Target) -> Upstream {
        Upstream::over(Channel::attested(record, target), Some(Arc::new(verify)))
    }

    pub(super) fn over(channel: Channel, verify: Option<Arc<Verify>>) -> Upstream {
        let target = channel.target().clone();
        Upstream { target, channel: RwLock::new(channel), verify, failed: Mutex::new(None) }
    }

    /// Carries one request in and its response out.
    pub(super) async fn carry(
        &self,
        guard: &Guard,
        link: Arc<Mutex<Link>>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let broken = |error: &dyn std::error::Error| Error::Conversation {
            target: self.target.to_string(),
            reason: chain(error),
        };
        // The guard let it through, so there is one, and it is readable.
        let own = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let client = headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        headers::inwards(request.headers_mut(), guard, &self.target);
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| broken(&error))?;

        let mut link = link.lock().await;
        let mut response = self.send(&mut link, request).await?;
        drop(link);

        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match (client, switching) {
            (Some(client), true) => {
                let enclave = hyper::upgrade::on(&mut response);
                tokio::spawn(async move {
                    if let (Ok(client), Ok(enclave)) = (client.await, enclave.await) {
                        // Either side may end it as it likes.
                        let (mut client, mut enclave) = (TokioIo::new(client), TokioIo::new(enclave));
                        let _ = copy_bidirectional(&mut client, &mut enclave).await;
                    }
                });
            }
            (None, true) => {
                return Err(Error::UnexpectedAnswer {
                    target: self.target.to_string(),
                    expected: "an answer in HTTP",
                    found: "a change of protocol that nobody asked for".to_owned(),
                });
            }
            (_, false) => {}
        }
        headers::outwards(response.headers_mut(), &own, &self.target, switching);
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(|body| body.boxed()))
    }

    /// Sends over the connection at hand, or over a new one. A request is sent twice only if the first connection
    /// was closed before anything of it went out.
    async fn send(
        &self,
        link: &mut Link,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Error> {
        let reused = match link.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut fresh = reused.is_none();
        let mut sender = match reused {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        loop {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    link.sender = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        request = unsent;
                        fresh = true;
                        sender = self.connect().await?;
                    }
                    _ => {
                        let reason = chain(error.error());
                        return Err(Error::Conversation { target: self.target.to_string(), reason });
                    }
                },
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, Error> {
        let channel = self.channel();
        let (stream, _) = match channel.connect().await {
            Err(error @ Error::WrongKey { .. }) => {
                self.verify_again(&channel, error).await?.connect().await?
            }
            connected => connected?,
        };
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
                Error::Conversation { target: self.target.to_string(), reason: chain(&error) }
            })?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// The peer's key is not that of `tried`: verifies anew where the door was told how, else passes on the refusal.
    async fn verify_again(&self, tried: &Channel, refusal: Error) -> Result<Channel, Error> {
        let Some(verify) = self.verify.clone() else { return Err(refusal) };
        let mut failed = self.failed.lock().await;
        let channel = self.channel();
        if !channel.accepts_the_same_as(tried) {
            // Another connection has verified meanwhile.
            return Ok(channel);
        }
        if failed.is_some_and(|at| at.elapsed() < HOLD_OFF) {
            return Err(refusal);
        }
        let verified = tokio::task::spawn_blocking(move || verify())
            .await
            .unwrap_or_else(|error| Err(Error::System { what: "a verification", reason: error.to_string() }))
            .and_then(|record| check_verified(&record, &self.target).map(|()| record));
        match verified {
            Ok(record) => {
                *failed = None;
                let channel = Channel::attested(&record, &self.target);
                *self.channel.write().unwrap_or_else(PoisonError::into_inner) = channel.clone();
                Ok(channel)
            }
            Err(error) => {
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    fn channel(&self) -> Channel {
        self.channel.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a verification for a door must find: an enclave that serves its own key, now.
pub(super) fn check_verified(record: &Record, target: &Target) -> Result<(), Error> {
    record.check_current(jiff::Timestamp::now())?;
    match record.served_spki() {
        None => Ok(()),
        Some(_) => Err(Error::OwnerCertificate { target: target.to_string() }),
    }
}

/// An error and its causes, in one line: hyper's own words say little without them.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
