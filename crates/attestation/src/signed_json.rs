//! Names in JSON that are not known here: which of them refuse a document, and which are passed over and reported.
//!
//! Intel's verification library reads TCB info and QE identity by name and ignores the rest, so Intel can add names without
//! a new version. Refusing every new name would stop all verification on that day; ignoring every one could accept what Intel
//! meant to refuse. The rule here, for a document whose version is known:
//!
//! * inside the levels, where the verdict is made, any unknown name refuses;
//! * at the top, an unknown name refuses where it could decide ([`could_decide`]): it is a known name in another spelling,
//!   or made of the words from which the deciding names of these formats are made;
//! * any other unknown name is passed over, and the judgement names it;
//! * a doubled name refuses, known or not, at every level that is read.
//!
//! Which levels compare how is fixed by `version` and `tcbType` (Intel PCS API v4), which are compared. The walk is one pass,
//! linear in the text, and keeps no values.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most unknown names that one text may have.
const MAX_UNKNOWN: usize = 64;
/// The longest unknown name, in bytes.
const MAX_NAME: usize = 64;

/// The names in one object, and what stands below them.
pub(crate) struct Shape {
    pub(crate) fields: &'static [(&'static str, Below)],
    pub(crate) unknown: Unknown,
}

/// What stands below a name.
pub(crate) enum Below {
    /// A value that is read as a whole.
    Value,
    /// An object.
    Object(&'static Shape),
    /// A list of objects.
    List(&'static Shape),
}

/// What becomes of unknown names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// They refuse the document.
    Refused,
    /// They are passed over, unless they could decide.
    Weighed,
    /// They are passed over.
    PassedOver,
}

/// The unknown names in `json` that are passed over, in their order.
///
/// # Errors
/// Text that is no JSON, a doubled name, or an unknown name that refuses. Values of another type than the shape says are
/// left to the reader that follows.
pub(crate) fn passed_over(json: &str, shape: &'static Shape) -> Result<Vec<String>, serde_json::Error> {
    let mut found = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Walk { shape, found: &mut found }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// Words of which the names that decide are made, in lower case: what is compared, how it is masked, what it leads to and
/// for how long. Any of them, anywhere in a name, makes it one that could decide.
const DECIDING: [&str; 31] = [
    "level",
    "status",
    "svn",
    "component",
    "mask",
    "advisor",
    "evaluation",
    "type",
    "fmspc",
    "pce",
    "ppid",
    "cpu",
    "mrsigner",
    "mrenclave",
    "isv",
    "misc",
    "attribute",
    "config",
    "xfrm",
    "debug",
    "smt",
    "revo",
    "valid",
    "expir",
    "update",
    "issue",
    "require",
    "forbid",
    "deny",
    "block",
    "allow",
];

/// Whether an unknown name could change a verdict.
fn could_decide(name: &str, shape: &Shape) -> bool {
    let folded = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let name = folded(name);
    !plain
        || name.is_empty()
        || shape.fields.iter().any(|(known, _)| folded(known) == name)
        || DECIDING.iter().any(|word| name.contains(word))
}

/// Walks one value along its shape.
struct Walk<'f> {
    shape: &'static Shape,
    found: &'f mut Vec<String>,
}

impl Walk<'_> {
    /// Keeps an unknown name, or refuses for it.
    fn weigh<E: serde::de::Error>(&mut self, name: &str) -> Result<(), E> {
        let shown: String = name.chars().take(MAX_NAME).collect();
        let refused = match self.shape.unknown {
            Unknown::Refused => Some("where the verdict is made"),
            Unknown::Weighed if could_decide(name, self.shape) => Some("which could change the verdict"),
            _ if name.len() > MAX_NAME => Some("longer than 64 bytes"),
            _ if self.found.len() == MAX_UNKNOWN => Some("one too many"),
            _ => None,
        };
        match refused {
            Some(why) => Err(E::custom(format!("unknown field {shown:?}, {why}"))),
            None => {
                self.found.push(shown);
                Ok(())
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let known = self.shape.fields.iter().find(|(known, _)| **known == *name);
            if known.is_none() {
                self.weigh(&name)?;
            }
            let shown = name.chars().take(MAX_NAME).collect::<String>();
            if !seen.insert(name) {
                return Err(A::Error::custom(format!("duplicate field {shown:?}")));
            }
            match known.map(|(_, below)| below) {
                Some(Below::Object(shape)) => map.next_value_seed(Walk { shape, found: self.found })?,
                Some(Below::List(shape)) => map.next_value_seed(List { shape, found: self.found })?,
                Some(Below::Value) | None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Walks the objects of a list.
struct List<'f> {
    shape: &'static Shape,
    found: &'f mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of JSON objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Walk { shape: self.shape, found: self.found })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    static LEVEL: Shape = Shape { fields: &[("svn", Below::Value)], unknown: Unknown::Refused };
    static TOP: Shape = Shape {
        fields: &[
            ("id", Below::Value),
            ("mrsigner", Below::Value),
            ("one", Below::Object(&LEVEL)),
            ("levels", Below::List(&LEVEL)),
        ],
        unknown: Unknown::Weighed,
    };

    #[test]
    fn names_that_cannot_decide_are_passed_over() {
        let json = r#"{"id": 1, "note": {"svn": [1, {}]}, "levels": [{"svn": 1}], "description_2": null, "one": {}}"#;
        assert_eq!(passed_over(json, &TOP).unwrap(), ["note", "description_2"]);
        assert_eq!(passed_over(r#"{"id": 1}"#, &TOP).unwrap(), [""; 0]);
    }

    #[test]
    fn names_that_could_decide_refuse() {
        for name in [
            "ID",
            "Id",
            "mr_signer",
            "mrsignerMask",
            "MRENCLAVE",
            "isvextprodid",
            "configSvn",
            "revoked",
            "tcbLevelsV2",
            "minimumSVN",
            "tcbStatusReason",
            "validUntil",
            "xfrmMask",
            "t\u{435}xt",
            "a b",
            "",
        ] {
            let json = format!("{{{}: 1}}", serde_json::json!(name));
            let error = passed_over(&json, &TOP).unwrap_err().to_string();
            assert!(error.contains("which could change the verdict"), "{name}: {error}");
        }
    }

    #[test]
    fn inside_the_levels_every_unknown_name_refuses() {
        for json in [r#"{"levels": [{"svn": 1, "note": 1}]}"#, r#"{"one": {"note": 1}}"#] {
            let error = passed_over(json, &TOP).unwrap_err().to_string();
            assert!(error.contains("unknown field \"note\", where the verdict is made"), "{error}");
        }
    }

    #[test]
    fn doubled_names_refuse_known_or_not() {
        for json in [
            r#"{"id": 1, "id": 1}"#,
            r#"{"note": 1, "note": 2}"#,
            r#"{"note": 1, "n\u006fte": 2}"#,
            r#"{"levels": [{"svn": 1, "svn": 2}]}"#,
        ] {
            let error = passed_over(json, &TOP).unwrap_err().to_string();
            assert!(error.contains("duplicate field"), "{json}: {error}");
        }
    }

    #[test]
    fn number_and_length_of_unknown_names_are_limited() {
        let names = |number: usize| {
            let names: Vec<String> = (0..number).map(|n| format!("\"n{n}\": 1")).collect();
            passed_over(&format!("{{{}}}", names.join(",")), &TOP)
        };
        assert_eq!(names(MAX_UNKNOWN).unwrap().len(), MAX_UNKNOWN);
        assert!(names(MAX_UNKNOWN + 1).unwrap_err().to_string().contains("one too many"));
        let long = |length: usize| passed_over(&format!("{{\"{}\": 1}}", "n".repeat(length)), &TOP);
        assert!(long(MAX_NAME).is_ok());
        let error = long(100_000).unwrap_err().to_string();
        assert!(error.contains("longer than 64 bytes") && error.len() < 200, "{error}");
    }

    #[test]
    fn broken_text_and_other_types_refuse() {
        for json in ["", "[]", "{", "{} x", "{\"levels\": 1}", "{\"levels\": [[1]]}", "{\"note\": [1}"] {
            assert!(passed_over(json, &TOP).is_err(), "{json}");
        }
    }
}
