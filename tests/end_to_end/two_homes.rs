//! The code provider and the operator have a home each, and exchange the named files alone.

use std::fs;

use crate::installation::{Installation, free_port};

#[test]
fn the_tutorial_works_between_two_people() {
    let provider = Installation::new();
    let operator = provider.colleague();
    let port = free_port();
    provider.run("home scaffold example", 0);
    provider.run("home package --project example --encrypt --output code_provider/", 0);
    let package = "--package code_provider/package_example_*.tar";
    operator.run(
        &format!(
            "home spawn --host myapp.fr --port {port} --size 1024 {package} --output sgx_operator/ app_name"
        ),
        0,
    );
    operator.run("simulator root --output root.pem", 0);

    // Another installation's enclave is not this installation's: the provider must name that root.
    let evidence = "--evidence sgx_operator/evidence.json --output verified/";
    provider.run(&format!("home verify {package} {evidence} --allow-simulated"), 3);
    provider.run("simulator root --output own-root.pem", 0);
    provider.run(&format!("home verify {package} {evidence} --simulated-root own-root.pem"), 3);
    fs::write(provider.path("no-evidence.json"), "{}").unwrap();
    let report = provider.run(&format!("home verify {package} --evidence no-evidence.json --format json"), 3);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&report).unwrap()["verdict"], "refused");
    assert!(!provider.path("verified/ratls.pem").exists());

    // Freshness: evidence over the provider's nonce, and over no other.
    let nonce = provider.run("home nonce", 0);
    let nonce = nonce.trim();
    operator.run(&format!("home evidence --nonce {nonce} --output sgx_operator/ app_name"), 0);
    let other = "ff0102030405060708090a0b0c0d0e0f";
    provider.run(&format!("home verify {package} {evidence} --simulated-root root.pem --nonce {other}"), 3);
    assert!(!provider.path("verified/ratls.pem").exists());
    // An age is met by a nonce that this verifier issued; the other person's home has issued none.
    fs::write(provider.path("fresh.toml"), "max_evidence_age = \"1h\"\n").unwrap();
    let verify = format!("home verify {package} {evidence} --simulated-root root.pem --policy fresh.toml");
    operator.run(&format!("{verify} --nonce {nonce}"), 3);
    provider.run(&verify, 3);
    provider.run(&format!("{verify} --nonce {nonce}"), 0);

    // The operator's own record does not let anybody seal, and sealing wants the provider's.
    let seal =
        "home seal --secrets example/secrets_to_seal.json --code-key code_provider/package_example_*.key";
    operator.run(&format!("{seal} --cert verified/ratls.pem --output stolen/"), 3);
    assert!(!operator.path("stolen").exists());
    provider.run(&format!("{seal} --cert verified/ratls.pem --output code_provider/"), 0);
    operator.run("home run --sealed-secrets code_provider/secrets_to_seal.json.sealed app_name", 0);
    assert_eq!(provider.fetch("verified/ratls.pem", "myapp.fr", port, "/"), b"Hello world");
}

#[test]
fn a_changed_package_is_refused_by_its_fingerprint() {
    let provider = Installation::new();
    let operator = provider.colleague();
    provider.run("home scaffold example", 0);
    provider.run("home package --project example --output honest/", 0);
    let app = fs::read_to_string(provider.path("example/mse_src/app.py")).unwrap();
    fs::write(provider.path("example/mse_src/app.py"), app.replace("Hello world", "Hello thief")).unwrap();
    operator.run("home package --project example --output changed/", 0);
    let port = free_port();
    operator.run(
        &format!(
            "home spawn --port {port} --size 1024 --package changed/package_example_*.tar --output out/ thief"
        ),
        0,
    );
    operator.run("simulator root --output root.pem", 0);
    let verify =
        "home verify --package honest/package_example_*.tar --evidence out/evidence.json --output verified/";
    let report = provider.run(&format!("{verify} --simulated-root root.pem --format json"), 3);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdict"], "refused");
    let failed: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["result"] == "fail")
        .map(|check| check["id"].as_str().unwrap())
        .collect();
    assert_eq!(failed, ["quote.mrenclave"]);
    assert!(!provider.path("verified").exists());
}
