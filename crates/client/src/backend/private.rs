//! Files that only their user reads: tokens, code keys.
//!
//! Written beside their place with mode 0600 and renamed, so that a reader never sees half of one; their directory has
//! mode 0700. What is read is bounded, and refused where somebody else could have read or written it.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::error::Error;

/// No file of ours is longer, in bytes. Buffers have this size from the start: one that grows leaves copies behind.
pub(super) const LONGEST: usize = 256 * 1024;

/// Makes a directory for such files, with those above it.
pub(super) fn make_directory(directory: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| Error::file("make the directory", directory, source))
}

/// Writes `content` as JSON to `path`; an earlier file is replaced, or, without `replace`, left and an error.
pub(super) fn write(path: &Path, content: &impl Serialize, replace: bool) -> Result<(), Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut json = Zeroizing::new(Vec::with_capacity(LONGEST));
        serde_json::to_writer_pretty(&mut *json, content)?;
        json.push(b'\n');
        // Temporary files have mode 0600 from the start.
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(&json)?;
        file.as_file().sync_all()?;
        let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| Error::file("write", path, source))
}

/// Who may have touched a file that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Nobody but its user.
    Private,
    /// Its content decides alone.
    Anywhere,
}

/// Reads the JSON in `path`; `None` if there is no such file. `what` is what it should be.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    what: &'static str,
    from: From,
) -> Result<Option<T>, Error> {
    let refuse = |reason: String| Error::BackendFile { what, path: path.to_owned(), reason };
    // Not to be led elsewhere, nor to wait for whoever writes into a pipe.
    let flags = match from {
        From::Private => OFlags::NOFOLLOW,
        From::Anywhere => OFlags::empty(),
    };
    let file = match outside::files::open_with(path, flags.bits().cast_signed()) {
        Ok(file) => file,
        Err(source) => match source.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::InvalidInput => return Err(refuse(source.to_string())),
            _ => return Err(Error::file("open", path, source)),
        },
    };
    let found = file.metadata().map_err(|source| Error::file("read", path, source))?;
    if from == From::Private {
        if found.uid() != geteuid().as_raw() {
            let reason = format!("expected a file of this user's, found one of user {}", found.uid());
            return Err(refuse(reason));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o7777;
            return Err(refuse(format!("expected mode 0600, found {mode:04o}: others may know it")));
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::file("read", path, source))?;
    if bytes.len() > LONGEST {
        return Err(refuse(format!("expected at most {LONGEST} bytes, found more")));
    }
    // The position alone: the message could quote a secret.
    let content = serde_json::from_slice(&bytes).map_err(|error| {
        refuse(format!("it has not the form of one (line {}, column {})", error.line(), error.column()))
    })?;
    Ok(Some(content))
}

/// Removes `path`; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::file("remove", path, source)),
    }
}

/// Secrets in JSON.
pub(super) mod secret {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::backend) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(in crate::backend) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }

    pub(in crate::backend) mod optional {
        use super::*;

        pub(in crate::backend) fn serialize<S: Serializer>(
            text: &Option<Zeroizing<String>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            text.as_ref().map(|text| text.as_str()).serialize(to)
        }

        pub(in crate::backend) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Zeroizing<String>>, D::Error> {
            Ok(Option::<String>::deserialize(from)?.map(Zeroizing::new))
        }
    }
}
