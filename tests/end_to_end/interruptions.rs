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

/// Sleeps where an interpreter is about to run pip, and nowhere else.
fn slow_pip(mark: &std::path::Path) -> String {
    format!(
        "import sys, time\nif 'install' in sys.orig_argv:\n    open({:?}, 'w').close()\n    time.sleep(600)\n",
        mark.to_str().unwrap()
    )
}
