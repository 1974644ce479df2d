//! The Python interpreters of this machine.
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What an image of Python packages was built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpreterRecord {
    /// `cpython`.
    pub implementation: String,
    /// `3.11`.
    pub version: String,
    /// `x86_64`.
    pub architecture: String,
    /// `glibc` or `musl`.
    pub libc: String,
    /// The least version of that libc which the image's shared objects need: `2.34`.
    pub libc_version: String,
}

/// An interpreter of this machine, asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    path: PathBuf,
    record: InterpreterRecord,
}

impl Interpreter {
    /// The interpreter that `MSE_PYTHON` names; else the first usable of `python3`, `python3.14` ... `python3.10`.
    pub fn discover() -> Result<Self> {
        todo!()
    }
    /// Like [`Interpreter::discover`], but the first that `record` accepts; refuses saying what there is.
    pub fn discover_for(record: &InterpreterRecord) -> Result<Self> {
        let _ = record;
        todo!()
    }
    /// Asks the interpreter at `path` what it is.
    pub fn at(path: &Path) -> Result<Self> {
        let _ = path;
        todo!()
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
        let _ = record;
        todo!()
    }
}
