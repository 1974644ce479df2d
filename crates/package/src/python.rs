//! The Python interpreters of this machine, and what an image of Python packages needs of one.
//!
//! A natively built image holds packages but no interpreter: the host's runs them, unmeasured, which
//! is why such an image serves in simulation only. The image records what it was built for, and an
//! interpreter that could not load it is refused before anything starts.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The oldest Python that the node's extension module loads into.
pub const OLDEST: (u32, u32) = (3, 10);

/// Names an interpreter to use instead of searching for one.
pub const VARIABLE: &str = "MSE_PYTHON";

/// What an image of Python packages was built for: the content of `interpreter.json` in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpreterRecord {
    /// `cpython`, as `sys.implementation.name` says it.
    pub implementation: String,
    /// Major and minor version: `3.11`.
    pub version: String,
    /// `x86_64`, as the kernel says it.
    pub architecture: String,
    /// `glibc` or `musl`.
    pub libc: String,
    /// In an image, the oldest libc that its shared objects load with (`2.34`); of an interpreter,
    /// the one it runs with. Empty where unknown.
    pub libc_version: String,
}

impl InterpreterRecord {
    /// `cpython 3.11 x86_64 glibc`: everything but the libc's version.
    pub fn target(&self) -> String {
        format!("{} {} {} {}", self.implementation, self.version, self.architecture, self.libc)
    }
}

/// An interpreter of this machine, asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    path: PathBuf,
    record: InterpreterRecord,
}

impl Interpreter {
    /// The interpreter that `MSE_PYTHON` names; else the first usable of `python3`, `python3.14` ...
    /// `python3.10` on `PATH`.
    pub fn discover() -> Result<Self> {
        Self::first(|_| Ok(()))
    }

    /// Like [`Interpreter::discover`], but the first that can load what `record` was built for.
    pub fn discover_for(record: &InterpreterRecord) -> Result<Self> {
        Self::first(|interpreter| interpreter.compatible_with(record))
    }

    fn first(serves: impl Fn(&Interpreter) -> Result<()>) -> Result<Self> {
        if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            let interpreter = Self::at(Path::new(&path))?;
            return serves(&interpreter).map(|()| interpreter);
        }
        let minors = (OLDEST.1..=14).rev().map(|minor| OsString::from(format!("python3.{minor}")));
        let mut refused = None;
        for name in std::iter::once(OsString::from("python3")).chain(minors) {
            // A name that is not on PATH is no reason to stop, and not worth reporting.
            match Self::ask(&name).and_then(|found| serves(&found).map(|()| found)) {
                Ok(interpreter) => return Ok(interpreter),
                Err(Error::Io { .. }) => {}
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::Interpreter {
            expected: format!("CPython {}.{} or later on PATH, or named by {VARIABLE}", OLDEST.0, OLDEST.1),
            found: "none".into(),
        }))
    }

    /// Asks the interpreter at `path` what it is; refuses one that the node cannot run in.
    pub fn at(path: &Path) -> Result<Self> {
        Self::ask(path.as_os_str())
    }

    fn ask(program: &OsStr) -> Result<Self> {
        let path = Path::new(program);
        let output = Command::new(program)
            .args(["-I", "-c", PROBE])
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("run", path))?;
        let answer: Answer = (output.status.success().then_some(output.stdout))
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| Error::Interpreter {
                expected: format!("{} to be a Python interpreter", path.display()),
                found: format!("one that does not answer ({})", output.status),
            })?;
        answer.accept()
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn record(&self) -> &InterpreterRecord {
        &self.record
    }

    /// Refuses an interpreter that cannot load what `record` was built for.
    pub fn compatible_with(&self, record: &InterpreterRecord) -> Result<()> {
        let newer_libc = match (version(&self.record.libc_version), version(&record.libc_version)) {
            (Some(have), Some(need)) => have >= need,
            // Unknown on either side: nothing to compare.
            _ => true,
        };
        if self.record.target() == record.target() && newer_libc {
            return Ok(());
        }
        let libc = |version: &str, word| match version {
            "" => String::new(),
            version => format!(" {version}{word}"),
        };
        Err(Error::Interpreter {
            expected: format!(
                "{}{}, which the package was built for",
                record.target(),
                libc(&record.libc_version, " or later")
            ),
            found: format!(
                "{} ({}{})",
                self.path.display(),
                self.record.target(),
                libc(&self.record.libc_version, "")
            ),
        })
    }
}

/// `2.34` as numbers that compare; `None` for anything else.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What [`PROBE`] prints.
#[derive(Deserialize)]
struct Answer {
    executable: PathBuf,
    version: [u32; 2],
    free_threaded: bool,
    record: InterpreterRecord,
}

impl Answer {
    fn accept(self) -> Result<Interpreter> {
        let [major, minor] = self.version;
        if self.record.implementation == "cpython" && (major, minor) >= OLDEST && !self.free_threaded {
            return Ok(Interpreter { path: self.executable, record: self.record });
        }
        let free = if self.free_threaded { ", free-threaded" } else { "" };
        Err(Error::Interpreter {
            expected: format!("CPython {}.{} or later, not free-threaded", OLDEST.0, OLDEST.1),
            found: format!("{} ({}{free})", self.executable.display(), self.record.target()),
        })
    }
}

/// Runs isolated (`-I`), so that nothing in the current directory or the environment answers instead.
const PROBE: &str = "
import json, os, platform, sys, sysconfig
libc, libc_version = platform.libc_ver()
if 'musl' in (sysconfig.get_config_var('HOST_GNU_TYPE') or ''):
    libc, libc_version = 'musl', ''
print(json.dumps({
    'executable': sys.executable,
    'version': sys.version_info[:2],
    'free_threaded': bool(sysconfig.get_config_var('Py_GIL_DISABLED')),
    'record': {
        'implementation': sys.implementation.name,
        'version': '%d.%d' % sys.version_info[:2],
        'architecture': os.uname().machine,
        'libc': libc or 'unknown',
        'libc_version': libc_version,
    },
}))
";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> InterpreterRecord {
        InterpreterRecord {
            implementation: "cpython".into(),
            version: "3.11".into(),
            architecture: "x86_64".into(),
            libc: "glibc".into(),
            libc_version: "2.34".into(),
        }
    }

    #[test]
    fn this_machine_has_one() {
        let interpreter = Interpreter::discover().unwrap();
        assert!(interpreter.path().is_absolute());
        assert!(interpreter.record().version.starts_with("3."));
        interpreter.compatible_with(interpreter.record()).unwrap();
        assert_eq!(Interpreter::discover_for(interpreter.record()).unwrap(), interpreter);
    }

    #[test]
    fn what_could_not_be_loaded_is_refused() {
        let interpreter = Interpreter { path: "/usr/bin/python3".into(), record: record() };
        interpreter.compatible_with(&record()).unwrap();
        interpreter.compatible_with(&InterpreterRecord { libc_version: "2.9".into(), ..record() }).unwrap();
        interpreter.compatible_with(&InterpreterRecord { libc_version: "".into(), ..record() }).unwrap();
        for other in [
            InterpreterRecord { implementation: "pypy".into(), ..record() },
            InterpreterRecord { version: "3.12".into(), ..record() },
            InterpreterRecord { architecture: "aarch64".into(), ..record() },
            InterpreterRecord { libc: "musl".into(), ..record() },
            InterpreterRecord { libc_version: "2.100".into(), ..record() },
        ] {
            let message = interpreter.compatible_with(&other).unwrap_err().to_string();
            assert!(message.contains(&other.target()), "{message}");
            assert!(message.contains("/usr/bin/python3"), "{message}");
        }
    }

    #[test]
    fn a_program_that_is_no_python_is_refused() {
        assert!(matches!(Interpreter::at(Path::new("/bin/true")), Err(Error::Interpreter { .. })));
        assert!(matches!(Interpreter::at(Path::new("/nonexistent")), Err(Error::Io { .. })));
    }

    #[test]
    fn an_interpreter_too_old_or_free_threaded_is_refused() {
        for (version, free_threaded, accepted) in
            [([3, 11], false, true), ([3, 10], false, true), ([3, 9], false, false), ([3, 13], true, false)]
        {
            let answer = Answer { executable: "/p".into(), version, free_threaded, record: record() };
            assert_eq!(answer.accept().is_ok(), accepted, "{version:?} {free_threaded}");
        }
    }
}
