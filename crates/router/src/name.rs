//! Host names, as a ClientHello carries them (RFC 6066, section 3) and as routes are called: letters, digits and
//! hyphens (RFC 1123, section 2.1), in lower case, without a trailing dot, and no IP address.
//!
//! Names in other scripts are in their ASCII form (A-labels, RFC 5890), which is also what a ClientHello must carry.

use std::fmt;
use std::str::FromStr;

/// The longest host name, without a trailing dot (RFC 1035, section 3.1).
const LONGEST: usize = 253;
/// The longest label of one.
const LONGEST_LABEL: usize = 63;

/// A host name in lower case. Equal names are equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// Why something is no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all, or nothing between two dots.
    #[error("expected a host name, found an empty label")]
    Empty,
    /// Longer than a name or a label can be.
    #[error("expected at most 253 characters and 63 between dots, found more")]
    TooLong,
    /// It ends in a dot.
    #[error("expected a host name without a trailing dot")]
    TrailingDot,
    /// Something other than a letter, a digit, a hyphen or a dot; or a hyphen at either end of a label.
    #[error("expected letters, digits, and hyphens between them, found something else")]
    Character,
    /// An IP address, or what a resolver would take for one: the last label is a number.
    #[error("expected a host name, found an IP address")]
    Address,
}

impl Name {
    /// Reads a name from bytes as a ClientHello carries them.
    ///
    /// # Errors
    /// It is none; see [`NameError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Name, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > 1 && bytes.ends_with(b".") {
            return Err(NameError::TrailingDot);
        }
        if bytes.len() > LONGEST {
            return Err(NameError::TooLong);
        }
        if bytes.contains(&b':') {
            return Err(NameError::Address);
        }
        let mut last = &[][..];
        for label in bytes.split(|&byte| byte == b'.') {
            match label {
                [] => return Err(NameError::Empty),
                _ if label.len() > LONGEST_LABEL => return Err(NameError::TooLong),
                [b'-', ..] | [.., b'-'] => return Err(NameError::Character),
                _ if !label.iter().all(|&byte| byte == b'-' || byte.is_ascii_alphanumeric()) => {
                    return Err(NameError::Character);
                }
                _ => last = label,
            }
        }
        if last.iter().all(u8::is_ascii_digit) {
            return Err(NameError::Address);
        }
        // Every byte is ASCII by now.
        Ok(Name(bytes.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect::<String>().into()))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_hyphens_in_lower_case() {
        for (given, expected) in [
            ("a", Ok("a")),
            ("App-1.Apps.LOCALHOST", Ok("app-1.apps.localhost")),
            ("1.apps.example", Ok("1.apps.example")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("127.0.0.1.example", Ok("127.0.0.1.example")),
            ("", Err(NameError::Empty)),
            (".", Err(NameError::Empty)),
            (".example", Err(NameError::Empty)),
            ("a..example", Err(NameError::Empty)),
            ("a.example.", Err(NameError::TrailingDot)),
            ("127.0.0.1", Err(NameError::Address)),
            ("127.1", Err(NameError::Address)),
            ("2130706433", Err(NameError::Address)),
            ("::1", Err(NameError::Address)),
            ("[::1]", Err(NameError::Address)),
            ("-a.example", Err(NameError::Character)),
            ("a-.example", Err(NameError::Character)),
            ("a_b.example", Err(NameError::Character)),
            ("*.example", Err(NameError::Character)),
            ("bücher.example", Err(NameError::Character)),
            ("a b.example", Err(NameError::Character)),
            ("a\0.example", Err(NameError::Character)),
        ] {
            let found = given.parse::<Name>();
            assert_eq!(found.as_ref().map(Name::as_str), expected.as_ref().map(|name| *name), "{given:?}");
        }
    }

    #[test]
    fn lengths_end_where_dns_ends_them() {
        let label = "a".repeat(63);
        assert!(label.parse::<Name>().is_ok());
        assert_eq!(format!("{label}a").parse::<Name>(), Err(NameError::TooLong));
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), LONGEST);
        assert!(longest.parse::<Name>().is_ok());
        assert_eq!(format!("{longest}a").parse::<Name>(), Err(NameError::TooLong));
    }
}
