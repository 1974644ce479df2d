//! The memory-backed directory of each node: decrypted code, keys and what the application writes live here
//! and never on a disk.
//!
//! `<base>/<node>.<hash of the state directory>/`, the base being the first of `$XDG_RUNTIME_DIR/mse` and
//! `/dev/shm/mse-<uid>` that `statfs` says is tmpfs or ramfs (magic numbers: statfs(2)). The hash keeps apart the
//! nodes of several state directories of one user. `/dev/shm` is open to everybody, so what is found there is
//! used only if it is a directory of ours that nobody else can enter.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::process::record::Record;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

#[derive(Debug)]
pub(super) struct Memory {
    candidates: Vec<PathBuf>,
    /// `.<hash>`: what the names of this runtime's directories end in.
    suffix: String,
}

/// The usual places, best first.
pub(super) fn candidates() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let shared = PathBuf::from(format!("/dev/shm/mse-{}", geteuid().as_raw()));
    runtime.map(|path| path.join("mse")).into_iter().chain([shared]).collect()
}

impl Memory {
    pub(super) fn new(nodes: &Path, candidates: &[PathBuf]) -> Memory {
        let hash = hex::encode(&Sha256::digest(nodes.as_os_str().as_bytes())[..6]);
        Memory { candidates: candidates.to_vec(), suffix: format!(".{hash}") }
    }

    /// A fresh, empty directory for a node that is about to start.
    pub(super) fn make(&self, node: &str) -> Result<PathBuf, Error> {
        self.remove(node)?;
        let mut unusable = None;
        for base in &self.candidates {
            match self.make_below(base, node) {
                Ok(Some(path)) => return Ok(path),
                Ok(None) => {}
                Err(error) => unusable = unusable.or(Some(error)),
            }
        }
        Err(unusable.unwrap_or_else(|| Error::NoMemory { tried: self.candidates.clone() }))
    }

    /// `None` where the base is not, or would not be, memory-backed.
    fn make_below(&self, base: &Path, node: &str) -> Result<Option<PathBuf>, Error> {
        if !base.parent().is_some_and(is_memory_backed) {
            return Ok(None);
        }
        make_private(base)?;
        if !is_memory_backed(base) {
            return Ok(None);
        }
        let path = base.join(format!("{node}{}", self.suffix));
        make_private(&path)?;
        Ok(Some(path))
    }

    /// Removes a node's directory, wherever it was made.
    pub(super) fn remove(&self, node: &str) -> Result<(), Error> {
        for base in &self.candidates {
            remove_tree(&base.join(format!("{node}{}", self.suffix)))?;
        }
        Ok(())
    }

    /// The same, and the one it was started with: the places may have been others then.
    pub(super) fn remove_of(&self, record: &Record) -> Result<(), Error> {
        let own = format!("{}{}", record.name, self.suffix);
        if let Some(path) = record.memory.as_deref().filter(|path| path.ends_with(&own)) {
            remove_tree(path)?;
        }
        self.remove(record.name.as_str())
    }

    /// Removes the directories of this runtime's nodes that do not run.
    pub(super) fn sweep(&self, runs: impl Fn(&str) -> bool) -> Result<(), Error> {
        for base in &self.candidates {
            let Ok(entries) = fs::read_dir(base) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let node = name.to_str().and_then(|name| name.strip_suffix(&self.suffix));
                if node.is_some_and(|node| !runs(node)) {
                    remove_tree(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

fn is_memory_backed(path: &Path) -> bool {
    // The type of this field differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    statfs(path).is_ok_and(|found| matches!(found.f_type as u64 & 0xffff_ffff, TMPFS_MAGIC | RAMFS_MAGIC))
}

/// Makes a directory (and what leads to it) that only this user can enter; refuses one that others can.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().mode(0o700).create(path);
    match made {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(Error::file("make the directory", path))?;
        }
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::file("make the directory", path)(error));
        }
        _ => {}
    }
    let found = path.symlink_metadata().map_err(Error::file("look at", path))?;
    let refuse = |found: String| Err(Error::NotPrivate { path: path.to_owned(), found });
    if !found.is_dir() {
        return refuse("something that is no directory".to_owned());
    }
    if found.uid() != geteuid().as_raw() {
        return refuse(format!("one of user {}", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return refuse(format!("mode {:04o}", found.mode() & 0o7777));
    }
    Ok(())
}

/// Removes a directory and all in it; one that is not there is removed already.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}
