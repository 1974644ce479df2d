//! Runs the tests that a code provider ships, in a Python environment of their own.
//!
//! The environment is a virtual environment in the cache, named after what it holds, so that a second run starts at
//! once. The tests are the code provider's: whoever runs them runs foreign code under their own account.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use package::python::Interpreter;
use sha2::{Digest, Sha256};

use crate::exit::{Advice, Exit, Failure};
use crate::interrupt::Group;
use crate::output::say;
use crate::places;

/// What the tests need to know.
pub struct Run<'a> {
    /// The command, as `mse.toml` has it.
    pub command: &'a str,
    /// Python packages that the tests need.
    pub requirements: &'a [String],
    /// The directory with the tests.
    pub tests: &'a Path,
    /// Where the application answers, with a final slash.
    pub url: &'a str,
    /// `secrets.json`, if the tests are to know it.
    pub secrets: Option<&'a Path>,
    /// The secrets to seal, if the tests are to know them.
    pub sealed_secrets: Option<&'a Path>,
}

impl Run<'_> {
    /// Runs the tests; their output is this command's output.
    pub fn run(&self) -> anyhow::Result<Exit> {
        let tests = absolute(self.tests)?;
        if !tests.is_dir() {
            return Err(Failure::failed(format!("{} is not a directory of tests", tests.display())).into());
        }
        let environment = environment(self.requirements)?;
        let binaries = environment.join("bin");
        let mut path = binaries.clone().into_os_string();
        if let Some(inherited) = std::env::var_os("PATH") {
            path.push(":");
            path.push(inherited);
        }
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", self.command])
            .current_dir(&tests)
            .env("PATH", path)
            .env("VIRTUAL_ENV", &environment)
            .env("PYTHONPATH", tests.parent().unwrap_or(&tests))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TEST_REMOTE_URL", self.url)
            .env_remove("TEST_SECRET_JSON")
            .env_remove("TEST_SEALED_SECRET_JSON")
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(file) = self.secrets {
            command.env("TEST_SECRET_JSON", absolute(file)?);
        }
        if let Some(file) = self.sealed_secrets {
            command.env("TEST_SEALED_SECRET_JSON", absolute(file)?);
        }
        say!("Running the tests: {}", self.command);
        let child = command.spawn().context("cannot start /bin/sh for the tests")?;
        let status = Group::new(child).child().wait().context("cannot wait for the tests")?;
        if status.success() {
            say!("The tests passed.");
            return Ok(Exit::Done);
        }
        say!("The tests failed: {} ended with {status}.", self.command);
        Ok(Exit::TestsFailed)
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

/// A virtual environment that holds `requirements`, made on first use.
fn environment(requirements: &[String]) -> anyhow::Result<PathBuf> {
    let interpreter = Interpreter::discover()?;
    let folder = places::cache()?.join("tests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let named = format!("{}\n{}", interpreter.path().display(), requirements.join("\n"));
    let name = hex::encode(&Sha256::digest(named)[..16]);
    let environment = folder.join(&name);
    let ready = environment.join("ready");

    // Two commands at once make it once; the lock goes with the process, whatever becomes of it.
    let lock =
        File::create(folder.join(format!("{name}.lock"))).context("cannot lock the tests' environment")?;
    lock.lock().context("cannot lock the tests' environment")?;
    if ready.is_file() {
        return Ok(environment);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment)
            .with_context(|| format!("cannot clear {}", environment.display()))?;
    }
    say!("Preparing a Python environment for the tests ...");
    let mut venv = Command::new(interpreter.path());
    venv.args(["-m", "venv"]).arg(&environment);
    step(venv, "python3 -m venv").hint("install Python's venv module (Debian: python3-venv)")?;
    if !requirements.is_empty() {
        let mut pip = Command::new(environment.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--"]).args(requirements);
        step(pip, "pip install").hint("check tests_requirements in mse.toml")?;
    }
    fs::write(&ready, requirements.join("\n")).context("cannot finish the tests' environment")?;
    Ok(environment)
}

fn step(mut command: Command, name: &str) -> anyhow::Result<()> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let status = Group::new(child).child().wait().with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() {
        return Err(Failure::failed(format!("{name} ended with {status}")).into());
    }
    Ok(())
}
