//! How large an enclave has to be, and how long Gramine takes to start it.
//!
//! Both are estimates for the person who chooses: a smaller size would fail somewhere between start-up and the first
//! requests, where it is harder to see why.

use std::collections::BTreeMap;

use super::{ARCHIVE, CODE_URI, MAX_THREADS, SITE, is_below};
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

/// Bytes that Gramine hashes in a second when a trusted file is first looked up, and bytes that it reads and checks in a
/// second; as measured in direct mode.
const LOOKED_UP: f64 = 46e6;
const READ: f64 = 85e6;

/// What a start costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// About how many seconds pass until the application runs.
    pub seconds: f64,
    /// The directory whose listing costs the most, as an absolute path, and the bytes that are hashed for it.
    pub directory: Option<(String, u64)>,
}

/// Estimates a start of an enclave with these files, from the bytes that are touched:
///
/// * the list of files itself, more than linear in their number;
/// * Python lists each directory that it imports from, and Gramine hashes every trusted file directly in a directory
///   that is listed, whether it is opened or not;
/// * modules, shared objects and programs, the code and the archive of packages are read as well.
///
/// That every package is imported is assumed: an application that imports few of them starts faster.
pub fn start(trusted: &[TrustedFile]) -> Start {
    let mut directories: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    let (mut hashed, mut read) = (0u64, 0u64);
    for file in trusted {
        let path = file.uri.strip_prefix("file:").unwrap_or(&file.uri);
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let object = name.ends_with(".so") || name.contains(".so.");
        let module = name.ends_with(".py") || object;
        let in_python = is_python(directory);
        let whole = path.strip_prefix('/') == Some(ARCHIVE) || file.uri == CODE_URI;
        // Of the system's libraries, which nobody lists, only those that the interpreter itself needs.
        let needed = whole
            || ["libpython3", "python3", "libc.so", "libm.so", "libssl.so", "libcrypto.so"]
                .iter()
                .any(|prefix| !in_python && name.starts_with(prefix));
        if in_python {
            let (bytes, listed) = directories.entry(directory).or_default();
            *bytes = bytes.saturating_add(file.size);
            *listed |= module;
        }
        if needed {
            hashed = hashed.saturating_add(file.size);
        }
        if needed || (in_python && module) {
            read = read.saturating_add(file.size);
        }
    }
    // Directories of data alone are no packages.
    directories.retain(|_, (_, listed)| *listed);
    let listed = directories.values().fold(0u64, |sum, (bytes, _)| sum.saturating_add(*bytes));
    let directory = directories.iter().max_by_key(|(_, (bytes, _))| *bytes);
    Start {
        seconds: of_list(trusted.len())
            + hashed.saturating_add(listed) as f64 / LOOKED_UP
            + read as f64 / READ,
        directory: directory.map(|(path, (bytes, _))| ((*path).to_owned(), *bytes)),
    }
}

/// Whether Python may import from a directory: the standard library, its packages, or the node's tree.
fn is_python(directory: &str) -> bool {
    is_below(directory.trim_start_matches('/'), SITE)
        || ["/usr/lib/python3", "/usr/local/lib/python3"].iter().any(|library| directory.starts_with(library))
}

/// About how many seconds Gramine takes to read so long a list of trusted files.
fn of_list(files: usize) -> f64 {
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
            assert!((of_list(files) - seconds).abs() < 1e-9, "{files}");
        }
        let mut before = 0.0;
        for files in (0..100_000).step_by(500) {
            assert!(of_list(files) > before, "{files}");
            before = of_list(files);
        }
    }

    #[test]
    fn bytes_that_are_touched_cost_time() {
        let file = |uri: &str, size| TrustedFile { uri: uri.into(), sha256: [0; 32], size };
        let seconds = |files: &[TrustedFile]| start(files).seconds - of_list(files.len());
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        let both = 46e6 / 46e6 + 46e6 / 85e6;
        for uri in [
            "file:/mse/app.tar",
            "file:/opt/mse/python.tar",
            "file:/usr/lib/python3.11/a.py",
            "file:/opt/mse/python/a/b.abi3.so",
            "file:/usr/local/lib/libpython3.12.so.1.0",
        ] {
            close(seconds(&[file(uri, 46_000_000)]), both);
        }
        // Neither listed nor opened.
        for uri in
            ["file:/usr/lib/x86_64-linux-gnu/libx.so", "file:/srv/model", "file:/opt/mse/python/a/data/x.bin"]
        {
            close(seconds(&[file(uri, 46_000_000)]), 0.0);
        }
        // Beside a module: hashed though nobody opens it.
        let files = [
            file("file:/opt/mse/python/a/__init__.py", 0),
            file("file:/opt/mse/python/a/weights.bin", 92_000_000),
            file("file:/opt/mse/python/b.py", 0),
        ];
        close(seconds(&files), 2.0);
        assert_eq!(start(&files).directory, Some(("/opt/mse/python/a".into(), 92_000_000)));
        assert_eq!(start(&[]).directory, None);
        assert!(
            start(&[file("file:/mse/app.tar", u64::MAX), file("file:/opt/mse/python.tar", u64::MAX)]).seconds
                > 1e9
        );
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
