//! Directories that live in memory, for what must never reach a disk (magic numbers: statfs(2)).

use std::path::Path;

use rustix::fs::statfs;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// The bytes that are free in the file system of `path`, where that is tmpfs or ramfs (which counts none: zero).
pub fn memory_backed(path: &Path) -> Option<u64> {
    let found = statfs(path).ok()?;
    // The types of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    let (kind, block) = (found.f_type as u64 & 0xffff_ffff, found.f_bsize as u64);
    matches!(kind, TMPFS_MAGIC | RAMFS_MAGIC).then(|| block.saturating_mul(found.f_bavail))
}
