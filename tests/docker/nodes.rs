//! Nodes in containers: names, ports, ends that nobody asked for, and what the engine is told.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::engine::{account, build_ca, container, docker};
use crate::installation::{Installation, free_port, wait_for};

/// The project's code in clear and no packages of its own: quick to build, and started without secrets.
const APP: &str = r#"
import os, sys

def app(environ, start_response):
    sys.stdout.flush()
    os.write(1, b"\xff\xfe\x00raw " + environ["PATH_INFO"].encode() + b"\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"up"]
"#;

/// A package with a container image, built once.
pub fn package(person: &Installation) -> String {
    static PACKAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = PACKAGE.get_or_init(|| {
        let builder = Installation::with_engine();
        project(&builder, "small", "FROM mse-base\n");
        builder.run(&format!("home package --project small --output out {}", build_ca()), 0);
        fs::read(builder.path(&only_package(&builder, "out"))).unwrap()
    });
    fs::write(person.path("small.tar"), bytes).unwrap();
    "small.tar".to_owned()
}

/// A project of one file.
pub fn project(person: &Installation, name: &str, dockerfile: &str) {
    let folder = person.path(name);
    fs::create_dir_all(folder.join("mse_src")).unwrap();
    fs::create_dir_all(folder.join("tests")).unwrap();
    fs::write(folder.join("mse_src/app.py"), APP).unwrap();
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let config = format!(
        "name = \"{name}\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/\"\ntests_cmd = \"true\"\n"
    );
    fs::write(folder.join("mse.toml"), config).unwrap();
}

/// The one package in a folder.
pub fn only_package(person: &Installation, folder: &str) -> String {
    let mut found = fs::read_dir(person.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let name = found.find(|name| Path::new(name).extension().is_some_and(|e| e == "tar")).unwrap();
    format!("{folder}/{}", name.to_str().unwrap())
}

pub fn status(person: &Installation, name: &str) -> Value {
    serde_json::from_str(&person.run(&format!("home status {name} --format json"), 0)).unwrap()
}

fn spawn_line(package: &str, port: u16, name: &str) -> String {
    format!(
        "home spawn --bind 127.0.0.1 --port {port} --size 1024 --package {package} --output at-{name} {name}"
    )
}

#[test]
fn two_apps_at_once_and_one_of_them_killed() {
    let Some(person) = account() else { return };
    let package = package(&person);
    for name in ["one", "two"] {
        person.run(&spawn_line(&package, free_port(), name), 0);
        person.run(&format!("home run {name}"), 0);
    }
    let one = status(&person, "one");
    let id = container("one", one["app_id"].as_str().unwrap());
    docker(&["kill", &id]);
    wait_for("the killed node to be seen", || (status(&person, "one")["state"] != "running").then_some(()));
    assert_eq!(status(&person, "two")["state"], "running");

    // Its state was sealed: it comes back without its owner.
    person.run("home restart one", 0);
    assert_eq!(status(&person, "one")["state"], "running");
    assert_eq!(status(&person, "one")["app_id"], one["app_id"]);
    assert!(person.run("home list", 0).contains("SIMULATED"));
}

#[test]
fn a_name_and_a_port_are_taken_once() {
    let Some(person) = account() else { return };
    let package = package(&person);
    let port = free_port();
    person.run(&spawn_line(&package, port, "first"), 0);
    let said = person.talk(&spawn_line(&package, free_port(), "first"), 1);
    assert!(said.contains("exists already"), "{said}");
    let said = person.talk(&spawn_line(&package, port, "second"), 1);
    assert!(said.contains("in use"), "{said}");
    let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = stranger.local_addr().unwrap().port();
    let said = person.talk(&spawn_line(&package, taken, "third"), 1);
    assert!(said.contains("in use"), "{said}");
    // Whatever was refused left nothing.
    for name in ["name=mse-second-", "name=mse-third-"] {
        assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", name]), "");
        assert_eq!(docker(&["volume", "ls", "--quiet", "--filter", name]), "");
    }
    assert!(!person.run("home list", 0).contains("second"));
    assert_eq!(status(&person, "first")["state"], "waiting-for-secrets");
}

#[test]
fn a_container_has_no_more_than_it_needs() {
    let Some(person) = account() else { return };
    let package = package(&person);
    let port = free_port();
    person.run(&spawn_line(&package, port, "narrow"), 0);
    let id = container("narrow", status(&person, "narrow")["app_id"].as_str().unwrap());
    let told: Value = serde_json::from_str(&docker(&["inspect", &id])).unwrap();
    let host = &told[0]["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Privileged"], false);
    assert!(host["CapAdd"].is_null(), "{}", host["CapAdd"]);
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    let options = host["SecurityOpt"].to_string();
    assert!(options.contains("no-new-privileges"), "{options}");
    assert!(host["PidsLimit"].as_i64().unwrap() > 0);
    assert!(host["Memory"].as_i64().unwrap() >= 1024 << 20);
    let ports = host["PortBindings"].to_string();
    assert!(ports.contains("127.0.0.1") && ports.contains(&port.to_string()), "{ports}");
    for place in ["/key", "/mse-app", "/root", "/tmp"] {
        assert!(host["Tmpfs"][place].is_string(), "{place} lies in memory: {}", host["Tmpfs"]);
    }
    // The engine's own view of its environment holds no secret and nothing of ours that is not measured.
    let environment = told[0]["Config"]["Env"].to_string();
    assert!(environment.contains("MSE_NODE_CONFIG"), "{environment}");
}

#[test]
fn logs_are_bytes() {
    let Some(person) = account() else { return };
    let package = package(&person);
    person.run(&spawn_line(&package, free_port(), "noisy"), 0);
    person.run("home run noisy", 0);
    let raw = b"\xff\xfe\x00raw /";
    wait_for("the application's raw bytes in the log", || {
        let log = person.mse("home logs noisy").output().unwrap().stdout;
        log.windows(raw.len()).any(|window| window == raw).then_some(())
    });
}

#[test]
fn a_debug_enclave_is_refused_by_everybody() {
    let Some(person) = account() else { return };
    let package = package(&person);
    let said = person.talk(&format!("{} --debug-enclave", spawn_line(&package, free_port(), "open")), 0);
    assert!(said.contains("DEBUG"), "{said}");
    person.run(
        &format!(
            "home verify --package {package} --evidence at-open/evidence.json --allow-simulated --output no"
        ),
        3,
    );
    let judged =
        person.run("quote verify --evidence at-open/evidence.json --allow-simulated --format json", 3);
    assert!(judged.contains("quote.debug") || judged.contains("debug"), "{judged}");
    // There is no record to configure it by.
    person.run("home run open", 1);
    person.run("home stop --remove open", 0);
}
