//! The package tar: what the code provider hands to the operator.
//!
//! Format: an uncompressed tar of exactly four regular files, `app.tar` or `app.tar.enc`, `image.tar`,
//! `mse.toml` and `tests.tar`. The writer puts them in that order, with owner 0 and fixed times; the
//! reader takes them in any order and refuses everything else.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::code_archive::BYTES_LIMIT;
use crate::region::Region;
use crate::tape::{self, Kind, Source, TapeReader, TapeWriter, printable};
use crate::{Error, Result, config};

/// The code archive in clear.
pub const CODE: &str = "app.tar";
/// The code archive, encrypted.
pub const CODE_ENCRYPTED: &str = "app.tar.enc";
/// The image: an OCI layout or what `docker save` writes.
pub const IMAGE: &str = "image.tar";
/// The configuration, as the owner wrote it.
pub const CONFIG: &str = "mse.toml";
/// The tests archive.
pub const TESTS: &str = "tests.tar";

const EXPECTED: &str = "app.tar or app.tar.enc, image.tar, mse.toml and tests.tar, each once";

/// Largest image archive, in bytes.
const IMAGE_LIMIT: u64 = 64 << 30;

/// One member to be written: its size and its content.
pub(crate) type Content<'a> = (u64, Box<dyn Read + 'a>);

/// Writes a package of these members, by name.
pub(crate) fn write(members: BTreeMap<&str, Content<'_>>, writer: impl Write) -> io::Result<()> {
    let mut tape = TapeWriter::new(writer);
    for (name, (size, content)) in members {
        tape.file(name, false, size, content)?;
    }
    tape.finish().map(drop)
}

/// The members of a package, where they lie in its file.
pub(crate) struct Members {
    pub(crate) code: Region,
    pub(crate) encrypted: bool,
    pub(crate) image: Region,
    pub(crate) config: Region,
    pub(crate) tests: Region,
}

/// Finds the members of the package in `file`; their content is not looked at.
pub(crate) fn read(file: &Region) -> Result<Members> {
    let head = file.part(0, 512).bytes().map_err(Error::io("read", Path::new("the package")))?;
    if let Some(found) = tape::foreign(&head) {
        return Err(Error::Package { expected: format!("a tar of {EXPECTED}"), found: found.into() });
    }
    let mut tape = TapeReader::new("the package", file.reader());
    let mut members: BTreeMap<&str, Region> = BTreeMap::new();
    while let Some(entry) = tape.next_entry()? {
        let refuse = |expected, found| {
            let entry = printable(entry.path.as_bytes());
            Err(Error::Entry { archive: "the package".into(), entry, expected, found })
        };
        let (name, limit) = match entry.path.as_str() {
            CODE => (CODE, BYTES_LIMIT),
            CODE_ENCRYPTED => (CODE_ENCRYPTED, BYTES_LIMIT),
            IMAGE => (IMAGE, IMAGE_LIMIT),
            CONFIG => (CONFIG, config::LIMIT as u64),
            TESTS => (TESTS, BYTES_LIMIT),
            _ if members.is_empty() => {
                let found = foreign(&entry.path, &mut tape)?;
                return Err(Error::Package { expected: format!("a tar of {EXPECTED}"), found });
            }
            _ => return refuse(EXPECTED, "something else".into()),
        };
        if entry.kind != Kind::File {
            return refuse("a regular file", entry.kind.describe());
        }
        if entry.mode & 0o7000 != 0 {
            return refuse("no setuid, setgid or sticky bit", format!("mode {:04o}", entry.mode));
        }
        if entry.size > limit {
            return Err(Error::Limit {
                what: format!("{name} in the package"),
                limit: format!("{limit} bytes"),
            });
        }
        if members.insert(name, file.part(entry.offset, entry.size)).is_some() {
            return refuse("each member once", "it again".into());
        }
    }
    let found = match members.len() {
        0 => "a tar with nothing in it".to_owned(),
        _ => format!("only {}", members.keys().copied().collect::<Vec<_>>().join(", ")),
    };
    let refuse = || Error::Package { expected: EXPECTED.into(), found: found.clone() };
    let (plain, encrypted) = (members.remove(CODE), members.remove(CODE_ENCRYPTED));
    if plain.is_some() && encrypted.is_some() {
        return Err(Error::Package { expected: EXPECTED.into(), found: "both code archives".into() });
    }
    Ok(Members {
        encrypted: encrypted.is_some(),
        code: plain.or(encrypted).ok_or_else(refuse)?,
        image: members.remove(IMAGE).ok_or_else(refuse)?,
        config: members.remove(CONFIG).ok_or_else(refuse)?,
        tests: members.remove(TESTS).ok_or_else(refuse)?,
    })
}

/// What a tar is that begins with no member of a package, but with `first`.
fn foreign(first: &str, tape: &mut TapeReader<impl Source>) -> Result<String> {
    let is_image =
        |path: &str| matches!(path, "index.json" | "manifest.json" | "oci-layout" | "repositories");
    let mut image = is_image(first);
    while !image && let Some(entry) = tape.next_entry()? {
        image = is_image(&entry.path);
    }
    Ok(match image {
        true => "a container image, of which `mse home package` makes a package".into(),
        false => format!("a tar of something else, which begins with `{}`", printable(first.as_bytes())),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tape::tests::{entry, tape};

    #[test]
    fn what_is_no_package_is_named() {
        let file = |name: &str| entry(name.as_bytes(), b'0', 0o644, b"", b"");
        for (bytes, found) in [
            (b"{\"version\": 1}".to_vec(), "a JSON file"),
            (b"\x7fELF".to_vec(), "an ELF file"),
            (Vec::new(), "an empty file"),
            (tape(&[]), "zeros"),
            (tape(&[file("blobs/sha256/00"), file("index.json")]), "a container image"),
            (tape(&[file("app.py"), file("b.py")]), "begins with `app.py`"),
            (tape(&[file("mse.toml")]), "only mse.toml"),
            (tape(&[file("mse.toml"), file("index.json")]), "something else"),
        ] {
            let error = read(&Region::from(bytes)).err().unwrap().to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
