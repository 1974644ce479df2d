//! The simulator's collateral over HTTP, as Intel's service (PCS) and caches of it (PCCS) serve theirs.
//!
//! Format: Intel "PCS API v4", and the PCCS design guide for the root's CRL, which the PCS does not have. Below
//! `/sgx/certification/v4/`, by GET only:
//!
//! ```text
//! tcb?fmspc=HEX[&update=standard|early]            {"tcbInfo": .., "signature": HEX}          TCB-Info-Issuer-Chain
//! qe/identity[?update=standard|early]              {"enclaveIdentity": .., "signature": HEX}  SGX-Enclave-Identity-Issuer-Chain
//! pckcrl?ca=platform|processor[&encoding=pem|der]  the CRL                                    SGX-PCK-CRL-Issuer-Chain
//! rootcacrl                                        the CRL, DER in hex
//! ```
//!
//! Issuer chains are PEM with percent-encoding (RFC 3986). All of it is signed when it is asked for, with the time of
//! that moment. It is public and signed, so anybody may have it; limits keep strangers from wearing the process out.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use attestation::Collateral;
use attestation::issuer::PckCa;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Semaphore, oneshot};

use crate::Error;
use crate::simulated::Installation;

/// Any free port, for this machine only.
pub const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// The path below which everything lies.
pub const API_PATH: &str = "/sgx/certification/v4/";

/// Connections at a time; others wait until one is closed.
const MAX_CONNECTIONS: usize = 64;
/// How long one may last, whatever happens on it.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long a request's head may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The longest head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long to wait before the next try when the system gives no connection, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";
const TCB_INFO_CHAIN: HeaderName = HeaderName::from_static("tcb-info-issuer-chain");
const QE_IDENTITY_CHAIN: HeaderName = HeaderName::from_static("sgx-enclave-identity-issuer-chain");
const PCK_CRL_CHAIN: HeaderName = HeaderName::from_static("sgx-pck-crl-issuer-chain");
/// What RFC 3986 calls unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A running endpoint; it stops when dropped.
pub struct Endpoint {
    address: SocketAddr,
    url: String,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The base address, as a PCCS has it: `http://127.0.0.1:PORT/sgx/certification/v4/`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends at once, and a panic in it has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Serves the installation's collateral on a thread of its own. [`LOOPBACK`] is the address to use but where the caller's
/// caller named another.
///
/// # Errors
/// [`Error::Listen`] where the address cannot be had.
pub fn serve(installation: Installation, address: SocketAddr) -> Result<Endpoint, Error> {
    let start = || -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("simulator-pcs".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = accept(listener, installation) => {}
                }
            });
        })?;
        let url = format!("http://{address}{API_PATH}");
        Ok(Endpoint { address, url, stop: Some(stop), thread: Some(thread) })
    };
    start().map_err(|source| Error::Listen { address, source })
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, installation: Installation) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let installation = installation.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&installation, &request, Timestamp::now());
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A client that goes away or takes too long is its own affair.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

type Answer = Response<Full<Bytes>>;

/// Why there is no document.
struct Refusal(StatusCode, String);

/// The answer to one request, whose body is not looked at.
fn answer<B>(installation: &Installation, request: &Request<B>, now: Timestamp) -> Answer {
    find(installation, request, now).unwrap_or_else(|Refusal(status, reason)| {
        let mut answer = Response::new(Full::new(reason.into()));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        answer
    })
}

fn find<B>(installation: &Installation, request: &Request<B>, now: Timestamp) -> Result<Answer, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "expected GET".to_owned()));
    }
    let query = Query(request.uri().query().unwrap_or_default());
    match request.uri().path().strip_prefix(API_PATH) {
        Some("tcb") => tcb_info(installation, query, now),
        Some("qe/identity") => qe_identity(installation, query, now),
        Some("pckcrl") => pck_crl(installation, query, now),
        Some("rootcacrl") => root_crl(installation, query, now),
        _ => Err(not_found("expected tcb, qe/identity, pckcrl or rootcacrl below /sgx/certification/v4/")),
    }
}

fn tcb_info(installation: &Installation, query: Query<'_>, now: Timestamp) -> Result<Answer, Refusal> {
    query.only(&["fmspc", "update"])?;
    query.one_of("update", &["standard", "early"])?;
    let mut fmspc = [0; 6];
    let asked = query.get("fmspc")?.unwrap_or_default();
    hex::decode_to_slice(asked, &mut fmspc).map_err(|_| bad_request("fmspc: expected 12 hex digits"))?;
    if fmspc != installation.fmspc() {
        return Err(not_found("no TCB info for this FMSPC: the simulator knows its own machine"));
    }
    let Collateral { tcb_info, tcb_info_signature, tcb_info_issuer_chain, .. } =
        sign(installation, PckCa::default(), now)?;
    let body = format!("{{\"tcbInfo\":{tcb_info},\"signature\":\"{tcb_info_signature}\"}}");
    document(body, "application/json", Some((TCB_INFO_CHAIN, &tcb_info_issuer_chain)))
}

fn qe_identity(installation: &Installation, query: Query<'_>, now: Timestamp) -> Result<Answer, Refusal> {
    query.only(&["update"])?;
    query.one_of("update", &["standard", "early"])?;
    let Collateral { qe_identity, qe_identity_signature, qe_identity_issuer_chain, .. } =
        sign(installation, PckCa::default(), now)?;
    let body = format!("{{\"enclaveIdentity\":{qe_identity},\"signature\":\"{qe_identity_signature}\"}}");
    document(body, "application/json", Some((QE_IDENTITY_CHAIN, &qe_identity_issuer_chain)))
}

fn pck_crl(installation: &Installation, query: Query<'_>, now: Timestamp) -> Result<Answer, Refusal> {
    query.only(&["ca", "encoding"])?;
    let ca = match query.get("ca")? {
        Some("platform") => PckCa::Platform,
        Some("processor") => PckCa::Processor,
        _ => return Err(bad_request("ca: expected platform or processor")),
    };
    let encoding = query.one_of("encoding", &["pem", "der"])?;
    let Collateral { pck_crl, pck_crl_issuer_chain, .. } = sign(installation, ca, now)?;
    let der = hex::decode(pck_crl).map_err(internal)?;
    let chain = Some((PCK_CRL_CHAIN, pck_crl_issuer_chain.as_str()));
    match encoding {
        Some("der") => document(der, "application/pkix-crl", chain),
        _ => document(pem(&der)?, "application/x-pem-file", chain),
    }
}

fn root_crl(installation: &Installation, query: Query<'_>, now: Timestamp) -> Result<Answer, Refusal> {
    query.only(&[])?;
    let crl = sign(installation, PckCa::default(), now)?.root_ca_crl;
    document(crl, TEXT, None)
}

/// A CRL in PEM (RFC 7468).
fn pem(der: &[u8]) -> Result<String, Refusal> {
    pem_rfc7468::encode_string("X509 CRL", pem_rfc7468::LineEnding::LF, der).map_err(internal)
}

fn sign(installation: &Installation, ca: PckCa, now: Timestamp) -> Result<Collateral, Refusal> {
    installation.collateral_under(ca, now).map_err(internal)
}

fn document(
    body: impl Into<Bytes>,
    kind: &'static str,
    chain: Option<(HeaderName, &str)>,
) -> Result<Answer, Refusal> {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some((name, pem)) = chain {
        let encoded = utf8_percent_encode(pem, ENCODED).to_string();
        answer.headers_mut().insert(name, HeaderValue::try_from(encoded).map_err(internal)?);
    }
    Ok(answer)
}

fn not_found(reason: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, reason.to_owned())
}

fn bad_request(reason: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, reason.into())
}

fn internal(error: impl fmt::Display) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// The part of the address behind `?`: names and values, none of which needs percent-encoding.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Refuses parameters that this document does not have.
    fn only(self, known: &[&str]) -> Result<(), Refusal> {
        match self.pairs().find(|(name, _)| !known.contains(name)) {
            Some(_) => Err(bad_request(format!("unknown parameter: expected only {known:?}"))),
            None => Ok(()),
        }
    }

    /// The parameter, which may be there once.
    fn get(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.pairs().filter(|(found, _)| *found == name).map(|(_, value)| value);
        let value = values.next();
        if values.next().is_some() {
            return Err(bad_request(format!("{name}: expected once")));
        }
        Ok(value)
    }

    /// The parameter, which is one of these where it is there.
    fn one_of(self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Refusal> {
        let value = self.get(name)?;
        if value.is_some_and(|value| !allowed.contains(&value)) {
            return Err(bad_request(format!("{name}: expected one of {allowed:?}")));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static INSTALLATION: LazyLock<(tempfile::TempDir, Installation)> = LazyLock::new(|| {
        let home = tempfile::tempdir().unwrap();
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let installation = Installation::open_or_create(&home.path().join("simulator"), now).unwrap();
        (home, installation)
    });

    #[test]
    fn documents_are_dated_when_they_are_asked_for() {
        let ask = |now: &str| {
            let request = Request::get(format!("{API_PATH}qe/identity")).body(()).unwrap();
            let answer = answer(&INSTALLATION.1, &request, now.parse().unwrap());
            format!("{:?}", answer.body())
        };
        assert!(ask("2026-05-01T12:30:00Z").contains("2026-05-01T11:30:00Z"));
        assert!(ask("2026-06-01T12:30:00Z").contains("2026-06-01T11:30:00Z"));
    }

    proptest! {
        /// Whatever is asked, the answer is a document or the fault of who asked.
        #[test]
        fn no_question_is_a_failure_of_the_server(
            path in "tcb|qe/identity|pckcrl|rootcacrl|[a-z/.%]{0,12}",
            query in "((fmspc|ca|encoding|update|[a-z]{1,3})(=(platform|der|standard|[0-9a-f]{12}|.{0,4}))?&?){0,3}",
        ) {
            if let Ok(request) = Request::get(format!("{API_PATH}{path}?{query}")).body(()) {
                let now = "2026-03-01T12:00:00Z".parse().unwrap();
                let status = answer(&INSTALLATION.1, &request, now).status();
                prop_assert!(matches!(status.as_u16(), 200 | 400 | 404), "{status}");
            }
        }
    }
}
