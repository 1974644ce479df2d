//! A person's account for a test: a home of its own, a folder to work in, and `mse` as it was built.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A home and a working folder; whatever was spawned there ends with it.
pub struct Installation {
    home: TempDir,
    work: Rc<TempDir>,
    engine: bool,
}

impl Installation {
    /// Without a container engine, whatever this machine has: everything is built natively and runs as a process.
    pub fn new() -> Self {
        Self { home: TempDir::new().unwrap(), work: Rc::new(TempDir::new().unwrap()), engine: false }
    }

    /// With this machine's container engine, for the tests that need one.
    #[allow(dead_code)]
    pub fn with_engine() -> Self {
        let mut person = Self::new();
        person.engine = true;
        person
    }

    /// Another person, with a home of their own, who finds the same files in the folder.
    pub fn colleague(&self) -> Self {
        Self { home: TempDir::new().unwrap(), work: Rc::clone(&self.work), engine: self.engine }
    }

    /// The folder.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// `mse`, with a line of arguments as typed; a word may hold no blank.
    pub fn mse(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mse"));
        command.args(line.split_whitespace().map(|word| self.expand(word)));
        command.current_dir(self.work());
        command.env("HOME", self.home.path());
        for variable in ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "MSE_DEFAULT_ENV"] {
            command.env_remove(variable);
        }
        if !self.engine {
            command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        }
        // What can be made again is shared between the tests: Python packages are downloaded once.
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command.env("PIP_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("pip"));
        command
    }

    /// One `*` in the last part of a path, as a shell would expand it.
    fn expand(&self, word: &str) -> String {
        let path = Path::new(word);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((start, end)) = name.split_once('*') else { return word.to_owned() };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut names: Vec<String> = fs::read_dir(self.path(folder.to_str().unwrap()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(start) && name.ends_with(end))
            .collect();
        names.sort();
        assert_eq!(names.len(), 1, "{word} should name one file: {names:?}");
        folder.join(&names[0]).to_str().unwrap().to_owned()
    }

    /// Runs a command that must end with `code`; its standard output.
    #[track_caller]
    pub fn run(&self, line: &str, code: i32) -> String {
        let output = self.mse(line).output().unwrap();
        check(line, &output, code);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with `code`; what it said on standard error.
    #[track_caller]
    pub fn talk(&self, line: &str, code: i32) -> String {
        let output = self.mse(line).output().unwrap();
        check(line, &output, code);
        String::from_utf8(output.stderr).unwrap()
    }

    /// GET from an app on loopback, by a client that trusts one certificate only: `curl` as the tutorial has it, or
    /// Python's own client where there is no curl.
    #[track_caller]
    pub fn fetch(&self, certificate: &str, host: &str, port: u16, path: &str) -> Vec<u8> {
        let curl = Command::new("curl")
            .current_dir(self.work())
            .env_remove("CURL_CA_BUNDLE")
            .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .args(["--cacert", certificate])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg(format!("https://{host}:{port}{path}"))
            .output();
        let output = match curl {
            Err(error) if error.kind() == ErrorKind::NotFound => Command::new("python3")
                .current_dir(self.work())
                .args(["-c", PYTHON_GET, certificate, host, &port.to_string(), path])
                .output()
                .unwrap(),
            curl => curl.unwrap(),
        };
        check(&format!("GET {path}"), &output, 0);
        output.stdout
    }
}

/// Certificate, host, port, path: the body on standard output.
const PYTHON_GET: &str = r#"
import http.client, socket, ssl, sys
certificate, host, port, path = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
connection._create_connection = lambda _, *more: socket.create_connection(("127.0.0.1", int(port)), *more)
connection.request("GET", path)
answer = connection.getresponse()
assert answer.status == 200, answer.status
sys.stdout.buffer.write(answer.read())
"#;

/// GET over plain HTTP, through a local door: status and body.
pub fn plain_get(url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .proxy(None);
    let agent: ureq::Agent = config.build().into();
    let request = headers.iter().fold(agent.get(url), |request, (name, value)| request.header(*name, *value));
    let mut answer = request.call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

impl Drop for Installation {
    fn drop(&mut self) {
        let Ok(output) = self.mse("home list --format json").output() else { return };
        let Ok(nodes) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return };
        for node in nodes.as_array().into_iter().flatten() {
            let _ = self.mse(&format!("home stop --remove {}", node["name"].as_str().unwrap_or(""))).output();
        }
    }
}

#[track_caller]
fn check(line: &str, output: &Output, code: i32) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "mse {line}\n--- stdout\n{}\n--- stderr\n{text}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!text.contains("panicked"), "a stack trace from: mse {line}\n{text}");
}

/// A port nobody listens on, and no other test is given. It lies below those that the kernel hands to outgoing
/// connections (ip(7): from 32768 on), one of which could take it while a node restarts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    loop {
        let port = 26_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 6_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `condition` gives a value, for five minutes at the most.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited five minutes for {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
