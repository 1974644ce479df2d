//! A FastAPI application: its lifespan, WebSockets, streams and HTTP/2 pass through untouched.

use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Answer, full, get, post, request, run, send, send_http2};
use crate::stage::Stage;

const FASTAPI: &str = r#"
import asyncio, os, pathlib
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import Response, StreamingResponse

events = []

@asynccontextmanager
async def lifespan(app):
    events.append("started")
    yield {"shared": "state"}
    print("the lifespan ends", flush=True)

api = FastAPI(lifespan=lifespan)

@api.get("/health")
async def health():
    return {"events": events}

@api.get("/state")
async def state(request: Request):
    return request.state.shared

@api.get("/cookies")
async def cookies(request: Request):
    return request.cookies

@api.get("/nothing")
async def nothing():
    return Response(status_code=204)

@api.post("/upload")
async def upload(request: Request):
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
    return total

@api.get("/stream")
async def stream():
    gate = pathlib.Path(os.environ["TMP_PATH"], "gate")
    async def parts():
        yield b"first\n"
        while not gate.exists():
            await asyncio.sleep(0.01)
        yield b"last\n"
    return StreamingResponse(parts())

@api.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text((await socket.receive_text()).upper())
"#;

#[test]
fn a_fastapi_application_is_served() {
    let stage = Stage::new("web:api", &[("web.py", FASTAPI)]);
    let node = stage.start();
    let address = stage.address;
    run(async {
        client::run_application(address, json!({})).await;
        assert_eq!(get(address, "/health").await.json(), json!({ "events": ["started"] }));
        assert_eq!(get(address, "/state").await.json(), "state");
        assert_eq!(get(address, "/nothing").await.status, 204);
        let ask = || request("GET", "/state").body(full("")).unwrap();
        assert_eq!(Answer::of(send_http2(address, ask()).await).await.json(), "state");
        // HTTP/2 clients may send each cookie by itself (RFC 9113, 8.2.3).
        let ask = request("GET", "/cookies")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full(""))
            .unwrap();
        let cookies = Answer::of(send_http2(address, ask).await).await.json();
        assert_eq!(cookies, json!({ "a": "1", "b": "2" }));
        assert_eq!(post(address, "/upload", vec![1; 100_000_000]).await.json(), 100_000_000);

        let mut body =
            send(address, request("GET", "/stream").body(full("")).unwrap()).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first\n");
        std::fs::write(stage.memory().join("tmp/gate"), "").unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "last\n");

        websocket(&stage).await;
        let path = format!("/.well-known/mse/evidence?nonce={}", "cd".repeat(16));
        let evidence = get(address, &path).await;
        let evidence = attestation::ratls::LiveEvidence::from_json(&evidence.body).unwrap();
        assert_eq!(evidence.certificate, client::served_certificate(address).await);
        assert_eq!(get(address, "/.well-known/mse/evidence?nonce=x").await.status, 400);
    });
    assert_eq!(node.stop().code(), Some(0), "{}", stage.log());
    assert!(stage.log().contains("the lifespan ends"), "{}", stage.log());
    assert!(!stage.log().contains("panicked"), "{}", stage.log());
}

/// RFC 6455: the opening handshake, then one masked text frame each way.
async fn websocket(stage: &Stage) {
    let mut stream = client::connect(stage.address, "http/1.1").await.unwrap();
    let opening = "GET /echo HTTP/1.1\r\nHost: myapp.fr\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(opening.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    for text in ["hello", "again"] {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | text.len() as u8];
        frame.extend(mask);
        frame.extend(text.bytes().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        stream.write_all(&frame).await.unwrap();
        let mut answer = vec![0; 2 + text.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [0x81, text.len() as u8]);
        assert_eq!(answer[2..], *text.to_uppercase().as_bytes());
    }
}
