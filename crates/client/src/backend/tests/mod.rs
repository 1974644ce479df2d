//! A backend in this process, as honest or hostile as a test wants it.

#![allow(clippy::unwrap_used)]

mod files;
mod login;
mod session;
mod upload;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Turn, Poll};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::wire::Pace;
use super::{Login, Session};
use crate::error::Error;
use crate::testing::{Identity, Server, ServerBody, body};

const TOKEN: &str = "mse_0123456789012345678901234567890123456789012";
const SIGNER: [u8; 32] = [7; 32];
const NAME: &str = "backend.localhost";

/// A CA and a server's certificate of it.
struct Authority {
    pem: String,
    identity: Identity,
}

impl Authority {
    fn new() -> Authority {
        Authority::for_name(NAME)
    }

    fn for_name(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Authority { pem, identity: Identity::of(leaf.der().to_vec(), &key) }
    }
}

/// A request as the backend got it.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    query: String,
    token: Option<String>,
    key: Option<String>,
    offset: Option<u64>,
    body: Bytes,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Response<ServerBody>;

/// A backend that is there until it is dropped.
struct Fake {
    server: Server,
    ca_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        Fake::of(&Authority::new(), answer)
    }

    fn of(authority: &Authority, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (seen.clone(), Arc::new(answer));
        let server = Server::start(&authority.identity, move |request| {
            let (all, answer) = (all.clone(), answer.clone());
            async move {
                let (head, incoming) = request.into_parts();
                let text = |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
                let seen = Seen {
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    token: text("authorization"),
                    key: text("idempotency-key"),
                    offset: text("upload-offset").map(|text| text.parse().unwrap()),
                    method: head.method,
                    body: incoming.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
                };
                all.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        });
        Fake { server, ca_pem: authority.pem.clone(), seen }
    }

    fn url(&self) -> String {
        format!("https://{NAME}:{}", self.server.target().port())
    }

    fn first_use(&self, signer: Option<[u8; 32]>, earlier: Option<&Login>) -> Result<Login, Error> {
        let token = Zeroizing::new(TOKEN.to_owned());
        let met = earlier.map(Login::met);
        Login::first_use(&self.url(), token, Some(self.ca_pem.clone()), signer, met.as_ref(), now())
    }

    /// A session that does not wait long before it tries again.
    fn session(&self) -> Session {
        let mut session = Session::begin(&self.url(), TOKEN, Some(&self.ca_pem)).unwrap();
        session.wire_mut().pace =
            Pace { retries: 4, pause: Duration::from_millis(1), longest: Duration::from_millis(20) };
        session
    }

    /// The requests so far, as `GET /path?query`, without those of the session's beginning.
    fn calls(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let calls = seen.iter().filter(|seen| seen.path != "/v1/operator");
        calls
            .map(|seen| match seen.query.as_str() {
                "" => format!("{} {}", seen.method, seen.path),
                query => format!("{} {}?{query}", seen.method, seen.path),
            })
            .collect()
    }
}

fn now() -> Timestamp {
    "2026-11-24T00:00:00Z".parse().unwrap()
}

fn say(status: u16, value: &Value) -> Answer {
    let mut response = Response::new(body(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn problem(status: u16, word: &str, detail: &str) -> Answer {
    let kind = format!("urn:mse:problem:{word}");
    say(status, &json!({ "type": kind, "title": "A title", "status": status, "detail": detail }))
}

fn operator() -> Value {
    json!({
        "version": "0.1.0", "domain": "apps.localhost", "router": "127.0.0.1:8443",
        "mrsigner": hex::encode(SIGNER), "platform": "simulated", "runtime": "process",
        "pccs": "http://127.0.0.1:8081", "simulated_root": root("one"), "something": ["new"],
    })
}

fn root(text: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// Answers `/v1/operator` and `/v1/me`, and leaves the rest to the test.
fn known(seen: &Seen, rest: impl FnOnce() -> Answer) -> Answer {
    if seen.token.as_deref() != Some(&format!("Bearer {TOKEN}")) {
        return problem(401, "unauthorized", "expected a token");
    }
    match seen.path.as_str() {
        "/v1/operator" => say(200, &operator()),
        "/v1/me" => say(200, &json!({ "id": Uuid::nil(), "name": "somebody", "is_operator": false })),
        _ => rest(),
    }
}

/// The connection breaks off instead of an answer.
fn break_off() -> ! {
    // Without the words that a panic prints.
    std::panic::resume_unwind(Box::new("broken off"))
}

fn app(id: Uuid, name: &str) -> Value {
    json!({
        "id": id, "project": Uuid::max(), "name": name, "plan": "small", "enclave_mb": 1024, "cores": 1,
        "tls": "zero-trust", "package": hex::encode([1; 32]), "wanted": "running", "state": "spawning",
        "message": "waits for room", "domain": format!("{}.apps.localhost", id.simple()),
        "config_domain": format!("{}.config.apps.localhost", id.simple()), "fingerprint": null,
        "created_by": Uuid::nil(), "created_at": now(), "changed_at": now(), "expires_at": now(),
        "stopped_at": null,
    })
}

/// A body that goes on for ever, a little at a time.
struct Endless(&'static [u8]);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Turn<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.0)))))
    }
}

fn endless(bytes: &'static [u8]) -> Answer {
    Response::new(Endless(bytes).boxed())
}
