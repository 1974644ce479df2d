//! A backend whose nodes are containers.

use crate::backend::Backend;
use crate::engine::{self, build_ca, container, try_docker};

#[test]
fn an_app_of_a_backend_in_a_container() {
    let Some(owner) = engine::account() else { return };
    let backend = Backend::start("runtime = \"docker\"\n");
    backend.login(&owner);
    owner.run("cloud scaffold shop", 0);
    let deploy = format!("cloud deploy --path shop {} --allow-simulated --format json", build_ca());
    let report: serde_json::Value = serde_json::from_str(&owner.run(&deploy, 0)).unwrap();
    let id = report["id"].as_str().unwrap();
    let container = container("the app", id);
    owner.run("cloud verify shop --allow-simulated --output trusted/", 0);
    let domain = format!("{}.apps.localhost", id.replace('-', ""));
    assert_eq!(owner.fetch("trusted/ratls.pem", &domain, backend.router(), "/"), b"Hello world");
    owner.run("cloud test --path shop shop", 0);

    // The same image once more: only what changed goes up.
    let said = owner.talk(&format!("{deploy} -y"), 0);
    let sent = said.lines().find(|line| line.starts_with("Uploaded")).unwrap();
    let numbers: Vec<f64> = sent.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] * 10.0 < numbers[1], "{sent}");

    owner.run("cloud stop shop", 0);
    assert!(!try_docker(&["inspect", &container]).status.success(), "its container is gone");
}
