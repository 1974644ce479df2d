//! Reading and writing the caller's files: bounded reads, atomic writes, modes.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, anyhow};
use zeroize::Zeroizing;

/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of a file that holds a secret.
pub const SECRET: u32 = 0o600;

/// Largest file a command reads whole: 64 MiB.
const LIMIT: u64 = 64 << 20;

/// Writes a file so that it is there whole or not at all.
pub fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let writing = || format!("cannot write {}", path.display());
    fs::create_dir_all(folder).with_context(writing)?;
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .with_context(writing)?;
    file.write_all(content).with_context(writing)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).map_err(|error| error.error).with_context(writing)?;
    Ok(())
}

/// Reads a file whole; one that is larger than 64 MiB is refused.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_at_most(path, LIMIT)
}

/// Reads a file whole; one that is larger than `limit` bytes is refused.
pub fn read_at_most(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let read = outside::files::read(path, limit);
    read.map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => anyhow!("{} is larger than {} MiB", path.display(), limit >> 20),
        _ => anyhow::Error::from(error).context(format!("cannot read {}", path.display())),
    })
}

/// Reads a file that holds a secret; its content is wiped when dropped.
pub fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    read(path).map(Zeroizing::new)
}

/// Reads a file of text.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not UTF-8 text", path.display()))
}
