//! A package whose node is a few lines of Python, and a runtime in temporary directories.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use gramine::sigstruct::SignerKey;
use package::Package;
use package::python::{Interpreter, InterpreterRecord};
use runtime::{NodeName, NodeSpec, ProcessRuntime, ProcessState, Runtime};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

/// Does what its host name says, once it listens and has told what it was given.
const NODE: &str = r#"
import json, os, pathlib, re, signal, socket, sys, time
root, memory = pathlib.Path(os.environ["MSE_ROOT"]), pathlib.Path(os.environ["MSE_MEMORY"])
instance = (root / "instance.toml").read_text()
host = re.search('host = "(.*)"', instance)[1]
address, port = re.search('listen = "(.*):(.*)"', instance).groups()
def end(*_):
    print("asked to end", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
(memory / "code").write_text("decrypted")
starts = root / "state" / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
told = {"env": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0), "pid": os.getpid(), "argv": sys.orig_argv[1:]}
(root / "state" / "told.json").write_text(json.dumps(told))
listener = socket.create_server((address, int(port)))
print("ready", flush=True)
print("a warning", file=sys.stderr, flush=True)
if host == "dies.example":
    sys.exit("something went wrong")
while True:
    time.sleep(0.02)
"#;

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

const VECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4");

pub static SIGNER: LazyLock<SignerKey> = LazyLock::new(|| {
    SignerKey::from_pem(&std::fs::read_to_string(format!("{VECTOR}/key.pem")).unwrap()).unwrap()
});

/// For the interpreter of this machine.
pub static PACKAGE: LazyLock<Package> =
    LazyLock::new(|| package(Some(Interpreter::discover().unwrap().record())));

/// A package for an interpreter; without one it is a container image.
pub fn package(interpreter: Option<&InterpreterRecord>) -> Package {
    let library = std::fs::read(format!("{VECTOR}/libpal.so")).unwrap();
    let record = interpreter.map(|record| serde_json::to_vec(record).unwrap());
    let mut layer = vec![
        ("opt/mse/python/mse_node/__main__.py", NODE.as_bytes()),
        ("opt/mse/python/mse_node/_node.abi3.so", &library),
    ];
    if let Some(record) = &record {
        layer.push(("opt/mse/python/interpreter.json", record));
    }
    layer.sort();
    let package = tar(&[
        ("app.tar", &tar(&[("app.py", b"app = 1\n")])),
        ("image.tar", &image(&tar(&layer))),
        ("mse.toml", CONFIG.as_bytes()),
        ("tests.tar", &tar(&[("test_app.py", b"def test(): pass\n")])),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), package).unwrap();
    Package::open(file.path()).unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder.append_data(&mut header, path, Cursor::new(content)).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI image layout with one layer.
fn image(layer: &[u8]) -> Vec<u8> {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let descriptor = |media: &str, bytes: &[u8]| {
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{media}"),
            "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
    };
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]}})
    .to_string();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar", layer)]})
    .to_string();
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor("manifest.v1+json", manifest.as_bytes())]})
        .to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
    tar(&[
        (&blob(layer), layer),
        (&blob(config.as_bytes()), config.as_bytes()),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json", index.as_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
    ])
}

/// A runtime whose nodes end with it.
pub struct World {
    pub state: TempDir,
    pub memory: TempDir,
    pub runtime: ProcessRuntime,
}

impl World {
    pub fn new() -> World {
        let state = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let base = memory.path().join("mse");
        let runtime = ProcessRuntime::with_memory(state.path(), &[base]).unwrap();
        World { state, memory, runtime }
    }

    /// The runtime as the next command would see it.
    pub fn again(&self) -> ProcessRuntime {
        ProcessRuntime::with_memory(self.state.path(), &[self.memory.path().join("mse")]).unwrap()
    }

    pub fn nodes(&self) -> PathBuf {
        self.state.path().join("nodes")
    }

    /// What is in the runtime's directory, but for its lock.
    pub fn entries(&self) -> Vec<String> {
        names(&self.nodes()).into_iter().filter(|name| name != ".lock").collect()
    }

    pub fn memory_entries(&self) -> Vec<String> {
        names(&self.memory.path().join("mse"))
    }

    pub fn spawn(&self, name: &NodeName) -> Result<runtime::NodeSummary, runtime::Error> {
        self.runtime.spawn(&spec(name, free_address()))
    }

    /// A node that has said "ready".
    pub fn ready(&self, name: &NodeName) -> runtime::NodeSummary {
        let summary = self.spawn(name).unwrap();
        self.wait_for(name, "ready", 1);
        summary
    }

    pub fn wait_for(&self, name: &NodeName, word: &str, times: usize) {
        eventually(word, || {
            let log = self.log(name);
            let found = log.matches(word).count() >= times;
            assert!(found || self.runtime.status(name).unwrap().is_alive(), "{log}");
            found
        });
    }

    pub fn log(&self, name: &NodeName) -> String {
        let mut log = Vec::new();
        self.runtime.logs(name, false, &mut log).unwrap();
        String::from_utf8(log).unwrap()
    }

    pub fn told(&self, name: &NodeName) -> serde_json::Value {
        let path = self.runtime.directory(name).join("state/told.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    pub fn pid(&self, name: &NodeName) -> u32 {
        match self.runtime.status(name).unwrap() {
            ProcessState::Alive { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for node in self.runtime.list().unwrap_or_default() {
            let _ = self.runtime.stop(&node.name);
        }
    }
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub fn spec(name: &NodeName, listen: SocketAddr) -> NodeSpec<'_> {
    NodeSpec {
        name,
        package: &PACKAGE,
        size_mb: 1024,
        host: "myapp.fr",
        other_hosts: &[],
        listen,
        days: 30,
        subject: "CN=myapp.fr",
        app_id: Uuid::from_u128(7),
        signer: &SIGNER,
        simulator: Some(Path::new("/simulator")),
        debug: false,
        now: "2026-05-06T07:08:09Z".parse().unwrap(),
    }
}

/// Below the ports that the kernel hands to outgoing connections (ip(7): from 32768 on), one of which could take it
/// while a node restarts; and given to one test only.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 300).unwrap() * 10;
    loop {
        let port = 17_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 3_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
