//! The archive of Python packages: unpacked in memory before anything is loaded from it.
//!
//! Images with many files carry them in one measured archive (`package::enclave`), because Gramine takes time for each
//! trusted file. Gramine has compared it with the manifest by the time it is read here; it is read as strictly as any
//! other archive all the same.

use std::path::Path;

use crate::places::open_regular;
use crate::{Error, Result};

/// Unpacks the archive into `directory`, which is made, or must be empty. Nothing stays there if the archive is refused.
pub fn unpack_packages(archive: &Path, directory: &Path) -> Result<()> {
    let file = open_regular(archive).map_err(Error::io("read", archive))?;
    package::code_archive::unpack(file, directory)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_archive_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir_all(source.join("usr/lib")).unwrap();
        std::fs::write(source.join("usr/lib/a.py"), "a").unwrap();
        let mut bytes = Vec::new();
        package::code_archive::write(&source, &mut bytes).unwrap();
        let archive = directory.path().join("python.tar");
        let target = directory.path().join("packages");
        std::fs::write(&archive, &bytes[..bytes.len() - 600]).unwrap();
        assert!(unpack_packages(&archive, &target).is_err());
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        std::fs::write(&archive, &bytes).unwrap();
        unpack_packages(&archive, &target).unwrap();
        assert_eq!(std::fs::read(target.join("usr/lib/a.py")).unwrap(), b"a");
        assert!(unpack_packages(&archive, &target).is_err(), "only once");
    }
}
