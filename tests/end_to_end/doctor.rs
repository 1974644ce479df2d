//! `mse doctor`: what it reports has its documented form wherever it runs, and its exit codes say what can run.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::installation::Installation;

const IDS: [&str; 13] = [
    "cpu",
    "epc",
    "kernel",
    "enclave-device",
    "provision-device",
    "aesm",
    "pccs",
    "pccs-answers",
    "docker",
    "groups",
    "python",
    "memory",
    "clock",
];

fn report(output: &[u8]) -> Value {
    serde_json::from_slice(output).unwrap()
}

fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap()
}

#[test]
fn the_report_is_complete_and_consistent() {
    let person = Installation::new();
    let report = report(person.run("doctor --format json", 0).as_bytes());
    let checks = report["checks"].as_array().unwrap();
    let ids: Vec<_> = checks.iter().map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(ids, IDS);
    for check in checks {
        assert!(
            ["ok", "missing", "warning", "unknown"].contains(&check["state"].as_str().unwrap()),
            "{check}"
        );
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check}");
        assert!(!check["meaning"].as_str().unwrap().is_empty(), "{check}");
        if ["missing", "warning"].contains(&check["state"].as_str().unwrap()) {
            assert!(!check["remedy"].as_str().unwrap().is_empty(), "{check}");
        }
    }
    for verdict in [&report["simulated"], &report["sgx"]] {
        let possible = verdict["possible"].as_bool().unwrap();
        assert_eq!(possible, verdict["because"].as_array().unwrap().is_empty(), "{verdict}");
        assert_eq!(possible, !verdict["runtimes"].as_array().unwrap().is_empty(), "{verdict}");
    }
    // The exit code of --require is the verdict.
    let code = if report["sgx"]["possible"] == true { 0 } else { 1 };
    person.run("doctor --require sgx", code);
    person.run("doctor --require simulated", 0);
    person.run("doctor --require tdx", 2);
}

#[test]
fn people_get_a_line_for_each_check_and_two_verdicts() {
    let person = Installation::new();
    let text = person.run("doctor", 0);
    assert!(!text.contains('\u{1b}'), "{text}");
    for id in IDS {
        assert_eq!(text.lines().filter(|line| line.split_whitespace().nth(1) == Some(id)).count(), 1, "{id}");
    }
    assert!(text.lines().any(|line| line.starts_with("simulated: yes (")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("sgx:       ")), "{text}");
}

#[test]
fn a_machine_that_can_run_nothing_fails_and_says_why() {
    let person = Installation::new();
    let mut doctor = person.mse("doctor --format json");
    let output = doctor
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .env("MSE_PYTHON", "/nowhere/python3")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output.stdout);
    assert_eq!(check(&report, "docker")["state"], "missing");
    assert_eq!(check(&report, "python")["state"], "missing");
    assert_eq!(report["simulated"]["possible"], false);
    assert_eq!(report["simulated"]["because"], serde_json::json!(["python", "docker"]));
    assert_eq!(report["sgx"]["possible"], false);
}

#[test]
fn a_pccs_that_answers_is_told_from_one_that_does_not() {
    let person = Installation::new();
    let mut pccs = person.mse("simulator pccs --listen 127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(pccs.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let asked = |url: &str| {
        let output = person.mse(&format!("doctor --format json --pccs {url}")).output().unwrap();
        report(&output.stdout)
    };
    let answering = asked(url.trim());
    pccs.kill().unwrap();
    pccs.wait().unwrap();
    assert_eq!(check(&answering, "pccs")["state"], "ok");
    // The simulator knows its own platform only, and says so.
    assert_eq!(check(&answering, "pccs-answers")["state"], "warning", "{answering}");

    // Its port is closed now.
    let gone = asked(url.trim());
    assert_eq!(check(&gone, "pccs-answers")["state"], "missing", "{gone}");

    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let report = asked(&format!("http://{}", silent.local_addr().unwrap()));
    assert_eq!(check(&report, "pccs-answers")["state"], "missing", "{report}");

    let wrong = asked("ftp://example.org");
    assert_eq!(check(&wrong, "pccs")["state"], "missing", "{wrong}");
    assert_eq!(check(&wrong, "pccs-answers")["state"], "unknown");
}

#[test]
fn the_configuration_is_where_the_variable_says_and_every_verb_reads_it() {
    let person = Installation::new();
    let file = person.path("qcnl.conf");
    let text = "\u{feff}{\"pccs_url\":// a comment\n\"https://127.0.0.1:9/pccs/\", \"use_secure_cert\": false, \"tcb_update_type\": \"early\"}";
    std::fs::write(&file, text).unwrap();
    let doctor = |file: &Path| {
        let output = person.mse("doctor --format json").env("QCNL_CONF_PATH", file).output().unwrap();
        check(&report(&output.stdout), "pccs").clone()
    };
    let found = doctor(&file);
    assert_eq!(found["state"], "ok", "{found}");
    let words = found["found"].as_str().unwrap();
    assert!(
        words.contains("any TLS certificate, TCB update early, from ") && words.ends_with("qcnl.conf"),
        "{words}"
    );

    let nowhere = person.path("none.conf");
    assert_eq!(doctor(&nowhere)["state"], "missing");
    // Nobody listens there; that it is asked is enough.
    let quote = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/quote/platform");
    let verify = |file: &Path| {
        let mut command = person.mse(&format!("quote verify --quote {quote}"));
        let output = command.env("QCNL_CONF_PATH", file).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = verify(&file);
    assert!(
        said.contains("127.0.0.1:9/pccs/sgx/certification/v4/tcb") && said.contains("update=early"),
        "{said}"
    );
    let said = verify(&nowhere);
    assert!(said.contains("QCNL_CONF_PATH names") && said.contains("hint:"), "{said}");
}
