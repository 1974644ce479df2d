//! The process that opens tenants' packages, through the binary: what it says, and what becomes of one that takes too
//! much or crashes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cloud::reader::{ChildReader, Found, PackageReader, ReaderLimits, Refused, VERB};
use package::config::TlsMode;
use sha2::{Digest, Sha256};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mse-cloud");
const LIBPAL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4/libpal.so");
const CONFIG: &str = "name = \"example\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/health\"\n\
    tests_cmd = \"pytest\"\n";

/// Nobody gives up.
const WAITS: fn() -> bool = || false;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A package with one file of so many zeros beside what it needs: a thousandth of that size.
fn package(directory: &Path, zeros: usize) -> PathBuf {
    let library = fs::read(LIBPAL).unwrap();
    let layer = tar(&[
        ("opt/mse/python/mse_node/__main__.py", b"pass\n".as_slice()),
        ("opt/mse/python/mse_node/_node.abi3.so", &library),
        ("opt/mse/python/zeros", &vec![0; zeros]),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let blob = gzip.finish().unwrap();
    let descriptor = |media: &str, bytes: &[u8]| {
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{media}"),
            "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
    };
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]}})
    .to_string();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar+gzip", &blob)]})
    .to_string();
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor("manifest.v1+json", manifest.as_bytes())]})
        .to_string();
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    let image = tar(&[
        (&name(&blob), &blob),
        (&name(config.as_bytes()), config.as_bytes()),
        (&name(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json", index.as_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
    ]);
    let path = directory.join("package.tar");
    let bytes = tar(&[
        ("app.tar", &tar(&[("app.py", b"app = 1\n")])),
        ("image.tar", &image),
        ("mse.toml", CONFIG.as_bytes()),
        ("tests.tar", &tar(&[("test_app.py", b"def test(): pass\n")])),
    ]);
    fs::write(&path, bytes).unwrap();
    path
}

/// A program that does as it pleases instead.
fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("reader.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn read(program: impl Into<PathBuf>, limits: ReaderLimits, path: &Path) -> Result<Found, Refused> {
    ChildReader::new(program.into(), limits).read(path, 1024, &WAITS)
}

#[test]
fn a_good_package_is_opened_and_a_wrong_one_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = package(directory.path(), 0);
    let limits = ReaderLimits::default();
    assert_eq!(read(PROGRAM, limits, &path), Ok(Found { tls_mode: TlsMode::RaTls }));
    let odd = ChildReader::new(PROGRAM.into(), limits).read(&path, 1000, &WAITS);
    assert!(matches!(odd, Err(Refused::Wrong(reason)) if reason.contains("power of two")));
    fs::write(&path, b"no package").unwrap();
    let Err(Refused::Wrong(reason)) = read(PROGRAM, limits, &path) else { panic!("it is opened") };
    assert!(reason.contains("expected"), "{reason}");
}

#[test]
fn what_takes_too_much_memory_is_refused_and_its_reader_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = package(directory.path(), 0);
    let limits = ReaderLimits { memory_mb: 1, ..ReaderLimits::default() };
    assert_eq!(read(PROGRAM, limits, &path), Err(Refused::Memory { memory_mb: 1 }));
}

#[test]
fn what_takes_too_much_processor_time_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // Two seconds, at least, on whatever machine: it is unpacked once and hashed twice.
    let path = package(directory.path(), 1 << 30);
    assert!(path.metadata().unwrap().len() < 16 << 20);
    let limits = ReaderLimits { seconds: 0, grace_seconds: 600, ..ReaderLimits::default() };
    assert_eq!(read(PROGRAM, limits, &path), Err(Refused::Processor { seconds: 0 }));
}

/// `/proc/self/limits` of the reader itself.
#[test]
fn the_reader_limits_itself_before_it_opens_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = package(directory.path(), 0);
    let ask = |parent: u32| -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg(VERB).args([parent.to_string(), "256".into(), "7".into(), "1024".into()]).arg(&path);
        command.output().unwrap()
    };
    let answered = ask(std::process::id());
    assert!(answered.status.success(), "{answered:?}");
    let said = String::from_utf8(answered.stdout).unwrap();
    assert_eq!(said, r#"{"version":1,"outcome":{"opened":{"tls_mode":"ra-tls"}}}"#);
    // Another process's number: its parent has ended before it could be told.
    let orphan = ask(1);
    assert!(!orphan.status.success() && orphan.stdout.is_empty(), "{orphan:?}");
    // Nobody types this.
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains(VERB));
    assert_eq!(Command::new(PROGRAM).arg(VERB).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_reader_that_crashes_or_says_something_else_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("any");
    fs::write(&path, b"").unwrap();
    let opened = r#"{"version":1,"outcome":{"opened":{"tls_mode":"ra-tls"}}}"#;
    for text in [
        "kill -SEGV $$".to_owned(),
        "kill -ABRT $$".to_owned(),
        "exit 3".to_owned(),
        "exit 0".to_owned(),
        "echo no JSON".to_owned(),
        format!("echo '{}'", opened.replace("1,", "2,")),
        format!("echo '{}'", opened.replace("ra-tls", "other")),
        format!("echo '{opened}'; exit 1"),
        format!("echo '{opened}'; echo '{opened}'"),
        "head -c 10000000 /dev/zero".to_owned(),
        "head -c 10000000 /dev/zero >&2".to_owned(),
    ] {
        let program = script(directory.path(), &text);
        let found = read(program, ReaderLimits::default(), &path);
        assert!(matches!(found, Err(Refused::Crashed { .. })), "{text}: {found:?}");
    }
    let said = script(directory.path(), &format!("echo '{opened}'"));
    assert!(read(said, ReaderLimits::default(), &path).is_ok());
    let gone = read(directory.path().join("nothing"), ReaderLimits::default(), &path);
    assert!(matches!(gone, Err(Refused::Broken(_))), "{gone:?}");
    assert!(!gone.unwrap_err().is_of_package());
}

/// With what it has started, which holds its output open.
#[test]
fn what_takes_too_long_is_ended_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("any");
    fs::write(&path, b"").unwrap();
    let text = format!("sleep 1000 &\necho $! > {0}/child\nwait", directory.path().display());
    let program = script(directory.path(), &text);
    let limits = ReaderLimits { seconds: 0, grace_seconds: 2, ..ReaderLimits::default() };
    assert_eq!(read(&program, limits, &path), Err(Refused::Time { seconds: 2 }));
    let ended = |path: &Path| {
        let child = fs::read_to_string(path).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ended(&directory.path().join("child")) {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }

    // Nobody waits any more.
    let child = directory.path().join("child");
    fs::remove_file(&child).unwrap();
    let gone = || fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n'));
    let reader = ChildReader::new(program, ReaderLimits::default());
    assert_eq!(reader.read(&path, 1024, &gone), Err(Refused::GivenUp));
}
