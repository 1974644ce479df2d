//! A Flask application: bodies of every kind, its environment, restarts, evidence beside it.

use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};

use crate::client::{self, Answer, full, get, post, request, run, send, send_http2};
use crate::stage::{APP_ID, Stage};

const FLASK: &str = r#"
import json, os, pathlib, stat, sys, time
from flask import Flask, Response, request

app = Flask(__name__)

@app.get("/health")
def health():
    return "OK"

@app.get("/empty")
def empty():
    return ""

@app.get("/nothing")
def nothing():
    return "", 204

@app.get("/unchanged")
def unchanged():
    return Response(status=304)

@app.get("/iterator")
def iterator():
    return Response(iter([]))

@app.post("/upload")
def upload():
    total = last = 0
    while chunk := request.stream.read(1 << 20):
        total, last = total + len(chunk), chunk[-1]
    return {"total": total, "last": last}

@app.post("/form")
def form():
    return {"name": request.form["name"], "file": len(request.files["file"].read())}

@app.get("/stream")
def stream():
    gate = pathlib.Path(os.environ["TMP_PATH"], "gate")
    def parts():
        yield b"first\n"
        while not gate.exists():
            time.sleep(0.01)
        yield b""
        yield b"last\n"
    return Response(parts(), mimetype="text/plain")

@app.get("/environment")
def environment():
    names = ["HOME", "TMP_PATH", "TMPDIR", "KEY_PATH", "SECRETS_PATH", "SEALED_SECRETS_PATH", "MODULE_PATH"]
    found = {name: os.environ.get(name) for name in names}
    secrets = pathlib.Path(found["SECRETS_PATH"])
    found |= {"cwd": os.getcwd(), "path": sys.path[0], "secrets": json.loads(secrets.read_text())}
    found["mode"] = stat.S_IMODE(secrets.stat().st_mode)
    found["private"] = sorted(os.listdir(secrets.parent))
    found["cookies"] = dict(request.cookies)
    found["scheme"] = request.scheme
    return found

@app.get("/broken")
def broken():
    raise ValueError("broken on purpose")
"#;

/// Not one of a framework: the old-fashioned ways of PEP 3333.
const PLAIN: &str = r#"
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/generator":
        start_response("201 Created", [("X-Late", "yes")])
        yield b"made "
        yield b""
        yield b"late"
    elif path == "/write":
        write = start_response("200 OK", [])
        write(b"written ")
        yield b"and returned"
    elif path == "/lines":
        body = environ["wsgi.input"]
        read = [body.read(3), body.readline(), body.readline(2), body.read(-1)]
        start_response("200 OK", [])
        yield repr(read).encode()
    elif path == "/silent":
        return
    else:
        start_response("200 OK", [])
        yield b"OK"
"#;

const UPLOAD: usize = 100_000_000;

#[test]
fn a_flask_application_is_served() {
    let stage = Stage::new("inner:app", &[("inner.py", FLASK)]);
    let node = stage.start();
    let address = stage.address;
    run(async {
        let waiting = get(address, "/").await;
        assert_eq!((waiting.status, waiting.headers["mse-status"].as_bytes()), (200, b"Waiting".as_slice()));
        client::run_application(address, json!({ "app_secrets": { "a": [1, 2] } })).await;
        bodies(&stage).await;
        uploads(&stage).await;
        environment(&stage).await;
        evidence(&stage).await;
        idle_clients(&stage).await;
        assert_eq!(get(address, "/broken").await.status, 500);
        assert_eq!(get(address, "/health").await.text(), "OK");
    });
    assert!(stage.log().contains("broken on purpose"));
    assert_eq!(node.stop().code(), Some(0), "{}", stage.log());

    let node = stage.start();
    run(async {
        client::healthy(address).await;
        let again = post(address, "/", json!({ "uuid": APP_ID }).to_string()).await;
        assert_eq!(again.status, 404, "a second configuration reaches only the application");
        assert_eq!(get(address, "/environment").await.json()["secrets"], json!({ "a": [1, 2] }));
    });
    assert_eq!(node.stop().code(), Some(0), "{}", stage.log());
    assert!(!stage.log().contains("panicked"), "{}", stage.log());
}

async fn bodies(stage: &Stage) {
    let address = stage.address;
    for (path, status) in [("/empty", 200), ("/nothing", 204), ("/unchanged", 304), ("/iterator", 200)] {
        let answer = get(address, path).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
        let ask = || request("GET", path).body(full("")).unwrap();
        let answer = Answer::of(send_http2(address, ask()).await).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path} over HTTP/2");
    }
    let head = send(address, request("HEAD", "/health").body(full("")).unwrap()).await.unwrap();
    assert_eq!(head.headers()["content-length"], "2");

    let gate = stage.memory().join("tmp/gate");
    for http2 in [false, true] {
        let ask = request("GET", "/stream").body(full("")).unwrap();
        let mut body = match http2 {
            false => send(address, ask).await.unwrap().into_body(),
            true => send_http2(address, ask).await.into_body(),
        };
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "first\n", "the first part comes before the last is made");
        std::fs::write(&gate, "").unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "last\n");
        std::fs::remove_file(&gate).unwrap();
    }
}

async fn uploads(stage: &Stage) {
    let address = stage.address;
    let expected = json!({ "total": UPLOAD, "last": 7 });
    let data = Bytes::from(vec![7; UPLOAD]);
    assert_eq!(post(address, "/upload", data.clone()).await.json(), expected);
    let ask = request("POST", "/upload").body(full(data.clone())).unwrap();
    assert_eq!(Answer::of(send_http2(address, ask).await).await.json(), expected);
    let chunked = Pieces(data.clone()).boxed();
    let ask = request("POST", "/upload").body(chunked).unwrap();
    assert_eq!(Answer::of(send(address, ask).await.unwrap()).await.json(), expected);

    let form = "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nx\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n12345\r\n--b--\r\n";
    let ask = request("POST", "/form").header("content-type", "multipart/form-data; boundary=b");
    let answer = Answer::of(send(address, ask.body(full(form)).unwrap()).await.unwrap()).await;
    assert_eq!(answer.json(), json!({ "name": "x", "file": 5 }));
}

/// A body of many pieces, whose length is not known beforehand.
struct Pieces(Bytes);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.0.len().min(1_000_000);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }
}

async fn environment(stage: &Stage) {
    let ask = request("GET", "/environment").header("cookie", "a=1; b=2").body(full("")).unwrap();
    let found = Answer::of(send(stage.address, ask).await.unwrap()).await.json();
    let place = |name: &str| Value::from(stage.memory().join(name).to_str().unwrap());
    for (name, expected) in [
        ("HOME", place("root")),
        ("TMP_PATH", place("tmp")),
        ("TMPDIR", place("tmp")),
        ("KEY_PATH", place("key")),
        ("SECRETS_PATH", place("root/.cache/mse/secrets.json")),
        ("SEALED_SECRETS_PATH", place("root/.cache/mse/sealed_secrets.json")),
        ("MODULE_PATH", place("mse-app")),
        ("cwd", place("mse-app")),
        ("path", place("mse-app")),
        ("secrets", json!({ "a": [1, 2] })),
        ("mode", json!(0o600)),
        ("private", json!(["secrets.json"])),
        ("cookies", json!({ "a": "1", "b": "2" })),
        ("scheme", json!("https")),
    ] {
        assert_eq!(found[name], expected, "{name}");
    }
    // HTTP/2 clients may send each cookie by itself (RFC 9113, 8.2.3).
    let ask = request("GET", "/environment").header("cookie", "a=1").header("cookie", "b=x,y");
    let found = Answer::of(send_http2(stage.address, ask.body(full("")).unwrap()).await).await.json();
    assert_eq!(found["cookies"], json!({ "a": "1", "b": "x,y" }));
}

async fn evidence(stage: &Stage) {
    let nonce = "ab".repeat(32);
    let path = format!("/.well-known/mse/evidence?nonce={nonce}");
    let answer = get(stage.address, &path).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let evidence = attestation::ratls::LiveEvidence::from_json(&answer.body).unwrap();
    assert_eq!(evidence.certificate, client::served_certificate(stage.address).await);
    let claims = attestation::ratls::Claims::decode(&evidence.claims).unwrap();
    assert_eq!(hex::encode(claims.nonce.unwrap()), nonce);
    let quote = attestation::Quote::parse(&evidence.quote).unwrap();
    let report_data = attestation::ratls::report_data(&evidence.claims);
    assert_eq!(quote.report.report_data, report_data);
    for path in ["/.well-known/mse/evidence", "/.well-known/mse/evidence?nonce=00"] {
        let answer = get(stage.address, path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["type"], "urn:mse:problem:bad-nonce");
    }
}

async fn idle_clients(stage: &Stage) {
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(stage.address).unwrap()).collect();
    assert_eq!(get(stage.address, "/health").await.text(), "OK");
    drop(idle);
}

#[test]
fn an_application_without_a_framework_is_served() {
    let stage = Stage::new("plain:app", &[("plain.py", PLAIN)]);
    let node = stage.start();
    let address = stage.address;
    run(async {
        client::run_application(address, json!({})).await;
        let late = get(address, "/generator").await;
        assert_eq!((late.status, late.text()), (201, "made late"));
        assert_eq!(late.headers["x-late"], "yes");
        assert_eq!(get(address, "/write").await.text(), "written and returned");
        let lines = post(address, "/lines", "abcdef\nsecond\nthe\nrest").await;
        assert_eq!(lines.text(), r"[b'abc', b'def\n', b'se', b'cond\nthe\nrest']");
        assert_eq!(get(address, "/silent").await.status, 500);
    });
    assert_eq!(node.stop().code(), Some(0), "{}", stage.log());
}
