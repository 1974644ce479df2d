//! The `[cloud]` table of `mse.toml`: what `mse cloud` asks a backend for.
//!
//! ```toml
//! [cloud]
//! code = "mse_src"                       # the application's code; paths begin at mse.toml
//! tests = "tests"
//! docker = "my-image:1.0"                # an image of the local engine; without it one is built from the project
//! project = "default"                    # the project on the backend
//! hardware = "small"                     # a plan of the backend; without it the smallest that holds the package
//! expiration_date = "2027-01-31 18:00"   # UTC where no offset is given; without it the backend's usual time
//! secrets = "secrets.json"               # sent to the verified enclave, and to nobody else
//! sealed_secrets = "secrets_to_seal.json"   # the same, sealed besides: safe from who records and waits
//!
//! [cloud.ssl]                            # serve this certificate instead of the enclave's own
//! domain_name = "app.example"
//! private_key = "key.pem"
//! certificate = "fullchain.pem"
//! ```
//!
//! Nothing of it is measured but that there is a `[cloud.ssl]`, which chooses the TLS mode.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::config::is_name;
use crate::instance::is_host;
use crate::text::printable;
use crate::{Error, Result};

const FILE: &str = "mse.toml";

/// The table, validated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudConfig {
    /// The application's code, relative to `mse.toml`.
    pub code: Option<String>,
    /// The tests, relative to `mse.toml`.
    pub tests: Option<String>,
    /// An image of the local container engine.
    pub docker: Option<String>,
    /// The project on the backend.
    pub project: Option<String>,
    /// The plan.
    pub hardware: Option<String>,
    /// When the application shall end by itself.
    pub expires_at: Option<Timestamp>,
    /// The file of secrets, relative to `mse.toml`.
    pub secrets: Option<String>,
    /// The file of secrets to seal, relative to `mse.toml`.
    pub sealed_secrets: Option<String>,
    /// The owner's certificate.
    pub ssl: Option<Ssl>,
}

/// The owner's certificate, which the application serves instead of the enclave's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssl {
    /// The name users call the application by.
    pub domain_name: String,
    /// The file of the private key (PEM), relative to `mse.toml`.
    pub private_key: String,
    /// The file of the certificate chain (PEM), relative to `mse.toml`.
    pub certificate: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    code: Option<String>,
    tests: Option<String>,
    docker: Option<String>,
    project: Option<String>,
    hardware: Option<String>,
    expiration_date: Option<toml::Value>,
    secrets: Option<String>,
    sealed_secrets: Option<String>,
    ssl: Option<Ssl>,
}

impl CloudConfig {
    /// Reads and validates the table.
    pub fn from_table(table: &toml::Table) -> Result<CloudConfig> {
        let raw: Raw = table.clone().try_into().map_err(|e: toml::de::Error| {
            // The table was parsed before, so that there are no places to tell.
            Error::Toml { file: FILE.into(), reason: format!("[cloud]: {}", printable(e.message(), 400)) }
        })?;
        let refuse = |field, expected, found: String| {
            let found = printable(&found, 200);
            Err(Error::Field { file: FILE.into(), field, expected, found })
        };
        for (field, name) in [("cloud.project", &raw.project), ("cloud.hardware", &raw.hardware)] {
            if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
                return refuse(field, NAME_RULE, format!("{name:?}"));
            }
        }
        let paths = [
            ("cloud.code", raw.code.as_ref()),
            ("cloud.tests", raw.tests.as_ref()),
            ("cloud.secrets", raw.secrets.as_ref()),
            ("cloud.sealed_secrets", raw.sealed_secrets.as_ref()),
            ("cloud.ssl.private_key", raw.ssl.as_ref().map(|ssl| &ssl.private_key)),
            ("cloud.ssl.certificate", raw.ssl.as_ref().map(|ssl| &ssl.certificate)),
        ];
        for (field, path) in paths {
            if path.is_some_and(|path| path.is_empty() || path.contains('\0')) {
                return refuse(field, "a path", format!("{path:?}"));
            }
        }
        if let Some(image) = raw.docker.as_ref().filter(|image| !is_reference(image)) {
            return refuse(
                "cloud.docker",
                "the name of an image, such as `my-image:1.0`",
                format!("{image:?}"),
            );
        }
        if let Some(ssl) = &raw.ssl {
            let name = ssl.domain_name.as_str();
            if !is_host(name) || name.parse::<std::net::IpAddr>().is_ok() || !name.contains('.') {
                return refuse("cloud.ssl.domain_name", "a domain name", format!("{name:?}"));
            }
        }
        let expires_at = match &raw.expiration_date {
            None => None,
            Some(value) => match instant(value) {
                Some(at) => Some(at),
                None => return refuse("cloud.expiration_date", EXPIRY_RULE, value.to_string()),
            },
        };
        Ok(CloudConfig {
            code: raw.code,
            tests: raw.tests,
            docker: raw.docker,
            project: raw.project,
            hardware: raw.hardware,
            expires_at,
            secrets: raw.secrets,
            sealed_secrets: raw.sealed_secrets,
            ssl: raw.ssl.map(|ssl| Ssl { domain_name: ssl.domain_name.to_ascii_lowercase(), ..ssl }),
        })
    }
}

const NAME_RULE: &str = "1 to 64 letters, digits, `-` and `_`, beginning with a letter or digit";
const EXPIRY_RULE: &str = "a date, a date and a time in UTC, or an RFC 3339 instant";

/// A date is meant to its end.
fn instant(value: &toml::Value) -> Option<Timestamp> {
    let text = match value {
        toml::Value::String(text) => text.trim().to_owned(),
        toml::Value::Datetime(at) => at.to_string(),
        _ => return None,
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let is_date = text.len() == "2027-01-31".len();
    let civil = match is_date {
        true => text.parse::<Date>().ok()?.at(23, 59, 59, 0),
        false => text.replacen(' ', "T", 1).parse::<DateTime>().ok()?,
    };
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Whether `name` may be given to an engine as an image's name: nothing that could be an option or hold a blank.
fn is_reference(name: &str) -> bool {
    name.len() <= 512
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<CloudConfig> {
        CloudConfig::from_table(&text.parse().unwrap())
    }

    #[test]
    fn everything_has_its_place() {
        let config = read(
            "code = \"src\"\ntests = \"t\"\ndocker = \"image:1\"\nproject = \"p\"\nhardware = \"small\"\n\
             expiration_date = \"2027-01-31 18:00:00\"\nsecrets = \"s.json\"\n\
             [ssl]\ndomain_name = \"App.example\"\nprivate_key = \"k.pem\"\ncertificate = \"c.pem\"\n",
        )
        .unwrap();
        assert_eq!(config.expires_at.unwrap().to_string(), "2027-01-31T18:00:00Z");
        assert_eq!(config.ssl.unwrap().domain_name, "app.example");
        assert_eq!(config.docker.as_deref(), Some("image:1"));
        assert_eq!(read("").unwrap(), CloudConfig::default());
    }

    #[test]
    fn instants_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("\"2027-01-31\"", "2027-01-31T23:59:59Z"),
            ("2027-01-31", "2027-01-31T23:59:59Z"),
            ("\"2027-01-31 18:00\"", "2027-01-31T18:00:00Z"),
            ("2027-01-31T18:00:00", "2027-01-31T18:00:00Z"),
            ("2027-01-31T18:00:00+02:00", "2027-01-31T16:00:00Z"),
            ("\"2027-01-31T18:00:00Z\"", "2027-01-31T18:00:00Z"),
        ] {
            let config = read(&format!("expiration_date = {text}")).unwrap();
            assert_eq!(config.expires_at.unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (text, field) in [
            ("project = \"a b\"", "cloud.project"),
            ("hardware = \"\"", "cloud.hardware"),
            ("secrets = \"\"", "cloud.secrets"),
            ("docker = \"--privileged\"", "cloud.docker"),
            ("docker = \"a b\"", "cloud.docker"),
            ("expiration_date = \"tomorrow\"", "cloud.expiration_date"),
            ("expiration_date = 7", "cloud.expiration_date"),
            (
                "[ssl]\ndomain_name = \"a b\"\nprivate_key = \"k\"\ncertificate = \"c\"",
                "cloud.ssl.domain_name",
            ),
            (
                "[ssl]\ndomain_name = \"127.0.0.1\"\nprivate_key = \"k\"\ncertificate = \"c\"",
                "cloud.ssl.domain_name",
            ),
            (
                "[ssl]\ndomain_name = \"a.b\"\nprivate_key = \"\"\ncertificate = \"c\"",
                "cloud.ssl.private_key",
            ),
        ] {
            let Err(Error::Field { field: found, .. }) = read(text) else { panic!("{text} was accepted") };
            assert_eq!(found, field, "{text}");
        }
        for text in ["unknown = 1", "ssl = 1", "[ssl]\ndomain_name = \"a.b\"", "code = 1"] {
            assert!(matches!(read(text), Err(Error::Toml { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_instant_is_read_or_refused(text in "[-0-9T: Z+.]{0,30}") {
            let _ = instant(&toml::Value::String(text));
        }
    }
}
