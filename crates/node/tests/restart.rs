//! What a restart finds: the identity always, the configuration once one was accepted, and never a crash.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpStream;

use node::Node;
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

/// The names in the directory of the sealed state, but for itself.
fn set_aside(stage: &Stage) -> Vec<String> {
    let directory = stage.places().state.parent().unwrap().to_path_buf();
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "sealed")
        .collect();
    names.sort();
    names
}

fn open_error(stage: &Stage) -> String {
    Node::open(stage.setup()).unwrap_err().to_string()
}

#[test]
fn a_key_that_comes_back_brings_the_owners_state_back() {
    let (mut stage, key) = Stage::encrypted();
    let body = json!({ "uuid": APP_ID, "code_secret_key": *key.to_hex(), "app_secrets": { "a": "b" } });
    let owners = configured(&stage, &body);
    let state = stage.places().state;
    let original = std::fs::read(&state).unwrap();

    // New microcode, and the old one again, twice: each key finds its own state, and none is made anew.
    stage.platform = Readable::new([8; 32]);
    let others = stage.open();
    assert!(!others.is_configured());
    assert_ne!(others.certificate(), owners);
    assert_eq!(set_aside(&stage), ["sealed.unreadable.1"]);
    for _ in 0..2 {
        stage.platform = Readable::new([7; 32]);
        let node = stage.open();
        assert!(node.is_configured());
        assert_eq!(node.certificate(), owners);
        assert_eq!(std::fs::read(&state).unwrap(), original);
        assert_eq!(set_aside(&stage).len(), 1);
        let application = node.prepare().unwrap();
        assert_eq!(std::fs::read(application.module_path.join("app.py")).unwrap(), b"app = None\n");
        stage.platform = Readable::new([8; 32]);
        assert_eq!(stage.open().certificate(), others.certificate());
    }
    assert_eq!(set_aside(&stage).len(), 1);
}

#[test]
fn what_an_older_release_set_aside_is_tried_too() {
    let stage = Stage::plain();
    let owners = configured(&stage, &json!({ "uuid": APP_ID }));
    let state = stage.places().state;
    std::fs::rename(&state, state.with_file_name("sealed.unreadable")).unwrap();
    std::fs::write(&state, b"damaged").unwrap();
    let node = stage.open();
    assert!(node.is_configured());
    assert_eq!(node.certificate(), owners);
    assert_eq!(std::fs::read(state.with_file_name("sealed.unreadable.1")).unwrap(), b"damaged");
}

#[test]
fn the_newest_state_that_opens_is_taken() {
    let stage = Stage::plain();
    let state = stage.places().state;
    let aside = |number: u32| state.with_file_name(format!("sealed.unreadable.{number}"));
    stage.open();
    std::fs::rename(&state, aside(3)).unwrap();
    let newest = Stage::plain();
    let expected = newest.open().certificate().to_vec();
    std::fs::rename(newest.places().state, aside(10)).unwrap();
    std::fs::write(aside(11), b"damaged").unwrap();
    std::fs::create_dir(aside(12)).unwrap();
    std::fs::write(state.with_file_name("sealed.unreadable.x"), b"not ours").unwrap();
    // As after a crash between the two renames: `sealed` is not there.
    assert_eq!(stage.open().certificate(), expected);
    assert!(!aside(10).exists() && aside(3).exists() && aside(11).exists() && aside(12).exists());
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing() {
    let stage = Stage::plain();
    let owners = configured(&stage, &json!({ "uuid": APP_ID }));
    let state = stage.places().state;
    let aside = |number: u32| state.with_file_name(format!("sealed.unreadable.{number}"));
    // Set aside under another key, and killed before the new identity was written.
    std::fs::rename(&state, aside(1)).unwrap();
    assert_eq!(stage.open().certificate(), owners);
    // The other state set aside, and killed before the owner's was renamed.
    std::fs::rename(&state, aside(1)).unwrap();
    std::fs::write(aside(2), b"of the other key").unwrap();
    assert_eq!(stage.open().certificate(), owners);
    assert!(aside(2).exists());
    // A file of a write that was not finished changes nothing.
    std::fs::write(state.with_file_name(".tmpAbCdEf"), b"half").unwrap();
    assert_eq!(stage.open().certificate(), owners);
}

#[test]
fn states_set_aside_are_bounded_and_none_is_deleted() {
    let mut stage = Stage::plain();
    let state = stage.places().state;
    let owners = configured(&stage, &json!({ "uuid": APP_ID }));
    for number in 0..32_u8 {
        stage.platform = Readable::new([100 + number; 32]);
        stage.open();
    }
    assert_eq!(set_aside(&stage).len(), 32);
    let before = stage.snapshot();
    stage.platform = Readable::new([200; 32]);
    let error = open_error(&stage);
    assert!(error.contains("32") && error.contains("move those away"), "{error}");
    assert_eq!(stage.snapshot(), before);
    // Where one opens it takes the place of the other: that needs no room.
    stage.platform = Readable::new([7; 32]);
    assert_eq!(stage.open().certificate(), owners);
    assert_eq!(set_aside(&stage).len(), 32);
    // With room again it goes on.
    std::fs::remove_file(state.with_file_name("sealed.unreadable.2")).unwrap();
    stage.platform = Readable::new([200; 32]);
    assert!(!stage.open().is_configured());
}

#[test]
fn whatever_lies_in_place_of_the_sealed_state_neither_hangs_nor_kills_the_node() {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    type Put = fn(&Path);
    let kinds: [(&str, Put); 8] = [
        ("pipe", |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("directory", |path| {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("x"), "x").unwrap();
        }),
        ("link to a device", |path| symlink("/dev/zero", path).unwrap()),
        ("link to nothing", |path| symlink("nowhere", path).unwrap()),
        ("link to itself", |path| symlink("sealed", path).unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("huge", |path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ];
    for (name, put) in kinds {
        let stage = Stage::plain();
        let state = stage.places().state;
        std::fs::create_dir_all(state.parent().unwrap()).unwrap();
        put(&state);
        let certificate = stage.open().certificate().to_vec();
        assert!(state.symlink_metadata().unwrap().is_file(), "{name}");
        assert_eq!(set_aside(&stage), ["sealed.unreadable.1"], "{name}");
        // Among those set aside it does not matter either.
        std::fs::remove_file(&state).unwrap();
        assert_ne!(stage.open().certificate(), certificate, "{name}");
        assert_eq!(set_aside(&stage), ["sealed.unreadable.1"], "{name}");
    }
}

#[test]
fn a_link_to_the_sealed_state_is_followed_and_lost_with_nothing_behind_it() {
    let stage = Stage::plain();
    let state = stage.places().state;
    let owners = configured(&stage, &json!({ "uuid": APP_ID }));
    let elsewhere = stage.root.path().join("disk");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&state, elsewhere.join("sealed")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("sealed"), &state).unwrap();
    assert_eq!(stage.open().certificate(), owners);
    // The disk is away for one start: the link is kept, and found again.
    std::fs::rename(&elsewhere, stage.root.path().join("away")).unwrap();
    assert_ne!(stage.open().certificate(), owners);
    std::fs::rename(stage.root.path().join("away"), &elsewhere).unwrap();
    std::fs::remove_file(&state).unwrap();
    assert_eq!(stage.open().certificate(), owners);
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
