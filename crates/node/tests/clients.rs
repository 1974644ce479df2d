//! No client holds up another: idle ones, slow ones, greedy ones.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use support::{APP_ID, SOON, Stage, eventually};

#[test]
fn a_hundred_idle_connections_hold_up_nobody() {
    let stage = Stage::plain();
    let running = stage.start();
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    let mut shaken: Vec<_> = (0..20).map(|_| running.client()).collect();
    for client in &mut shaken {
        client.send(b"GET / HTTP/1.1\r\n");
    }
    assert_eq!(running.get("/").status, 200);
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
    running.server.wait().unwrap();
    drop(silent);
}

#[test]
fn withheld_bodies_hold_up_nobody() {
    let stage = Stage::plain();
    let running = stage.start();
    let mut withholding: Vec<_> = (0..20).map(|_| running.client()).collect();
    for client in &mut withholding {
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n{");
    }
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
    running.server.wait().unwrap();
}

#[test]
fn every_step_has_its_time() {
    let mut stage = Stage::plain();
    stage.limits.handshake = Duration::from_millis(50);
    stage.limits.header = Duration::from_millis(50);
    stage.limits.body = Duration::from_millis(50);
    let running = stage.start();

    let mut silent = TcpStream::connect(running.address).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0, "no handshake");

    let mut no_header = running.client();
    no_header.send(b"GET / HTTP/1.1\r\n");
    assert!(no_header.is_closed(), "half a header");

    let mut kept_alive = running.client();
    assert_eq!(kept_alive.ask("GET", "/", b"").status, 200);
    assert!(kept_alive.is_closed(), "nothing after the first request");

    let mut no_body = running.client();
    no_body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{");
    assert_eq!(no_body.answer().problem(), "body-too-slow");
    assert!(no_body.is_closed(), "half a body");
}

#[test]
fn the_oldest_idle_connection_makes_room_for_the_next() {
    let mut stage = Stage::plain();
    stage.limits.connections = 4;
    let running = stage.start();
    let mut clients: Vec<_> = (0..4).map(|_| running.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/", b"").status, 200);
    }
    assert_eq!(running.get("/").status, 200);
    assert!(clients.remove(0).is_closed());
    let mut others = clients.into_iter();
    assert_eq!(others.next_back().unwrap().ask("GET", "/", b"").status, 200, "the youngest stays");
}

#[test]
fn large_bodies_find_an_end_and_small_ones_always_find_room() {
    let mut stage = Stage::plain();
    stage.limits.bodies_bytes = 1024 * 1024;
    let running = stage.start();
    let large = |length: usize| {
        let mut client = running.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        client
    };
    // One body takes all the room there is, and withholds its last byte. Which of the two came first the node decides:
    // where it was the second, both begin anew.
    let mut greedy = None;
    eventually("a second large body finds no room", || {
        let greedy = greedy.insert(large(900_000));
        let _ = greedy.0.write_all(&vec![b' '; 899_999]).and_then(|()| greedy.0.flush());
        let mut second = large(500_000);
        // The answer comes before the body is read, so the connection may break while it is sent.
        let _ = second.0.write_all(&vec![b' '; 500_000]).and_then(|()| second.0.flush());
        let mut first = [0; 12];
        second.0.read_exact(&mut first).is_ok_and(|()| first == *b"HTTP/1.1 503")
    });
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
}

/// A request whose line and header fields have exactly so many bytes.
fn head_of(size: usize) -> Vec<u8> {
    let start = "GET / HTTP/1.1\r\nHost: myapp.fr\r\nX: ";
    let padding = size - start.len() - "\r\n\r\n".len();
    format!("{start}{}\r\n\r\n", "a".repeat(padding)).into_bytes()
}

#[test]
fn the_limit_on_a_request_head_is_kept_to_the_byte() {
    let stage = Stage::plain();
    let running = stage.start();
    let limit = 32 * 1024;
    let mut client = running.client();
    client.send(&head_of(limit));
    assert_eq!(client.answer().status, 200);
    for size in [limit + 1, 40_000] {
        let mut client = running.client();
        client.send(&head_of(size));
        assert_eq!(client.answer().problem(), "header-too-large", "{size}");
        assert!(client.is_closed(), "{size}");
    }
    // A long target counts as well.
    let mut client = running.client();
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(33_000)).as_bytes());
    assert_eq!(client.answer().problem(), "header-too-large");
    // What is far beyond it, and too many fields, the reader itself refuses, and closes.
    for head in [head_of(200_000), format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)).into_bytes()] {
        let mut client = running.client();
        let _ = client.0.write_all(&head).and_then(|()| client.0.flush());
        let mut answer = Vec::new();
        let _ = client.0.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", answer.escape_ascii());
    }
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
}

#[test]
fn a_head_that_trickles_in_has_one_time_limit_in_all() {
    let mut stage = Stage::plain();
    stage.limits.header = Duration::from_millis(300);
    let running = stage.start();
    let mut client = running.client();
    client.send(b"GET / HTTP/1.1\r\n");
    // Each byte comes well in time, the end never does.
    eventually("the connection is closed", || {
        let sent = client.0.write_all(b"a").and_then(|()| client.0.flush());
        sent.is_err()
    });
}
