//! `mse demo`, and what a shell asks of a command.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::{Installation, wait_for};

#[test]
fn the_demo_comes_to_its_end_and_leaves_nothing() {
    let person = Installation::new();
    fs::create_dir(person.path("tmp")).unwrap();
    let output = person.mse("demo").env("TMPDIR", person.path("tmp")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}\n{talk}");
    for expected in [
        "secret message with secrets.json",
        "secret message with sealed_secrets.json",
        "FAIL  quote.mrenclave",
        "SIMULATED",
    ] {
        assert!(told.contains(expected), "no {expected:?} in:\n{told}");
    }
    assert_eq!(fs::read_dir(person.path("tmp")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_nobody() {
    let person = Installation::new();
    let tmp = person.path("tmp");
    fs::create_dir(&tmp).unwrap();
    let log = fs::File::create(person.path("log")).unwrap();
    let mut demo =
        person.mse("demo").env("TMPDIR", &tmp).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    wait_for("the demo to start its first node", || {
        fs::read_to_string(person.path("log")).unwrap().contains("waits for its secrets").then_some(())
    });
    let pid = Pid::from_raw(i32::try_from(demo.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let status = wait_for("the demo to end", || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    assert_eq!(processes_that_know(tmp.to_str().unwrap()), Vec::<String>::new());
}

/// The processes in whose environment a text occurs: all that the demo started, and theirs.
fn processes_that_know(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|process| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(text)
        })
        .map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " "))
        .collect()
}

#[test]
fn completions_and_manual_pages_name_every_verb() {
    let person = Installation::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = person.run(&format!("completions {shell}"), 0);
        assert!(script.contains("scaffold"), "{shell}");
    }
    person.run("man pages", 0);
    let page = fs::read_to_string(person.path("pages/mse-home-spawn.1")).unwrap();
    assert!(page.contains("signer\\-key"), "{page}");
}
