//! The one error type of this crate. No message carries key material or plaintext.

/// Why something could not be encrypted, sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key, seed or nonce that is not of the right form.
    #[error("{what}: expected {expected}, found {found}")]
    KeyFormat {
        /// Which key.
        what: &'static str,
        /// The right form.
        expected: &'static str,
        /// What is wrong with it, without showing it.
        found: String,
    },
    /// A file that is not of the format that it should have.
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
    #[error("{what}: expected at most {limit} bytes, found more")]
    TooLarge {
        /// Which input.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Authenticated decryption failed.
    #[error("{what}: expected {expected}, found bytes that do not authenticate: {fault}")]
    NotAuthentic {
        /// What was being opened.
        what: &'static str,
        /// What it should have been made with.
        expected: &'static str,
        /// The possible culprits.
        fault: &'static str,
    },
    /// A stream that stops, or goes on, where it must not.
    #[error("{what}: expected {expected}, found {found}")]
    Stream {
        /// Which stream.
        what: &'static str,
        /// Where it should have ended.
        expected: &'static str,
        /// Where it did.
        found: &'static str,
    },
    /// The operating system gave no random numbers.
    #[error("random numbers: expected them from the operating system, found none: {0}")]
    Random(String),
    /// Reading the input or writing the output failed.
    #[error("{what}: {source}")]
    Io {
        /// Which of the two.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
