//! The directories of one node, as a runtime makes them, and the node itself as a process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gramine::{SigStruct, SignerKey};
use jiff::Timestamp;
use package::config::{CodeForm, NodeConfig, TlsMode};
use package::instance::{Instance, Simulation};
use platform::simulated::Installation;
use rustix::process::{Pid, Signal, kill_process};
use secrets::code::CodeKey;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::environment::{LIBRARY, PYTHON, sources};

/// Longest wait for anything.
pub const SOON: Duration = Duration::from_secs(60);
pub const APP_ID: &str = "11111111-2222-4333-8444-555555555555";

const SIGNER: &str = include_str!("../../../gramine/tests/vectors/01-defaults-256m-t4/key.pem");

static SIMULATOR: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    Installation::open_or_create(directory.path(), Timestamp::now()).unwrap();
    directory
});

/// One node's directories.
pub struct Stage {
    root: TempDir,
    memory: TempDir,
    pub address: SocketAddr,
    pub config: NodeConfig,
}

impl Stage {
    /// A node for an application of these files, in clear.
    pub fn new(application: &str, files: &[(&str, &str)]) -> Stage {
        let stage = Stage {
            root: tempfile::tempdir().unwrap(),
            memory: tempfile::tempdir_in("/dev/shm").unwrap(),
            address: free_address(),
            config: NodeConfig {
                application: application.into(),
                code: CodeForm::Plain,
                healthcheck: "/health".into(),
                sealed_secrets_required: false,
                tls_mode: TlsMode::RaTls,
            },
        };
        let node = stage.image().join("mse_node");
        fs::create_dir_all(&node).unwrap();
        for entry in fs::read_dir(sources().join("mse_node")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "py") {
                fs::copy(&path, node.join(path.file_name().unwrap())).unwrap();
            }
        }
        std::os::unix::fs::symlink(&*LIBRARY, node.join("_node.abi3.so")).unwrap();
        let code = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(code.path().join(name), content).unwrap();
        }
        let mut archive = Vec::new();
        package::code_archive::write(code.path(), &mut archive).unwrap();
        fs::write(stage.archive(), archive).unwrap();
        stage
    }

    /// Encrypts the code; returns its key in hexadecimal digits.
    pub fn encrypt(&mut self) -> String {
        self.config.code = CodeForm::Encrypted;
        let key = CodeKey::generate().unwrap();
        let plain = fs::read(self.archive()).unwrap();
        let mut encrypted = Vec::new();
        secrets::code::encrypt(&key, plain.as_slice(), &mut encrypted).unwrap();
        fs::write(self.archive(), encrypted).unwrap();
        key.to_hex().to_string()
    }

    fn archive(&self) -> PathBuf {
        self.root.path().join("app.tar")
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("image/opt/mse/python")
    }

    pub fn memory(&self) -> &Path {
        self.memory.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }

    fn prepare(&self) {
        let instance = Instance {
            app_id: APP_ID.parse().unwrap(),
            host: "myapp.fr".into(),
            other_hosts: vec!["config.myapp.fr".into()],
            listen: self.address,
            not_before: "2025-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2035-01-01T00:00:00Z".parse().unwrap(),
            subject: "CN=myapp.fr".into(),
            simulation: Some(Simulation { installation: SIMULATOR.path().into() }),
        };
        let root = self.root.path();
        fs::write(root.join("instance.toml"), instance.to_toml().unwrap()).unwrap();
        fs::create_dir_all(root.join("image/mse")).unwrap();
        let archive = fs::read(self.archive()).unwrap();
        fs::write(root.join("image/mse/app.tar"), &archive).unwrap();
        let manifest = format!(
            "[sgx]\nenclave_size = \"256M\"\nmax_threads = 64\nremote_attestation = \"dcap\"\n\
             trusted_files = [{{ uri = \"file:/mse/app.tar\", sha256 = \"{}\" }}]\n",
            hex::encode(Sha256::digest(&archive))
        );
        let libpal = fs::read(&*LIBRARY).unwrap();
        let signer = SignerKey::from_pem(SIGNER).unwrap();
        let date = "2026-03-01".parse().unwrap();
        let signature = SigStruct::sign(manifest.as_bytes(), &libpal, &signer, date).unwrap();
        fs::write(root.join("node.manifest.sgx"), manifest).unwrap();
        fs::write(root.join("node.sig"), signature.to_bytes()).unwrap();
    }

    /// Starts the node, and waits until it listens.
    pub fn start(&self) -> Node {
        let mut node = self.launch();
        eventually("the node listens", || {
            assert!(node.child.try_wait().unwrap().is_none(), "the node ended: {}", self.log());
            std::net::TcpStream::connect(self.address).is_ok()
        });
        node
    }

    /// Starts the node.
    pub fn launch(&self) -> Node {
        self.prepare();
        let root = self.root.path();
        let log = fs::File::options().append(true).create(true).open(root.join("log")).unwrap();
        let child = Command::new(&*PYTHON)
            .args(["-m", "mse_node"])
            .current_dir(self.image())
            .env_clear()
            .env("PYTHONPATH", self.image())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MSE_NODE_CONFIG", self.config.to_json())
            .env("MSE_ROOT", root)
            .env("MSE_MEMORY", self.memory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Node { child }
    }
}

/// A node's process; killed when dropped.
pub struct Node {
    child: Child,
}

impl Node {
    /// Asks it to stop, and returns how it ended.
    pub fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.ended()
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the node ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback that nobody listens on, and that is not given out twice by this process.
pub fn free_address() -> SocketAddr {
    use std::sync::Mutex;
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if !given.contains(&address.port()) {
            given.push(address.port());
            return address;
        }
    }
}

/// Looks again and again, until it is so or [`SOON`] is over.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
