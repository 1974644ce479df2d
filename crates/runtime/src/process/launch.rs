//! Starts the process of a node whose directory is complete.
//!
//! The environment is the manifest's `loader.env` and nothing else of the caller's, as in an enclave, with
//! `/opt/mse/python` at its place in the unpacked image, and two variables that tell the node where it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use gramine::manifest::Manifest;
use jiff::Timestamp;
use package::native::RECORD;
use package::python::{Interpreter, InterpreterRecord};

use crate::error::Error;
use crate::process::pid::Process;
use crate::process::prepare::{IMAGE, MANIFEST};

/// The log, in the node's directory.
pub(super) const LOG: &str = "log";
/// A log longer than this is begun anew when the node is restarted; the old one is kept as `log.1`.
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

/// The measured home of Python packages.
pub(super) const SITE: &str = "/opt/mse/python";

/// Leads its own session from the first instruction of the node on, so that neither the caller's terminal nor the
/// end of its shell reaches the node; the process id stays the same.
const DETACH: &str = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])";

/// Arguments for an interpreter, before the directories to import from, `--` and the arguments of `mse_node`: what the
/// host has installed or configured for its own Python (site-packages, `.pth` files, `sitecustomize`, `PYTHON*`) stays
/// out, as it does in an image. Output is unbuffered, and no byte code is written.
pub const ISOLATED: [&str; 6] = ["-I", "-S", "-u", "-B", "-c", RUN];

/// `site` is not run, so what it adds to the builtins is added here.
const RUN: &str = "import runpy, site, sys
end = sys.argv.index('--')
sys.path[:0] = sys.argv[1:end]
sys.argv[1:end + 1] = []
site.setquit()
site.setcopyright()
site.sethelper()
del end, site
runpy.run_module('mse_node', run_name='__main__', alter_sys=True)
";

/// Starts it; returns the process and the time.
pub(super) fn launch(directory: &Path, memory: &Path) -> Result<(Process, Timestamp), Error> {
    let interpreter = interpreter(directory)?;
    let interpreter = interpreter.path();
    let manifest_path = directory.join(MANIFEST);
    let manifest = fs::read(&manifest_path).map_err(Error::file("read", &manifest_path))?;
    let manifest = Manifest::parse(&manifest)?;
    let site = directory.join(IMAGE).join(SITE.trim_start_matches('/'));
    let log = open_log(directory)?;
    let errors = log.try_clone().map_err(Error::file("open", &directory.join(LOG)))?;

    let mut command = Command::new(interpreter);
    command
        .args(["-I", "-S", "-c", DETACH])
        .arg(interpreter)
        .args(ISOLATED)
        .arg(&site)
        .arg("--")
        .current_dir(&site)
        .env_clear()
        .envs(manifest.env.iter().map(|(name, value)| (name, rewrite(value, &site))))
        .env("MSE_ROOT", directory)
        .env("MSE_MEMORY", memory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let start = |source| Error::Start { program: interpreter.to_owned(), source };
    let since = Timestamp::now();
    let child = command.spawn().map_err(start)?;
    let process = Process::now(child.id())
        .ok_or_else(|| start(std::io::Error::other("the process ended before it could be looked at")))?;
    Ok((process, since))
}

/// The interpreter that the image asks for, looked for at every start: this machine's may have changed meanwhile.
fn interpreter(directory: &Path) -> Result<Interpreter, Error> {
    let path = directory.join(IMAGE).join(RECORD);
    let json = fs::read(&path).map_err(Error::file("read", &path))?;
    let record: InterpreterRecord = serde_json::from_slice(&json)
        .map_err(|error| Error::Record { path: path.clone(), reason: error.to_string() })?;
    Ok(Interpreter::discover_for(&record)?)
}

fn rewrite(value: &str, site: &Path) -> OsString {
    let mut rewritten = OsString::new();
    for (index, part) in value.split(SITE).enumerate() {
        if index > 0 {
            rewritten.push(site);
        }
        rewritten.push(part);
    }
    rewritten
}

fn open_log(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOG);
    if path.metadata().is_ok_and(|log| log.len() > LONGEST_LOG) {
        fs::rename(&path, directory.join("log.1")).map_err(Error::file("rename", &path))?;
    }
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    writeln!(log, "--- started {}", Timestamp::now()).map_err(Error::file("write", &path))?;
    Ok(log)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_for_its_own_python_stays_out() {
        let site = tempfile::tempdir().unwrap();
        fs::create_dir(site.path().join("mse_node")).unwrap();
        let main = "import sys, mse_node\nprint(sys.argv[1:], sys.path[0], 'sitecustomize' in sys.modules)\n\
                    print([p for p in sys.path if p.endswith('-packages')], exit)\n";
        fs::write(site.path().join("mse_node/__init__.py"), "").unwrap();
        fs::write(site.path().join("mse_node/__main__.py"), main).unwrap();
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("sitecustomize.py"), "print('host')").unwrap();
        let interpreter = Interpreter::discover().unwrap();
        let output = Command::new(interpreter.path())
            .args(ISOLATED)
            .arg(site.path())
            .args(["--", "--dev"])
            .current_dir(host.path())
            .env("PYTHONPATH", host.path())
            .env("PYTHONHOME", "/nowhere")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let site = site.path().display();
        assert!(said.starts_with(&format!("['--dev'] {site} False\n[] Use exit()")), "{said}{errors}");
    }

    #[test]
    fn the_site_directory_is_found_in_the_unpacked_image() {
        let site = Path::new("/n/image/opt/mse/python");
        assert_eq!(rewrite("/opt/mse/python", site), "/n/image/opt/mse/python");
        assert_eq!(rewrite("/lib:/opt/mse/python/x", site), "/lib:/n/image/opt/mse/python/x");
        assert_eq!(rewrite("1", site), "1");
    }
}
