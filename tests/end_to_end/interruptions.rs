//! Ctrl-C, and its equals: nothing runs on, and nothing half-made is left.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::{Installation, wait_for};

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

#[test]
fn the_development_server_ends_with_its_command() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    let mut localtest =
        person.mse("home localtest --project example --no-tests").stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(localtest.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let port: u16 = url.trim().trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    interrupt(&localtest);
    let status = localtest.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    wait_for("the port to close", || TcpStream::connect(("127.0.0.1", port)).err());
}

#[test]
fn an_interrupted_package_leaves_nothing() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    // A pip that takes for ever, and says when it began.
    let cache = person.path("cache");
    let slow = person.path("slow");
    fs::create_dir_all(&slow).unwrap();
    fs::write(slow.join("sitecustomize.py"), slow_pip(&person.path("began"))).unwrap();
    let mut package = person
        .mse("home package --project example --output packages/")
        .env("XDG_CACHE_HOME", &cache)
        .env("PYTHONPATH", &slow)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", &slow)
        .spawn()
        .unwrap();
    wait_for("pip", || person.path("began").exists().then_some(()));
    interrupt(&package);
    assert_eq!(package.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(person.path("packages")).unwrap().count(), 0);
    let left: Vec<_> = fs::read_dir(&slow).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sitecustomize.py"]);
}

#[test]
fn a_second_interruption_waits_for_nobody() {
    let person = Installation::new();
    let slow = person.path("slow");
    fs::create_dir_all(&slow).unwrap();
    fs::write(slow.join("sitecustomize.py"), slow_pip(&person.path("began"))).unwrap();
    let mut demo = person
        .mse("demo")
        .env("XDG_CACHE_HOME", person.path("cache"))
        .env("PYTHONPATH", &slow)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("pip", || person.path("began").exists().then_some(()));
    // One of its steps, which does not end when it is asked to.
    let children = format!("/proc/{0}/task/{0}/children", demo.id());
    let step: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let pid = Pid::from_raw(step).unwrap();
    let is_alive = || fs::read_to_string(format!("/proc/{step}/status"));
    kill_process(pid, Signal::STOP).unwrap();
    // Of two signals that have not been delivered the smaller number comes first: the stop must be done.
    wait_for("the step to stand still", || is_alive().unwrap().contains("State:\tT").then_some(()));
    interrupt(&demo);
    wait_for("the step to be asked", || {
        let status = is_alive().unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
        (u64::from_str_radix(pending, 16).unwrap() & 1 << (Signal::TERM.as_raw() - 1) != 0).then_some(())
    });
    // What comes together with the first is no second one; a moment later it is.
    let code = wait_for("its end", || {
        interrupt(&demo);
        demo.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(130));
    assert!(is_alive().is_ok(), "it was not waited for until it could be killed");
    kill_process(pid, Signal::CONT).unwrap();
    wait_for("the step to end", || is_alive().is_err().then_some(()));
}

/// As `timeout -s INT` sends them: to the process, and at once to its group.
#[test]
fn signals_that_come_together_are_one_interruption() {
    let person = Installation::new();
    let slow = person.path("slow");
    fs::create_dir_all(&slow).unwrap();
    fs::write(slow.join("sitecustomize.py"), slow_pip(&person.path("began"))).unwrap();
    let demo = person
        .mse("demo")
        .env("XDG_CACHE_HOME", person.path("cache"))
        .env("PYTHONPATH", &slow)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", &slow)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("pip", || person.path("began").exists().then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", demo.id());
    let step: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    for _ in 0..20 {
        interrupt(&demo);
    }
    let output = demo.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(!said.contains("interrupted again"), "{said}");
    assert!(fs::read_to_string(format!("/proc/{step}/status")).is_err(), "it was not waited for");
    let left: Vec<_> = fs::read_dir(&slow).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sitecustomize.py"]);
}

/// Sleeps where an interpreter is about to run pip, and nowhere else.
fn slow_pip(mark: &std::path::Path) -> String {
    format!(
        "import sys, time\nif 'install' in sys.orig_argv:\n    open({:?}, 'w').close()\n    time.sleep(600)\n",
        mark.to_str().unwrap()
    )
}
