//! What the tests run: the shared object, and a Python environment with the application server and two frameworks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::shared_object;

const REQUIREMENTS: [&str; 3] = ["granian==2.8.7", "flask==3.1.3", "fastapi==0.165.0"];

/// The extension module.
pub static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    shared_object::build(&workspace, target, Path::new(env!("CARGO")))
});

/// The interpreter of the environment.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-python-environment");
    let python = directory.join("bin/python3");
    let stamp = directory.join("complete");
    let complete = REQUIREMENTS.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == complete) && python.exists() {
        return python;
    }
    let host = std::env::var_os("MSE_PYTHON").unwrap_or("python3".into());
    run(Command::new(host).args(["-m", "venv", "--clear"]).arg(&directory));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(REQUIREMENTS));
    std::fs::write(stamp, complete).unwrap();
    python
});

/// The Python sources of the node.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
