//! What a project asks for, and the lock file that answers it exactly.
//!
//! The lock's format is pip's requirements format, restricted: two comment lines, then one line for
//! each package, `name==version --hash=sha256:…`, sorted by name. It names no index and no path, so it
//! means the same wherever packages come from. The first comment holds a digest of what was asked and
//! for which interpreter; a lock that answers something else is made anew.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::SERVER;
use crate::python::InterpreterRecord;
use crate::{Error, Result};

/// Largest requirements file and lock, in bytes, and how deep files may include others.
const LIMIT: u64 = 4 * 1024 * 1024;
const DEPTH_LIMIT: usize = 8;

const HEADER: &str =
    "# Everything in the image, exactly. Made by `mse home package`; keep it with the project.";
const INPUTS: &str = "# inputs: ";
const TARGET: &str = "# for: ";

/// The requirements of a project: one file, and those that it includes.
#[derive(Debug, Clone, Default)]
pub struct Requirements {
    path: Option<std::path::PathBuf>,
    /// The text of all files.
    text: String,
    /// Lines with options for pip, such as where to look for packages.
    options: Vec<String>,
    /// Whether some requirement states hashes, which makes pip ask for those of all.
    hashed: bool,
}

impl Requirements {
    /// Reads the requirements file at `path` and what it includes (`-r`, `-c`). Without a path, nothing
    /// is required but the application server.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let mut requirements = Requirements { path: path.map(Into::into), ..Requirements::default() };
        if let Some(path) = path {
            requirements.include(path, DEPTH_LIMIT)?;
        }
        Ok(requirements)
    }

    fn include(&mut self, path: &Path, depth: usize) -> Result<()> {
        let text = read_small(path)?;
        for line in logical_lines(&text) {
            let line = line.trim();
            self.hashed |= line.contains(" --hash");
            let option = |names: [&str; 2]| {
                names.iter().find_map(|name| {
                    let rest = line.strip_prefix(name)?;
                    let separated = !name.starts_with("--") || rest.starts_with(['=', ' ', '\t']);
                    separated.then(|| rest.trim_start_matches(['=', ' ', '\t']))
                })
            };
            if option(["--editable", "-e"]).is_some() {
                return Err(Error::Requirement {
                    requirement: line.into(),
                    expected: "a package with a version, since an editable one is a path on this machine",
                });
            }
            let included = option(["--requirement", "-r"]).or_else(|| option(["--constraint", "-c"]));
            if let Some(included) = included {
                if depth == 0 {
                    let limit = format!("{DEPTH_LIMIT} files deep");
                    return Err(Error::Limit { what: "inclusion of requirements".into(), limit });
                }
                let included = included.split(" #").next().unwrap_or_default().trim();
                let directory = path.parent().unwrap_or(Path::new(""));
                self.include(&directory.join(included), depth - 1)?;
            } else if line.starts_with('-') {
                self.options.push(line.into());
            }
        }
        self.text.push_str(&text);
        self.text.push('\n');
        Ok(())
    }

    /// The file, for pip to read.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Lines with options for pip.
    pub(super) fn options(&self) -> &[String] {
        &self.options
    }

    /// Whether some requirement states hashes.
    pub(super) fn hashed(&self) -> bool {
        self.hashed
    }

    /// A digest of all that a lock depends on.
    pub fn digest(&self, interpreter: &InterpreterRecord) -> String {
        let mut hash = Sha256::new();
        for part in ["requirements 1", SERVER, &interpreter.target(), &self.text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }
}

/// The lines of a requirements file, with those joined that end in a backslash.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) if !line.trim_start().starts_with('#') => (part, true),
            _ => (line, false),
        };
        match lines.last_mut().filter(|_| open) {
            Some(last) => last.push_str(part),
            None => lines.push(part.into()),
        }
        open = continues;
    }
    lines
}

fn read_small(path: &Path) -> Result<String> {
    outside::files::read_text(path, LIMIT).map_err(Error::io("read", path))
}

/// One package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Normalised: lower case, `-` for runs of `-`, `_` and `.`.
    pub name: String,
    /// The version, as the package states it.
    pub version: String,
    /// SHA-256 of the archive that is installed, in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Pin {
    /// Checks the parts, which come from an index, before they become a line of a file.
    pub fn new(name: &str, version: &str, sha256: &str) -> Option<Self> {
        let mut normal = String::new();
        for c in name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c.to_ascii_lowercase() }) {
            if !(c == '-' && normal.ends_with('-')) {
                normal.push(c);
            }
        }
        let name_is = !normal.is_empty() && normal.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let version_is = !version.is_empty()
            && version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'!' | b'-' | b'_'));
        let sha256_is = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (name_is && version_is && sha256_is).then(|| Pin {
            name: normal,
            version: version.into(),
            sha256: sha256.into(),
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let (requirement, hash) = line.split_once(" --hash=sha256:")?;
        let (name, version) = requirement.split_once("==")?;
        Pin::new(name, version, hash.trim_end())
    }
}

/// The content of `requirements.lock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    inputs: String,
    target: String,
    pins: Vec<Pin>,
}

impl Lock {
    pub(super) fn new(inputs: String, target: String, mut pins: Vec<Pin>) -> Self {
        pins.sort();
        Lock { inputs, target, pins }
    }

    /// Reads the lock at `path`; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        Self::parse(&read_small(path)?).map(Some)
    }

    /// Reads the text of a lock.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lock = Lock { inputs: String::new(), target: String::new(), pins: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            if let Some(inputs) = line.strip_prefix(INPUTS) {
                lock.inputs = inputs.trim().into();
            } else if let Some(target) = line.strip_prefix(TARGET) {
                lock.target = target.trim().into();
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                let pin = Pin::parse(line).ok_or(Error::Lock {
                    line: index + 1,
                    expected: "name==version --hash=sha256:<64 digits>",
                })?;
                lock.pins.push(pin);
            }
        }
        lock.pins.sort();
        if let Some(index) = lock.pins.windows(2).position(|pair| pair[0].name == pair[1].name) {
            return Err(Error::Lock { line: index + 4, expected: "each package once" });
        }
        Ok(lock)
    }

    /// The text that [`Lock::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n{INPUTS}{}\n{TARGET}{}\n", self.inputs, self.target);
        for pin in &self.pins {
            text.push_str(&format!("{}=={} --hash=sha256:{}\n", pin.name, pin.version, pin.sha256));
        }
        text
    }

    /// Writes the lock, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        crate::build::write_new(directory, 0o644, |file| file.write_all(self.to_text().as_bytes()))
            .and_then(|file| file.persist(path).map_err(|e| e.error))
            .map_err(Error::io("write", path))?;
        Ok(())
    }

    /// The digest of what the lock answers.
    pub fn inputs(&self) -> &str {
        &self.inputs
    }

    /// The packages, sorted by name.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> InterpreterRecord {
        InterpreterRecord {
            implementation: "cpython".into(),
            version: "3.11".into(),
            architecture: "x86_64".into(),
            libc: "glibc".into(),
            libc_version: "2.36".into(),
        }
    }

    fn pin(name: &str) -> Pin {
        Pin::new(name, "1.0", &"a".repeat(64)).unwrap()
    }

    #[test]
    fn a_lock_reads_back_what_it_writes() {
        let lock = Lock::new("1234".into(), "cpython".into(), vec![pin("Flask"), pin("a__b.-c")]);
        let text = lock.to_text();
        assert!(text.contains("\na-b-c==1.0 --hash=sha256:aaa"), "{text}");
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(Lock::parse(&text).unwrap().to_text(), text);
    }

    #[test]
    fn a_damaged_lock_is_refused_by_line() {
        for bad in [
            "flask==1.0",
            "flask --hash=sha256:00",
            "flask==1.0 --hash=sha256:xyz",
            "flask==1.0 --hash=md5:00",
            "--index-url=http://evil/",
            "fl ask==1.0 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "f==1;x --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            let error = Lock::parse(&format!("# c\n\n{bad}\n")).unwrap_err();
            assert!(matches!(error, Error::Lock { line: 3, .. }), "{bad}: {error}");
        }
        let twice = Lock::new(String::new(), String::new(), vec![pin("a"), pin("a")]).to_text();
        assert!(Lock::parse(&twice).is_err());
    }

    #[test]
    fn what_a_lock_depends_on_changes_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            Requirements::read(Some(&dir.path().join("requirements.txt")))
        };
        let one = write("requirements.txt", "flask\n-r more.txt\n");
        assert!(one.is_err(), "an included file that is missing");
        let one = write("more.txt", "a==1\n--pre\n").unwrap();
        assert_eq!(one.options(), ["--pre"]);
        assert!(!one.hashed());
        let hashed = write("more.txt", "a==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n").unwrap();
        assert!(hashed.hashed() && hashed.options().is_empty());
        let one = write("more.txt", "a==1\n--pre\n").unwrap();
        let two = write("more.txt", "a==2\n--pre\n").unwrap();
        assert_ne!(one.digest(&record()), two.digest(&record()));
        let other = InterpreterRecord { version: "3.12".into(), ..record() };
        assert_ne!(one.digest(&record()), one.digest(&other));
        let newer_libc = InterpreterRecord { libc_version: "2.40".into(), ..record() };
        assert_eq!(one.digest(&record()), one.digest(&newer_libc));
        assert!(write("more.txt", "-r requirements.txt\n").is_err(), "files that include each other");
        assert!(write("more.txt", "-e ../lib\n").is_err(), "an editable requirement");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
            if let Ok(lock) = Lock::parse(&text) {
                proptest::prop_assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
            }
        }
    }
}
