//! What becomes of the headers on their way through the door.
//!
//! Hop-by-hop headers end here (RFC 9110, section 7.6.1), and so does whatever speaks of a way that the request did not
//! take (`Forwarded`, `X-Forwarded-*`): an application may believe it. URLs that name the door are turned into the
//! application's own and back, so that redirects and checks of `Origin` and `Referer` work.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::forwarder::guard::Guard;
use crate::target::Target;

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
const STRICT_TRANSPORT: HeaderName = header::STRICT_TRANSPORT_SECURITY;

/// The protocol that both sides are asked to change to: `Connection: upgrade` with one `Upgrade`. HTTP/2 (`h2c`) is
/// none: it would carry requests past the door.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next()?;
    let hidden = protocol.as_bytes().to_ascii_lowercase().windows(3).any(|part| part == b"h2c");
    (asked && !hidden && protocols.next().is_none()).then(|| protocol.clone())
}

/// Prepares a request's headers for the application.
pub(super) fn inwards(headers: &mut HeaderMap, guard: &Guard, target: &Target) {
    let upgrade = upgrade(headers);
    remove_hop_by_hop(headers);
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded") || is_about_the_way(name))
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
    // The door has answered it itself.
    headers.remove(header::EXPECT);
    if let Ok(host) = HeaderValue::from_str(&target.authority()) {
        headers.insert(header::HOST, host);
    }
    for name in [header::ORIGIN, header::REFERER] {
        let own = headers.get(&name).and_then(|value| guard.path_of(value.to_str().ok()?));
        if let Some(value) = own.and_then(|path| HeaderValue::from_str(&(target.origin() + path)).ok()) {
            headers.insert(name, value);
        }
    }
    restore(headers, upgrade);
}

/// Prepares a response's headers for the client; `own` is the authority by which the client knows the door.
pub(super) fn outwards(headers: &mut HeaderMap, own: &str, target: &Target, switching: bool) {
    let upgrade = if switching { upgrade(headers) } else { None };
    remove_hop_by_hop(headers);
    // It would be about the door's name, which speaks plain HTTP.
    headers.remove(STRICT_TRANSPORT);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let inside = headers.get(&name).and_then(|value| {
            let path = value.to_str().ok()?.strip_prefix(&target.origin())?;
            (path.is_empty() || path.starts_with(['/', '?', '#'])).then(|| format!("http://{own}{path}"))
        });
        if let Some(value) = inside.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    restore(headers, upgrade);
}

fn restore(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &header::CONNECTION).filter_map(|token| token.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        // A client cannot have the door forget what frames the message or whom it is for.
        if *name != header::HOST && *name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}

fn is_about_the_way(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "forwarded" | "x-real-ip" | "via" | "x-original-host" | "x-original-url" | "x-rewrite-url"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn inside(headers: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(headers);
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap());
        inwards(&mut headers, &guard, &Target::new("myapp.fr", 7777).unwrap());
        headers
    }

    fn outside(headers: &[(&str, &str)], switching: bool) -> HeaderMap {
        let mut headers = map(headers);
        outwards(&mut headers, "localhost:8080", &Target::new("myapp.fr", 7777).unwrap(), switching);
        headers
    }

    #[test]
    fn what_is_about_the_way_does_not_get_in() {
        let headers = inside(&[
            ("host", "localhost:8080"),
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded", "1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("accept", "text/html"),
        ]);
        assert_eq!(headers, map(&[("host", "myapp.fr:7777"), ("accept", "text/html")]));
    }

    #[test]
    fn connection_cannot_remove_the_framing() {
        let headers = inside(&[("connection", "content-length, host"), ("content-length", "3")]);
        assert_eq!(headers, map(&[("content-length", "3"), ("host", "myapp.fr:7777")]));
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let asked = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let headers = inside(&asked);
        assert_eq!(headers.get("upgrade").unwrap(), "websocket");
        assert_eq!(headers.get("connection").unwrap(), "upgrade");
        assert!(!inside(&[("upgrade", "websocket")]).contains_key("upgrade"), "not asked for by Connection");
        let hidden = inside(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "websocket, H2C")]);
        assert!(!hidden.contains_key("upgrade"));
        assert!(outside(&asked, true).contains_key("upgrade"));
        assert!(!outside(&asked, false).contains_key("upgrade"));
    }

    #[test]
    fn urls_of_the_door_become_the_applications_and_back() {
        let headers =
            inside(&[("origin", "http://localhost:8080"), ("referer", "http://127.0.0.1:8080/a?b")]);
        assert_eq!(headers.get("origin").unwrap(), "https://myapp.fr:7777");
        assert_eq!(headers.get("referer").unwrap(), "https://myapp.fr:7777/a?b");
        assert_eq!(inside(&[("referer", "http://other/a")]).get("referer").unwrap(), "http://other/a");

        let location = |value| outside(&[("location", value)], false).get("location").unwrap().clone();
        assert_eq!(location("https://myapp.fr:7777/next?x"), "http://localhost:8080/next?x");
        assert_eq!(location("https://myapp.fr:77771/next"), "https://myapp.fr:77771/next");
        assert_eq!(location("/next"), "/next");
        assert_eq!(location("https://elsewhere/"), "https://elsewhere/");
    }
}
