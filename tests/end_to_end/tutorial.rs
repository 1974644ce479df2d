//! The README's tutorial, word for word.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::installation::{Installation, free_port, wait_for};

/// The commands of the tutorial, the way one person types them in one folder.
fn tutorial(encrypt: bool) {
    let person = Installation::new();
    let port = free_port();
    let encryption = if encrypt { "--encrypt" } else { "" };
    let code_key = if encrypt { "--code-key code_provider/package_example_*.key" } else { "" };
    let package = "--package code_provider/package_example_*.tar";

    person.run("home scaffold example", 0);
    person.run("home localtest --project example", 0);
    person.run(&format!("home package --project example {encryption} --output code_provider/"), 0);
    person.run(
        &format!(
            "home spawn --host myapp.fr --port {port} --size 4096 {package} --output sgx_operator/ app_name"
        ),
        0,
    );
    assert!(person.run("home status app_name", 0).contains("waiting for secrets"));
    person.run("home evidence --output sgx_operator/ app_name", 0);

    // A simulated enclave passes for nothing unless the caller says so.
    let evidence = "--evidence sgx_operator/evidence.json --output verified/";
    person.run(&format!("home verify {package} {evidence}"), 3);
    assert!(!person.path("verified/ratls.pem").exists());
    let verified = person.run(&format!("home verify {package} {evidence} --allow-simulated"), 0);
    assert!(verified.contains("SIMULATED"), "{verified}");

    person.run(
        &format!(
            "home seal --secrets example/secrets_to_seal.json {code_key} --cert verified/ratls.pem --output code_provider/"
        ),
        0,
    );
    person.run(
        "home run --sealed-secrets code_provider/secrets_to_seal.json.sealed --secrets example/secrets.json app_name",
        0,
    );
    person.run("home test --test sgx_operator/tests/ --config sgx_operator/mse.toml app_name", 0);

    let fetch = |path: &str| person.fetch("verified/ratls.pem", "myapp.fr", port, path);
    fs::write(person.path("result.enc"), fetch("/result/secrets")).unwrap();
    person.run("home decrypt --aes 00112233445566778899aabbccddeeff --output result.plain result.enc", 0);
    assert_eq!(fs::read(person.path("result.plain")).unwrap(), b"secret message with secrets.json");

    let secrets = fs::read(person.path("example/secrets_to_seal.json")).unwrap();
    let secrets: serde_json::Value = serde_json::from_slice(&secrets).unwrap();
    fs::write(person.path("key.txt"), secrets["result_consumer_key"].as_str().unwrap()).unwrap();
    fs::write(person.path("result2.enc"), fetch("/result/sealed_secrets")).unwrap();
    person.run("home decrypt --key key.txt --output result2.plain result2.enc", 0);
    assert_eq!(fs::read(person.path("result2.plain")).unwrap(), b"secret message with sealed_secrets.json");

    assert!(person.run("home list", 0).contains("app_name"));
    assert!(person.run("home status app_name", 0).contains("running"));
    assert!(!person.run("home logs app_name", 0).is_empty());
    let mut follower = person.mse("home logs -f app_name").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(follower.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty());

    person.run("home stop app_name", 0);
    // The node has ended, and so does who follows its log.
    wait_for("`logs -f` to end with the node", || follower.try_wait().unwrap());
    assert!(person.run("home status app_name", 0).contains("stopped"));
    person.run("home restart app_name", 0);
    assert_eq!(fetch("/"), b"Hello world");
    person.run("home stop --remove app_name", 0);
    assert!(!person.run("home list", 0).contains("app_name"));
}

#[test]
fn with_encrypted_code() {
    tutorial(true);
}

#[test]
fn with_code_in_clear() {
    tutorial(false);
}
