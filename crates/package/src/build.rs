//! From a project to a package.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::AppConfig;
use crate::native::NodeFiles;
use crate::python::Interpreter;
use crate::{Fingerprint, Result};

/// Where the parts of a project are. [`Project::open`] fills in the usual places; a caller may
/// change any of them.
#[derive(Debug, Clone)]
pub struct Project {
    /// `mse.toml`.
    pub config: PathBuf,
    /// `mse_src/`.
    pub code: PathBuf,
    /// `tests/`.
    pub tests: PathBuf,
    /// `requirements.txt`, if there is one.
    pub requirements: Option<PathBuf>,
    /// `requirements.lock`, written when missing or stale.
    pub lock: PathBuf,
}

impl Project {
    /// The usual places below `dir`, and the configuration they hold.
    pub fn open(dir: &Path) -> Result<(Project, AppConfig)> {
        let _ = dir;
        todo!()
    }
}

/// Where the image comes from.
#[derive(Debug, Clone)]
pub enum Builder<'a> {
    /// The native builder: a Python environment, for the simulation only.
    Native {
        /// The interpreter that the image is built for.
        interpreter: &'a Interpreter,
        /// The node's own files.
        node_files: &'a NodeFiles,
        /// Directory that keeps what was downloaded and installed, for the next time.
        cache: &'a Path,
    },
    /// An image that a container engine built and saved.
    Saved(&'a Path),
}

/// How to build.
pub struct Options<'a> {
    /// Where the image comes from.
    pub builder: Builder<'a>,
    /// Whether to encrypt the code archive.
    pub encrypt: bool,
    /// The directory for the package and the key; made if missing.
    pub output: &'a Path,
    /// The time for the file names.
    pub now: Timestamp,
    /// Called with each step as it begins: "resolving requirements", ...
    pub progress: &'a mut dyn FnMut(&str),
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// `package_<name>_<unix time in ns>.tar`.
    pub package: PathBuf,
    /// `package_<name>_<unix time in ns>.key`, 64 hexadecimal digits, mode 0600; when encrypted.
    pub key: Option<PathBuf>,
    /// SHA-256 of the package.
    pub sha256: [u8; 32],
    /// The fingerprint for each of [`crate::fingerprint::SIZES`] (MiB).
    pub fingerprints: Vec<(u64, Fingerprint)>,
    /// Number and bytes of the files that the enclave trusts.
    pub trusted_files: (usize, u64),
}

/// Makes a package of a project.
pub fn build(project: &Project, options: Options<'_>) -> Result<Built> {
    let _ = (project, options);
    todo!()
}
