//! Sealed states that did not open: kept beside the sealed state, tried again, never overwritten or deleted.
//!
//! A state does not open after a microcode update, on another machine, or when it is damaged; when the old microcode
//! comes back, the old state opens again, with the owner's code key and secrets. So it is renamed to
//! `sealed.unreadable.N`, N one above the highest there is, and tried whenever `sealed` is missing or does not open,
//! newest first. There is room for [`LIMIT`]; beyond it the node refuses to start, because it cannot tell which of them
//! its owner can spare. An older release wrote `sealed.unreadable`, which counts as number 0.
//!
//! Every step is one rename, so a node that is killed between two of them finds a directory that it understands: without
//! `sealed`, with all states set aside.

use std::fs::{self, File, FileType};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use package::enclave::SET_ASIDE;

use crate::places::{describe, open_regular};
use crate::{Error, Result};

/// Most states set aside.
pub(crate) const LIMIT: usize = 32;

/// Higher numbers are not ours.
const HIGHEST: u32 = 999_999;

/// What lies where a sealed state is looked for.
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// A regular file within the limit.
    Bytes(Vec<u8>),
    /// Something that cannot be a sealed state, in words.
    Other(String),
}

/// The states set aside beside `state`, newest first.
pub(crate) fn list(state: &Path) -> Result<Vec<PathBuf>> {
    Ok(numbers(state)?.into_iter().rev().map(|number| path(state, number)).collect())
}

/// Renames `state`, whatever it is, to the next number; returns the new name.
///
/// # Errors
/// [`Error::SetAside`] where there is no room; [`Error::Io`].
pub(crate) fn set_aside(state: &Path, room: usize) -> Result<PathBuf> {
    let numbers = numbers(state)?;
    if numbers.len() >= room {
        return Err(Error::SetAside { directory: directory(state).into(), limit: LIMIT });
    }
    let free = |number: &u32| !numbers.contains(number);
    let next = numbers.last().map_or(1, |last| last + 1);
    let next = Some(next).filter(|next| *next <= HIGHEST).or_else(|| (1..=HIGHEST).find(free));
    let to = next.map(|number| path(state, number)).unwrap_or_else(|| path(state, 0));
    move_to(state, &to)?;
    Ok(to)
}

/// Makes a state that was set aside the state again.
pub(crate) fn restore(from: &Path, state: &Path) -> Result<()> {
    move_to(from, state)
}

/// A rename that replaces nothing, and lasts.
fn move_to(from: &Path, to: &Path) -> Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(Error::io("rename to", to)(ErrorKind::AlreadyExists.into()));
    }
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    let directory = directory(to);
    File::open(directory).and_then(|open| open.sync_all()).map_err(Error::io("write", directory))
}

fn directory(state: &Path) -> &Path {
    state.parent().unwrap_or(Path::new("/"))
}

fn path(state: &Path, number: u32) -> PathBuf {
    match number {
        0 => state.with_file_name(SET_ASIDE),
        number => state.with_file_name(format!("{SET_ASIDE}.{number}")),
    }
}

/// In ascending order.
fn numbers(state: &Path) -> Result<Vec<u32>> {
    let directory = directory(state);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", directory))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("list", directory))?.file_name();
        numbers.extend(name.to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in a name, written in the one way there is.
fn number(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(SET_ASIDE)?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix('.')?;
    let number = digits.parse().ok().filter(|number| (1..=HIGHEST).contains(number))?;
    (digits == number.to_string()).then_some(number)
}

/// Reads what may be a sealed state of at most `limit` bytes. The host chooses what lies there: nothing is opened
/// that could wait for ever, and nothing is read beyond the limit.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Content> {
    let itself = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Nothing),
        found => found.map_err(Error::io("look at", path))?,
    };
    let link = if itself.is_symlink() { "a symbolic link to " } else { "" };
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(Content::Other("a symbolic link that leads nowhere".into()));
    };
    let other = |kind: FileType| Ok(Content::Other(format!("{link}{}", describe(kind))));
    if !metadata.is_file() {
        return other(metadata.file_type());
    }
    // Should it become something else in this very moment, opening it does not wait.
    let file = open_regular(path).map_err(Error::io("read", path))?;
    let mut content = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut content).map_err(Error::io("read", path))?;
    Ok(match content.len() {
        0 => Content::Other(format!("{link}an empty file")),
        length if length > limit => {
            Content::Other(format!("{link}one of {} bytes, over the limit of {limit}", metadata.len()))
        }
        _ => Content::Bytes(content),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_count() {
        assert_eq!(number("sealed.unreadable"), Some(0));
        assert_eq!(number("sealed.unreadable.1"), Some(1));
        assert_eq!(number("sealed.unreadable.999999"), Some(999_999));
        for other in ["sealed", "sealed.unreadable.", "sealed.unreadable.0", "sealed.unreadable.01", "x"] {
            assert_eq!(number(other), None, "{other}");
        }
        for other in ["sealed.unreadable.1000000", "sealed.unreadable.-1", "sealed.unreadable.+1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_go_up_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("sealed");
        let put = |text: &str| {
            fs::write(&state, text).unwrap();
            set_aside(&state, LIMIT).unwrap()
        };
        assert_eq!(put("a"), path(&state, 1));
        fs::write(path(&state, 0), "old").unwrap();
        assert_eq!(put("b"), path(&state, 2));
        fs::remove_file(path(&state, 1)).unwrap();
        assert_eq!(put("c"), path(&state, 3), "a gap is not filled: the order would be lost");
        fs::write(path(&state, HIGHEST), "the host's").unwrap();
        assert_eq!(put("d"), path(&state, 1), "but at the end of the numbers");
        let names = list(&state).unwrap();
        assert_eq!(names[0], path(&state, HIGHEST));
        assert_eq!(names.last().unwrap(), &path(&state, 0));
        assert_eq!(names.len(), 5);
        fs::write(&state, "e").unwrap();
        let error = set_aside(&state, 5).unwrap_err();
        assert!(matches!(error, Error::SetAside { .. }), "{error}");
        assert_eq!(fs::read(&state).unwrap(), b"e");
    }
}
