//! One request to a backend and its answer.
//!
//! HTTPS only, to the one origin of the login: a redirect is an answer like any other and an error, so that the token goes
//! nowhere else. Trusted are the certificates of the CA that was given, and no others; without one, what the system
//! trusts. Every answer has a limit to its length and its time. Errors are read as RFC 9457 has them, and their words
//! are the backend's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::api::Problem;
use crate::error::Error;
use crate::target::Target;

/// The longest JSON answer, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The longest problem, in bytes: what is longer is none.
const LONGEST_PROBLEM: u64 = 64 * 1024;

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// How long a connection, its handshake included, may take.
const CONNECTING: Duration = Duration::from_secs(15);

/// How long the next bytes of a request may take to leave.
const WRITING: Duration = Duration::from_secs(60);

/// How long an ordinary call may take, all of it.
pub(super) const ORDINARY: Duration = Duration::from_secs(60);

/// Most certificates of a CA.
const MOST_CERTIFICATES: usize = 64;

/// What kind of no a backend said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// 401: the token does not hold, or no longer. Log in again.
    Unauthorized,
    /// 403: only others may do this.
    Forbidden,
    /// 404: there is no such thing, or it is another's.
    NotFound,
    /// 409: it does not go with what is there.
    Conflict,
    /// 422: the request is not possible.
    Invalid,
    /// 422: the quota is used up.
    Quota,
    /// 429: too often, and still so after waiting.
    TooOften,
    /// 500 to 599: the backend's own fault.
    Failed,
    /// Anything else: one of the two does not speak this API.
    Other,
}

impl ProblemKind {
    fn of(status: StatusCode, kind: &str) -> ProblemKind {
        match status.as_u16() {
            401 => ProblemKind::Unauthorized,
            403 => ProblemKind::Forbidden,
            404 => ProblemKind::NotFound,
            409 => ProblemKind::Conflict,
            422 if kind == "urn:mse:problem:quota" => ProblemKind::Quota,
            422 => ProblemKind::Invalid,
            429 => ProblemKind::TooOften,
            500..=599 => ProblemKind::Failed,
            _ => ProblemKind::Other,
        }
    }
}

/// How often to try again, and how long to wait before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Attempts after the first, of what broke off or was refused for the moment.
    pub(super) retries: u32,
    /// The wait before the first of them; doubled before each further one.
    pub(super) pause: Duration,
    /// The longest wait that a backend may ask for.
    pub(super) longest: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { retries: 6, pause: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

impl Pace {
    /// Waits before the attempt after `failures` failed ones.
    pub(super) fn wait(&self, failures: u32) {
        let wait = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(10));
        std::thread::sleep(wait.min(self.longest));
    }
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// What is asked for, as a verb, for messages.
    pub(super) what: &'static str,
    pub(super) body: Option<(&'static str, &'a [u8])>,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Time for everything together; `None` for an answer that never ends, whose head has [`ORDINARY`].
    pub(super) limit: Option<Duration>,
    /// Whether to ask again where the connection breaks off. All calls may be repeated but for those that count.
    pub(super) again: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, what: &'static str, path: impl Into<String>) -> Ask<'a> {
        let path = path.into();
        Ask { method, path, what, body: None, headers: Vec::new(), limit: Some(ORDINARY), again: true }
    }

    pub(super) fn get(what: &'static str, path: impl Into<String>) -> Ask<'a> {
        Ask::new(Method::GET, what, path)
    }

    pub(super) fn json(mut self, body: &'a [u8]) -> Ask<'a> {
        self.body = Some(("application/json", body));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Ask<'a> {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn within(mut self, limit: Duration) -> Ask<'a> {
        self.limit = Some(limit);
        self
    }
}

/// The way to one backend.
#[derive(Clone)]
pub(super) struct Wire {
    agent: Agent,
    origin: String,
    authorization: HeaderValue,
    pub(super) pace: Pace,
    /// Whether it is known to be there: then it is waited for when it is not.
    pub(super) has_answered: bool,
}

/// Whether nobody is there, or not any more.
fn is_away(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::Conversation { .. })
}

/// Reads the address of a backend, `https://host[:port][/]`.
pub(super) fn origin(url: &str) -> Result<Target, Error> {
    Target::from_url(url).map_err(|error| match error {
        Error::Target { given, reason } => {
            let reason =
                if reason == "a node speaks https only" { "it has to begin with https://" } else { reason };
            Error::BackendAddress { given, reason }
        }
        other => other,
    })
}

/// Whether it can be a token: visible ASCII characters.
pub(super) fn check_token(token: &str) -> Result<(), Error> {
    let good = (1..=512).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    let reason = "expected 1 to 512 visible ASCII characters".to_owned();
    Err(Error::BackendCredential { what: "token", reason })
}

/// The certificates of a CA in PEM, each of which can be an anchor.
fn anchors(pem: &str) -> Result<Vec<Certificate<'static>>, Error> {
    let refuse = |reason: String| Error::BackendCredential { what: "CA certificate", reason };
    let parsed: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(MOST_CERTIFICATES + 1).collect();
    let parsed = parsed.map_err(|error| refuse(error.to_string()))?;
    if !(1..=MOST_CERTIFICATES).contains(&parsed.len()) {
        let found = parsed.len();
        return Err(refuse(format!("expected 1 to {MOST_CERTIFICATES} certificates in PEM, found {found}")));
    }
    let mut store = RootCertStore::empty();
    let mut anchors = Vec::new();
    for certificate in parsed {
        anchors.push(Certificate::from_der(&certificate).to_owned());
        store.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(anchors)
}

impl Wire {
    /// A way to the backend at `url` for the bearer of `token`.
    pub(super) fn new(url: &str, token: &str, ca_pem: Option<&str>) -> Result<Wire, Error> {
        let target = origin(url)?;
        check_token(token)?;
        let roots = match ca_pem {
            Some(pem) => RootCerts::from(anchors(pem)?),
            None => RootCerts::PlatformVerifier,
        };
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let mut config = Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(LONGEST_HEAD)
            .timeout_resolve(Some(CONNECTING))
            .timeout_connect(Some(CONNECTING))
            .timeout_per_write(Some(WRITING))
            .user_agent(concat!("mse/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        if target.is_loopback() {
            config = config.proxy(None);
        }
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        let mut authorization = HeaderValue::from_str(&bearer)
            .map_err(|error| Error::BackendCredential { what: "token", reason: error.to_string() })?;
        authorization.set_sensitive(true);
        let origin = target.origin();
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), Places { target });
        Ok(Wire { agent, origin, authorization, pace: Pace::default(), has_answered: false })
    }

    /// `https://host:port`.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks, and reads the answer as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Error> {
        self.json_within(ask, &mut { LONGEST })
    }

    /// The same for one of several answers, of which `left` bytes may come in all.
    pub(super) fn json_within<T: DeserializeOwned>(&self, ask: &Ask<'_>, left: &mut u64) -> Result<T, Error> {
        let longest = LONGEST.min(*left);
        let mut cut_off = 0;
        let bytes = loop {
            let (_, mut body) = self.ask(ask)?;
            let read = body.with_config().limit(longest).read_to_vec();
            match read.map_err(|error| self.failed(ask, error)) {
                Ok(bytes) => break bytes,
                Err(error) if ask.again && self.has_answered && is_away(&error) && cut_off < 2 => {
                    cut_off += 1
                }
                Err(error) => return Err(error),
            }
        };
        *left -= bytes.len() as u64;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.odd(format!("an answer to the request to {}", ask.what), error.to_string()))
    }

    /// Asks, and hands over the answer's head and the way to its body. Anything but success is an error; who asks too
    /// often waits as long as the backend says, twice at most.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<(HeaderMap, Body), Error> {
        let (mut waits, mut broken, mut away) = (0, 0, 0);
        loop {
            let response = match self.send(ask) {
                Ok(response) => response,
                // A kept connection that the backend has closed meanwhile, most of all.
                Err(Error::Conversation { .. }) if ask.again && broken < 1 => {
                    broken += 1;
                    continue;
                }
                // A backend that has answered before begins anew, say.
                Err(error)
                    if ask.again && self.has_answered && is_away(&error) && away < self.pace.retries =>
                {
                    away += 1;
                    self.pace.wait(away);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (head, mut body) = response.into_parts();
            if head.status.is_success() {
                return Ok((head.headers, body));
            }
            if head.status == StatusCode::TOO_MANY_REQUESTS && waits < 2 {
                waits += 1;
                std::thread::sleep(retry_after(&head.headers).min(self.pace.longest));
                continue;
            }
            return Err(self.problem(ask, head.status, &mut body));
        }
    }

    fn send(&self, ask: &Ask<'_>) -> Result<http::Response<Body>, Error> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", self.origin, ask.path))
            .header(header::AUTHORIZATION, self.authorization.clone());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some((content_type, _)) = ask.body {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let sent = match (&ask.method, ask.body) {
            (&Method::GET, _) => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(self.timed(ask, request))),
            (_, body) => {
                let body = body.map_or(&[][..], |(_, bytes)| bytes);
                request
                    .body(body)
                    .map_err(ureq::Error::from)
                    .and_then(|request| self.agent.run(self.timed(ask, request)))
            }
        };
        sent.map_err(|error| self.failed(ask, error))
    }

    fn timed<B: ureq::AsSendBody>(&self, ask: &Ask<'_>, request: Request<B>) -> Request<B> {
        let config = self.agent.configure_request(request);
        match ask.limit {
            Some(limit) => config.timeout_global(Some(limit)).build(),
            None => config.timeout_recv_response(Some(ORDINARY)).build(),
        }
    }

    /// What the backend says against it.
    fn problem(&self, ask: &Ask<'_>, status: StatusCode, body: &mut Body) -> Error {
        if status.is_informational() || status.is_redirection() {
            return self.odd("an answer of its own", format!("a redirect (HTTP {})", status.as_u16()));
        }
        let bytes = body.with_config().limit(LONGEST_PROBLEM).read_to_vec().unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        let title = match problem.title.is_empty() {
            true => status.canonical_reason().unwrap_or("no reason given").to_owned(),
            false => problem.title,
        };
        Error::Backend {
            backend: self.origin.clone(),
            asked: ask.what,
            status: status.as_u16(),
            kind: ProblemKind::of(status, &problem.kind),
            title,
            detail: problem.detail,
        }
    }

    /// The backend does not speak the API.
    pub(super) fn odd(&self, expected: impl Into<String>, found: impl AsRef<str>) -> Error {
        Error::BackendAnswer {
            backend: self.origin.clone(),
            expected: expected.into(),
            found: super::api::printable(found.as_ref()),
        }
    }

    /// There was no answer.
    pub(super) fn failed(&self, ask: &Ask<'_>, error: ureq::Error) -> Error {
        let target = || format!("the backend at {}", self.origin);
        let unreachable = |source| Error::Unreachable { address: self.origin.clone(), source };
        let handshake = |reason: String| Error::Handshake { target: target(), reason };
        match error {
            ureq::Error::Timeout(_) => self.too_slow(ask),
            ureq::Error::HostNotFound => Error::Unresolved {
                host: self.origin.clone(),
                source: io::Error::from(io::ErrorKind::NotFound),
            },
            ureq::Error::ConnectionFailed => unreachable(io::Error::from(io::ErrorKind::NotConnected)),
            ureq::Error::Rustls(error) => handshake(error.to_string()),
            ureq::Error::Tls(reason) => handshake(reason.to_owned()),
            ureq::Error::TlsRequired => handshake("it did not take place".to_owned()),
            ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                handshake(error.to_string())
            }
            ureq::Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable => unreachable(error),
                io::ErrorKind::TimedOut => self.too_slow(ask),
                _ => Error::Conversation { target: target(), reason: error.to_string() },
            },
            ureq::Error::BodyExceedsLimit(limit) => {
                self.odd(format!("an answer of at most {limit} bytes"), "a longer one")
            }
            ureq::Error::LargeResponseHeader(_, limit) => {
                self.odd(format!("a head of at most {limit} bytes"), "a longer one")
            }
            other => Error::Conversation { target: target(), reason: other.to_string() },
        }
    }

    fn too_slow(&self, ask: &Ask<'_>) -> Error {
        let target = format!("the backend at {}", self.origin);
        Error::TooSlow { target, what: ask.what, limit: ask.limit.unwrap_or(ORDINARY) }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What `Retry-After` (RFC 9110, section 10.2.3) says in seconds; a date, or nothing, is a second.
fn retry_after(headers: &HeaderMap) -> Duration {
    let value = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Duration::from_secs(value.and_then(|seconds| seconds.parse().ok()).unwrap_or(1))
}

/// Where the backend is: names under `.localhost` are loopback, and no resolver is asked for them.
#[derive(Debug)]
struct Places {
    target: Target,
}

impl Resolver for Places {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if !self.target.is_loopback() {
            let found = DefaultResolver::default().resolve(uri, config, timeout);
            return found.map_err(|error| match error {
                ureq::Error::Io(_) => ureq::Error::HostNotFound,
                other => other,
            });
        }
        let mut found = self.empty();
        for address in self.target.addresses().map_err(|_| ureq::Error::HostNotFound)? {
            found.push(address);
        }
        Ok(found)
    }
}
