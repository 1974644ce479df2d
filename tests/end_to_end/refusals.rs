//! What `spawn` and `run` refuse, and that nothing is left behind or changed.

use std::fs;
use std::net::TcpListener;

use crate::installation::{Installation, free_port};

#[test]
fn spawn_refuses_before_anything_is_written() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    person.run("home package --project example --output packages/", 0);
    let package = "--package packages/package_example_*.tar --output out/";

    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = person.talk(&format!("home spawn --port {port} --size 1024 {package} one"), 1);
    assert!(said.contains(&port.to_string()), "{said}");
    for size in ["1000", "512", "0", "1025"] {
        person.run(&format!("home spawn --port {} --size {size} {package} one", free_port()), 2);
    }
    person.run(&format!("home spawn --port {} --size 1024 {package} ../one", free_port()), 2);
    fs::write(person.path("broken.tar"), b"no tar at all").unwrap();
    person.run(&format!("home spawn --port {} --package broken.tar --output out/ one", free_port()), 1);
    assert!(!person.path("out").exists());
    assert_eq!(person.run("home list --format json", 0).trim(), "[]");

    // A project of one's own is no place for what spawn writes.
    fs::create_dir_all(person.path("mine/tests")).unwrap();
    fs::write(person.path("mine/tests/test_mine.py"), "mine").unwrap();
    let mine = "--package packages/package_example_*.tar --output mine/";
    let said = person.talk(&format!("home spawn --port {} --size 1024 {mine} one", free_port()), 2);
    assert!(said.contains("mine/tests") && said.contains("hint: "), "{said}");
    assert!(person.path("mine/tests/test_mine.py").exists());
    assert_eq!(person.run("home list --format json", 0).trim(), "[]");

    person.run("home fingerprint --package packages/package_example_*.tar --size 1000", 2);
    person.run("connect --cert out/ratls.pem http://localhost:1", 2);
    let said = person.talk("home status one", 1);
    assert!(said.contains("hint: "), "{said}");

    person.run(&format!("home spawn --port {} --size 1024 {package} one", free_port()), 0);
    let said = person.talk(&format!("home spawn --port {} --size 1024 {package} one", free_port()), 1);
    assert!(said.contains("one"), "{said}");
    assert!(person.run("home status one", 0).contains("waiting for secrets"));
}

#[test]
fn a_refused_configuration_changes_nothing() {
    let person = Installation::new();
    let port = free_port();
    person.run("home scaffold example", 0);
    person.run("home package --project example --encrypt --output packages/", 0);
    let package = "--package packages/package_example_*.tar";
    person.run(
        &format!("home spawn --host a.localhost --port {port} --size 1024 {package} --output out/ one"),
        0,
    );
    person.run(
        &format!("home verify {package} --evidence out/evidence.json --output verified/ --allow-simulated"),
        0,
    );

    // No code key; a wrong one; sealed bytes that are not for this enclave.
    person.run("home run one", 1);
    fs::write(person.path("wrong.key"), "11".repeat(32)).unwrap();
    let said = person.talk("home run --key wrong.key one", 1);
    assert!(!said.contains(&"11".repeat(32)), "a key is in the message: {said}");
    fs::write(person.path("noise.sealed"), vec![7; 3000]).unwrap();
    person.run("home run --sealed-secrets noise.sealed one", 1);
    assert!(person.run("home status one", 0).contains("waiting for secrets"));

    // A restart after a refusal waits again, under the same identity.
    person.run("home restart one", 0);
    assert!(person.run("home status one", 0).contains("waiting for secrets"));

    // Without a record there is no sealing; with one, the file opens the node.
    person.run("home seal --code-key packages/package_example_*.key --cert out/missing.pem --output out/", 1);
    person.run(
        "home seal --code-key packages/package_example_*.key --cert verified/ratls.pem --output out/",
        0,
    );
    let sealed = fs::read_dir(person.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.ends_with(".sealed"))
        .unwrap();
    person.run(&format!("home run --sealed-secrets out/{sealed} one"), 0);
    assert!(person.run("home status one", 0).contains("running"));

    // A second configuration is refused before the application could read it.
    let said = person.talk(&format!("home run --sealed-secrets out/{sealed} one"), 1);
    assert!(said.contains("accepts one only"), "{said}");
    assert!(person.run("home status one", 0).contains("running"));
    // A restart after a good configuration runs without the owner.
    person.run("home restart one", 0);
    assert!(person.run("home status one", 0).contains("running"));
}

#[test]
fn a_node_without_a_record_passes_for_nothing() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    person.run("home package --project example --output packages/", 0);
    let spawn = "home spawn --size 1024 --package packages/package_example_*.tar --output out/";
    person.run(&format!("{spawn} --port {} one", free_port()), 0);
    assert!(person.run("home status one", 0).contains("Platform: SIMULATED"));
    fs::remove_file(person.home().join(".local/state/mse/records/spawned-one.json")).unwrap();
    assert!(person.run("home status one", 0).contains("Platform: unknown"));
    assert!(person.run("home list", 0).contains("NOT VERIFIED HERE"));
}
