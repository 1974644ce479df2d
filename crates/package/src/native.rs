//! The native builder: an image made of Python packages, without a container engine.
//!
//! pip resolves the project's requirements and the application server once, into `requirements.lock`
//! with exact versions and hashes; what is installed comes from that lock only. The result is an OCI
//! layout with one layer, everything below `opt/mse/python`: the node, the server, the application's
//! packages, and a record of the interpreter they were built for. No interpreter, no scripts, no
//! bytecode, no absolute paths: the same lock gives the same bytes.
//!
//! ```text
//! requirements   what the project asks for, and the lock that answers
//! pip            the one program that is run
//! site           what is installed, and what of it is kept
//! ```

mod pip;
mod requirements;
mod site;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::build::Project;
use crate::code_archive::write_file;
use crate::enclave::SITE;
use crate::image::{Content, write_layout};
use crate::python::{Interpreter, InterpreterRecord};
use crate::{Error, Result};

pub use pip::Pip;
pub use requirements::{Lock, Requirements};
pub use site::needed_glibc;

/// The application server, pinned: the node uses private parts of it.
pub const SERVER: &str = "granian==2.8.7";

/// The lock file's name in the project.
pub const LOCK: &str = "requirements.lock";

/// What the image was built for, in the image: an [`InterpreterRecord`] as JSON.
pub const RECORD: &str = "opt/mse/python/interpreter.json";

/// The node's own files, as the CLI carries them: `mse_node/*.py` and `mse_node/_node.abi3.so`.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    /// Path relative to `opt/mse/python`, and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Installs what a project requires, the application server included, into a directory of the cache,
/// and returns that directory: something to put on `PYTHONPATH`. `lock` is read, or written if it is
/// missing or answers other requirements. `progress` is told each step that takes time.
pub fn install(
    requirements: Option<&Path>,
    lock: &Path,
    interpreter: &Interpreter,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    let requirements = Requirements::read(requirements)?;
    let inputs = requirements.digest(interpreter.record());
    let mut pip = None;
    let lock = match Lock::read(lock)?.filter(|lock| lock.inputs() == inputs) {
        Some(lock) => lock,
        None => {
            progress("resolving requirements");
            let pins = pip.insert(Pip::of(interpreter, cache)?).resolve(&requirements)?;
            let resolved = Lock::new(inputs, interpreter.record().target(), pins);
            resolved.write(lock)?;
            resolved
        }
    };
    let site = cache.join("site").join(site_key(&lock));
    if site.is_dir() {
        return Ok(site);
    }
    progress("installing requirements");
    let pip = match pip {
        Some(pip) => pip,
        None => Pip::of(interpreter, cache)?,
    };
    site::install(&pip, &requirements, &lock, &site)?;
    Ok(site)
}

/// The files of an installed `site`, by their paths from there on.
pub(crate) fn installed(site: &Path) -> Result<Vec<String>> {
    Ok(site::list(site)?.into_keys().collect())
}

/// An installed project to run on this machine: what `localtest` serves from.
#[derive(Debug)]
pub struct Site {
    python_path: OsString,
    _node: TempDir,
}

impl Site {
    /// The value for `PYTHONPATH`: the node's files and the project's packages.
    pub fn path(&self) -> &OsStr {
        &self.python_path
    }
}

/// Installs what a project requires, and puts the node's files beside it, until the result is dropped.
pub fn site(
    interpreter: &Interpreter,
    project: &Project,
    node: &NodeFiles,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Site> {
    let requirements = crate::discovery::requirements(project)?.path;
    let installed = install(requirements.as_deref(), &project.lock, interpreter, cache, progress)?;
    let directory = tempfile::tempdir_in(cache).map_err(Error::io("create a directory in", cache))?;
    for (name, bytes) in &node.files {
        write_file(&directory.path().join(name), false, bytes.as_slice())?;
    }
    let python_path = std::env::join_paths([directory.path(), &installed]).map_err(|_| Error::Project {
        path: cache.into(),
        expected: "a path without `:`, which Python takes for two".into(),
        found: "one".into(),
    })?;
    Ok(Site { python_path, _node: directory })
}

/// The cache's name for what a lock installs. The number changes with what [`site`] keeps.
fn site_key(lock: &Lock) -> String {
    let mut hash = Sha256::new();
    hash.update("site 1\n");
    hash.update(lock.to_text());
    hex::encode(&hash.finalize()[..16])
}

/// Writes the image of an installed `site` and the node's files.
pub(crate) fn write_image(
    site: &Path,
    node: &NodeFiles,
    interpreter: &Interpreter,
    writer: impl Write,
    path: &Path,
) -> Result<()> {
    let mut files: BTreeMap<String, Content<'_>> = BTreeMap::new();
    for (name, path) in site::list(site)?.into_iter().filter(|(name, _)| !site::is_bytecode(name)) {
        files.insert(format!("{SITE}/{name}"), Content::Path(path));
    }
    let record = record(interpreter, site, node)?;
    let json = serde_json::to_vec(&record).unwrap_or_else(|e| unreachable!("strings: {e}"));
    let own = (node.files.iter())
        .map(|(name, bytes)| (format!("{SITE}/{name}"), bytes.as_slice()))
        .chain([(RECORD.to_string(), json.as_slice())]);
    for (name, bytes) in own {
        if files.insert(name.clone(), Content::Bytes(bytes)).is_some() {
            let requirement = name.trim_start_matches(SITE).trim_start_matches('/').to_string();
            return Err(Error::Requirement {
                place: "an installed package".into(),
                requirement,
                expected: "left to the node, whose file it is",
            });
        }
    }
    let architecture = match record.architecture.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    write_layout(&files, architecture, writer).map_err(Error::io("write", path))
}

/// What the image needs: the interpreter it was built for, and the libc its shared objects ask for.
fn record(interpreter: &Interpreter, site: &Path, node: &NodeFiles) -> Result<InterpreterRecord> {
    let mut record = interpreter.record().clone();
    if record.libc == "glibc" {
        let of_node = (node.files.iter()).filter_map(|(_, bytes)| site::needed_glibc(bytes)).max();
        let needed = site::needed_glibc_of(site)?.max(of_node);
        record.libc_version = needed.map_or(String::new(), |(major, minor)| format!("{major}.{minor}"));
    }
    Ok(record)
}
