//! Connections that reach no node: what they are told, and that they are counted.

use std::time::Duration;

use router::{Refusal, Route, Settings};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::fixture::*;

fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

/// A router whose only application cannot be reached.
async fn leading_nowhere(settings: Settings) -> Running {
    let (address, listener) = plain_node().await;
    drop(listener);
    start(settings, Route::PassThrough { address }).await
}

#[tokio::test]
async fn each_reason_has_its_alert_and_its_counter() {
    let running = leading_nowhere(Settings::default()).await;
    let twice = {
        // The extension's content with a second name behind the first.
        let mut hello = vec![22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 19, 1, 1, 0, 0, 14, 0, 0, 0, 10, 0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b']);
        let length = u8::try_from(hello.len()).unwrap();
        (hello[4], hello[8]) = (length - 5, length - 9);
        hello
    };
    let dotted = {
        let mut hello = hello("a.apps.localhost");
        let at = hello.windows(9).position(|window| window == b"localhost").unwrap();
        hello[at + 8] = b'.';
        hello
    };
    for (reason, bytes, expected) in [
        (Refusal::UnknownName, hello("other.apps.localhost"), alert(112)),
        (Refusal::NoName, hello("127.0.0.1"), alert(112)),
        (Refusal::BadName, dotted, alert(112)),
        (Refusal::Repeated, twice, alert(47)),
        (Refusal::Malformed, vec![22, 3, 1, 0, 4, 2, 0, 0, 0], alert(50)),
        (Refusal::TooLarge, vec![22, 3, 1, 0xff, 0xff], alert(22)),
        (Refusal::NotTls, b"GET / HTTP/1.1\r\nhost: app.apps.localhost\r\n\r\n".to_vec(), vec![]),
        (Refusal::Unreachable, hello(NAME), alert(80)),
    ] {
        let mut user = say(running.address, &bytes).await;
        if expected.is_empty() {
            // Closed with bytes unread, which may come as a reset.
            let mut heard = Vec::new();
            let _ = soon("the end", user.read_to_end(&mut heard)).await;
            assert_eq!(heard, expected, "{reason}");
        } else {
            assert_eq!(hear(&mut user).await, expected, "{reason}");
        }
        assert_eq!(running.router.metrics().refused(reason), 1, "{reason}");
    }
    assert_eq!(running.table.metrics()[0].2.unreachable.get(), 1);
    until("every place is given back", || running.router.metrics().open.get() == 0).await;
    assert_eq!(running.router.metrics().hellos.get(), 0);
    assert_eq!(running.router.metrics().routed.get(), 0);
}

#[tokio::test]
async fn the_tls_library_of_a_user_understands_the_alert() {
    let running = leading_nowhere(Settings::default()).await;
    running.table.remove_app("app");
    let config = believing(&Identity::new().certificate, &[]);
    let error = connect(running.address, config).await.unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap();
    assert_eq!(*error, rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName));
}

#[tokio::test]
async fn a_hello_that_never_ends_is_ended() {
    let settings = Settings { hello: Duration::from_millis(50), ..Settings::default() };
    let running = leading_nowhere(settings).await;
    let bytes = hello(NAME);
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut half = say(running.address, &bytes[..bytes.len() / 2]).await;
    assert_eq!((hear(&mut silent).await, hear(&mut half).await), (vec![], vec![]));
    assert_eq!(running.router.metrics().refused(Refusal::TooSlow), 2);

    drop(say(running.address, &bytes[..9]).await);
    let metrics = running.router.metrics();
    until("it is counted", || metrics.refused(Refusal::HungUp) + metrics.refused(Refusal::TooSlow) == 3)
        .await;
}

#[tokio::test]
async fn hellos_that_never_end_leave_room_for_others() {
    let (address, node) = plain_node().await;
    let settings = Settings { hellos: 3, hellos_per_address: 2, ..Settings::default() };
    let running = start(settings, Route::PassThrough { address }).await;
    let metrics = running.router.metrics();
    // One that is through holds no place among the hellos.
    let through = say(running.address, &hello(NAME)).await;
    let _accepted = soon("the node is reached", node.accept()).await.unwrap();
    let first = TcpStream::connect(running.address).await.unwrap();
    let _second = TcpStream::connect(running.address).await.unwrap();
    until("both are in", || metrics.hellos.get() == 2).await;
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(hear(&mut third).await, alert(80));
    assert_eq!(metrics.refused(Refusal::HellosBusy), 1);
    drop(first);
    until("its place is free", || metrics.hellos.get() == 1).await;
    let _fourth = say(running.address, &hello(NAME)).await;
    let _accepted = soon("the node is reached", node.accept()).await.unwrap();
    drop(through);
}

#[tokio::test]
async fn a_full_router_says_so() {
    let (address, node) = plain_node().await;
    let settings = Settings { connections: 1, ..Settings::default() };
    let running = start(settings, Route::PassThrough { address }).await;
    let first = say(running.address, &hello(NAME)).await;
    let accepted = soon("the node is reached", node.accept()).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(hear(&mut second).await, alert(80));
    assert_eq!(running.router.metrics().refused(Refusal::Busy), 1);
    drop((first, accepted));
    until("the place is free", || running.router.metrics().open.get() == 0).await;
    let _third = say(running.address, &hello(NAME)).await;
    soon("the node is reached", node.accept()).await.unwrap();
}

#[tokio::test]
async fn a_full_application_leaves_room_for_others() {
    let (address, node) = plain_node().await;
    let settings = Settings { connections_per_app: 1, ..Settings::default() };
    let route = Route::PassThrough { address };
    let running = start(settings, route.clone()).await;
    let config_name = "app.config.apps.localhost";
    running.table.insert(entry(config_name, "app", route.clone())).unwrap();
    running.table.insert(entry("other.apps.localhost", "other", route)).unwrap();
    let first = say(running.address, &hello(NAME)).await;
    let accepted = soon("the node is reached", node.accept()).await.unwrap();
    // Both its names count.
    let mut second = say(running.address, &hello(config_name)).await;
    assert_eq!(hear(&mut second).await, alert(80));
    assert_eq!(running.router.metrics().refused(Refusal::AppBusy), 1);
    assert_eq!(running.table.open("app"), 1);
    let _other = say(running.address, &hello("other.apps.localhost")).await;
    let _accepted = soon("the node is reached", node.accept()).await.unwrap();
    drop((first, accepted));
    until("the place is free", || running.table.open("app") == 0).await;
    let _third = say(running.address, &hello(config_name)).await;
    soon("the node is reached", node.accept()).await.unwrap();
}
