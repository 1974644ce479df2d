//! The binary as its operator runs it: first start, HTTPS, one at a time, and an end that is none for what is kept.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

struct Backend {
    child: Child,
    url: String,
}

impl Backend {
    fn command(data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mse-cloud"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--router", "127.0.0.1:0"]);
        command.args(["--log-format", "json", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(data: &Path) -> Backend {
        Backend::start_with(Backend::command(data))
    }

    fn start_with(mut command: Command) -> Backend {
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        if url.is_empty() {
            let mut log = String::new();
            child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("{log}");
        }
        Backend { child, url: url.trim().to_owned() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; its log.
    fn end(mut self) -> (bool, String) {
        let deadline = Instant::now() + Duration::from_secs(40);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.success(), log)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that trusts what is in the data directory, and nothing else.
fn ask(backend: &Backend, data: &Path, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let pem = std::fs::read(data.join("ca.pem")).unwrap();
    let root = ureq::tls::Certificate::from_pem(&pem).unwrap();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
        .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", backend.url));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = agent.run(request.body(()).unwrap()).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

#[test]
fn it_starts_from_nothing_and_goes_on_from_what_it_left() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let backend = Backend::start(&data);
    let mode = |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(""), mode("first-token"), mode("signer.pem"), mode("mse.db")),
        (0o700, 0o600, 0o600, 0o600)
    );
    let token = std::fs::read_to_string(data.join("first-token")).unwrap();
    let token = token.trim();

    assert_eq!(ask(&backend, &data, "GET", "/healthz", None), (200, "ok\n".to_owned()));
    assert_eq!(ask(&backend, &data, "GET", "/readyz", None).0, 200);
    assert_eq!(ask(&backend, &data, "GET", "/v1/me", None).0, 401);
    let (status, me) = ask(&backend, &data, "GET", "/v1/me", Some(token));
    assert_eq!(status, 200, "{me}");
    let (_, plans) = ask(&backend, &data, "GET", "/v1/plans", Some(token));
    assert!(plans.contains("\"small\"") && plans.contains("\"large\""), "{plans}");
    let operator = |backend: &Backend| {
        let text = ask(backend, &data, "GET", "/v1/operator", Some(token)).1;
        let mut operator: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Any free port was asked for.
        assert!(operator["router"].take().as_str().unwrap().starts_with("127.0.0.1:"));
        operator
    };
    let before = operator(&backend);

    // There is one at a time.
    let second = Backend::command(&data).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another mse-cloud"), "{second:?}");

    // Killed: the next one goes on with the same.
    backend.signal(Signal::KILL);
    backend.end();
    let backend = Backend::start(&data);
    assert_eq!(ask(&backend, &data, "GET", "/v1/me", Some(token)), (200, me));
    assert_eq!(operator(&backend), before);

    backend.signal(Signal::TERM);
    let (success, log) = backend.end();
    assert!(success, "{log}");
    let secret = &token[8..];
    assert!(!log.contains(secret), "{log}");
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("\"route\":\"/v1/me\""), "{log}");
}

#[test]
fn the_log_holds_no_secret_however_much_it_tells() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut command = Backend::command(&data);
    command.args(["--log", "debug"]);
    let backend = Backend::start_with(command);
    let token = std::fs::read_to_string(data.join("first-token")).unwrap();
    let token = token.trim();
    assert_eq!(ask(&backend, &data, "POST", "/v1/tokens", Some(token)).0, 415);
    assert_eq!(ask(&backend, &data, "GET", &format!("/v1/me?token={token}"), Some(token)).0, 200);
    assert_eq!(ask(&backend, &data, "GET", &format!("/v1/{token}"), Some(token)).0, 404);
    assert_eq!(ask(&backend, &data, "GET", "/v1/me", Some("mse_wrong-and-yet-a-secret")).0, 401);
    backend.signal(Signal::TERM);
    let (success, log) = backend.end();
    assert!(success, "{log}");
    assert!(log.contains("\"level\":\"DEBUG\""), "the test looks at less than it says: {log}");
    for secret in [&token[8..], "wrong-and-yet"] {
        assert!(!log.contains(secret), "{log}");
    }

    // A database that cannot be reached is named without its password.
    let config = directory.path().join("cloud.toml");
    std::fs::write(&config, "database = \"postgres://me:hunter2@127.0.0.1:1/none?connect_timeout=1\"\n")
        .unwrap();
    let mut command = Backend::command(&directory.path().join("other"));
    command.args(["--log", "debug", "--config"]).arg(&config);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the database") && !said.contains("hunter2"), "{said}");
}

/// Who fills the public port would otherwise take the files of the database.
#[test]
fn it_opens_as_many_files_as_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::command(&directory.path().join("data"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 200 && exec \"$0\" \"$@\""]).arg(backend.get_program());
    command.args(backend.get_args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let backend = Backend::start_with(command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", backend.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let (soft, hard) = line.trim().split_once(char::is_whitespace).unwrap();
    assert_eq!(soft, hard.split_whitespace().next().unwrap(), "{line}");
    assert_ne!(soft, "200");
    backend.signal(Signal::TERM);
    assert!(backend.end().0);
}

#[test]
fn what_is_under_way_is_finished_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let backend = Backend::start(&data);
    assert_eq!(ask(&backend, &data, "GET", "/healthz", None).0, 200);
    let started = Instant::now();
    // As `timeout -s INT` does it: to the process, and to its group.
    backend.signal(Signal::INT);
    backend.signal(Signal::INT);
    let (success, log) = backend.end();
    assert!(success, "{log}");
    assert!(started.elapsed() < Duration::from_secs(30));
}
