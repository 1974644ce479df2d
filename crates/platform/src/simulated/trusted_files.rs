//! Whether the files that a manifest trusts are those that lie there.
//!
//! Gramine compares a trusted file's SHA-256 when the file is opened, inside the enclave; the simulator has nobody inside
//! and compares all of them before anything runs. URIs are `file:/path`, and the path is looked up below a directory that
//! stands for the root of the enclave's files. Symbolic links may lead elsewhere in it, never out of it: a program
//! that follows them would read files that nobody measured.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use gramine::manifest::TrustedFile;
use ring::digest::{Context, SHA256};

use crate::Error;

const BUFFER: usize = 64 * 1024;

/// Checks every file below `root`.
///
/// # Errors
/// [`Error::TrustedFile`] for the first that is missing, changed, no file or elsewhere; [`Error::Io`].
pub(super) fn check(files: &[TrustedFile], root: &Path) -> Result<(), Error> {
    let root = fs::canonicalize(root).map_err(Error::io("open", root))?;
    let mut buffer = vec![0; BUFFER];
    for file in files {
        let wrong = |expected: String, found: &str| Error::TrustedFile {
            uri: file.uri.clone(),
            expected,
            found: found.to_owned(),
        };
        let relative = relative(&file.uri)
            .ok_or_else(|| wrong("file:/ and a path without \"..\"".to_owned(), "another form"))?;
        let place = match fs::canonicalize(root.join(relative)) {
            Ok(place) if !place.starts_with(&root) => {
                let found = format!("a link out of it, to {}", place.display());
                return Err(wrong(format!("a file below {}", root.display()), &found));
            }
            Ok(place) => place,
            Err(error) => return Err(wrong(format!("a file below {}", root.display()), &error.to_string())),
        };
        // A pipe or device is not opened: that could wait for ever.
        if !fs::metadata(&place).is_ok_and(|metadata| metadata.is_file()) {
            return Err(wrong("a regular file".to_owned(), "something else"));
        }
        let found = sha256(&place, &mut buffer).map_err(Error::io("read", &place))?;
        if found != file.sha256 {
            let expected = format!("SHA-256 {}", hex::encode(file.sha256));
            return Err(wrong(expected, &hex::encode(found)));
        }
    }
    Ok(())
}

/// The path in a `file:/` URI, relative to the root.
fn relative(uri: &str) -> Option<PathBuf> {
    let path = Path::new(uri.strip_prefix("file:")?);
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    let names = components.map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let relative = names.collect::<Option<PathBuf>>()?;
    (!relative.as_os_str().is_empty()).then_some(relative)
}

fn sha256(path: &Path, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(length) => context.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::relative;

    #[test]
    fn the_path_behind_the_root() {
        assert_eq!(relative("file:/opt/a b/c").as_deref(), Some(Path::new("opt/a b/c")));
        assert_eq!(relative("file://opt/./c/").as_deref(), Some(Path::new("opt/c")));
        for uri in
            ["", "/opt", "FILE:/opt", "file:", "file:/", "file:opt", "file:/..", "file:/a/../b", "https:/a"]
        {
            assert_eq!(relative(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn no_uri_leads_out(uri in "file:[./a]{0,12}|.{0,20}") {
            if let Some(path) = relative(&uri) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
            }
        }
    }
}
