//! Everything that can go wrong between a project and a fingerprint.
//!
//! Each message says what was expected, what was found, and whose fault it is: the project's (the
//! code provider mends it), the package's (whoever made or carried it), or this machine's.

use std::path::{Path, PathBuf};

/// Why a project, a package, an image or an interpreter was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of this machine could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, in the infinitive: "read", "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A TOML file does not parse, or has unknown or missing keys. The text carries line and column.
    #[error("{file} is not valid: {reason}")]
    Toml {
        /// The file's name.
        file: &'static str,
        /// The parser's account, with line and column.
        reason: String,
    },

    /// A value of `mse.toml` or `instance.toml` is not allowed.
    #[error("{file}: `{field}` must be {expected}, found {found}")]
    Field {
        /// The file's name.
        file: &'static str,
        /// The key at fault.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What stands there.
        found: String,
    },

    /// The node configuration inside a manifest is not what this version writes.
    #[error("the node configuration in the manifest is not valid: {0}")]
    NodeConfig(String),

    /// The project lacks something, or holds something that cannot be packaged.
    #[error("project: {} must be {expected}, found {found}", path.display())]
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
        "{archive}: refused entry `{entry}`: expected {expected}, found {found}; whoever made the archive is at fault"
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
    #[error("{archive} is damaged: expected {expected}, found {found}")]
    Archive {
        /// Which archive.
        archive: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// A size, a count or a ratio of expansion is beyond its limit.
    #[error("{what} is over its limit of {limit}")]
    Limit {
        /// What is too large: "image layer 1, unpacked".
        what: String,
        /// The limit, with its unit.
        limit: String,
    },

    /// The package tar is not one.
    #[error("package: expected {expected}, found {found}; whoever made the package is at fault")]
    Package {
        /// What a package has.
        expected: String,
        /// What this one has.
        found: String,
    },

    /// The image inside the package is not one that can be read.
    #[error("image: {part}: expected {expected}, found {found}; whoever built the image is at fault")]
    Image {
        /// The part at fault: "index.json", "layer 2".
        part: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// No Python interpreter of this machine serves.
    #[error("Python: expected {expected}, found {found}")]
    Interpreter {
        /// What is needed.
        expected: String,
        /// What this machine has.
        found: String,
    },

    /// pip failed. Its own words follow, since they say what to mend in the requirements.
    #[error("pip could not {action}:\n{output}")]
    Pip {
        /// What pip was asked to do.
        action: &'static str,
        /// The end of what pip said.
        output: String,
    },

    /// A requirement cannot be pinned by version and hash.
    #[error("requirements: `{requirement}` must be {expected}")]
    Requirement {
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
    #[error("cannot measure the enclave: {0}")]
    Measure(String),

    /// The code archive cannot be encrypted.
    #[error("cannot encrypt the code archive: {0}")]
    Encrypt(String),
}

impl Error {
    /// An [`Error::Io`] for `path`, as a closure for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}
