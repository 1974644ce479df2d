//! Where a node's files live: in an enclave at fixed places, under the `process` runtime below two directories.
//!
//! What lies below `root` is the host's disk: `instance.toml`, the code archive, the sealed state. Everything that
//! must stay confidential lives in memory-backed directories, mode 0700, and dies with the node.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// All places of one node.
#[derive(Debug, Clone)]
pub struct Places {
    /// What the operator chose for this instance.
    pub instance: PathBuf,
    /// `node.manifest.sgx`, which a simulated platform loads.
    pub manifest: PathBuf,
    /// `node.sig`, the SIGSTRUCT beside it.
    pub sigstruct: PathBuf,
    /// What the manifest's `file:/` means to a simulated platform.
    pub image: PathBuf,
    /// The code archive as the package carries it.
    pub archive: PathBuf,
    /// The sealed state.
    pub state: PathBuf,
    /// The application's `HOME`.
    pub home: PathBuf,
    /// The application's `TMP_PATH`.
    pub tmp: PathBuf,
    /// The application's `KEY_PATH`.
    pub key: PathBuf,
    /// The application's `MODULE_PATH`: where the code is unpacked.
    pub module: PathBuf,
    in_memory: Option<PathBuf>,
}

impl Places {
    /// The places inside an enclave, whose manifest mounts the memory-backed ones.
    pub fn enclave() -> Places {
        Places {
            home: "/root".into(),
            tmp: "/tmp".into(),
            key: "/key".into(),
            module: "/mse-app".into(),
            in_memory: None,
            ..Places::process("/mse".as_ref(), "/".as_ref())
        }
    }

    /// The places of a node under the `process` runtime: its directory, and a memory-backed one.
    pub fn process(root: &Path, memory: &Path) -> Places {
        Places {
            instance: root.join("instance.toml"),
            manifest: root.join("node.manifest.sgx"),
            sigstruct: root.join("node.sig"),
            image: root.join("image"),
            archive: root.join("app.tar"),
            state: root.join("state/sealed"),
            home: memory.join("root"),
            tmp: memory.join("tmp"),
            key: memory.join("key"),
            module: memory.join("mse-app"),
            in_memory: Some(memory.to_path_buf()),
        }
    }

    /// `SECRETS_PATH`: the secrets which came with the configuration, if any.
    pub fn secrets(&self) -> PathBuf {
        self.private().join("secrets.json")
    }

    /// `SEALED_SECRETS_PATH`: the secrets which came sealed, if any.
    pub fn sealed_secrets(&self) -> PathBuf {
        self.private().join("sealed_secrets.json")
    }

    /// The certificate that the application server reads once.
    pub fn tls_certificate(&self) -> PathBuf {
        self.private().join("tls.crt")
    }

    /// The private key that the application server reads once.
    pub fn tls_key(&self) -> PathBuf {
        self.private().join("tls.key")
    }

    fn private(&self) -> PathBuf {
        self.home.join(".cache/mse")
    }

    /// Makes the memory-backed directories, 0700.
    ///
    /// # Errors
    /// [`Error::NotInMemory`] where one lies on a disk; inside an enclave its measured manifest says where they lie.
    pub fn prepare(&self) -> Result<()> {
        if let Some(memory) = &self.in_memory {
            let status = rustix::fs::statfs(memory).map_err(|e| Error::io("look at", memory)(e.into()))?;
            let found = status.f_type as u64;
            if found != TMPFS && found != RAMFS {
                return Err(Error::NotInMemory { path: memory.clone(), found });
            }
        }
        for directory in [&self.home, &self.tmp, &self.key, &self.module, &self.private()] {
            make_private(directory)?;
        }
        Ok(())
    }

    /// Removes what the last configuration or the last run left in the places of code and secrets.
    pub fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.module).map_err(Error::io("list", &self.module))? {
            let entry = entry.map_err(Error::io("list", &self.module))?;
            let path = entry.path();
            let is_dir = entry.file_type().map_err(Error::io("look at", &path))?.is_dir();
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io("remove", &path))?;
        }
        for file in [self.secrets(), self.sealed_secrets(), self.tls_certificate(), self.tls_key()] {
            remove(&file)?;
        }
        Ok(())
    }
}

fn make_private(directory: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(Error::io("create", directory))?;
    // A mount point, or a directory of an earlier start, exists already.
    fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(Error::io("protect", directory))
}

/// Removes a file, if it is there.
pub(crate) fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", file)(error)),
        _ => Ok(()),
    }
}

/// Writes a whole file, 0600, so that a reader sees the old one or the new one and nothing between.
pub(crate) fn write_atomically(file: &Path, content: &[u8]) -> Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        let mut new =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(directory)?;
        new.write_all(content)?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(Error::io("write", file))
}

/// Reads a file of at most `limit` bytes; `None` if it is not there.
pub(crate) fn read_limited(file: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let opened = match fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("read", file))?,
    };
    let mut content = Vec::new();
    opened.take(limit as u64 + 1).read_to_end(&mut content).map_err(Error::io("read", file))?;
    if content.len() > limit {
        return Err(Error::TooLarge { path: file.to_path_buf(), limit });
    }
    Ok(Some(content))
}
