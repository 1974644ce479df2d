//! A backup that is taken while the backend works, and a backend that starts on it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn program(verb: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mse-cloud"));
    command.args([verb, "--data"]).arg(data).stdin(Stdio::null());
    command
}

fn serve(data: &Path) -> (Child, String) {
    let mut child = program("serve", data)
        .args(["--listen", "127.0.0.1:0", "--router", "127.0.0.1:0", "--log", "error"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    (child, url.trim().to_owned())
}

fn agent(data: &Path) -> ureq::Agent {
    let root = ureq::tls::Certificate::from_pem(&std::fs::read(data.join("ca.pem")).unwrap()).unwrap();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder().tls_config(tls).proxy(None).build().into()
}

fn projects(data: &Path, url: &str, token: &str) -> Vec<String> {
    let mut answer = agent(data)
        .get(format!("{url}/v1/projects?limit=100"))
        .header("authorization", format!("Bearer {token}"))
        .call()
        .unwrap();
    let answer: serde_json::Value =
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|project| project["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn failed(output: &Output, word: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(word), "{said}");
}

#[test]
fn what_was_saved_in_the_midst_of_work_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (data, other) = (directory.path().join("data"), directory.path().join("other"));
    let (mut backend, url) = serve(&data);
    let token = std::fs::read_to_string(data.join("first-token")).unwrap().trim().to_owned();
    let saved = directory.path().join("saved.db");

    let (made, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (made, enough, agent, url, token) =
            (made.clone(), enough.clone(), agent(&data), url, token.clone());
        std::thread::spawn(move || {
            for n in 0.. {
                let answer = agent
                    .post(format!("{url}/v1/projects"))
                    .header("authorization", format!("Bearer {token}"))
                    .header("content-type", "application/json")
                    .send(format!("{{\"name\": \"p{n}\"}}"));
                // There may be so many and no more.
                if answer.is_err() || enough.load(Ordering::SeqCst) {
                    return;
                }
                made.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    while made.load(Ordering::SeqCst) < 5 {
        std::thread::yield_now();
    }
    let before = made.load(Ordering::SeqCst);
    let output = program("backup", &data).arg(&saved).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    enough.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&saved).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    failed(&program("backup", &data).arg(&saved).output().unwrap(), "a new file");
    failed(&program("restore", &data).arg(&saved).output().unwrap(), "another mse-cloud");
    backend.kill().unwrap();
    backend.wait().unwrap();

    // Into a new place, and over what is there.
    for place in [&other, &data] {
        let output = program("restore", place).arg(&saved).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (mut backend, url) = serve(place);
        let found = projects(place, &url, &token);
        assert!(found.len() >= before, "{before} were made before it was saved: {found:?}");
        let expected: Vec<String> = (0..found.len()).map(|n| format!("p{n}")).collect();
        assert_eq!(found, expected, "a whole beginning of what was made");
        backend.kill().unwrap();
        backend.wait().unwrap();
    }
    let kept = std::fs::read_dir(&data)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("mse.db.before-"));
    assert_eq!(kept.count(), 1, "what was there before is kept");
}

#[test]
fn what_is_no_backup_replaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (mut backend, _) = serve(&data);
    backend.kill().unwrap();
    backend.wait().unwrap();
    let whole = std::fs::read(data.join("mse.db")).unwrap();
    let wrong = directory.path().join("wrong.db");
    for content in [&b""[..], b"no database", &whole[..whole.len() / 2]] {
        std::fs::write(&wrong, content).unwrap();
        failed(&program("restore", &data).arg(&wrong).output().unwrap(), "a whole database");
        assert_eq!(std::fs::read(data.join("mse.db")).unwrap(), whole);
    }
    failed(&program("restore", &data).arg(directory.path().join("none")).output().unwrap(), "cannot find");
    failed(
        &program("backup", directory.path()).arg(directory.path().join("b")).output().unwrap(),
        "cannot find",
    );
    let left = std::fs::read_dir(&data)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".mse-backup-"));
    assert_eq!(left.count(), 0, "nothing half-made is left");
}
