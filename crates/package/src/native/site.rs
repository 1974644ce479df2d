//! What is installed, and what of it is kept.
//!
//! A wheel brings more than its application loads: console scripts (with this machine's paths in them),
//! tests, manual pages. What is left out here is not in the image, not measured, and not there for an
//! application to find.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::pip::Pip;
use super::requirements::{Lock, Requirements};
use crate::{Error, Result};

/// Installs what the lock says, keeps what an application can load, and moves it to `site` whole.
pub(super) fn install(pip: &Pip, requirements: &Requirements, lock: &Lock, site: &Path) -> Result<()> {
    let parent = site.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let made = tempfile::tempdir_in(parent).map_err(Error::io("create", parent))?;
    pip.install(requirements, lock, made.path())?;
    strip(made.path())?;
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755))
        .map_err(Error::io("open up", made.path()))?;
    match fs::rename(made.path(), site) {
        Ok(()) => drop(made.keep()),
        // Another process installed the same meanwhile.
        Err(_) if site.is_dir() => {}
        Err(e) => return Err(Error::io("create", site)(e)),
    }
    Ok(())
}

/// Every regular file below `dir`, by its path from there on; links and special files are refused.
pub(super) fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![(dir.to_path_buf(), String::new())];
    while let Some((dir, prefix)) = directories.pop() {
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let entry = entry.map_err(Error::io("read", &dir))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                directories.push((path, format!("{name}/")));
            } else if kind.is_file() && name.len() <= 4000 && path.to_str().is_some() {
                files.insert(name, path);
            } else {
                return Err(Error::Requirement {
                    place: "an installed package".into(),
                    requirement: name,
                    expected: "a plain file with a plain name, as in any wheel",
                });
            }
        }
    }
    Ok(files)
}

/// Removes what no application loads, and what differs from machine to machine.
fn strip(site: &Path) -> Result<()> {
    let files = list(site)?;
    let unused_tests = unused_tests(&files)?;
    let is_kept = |name: &str| {
        let (directory, base) = name.rsplit_once('/').unwrap_or(("", name));
        let of_pip = directory.ends_with(".dist-info")
            && matches!(base, "INSTALLER" | "REQUESTED" | "direct_url.json");
        let top = name.split('/').next().unwrap_or_default();
        // Not Python packages, but places for scripts, headers and manual pages.
        let elsewhere = (matches!(top, "bin" | "include")
            || name.starts_with("share/man/")
            || name.starts_with("share/doc/"))
            && !files.contains_key(&format!("{top}/__init__.py"));
        let test = unused_tests.iter().any(|tests| name.starts_with(tests.as_str()));
        !(of_pip || elsewhere || is_bytecode(name) || test)
    };
    for (name, path) in &files {
        if !is_kept(name) {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        } else if name.ends_with(".dist-info/RECORD") {
            let record = fs::read_to_string(path).map_err(Error::io("read", path))?;
            let kept = kept_records(&record, |name| files.contains_key(name) && is_kept(name));
            fs::write(path, kept).map_err(Error::io("write", path))?;
        }
    }
    Ok(())
}

/// Caches that an interpreter makes, here or wherever somebody ran the application from the cache.
pub(super) fn is_bytecode(name: &str) -> bool {
    name.ends_with(".pyc") || name.split('/').any(|component| component == "__pycache__")
}

/// Directories named `tests` with tests in them, of packages that do not import them: as prefixes.
fn unused_tests(files: &BTreeMap<String, PathBuf>) -> Result<Vec<String>> {
    let mut candidates: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in files.keys() {
        let base = name.rsplit('/').next().unwrap_or_default();
        if let Some((package, rest)) = name.split_once('/')
            && let Some(at) = format!("/{rest}").find("/tests/")
            && base.starts_with("test_")
            && base.ends_with(".py")
        {
            let prefix = format!("{package}/{}", &rest[..at + "tests/".len()]);
            let found = candidates.entry(package).or_default();
            if !found.contains(&prefix) {
                found.push(prefix);
            }
        }
    }
    let mut unused = Vec::new();
    for (package, prefixes) in candidates {
        let package = format!("{package}/");
        let mut imported = false;
        let sources =
            (files.range(package.clone()..)).take_while(|(name, _)| name.starts_with(&package)).filter(
                |(name, _)| name.ends_with(".py") && !prefixes.iter().any(|p| name.starts_with(p.as_str())),
            );
        for (_, path) in sources {
            let source = fs::read(path).map_err(Error::io("read", path))?;
            imported |= imports_tests(&String::from_utf8_lossy(&source));
        }
        if !imported {
            unused.extend(prefixes);
        }
    }
    Ok(unused)
}

/// Whether a line of Python imports something called `tests`. A false alarm only keeps files.
fn imports_tests(source: &str) -> bool {
    source.lines().map(str::trim_start).any(|line| {
        (line.starts_with("import ") || line.starts_with("from ") || line.contains("import_module("))
            && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "tests")
    })
}

/// The lines of a wheel's RECORD (CSV: path, hash, size) about files that are kept, sorted. The line about
/// the file itself carries no hash, so it stays true.
fn kept_records(record: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let mut kept: Vec<&str> = (record.lines())
        .filter(|line| {
            let path = line.rsplitn(3, ',').nth(2).unwrap_or_default();
            is_kept(&path.trim_matches('"').replace("\"\"", "\""))
        })
        .collect();
    kept.sort_unstable();
    kept.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The newest glibc that any shared object below `site` asks for.
pub(super) fn needed_glibc_of(site: &Path) -> Result<Option<(u32, u32)>> {
    let mut needed = None;
    for (name, path) in list(site)? {
        if name.ends_with(".so") || name.contains(".so.") {
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            needed = needed.max(needed_glibc(&bytes));
        }
    }
    Ok(needed)
}

/// The newest `GLIBC_x.y` among the symbol versions that a shared object names. They are NUL-terminated
/// strings of its dynamic string table; looking for them anywhere errs on the careful side.
pub fn needed_glibc(object: &[u8]) -> Option<(u32, u32)> {
    const PREFIX: &[u8] = b"GLIBC_";
    if !object.starts_with(b"\x7fELF") {
        return None;
    }
    let mut newest = None;
    let mut rest = object;
    // `G` is rare in machine code, so that looking for it first is quick.
    while let Some(at) = rest.iter().position(|&b| b == b'G') {
        rest = &rest[at..];
        if let Some(tail) = rest.strip_prefix(PREFIX) {
            let end = tail.iter().take(12).position(|&b| b == 0);
            let text = end.and_then(|end| std::str::from_utf8(&tail[..end]).ok());
            newest = newest.max(text.and_then(crate::python::version));
        }
        rest = &rest[1..];
    }
    newest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn only_what_is_loaded_is_kept() {
        let dir = site(&[
            ("a/__init__.py", ""),
            ("a/__pycache__/x.cpython-311.pyc", ""),
            ("a/tests/__init__.py", ""),
            ("a/tests/test_a.py", ""),
            ("b/__init__.py", "from .tests.helper import help"),
            ("b/tests/test_b.py", ""),
            ("c/tests/data.py", ""),
            ("bin/flask", "#!/home/me/python"),
            ("share/man/man1/a.1", ""),
            ("share/data/x", ""),
            ("a-1.dist-info/INSTALLER", "pip"),
            ("a-1.dist-info/REQUESTED", ""),
            ("a-1.dist-info/direct_url.json", "{}"),
            ("a-1.dist-info/METADATA", "Name: a"),
            (
                "a-1.dist-info/RECORD",
                "bin/flask,sha256=x,10\na/tests/test_a.py,sha256=y,0\na/__init__.py,sha256=z,0\na-1.dist-info/RECORD,,\n",
            ),
        ]);
        strip(dir.path()).unwrap();
        let kept: Vec<_> = list(dir.path()).unwrap().into_keys().collect();
        assert_eq!(
            kept,
            [
                "a-1.dist-info/METADATA",
                "a-1.dist-info/RECORD",
                "a/__init__.py",
                "b/__init__.py",
                "b/tests/test_b.py",
                "c/tests/data.py",
                "share/data/x",
            ]
        );
        let record = fs::read_to_string(dir.path().join("a-1.dist-info/RECORD")).unwrap();
        assert_eq!(record, "a-1.dist-info/RECORD,,\na/__init__.py,sha256=z,0\n");
    }

    #[test]
    fn a_package_called_bin_is_kept() {
        let dir = site(&[("bin/__init__.py", ""), ("bin/x.py", "")]);
        strip(dir.path()).unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn links_are_refused() {
        let dir = site(&[("a.py", "")]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("b.py")).unwrap();
        assert!(matches!(list(dir.path()), Err(Error::Requirement { .. })));
    }

    #[test]
    fn the_newest_glibc_is_found() {
        let object = b"\x7fELF..GLIBC_2.2.5\0GLIBC_2.34\0GGLIBC_2.9\0GLIBC_PRIVATE\0GLIBC_2.99";
        assert_eq!(needed_glibc(object), Some((2, 34)));
        assert_eq!(needed_glibc(b"\x7fELF"), None);
        assert_eq!(needed_glibc(b"text about GLIBC_2.34\0"), None);
    }
}
