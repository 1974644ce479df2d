//! The one error type of this crate.
//!
//! Each message says what was expected, what was found and, through the variant, whose fault it is. Messages never
//! contain keys or secrets; they may quote a few bytes of public input.

/// What went wrong while reading, judging, making or fetching attestation data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes from outside that are longer than this crate reads: the fault of who supplied them.
    #[error("{what} is too large: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// What was being read, for instance `quote`.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
        /// The length found, in bytes.
        found: usize,
    },
    /// Bytes from outside that are not what they claim to be: the fault of who supplied them.
    #[error("{what} is malformed: expected {expected}, found {found}")]
    Malformed {
        /// What was being read, for instance `quote`.
        what: &'static str,
        /// What a well-formed input has at that place.
        expected: String,
        /// What this input has there.
        found: String,
    },
    /// A quote that carries no PCK certificate chain, so that no service can be asked for its collateral: the fault of the
    /// machine that made it.
    #[error(
        "the quote holds certification data of {}, expected type 5 (PCK certificate chain): {NO_PCK_CERTIFICATE}",
        crate::quote::certification_data_name(*.kind)
    )]
    NoPckCertificate {
        /// The certification data type it has instead of 5.
        kind: u16,
    },
    /// The caller's own policy file is wrong.
    #[error("the policy is wrong: expected {expected}, found {found}")]
    Policy {
        /// What the policy format asks for.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The caller's own root certificate is wrong.
    #[error("the root certificate is wrong: expected {expected}, found {found}")]
    Root {
        /// What a trust anchor must be.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A certificate, quote, CRL or key could not be made: the fault of the arguments given to the issuer.
    #[error("cannot issue {what}: {reason}")]
    Issue {
        /// What was to be made.
        what: &'static str,
        /// Why it could not be.
        reason: String,
    },
    /// A PCCS or the PCS could not be reached or answered with something else than collateral.
    #[error("cannot fetch {what} from {url}: expected {expected}, found {found}")]
    Fetch {
        /// What was asked for, for instance `TCB info`.
        what: &'static str,
        /// The address that was asked.
        url: String,
        /// What a PCCS answers.
        expected: String,
        /// What came instead.
        found: String,
    },
    /// A PCCS or the PCS shows a TLS certificate that is not trusted here: its operator's to replace, or the caller's to
    /// accept, since what it serves is signed and judged either way.
    #[error("cannot fetch {what} from {url}: expected {expected}, found {found}")]
    ServerCertificate {
        /// What was to be asked for, for instance `TCB info`.
        what: &'static str,
        /// The address that was to be asked.
        url: String,
        /// Which certificate would do.
        expected: String,
        /// What is wrong with the one it shows.
        found: String,
    },
}

/// What a quote without a PCK certificate chain says of the machine that made it.
pub(crate) const NO_PCK_CERTIFICATE: &str =
    "the quoting machine found no PCK certificate; see to its quote provider library (QPL) and its PCCS";

/// The longest piece of input that a message quotes, in bytes.
const MAX_QUOTED: usize = 1_024;

/// `text`, cut where it is longer than [`MAX_QUOTED`]: names in hostile input can be as long as the input.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > MAX_QUOTED {
        let end = (0..=MAX_QUOTED).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl Error {
    /// An [`Error::Malformed`].
    pub(crate) fn malformed(
        what: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Malformed { what, expected: shortened(expected.into()), found: shortened(found.into()) }
    }

    /// Refuses `bytes` longer than `limit`.
    pub(crate) fn check_size(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), Self> {
        if bytes.len() > limit {
            return Err(Self::TooLarge { what, limit, found: bytes.len() });
        }
        Ok(())
    }

    /// What the input should have been and what it was: the two halves of a failed check.
    pub(crate) fn halves(&self) -> (String, String) {
        match self {
            Self::TooLarge { limit, found, .. } => {
                (format!("at most {limit} bytes"), format!("{found} bytes"))
            }
            Self::Malformed { expected, found, .. }
            | Self::Policy { expected, found }
            | Self::Root { expected, found }
            | Self::Fetch { expected, found, .. }
            | Self::ServerCertificate { expected, found, .. } => (expected.clone(), found.clone()),
            Self::NoPckCertificate { kind } => {
                ("type 5 (PCK certificate chain)".to_owned(), crate::quote::certification_data_name(*kind))
            }
            Self::Issue { what, reason } => (format!("a valid {what}"), reason.clone()),
        }
    }
}
