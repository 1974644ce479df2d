//! `.dockerignore`: what of a directory is no part of a build.
//!
//! Format: one pattern a line, as the Dockerfile reference describes: relative to the context's root, `*` within one
//! name, `**` over any number of them, `!` for exceptions; the last line that matches a path or a directory above it
//! decides.

use globset::{GlobBuilder, GlobMatcher};

use crate::Error;

/// The file's name.
pub const FILE: &str = ".dockerignore";

/// Largest file that is read, in bytes.
pub const LIMIT: usize = 256 * 1024;

/// The patterns of one directory.
#[derive(Debug, Default)]
pub struct IgnoreFile {
    rules: Vec<(bool, GlobMatcher)>,
}

impl IgnoreFile {
    /// Reads the patterns in `text`.
    ///
    /// # Errors
    /// [`Error::BuildContext`] for a pattern that is none.
    pub fn parse(text: &str) -> Result<IgnoreFile, Error> {
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
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| Error::BuildContext {
                what: FILE.to_owned(),
                expected: "patterns as docker build reads them".to_owned(),
                found: error.to_string(),
            })?;
            rules.push((excluded, glob.compile_matcher()));
        }
        Ok(IgnoreFile { rules })
    }

    /// Whether `path`, relative to the context with `/` between names, is no part of the build.
    pub fn leaves_out(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        let all: Vec<&str> = above.chain([path]).collect();
        let decides = self.rules.iter().rev().find(|(_, glob)| all.iter().any(|path| glob.is_match(path)));
        decides.is_some_and(|(excluded, _)| *excluded)
    }

    /// Whether something below a directory that is left out may come back in.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|(excluded, _)| !excluded)
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
}
