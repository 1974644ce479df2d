//! How fast bytes pass through, against HAProxy in the same job, in one run: `cargo bench -p mse-router`.
//!
//! Both read the name in the ClientHello and pass the connection to the same node on the loopback; users, node, router
//! and HAProxy share the machine. The jobs take turns and the median counts. What follows the hello is not encrypted,
//! so that the time of encryption, which is the same for both, does not hide the difference. HAProxy is Debian's
//! package `haproxy`; it is not installed here, and without it nothing is measured.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use router::{Entry, Route, Router, Settings, Table};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const NAME: &str = "app.apps.localhost";
const ROUNDS: usize = 5;
/// Length of a request behind the hello: what to do, and with how many bytes.
const REQUEST: usize = 9;

/// What users do.
#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    kind: u8,
    /// Users at once, connections of each, one after the other, and bytes of a connection.
    users: usize,
    connections: usize,
    bytes: u64,
}

const JOBS: [Job; 4] = [
    Job { name: "one download of 2 GiB", kind: b'd', users: 1, connections: 1, bytes: 2 << 30 },
    Job { name: "eight downloads of 256 MiB", kind: b'd', users: 8, connections: 1, bytes: 256 << 20 },
    Job { name: "eight uploads of 256 MiB", kind: b'u', users: 8, connections: 1, bytes: 256 << 20 },
    Job { name: "4000 connections of 1 KiB", kind: b'd', users: 8, connections: 500, bytes: 1 << 10 },
];

fn main() -> Outcome<()> {
    // Built by `cargo test --benches` too, which is not the time to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let hello: Arc<[u8]> = hello()?.into();
    let node = node(hello.len())?;
    let threads = thread::available_parallelism()?.get();
    let Some(haproxy) = Haproxy::start(node, threads)? else {
        println!("skipped: there is no haproxy here (Debian: apt-get install haproxy)");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let router = start(&runtime, node)?;

    println!("{threads} threads each, {ROUNDS} rounds, medians; ratio: router to HAProxy, more is better");
    let mut worst = f64::INFINITY;
    for job in JOBS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(run(job, router, &hello)?);
            theirs.push(run(job, haproxy.address, &hello)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        worst = worst.min(ratio);
        println!("{:<28} router {ours:>10.1?}  haproxy {theirs:>10.1?}  ratio {ratio:.2}", job.name);
    }
    println!("lowest ratio {worst:.2}, expected at least 0.90");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Does a job once, through `through`.
fn run(job: Job, through: SocketAddr, hello: &Arc<[u8]>) -> Outcome<Duration> {
    let began = Instant::now();
    let users: Vec<_> = (0..job.users)
        .map(|_| {
            let hello = hello.clone();
            thread::spawn(move || (0..job.connections).try_for_each(|_| connect(job, through, &hello)))
        })
        .collect();
    for user in users {
        user.join().map_err(|_| "a user panicked")??;
    }
    Ok(began.elapsed())
}

fn connect(job: Job, through: SocketAddr, hello: &[u8]) -> Outcome<()> {
    let mut stream = TcpStream::connect(through)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[hello, &[job.kind], &job.bytes.to_be_bytes()].concat())?;
    if job.kind == b'u' {
        send(&mut stream, job.bytes)?;
        stream.read_exact(&mut [0])?;
        return Ok(());
    }
    take(&mut stream, job.bytes)
}

fn send(stream: &mut TcpStream, mut bytes: u64) -> Outcome<()> {
    let piece = vec![0; 256 << 10];
    while bytes > 0 {
        let length = bytes.min(piece.len() as u64);
        stream.write_all(&piece[..length as usize])?;
        bytes -= length;
    }
    Ok(())
}

fn take(stream: &mut TcpStream, mut bytes: u64) -> Outcome<()> {
    let mut piece = vec![0; 256 << 10];
    while bytes > 0 {
        let length = stream.read(&mut piece)? as u64;
        if length == 0 {
            return Err("a connection ended early".into());
        }
        bytes = bytes.checked_sub(length).ok_or("more came than was asked for")?;
    }
    Ok(())
}

/// A stand-in for a node, which does what the request behind the hello says.
fn node(hello: usize) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, hello));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, hello: usize) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut head = vec![0; hello + REQUEST];
    stream.read_exact(&mut head)?;
    let bytes = u64::from_be_bytes(head[hello + 1..].try_into()?);
    if head[hello] == b'u' {
        take(&mut stream, bytes)?;
        stream.write_all(&[0])?;
        return Ok(());
    }
    send(&mut stream, bytes)
}

/// What a TLS client says first.
fn hello() -> Outcome<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn start(runtime: &tokio::runtime::Runtime, node: SocketAddr) -> Outcome<SocketAddr> {
    let table = Arc::new(Table::new());
    table.insert(Entry {
        name: NAME.parse()?,
        app: "app".to_owned(),
        route: Route::PassThrough { address: node },
    })?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        Router::new(Settings::default(), table).serve(listener, std::future::pending()).await
    });
    Ok(address)
}

/// HAProxy, until this is dropped.
struct Haproxy {
    process: Child,
    configuration: PathBuf,
    address: SocketAddr,
}

impl Haproxy {
    /// With the limits and the patience of the router. `None` where it is not installed.
    fn start(node: SocketAddr, threads: usize) -> Outcome<Option<Haproxy>> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let configuration = std::env::temp_dir().join(format!("mse-router-bench-{}.cfg", std::process::id()));
        std::fs::write(
            &configuration,
            format!(
                "global\n  nbthread {threads}\n  maxconn 8192\n\
                 defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
                 frontend public\n  bind {address}\n  tcp-request inspect-delay 10s\n  \
                 tcp-request content accept if {{ req_ssl_hello_type 1 }}\n  \
                 use_backend app if {{ req_ssl_sni -i {NAME} }}\n\
                 backend app\n  server node {node}\n"
            ),
        )?;
        // Debian puts it where only root looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let started = Command::new("haproxy")
            .env("PATH", path)
            .arg("-db")
            .arg("-f")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_file(&configuration)?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut haproxy = Haproxy { process, configuration, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if haproxy.process.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(30) {
                return Err("haproxy does not start with its configuration".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(haproxy))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It is gone already, or goes now; the file is in the temporary directory anyway.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.configuration);
    }
}
