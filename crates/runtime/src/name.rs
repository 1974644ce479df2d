//! Names of nodes: they become directories, so little is allowed in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The longest name, in bytes.
pub const LONGEST: usize = 63;

/// A node's name: a letter or digit, then letters, digits, `-` and `_`; at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<NodeName, Error> {
        let good = text.len() <= LONGEST
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if good { Ok(NodeName(text.to_owned())) } else { Err(Error::Name { found: text.to_owned() }) }
    }
}

impl TryFrom<String> for NodeName {
    type Error = Error;

    fn try_from(text: String) -> Result<NodeName, Error> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> String {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_are_no_plain_directory_names_are_refused() {
        for good in ["app_name", "a", "0", "My-App_2", &"x".repeat(LONGEST)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", ".", "..", "a/b", "a.tmp-1", "-a", "_a", "a b", "a\0", "é", "a\n", &long] {
            assert!(matches!(bad.parse::<NodeName>(), Err(Error::Name { .. })), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_in_its_directory(text in ".{0,70}") {
            if text.parse::<NodeName>().is_ok() {
                let joined = std::path::Path::new("/nodes").join(&text);
                prop_assert_eq!(joined.parent(), Some(std::path::Path::new("/nodes")));
                prop_assert!(!text.contains('.'));
            }
        }
    }
}
