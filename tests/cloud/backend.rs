//! A backend of a test's own, as its operator runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::installation::{Installation, free_port, wait_for};

const KEY_LOG: &str = "session-keys.log";

/// A backend; its nodes end with it.
pub struct Backend {
    data: TempDir,
    config: String,
    listen: u16,
    router: u16,
    child: Option<Child>,
}

impl Backend {
    /// With what is usual, and a log of the session keys of users whose TLS ends at its public port.
    pub fn start_with_key_log() -> Backend {
        let data = TempDir::new().unwrap();
        let more = format!("[diagnosis]\nkey_log = {:?}\n", data.path().join(KEY_LOG));
        Backend::start_in(data, &more, 10)
    }

    /// With what is usual, and `more` in its `cloud.toml`.
    pub fn start(more: &str) -> Backend {
        Backend::start_in(TempDir::new().unwrap(), more, 10)
    }

    /// On this database, with so many ports for nodes.
    pub fn start_with(database: &Database, more: &str, nodes: u16) -> Backend {
        let url = database.url.as_ref().map_or_else(String::new, |url| format!("database = {url:?}\n"));
        Backend::start_in(TempDir::new().unwrap(), &format!("{url}{more}"), nodes)
    }

    fn start_in(data: TempDir, more: &str, nodes: u16) -> Backend {
        // A range of its own: tests run side by side.
        let first = free_ports(nodes);
        let config = format!("{more}\n[ports]\nfirst = {first}\nlast = {}\n", first + nodes - 1);
        let mut backend = Backend { data, config, listen: free_port(), router: free_port(), child: None };
        backend.run();
        backend
    }

    /// Starts the program; waits until it says where it is.
    pub fn run(&mut self) {
        let program = program();
        let config = self.data().join("cloud.toml");
        fs::write(&config, &self.config).unwrap();
        let log = fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(program);
        if !self.config.contains("runtime = \"docker\"") {
            command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        }
        let mut child = command
            .args(["serve", "--config"])
            .arg(&config)
            // As an operator types it, from where it lies.
            .current_dir(self.data().parent().unwrap())
            .arg("--data")
            .arg(self.data().file_name().unwrap())
            .args(["--listen", &format!("127.0.0.1:{}", self.listen)])
            .args(["--router", &format!("127.0.0.1:{}", self.router)])
            .args(["--log", "info", "--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("https://"), "{url}\n{}", self.log());
        self.child = Some(child);
    }

    /// The same operator comes back with another configuration.
    pub fn reconfigure(&mut self, more: &str) {
        self.kill();
        let ports = self.config.find("[ports]").unwrap();
        self.config.replace_range(..ports, &format!("{more}\n"));
        self.run();
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The operator's directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Where the session keys go, if they do.
    pub fn key_log(&self) -> PathBuf {
        self.data().join(KEY_LOG)
    }

    fn log_file(&self) -> PathBuf {
        self.data().join("log.json")
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(self.log_file()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// The API's port.
    pub fn api_port(&self) -> u16 {
        self.listen
    }

    /// Where the public port is.
    pub fn router(&self) -> u16 {
        self.router
    }

    /// Logs a person in with the first token.
    pub fn login(&self, person: &Installation) {
        self.login_with(person, &self.data().join("first-token"));
    }

    /// Logs a person in with the token in a file.
    pub fn login_with(&self, person: &Installation, token: &Path) {
        person.run(
            &format!(
                "cloud login https://127.0.0.1:{} --ca {} --token-file {}",
                self.listen,
                self.data().join("ca.pem").display(),
                token.display()
            ),
            0,
        );
    }

    /// A request to the API as its first operator; the answer, which must be a success.
    pub fn api(&self, method: &str, path: &str, body: Option<serde_json::Value>) -> serde_json::Value {
        let token = fs::read_to_string(self.data().join("first-token")).unwrap();
        let ca = fs::read(self.data().join("ca.pem")).unwrap();
        let certificate = ureq::tls::Certificate::from_pem(&ca).unwrap();
        let roots = ureq::tls::RootCerts::new_with_certs(&[certificate]);
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)));
        let agent: ureq::Agent = config.build().into();
        let url = format!("https://127.0.0.1:{}{path}", self.listen);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("content-type", "application/json")
            .header("idempotency-key", uuid::Uuid::new_v4().to_string())
            .body(body.map_or_else(Vec::new, |body| body.to_string().into_bytes()))
            .unwrap();
        let mut answer = agent.run(request).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {} {text}", answer.status());
        serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
    }

    /// Another tenant: a user with a token, in a file; the file.
    pub fn tenant(&self, name: &str) -> PathBuf {
        let user = self.api("POST", "/v1/users", Some(serde_json::json!({ "name": name })));
        let id = user["id"].as_str().unwrap();
        let token =
            self.api("POST", &format!("/v1/users/{id}/tokens"), Some(serde_json::json!({ "name": "first" })));
        let path = self.data().join(format!("token-{name}"));
        fs::write(&path, token["token"].as_str().unwrap()).unwrap();
        path
    }

    /// The apps that have not ended, of all projects that the operator sees.
    pub fn apps(&self) -> Vec<serde_json::Value> {
        let projects = self.api("GET", "/v1/projects?limit=100", None);
        let ids = projects["items"].as_array().unwrap().iter().map(|project| project["id"].as_str().unwrap());
        ids.flat_map(|id| {
            let apps = self.api("GET", &format!("/v1/projects/{id}/apps?limit=100"), None);
            apps["items"].as_array().unwrap().clone()
        })
        .collect()
    }

    /// The nodes that the runtime knows, by name.
    pub fn nodes(&self) -> Vec<String> {
        let records = fs::read_dir(self.data().join("runtime/nodes")).unwrap();
        let names = records.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("app-")).collect()
    }

    /// The nodes that really run, whatever the runtime knows of them: a name for each process.
    pub fn processes(&self) -> Vec<String> {
        let nodes = fs::canonicalize(self.data()).unwrap().join("runtime/nodes");
        let prefix = format!("MSE_ROOT={}/", nodes.display());
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        // One that ended meanwhile, or is no process, has none.
        let environments = processes.filter_map(|process| fs::read(process.join("environ")).ok());
        let names = environments.filter_map(|environment| {
            let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            variables.find_map(|variable| variable.strip_prefix(&prefix).map(str::to_owned))
        });
        names.filter(|name| name.starts_with("app-")).collect()
    }

    /// Every file of the operator's, with its content.
    pub fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.data().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file()
                    && let Ok(content) = fs::read(entry.path())
                {
                    files.push((entry.path(), content));
                }
            }
        }
        files
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the backend's log ends with");
            let log = self.log();
            for line in log.lines().rev().take(40).collect::<Vec<_>>().iter().rev() {
                eprintln!("{line}");
            }
        }
        // The nodes outlive the backend, as they should; here they end first.
        if self.child.is_none() {
            self.run();
        }
        if !std::thread::panicking() {
            for app in self.apps() {
                self.api("POST", &format!("/v1/apps/{}/stop", app["id"].as_str().unwrap()), None);
            }
            wait_for("the apps to end", || self.apps().is_empty().then_some(()));
        }
        self.kill();
        end_processes_of(self.data());
    }
}

/// Ends what a failed test left behind.
fn end_processes_of(data: &Path) {
    let text = data.to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&text);
        if (names(&environ) || names(&line))
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// `mse-cloud`, beside `mse`.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_mse")).with_file_name("mse-cloud");
    assert!(program.is_file(), "{} is missing: cargo build --package mse-cloud", program.display());
    program
}

/// A run of ports that no other test is given.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 40).unwrap() * 100;
    let first = 16_000 + (start + NEXT.fetch_add(count, Ordering::Relaxed)) % 9_000;
    first.min(25_999 - count)
}

/// Where a backend keeps what it knows.
pub struct Database {
    /// A PostgreSQL database; none for SQLite in the data directory.
    url: Option<String>,
    server: String,
}

/// Runs a test on SQLite, and on PostgreSQL where `MSE_TEST_POSTGRES` is the URL of a server on which databases may be made
/// with `psql`.
pub fn on_each_database(test: impl Fn(&Database)) {
    test(&Database { url: None, server: String::new() });
    let Ok(server) = std::env::var("MSE_TEST_POSTGRES") else {
        eprintln!("PostgreSQL is skipped: MSE_TEST_POSTGRES is not set");
        return;
    };
    let name = format!("mse_test_{}", uuid::Uuid::new_v4().simple());
    psql(&server, &format!("CREATE DATABASE {name}"));
    let (base, _) = server.rsplit_once('/').unwrap();
    test(&Database { url: Some(format!("{base}/{name}")), server });
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((_, name)) = self.url.as_ref().and_then(|url| url.rsplit_once('/')) {
            psql(&self.server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

fn psql(server: &str, statement: &str) {
    let output = Command::new("psql").args([server, "--quiet", "--command", statement]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
