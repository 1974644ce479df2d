//! Applications of other people, unchanged: an ASGI framework with WebSocket and streaming, reached through the door.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::installation::{Installation, free_port, plain_get};

const APP: &str = r#"
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

started = []

@asynccontextmanager
async def lifespan(app):
    started.append(os.environ["MODULE_PATH"])
    yield

api = FastAPI(lifespan=lifespan)

@api.get("/live")
async def live():
    return {"started": started == [os.getcwd()]}

@api.get("/stream")
async def stream():
    async def parts():
        for n in range(1000):
            yield f"{n}\n".encode()
    return StreamingResponse(parts())
"#;

#[test]
fn a_fastapi_application_runs_and_is_called_through_the_door() {
    let person = Installation::new();
    let port = free_port();
    fs::create_dir_all(person.path("api/mse_src/inner")).unwrap();
    fs::create_dir(person.path("api/tests")).unwrap();
    fs::write(person.path("api/mse_src/inner/web.py"), APP).unwrap();
    fs::write(person.path("api/requirements.txt"), "fastapi>=0.110\n").unwrap();
    fs::write(person.path("api/tests/test_api.sh"), "exit 0\n").unwrap();
    fs::write(
        person.path("api/mse.toml"),
        "name = \"api\"\npython_application = \"inner.web:api\"\nhealthcheck_endpoint = \"/live\"\n\
         tests_cmd = \"sh test_api.sh && test -n \\\"$TEST_REMOTE_URL\\\"\"\n",
    )
    .unwrap();
    person.run("home package --project api --output packages/", 0);
    let package = "--package packages/package_api_*.tar";
    person.run(
        &format!("home spawn --host b.localhost --port {port} --size 1024 {package} --output out/ api"),
        0,
    );
    person.run(
        &format!("home verify {package} --evidence out/evidence.json --output verified/ --allow-simulated"),
        0,
    );
    person.run("home run api", 0);
    person.run("home test --test out/tests --config out/mse.toml api", 0);
    // Tests that fail have an exit code of their own.
    fs::write(person.path("out/tests/test_api.sh"), "exit 7\n").unwrap();
    person.run("home test --test out/tests --config out/mse.toml api", 4);

    let direct = person.fetch("verified/ratls.pem", "b.localhost", port, "/live");
    assert_eq!(direct, br#"{"started":true}"#);

    let mut door = person
        .mse(&format!("connect --cert verified/ratls.pem --listen 127.0.0.1:0 https://b.localhost:{port}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(door.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let stream = format!("{}stream", url.trim());
    let all: String = (0..1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(plain_get(&stream, &[]), (200, all));
    // A page of another site does not get in, by name or by origin.
    for hostile in [("Host", "evil.example"), ("Origin", "https://evil.example")] {
        let (status, _) = plain_get(&stream, &[hostile]);
        assert!(matches!(status, 403 | 421), "{hostile:?}: {status}");
    }
    door.kill().unwrap();
    door.wait().unwrap();
}
