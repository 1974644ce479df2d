//! The code archive and the tests archive: deterministic tars, and the one strict way to read them.
//!
//! Format: tar, regular files only, sorted by path, owner 0, fixed times, modes 0644 and 0755: the
//! same files give the same bytes. The reader is used on packages from anyone and, in the node, on
//! what a code key decrypts to; it refuses links, devices, `..`, setuid, duplicates, and too much of
//! anything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ignore::Ignore;
use crate::paths::{Paths, ROOT};
use crate::region::Hashing;
use crate::tape::{Entry, Kind, TapeReader, TapeWriter};
use crate::{Error, Result};

/// Most entries in an archive.
pub const ENTRIES_LIMIT: usize = 100_000;

/// Most bytes in an archive, all its files together: the code is unpacked into memory.
pub const BYTES_LIMIT: u64 = 4 << 30;

/// The archive's name in messages of [`unpack`] and [`check`].
const CODE: &str = "code archive";

/// Writes the archive of all files below `dir`, but for those its `.mseignore` leaves out. Returns the
/// paths written, which begin at `dir`.
///
/// Refuses links and special files, which could not be unpacked, and names that are not UTF-8.
pub fn write(dir: &Path, writer: impl Write) -> Result<Vec<String>> {
    let files = list(dir)?;
    if files.len() > ENTRIES_LIMIT {
        return Err(Error::Limit {
            what: format!("files below {}", dir.display()),
            limit: ENTRIES_LIMIT.to_string(),
        });
    }
    let mut tape = TapeWriter::new(io::BufWriter::new(writer));
    for (name, path) in &files {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        tape.file(name, executable, metadata.len(), file).map_err(Error::io("archive", path))?;
    }
    tape.finish().map_err(Error::io("archive", dir))?;
    Ok(files.into_keys().collect())
}

/// SHA-256 of the archive that [`write`] makes of `dir`.
pub fn sha256(dir: &Path) -> Result<[u8; 32]> {
    let mut archive = tempfile::tempfile().map_err(Error::io("create a file in", &std::env::temp_dir()))?;
    write(dir, &mut archive)?;
    digest_of(&archive).map_err(Error::io("read the archive of", dir))
}

/// SHA-256 of an archive that was written, from its beginning.
pub(crate) fn digest_of(mut archive: &File) -> io::Result<[u8; 32]> {
    archive.rewind()?;
    let mut archive = Hashing::new(archive);
    io::copy(&mut archive, &mut io::sink())?;
    Ok(archive.finish())
}

/// Every file below `dir` that travels, by its path from `dir` on, in order.
fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let ignore = Ignore::of(dir)?;
    let mut files = BTreeMap::new();
    let mut directories = vec![(dir.to_path_buf(), String::new())];
    while let Some((dir, prefix)) = directories.pop() {
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let entry = entry.map_err(Error::io("read", &dir))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            if ignore.leaves_out(&path, kind.is_dir()) {
                continue;
            }
            let refuse = |expected: &str, found: &str| Error::Project {
                path: path.clone(),
                expected: expected.into(),
                found: found.into(),
            };
            let name =
                entry.file_name().into_string().map_err(|_| refuse("named in UTF-8", "other bytes"))?;
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                directories.push((path, format!("{name}/")));
            } else if kind.is_file() {
                files.insert(name, path);
            } else if kind.is_symlink() {
                return Err(refuse("a file or directory (or left out by .mseignore)", "a symbolic link"));
            } else {
                return Err(refuse("a file or directory (or left out by .mseignore)", "a special file"));
            }
        }
    }
    Ok(files)
}

/// Checks a code archive to its end and writes nothing.
pub fn check(reader: impl Read) -> Result<()> {
    check_named(CODE, reader)
}

/// [`check`], with the archive's name for messages.
pub(crate) fn check_named(archive: &str, reader: impl Read) -> Result<()> {
    walk(archive, reader, |_, _| Ok(()))
}

/// Unpacks a code archive into `dest`, which is made, or must be an empty directory. Files get mode
/// 0644 or 0755. If anything is refused, `dest` is empty again afterwards.
pub fn unpack(reader: impl Read, dest: &Path) -> Result<()> {
    unpack_named(CODE, reader, dest)
}

/// [`unpack`], with the archive's name for messages.
pub(crate) fn unpack_named(archive: &str, reader: impl Read, dest: &Path) -> Result<()> {
    empty_directory(dest)?;
    let unpacked = walk(archive, reader, |entry, content| {
        let path = dest.join(&entry.path);
        if entry.kind == Kind::Directory {
            return fs::create_dir_all(&path).map_err(Error::io("create", &path));
        }
        write_file(&path, entry.mode & 0o100 != 0, content)
    });
    if unpacked.is_err() {
        clear(dest);
    }
    unpacked
}

/// Makes `dest` (mode 0700, parents as needed), or makes sure that it is an empty directory.
pub(crate) fn empty_directory(dest: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dest).map_err(Error::io("create", dest))?;
    let mut entries = fs::read_dir(dest).map_err(Error::io("read", dest))?;
    if entries.next().is_some() {
        let full = io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty");
        return Err(Error::io("unpack into", dest)(full));
    }
    Ok(())
}

/// Removes what is in `dest`, which was empty before: what a refused archive left there.
pub(crate) fn clear(dest: &Path) {
    for entry in fs::read_dir(dest).into_iter().flatten().flatten() {
        let path = entry.path();
        // An error here would hide the one that led here.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Writes a new file (never an existing one) and the directories above it.
pub(crate) fn write_file(path: &Path, executable: bool, mut content: impl Read) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(Error::io("create", path))?;
    io::copy(&mut content, &mut file).map_err(Error::io("write", path))?;
    Ok(())
}

/// Walks over an archive, refuses what does not belong in one, and hands the rest to `visit`.
fn walk(
    archive: &str,
    reader: impl Read,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut tape = TapeReader::new(archive, BufReader::with_capacity(1 << 16, reader));
    let mut seen = Seen::default();
    let mut bytes = 0u64;
    while let Some(entry) = tape.next_entry()? {
        let refuse = |expected, found: String| {
            Err(Error::Entry { archive: archive.into(), entry: entry.path.clone(), expected, found })
        };
        if !matches!(entry.kind, Kind::File | Kind::Directory) {
            return refuse("regular files and directories", entry.kind.describe());
        }
        if entry.mode & 0o7000 != 0 {
            return refuse("no setuid, setgid or sticky bit", format!("mode {:04o}", entry.mode));
        }
        if entry.path.is_empty() && entry.kind == Kind::File {
            return refuse("a name", "none".into());
        }
        if let Err(found) = seen.add(&entry.path, entry.kind == Kind::Directory) {
            return refuse("each path once, and files only in directories", found.into());
        }
        bytes = bytes.saturating_add(entry.size);
        if seen.0.len() > ENTRIES_LIMIT || bytes > BYTES_LIMIT {
            return Err(Error::Limit {
                what: format!("{archive}, unpacked,"),
                limit: format!("{ENTRIES_LIMIT} entries and {BYTES_LIMIT} bytes"),
            });
        }
        if !entry.path.is_empty() {
            visit(&entry, &mut tape)?;
        }
    }
    Ok(())
}

/// The paths of an archive so far.
#[derive(Default)]
struct Seen(Paths<Member>);

/// What an archive has at a path.
#[derive(Default, Clone, Copy, PartialEq)]
enum Member {
    /// A directory that only paths name.
    #[default]
    Implied,
    Directory,
    File,
}

impl Seen {
    fn add(&mut self, path: &str, directory: bool) -> Result<(), &'static str> {
        let mut at = ROOT;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            if *self.0.value(at) == Member::File {
                return Err("a path below a file");
            }
            at = self.0.child(at, component).unwrap_or_else(|| self.0.add(at, component));
        }
        let has_children = self.0.has_children(at);
        let member = self.0.value_mut(at);
        *member = match (*member, directory) {
            (Member::Implied, true) => Member::Directory,
            (Member::Implied, false) if has_children => return Err("a file where a directory was"),
            (Member::Implied, false) => Member::File,
            (Member::Directory, false) => return Err("a file where a directory was"),
            (Member::Directory | Member::File, _) => return Err("the same path again"),
        };
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tape::tests::{entry, tape};

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn archive(dir: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(dir, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files = [("app.py", "app = 1"), ("a/z.py", "z"), ("a.py", ""), ("data.csv", "1")];
        let one = project(&files);
        let mut reversed = files;
        reversed.reverse();
        let two = project(&reversed);
        fs::create_dir(two.path().join("empty")).unwrap();
        fs::set_permissions(two.path().join("app.py"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(archive(one.path()), archive(two.path()));
        fs::set_permissions(two.path().join("app.py"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(archive(one.path()), archive(two.path()), "executable is content");
    }

    #[test]
    fn what_is_ignored_stays_out() {
        let dir = project(&[
            (".mseignore", "*.csv\nprivate/\n"),
            ("app.py", ""),
            ("d.csv", ""),
            ("private/key", ""),
            ("m/__pycache__/x.pyc", ""),
        ]);
        assert_eq!(write(dir.path(), io::sink()).unwrap(), ["app.py"]);
    }

    #[test]
    fn unpacks_what_it_writes() {
        let dir = project(&[("app.py", "app = 1"), ("pkg/run.sh", "#!/bin/sh")]);
        let script = dir.path().join("pkg/run.sh");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let bytes = archive(dir.path());
        check(&bytes[..]).unwrap();
        let out = tempfile::tempdir().unwrap();
        let dest = out.path().join("code");
        unpack(&bytes[..], &dest).unwrap();
        assert_eq!(fs::read_to_string(dest.join("app.py")).unwrap(), "app = 1");
        assert_eq!(archive(&dest), bytes);
        assert_eq!(dest.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(unpack(&bytes[..], &dest).is_err(), "only into an empty directory");
    }

    #[test]
    fn links_in_the_project_are_refused() {
        let dir = project(&[("app.py", "")]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let error = write(dir.path(), io::sink()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        fs::write(dir.path().join(".mseignore"), "link\n").unwrap();
        write(dir.path(), io::sink()).unwrap();
    }

    #[test]
    fn hostile_archives_are_refused_and_leave_nothing() {
        let good = || entry(b"good", b'0', 0o644, b"x", b"");
        let cases: [(&str, Vec<Vec<u8>>); 15] = [
            ("dot-dot", vec![entry(b"../evil", b'0', 0o644, b"x", b"")]),
            ("inner-dot-dot", vec![entry(b"a/../../evil", b'0', 0o644, b"x", b"")]),
            ("absolute", vec![entry(b"/tmp/evil", b'0', 0o644, b"x", b"")]),
            ("symlink", vec![entry(b"evil", b'2', 0o777, b"", b"/etc/passwd")]),
            ("hard-link", vec![entry(b"evil", b'1', 0o644, b"", b"/etc/passwd")]),
            ("character-device", vec![entry(b"evil", b'3', 0o644, b"", b"")]),
            ("block-device", vec![entry(b"evil", b'4', 0o644, b"", b"")]),
            ("fifo", vec![entry(b"evil", b'6', 0o644, b"", b"")]),
            ("sparse", vec![entry(b"evil", b'S', 0o644, b"", b"")]),
            ("setuid", vec![entry(b"evil", b'0', 0o4755, b"x", b"")]),
            ("setgid-directory", vec![entry(b"evil/", b'5', 0o2755, b"", b"")]),
            ("duplicate", vec![entry(b"./good", b'0', 0o644, b"y", b"")]),
            ("file-as-directory", vec![entry(b"good/evil", b'0', 0o644, b"y", b"")]),
            ("directory-as-file", vec![entry(b"good", b'5', 0o755, b"", b"")]),
            ("nul-in-name", vec![entry(b"n", b'L', 0o644, b"a\0b\0", b""), good()]),
        ];
        for (name, bad) in cases {
            let bytes = tape(&[vec![good()], bad].concat());
            assert!(check(&bytes[..]).is_err(), "{name} passed the check");
            let out = tempfile::tempdir().unwrap();
            let dest = out.path().join("in/side");
            assert!(unpack(&bytes[..], &dest).is_err(), "{name} was unpacked");
            assert_eq!(fs::read_dir(&dest).unwrap().count(), 0, "{name} left something");
        }
    }

    #[test]
    fn directories_that_only_paths_name_are_counted() {
        let deep = |count: usize| {
            let entries: Vec<_> = (0..count)
                .flat_map(|n| {
                    let path = format!("{n:07}/{}f\0", "a/".repeat(250));
                    [entry(b"n", b'L', 0o644, path.as_bytes(), b""), entry(b"f", b'0', 0o644, b"", b"")]
                })
                .collect();
            tape(&entries)
        };
        check(&deep(100)[..]).unwrap();
        assert!(matches!(check(&deep(400)[..]), Err(Error::Limit { .. })));
    }

    #[test]
    fn a_size_beyond_the_limit_is_refused_from_the_header_alone() {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[0] = b'a';
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(BYTES_LIMIT + 1);
        header.set_cksum();
        assert!(matches!(check(&header.as_bytes()[..]), Err(Error::Limit { .. })));
    }
}
