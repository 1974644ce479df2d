//! `.dockerignore`: what of a directory is no part of a build.
//!
//! Format: one pattern a line, as the Dockerfile reference describes: relative to the context's root, `*` within one
//! name, `**` over any number of them, `!` for exceptions; the last line that matches a path or a directory above it
//! decides.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::Error;

/// The file's name.
pub const FILE: &str = ".dockerignore";

/// Largest file that is read, in bytes.
pub const LIMIT: usize = 256 * 1024;

/// Most patterns of a file: each is compiled, to a thousand times its length.
pub const PATTERNS_LIMIT: usize = 4096;

/// The patterns of one directory.
#[derive(Debug, Default)]
pub struct IgnoreFile {
    patterns: GlobSet,
    /// Of each pattern, whether what it matches is left out.
    excluded: Vec<bool>,
}

impl IgnoreFile {
    /// Reads the patterns in `text`.
    ///
    /// # Errors
    /// [`Error::BuildContext`] for a pattern that is none, and for more than [`PATTERNS_LIMIT`] of them.
    pub fn parse(text: &str) -> Result<IgnoreFile, Error> {
        let wrong = |expected: &str, found: String| Error::BuildContext {
            what: FILE.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let unreadable =
            |error: globset::Error| wrong("patterns as docker build reads them", error.to_string());
        let mut patterns = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (excluded, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (false, pattern.trim()),
                None => (true, line),
            };
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            if pattern.is_empty() || pattern == "." {
                continue;
            }
            if rules.len() == PATTERNS_LIMIT {
                return Err(wrong(&format!("at most {PATTERNS_LIMIT} patterns"), "more".to_owned()));
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
            patterns.add(glob.map_err(unreadable)?);
            rules.push(excluded);
        }
        Ok(IgnoreFile { patterns: patterns.build().map_err(unreadable)?, excluded: rules })
    }

    /// Whether `path`, relative to the context with `/` between names, is no part of the build.
    pub fn leaves_out(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        let matching = above.chain([path]).filter_map(|path| self.patterns.matches(path).into_iter().max());
        matching.max().is_some_and(|last| self.excluded[last])
    }

    /// Whether something below a directory that is left out may come back in.
    pub fn has_exceptions(&self) -> bool {
        self.excluded.contains(&false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_line_decides() {
        let file = IgnoreFile::parse(
            "# secrets\n*.key\n/secrets.json\n**/cache\ndocs\n!docs/README.md\n./build/\na/*/c\n\n",
        )
        .unwrap();
        for out in ["x.key", "secrets.json", "cache/x", "a/b/cache", "docs/x", "build/y/z", "a/b/c"] {
            assert!(file.leaves_out(out), "{out}");
        }
        for kept in ["sub/x.key", "docs/README.md", "a/c", "a/b/d/c", "keys", "sub/secrets.json"] {
            assert!(!file.leaves_out(kept), "{kept}");
        }
        assert!(file.has_exceptions());
        assert!(!IgnoreFile::default().leaves_out("anything"));
        assert!(IgnoreFile::parse("a[").is_err());
    }

    #[test]
    fn patterns_are_counted() {
        assert!(IgnoreFile::parse(&"f\n".repeat(PATTERNS_LIMIT)).is_ok());
        let error = IgnoreFile::parse(&"f\n".repeat(PATTERNS_LIMIT + 1)).unwrap_err();
        assert!(error.to_string().contains("4096 patterns"), "{error}");
    }
}
