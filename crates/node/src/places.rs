//! Where a node's files live: in an enclave (and in the container of a simulated one) at fixed places, under the `process` runtime below two directories.
//!
//! What lies below `root` is the host's disk: `instance.toml`, the code archive, the sealed state. Everything that
//! must stay confidential lives in memory-backed directories, mode 0700, and dies with the node.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use package::enclave::{self, NODE_LIBRARY};
use rustix::fs::OFlags;

use crate::{Error, Result};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// What `statfs` says of every file system under Gramine, and of none under Linux.
const GRAMINE: u64 = 0;

/// A directory of Gramine's own, there with SGX and without.
const GRAMINE_KEYS: &str = "/dev/attestation/keys";

/// All places of one node.
#[derive(Debug, Clone)]
pub struct Places {
    /// What the operator chose for this instance.
    pub instance: PathBuf,
    /// `node.manifest.sgx`, which a simulated platform loads.
    pub manifest: PathBuf,
    /// `node.sig`, the SIGSTRUCT beside it.
    pub sigstruct: PathBuf,
    /// `libpal.so` or what stands in for it, which a simulated platform measures.
    pub libpal: PathBuf,
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
    memory: Memory,
}

/// Who made the memory-backed directories.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Memory {
    /// The manifest, which is measured.
    Manifest,
    /// The manifest or, where there is no Gramine, whoever made the container: looked at, each by itself.
    Container,
    /// The runtime: everything lies below this one.
    Below(PathBuf),
}

impl Places {
    /// The places inside an enclave, and inside the container of a simulated one.
    pub fn enclave() -> Places {
        Places {
            instance: enclave::INSTANCE.into(),
            manifest: enclave::SIMULATED_MANIFEST.into(),
            sigstruct: enclave::SIMULATED_SIGSTRUCT.into(),
            libpal: enclave::SIMULATED_LIBPAL.into(),
            image: "/".into(),
            archive: enclave::CODE.into(),
            state: Path::new(enclave::STATE).join("sealed"),
            home: "/root".into(),
            tmp: "/tmp".into(),
            key: "/key".into(),
            module: "/mse-app".into(),
            memory: Memory::Manifest,
        }
    }

    /// The same places where the enclave is simulated: perhaps in a plain container, where no manifest mounts anything.
    pub fn simulated(self) -> Places {
        match self.memory {
            Memory::Below(_) => self,
            _ => Places { memory: Memory::Container, ..self },
        }
    }

    /// The places of a node under the `process` runtime: its directory, and a memory-backed one.
    pub fn process(root: &Path, memory: &Path) -> Places {
        Places {
            instance: root.join("instance.toml"),
            manifest: root.join("node.manifest.sgx"),
            sigstruct: root.join("node.sig"),
            libpal: root.join("image").join(NODE_LIBRARY),
            image: root.join("image"),
            archive: root.join("app.tar"),
            state: root.join("state/sealed"),
            home: memory.join("root"),
            tmp: memory.join("tmp"),
            key: memory.join("key"),
            module: memory.join("mse-app"),
            memory: Memory::Below(memory.to_path_buf()),
        }
    }

    /// Whether Gramine compares every file with the manifest when it is opened. Under the `process` runtime it never
    /// does. A host that pretends so deceives a simulated node only, which proves nothing anyway.
    pub(crate) fn enforced_by_gramine(&self) -> bool {
        !matches!(self.memory, Memory::Below(_)) && Path::new(GRAMINE_KEYS).is_dir()
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
        match &self.memory {
            Memory::Manifest => {}
            Memory::Below(directory) => require_memory(directory, file_system(directory)?)?,
            Memory::Container => {
                for directory in [&self.home, &self.tmp, &self.key, &self.module] {
                    match file_system(directory)? {
                        GRAMINE => {}
                        found => require_memory(directory, found)?,
                    }
                }
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

/// The type of the file system that `directory` is on, as `statfs` numbers them.
fn file_system(directory: &Path) -> Result<u64> {
    let status = rustix::fs::statfs(directory).map_err(|e| Error::io("look at", directory)(e.into()))?;
    Ok(status.f_type as u64)
}

fn require_memory(directory: &Path, found: u64) -> Result<()> {
    match found {
        TMPFS | RAMFS => Ok(()),
        found => Err(Error::NotInMemory { path: directory.into(), found }),
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

/// Opens a file that the host supplies, if it is one: opening a pipe could wait for ever.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<fs::File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(std::io::Error::other(format!("expected a regular file, found {}", describe(kind))))
}

/// A kind of file, in words.
pub(crate) fn describe(kind: fs::FileType) -> &'static str {
    match () {
        () if kind.is_file() => "a regular file",
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe (FIFO)",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() => "a character device",
        () if kind.is_block_device() => "a block device",
        () => "another kind of file",
    }
}

/// Reads a file of at most `limit` bytes; `None` if it is not there.
pub(crate) fn read_limited(file: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let opened = match open_regular(file) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn container(memory: &Path) -> Places {
        let below = |name: &str| {
            let path = memory.join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        Places {
            home: below("root"),
            tmp: below("tmp"),
            key: below("key"),
            module: below("mse-app"),
            ..Places::enclave().simulated()
        }
    }

    #[test]
    fn a_simulated_enclave_keeps_secrets_in_memory_only() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        container(memory.path()).prepare().unwrap();
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let one_on_disk = Places { key: container(disk.path()).key, ..container(memory.path()) };
        assert!(
            matches!(one_on_disk.prepare(), Err(Error::NotInMemory { path, .. }) if path.ends_with("key"))
        );
        let missing = Places { key: memory.path().join("nothing"), ..container(memory.path()) };
        assert!(matches!(missing.prepare(), Err(Error::Io { .. })), "the container's maker mounts it");
        // In an enclave it is the measured manifest that says what lies where.
        let measured = Places { memory: Memory::Manifest, ..container(disk.path()) };
        measured.prepare().unwrap();
    }

    #[test]
    fn the_process_runtime_says_where_memory_is() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let places = Places::process("/nowhere".as_ref(), memory.path());
        assert_eq!(places.clone().simulated().memory, places.memory);
        places.prepare().unwrap();
    }
}
