//! The engine under test, an image whose Python is a few lines of Perl, and a runtime in a temporary directory.

use std::io::{Cursor, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use gramine::sigstruct::SignerKey;
use package::Package;
use runtime::docker::{BuildRequest, Engine};
use runtime::{DockerRuntime, Error, NodeName, NodeSpec, NodeSummary, ProcessState, Runtime};
use tempfile::TempDir;
use uuid::Uuid;

/// What every image of these tests starts from.
pub const BASE: &str = "debian:bookworm";

const VECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4");

pub static SIGNER: LazyLock<SignerKey> = LazyLock::new(|| {
    SignerKey::from_pem(&std::fs::read_to_string(format!("{VECTOR}/key.pem")).unwrap()).unwrap()
});

/// In the place of Python: tells what it was given, listens, and answers each peer with a line.
const NODE: &str = r#"#!/usr/bin/perl
use strict; use IO::Socket::INET; use Cwd;
$| = 1;
my ($instance) = do { local $/; open my $file, "<", "/mse/instance.toml" or die "no instance: $!"; <$file> };
my ($host) = $instance =~ /^host = "(.*)"/m;
my ($port) = $instance =~ /^listen = "0\.0\.0\.0:(\d+)"/m or die "no port";
my $asked = 0;
$SIG{TERM} = sub { $asked++; print "asked to end\n"; exit 0 unless $host eq "stubborn.example" };
print "argument $_\n" for @ARGV;
print "in ", getcwd(), "\n";
print "variable $_=$ENV{$_}\n" for sort keys %ENV;
open my $mounts, "<", "/proc/self/mounts"; print "mount $_" for <$mounts>;
open my $status, "<", "/proc/self/status"; print "status $_" for grep { /^(Cap|NoNewPrivs|Seccomp)/ } <$status>;
for my $path ("/usr/bin/mark", "/mark") {
    print open(my $file, ">", $path) ? "wrote $path\n" : "refused $path: $!\n";
}
for my $path ("/mse/state/mark", "/tmp/mark", "/dev/shm/mark", "/root/mark", "/key/mark", "/mse-app/mark", "/mse/state/simulation/installation/inner/key") {
    print open(my $file, ">>", $path) ? "wrote $path\n" : "refused $path: $!\n";
}
open my $starts, ">>", "/mse/state/starts"; print $starts "x"; close $starts;
open $starts, "<", "/mse/state/starts"; print "starts ", <$starts>, "\n";
print "from the image\n" if -e "/mse/from-the-image";
die "something went wrong" if $host eq "dies.example";
if ($host eq "binary.example") {
    open my $bytes, "<:raw", "/opt/mse/python/bytes"; binmode STDOUT; local $/; print <$bytes>, "\n";
}
print STDERR "a warning\n";
my $listener = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $port, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
print "ready\n";
while (1) { my $peer = $listener->accept or next; print $peer "hello from $host\n"; close $peer }
"#;

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

/// As little as Perl needs.
const DOCKERFILE: &str = r#"
FROM debian:bookworm AS full
FROM scratch
COPY --from=full /usr/bin/perl /usr/bin/perl
COPY --from=full /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/lib/x86_64-linux-gnu/libm.so.6 /usr/lib/x86_64-linux-gnu/libcrypt.so.1 /usr/lib/x86_64-linux-gnu/
COPY --from=full /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 /lib64/ld-linux-x86-64.so.2
COPY --from=full /usr/lib/x86_64-linux-gnu/perl-base /usr/lib/x86_64-linux-gnu/perl-base
COPY python3 /usr/bin/python3
COPY _node.abi3.so /opt/mse/python/mse_node/_node.abi3.so
COPY bytes /opt/mse/python/bytes
COPY mark /mse/from-the-image
ENV EVIL=1 LD_PRELOAD=/evil.so
USER 12345
ENTRYPOINT ["/evil"]
VOLUME /evil
EXPOSE 1
HEALTHCHECK CMD ["/evil"]
LABEL mse=evil mse.home=evil
"#;

/// In the place of Gramine's loader without an enclave: tells what it was given and what it may do.
const LOADER: &str = r#"#!/usr/bin/perl
use strict; use Cwd;
$| = 1;
$SIG{TERM} = sub { print "asked to end\n"; exit 0 };
print "program $0\n";
print "argument $_\n" for @ARGV;
print "in ", getcwd(), "\n";
print "variable $_=$ENV{$_}\n" for sort keys %ENV;
# personality(ADDR_NO_RANDOMIZE), unshare(CLONE_NEWUSER), ptrace(PTRACE_TRACEME) and mount(): numbers of x86-64.
print "personality ", syscall(135, 0x0040000), "\n";
print "unshare ", syscall(272, 0x10000000), "\n";
print "ptrace ", syscall(101, 0, 0, 0, 0), "\n";
print "mount ", syscall(165, 0, 0, 0, 0, 0), "\n";
print "clone3 ", syscall(435, 0, 0), " ", $! + 0, "\n";
open my $one, "<", "node.manifest" or die; open my $other, "<", "node.manifest.sgx" or die;
{ local $/; print "manifests differ\n" if <$one> ne <$other>; }
print "ready\n";
select undef, undef, undef, 0.1 while 1;
"#;

const GRAMINE: &str = r#"
COPY loader /gramine/direct/loader
COPY loader /gramine/sgx/loader
COPY _node.abi3.so /gramine/direct/libpal.so
COPY _node.abi3.so /gramine/sgx/libpal.so
COPY _node.abi3.so /gramine/libsysdb.so
COPY _node.abi3.so /gramine/runtime/glibc/ld-linux-x86-64.so.2
"#;

/// The engine, unless the tests that need one are to be skipped.
pub fn engine() -> Option<Engine> {
    if std::env::var_os("MSE_TEST_DOCKER").is_none() {
        eprintln!("skipped: MSE_TEST_DOCKER is not set");
        return None;
    }
    let engine = Engine::connect().unwrap();
    engine.version().unwrap();
    assert!(engine.has_image(BASE).unwrap(), "the tests need the image {BASE}");
    Some(engine)
}

/// An image that goes with the test.
pub struct Image(pub String);

impl Image {
    pub fn named(test: &str) -> Image {
        Image(format!("mse-test-{test}:{}", std::process::id()))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Engine::connect().and_then(|engine| engine.remove_image(&self.0));
    }
}

/// The saved image that all packages of these tests carry.
static SAVED: LazyLock<Vec<u8>> = LazyLock::new(|| saved("node", DOCKERFILE));

/// The same with something where Gramine would be.
pub static WITH_GRAMINE: LazyLock<Vec<u8>> =
    LazyLock::new(|| saved("gramine", &format!("{DOCKERFILE}{GRAMINE}")));

fn saved(name: &str, dockerfile: &str) -> Vec<u8> {
    let engine = Engine::connect().unwrap();
    let image = Image::named(name);
    let library = std::fs::read(format!("{VECTOR}/libpal.so")).unwrap();
    let context = tar(&[
        ("Dockerfile", dockerfile.as_bytes()),
        ("loader", LOADER.as_bytes()),
        ("python3", NODE.as_bytes()),
        ("_node.abi3.so", &library),
        ("bytes", &Random::bytes(200_000)),
        ("mark", b"mark"),
    ]);
    let request = BuildRequest { tag: &image.0, dockerfile: "Dockerfile", ..BuildRequest::default() };
    engine.build(&request, |out| send(out, &context), &mut |_| ()).unwrap();
    let mut saved = Vec::new();
    engine.save(&image.0, &mut saved).unwrap();
    saved
}

pub fn send(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes).map_err(|source| Error::Stream { action: "send".into(), source })
}

/// A package that carries that image. Each test has a code archive of its own, and so an image of its own name.
pub fn package(test: &str) -> Package {
    package_of(test, &SAVED)
}

pub fn package_of(test: &str, image: &[u8]) -> Package {
    let app = format!("app = '{test} {}'\n", std::process::id());
    let package = tar(&[
        ("app.tar", &tar(&[("app.py", app.as_bytes())])),
        ("image.tar", image),
        ("mse.toml", CONFIG.as_bytes()),
        ("tests.tar", &tar(&[("test_app.py", b"def test(): pass\n")])),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), package).unwrap();
    Package::open(file.path()).unwrap()
}

/// The name of a package's image in the engine.
pub fn image_of(package: &Package) -> String {
    format!("mse-node:{}", &hex::encode(package.sha256())[..32])
}

/// A runtime whose nodes, containers and volumes end with it.
pub struct World {
    pub state: TempDir,
    pub simulator: TempDir,
    pub runtime: DockerRuntime,
    pub engine: Engine,
    pub package: Package,
}

impl World {
    pub fn new(test: &str, engine: Engine) -> World {
        World::of(package(test), engine)
    }

    pub fn of(package: Package, engine: Engine) -> World {
        let state = tempfile::tempdir().unwrap();
        let simulator = tempfile::tempdir().unwrap();
        std::fs::create_dir(simulator.path().join("inner")).unwrap();
        std::fs::write(simulator.path().join("inner/key"), "key").unwrap();
        let runtime = DockerRuntime::with_engine(state.path(), engine.clone()).unwrap();
        World { state, simulator, runtime, engine, package }
    }

    pub fn spec<'a>(&'a self, name: &'a NodeName, listen: SocketAddr) -> NodeSpec<'a> {
        NodeSpec {
            name,
            package: &self.package,
            size_mb: 1024,
            host: "myapp.fr",
            other_hosts: &[],
            listen,
            days: 30,
            subject: "CN=myapp.fr",
            app_id: Uuid::new_v4(),
            signer: &SIGNER,
            simulator: Some(self.simulator.path()),
            debug: false,
            now: "2026-05-06T07:08:09Z".parse().unwrap(),
        }
    }

    /// A node that has said "ready".
    pub fn ready(&self, name: &NodeName) -> NodeSummary {
        let summary = self.runtime.spawn(&self.spec(name, free_address())).unwrap();
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

    pub fn bytes(&self, name: &NodeName) -> Vec<u8> {
        let mut log = Vec::new();
        self.runtime.logs(name, false, &mut log).unwrap();
        log
    }

    pub fn log(&self, name: &NodeName) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    pub fn pid(&self, name: &NodeName) -> u32 {
        match self.runtime.status(name).unwrap() {
            ProcessState::Alive { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// What is in the runtime's directory, but for the id.
    pub fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.state.path().join("docker")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "home").collect();
        names.sort();
        names
    }

    pub fn home(&self) -> String {
        let path = self.state.path().join("docker/home");
        std::fs::read_to_string(path).unwrap_or_default().trim().trim_matches('"').to_owned()
    }

    /// What the engine has of this runtime: containers and volumes.
    pub fn in_engine(&self) -> Vec<String> {
        let label = format!("label=mse.home={}", self.home());
        let host = self.engine.address();
        let containers =
            docker(&["--host", &host, "ps", "--all", "--filter", &label, "--format", "{{.Names}}"]);
        let volumes = docker(&["--host", &host, "volume", "ls", "--filter", &label, "--format", "{{.Name}}"]);
        let mut all: Vec<_> = containers.lines().map(|name| format!("container {name}")).collect();
        all.extend(volumes.lines().map(|name| format!("volume {name}")));
        all.sort();
        all
    }

    pub fn has_image(&self) -> bool {
        self.engine.has_image(&image_of(&self.package)).unwrap()
    }

    /// That nothing of any node is left anywhere.
    pub fn assert_empty(&self) {
        assert_eq!(self.entries(), [""; 0]);
        assert_eq!(self.in_engine(), [""; 0]);
        assert!(!self.has_image());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for node in self.runtime.list().unwrap_or_default() {
            let _ = self.runtime.stop(&node.name);
            let _ = self.runtime.remove(&node.name);
        }
        let _ = self.engine.remove_image(&image_of(&self.package));
    }
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Below the ports that the kernel hands to outgoing connections, and given to one test only.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 300).unwrap() * 10;
    loop {
        let port = 21_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 3_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// What the engine's own client says; it is an independent witness.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Bytes that no text has: the same in every run.
pub struct Random;

impl Random {
    pub fn bytes(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        };
        (0..length).map(next).collect()
    }
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1);
        builder.append_data(&mut header, path, Cursor::new(content)).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A second engine, which can be stopped without disturbing anybody: its own directories, its own bridge, no rules.
pub struct OwnEngine {
    pub engine: Engine,
    folder: TempDir,
    bridge: String,
    process: Option<std::process::Child>,
}

impl OwnEngine {
    pub fn start() -> OwnEngine {
        let folder = tempfile::tempdir().unwrap();
        let bridge = format!("mse{}", std::process::id());
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        run("ip", &["addr", "add", "10.213.77.1/24", "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        let socket = folder.path().join("engine.sock");
        let engine = Engine::at(&format!("unix://{}", socket.display())).unwrap();
        let mut own = OwnEngine { engine, folder, bridge, process: None };
        own.begin();
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it; what it had before it has again.
    pub fn begin(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let errors = log.try_clone().unwrap();
        let path = |name: &str| self.path(name).display().to_string();
        let arguments = [
            format!("--data-root={}", path("data")),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("pid")),
            format!("--host={}", self.engine.address()),
            format!("--bridge={}", self.bridge),
            "--iptables=false".into(),
            "--ip-masq=false".into(),
        ];
        let child = Command::new("dockerd").args(arguments).stdout(log).stderr(errors).spawn().unwrap();
        self.process = Some(child);
        let began = Instant::now();
        while self.engine.version().is_err() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.process.as_ref().unwrap().id();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Keeps it from doing anything, every thread of it: the signal is on its way when it has been sent.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let tasks = format!("/proc/{}/task", self.process.as_ref().unwrap().id());
        eventually("the engine stands still", || {
            std::fs::read_dir(&tasks).unwrap().map(Result::unwrap).all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                // proc_pid_stat(5): the state follows the name in brackets.
                stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
            })
        });
    }

    /// Stops it, and its containers with it.
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        self.process.take().unwrap().wait().unwrap();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal(rustix::process::Signal::CONT);
            self.stop();
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).status();
        for left in ["exec/netns/default", "data"] {
            let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(self.path(left)).output();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// What stands between a client and an engine, until it is told to break.
pub struct Proxy {
    pub engine: Engine,
    pub broken: Arc<AtomicBool>,
    _folder: TempDir,
}

impl Proxy {
    /// Breaks by itself with the first request which begins with `last`, and does not pass that on.
    pub fn new(last: &'static str) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let state = broken.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut begin = vec![0; 64 * 1024];
                let length = client.read(&mut begin).unwrap_or(0);
                if begin[..length].starts_with(last.as_bytes()) && !last.is_empty() {
                    state.store(true, Ordering::SeqCst);
                }
                if state.load(Ordering::SeqCst) {
                    continue;
                }
                let mut server = UnixStream::connect("/var/run/docker.sock").unwrap();
                server.write_all(&begin[..length]).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut server, &mut client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        let engine = Engine::at(&format!("unix://{}", path.display())).unwrap();
        Proxy { engine, broken, _folder: folder }
    }
}

/// The same engine over TCP, as if it were on another machine.
pub fn far(engine: &Engine) -> Engine {
    let socket = engine.address().strip_prefix("unix://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    Engine::at(&format!("tcp://{address}")).unwrap()
}

/// The first line that a node's port answers with.
pub fn answer(address: SocketAddr) -> Option<String> {
    use std::io::BufRead;
    let stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

/// The capabilities and mounts that a node told of.
pub fn told<'a>(log: &'a str, word: &str) -> Vec<&'a str> {
    log.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
}
