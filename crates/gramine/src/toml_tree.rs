//! Looking keys up in a parsed TOML document, with errors that name the dotted key.

use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::Error;

/// A table of the document and the dotted key that leads to it. A table that is missing is an empty one.
#[derive(Clone)]
pub(crate) struct Section<'t, 'i> {
    path: String,
    table: Option<&'t DeTable<'i>>,
}

impl<'t, 'i> Section<'t, 'i> {
    /// The document itself.
    pub fn root(table: &'t DeTable<'i>) -> Self {
        Section { path: String::new(), table: Some(table) }
    }

    /// The table at `key`.
    pub fn section(&self, key: &str) -> Result<Self, Error> {
        match self.get(key) {
            None => Ok(Section { path: self.path_of(key), table: None }),
            Some(DeValue::Table(table)) => Ok(self.child(key, table)),
            Some(other) => Err(self.wrong(key, "a table", found(other))),
        }
    }

    /// A table that was found at `key`.
    pub fn child(&self, key: &str, table: &'t DeTable<'i>) -> Self {
        Section { path: self.path_of(key), table: Some(table) }
    }

    /// All keys with their values.
    pub fn entries(&self) -> impl Iterator<Item = (&'t str, &'t DeValue<'i>)> + use<'t, 'i> {
        self.table.into_iter().flatten().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()))
    }

    /// The boolean at `key`, or `default` where there is none.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(DeValue::Boolean(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, "true or false", found(other))),
        }
    }

    /// The integer at `key`, or `default` where there is none.
    pub fn integer<T: TryFrom<i64> + Bounds>(&self, key: &str, default: T) -> Result<T, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(DeValue::Integer(value)) => value_of(value)
                .and_then(|value| T::try_from(value).ok())
                .ok_or_else(|| self.wrong(key, T::RANGE, value.to_string())),
            Some(other) => Err(self.wrong(key, T::RANGE, found(other))),
        }
    }

    /// The string at `key`, where there is one.
    pub fn text(&self, key: &str) -> Result<Option<&'t str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text.as_ref())),
            Some(other) => Err(self.wrong(key, "a string", found(other))),
        }
    }

    /// What the string at `key` stands for; the first choice where there is none.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let (default, _) = choices[0];
        let text = self.text(key)?.unwrap_or(default);
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(key, names.join(" or "), format!("{text:?}"))
        })
    }

    /// The array at `key`; an empty one where there is none.
    pub fn array(&self, key: &str) -> Result<&'t [Spanned<DeValue<'i>>], Error> {
        match self.get(key) {
            None => Ok(&[]),
            Some(DeValue::Array(array)) => Ok(array),
            Some(other) => Err(self.wrong(key, "an array", found(other))),
        }
    }

    /// The error for a wrong value at `key`.
    pub fn wrong(&self, key: &str, expected: impl Display, found: impl Display) -> Error {
        Error::ManifestKey {
            key: self.path_of(key),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn get(&self, key: &str) -> Option<&'t DeValue<'i>> {
        self.table?.get(key).map(Spanned::get_ref)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }
}

/// What a value of the wrong type is, in words.
pub(crate) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(value) => value.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::String(text) => format!("the string {text:?}"),
        other => format!("a value of type {}", other.type_str()),
    }
}

fn value_of(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The range of an integer type, in words.
pub(crate) trait Bounds {
    const RANGE: &'static str;
}

impl Bounds for u16 {
    const RANGE: &'static str = "an integer from 0 to 65535";
}

impl Bounds for u32 {
    const RANGE: &'static str = "an integer from 0 to 4294967295";
}
