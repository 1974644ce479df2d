//! The README's walk-through, and what else an owner does.

use crate::backend::{self, Backend, Database};
use crate::installation::Installation;

#[test]
fn from_a_scaffold_to_an_app_and_back() {
    backend::on_each_database(walk_through);
}

fn walk_through(database: &Database) {
    let backend = Backend::start_with(database, "", 10);
    let owner = Installation::new();
    owner.run("cloud list", 1);
    let said = owner.run(
        &format!(
            "cloud login https://127.0.0.1:{} --ca {} --token-file {}",
            backend.api_port(),
            backend.data().join("ca.pem").display(),
            backend.data().join("first-token").display()
        ),
        0,
    );
    assert!(said.contains("first use, unconfirmed"), "{said}");

    owner.run("cloud scaffold", 0);
    let refused = owner.talk("cloud scaffold", 2);
    assert!(refused.contains("exists already"), "{refused}");
    let refused = owner.talk("cloud deploy", 3);
    assert!(refused.contains("--allow-simulated"), "{refused}");
    assert!(backend.apps().is_empty(), "nothing is left of a refusal");

    let report = owner.run("cloud deploy --allow-simulated --format json", 0);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let (id, fingerprint) = (report["id"].as_str().unwrap(), report["fingerprint"].as_str().unwrap());
    let domain = format!("{}.apps.localhost", id.replace('-', ""));
    assert_eq!(report["url"], format!("https://{domain}:{}/", backend.router()));
    assert_eq!(report["tls"], "zero-trust");

    let list = owner.run("cloud list", 0);
    assert!(list.contains(id) && list.contains(&domain), "{list}");
    let status = owner.run(&format!("cloud status {id}"), 0);
    assert!(status.contains("State: running") && status.contains("SIMULATED"), "{status}");
    assert!(status.contains("first use, unconfirmed"), "{status}");

    owner.run(&format!("cloud verify {domain} --output verified/"), 3);
    assert!(!owner.path("verified").exists(), "no certificate without a verification");
    let said = owner.talk(&format!("cloud verify {domain} --allow-simulated --output verified/"), 0);
    assert!(said.contains("THE CODE WAS NOT COMPARED"), "{said}");
    owner.run(&format!("cloud context export {id} --public --output context.json"), 0);
    let with_code = format!("cloud verify {domain} --context context.json --code mse_src --allow-simulated");
    let said = owner.talk(&format!("{with_code} --output again/"), 0);
    assert!(!said.contains("NOT COMPARED"), "{said}");
    assert!(said.contains("the word of whoever made that file"), "{said}");
    std::fs::write(owner.path("mse_src/app.py"), "other = 1").unwrap();
    let said = owner.talk(&format!("{with_code} --output no/"), 3);
    assert!(said.contains("not the code that was deployed"), "{said}");
    assert!(!owner.path("no").exists());

    let body = owner.fetch("verified/ratls.pem", &domain, backend.router(), "/");
    assert_eq!(body, b"Hello world");
    owner.run(&format!("cloud test {id}"), 0);
    owner.run(&format!("cloud logs {id}"), 0);

    // Another deployment of the same name replaces the first, and only when told to.
    std::fs::write(owner.path("mse_src/app.py"), APP).unwrap();
    let said = owner.talk("cloud deploy --allow-simulated", 1);
    assert!(said.contains("-y replaces it"), "{said}");
    let again = owner.run("cloud deploy --allow-simulated -y --format json", 0);
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_ne!(again["fingerprint"], fingerprint);
    assert_eq!(backend.apps().len(), 1);
    let said = owner.talk("cloud context list", 0);
    assert!(!said.contains(id), "the first has ended: {said}");

    let id = again["id"].as_str().unwrap();
    owner.run(&format!("cloud stop {id}"), 0);
    assert!(backend.apps().is_empty());
    owner.run(&format!("cloud logs {id}"), 0);
    owner.run("cloud logout", 0);
    owner.run("cloud list", 1);
}

/// Another application with the same routes.
const APP: &str = r#"
from flask import Flask
app = Flask(__name__)

@app.get("/health")
def health():
    return ""

@app.get("/")
def hello():
    return "Hello again"
"#;
