//! Who may use the door.
//!
//! Any web page can make a browser send requests to loopback addresses. Three things tell such requests from those that
//! are meant for the door:
//!
//! * `Host` must name the door itself: a page at `evil.example` whose name is made to resolve to 127.0.0.1 (DNS
//!   rebinding) sends its own name;
//! * `Origin`, where there is one, must be the door's: browsers add it to what scripts of other sites send, WebSocket
//!   handshakes included (RFC 6454, RFC 6455 section 10.2);
//! * `Sec-Fetch-Site` (W3C Fetch Metadata) must not name another site, but for a plain visit to a page: an image or a
//!   script that another site includes comes without `Origin`.

use std::net::SocketAddr;

use http::header::{HeaderMap, HeaderName, ORIGIN};
use http::{Method, Request, StatusCode, header};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Knows the names of the door.
#[derive(Debug)]
pub(super) struct Guard {
    /// `host[:port]`, in lower case.
    authorities: Vec<String>,
}

/// Why a request is not carried.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

impl Guard {
    pub(super) fn new(address: SocketAddr) -> Guard {
        let mut authorities = vec![address.to_string(), format!("localhost:{}", address.port())];
        if address.port() == 80 {
            authorities
                .extend(["localhost".to_owned(), address.to_string().trim_end_matches(":80").to_owned()]);
        }
        Guard { authorities }
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let refuse = |status, reason| Err(Refusal { status, reason });
        if request.method() == Method::CONNECT {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "this is a door to one application, not a proxy");
        }
        let Some(host) = only(request.headers(), &header::HOST) else {
            return refuse(StatusCode::BAD_REQUEST, "a request must have exactly one Host");
        };
        let in_target = request.uri().authority().map(|authority| authority.as_str());
        if !self.is_own(host) || !in_target.is_none_or(|authority| self.is_own(authority)) {
            let reason = "this door answers to its own address only; use the URL it was opened with";
            return refuse(StatusCode::MISDIRECTED_REQUEST, reason);
        }
        if request.headers().contains_key(ORIGIN) {
            let origin = only(request.headers(), &ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
            if !origin.is_some_and(|authority| self.is_own(authority)) {
                return refuse(StatusCode::FORBIDDEN, "pages of other sites may not use this door");
            }
        }
        if comes_from_elsewhere(request.headers()) && !is_visit(request) {
            return refuse(
                StatusCode::FORBIDDEN,
                "pages of other sites may not use what is behind this door",
            );
        }
        Ok(())
    }

    /// Whether this is `host[:port]` of the door.
    fn is_own(&self, authority: &str) -> bool {
        self.authorities.iter().any(|own| own.eq_ignore_ascii_case(authority))
    }

    /// What follows the door's own `http://host:port`, in a URL that starts so.
    pub(super) fn path_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        self.is_own(authority).then_some(path)
    }
}

/// The value of a header that must not be doubled.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get_all(SITE).iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// A link that was followed: it shows a page, and tells the other site nothing.
fn is_visit<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    matches!(*request.method(), Method::GET | Method::HEAD)
        && only(headers, &MODE) == Some("navigate")
        && only(headers, &DESTINATION) == Some("document")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(()).unwrap()).map_err(|refusal| refusal.status.as_u16())
    }

    fn get(headers: &[(&str, &str)]) -> Result<(), u16> {
        check(Method::GET, "/", headers)
    }

    #[test]
    fn only_the_doors_own_names_are_answered() {
        assert_eq!(get(&[("host", "127.0.0.1:8080")]), Ok(()));
        assert_eq!(get(&[("host", "localhost:8080")]), Ok(()));
        assert_eq!(get(&[("host", "LocalHost:8080")]), Ok(()));
        for other in [
            "evil.example:8080",
            "127.0.0.1",
            "localhost",
            "127.0.0.1:8081",
            "localhost.evil.example:8080",
            "",
        ] {
            assert_eq!(get(&[("host", other)]), Err(421), "{other}");
        }
        assert_eq!(get(&[]), Err(400));
        assert_eq!(get(&[("host", "localhost:8080"), ("host", "localhost:8080")]), Err(400));
    }

    #[test]
    fn a_request_target_cannot_name_another_host() {
        let own = [("host", "localhost:8080")];
        assert_eq!(check(Method::GET, "http://localhost:8080/x", &own), Ok(()));
        assert_eq!(check(Method::GET, "http://evil.example/x", &own), Err(421));
        assert_eq!(check(Method::CONNECT, "localhost:8080", &own), Err(405));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = ("host", "localhost:8080");
        assert_eq!(get(&[host, ("origin", "http://localhost:8080")]), Ok(()));
        assert_eq!(get(&[host, ("origin", "http://127.0.0.1:8080")]), Ok(()));
        for other in [
            "http://evil.example",
            "https://localhost:8080",
            "null",
            "http://localhost:3000",
            "http://localhost",
        ] {
            assert_eq!(get(&[host, ("origin", other)]), Err(403), "{other}");
        }
        assert_eq!(
            get(&[host, ("origin", "http://localhost:8080"), ("origin", "http://evil.example")]),
            Err(403)
        );
    }

    #[test]
    fn what_other_sites_include_is_refused_and_links_may_be_followed() {
        let host = ("host", "localhost:8080");
        let site = ("sec-fetch-site", "cross-site");
        let visit = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(get(&[host, site, ("sec-fetch-mode", "no-cors")]), Err(403));
        assert_eq!(get(&[host, site]), Err(403));
        assert_eq!(get(&[host, ("sec-fetch-site", "same-site")]), Err(403));
        assert_eq!(get(&[host, site, visit[0], ("sec-fetch-dest", "iframe")]), Err(403));
        assert_eq!(get(&[host, site, visit[0], visit[1]]), Ok(()));
        assert_eq!(check(Method::POST, "/", &[host, site, visit[0], visit[1]]), Err(403));
        assert_eq!(get(&[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(get(&[host, ("sec-fetch-site", "none")]), Ok(()));
    }
}
