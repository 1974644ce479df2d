//! Bytes to the node and back, untouched.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use router::{Drained, Route, Settings};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::*;

/// More than every buffer on the way together.
const MUCH: usize = 24 << 20;

#[tokio::test]
async fn http_reaches_the_node_in_either_version() {
    let node = Node::http(&["h2", "http/1.1"]).await;
    let running = passing_to(node.address).await;
    // Only the node's own certificate is believed: TLS ends there.
    let stream =
        connect(running.address, believing(&node.identity.certificate, &["http/1.1"])).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/one").header("host", NAME).body(Empty::<Bytes>::new()).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "HTTP/1.1 /one");
    drop(sender);
    connection.await.unwrap().unwrap();

    let stream =
        connect(running.address, believing(&node.identity.certificate, &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let asking = (0..20).map(|number| {
        let request = Request::get(format!("https://{NAME}/{number}")).body(Empty::<Bytes>::new()).unwrap();
        (number, sender.send_request(request))
    });
    for (number, response) in asking.collect::<Vec<_>>() {
        let body = soon("an answer", response).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), format!("HTTP/2.0 /{number}"));
    }
    drop(sender);
    until("both have ended", || running.router.metrics().open.get() == 0).await;
    let (name, app, metrics) = running.table.metrics().remove(0);
    assert_eq!((name.as_str(), app.as_str()), (NAME, "app"));
    assert_eq!((metrics.asked.get(), metrics.routed.get()), (2, 2));
    assert!(metrics.bytes_up.get() > 500 && metrics.bytes_down.get() > 500);
    assert_eq!(running.router.metrics().bytes_up.get(), metrics.bytes_up.get());
}

#[tokio::test]
async fn a_long_upload_arrives_whole() {
    let node = Node::http(&["http/1.1"]).await;
    let running = passing_to(node.address).await;
    let stream =
        connect(running.address, believing(&node.identity.certificate, &["http/1.1"])).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body: Vec<u8> =
        (0..MUCH as u32 / 4).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let expected = summary(body.len(), Sha256::new_with_prefix(&body));
    let request = Request::post("/").header("host", NAME).body(Full::new(Bytes::from(body))).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), expected);
}

#[tokio::test]
async fn a_connection_that_changes_to_another_protocol_goes_on() {
    let node = Node::http(&["http/1.1"]).await;
    let running = passing_to(node.address).await;
    let stream =
        connect(running.address, believing(&node.identity.certificate, &["http/1.1"])).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/echo")
        .header("host", NAME)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for length in [1, 125, 70_000] {
        let frame = vec![length as u8; length];
        socket.write_all(&frame).await.unwrap();
        socket.flush().await.unwrap();
        let mut back = vec![0; length];
        soon("an echo", socket.read_exact(&mut back)).await.unwrap();
        assert!(back == frame);
    }
}

#[tokio::test]
async fn every_byte_arrives_however_the_hello_is_cut() {
    let hello = hello(NAME);
    // The same message in records of nine bytes.
    let cut: Vec<u8> =
        hello[5..].chunks(9).flat_map(|piece| [&[22, 3, 1, 0, piece.len() as u8], piece].concat()).collect();
    for bytes in [hello, cut] {
        let (address, node) = plain_node().await;
        let running = passing_to(address).await;
        let mut user = say(running.address, &[]).await;
        for byte in &bytes {
            user.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
        user.write_all(b"and then").await.unwrap();
        user.shutdown().await.unwrap();
        assert_eq!(hear(&mut at_node).await, [&bytes[..], b"and then"].concat());
        at_node.write_all(b"the answer").await.unwrap();
        drop(at_node);
        assert_eq!(hear(&mut user).await, b"the answer");
        assert_eq!(running.table.metrics()[0].2.bytes_up.get(), bytes.len() as u64 + 8);
        assert_eq!(running.table.metrics()[0].2.bytes_down.get(), 10);
    }
}

#[tokio::test]
async fn either_end_may_stop_talking_and_go_on_listening() {
    let (address, node) = plain_node().await;
    let running = passing_to(address).await;
    for user_first in [true, false] {
        let user = say(running.address, &hello(NAME)).await;
        let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
        let mut replayed = vec![0; hello(NAME).len()];
        at_node.read_exact(&mut replayed).await.unwrap();
        let (mut first, mut second) = if user_first { (user, at_node) } else { (at_node, user) };
        first.shutdown().await.unwrap();
        assert_eq!(hear(&mut second).await, b"");
        let sending = tokio::spawn(async move {
            second.write_all(&vec![7; MUCH]).await.unwrap();
        });
        assert!(hear(&mut first).await == vec![7; MUCH]);
        sending.await.unwrap();
    }
    until("both have ended", || running.router.metrics().open.get() == 0).await;
    assert_eq!(running.router.metrics().broken.get(), 0);
}

#[tokio::test]
async fn a_slow_reader_holds_its_writer_up() {
    let (address, node) = plain_node().await;
    let running = passing_to(address).await;
    let mut user = say(running.address, &hello(NAME)).await;
    let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
    // Until the system, too, takes no more: nobody reads.
    let mut sent = 0;
    let piece = vec![1; 1 << 20];
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), user.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 1 << 30, "bytes are taken without end");
    }
    drop(user);
    assert_eq!(hear(&mut at_node).await.len(), hello(NAME).len() + sent);
}

#[tokio::test]
async fn an_answer_to_half_an_upload_reaches_the_user() {
    let (address, node) = plain_node().await;
    let running = passing_to(address).await;
    let user = say(running.address, &hello(NAME)).await;
    let (mut hearing, mut talking) = user.into_split();
    let uploading = tokio::spawn(async move {
        let mut sent = 0;
        while talking.write_all(&[1; 65_536]).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
    let mut some = vec![0; 1 << 20];
    at_node.read_exact(&mut some).await.unwrap();
    at_node.write_all(b"too much").await.unwrap();
    // With bytes unread: a reset.
    drop(at_node);
    let mut heard = [0; 8];
    soon("the answer", hearing.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"too much");
    drop(hearing);
    assert!(soon("the upload ends", uploading).await.unwrap() >= 16);
}

#[tokio::test]
async fn running_connections_stay_while_the_table_changes() {
    let (before, old) = plain_node().await;
    let (after, new) = plain_node().await;
    let running = passing_to(before).await;
    let mut user = say(running.address, &hello(NAME)).await;
    let (mut at_old, _) = soon("the old node is reached", old.accept()).await.unwrap();
    running.table.replace(vec![entry(NAME, "app", Route::PassThrough { address: after })]).unwrap();
    let _another = say(running.address, &hello(NAME)).await;
    soon("the new node is reached", new.accept()).await.unwrap();
    running.table.remove_app("app");
    at_old.write_all(b"still here").await.unwrap();
    drop(at_old);
    assert_eq!(hear(&mut user).await, b"still here");
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let (address, node) = plain_node().await;
    let settings = Settings { idle: Duration::from_millis(50), ..Settings::default() };
    let running = start(settings, Route::PassThrough { address }).await;
    let hello = hello(NAME);
    let mut user = say(running.address, &hello).await;
    let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
    assert_eq!(hear(&mut at_node).await, hello);
    assert_eq!(hear(&mut user).await, b"");
    assert_eq!(running.router.metrics().idle.get(), 1);
}

#[tokio::test]
async fn a_router_that_stops_lets_connections_finish() {
    let (address, node) = plain_node().await;
    let running = passing_to(address).await;
    let mut user = say(running.address, &hello(NAME)).await;
    let (mut at_node, _) = soon("the node is reached", node.accept()).await.unwrap();
    running.stop.send(()).unwrap();
    soon("the listener closes", async {
        while tokio::net::TcpStream::connect(running.address).await.is_ok() {}
    })
    .await;
    at_node.write_all(b"the end").await.unwrap();
    drop(at_node);
    assert_eq!(hear(&mut user).await, b"the end");
    drop(user);
    let drained = soon("the router ends", running.drained).await.unwrap();
    assert_eq!(drained.cut_off, 0);
    assert!(drained.finished >= 1);
}

#[tokio::test]
async fn a_router_that_stops_does_not_wait_for_ever() {
    let (address, node) = plain_node().await;
    let settings = Settings { drain: Duration::from_millis(50), ..Settings::default() };
    let running = start(settings, Route::PassThrough { address }).await;
    let mut user = say(running.address, &hello(NAME)).await;
    let _at_node = soon("the node is reached", node.accept()).await.unwrap();
    running.stop.send(()).unwrap();
    assert_eq!(soon("the router ends", running.drained).await.unwrap(), Drained { finished: 0, cut_off: 1 });
    assert_eq!(hear(&mut user).await, b"");
    assert_eq!((running.router.metrics().cut_off.get(), running.router.metrics().open.get()), (1, 0));
}
