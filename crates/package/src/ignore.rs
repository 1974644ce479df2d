//! `.mseignore`: what of `mse_src` stays at home. The syntax is gitignore's.
//!
//! One file, at the top of the directory; its patterns are relative to it. Some names never travel,
//! whatever it says: they are other programs' droppings, and differ from machine to machine.

use std::path::Path;

use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::{Error, Result, text};

/// The file's name.
pub const FILE: &str = ".mseignore";

/// Largest file that is read, in bytes.
pub const LIMIT: u64 = 256 * 1024;

/// Most patterns of a file: each is compiled, to a thousand times its length.
pub const PATTERNS_LIMIT: usize = 4096;

/// Names that are left out wherever they stand.
const ALWAYS: [&str; 6] = [FILE, ".git", ".DS_Store", "__pycache__", ".pytest_cache", ".mypy_cache"];

/// The patterns of one directory.
#[derive(Debug)]
pub struct Ignore {
    patterns: Gitignore,
}

impl Ignore {
    /// Reads `dir/.mseignore`, if there is one.
    pub fn of(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        // A byte order mark left in front of the first pattern would make it match nothing, and a file would travel that
        // was to stay at home.
        match text::read(&path, LIMIT) {
            Ok(text) => Self::parse(dir, &text),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Self::parse(dir, "")
            }
            Err(e) => Err(e),
        }
    }

    /// Reads patterns from `text`; they are relative to `dir`.
    pub fn parse(dir: &Path, text: &str) -> Result<Self> {
        let refuse = |line: usize, reason: String| Error::Project {
            path: dir.join(FILE),
            expected: "patterns as in .gitignore".into(),
            found: format!("line {line}: {reason}"),
        };
        let limit = |limit: String| Error::Limit { what: dir.join(FILE).display().to_string(), limit };
        if text.len() as u64 > LIMIT {
            return Err(limit(format!("{LIMIT} bytes")));
        }
        let is_pattern = |line: &&str| !line.trim_start().is_empty() && !line.starts_with('#');
        if text.lines().filter(is_pattern).count() > PATTERNS_LIMIT {
            return Err(limit(format!("{PATTERNS_LIMIT} patterns")));
        }
        let mut builder = GitignoreBuilder::new(dir);
        for (number, line) in text.lines().enumerate() {
            builder.add_line(None, line).map_err(|e| refuse(number + 1, e.to_string()))?;
        }
        Ok(Ignore { patterns: builder.build().map_err(|e| refuse(0, e.to_string()))? })
    }

    /// Whether `path` (below the directory) stays at home. A directory that does takes all that is
    /// in it along, so callers need not ask about that.
    pub fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        ALWAYS.contains(&name) || name.ends_with(".pyc") || self.patterns.matched(path, is_dir).is_ignore()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_gitignore() {
        let dir = Path::new("/p");
        let ignore = Ignore::parse(dir, "# data\n*.csv\n!keep.csv\n/top\nsub/*.txt\nonly_dir/\n").unwrap();
        let cases = [
            ("a.csv", false, true),
            ("x/a.csv", false, true),
            ("keep.csv", false, false),
            ("top", false, true),
            ("x/top", false, false),
            ("sub/a.txt", false, true),
            ("x/sub/a.txt", false, false),
            ("only_dir", true, true),
            ("only_dir", false, false),
            ("app.py", false, false),
            ("x/__pycache__", true, true),
            ("x.pyc", false, true),
            (".mseignore", false, true),
            (".git", true, true),
        ];
        for (path, is_dir, expected) in cases {
            assert_eq!(ignore.leaves_out(&dir.join(path), is_dir), expected, "{path}");
        }
    }

    #[test]
    fn files_and_patterns_are_limited() {
        let dir = Path::new("/p");
        Ignore::parse(dir, &"#\n\nf\n".repeat(PATTERNS_LIMIT)).unwrap();
        for text in ["f\n".repeat(PATTERNS_LIMIT + 1), "#".repeat(LIMIT as usize + 1)] {
            assert!(matches!(Ignore::parse(dir, &text), Err(Error::Limit { .. })));
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(!Ignore::of(dir.path()).unwrap().leaves_out(&dir.path().join("f"), false));
        std::fs::write(dir.path().join(FILE), "#".repeat(LIMIT as usize + 10)).unwrap();
        assert!(Ignore::of(dir.path()).is_err());
    }

    #[test]
    fn any_editor_may_have_written_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "private.csv\r\nd/\r\n";
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [&b"\xff\xfe"[..], &utf16].concat(),
        ] {
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            let ignore = Ignore::of(dir.path()).unwrap();
            assert!(ignore.leaves_out(&dir.path().join("private.csv"), false));
            assert!(ignore.leaves_out(&dir.path().join("d"), true));
        }
        for bytes in [&utf16[..], b"caf\xe9.csv\n"] {
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            let error = Ignore::of(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Text { .. }), "{error}");
        }
    }

    #[test]
    fn a_broken_pattern_is_named_by_its_line() {
        let error = Ignore::parse(Path::new("/p"), "a\n[z-a]\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
