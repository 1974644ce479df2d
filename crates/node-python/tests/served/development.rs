//! `--dev`: the application over plain HTTP, without the extension and without an enclave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::environment::{PYTHON, sources};
use crate::stage::{eventually, free_address};

#[test]
fn the_development_server_needs_no_enclave() {
    let code = tempfile::tempdir().unwrap();
    std::fs::write(
        code.path().join("app.py"),
        "import os\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    \
         return [os.environ['MODULE_PATH'].encode()]\n",
    )
    .unwrap();
    let address = free_address();
    let mut server = Command::new(&*PYTHON)
        .args(["-m", "mse_node", "--dev", "--application", "app:app", "--host", "127.0.0.1"])
        .args(["--port", &address.port().to_string()])
        .current_dir(code.path())
        .env("PYTHONPATH", sources())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("MODULE_PATH")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    eventually("the server answers", || {
        let Ok(mut stream) = TcpStream::connect(address) else { return false };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).is_ok_and(|count| count > 0)
    });
    let path = code.path().canonicalize().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(path.to_str().unwrap()), "{answer}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&server), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));

    let wrong = Command::new(&*PYTHON)
        .args(["-m", "mse_node", "--dev"])
        .env("PYTHONPATH", sources())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(wrong.code(), Some(2));
}
