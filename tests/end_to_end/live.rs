//! Evidence asked of the node itself: before and after the application starts, and by a user who has one hex string.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::installation::{Installation, free_port, plain_get};

#[test]
fn a_user_needs_one_fingerprint_and_nothing_else() {
    let provider = Installation::new();
    let user = provider.colleague();
    let port = free_port();
    provider.run("home scaffold example", 0);
    provider.run("home package --project example --output packages/", 0);
    let package = "--package packages/package_example_*.tar";
    let fingerprint = provider.run(&format!("home fingerprint {package} --size 1024"), 0);
    let fingerprint = fingerprint.trim();
    assert_eq!(fingerprint.len(), 64, "{fingerprint}");
    provider.run(
        &format!("home spawn --host live.localhost --port {port} --size 1024 {package} --output out/ node"),
        0,
    );

    // While it waits for its secrets, and with the package as with the fingerprint.
    let url = format!("https://live.localhost:{port}");
    let report =
        provider.run(&format!("home verify --live {url} {package} --allow-simulated --output verified/"), 0);
    assert!(report.contains("attested: it ends in this enclave"), "{report}");
    assert!(report.contains("Enclave size: 1024 MB"), "{report}");
    let other = "00".repeat(32);
    provider
        .run(&format!("home verify --live {url} --fingerprint {other} --allow-simulated --output no/"), 3);
    provider.run(&format!("home verify --live {url} --fingerprint {fingerprint} --output no/"), 3);
    assert!(!provider.path("no").exists());

    let again =
        format!("home verify --live {url} {package} --allow-simulated --output verified/ --format json");
    let report: serde_json::Value = serde_json::from_str(&provider.run(&again, 0)).unwrap();
    assert_eq!(report["channel"], "attested: it ends in this enclave");
    assert_eq!(report["platform"], "simulated");

    provider.run("home run node", 0);
    provider.run(
        &format!("home verify --live {url} --fingerprint {fingerprint} --allow-simulated --output again/"),
        0,
    );

    // The user is somebody else: whoever runs the simulation has to hand out its root and a PCCS.
    provider.run("simulator root --output root.pem", 0);
    let mut pccs =
        provider.mse("simulator pccs --listen 127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut pccs_url = String::new();
    BufReader::new(pccs.stdout.take().unwrap()).read_line(&mut pccs_url).unwrap();
    let connect = |fingerprint: &str| {
        format!(
            "connect --fingerprint {fingerprint} --simulated-root root.pem --pccs {} --listen 127.0.0.1:0 {url}",
            pccs_url.trim()
        )
    };
    user.run(&connect(&other), 3);
    let mut door = user.mse(&connect(fingerprint)).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(door.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert_eq!(plain_get(address.trim(), &[]), (200, "Hello world".to_owned()));
    for mut process in [door, pccs] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
