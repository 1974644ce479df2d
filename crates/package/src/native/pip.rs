//! Running pip: the one program that the native builder runs.
//!
//! pip's own configuration (indexes, certificates, proxies) comes from the environment and the user's
//! files, as wherever else pip is used; what would change where or what it installs is taken out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::SERVER;
use super::requirements::{Lock, Pin, Requirements};
use crate::python::{Interpreter, version};
use crate::{Error, Result};

/// The oldest pip that can say what it would install (`--report`).
const OLDEST: (u32, u32) = (22, 2);

/// Runs pip as a module, but never a `pip.py` (or `json.py`, ...) that lies in the current directory.
const RUN: &str = "import sys; sys.path = [p for p in sys.path if p]; import runpy; \
                   runpy.run_module('pip', run_name='__main__', alter_sys=True)";

/// Asks for pip's version; its own `--version` would load all of it.
const ASK: &str = "import sys; sys.path = [p for p in sys.path if p]; import importlib.metadata; \
                   print(importlib.metadata.version('pip'))";

/// Lines of pip's output that an error repeats.
const LINES: usize = 30;

/// pip for one interpreter.
#[derive(Debug, Clone)]
pub struct Pip {
    /// The interpreter itself, or that of a virtual environment of it.
    python: PathBuf,
}

impl Pip {
    /// The interpreter's own pip; where it has none, or one too old, that of a virtual environment which
    /// is made in `cache` and kept there.
    pub fn of(interpreter: &Interpreter, cache: &Path) -> Result<Self> {
        let own = Pip { python: interpreter.path().into() };
        if own.serves() {
            return Ok(own);
        }
        let path = interpreter.path().as_os_str().as_encoded_bytes();
        let name = hex::encode(&Sha256::digest(path)[..8]);
        let target = cache.join("pip").join(format!("{}-{name}", interpreter.record().version));
        let kept = Pip { python: target.join("bin/python3") };
        if kept.serves() {
            return Ok(kept);
        }
        let parent = cache.join("pip");
        fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        let made = tempfile::tempdir_in(&parent).map_err(Error::io("create", &parent))?;
        let venv = Pip { python: made.path().join("bin/python3") };
        let mut command = Command::new(interpreter.path());
        run(command.args(["-I", "-m", "venv"]).arg(made.path()), "make a virtual environment for itself")?;
        if !venv.serves() {
            run(&mut venv.command(&["install", "--upgrade", "pip"]), "bring itself up to date")?;
        }
        // Made beside its place and moved there whole; if another process was faster, its one serves.
        let _ = fs::remove_dir_all(&target);
        if fs::rename(made.path(), &target).is_ok() {
            let _ = made.keep();
        }
        Ok(kept)
    }

    fn serves(&self) -> bool {
        let Ok(output) = Command::new(&self.python).args(["-c", ASK]).stdin(Stdio::null()).output() else {
            return false;
        };
        let found = version(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && found.is_some_and(|found| found >= OLDEST)
    }

    /// The interpreter that runs pip.
    pub fn python(&self) -> &Path {
        &self.python
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-c", RUN]).args(arguments).stdin(Stdio::null());
        for variable in
            ["PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_ROOT", "PIP_REPORT", "PIP_DRY_RUN", "PYTHONHOME"]
        {
            command.env_remove(variable);
        }
        command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1").env("PIP_NO_COLOR", "1");
        command
    }

    /// Resolves requirements and the application server into exact versions and hashes.
    pub(super) fn resolve(&self, requirements: &Requirements) -> Result<Vec<Pin>> {
        let own = match requirements.path() {
            Some(path) if requirements.hashed() => self.report(&[], Some(path))?,
            path => return self.report(&[SERVER], path),
        };
        // Hashes for some are demanded for all, and the project cannot know the server's: so the server
        // comes second, and takes of the project's packages what was resolved.
        let mut text = requirement_lines(requirements.options());
        for pin in &own {
            let _ = writeln!(text, "{}=={}", pin.name, pin.version);
        }
        let known = text_file(&text)?;
        let mut pins = own;
        for pin in self.report(&[SERVER], Some(known.path()))? {
            if !pins.iter().any(|known| known.name == pin.name) {
                pins.push(pin);
            }
        }
        Ok(pins)
    }

    /// What pip would install into an empty environment.
    fn report(&self, wanted: &[&str], requirements: Option<&Path>) -> Result<Vec<Pin>> {
        let report = text_file("")?;
        let mut command =
            self.command(&["install", "--dry-run", "--ignore-installed", "--prefer-binary", "--quiet"]);
        command.arg("--report").arg(report.path()).args(wanted);
        if let Some(path) = requirements {
            command.arg("-r").arg(path);
        }
        run(&mut command, "resolve the requirements")?;
        let json = fs::read(report.path()).map_err(Error::io("read", report.path()))?;
        pins(&json)
    }

    /// Installs exactly what the lock says into the empty directory `target`.
    pub(super) fn install(&self, requirements: &Requirements, lock: &Lock, target: &Path) -> Result<()> {
        let file = text_file(&(requirement_lines(requirements.options()) + &lock.to_text()))?;
        let mut command = self.command(&[
            "install",
            "--require-hashes",
            "--no-deps",
            "--no-compile",
            "--no-warn-script-location",
            "--ignore-installed",
            "--quiet",
        ]);
        command.arg("--target").arg(target).arg("-r").arg(file.path());
        // Where a package has to be built first: nothing of this hour in it.
        command.env("SOURCE_DATE_EPOCH", "315532800").env("PYTHONHASHSEED", "0");
        if let Some(directory) = requirements.path().and_then(Path::parent).filter(|d| d.is_dir()) {
            // Options may name directories relative to the requirements file.
            command.current_dir(directory);
        }
        run(&mut command, "install what requirements.lock says")
    }
}

/// A file for pip to read or write, gone when dropped.
fn text_file(text: &str) -> Result<tempfile::NamedTempFile> {
    let directory = std::env::temp_dir();
    let file = tempfile::NamedTempFile::new().map_err(Error::io("create a file in", &directory))?;
    fs::write(file.path(), text).map_err(Error::io("write", file.path()))?;
    Ok(file)
}

fn requirement_lines(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn run(command: &mut Command, action: &'static str) -> Result<()> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(Error::io("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    Err(Error::Pip { action, output: if end.is_empty() { output.status.to_string() } else { end } })
}

/// pip's installation report, version 1, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: Download,
    #[serde(default)]
    is_direct: bool,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Download {
    archive_info: Option<Archive>,
}

#[derive(Deserialize)]
struct Archive {
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    /// The older spelling: `sha256=<digits>`.
    hash: Option<String>,
}

fn pins(report: &[u8]) -> Result<Vec<Pin>> {
    let report: Report = serde_json::from_slice(report).map_err(|e| Error::Pip {
        action: "say what it would install",
        output: format!("its report does not read: {e}"),
    })?;
    (report.install.into_iter())
        .map(|item| {
            let Metadata { name, version } = item.metadata;
            let archive = item.download_info.archive_info.filter(|_| !item.is_direct);
            let sha256 = archive.and_then(|archive| {
                let old = archive.hash.and_then(|hash| hash.strip_prefix("sha256=").map(String::from));
                archive.hashes.get("sha256").cloned().or(old)
            });
            sha256.and_then(|sha256| Pin::new(&name, &version, &sha256)).ok_or_else(|| Error::Requirement {
                place: "what pip resolved".into(),
                requirement: format!("{name}=={version}"),
                expected: "a package with a version, from an index (not a path, an URL or a repository)",
            })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_pins() {
        let digits = "b".repeat(64);
        let item = |info: &str, direct: bool| {
            format!(
                r#"{{"version":"1","install":[{{"metadata":{{"name":"Some.Name","version":"1.2"}},
                "download_info":{{"url":"x",{info}}},"is_direct":{direct},"requested":true}}]}}"#
            )
        };
        let new = format!(r#""archive_info":{{"hashes":{{"sha256":"{digits}"}}}}"#);
        let old = format!(r#""archive_info":{{"hash":"sha256={digits}"}}"#);
        for info in [&new, &old] {
            let found = pins(item(info, false).as_bytes()).unwrap();
            assert_eq!(found, [Pin::new("some-name", "1.2", &digits).unwrap()]);
        }
        for (info, direct) in [
            (new.as_str(), true),
            (r#""vcs_info":{"vcs":"git"}"#, false),
            (r#""dir_info":{}"#, false),
            (r#""archive_info":{}"#, false),
            (r#""archive_info":{"hashes":{"sha256":"short"}}"#, false),
        ] {
            let error = pins(item(info, direct).as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Requirement { .. }), "{info}: {error}");
        }
        assert!(matches!(pins(b"{}"), Err(Error::Pip { .. })));
    }
}
