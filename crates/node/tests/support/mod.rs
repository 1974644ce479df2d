//! A node in this process, on a platform whose quotes are readable, and a client that can misbehave.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use node::configuration::{Limits, Server};
use node::places::Places;
use node::{Node, Setup};
use package::config::{CodeForm, NodeConfig, TlsMode};
use package::instance::Instance;
use platform::{Kind, Platform};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use secrets::code::CodeKey;
use uuid::Uuid;
use zeroize::Zeroizing;

pub const APP_ID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);
pub const MRENCLAVE: [u8; 32] = [0xe5; 32];
pub const SOON: Duration = Duration::from_secs(20);

/// A platform whose "quote" is the report data, so that a test can read what was bound.
pub struct Readable {
    pub sealing_key: [u8; 32],
    /// While true, quotes wait.
    pub held: Mutex<bool>,
    pub released: Condvar,
}

impl Readable {
    pub fn new(sealing_key: [u8; 32]) -> Arc<Readable> {
        Arc::new(Readable { sealing_key, held: Mutex::new(false), released: Condvar::new() })
    }

    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }
}

impl Platform for Readable {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, platform::Error> {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        Ok(report_data.to_vec())
    }

    fn sealing_key(&self) -> Result<Zeroizing<[u8; 32]>, platform::Error> {
        Ok(Zeroizing::new(self.sealing_key))
    }

    fn mrenclave(&self) -> [u8; 32] {
        MRENCLAVE
    }
}

/// The directories of one node, and what it is measured with.
pub struct Stage {
    pub root: tempfile::TempDir,
    pub memory: tempfile::TempDir,
    pub platform: Arc<Readable>,
    pub config: NodeConfig,
    pub app_id: Uuid,
    pub limits: Limits,
}

impl Stage {
    /// A node whose code is in clear.
    pub fn plain() -> Stage {
        let stage = Stage {
            root: tempfile::tempdir().unwrap(),
            memory: tempfile::tempdir_in("/dev/shm").unwrap(),
            platform: Readable::new([7; 32]),
            config: NodeConfig {
                application: "app:app".into(),
                code: CodeForm::Plain,
                healthcheck: "/health".into(),
                sealed_secrets_required: false,
                tls_mode: TlsMode::RaTls,
            },
            app_id: APP_ID,
            limits: Limits::default(),
        };
        std::fs::write(stage.archive(), archive(&[("app.py", b"app = None\n"), ("data/x", &[1; 300_000])]))
            .unwrap();
        stage
    }

    /// A node whose code is encrypted under the returned key.
    pub fn encrypted() -> (Stage, CodeKey) {
        let mut stage = Stage::plain();
        stage.config.code = CodeForm::Encrypted;
        let key = CodeKey::generate().unwrap();
        let plain = std::fs::read(stage.archive()).unwrap();
        let mut encrypted = Vec::new();
        secrets::code::encrypt(&key, plain.as_slice(), &mut encrypted).unwrap();
        std::fs::write(stage.archive(), encrypted).unwrap();
        (stage, key)
    }

    pub fn archive(&self) -> PathBuf {
        self.places().archive
    }

    pub fn places(&self) -> Places {
        Places::process(self.root.path(), self.memory.path())
    }

    pub fn setup(&self) -> Setup {
        let instance = Instance {
            app_id: self.app_id,
            host: "myapp.fr".into(),
            other_hosts: vec!["config.myapp.fr".into()],
            listen: "127.0.0.1:7777".parse().unwrap(),
            not_before: "2025-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2035-01-01T00:00:00Z".parse().unwrap(),
            subject: "CN=myapp.fr".into(),
            simulation: None,
        };
        Setup {
            platform: self.platform.clone(),
            config: self.config.clone(),
            instance,
            places: self.places(),
        }
    }

    pub fn open(&self) -> Arc<Node> {
        Arc::new(Node::open(self.setup()).unwrap())
    }

    pub fn start(&self) -> Running {
        let node = self.open();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::start(node.clone(), listener, self.limits.clone()).unwrap();
        Running { address: server.address(), node, server }
    }

    /// Everything that a refused configuration must leave alone: each file below both directories, with its bytes.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.root.path().to_path_buf(), self.memory.path().to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => files.push((path.clone(), std::fs::read(path).unwrap())),
                }
            }
        }
        files.sort();
        files
    }
}

/// A code archive with these files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let source = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = source.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let mut archive = Vec::new();
    package::code_archive::write(source.path(), &mut archive).unwrap();
    archive
}

pub struct Running {
    pub address: SocketAddr,
    pub node: Arc<Node>,
    pub server: Server,
}

impl Running {
    pub fn client(&self) -> Client {
        Client::connect(self.address, self.node.certificate())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().ask("GET", path, b"")
    }

    pub fn post(&self, body: &serde_json::Value) -> Answer {
        self.client().ask("POST", "/", body.to_string().as_bytes())
    }
}

/// One attested connection.
pub struct Client(pub StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Connects, and shakes hands with nobody but the holder of this certificate's key.
    pub fn connect(address: SocketAddr, certificate: &[u8]) -> Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly(certificate.to_vec(), provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("myapp.fr").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Client(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: myapp.fr\r\nContent-Length: {}\r\n\r\n", body.len());
        // In one piece: a server that answers before the body arrives may close instead of waiting for it.
        self.send(&[head.as_bytes(), body].concat());
        self.answer()
    }

    /// Reads one answer with a `Content-Length`.
    pub fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = vec![0; length];
        self.0.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// Whether the server closed the connection, within [`SOON`].
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of the problem's type.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        json["type"].as_str().unwrap().strip_prefix("urn:mse:problem:").unwrap().to_owned()
    }
}

#[derive(Debug)]
struct Exactly(Vec<u8>, Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        match certificate.as_ref() == self.0 {
            true => Ok(rustls::client::danger::ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("another certificate".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.1.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.1.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// Looks again and again, until it is so or [`SOON`] is over.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
