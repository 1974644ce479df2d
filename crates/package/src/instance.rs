//! `instance.toml`: what the operator adds to a package to start one node of it.
//!
//! The file is written by the operator's machine and read by the node, for which it is hostile
//! input: it names the host, the port, the validity and the id, is validated here, and cannot
//! change what code runs. It is not measured; what it says shows up in the node's certificate and
//! claims, where a verifier sees it.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::toml_reason;
use crate::{Error, Result};

const FILE: &str = "instance.toml";

/// Largest `instance.toml` that is read, in bytes.
pub const LIMIT: usize = 16 * 1024;

/// Most names that an instance has besides its first.
const OTHER_HOSTS: usize = 8;

/// One node of a package: who it is, where it listens, how long its certificate lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The id that every configuration must repeat.
    pub app_id: Uuid,
    /// The DNS name or IP address that the certificate is issued for.
    pub host: String,
    /// More names and addresses that the certificate is issued for, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_hosts: Vec<String>,
    /// Where the node listens.
    pub listen: SocketAddr,
    /// Start of the certificate's validity (RFC 3339).
    pub not_before: Timestamp,
    /// End of the certificate's validity (RFC 3339), after `not_before`.
    pub not_after: Timestamp,
    /// The certificate's subject, as an RFC 4514 string: `CN=myapp.fr,O=Example`.
    pub subject: String,
    /// Present exactly where there is no SGX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<Simulation>,
}

/// Where the simulated platform lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// The simulator's installation directory, absolute.
    pub installation: PathBuf,
}

impl Instance {
    /// Reads and validates the text of an `instance.toml`.
    pub fn from_toml(text: &str) -> Result<Self> {
        if text.len() > LIMIT {
            return Err(Error::Limit { what: FILE.into(), limit: format!("{LIMIT} bytes") });
        }
        let instance: Instance = toml::from_str(text)
            .map_err(|e| Error::Toml { file: FILE.into(), reason: toml_reason(text, &e) })?;
        instance.validate()?;
        Ok(instance)
    }

    /// The text that [`Instance::from_toml`] reads back; refuses an instance which it would refuse.
    pub fn to_toml(&self) -> Result<String> {
        self.validate()?;
        toml::to_string(self).map_err(|e| Error::Toml { file: FILE.into(), reason: e.to_string() })
    }

    /// Checks every field, whatever the instance came from.
    pub fn validate(&self) -> Result<()> {
        let refuse =
            |field, expected, found: String| Err(Error::Field { file: FILE.into(), field, expected, found });
        if self.app_id.is_nil() {
            return refuse("app_id", "a UUID other than nil", self.app_id.to_string());
        }
        if !is_host(&self.host) {
            return refuse("host", "a DNS name or an IP address", format!("{:?}", self.host));
        }
        let others = &self.other_hosts;
        if others.len() > OTHER_HOSTS {
            return refuse("other_hosts", "at most eight names", others.len().to_string());
        }
        for (n, other) in others.iter().enumerate() {
            let is_new = |name: &String| !name.eq_ignore_ascii_case(other);
            let is_new = is_new(&self.host) && others[..n].iter().all(is_new);
            if !is_host(other) || !is_new {
                let expected = "DNS names or IP addresses, each named once";
                return refuse("other_hosts", expected, format!("{other:?}"));
            }
        }
        if self.listen.port() == 0 {
            return refuse("listen", "an address with a port from 1 to 65535", self.listen.to_string());
        }
        if self.not_after <= self.not_before {
            return refuse("not_after", "a time after `not_before`", self.not_after.to_string());
        }
        let printable = !self.subject.chars().any(char::is_control);
        if self.subject.is_empty() || self.subject.len() > 512 || !printable {
            return refuse("subject", "1 to 512 bytes of printable text", format!("{:?}", self.subject));
        }
        if let Some(simulation) = &self.simulation
            && !simulation.installation.is_absolute()
        {
            let found = simulation.installation.display().to_string();
            return refuse("simulation.installation", "an absolute path", found);
        }
        Ok(())
    }
}

/// Whether `host` is an IP address or a DNS name (RFC 1123: labels of letters, digits and inner
/// hyphens, at most 63 bytes each and 253 in all; not all digits, which would be a broken address).
pub fn is_host(host: &str) -> bool {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(label) && !last_is_number
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance {
            app_id: Uuid::from_u128(7),
            host: "myapp.fr".into(),
            other_hosts: Vec::new(),
            listen: "127.0.0.1:7777".parse().unwrap(),
            not_before: "2025-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2026-01-01T00:00:00Z".parse().unwrap(),
            subject: "CN=myapp.fr,O=Example".into(),
            simulation: Some(Simulation { installation: "/var/lib/simulator".into() }),
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let instance = instance();
        assert_eq!(Instance::from_toml(&instance.to_toml().unwrap()).unwrap(), instance);
        assert!(!instance.to_toml().unwrap().contains("other_hosts"), "nothing is written of nothing");
        let named = Instance { other_hosts: vec!["a.fr".into(), "127.0.0.1".into()], ..instance.clone() };
        assert_eq!(Instance::from_toml(&named.to_toml().unwrap()).unwrap(), named);
        let real = Instance { simulation: None, ..instance };
        assert_eq!(Instance::from_toml(&real.to_toml().unwrap()).unwrap(), real);
    }

    #[test]
    fn each_field_is_validated() {
        type Break = fn(&mut Instance);
        let cases: [(&str, Break); 11] = [
            ("app_id", |i| i.app_id = Uuid::nil()),
            ("host", |i| i.host = "my app".into()),
            ("host", |i| i.host = "-a.fr".into()),
            ("other_hosts", |i| i.other_hosts = vec!["my app".into()]),
            ("other_hosts", |i| i.other_hosts = vec!["MYAPP.fr".into()]),
            ("other_hosts", |i| i.other_hosts = vec!["a.fr".into(), "a.fr".into()]),
            ("other_hosts", |i| i.other_hosts = (0..9).map(|n| format!("a{n}.fr")).collect()),
            ("listen", |i| i.listen.set_port(0)),
            ("not_after", |i| i.not_after = i.not_before),
            ("subject", |i| i.subject = "CN=a\nb".into()),
            ("simulation.installation", |i| {
                i.simulation = Some(Simulation { installation: "relative".into() });
            }),
        ];
        for (name, break_it) in cases {
            let mut broken = instance();
            break_it(&mut broken);
            let Err(Error::Field { field, .. }) = broken.validate() else {
                panic!("{name} was accepted");
            };
            assert_eq!(field, name);
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = format!("evil = true\n{}", instance().to_toml().unwrap());
        assert!(matches!(Instance::from_toml(&text), Err(Error::Toml { .. })));
    }

    #[test]
    fn hosts() {
        for good in ["localhost", "a.b-c.fr", "127.0.0.1", "::1", "1password.com"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "-a", "a_b", "1.2.3", "300.1.1.1", "é.fr", "a/b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
