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

/// Loads an application as the node does; what it said where that failed.
fn load(application: &str, code: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.py"), code).unwrap();
    let script = "import sys\nfrom mse_node import application\ntry:\n    application.load(sys.argv[1])\n\
                  except application.ApplicationError as error:\n    sys.exit(str(error))\n";
    let output = Command::new(&*PYTHON)
        .args(["-B", "-c", script, application])
        .current_dir(folder.path())
        .env("PYTHONPATH", sources())
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[test]
fn a_factory_is_called_once_and_makes_the_application() {
    let good = "calls = 0\ndef create(a=1):\n    global calls\n    calls += 1\n    assert calls == 1\n    \
                return lambda environ, start_response: []\nclass box: create = create\n";
    for name in ["app:create()", "app:box.create()"] {
        assert_eq!(load(name, good), Ok(()), "{name}");
    }
    for (name, code, message) in [
        ("app:create()", "def create(): return None\n", "found a value of type `NoneType`"),
        ("app:create()", "def create(config): pass\n", "to take no arguments, found `(config)`"),
        ("app:create()", "def create(): raise ValueError('reason')\n", "ValueError: reason"),
        ("app:create()", "def create(): raise SystemExit(0)\n", "SystemExit"),
        ("app:create()", "async def create(): pass\n", "found an `async` one"),
        ("app:create()", "def create(): return create\n", "make it return the application"),
        ("app:create()", "create = 1\n", "a value of type `int`"),
        ("app:create()()", "def create(): return create\n", "has no"),
        ("app:()", "", "expected an application"),
        ("app:create", "def create(config): pass\n", "factory"),
    ] {
        let found = load(name, code).unwrap_err();
        assert!(found.contains(message), "{name} {code}: {found}");
    }
}

#[test]
fn what_may_be_an_application_is_one() {
    for code in [
        "def app(environ, start_response): pass\n",
        "async def app(scope, receive, send): pass\n",
        "def app(*args, **kwargs): pass\n",
        "class app:\n    def __init__(self, e, s): pass\n    def __iter__(self): pass\n",
        "class app:\n    def __init__(self, s, r, d): pass\n    def __await__(self): pass\n    def __call__(self): pass\n",
        "class A:\n    def __call__(self, environ, start_response): pass\napp = A()\n",
        "import functools\ndef f(x, e, s): pass\napp = functools.partial(f, 1)\n",
        "from flask import Flask\napp = Flask(__name__)\n",
        "from fastapi import FastAPI\napp = FastAPI()\n",
    ] {
        assert_eq!(load("app:app", code), Ok(()), "{code}");
    }
}

#[test]
fn a_decorated_application_is_no_factory() {
    let script = r#"
import functools, sys, types
from mse_node import application
module = sys.modules["decorated"] = types.ModuleType("decorated")
def answer(request): return request
@functools.wraps(answer)
def app(*arguments): return answer(arguments)
module.app = app
class Proxy:
    def __getattr__(self, name): raise RuntimeError("outside of a request")
    def __call__(self, environ, start_response): pass
module.proxy = Proxy()
module.create_app = lambda: app
assert application.load("decorated:app") is app
assert application.load("decorated:create_app()") is app
assert application.load("decorated:proxy") is module.proxy
try:
    application.load("decorated:create_app")
except application.ApplicationError as error:
    assert "factory" in str(error), error
else:
    sys.exit("a factory was taken for an application")
"#;
    let output =
        Command::new(&*PYTHON).args(["-B", "-c", script]).env("PYTHONPATH", sources()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn processes_and_threads_are_refused_as_in_an_enclave() {
    let script = r#"
import sys
from mse_node import simulated
simulated.refuse_as_an_enclave(8)
import ctypes, multiprocessing, os, platform, subprocess, threading
platform.platform()
def nothing(): pass
process = lambda method: multiprocessing.get_context(method).Process(target=nothing).start()
for start in [os.fork, os.forkpty, lambda: os.system("true"), lambda: subprocess.run(["true"]), lambda: process("fork"),
              lambda: process("spawn"), lambda: os.execv("/bin/true", ["true"]), lambda: os.popen("true"),
              lambda: os.posix_spawn("/bin/true", ["true"], {})]:
    try:
        start()
    except BlockingIOError as error:
        assert "an enclave is one process" in str(error), error
    else:
        sys.exit("started")
assert ctypes.CDLL(None).fork() == -1
end = threading.Event()
try:
    for count in range(8):
        threading.Thread(target=end.wait).start()
except RuntimeError as error:
    assert "sgx.max_threads" in str(error), error
end.set()
assert count == 7, count
"#;
    let output =
        Command::new(&*PYTHON).args(["-B", "-c", script]).env("PYTHONPATH", sources()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
