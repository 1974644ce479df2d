//! The door as a client sees it: bytes in, bytes out.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Forwarder;
use crate::error::Error;
use crate::testing::{Identity, Server, body, nowhere, ok};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A client connection, kept open between requests.
struct Client(BufReader<TcpStream>, SocketAddr);

#[derive(Debug)]
struct Received {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    fn of(door: &Forwarder) -> Client {
        let stream = TcpStream::connect(door.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(BufReader::new(stream), door.addr())
    }

    fn send(&mut self, text: &str) {
        let text = text.replace("HOST", &format!("Host: localhost:{}", self.1.port()));
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// One piece of a chunked body; empty at its end.
    fn chunk(&mut self) -> Vec<u8> {
        let length = usize::from_str_radix(self.line().trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.0.read_exact(&mut chunk).unwrap();
        chunk.truncate(length);
        chunk
    }

    fn receive(&mut self) -> Received {
        let (status, head) = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = Vec::new();
        if let Some(length) = length {
            body = vec![0; length.parse().unwrap()];
            self.0.read_exact(&mut body).unwrap();
        } else if head.contains("transfer-encoding: chunked") {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        }
        Received { status, head, body }
    }

    fn get(&mut self, path: &str) -> Received {
        self.send(&format!("GET {path} HTTP/1.1\r\nHOST\r\n\r\n"));
        self.receive()
    }
}

fn door(identity: &Identity, server: &Server) -> Forwarder {
    Forwarder::start(&identity.record(), &server.target(), ANY).unwrap()
}

#[test]
fn requests_reach_the_application_by_its_own_name() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |request| {
        let headers = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        Response::builder()
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(body(headers))
            .unwrap()
    });
    let door = door(&identity, &server);
    assert_eq!(door.url(), format!("http://localhost:{}/", door.addr().port()));
    let mut client = Client::of(&door);
    client.send("GET /a%20b?c=d HTTP/1.1\r\nHOST\r\nX-Forwarded-For: 10.0.0.1\r\nX-Own: 1\r\n\r\n");
    let received = client.receive();
    assert_eq!(received.status, 200);
    assert!(received.head.contains("set-cookie: a=1\r\nset-cookie: b=2"), "{}", received.head);
    let seen = String::from_utf8(received.body).unwrap();
    assert!(seen.starts_with("GET /a%20b?c=d "), "{seen}");
    assert!(seen.contains(&format!("\"host\": \"myapp.fr:{}\"", server.target().port())), "{seen}");
    assert!(seen.contains("x-own") && !seen.contains("forwarded"), "{seen}");
}

#[test]
fn one_connection_serves_many_requests_at_both_ends() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |request| ok(request.uri().path().to_owned()));
    let door = door(&identity, &server);
    let mut client = Client::of(&door);
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.get(path).body, path.as_bytes());
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(Client::of(&door).get("/4").body, b"/4");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_that_the_application_closes_is_made_again() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |_| {
        Response::builder().header("connection", "close").body(body("once")).unwrap()
    });
    let door = door(&identity, &server);
    let mut client = Client::of(&door);
    for _ in 0..3 {
        let received = client.get("/");
        assert_eq!(received.body, b"once");
        assert!(!received.head.contains("connection: close"), "the client's connection is another matter");
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn uploads_are_carried_whole_whatever_their_framing() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |request| {
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        ok(format!("{} {}", bytes.len(), hex::encode(Sha256::digest(&bytes))))
    });
    let door = door(&identity, &server);
    let upload: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let expected = format!("{} {}", upload.len(), hex::encode(Sha256::digest(&upload)));

    let mut client = Client::of(&door);
    client.send(&format!("POST / HTTP/1.1\r\nHOST\r\nContent-Length: {}\r\n\r\n", upload.len()));
    client.0.get_mut().write_all(&upload).unwrap();
    assert_eq!(String::from_utf8(client.receive().body).unwrap(), expected);

    client.send("PUT / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in upload.chunks(70_000) {
        let stream = client.0.get_mut();
        write!(stream, "{:x}\r\n", chunk.len()).unwrap();
        stream.write_all(chunk).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    client.send("0\r\n\r\n");
    assert_eq!(String::from_utf8(client.receive().body).unwrap(), expected);

    client.send("POST / HTTP/1.1\r\nHOST\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().0, 100);
    client.0.get_mut().write_all(b"abc").unwrap();
    assert!(client.receive().body.starts_with(b"3 "));
}

#[test]
fn both_directions_are_streamed() {
    let identity = Identity::generate();
    // Answers each piece of the request as soon as it is there.
    let server = Server::start(&identity, async |request| {
        Response::new(request.into_body().map_err(|error| -> Infallible { panic!("{error}") }).boxed())
    });
    let door = door(&identity, &server);
    let mut client = Client::of(&door);
    client.send("POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (piece, number) in [("5\r\nfirst\r\n", 0), ("6\r\nsecond\r\n", 1)] {
        client.send(piece);
        if number == 0 {
            assert_eq!(client.head().0, 200);
        }
        // The request is not at its end yet.
        assert_eq!(client.chunk(), ["first".as_bytes(), b"second"][number]);
    }
    client.send("0\r\n\r\n");
    assert!(client.chunk().is_empty());
}

#[test]
fn answers_without_a_body_end_where_they_should() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |request| match request.uri().path() {
        "/204" => Response::builder().status(204).body(body("")).unwrap(),
        "/304" => Response::builder().status(304).body(body("")).unwrap(),
        _ => ok("body"),
    });
    let door = door(&identity, &server);
    let mut client = Client::of(&door);
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").status, 304);
    client.send("HEAD / HTTP/1.1\r\nHOST\r\n\r\n");
    let (status, head) = client.head();
    assert_eq!((status, head.contains("content-length: 4")), (200, true));
    assert_eq!(client.get("/").body, b"body");
}

#[test]
fn redirects_to_the_application_stay_at_the_door() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |request| {
        let host = request.headers().get("host").unwrap().to_str().unwrap().to_owned();
        let location = format!("https://{host}/next");
        Response::builder().status(302).header("location", location).body(body("")).unwrap()
    });
    let door = door(&identity, &server);
    let received = Client::of(&door).get("/");
    let expected = format!("location: http://localhost:{}/next\r\n", door.addr().port());
    assert!(received.head.contains(&expected), "{}", received.head);
}

#[test]
fn a_websocket_talks_both_ways() {
    let identity = Identity::generate();
    let server = Server::start(&identity, async |mut request| {
        if request.headers().get("upgrade").is_none_or(|value| value != "websocket") {
            return Response::builder().status(400).body(body("")).unwrap();
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut message = [0; 5];
            while stream.read_exact(&mut message).await.is_ok() {
                message.reverse();
                stream.write_all(&message).await.unwrap();
            }
        });
        let response =
            Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "websocket");
        response.header("sec-websocket-accept", "x").body(body("")).unwrap()
    });
    let door = door(&identity, &server);
    let mut client = Client::of(&door);
    client.send("GET /ws HTTP/1.1\r\nHOST\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let (status, head) = client.head();
    assert_eq!(status, 101);
    assert!(head.contains("sec-websocket-accept: x") && head.contains("upgrade: websocket"), "{head}");
    for message in ["hello", "world"] {
        client.0.get_mut().write_all(message.as_bytes()).unwrap();
        let mut answer = [0; 5];
        client.0.read_exact(&mut answer).unwrap();
        assert!(answer.iter().rev().eq(message.as_bytes()));
    }
    // Without being asked to, nothing changes its protocol.
    assert_eq!(Client::of(&door).get("/ws").status, 400);
}

#[test]
fn requests_that_a_web_page_tricked_a_browser_into_do_not_reach_the_application() {
    let identity = Identity::generate();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::start(&identity, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { ok("secret") }
    });
    let door = door(&identity, &server);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHOST\r\nOrigin: http://evil.example\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHOST\r\nOrigin: null\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHOST\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403),
        ("GET http://evil.example/ HTTP/1.1\r\nHOST\r\n\r\n", 421),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHOST\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\n\r\n", 400),
    ] {
        let mut client = Client::of(&door);
        client.send(request);
        assert_eq!(client.receive().status, status, "{request}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[test]
fn an_impostor_gets_nothing() {
    let (identity, impostor) = (Identity::generate(), Identity::generate());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::start(&identity, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { ok("fine") }
    });
    let door = door(&identity, &server);
    assert_eq!(Client::of(&door).get("/").status, 200);
    server.change(&impostor);
    let received = Client::of(&door).get("/");
    assert_eq!(received.status, 502);
    let reason = String::from_utf8(received.body).unwrap();
    assert!(reason.contains("not the enclave that was verified"), "{reason}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_changed_key_is_verified_before_anything_is_carried() {
    let (first, second, impostor) = (Identity::generate(), Identity::generate(), Identity::generate());
    let server = Server::start(&first, async |_| ok("fine"));
    // Verification here: the identity that is believed at the moment.
    let believed = Arc::new(Mutex::new(first.clone()));
    let verifications = Arc::new(AtomicUsize::new(0));
    let (belief, count) = (believed.clone(), verifications.clone());
    let verify = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(belief.lock().unwrap().record())
    });
    let door = Forwarder::start_verifying(verify, &server.target(), ANY).unwrap();
    assert_eq!(verifications.load(Ordering::SeqCst), 1, "before the door opens");
    assert_eq!(Client::of(&door).get("/").status, 200);

    server.change(&second);
    *believed.lock().unwrap() = second.clone();
    assert_eq!(Client::of(&door).get("/").status, 200);
    assert_eq!(Client::of(&door).get("/").status, 200);
    assert_eq!(verifications.load(Ordering::SeqCst), 2, "once for the new key");

    server.change(&impostor);
    let received = Client::of(&door).get("/");
    assert_eq!(received.status, 502, "verification found another key than the peer's");
}

#[test]
fn a_failed_verification_is_not_repeated_at_once() {
    let (identity, other) = (Identity::generate(), Identity::generate());
    let server = Server::start(&identity, async |_| ok("fine"));
    let verifications = Arc::new(AtomicUsize::new(0));
    let (count, record) = (verifications.clone(), identity.record());
    let verify = Box::new(move || match count.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(record.clone()),
        _ => Err(Error::NotANode { missing: "genuine quote" }),
    });
    let door = Forwarder::start_verifying(verify, &server.target(), ANY).unwrap();
    server.change(&other);
    for _ in 0..3 {
        assert_eq!(Client::of(&door).get("/").status, 502);
    }
    assert_eq!(verifications.load(Ordering::SeqCst), 2);
}

#[test]
fn a_door_does_not_open_without_a_verification_that_holds() {
    let identity = Identity::generate();
    let refused = Forwarder::start_verifying(
        Box::new(|| Err(Error::NotANode { missing: "genuine quote" })),
        &nowhere(),
        ANY,
    );
    assert!(matches!(refused, Err(Error::NotANode { .. })));
    let owner = Identity::generate();
    let pem = attestation::ratls::RatlsCertificate::parse(&owner.certificate).unwrap().to_pem();
    let mode = attestation::ratls::TlsMode::OwnerCertificate;
    let record = identity.record().with_tls_mode(mode).serving(&pem).unwrap();
    let refused = Forwarder::start_verifying(Box::new(move || Ok(record.clone())), &nowhere(), ANY);
    assert!(matches!(refused, Err(Error::OwnerCertificate { .. })));
    let expired = identity.record().with_valid_until(jiff::Timestamp::UNIX_EPOCH);
    assert!(matches!(Forwarder::start(&expired, &nowhere(), ANY), Err(Error::Expired { .. })));
}

#[test]
fn a_door_opens_on_this_machine_only_and_closes_when_dropped() {
    let identity = Identity::generate();
    for everywhere in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = Forwarder::start(&identity.record(), &nowhere(), everywhere.parse().unwrap());
        assert!(matches!(refused, Err(Error::Door { .. })), "{everywhere}");
    }
    let door = Forwarder::start(&identity.record(), &nowhere(), ANY).unwrap();
    let address = door.addr();
    assert!(matches!(Forwarder::start(&identity.record(), &nowhere(), address), Err(Error::Door { .. })));
    assert_eq!(Client::of(&door).get("/").status, 502, "nobody is behind it");
    drop(door);
    assert!(TcpStream::connect(address).is_err());
}
