//! From configuration server to application, the port is never lost: not once in fifty starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::client::{self, Answer, full, request, run, send};
use crate::stage::Stage;

const STARTS: usize = 50;
const CLIENTS: usize = 3;

const PLAIN: &str = r#"
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"application"]
"#;

/// Asks again and again, each time on a new connection; every one must be answered. Returns how often the
/// configuration server and the application answered.
async fn insist(address: SocketAddr, enough: Arc<AtomicBool>) -> Result<(usize, usize), String> {
    let (mut server, mut application) = (0, 0);
    while !enough.load(Ordering::Acquire) || application == 0 {
        let response = send(address, request("GET", "/").body(full("")).unwrap()).await?;
        let answer = Answer::of(response).await;
        match (answer.headers.contains_key("mse-status"), answer.status) {
            (true, 200 | 503) => server += 1,
            (false, 200) => application += 1,
            (_, status) => return Err(format!("{status}: {}", answer.text())),
        }
    }
    Ok((server, application))
}

#[test]
fn fifty_hand_overs_lose_no_connection() {
    for number in 0..STARTS {
        let stage = Stage::new("plain:app", &[("plain.py", PLAIN)]);
        let node = stage.start();
        run(async {
            let enough = Arc::new(AtomicBool::new(false));
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| client::spawn(insist(stage.address, enough.clone()))).collect();
            client::run_application(stage.address, json!({})).await;
            enough.store(true, Ordering::Release);
            for client in clients {
                let (server, application) = client.await.unwrap().unwrap_or_else(|why| {
                    panic!("start {number}: a connection was lost: {why}\n{}", stage.log())
                });
                assert!(server > 0 && application > 0);
            }
        });
        assert_eq!(node.stop().code(), Some(0), "{}", stage.log());
    }
}
