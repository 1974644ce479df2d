//! What a project asks for, and the lock file that answers it exactly.
//!
//! The lock's format is pip's requirements format, restricted: two comment lines, then one line for
//! each package, `name==version --hash=sha256:…`, sorted by name. It names no index and no path, so it
//! means the same wherever packages come from. The first comment holds a digest of what was asked and
//! for which interpreter; a lock that answers something else is made anew.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SERVER;
use crate::python::InterpreterRecord;
use crate::{Error, Result, text};

/// Largest requirements file and lock, in bytes; the same for all files of one project together.
const LIMIT: u64 = 4 * 1024 * 1024;
/// Most files that are read for one project, and how deep they may include others.
const FILES_LIMIT: usize = 64;
const DEPTH_LIMIT: usize = 8;

const HEADER: &str =
    "# Everything in the image, exactly. Made by `mse home package`; keep it with the project.";
const INPUTS: &str = "# inputs: ";
const TARGET: &str = "# for: ";

/// The requirements of a project: one file, and those that it includes.
#[derive(Debug, Clone, Default)]
pub struct Requirements {
    path: Option<PathBuf>,
    /// The text of all files.
    text: String,
    /// Lines with options for pip, such as where to look for packages.
    options: Vec<String>,
    /// Whether some requirement states hashes, which makes pip ask for those of all.
    hashed: bool,
    /// How many packages are required, those of constraints left out.
    count: usize,
}

/// What is known while files include each other.
#[derive(Default)]
struct Included {
    /// Canonical paths of the files that include the one being read.
    open: Vec<PathBuf>,
    /// Files read so far, and whether as constraints.
    read: BTreeSet<(PathBuf, bool)>,
    bytes: u64,
}

impl Requirements {
    /// Reads the requirements file at `path` and what it includes (`-r`, `-c`), as pip would: the same encodings, ends of
    /// lines, comments and options. Without a path, nothing is required but the application server.
    ///
    /// # Errors
    /// [`Error::Requirement`], with file and line, for what no lock can pin: repositories, URLs, paths, editable
    /// packages, variables of the environment; and for files that include each other. [`Error::Limit`] for more than 64
    /// files or 4 MiB. [`Error::Text`] for other encodings.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let mut requirements = Requirements { path: path.map(Into::into), ..Requirements::default() };
        if let Some(path) = path {
            requirements.include(path, false, &mut Included::default())?;
        }
        Ok(requirements)
    }

    fn include(&mut self, path: &Path, constraint: bool, included: &mut Included) -> Result<()> {
        let limit = |what: &str, limit: String| {
            Err(Error::Limit { what: format!("{}: {what}", path.display()), limit })
        };
        let canonical = path.canonicalize().map_err(Error::io("read", path))?;
        if !included.read.insert((canonical.clone(), constraint)) {
            return Ok(());
        }
        if included.read.len() > FILES_LIMIT {
            return limit("inclusion of requirements", format!("{FILES_LIMIT} files"));
        }
        if included.open.len() > DEPTH_LIMIT {
            return limit("inclusion of requirements", format!("{DEPTH_LIMIT} files deep"));
        }
        let text = text::read_declared(path, LIMIT)?;
        included.bytes += text.len() as u64;
        if included.bytes > LIMIT {
            return limit("requirements, together with the files before it", format!("{LIMIT} bytes"));
        }
        included.open.push(canonical);
        for (number, line) in logical_lines(&text) {
            let refuse = |expected| Error::Requirement {
                place: format!("{}, line {number}", path.display()),
                requirement: shown(&line),
                expected,
            };
            self.hashed |= line.contains(" --hash");
            if !line.starts_with('-') {
                check_requirement(&line).map_err(refuse)?;
                self.count += usize::from(!constraint);
                continue;
            }
            let mut passed_on = true;
            for option in options(&line) {
                let (inner, constraint) = match option {
                    PipOption::Editable => return Err(refuse(EDITABLE)),
                    PipOption::Variable => return Err(refuse(WRITTEN_OUT)),
                    PipOption::Other => continue,
                    PipOption::Requirement(inner) => (inner, constraint),
                    PipOption::Constraint(inner) => (inner, true),
                };
                if inner.contains("${") {
                    return Err(refuse(WRITTEN_OUT));
                }
                if is_url(&inner) {
                    return Err(refuse(
                        "the inclusion of a file of this project, not of an URL whose content may change",
                    ));
                }
                passed_on = false;
                let inner = path.parent().unwrap_or(Path::new("")).join(inner);
                if inner.canonicalize().is_ok_and(|inner| included.open.contains(&inner)) {
                    return Err(refuse("the inclusion of another file, not of one that includes this one"));
                }
                self.include(&inner, constraint, included)?;
            }
            if passed_on {
                self.options.push(line);
            }
        }
        included.open.pop();
        self.text.push_str(&text);
        self.text.push('\n');
        Ok(())
    }

    /// Whether no package is required.
    pub fn is_empty(&self) -> bool {
        self.count == 0
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

const EDITABLE: &str = "a package with a version, since an editable one is a path on this machine; put its code into \
                        the project's code directory";
const WRITTEN_OUT: &str =
    "written out, without `${...}`: what a lock answers must not depend on this machine's environment";
const DIRECT: &str = "a package with a version, from an index, such as `name==1.2`: nothing pins what a repository or an \
                      URL holds. Put its code into the project's code directory, or its wheel into an index";
const LOCAL: &str = "a package with a version, from an index, such as `name==1.2`: a path is one of this machine. Put its \
                     code into the project's code directory, or name the directory of its wheel with --find-links";

/// Refuses what pip would take from a repository, an URL or a path, before pip is asked.
fn check_requirement(line: &str) -> std::result::Result<(), &'static str> {
    // As pip: the requirement goes on to the first word that is an option.
    let end = line.match_indices(" -").next().map_or(line.len(), |(at, _)| at);
    let (spec, _) = line[..end].split_once(';').unwrap_or((&line[..end], ""));
    // No name, extra or version holds any of these characters.
    if spec.contains("${") {
        return Err(WRITTEN_OUT);
    }
    let spec = spec.trim();
    let bare = spec.split('[').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let archive =
        [".whl", ".zip", ".tar", ".tgz", ".tbz", ".txz", ".tlz", ".gz", ".bz2", ".xz", ".lz", ".lzma"];
    if spec.contains('@') || is_url(spec) || spec.contains("://") {
        return Err(if spec.to_ascii_lowercase().contains("file:") { LOCAL } else { DIRECT });
    }
    let versioned = bare.contains(['=', '<', '>', '~', '!']);
    if spec.starts_with('.')
        || spec.contains('/')
        || (!versioned && archive.iter().any(|end| bare.ends_with(end)))
    {
        return Err(LOCAL);
    }
    Ok(())
}

fn is_url(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["http:", "https:", "file:", "ftp:", "ssh:", "git+", "hg+", "svn+", "bzr+", "git:"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// An option of a line, as far as it matters here.
enum PipOption {
    Requirement(String),
    Constraint(String),
    Editable,
    /// Its name is one of the environment's.
    Variable,
    Other,
}

/// The options of a line, in pip's spellings: long ones may be cut short, short ones joined with their values.
fn options(line: &str) -> Vec<PipOption> {
    let mut found = Vec::new();
    let mut words = words(line).into_iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let mut value = || value.clone().or_else(|| words.next()).unwrap_or_default();
            // The shortest beginnings that no other option of a requirements file shares.
            let is = |full: &str, shortest: usize| name.len() >= shortest && full.starts_with(name);
            found.push(match name {
                _ if name.contains('$') => PipOption::Variable,
                _ if is("editable", 1) => PipOption::Editable,
                _ if is("requirement", "requirem".len()) => PipOption::Requirement(value()),
                _ if is("constraint", "cons".len()) => PipOption::Constraint(value()),
                _ => PipOption::Other,
            });
        } else if let Some(short) = word.strip_prefix('-') {
            let mut value = || match &short[short.chars().next().map_or(0, char::len_utf8)..] {
                "" => words.next().unwrap_or_default(),
                joined => joined.to_owned(),
            };
            found.push(match short.chars().next() {
                Some('e') => PipOption::Editable,
                Some('r') => PipOption::Requirement(value()),
                Some('c') => PipOption::Constraint(value()),
                Some('i' | 'f') => {
                    value();
                    PipOption::Other
                }
                Some('$') => PipOption::Variable,
                _ => PipOption::Other,
            });
        }
    }
    found
}

/// The words of a line, as a shell splits it: quotes and backslashes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if is_space(c) => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Python's whitespace.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A line for an error: passwords in URLs are hidden.
fn shown(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(at) = line.find("://").map(|at| at + 3) {
        let end = line[at..].find(['/', ' ']).map_or(line.len(), |end| at + end);
        if let Some(user) = line[at..end].rfind('@') {
            line.replace_range(at..at + user, "***");
        }
    }
    text::printable(&line, 200)
}

/// The lines of a requirements file as pip takes them, with the number of the first line of each: those joined that end
/// in a backslash, comments and empty ones left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text::python_lines(text).enumerate() {
        let comment = line.trim_start_matches(is_space).starts_with('#');
        let continues = line.ends_with('\\') && !comment;
        let part = if continues { line.trim_matches('\\') } else { line };
        match lines.last_mut().filter(|_| open) {
            Some((_, last)) => {
                // A comment ends what it continues, but is no part of its last word.
                last.extend(comment.then_some(' '));
                last.push_str(part);
            }
            None => lines.push((index + 1, part.into())),
        }
        open = continues;
    }
    for (_, line) in &mut lines {
        let mut before = ' ';
        let comment = line.char_indices().find(|(_, c)| {
            let begins = *c == '#' && is_space(before);
            before = *c;
            begins
        });
        let end = comment.map_or(line.len(), |(at, _)| at);
        *line = line[..end].trim_matches(is_space).to_owned();
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
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
        Self::parse(&text::read(path, LIMIT)?).map(Some)
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

    fn read(bytes: &[u8]) -> Result<Requirements> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requirements.txt");
        std::fs::write(&path, bytes).unwrap();
        Requirements::read(Some(&path))
    }

    #[test]
    fn any_editor_may_have_written_them() {
        let text = "flask==3.0\r\n";
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let plain = read(text.as_bytes()).unwrap().digest(&record());
        for bytes in [[&b"\xff\xfe"[..], &utf16].concat(), [b"\xef\xbb\xbf", text.as_bytes()].concat()] {
            assert_eq!(read(&bytes).unwrap().digest(&record()), plain);
        }
        assert!(read(b"# coding: latin-1\nflask # caf\xe9\n").is_ok());
        for (bytes, line, guess) in [(&utf16[..], 1, "UTF-16"), (b"flask\n# caf\xe9\n", 2, "Latin-1")] {
            let error = read(bytes).unwrap_err().to_string();
            let place = format!("requirements.txt, line {line}");
            assert!(error.contains(&place) && error.contains(guess), "{error}");
        }
    }

    #[test]
    fn what_no_lock_pins_is_refused_by_line() {
        for bad in [
            "git+https://host/lib.git",
            "GIT+ssh://git@host/lib.git@v1#egg=lib",
            "hg+http://host/lib",
            "lib @ git+https://host/lib.git",
            "lib@https://host/lib-1.0.whl",
            "lib[extra] @ file:///home/me/lib ; python_version > '3'",
            "https://host/lib.tar.gz --hash=sha256:00",
            "./lib",
            "../lib",
            "/home/me/lib",
            "vendor/lib",
            "lib-1.0-py3-none-any.whl",
            "lib-1.0.tar.gz",
            ".",
            ".[test]",
            "-e .",
            "-e../lib",
            "--editable=../lib",
            "--edit ../lib",
            "--no-index -e ../lib",
            "-r https://host/more.txt",
            "-c HTTPS://host/more.txt",
            "${LIB}",
            "-r ${DIR}/more.txt",
        ] {
            let error = read(format!("flask\n# c\n{bad}\n").as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Requirement { .. }), "{bad}: {error}");
            assert!(error.to_string().contains("requirements.txt, line 3"), "{error}");
        }
        let error = read(b"lib @ git+https://me:secret@host/lib.git").unwrap_err().to_string();
        assert!(error.contains("***@host") && !error.contains("secret"), "{error}");
        for good in [
            "flask",
            "Flask[async]>=3,<4 ; python_version >= '3.10' # by a@b",
            "a==1.0 --hash=sha256:00",
            "--extra-index-url https://${USER}:${TOKEN}@host/simple",
            "--find-links ./wheels",
            "-f https://host/wheels -i https://host/simple",
            "a==1.0 # see https://host/",
            "zope.interface.zip==1",
        ] {
            assert!(read(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn lines_are_those_that_pip_sees() {
        for end in ["\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}"]
        {
            let error = read(format!("# c{end}-e .").as_bytes()).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{end:?}: {error}");
        }
        for joined in ["-e \\\n.", "git+\\\nhttps://host/x", "a @\\\n https://host/x", "  -e ."] {
            assert!(read(joined.as_bytes()).is_err(), "{joined:?}");
        }
        // A comment continues nothing, and what it seems to continue ends with it.
        assert!(read(b"# c \\\n-e .").is_err());
        assert!(read(b"a==1 \\\n # c \\\n-e .").is_err());
        let pinned = read(b"a==1 # c --hash=x\n\n  \nb==1\n-c c.txt # none").unwrap_err();
        assert!(matches!(pinned, Error::Io { .. }), "{pinned}");
        assert_eq!(read(b"a\n--pre\n# b\nc\n").unwrap().count, 2);
        assert!(read(b"--pre\n# a\n").unwrap().is_empty());
    }

    #[test]
    fn inclusion_is_bounded_and_never_in_circles() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        let error = |name: &str| Requirements::read(Some(&at(name))).unwrap_err().to_string();
        write("self.txt", "-r self.txt\n-r ./self.txt\n");
        assert!(error("self.txt").contains("self.txt, line 1"), "{}", error("self.txt"));
        std::os::unix::fs::symlink(at("a.txt"), at("link.txt")).unwrap();
        write("a.txt", "flask\n--no-index -r b.txt\n");
        write("b.txt", "\n--requirem=link.txt\n");
        assert!(error("a.txt").contains("b.txt, line 2"), "{}", error("a.txt"));
        // Twice is no circle, and read once: 2^40 ways lead to the last one.
        write("d8.txt", "flask\n");
        for n in 0..8 {
            write(&format!("d{n}.txt"), &format!("-r d{}.txt\n", n + 1).repeat(32));
        }
        assert_eq!(Requirements::read(Some(&at("d0.txt"))).unwrap().count, 1);
        for n in 0..100 {
            write(&format!("w{n}.txt"), "flask\n");
        }
        let all: String = (0..100).map(|n| format!("-r w{n}.txt\n")).collect();
        write("wide.txt", &all);
        assert!(error("wide.txt").contains("64 files"), "{}", error("wide.txt"));
        let mib = "#".repeat(1 << 20);
        for n in 0..5 {
            write(&format!("w{n}.txt"), &mib);
        }
        assert!(error("wide.txt").contains("bytes"), "{}", error("wide.txt"));
    }

    proptest::proptest! {
        #[test]
        fn any_requirements_are_read_or_refused(text in "(?s)([-a-z@#=./ \\\\\"'$\\{\n\r]|.){0,120}") {
            for (_, line) in logical_lines(&text) {
                let _ = (check_requirement(&line), options(&line), shown(&line));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
            if let Ok(lock) = Lock::parse(&text) {
                proptest::prop_assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
            }
        }
    }
}
