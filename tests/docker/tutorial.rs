//! The README's tutorial with the container engine.

use std::fs;

use crate::engine::{account, build_ca, container, docker};
use crate::installation::free_port;

#[test]
fn with_encrypted_code() {
    let Some(person) = account() else { return };
    let port = free_port();
    let package = "--package code_provider/package_example_*.tar";
    person.run("home scaffold example", 0);
    person.run(&format!("home localtest --project example {}", build_ca()), 0);
    person.run(
        &format!(
            "home package --project example --encrypt --output code_provider/ --builder docker {}",
            build_ca()
        ),
        0,
    );
    person.run(
        &format!("home spawn --runtime docker --host myapp.fr --port {port} --size 4096 {package} --output sgx_operator/ app_name"),
        0,
    );
    assert!(person.run("home status app_name", 0).contains("waiting for secrets"));
    person.run("home evidence --output sgx_operator/ app_name", 0);
    let evidence = "--evidence sgx_operator/evidence.json --output verified/";
    person.run(&format!("home verify {package} {evidence}"), 3);
    person.run(&format!("home verify {package} {evidence} --allow-simulated"), 0);

    // The fingerprint that the code provider computes is the one in the quote.
    let computed = person.run(&format!("home fingerprint {package} --size 4096 --format json"), 0);
    let judged =
        person.run("quote verify --evidence sgx_operator/evidence.json --allow-simulated --format json", 0);
    let judged: serde_json::Value = serde_json::from_str(&judged).unwrap();
    let mrenclave = judged["measurements"]["mrenclave"].as_str().unwrap();
    assert!(computed.contains(mrenclave), "{mrenclave} in {computed}");

    person.run(
        "home seal --secrets example/secrets_to_seal.json --code-key code_provider/package_example_*.key --cert verified/ratls.pem --output code_provider/",
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

    assert!(person.run("home list", 0).contains("app_name"));
    let status = person.run("home status app_name --format json", 0);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["state"], "running");
    assert_eq!(status["runtime"], "docker");
    assert!(!person.run("home logs app_name", 0).is_empty());

    // Nothing of the decrypted code is on the host's disks: not in the volume, not in the container's layer.
    let id = container("app_name", status["app_id"].as_str().unwrap());
    assert_eq!(docker(&["diff", &id]).lines().filter(|line| line.contains(".py")).count(), 0);

    person.run("home stop app_name", 0);
    assert!(person.run("home status app_name", 0).contains("stopped"));
    person.run("home restart app_name", 0);
    assert_eq!(fetch("/"), b"Hello world");
    person.run("home stop --remove app_name", 0);
    assert!(!person.run("home list", 0).contains("app_name"));
    assert_eq!(
        docker(&[
            "volume",
            "ls",
            "--quiet",
            "--filter",
            &format!("label=mse.app-id={}", status["app_id"].as_str().unwrap())
        ]),
        ""
    );
}
