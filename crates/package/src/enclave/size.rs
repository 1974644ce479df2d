//! How large an enclave has to be, and how long Gramine takes to start it.
//!
//! Both are estimates for the person who chooses: a smaller size would fail somewhere between start-up and the first
//! requests, where it is harder to see why.

use super::{ARCHIVE, MAX_THREADS};
use crate::enclave::TrustedFile;
use crate::fingerprint::SIZES;
use crate::image::Tree;

/// MiB for what is there whatever the application: Gramine's two libraries and their heaps (64), the interpreter with
/// the server and what they allocate (128), secrets and the files of `/tmp` (64), and room for the application's own
/// requests (128).
const BASE: u64 = 64 + 128 + 64 + 128;

/// KiB for each thread slot: its state-save area, control pages and Gramine's own stacks.
const SLOT: u64 = 350;

/// MiB for the stacks of about 40 running threads, each reserved whole.
const STACKS: u64 = 40 * 2;

/// Number of trusted files, and seconds that Gramine takes to start on them, as measured in direct mode.
const START: [(f64, f64); 5] =
    [(0.0, 0.1), (5_000.0, 0.5), (7_900.0, 1.6), (20_000.0, 5.7), (50_000.0, 19.0)];

/// Bytes that an enclave needs, in MiB, rounded up:
///
/// * what is there in any case: `BASE`, thread slots, stacks;
/// * each shared object once, since it is mapped whole;
/// * the archive of Python packages twice: its files in memory, and what is loaded of them;
/// * the code archive one and a half times, for its files in memory;
/// * the manifest three times (about 200 bytes for each trusted file): its text, its tree, the list.
pub(super) fn needed_mb(tree: &Tree, trusted: &[TrustedFile], code_size: u64) -> u64 {
    let mapped: u64 = (trusted.iter())
        .filter(|file| file.uri.ends_with(".so") || file.uri.contains(".so."))
        .fold(0, |sum, file| sum.saturating_add(file.size));
    let archive = tree.resolve(ARCHIVE).map_or(0, |file| file.size.saturating_mul(2));
    let manifest = trusted.len() as u64 * 600;
    let bytes = [mapped, archive, code_size.saturating_add(code_size / 2), manifest]
        .into_iter()
        .fold(0u64, |sum, part| sum.saturating_add(part));
    BASE + STACKS + (u64::from(MAX_THREADS) * SLOT).div_ceil(1024) + bytes.div_ceil(1 << 20)
}

/// The smallest of [`SIZES`] that holds `needed` MiB; the largest, if none does.
pub(super) fn smallest(needed: u64) -> u64 {
    SIZES.into_iter().find(|&size| size >= needed).unwrap_or(SIZES[SIZES.len() - 1])
}

/// About how many seconds Gramine takes to start with so many trusted files.
pub fn start_seconds(files: usize) -> f64 {
    let files = files as f64;
    let upper = START.iter().position(|(count, _)| files <= *count).unwrap_or(START.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (START[upper - 1], START[upper]);
    y0 + (files - x0) * (y1 - y0) / (x1 - x0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_takes_longer_with_more_files() {
        for (files, seconds) in [(0, 0.1), (5_000, 0.5), (20_000, 5.7), (50_000, 19.0)] {
            assert!((start_seconds(files) - seconds).abs() < 1e-9, "{files}");
        }
        let mut before = 0.0;
        for files in (0..100_000).step_by(500) {
            assert!(start_seconds(files) > before, "{files}");
            before = start_seconds(files);
        }
    }

    #[test]
    fn sizes_are_those_that_there_are() {
        assert_eq!(smallest(1), 1024);
        assert_eq!(smallest(1024), 1024);
        assert_eq!(smallest(1025), 2048);
        assert_eq!(smallest(1 << 40), 65536);
        let file = |uri: &str, size| TrustedFile { uri: uri.into(), sha256: [0; 32], size };
        let empty = Tree::default();
        let base = needed_mb(&empty, &[], 0);
        assert!(base < 1024, "{base}");
        assert_eq!(needed_mb(&empty, &[file("file:/a.py", 1 << 30)], 0), base + 1, "read piece by piece");
        assert!(needed_mb(&empty, &[file("file:/a.so", 1 << 30)], 0) > base + 1023);
        assert!(needed_mb(&empty, &[], 1 << 30) > base + 1535);
        assert_eq!(smallest(needed_mb(&empty, &[file("file:/a.so.1", u64::MAX)], u64::MAX)), 65536);
    }
}
