//! What a restart finds: the identity always, the configuration once one was accepted, and never a crash.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpStream;

use serde_json::json;
use support::{APP_ID, Readable, Running, Stage, mode};
use uuid::Uuid;

fn configured(stage: &Stage, body: &serde_json::Value) -> Vec<u8> {
    let running = stage.start();
    assert_eq!(running.post(body).status, 200);
    running.server.wait().unwrap();
    running.node.certificate().to_vec()
}

/// Asserts that this node waits for a configuration, and takes one.
fn waits(running: &Running) {
    assert!(!running.node.is_configured());
    assert_eq!(running.get("/").header("mse-status"), Some("Waiting"));
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
}

#[test]
fn a_restart_before_any_configuration_keeps_the_identity() {
    let stage = Stage::plain();
    let before = stage.start().node.certificate().to_vec();
    assert_eq!(mode(&stage.places().state), 0o600);
    let running = stage.start();
    assert_eq!(running.node.certificate(), before);
    waits(&running);
}

#[test]
fn a_restart_after_a_refused_configuration_waits_again() {
    let (stage, key) = Stage::encrypted();
    let running = stage.start();
    let before = running.node.certificate().to_vec();
    let wrong = json!({ "uuid": APP_ID, "code_secret_key": "00".repeat(32) });
    assert_eq!(running.post(&wrong).problem(), "wrong-code-key");
    drop(running);
    let running = stage.start();
    assert_eq!(running.node.certificate(), before);
    assert!(!running.node.is_configured());
    let right = json!({ "uuid": APP_ID, "code_secret_key": *key.to_hex() });
    assert_eq!(running.post(&right).status, 200);
}

#[test]
fn a_restart_after_a_good_configuration_needs_no_owner() {
    let (stage, key) = Stage::encrypted();
    let body = json!({ "uuid": APP_ID, "code_secret_key": *key.to_hex(), "app_secrets": { "a": "b" } });
    let before = configured(&stage, &body);
    // The memory-backed directory is gone, as after a reboot.
    for entry in std::fs::read_dir(stage.memory.path()).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let node = stage.open();
    assert!(node.is_configured());
    assert_eq!(node.certificate(), before);
    let application = node.prepare().unwrap();
    assert_eq!(application.application, "app:app");
    assert_eq!(std::fs::read(application.module_path.join("app.py")).unwrap(), b"app = None\n");
    assert_eq!(std::fs::read(stage.places().secrets()).unwrap(), br#"{"a":"b"}"#);
    let tls = node.write_tls_files().unwrap();
    assert!(std::fs::read_to_string(tls.certificate).unwrap().starts_with("-----BEGIN CERTIFICATE"));
    assert!(std::fs::read_to_string(tls.key).unwrap().starts_with("-----BEGIN PRIVATE KEY"));
    assert_eq!(node.configure(body.to_string().as_bytes()).unwrap_err().kind(), "already-configured");
}

#[test]
fn nothing_of_an_earlier_run_survives_in_memory_backed_places() {
    let stage = Stage::plain();
    configured(&stage, &json!({ "uuid": APP_ID, "app_secrets": { "a": 1 } }));
    let places = stage.places();
    std::fs::write(places.module.join("leftover.py"), "").unwrap();
    std::fs::write(places.tls_key(), "").unwrap();
    stage.open().prepare().unwrap();
    assert!(places.module.join("app.py").exists() && !places.module.join("leftover.py").exists());
    assert!(!places.tls_key().exists());
}

#[test]
fn no_secret_is_readable_in_the_sealed_state() {
    let stage = Stage::plain();
    configured(&stage, &json!({ "uuid": APP_ID, "app_secrets": { "password": "correct horse" } }));
    for (path, content) in stage.snapshot() {
        if path.starts_with(stage.root.path()) {
            let text = String::from_utf8_lossy(&content);
            assert!(!text.contains("correct horse") && !text.contains("password"), "{}", path.display());
        }
    }
}

#[test]
fn a_state_that_does_not_open_leads_back_to_the_configuration_server() {
    type Spoil = fn(&mut Stage);
    let spoil: [(&str, Spoil); 6] = [
        ("one bit changed", |stage| {
            let path = stage.places().state;
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut", |stage| {
            let path = stage.places().state;
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("empty", |stage| std::fs::write(stage.places().state, b"").unwrap()),
        ("huge", |stage| std::fs::write(stage.places().state, vec![0; 40 << 20]).unwrap()),
        ("another machine, or other code", |stage| stage.platform = Readable::new([8; 32])),
        ("another instance's", |stage| stage.app_id = Uuid::from_u128(1)),
    ];
    for (name, spoil) in spoil {
        let mut stage = Stage::plain();
        let before = configured(&stage, &json!({ "uuid": APP_ID }));
        spoil(&mut stage);
        let running = stage.start();
        assert!(!running.node.is_configured(), "{name}");
        assert_ne!(running.node.certificate(), before, "{name}: a fresh identity");
        let answer = running.post(&json!({ "uuid": stage.app_id }));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[test]
fn the_listening_socket_is_handed_over_and_never_lost() {
    let stage = Stage::plain();
    let running = stage.start();
    let address = running.address;
    assert_eq!(running.post(&json!({ "uuid": APP_ID })).status, 200);
    let listener = running.server.wait().unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
    // Whoever connects before anybody accepts waits in the backlog.
    let early = TcpStream::connect(address).unwrap();
    listener.set_nonblocking(false).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), early.local_addr().unwrap());
}

#[test]
fn a_stopped_server_gives_no_socket() {
    let stage = Stage::plain();
    let running = stage.start();
    running.server.stop();
    assert!(running.server.wait().is_err());
    drop(running.server);
    assert!(TcpStream::connect(running.address).is_err());
}

#[test]
fn places_on_a_disk_are_refused() {
    let mut stage = Stage::plain();
    // The root directory lies where the tests' temporary files lie; it may be a tmpfs itself.
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    stage.memory = disk;
    let result = stage.places().prepare();
    let in_memory = rustix::fs::statfs(stage.memory.path()).unwrap().f_type as u64 == 0x0102_1994;
    assert_eq!(result.is_ok(), in_memory, "{result:?}");
}
