//! The one error type of this crate. No message carries key material or plaintext.

/// Why something could not be encrypted, sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key that is not of the right form: the fault of who supplied the key.
    #[error("{what}: expected {expected}, found {found}")]
    KeyFormat {
        /// Which key.
        what: &'static str,
        /// The right form.
        expected: &'static str,
        /// What is wrong with it, without showing it.
        found: String,
    },
    /// A file that is not of the format that it should have: the fault of who made or carried the file.
    #[error("{what}: expected {expected}, found {found}; the file is damaged or of another kind")]
    Format {
        /// Which format.
        what: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds instead.
        found: String,
    },
    /// More bytes than the format allows.
    #[error("{what}: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// Which input.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
        /// The size found, in bytes.
        found: usize,
    },
    /// Authenticated decryption failed. Which of the possible reasons it was cannot be known.
    #[error("{what}: expected {expected}, found bytes that do not authenticate: {reasons}")]
    NotAuthentic {
        /// What was being opened.
        what: &'static str,
        /// What it should have been made with.
        expected: &'static str,
        /// The possible reasons.
        reasons: &'static str,
    },
    /// A stream that stops, or goes on, where it must not.
    #[error("{what}: expected {expected}, found {found}; it was cut, extended or put together from pieces")]
    Stream {
        /// Which stream.
        what: &'static str,
        /// How it should have gone on.
        expected: &'static str,
        /// How it did.
        found: &'static str,
    },
    /// The operating system gave no random numbers.
    #[error("random numbers: expected them from the operating system, found none: {0}")]
    Random(getrandom::Error),
    /// Reading the input or writing the output failed.
    #[error("{what}: {source}")]
    Io {
        /// Which of the two.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Fills `bytes` with random numbers of the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::Random)
}
