//! Everything that can go wrong between a project and a fingerprint.
//!
//! Each message says what was expected, what was found, and whose fault it is: the project's (the
//! code provider mends it), the package's (whoever made or carried it), or this machine's. What a message quotes is
//! shown without control characters: none reaches a terminal.

use std::fmt;
use std::path::{Path, PathBuf};

use outside::printable::printable;

/// Why a project, a package, an image or an interpreter was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of this machine could not be read or written.
    #[error("cannot {action} {}: {source}", clean(path.display()))]
    Io {
        /// What was tried, in the infinitive: "read", "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A TOML file does not parse, or has unknown or missing keys. The text carries line and column.
    #[error("{} is not valid: {}", clean(file), lines(reason))]
    Toml {
        /// The file's name, or its path where it was found.
        file: String,
        /// The parser's account, with line and column.
        reason: String,
    },

    /// A value of `mse.toml` or `instance.toml` is not allowed.
    #[error("{}: `{field}` must be {expected}, found {}", clean(file), clean(found))]
    Field {
        /// The file's name, or its path where it was found.
        file: String,
        /// The key at fault.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What stands there.
        found: String,
    },

    /// A file is not text in an encoding that is read.
    #[error(
        "{}, line {line}: expected text in UTF-8, or in UTF-16 with a byte order mark; found {}",
        clean(file),
        clean(found)
    )]
    Text {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// What stands there, and what encoding that looks like.
        found: String,
    },

    /// The node configuration inside a manifest is not what this version writes.
    #[error("the node configuration in the manifest is not valid: {}", lines(.0))]
    NodeConfig(String),

    /// The project lacks something, or holds something that cannot be packaged.
    #[error("project: {} must be {expected}, found {}", clean(path.display()), clean(found))]
    Project {
        /// The file or directory of the project at fault.
        path: PathBuf,
        /// What was expected of it.
        expected: String,
        /// What was found.
        found: String,
    },

    /// An archive holds an entry that is refused: `..`, a link, a device, a duplicate, ...
    #[error(
        "{archive}: refused entry `{}`: expected {expected}, found {}; whoever made the archive is at fault",
        clean(entry),
        clean(found)
    )]
    Entry {
        /// Which archive: "app.tar", "image layer 3".
        archive: String,
        /// The entry's name as carried, made printable.
        entry: String,
        /// What an entry must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },

    /// An archive is cut off, has trailing bytes, or is not a tar at all.
    #[error("{archive} is damaged: expected {expected}, found {}", clean(found))]
    Archive {
        /// Which archive.
        archive: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// A size, a count or a ratio of expansion is beyond its limit.
    #[error("{} is over its limit of {limit}", clean(what))]
    Limit {
        /// What is too large: "image layer 1, unpacked".
        what: String,
        /// The limit, with its unit.
        limit: String,
    },

    /// The package tar is not one.
    #[error("package: expected {expected}, found {}; whoever made the package is at fault", clean(found))]
    Package {
        /// What a package has.
        expected: String,
        /// What this one has.
        found: String,
    },

    /// The image inside the package is not one that can be read.
    #[error(
        "image: {}: expected {}, found {}; whoever built the image is at fault",
        clean(part),
        clean(expected),
        clean(found)
    )]
    Image {
        /// The part at fault: "index.json", "layer 2".
        part: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// No Python interpreter of this machine serves.
    #[error("Python: expected {expected}, found {}", clean(found))]
    Interpreter {
        /// What is needed.
        expected: String,
        /// What this machine has.
        found: String,
    },

    /// pip failed. Its own words follow, since they say what to mend in the requirements.
    #[error("pip could not {action}:\n{}", lines(output))]
    Pip {
        /// What pip was asked to do.
        action: &'static str,
        /// The end of what pip said.
        output: String,
    },

    /// A requirement cannot be pinned by version and hash.
    #[error("{}: `{}` must be {expected}", clean(place), clean(requirement))]
    Requirement {
        /// Where it stands: "requirements.txt, line 3".
        place: String,
        /// The requirement at fault.
        requirement: String,
        /// What is allowed.
        expected: &'static str,
    },

    /// The lock file is damaged.
    #[error("requirements.lock, line {line}: expected {expected}; delete the file and it is made anew")]
    Lock {
        /// Line number, from 1.
        line: usize,
        /// What was expected there.
        expected: &'static str,
    },

    /// An enclave size that Gramine or MSE cannot use.
    #[error("enclave size: expected a power of two from 1024 to 65536 (MiB), found {0}")]
    EnclaveSize(u64),

    /// The enclave cannot be measured.
    #[error("cannot measure the enclave: {}", clean(.0))]
    Measure(String),

    /// The code archive cannot be encrypted.
    #[error("cannot encrypt the code archive: {}", clean(.0))]
    Encrypt(String),
}

impl Error {
    /// The same error, but of the file at `path`: a reader of text knows only what such a file is usually called.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Error {
        match &mut self {
            Error::Toml { file, .. } | Error::Field { file, .. } | Error::Limit { what: file, .. } => {
                *file = path.display().to_string();
            }
            _ => {}
        }
        self
    }

    /// An [`Error::Io`] for `path`, as a closure for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

/// Shows a text without what acts on a terminal or turns the direction of writing.
fn clean(text: impl fmt::Display) -> String {
    printable(&text.to_string(), "")
}

/// The same for texts of several lines.
fn lines(text: impl fmt::Display) -> String {
    printable(&text.to_string(), "\n\t")
}

#[cfg(test)]
mod tests {
    use outside::printable::acts;

    use super::*;

    #[test]
    fn nothing_that_a_message_quotes_acts_on_a_terminal() {
        let evil = "a\u{1b}[2Jb\u{7}\u{9b}c\u{202e}d\u{61c}e\u{2028}f\r\ng";
        let text = || evil.to_owned();
        let errors = [
            Error::io("read", Path::new(evil))(std::io::Error::other("x")),
            Error::Toml { file: text(), reason: text() },
            Error::Field { file: text(), field: "name", expected: "x", found: text() },
            Error::NodeConfig(text()),
            Error::Project { path: evil.into(), expected: "x".into(), found: text() },
            Error::Entry { archive: "image layer 1".into(), entry: text(), expected: "x", found: text() },
            Error::Archive { archive: "image layer 1".into(), expected: "x".into(), found: text() },
            Error::Limit { what: text(), limit: "1".into() },
            Error::Package { expected: "x".into(), found: text() },
            Error::Image { part: text(), expected: text(), found: text() },
            Error::Interpreter { expected: "x".into(), found: text() },
            Error::Pip { action: "install", output: text() },
            Error::Text { file: text(), line: 1, found: text() },
            Error::Requirement { place: text(), requirement: text(), expected: "x" },
            Error::Measure(text()),
            Error::Encrypt(text()),
        ];
        for error in errors {
            let shown = error.to_string();
            assert!(!shown.chars().any(|c| acts(c) && c != '\n'), "{shown:?}");
            assert!(shown.contains("a\\u{1b}[2Jb"), "{shown:?}");
        }
    }
}
