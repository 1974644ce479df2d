//! The package tar: what the code provider hands to the operator.
//!
//! Format: an uncompressed tar of exactly four regular files, `app.tar` or `app.tar.enc`, `image.tar`,
//! `mse.toml` and `tests.tar`. The writer puts them in that order, with owner 0 and fixed times; the
//! reader takes them in any order and refuses everything else.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use crate::code_archive::BYTES_LIMIT;
use crate::region::Region;
use crate::tape::{Kind, TapeReader, TapeWriter, printable};
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
    let found = members.keys().copied().collect::<Vec<_>>().join(", ");
    let refuse = || Error::Package { expected: EXPECTED.into(), found: format!("only {found}") };
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
