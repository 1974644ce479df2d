//! What the API says and is told, as types. Fields that an answer has beyond these are ignored, so that this client
//! works with newer backends; the fields here are checked for their form, because they are printed, compared and put
//! into addresses.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Host;
use uuid::Uuid;

/// The longest line of text that is kept of an answer, in characters.
const LINE: usize = 2000;

/// The longest certificate in PEM that an operator may state, in bytes.
const PEM: usize = 16 * 1024;

/// Where the users' TLS of an app ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// In the enclave, with its RA-TLS certificate.
    #[default]
    ZeroTrust,
    /// In the enclave, with its owner's certificate.
    OwnerCertificate,
    /// At the operator's router, which sees everything.
    UntrustedSsl,
}

impl TlsMode {
    /// The measured mode of a package that is deployed so.
    pub fn measured(self) -> attestation::ratls::TlsMode {
        match self {
            TlsMode::ZeroTrust => attestation::ratls::TlsMode::RaTls,
            TlsMode::OwnerCertificate => attestation::ratls::TlsMode::OwnerCertificate,
            TlsMode::UntrustedSsl => attestation::ratls::TlsMode::OperatorCertificate,
        }
    }
}

impl From<attestation::ratls::TlsMode> for TlsMode {
    fn from(measured: attestation::ratls::TlsMode) -> TlsMode {
        match measured {
            attestation::ratls::TlsMode::RaTls => TlsMode::ZeroTrust,
            attestation::ratls::TlsMode::OwnerCertificate => TlsMode::OwnerCertificate,
            attestation::ratls::TlsMode::OperatorCertificate => TlsMode::UntrustedSsl,
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsMode::ZeroTrust => "zero-trust",
            TlsMode::OwnerCertificate => "owner-certificate",
            TlsMode::UntrustedSsl => "untrusted-ssl",
        })
    }
}

/// Who runs a backend, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Version of the backend.
    #[serde(deserialize_with = "line")]
    pub version: String,
    /// Apps are `<id>.<domain>`.
    #[serde(deserialize_with = "host")]
    pub domain: String,
    /// Where its public port is: `host:port`.
    #[serde(deserialize_with = "address")]
    pub router: String,
    /// MRSIGNER of every node there.
    #[serde(with = "hex32")]
    pub mrsigner: [u8; 32],
    /// What makes quotes: `simulated` or `sgx`.
    #[serde(deserialize_with = "line")]
    pub platform: String,
    /// What starts nodes: `process` or `docker`; empty where the backend does not say.
    #[serde(default, deserialize_with = "line")]
    pub runtime: String,
    /// Where collateral is, if the operator names a place.
    #[serde(default, deserialize_with = "url")]
    pub pccs: Option<String>,
    /// The root of its simulator (PEM), if its platform is simulated.
    #[serde(default, deserialize_with = "root")]
    pub simulated_root: Option<String>,
}

impl Operator {
    /// The name that users call an app by, unless its owner brought one.
    pub fn domain_of(&self, app: Uuid) -> String {
        format!("{}.{}", app.simple(), self.domain)
    }

    /// The name that an app's owner configures it by.
    pub fn config_domain_of(&self, app: Uuid) -> String {
        format!("{}.config.{}", app.simple(), self.domain)
    }

    /// The public port.
    pub fn router_port(&self) -> u16 {
        // The form was checked when it was read.
        self.router.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// Whether its nodes are simulated enclaves.
    pub fn is_simulated(&self) -> bool {
        self.platform == "simulated"
    }
}

/// Whom the backend takes the bearer of the token for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Its identifier.
    pub id: Uuid,
    /// Its name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Whether it is of those who run the backend.
    #[serde(default)]
    pub is_operator: bool,
}

/// A hardware plan on offer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Plan {
    /// Its identifier.
    pub id: Uuid,
    /// Its name, by which it is ordered.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Enclave size in MB.
    pub enclave_mb: u64,
    /// Processor cores.
    pub cores: u64,
    /// What it costs, in words.
    #[serde(deserialize_with = "line")]
    pub price: String,
}

/// A project: what belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its identifier.
    pub id: Uuid,
    /// Its name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What the owner wants of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It shall run.
    Running,
    /// It shall end.
    Stopped,
    /// Something that this client does not know.
    #[serde(other)]
    Unknown,
}

/// How an app is doing, in the backend's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits for room, or its node starts.
    Spawning,
    /// Its node waits for the configuration, or starts the application.
    Initializing,
    /// Its health check passes.
    Running,
    /// Its health check fails, or its node could not start or ended.
    OnError,
    /// It has ended, for good.
    Stopped,
    /// Something that this client does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Spawning => "spawning",
            State::Initializing => "initializing",
            State::Running => "running",
            State::OnError => "on error",
            State::Stopped => "stopped",
            State::Unknown => "unknown",
        })
    }
}

/// An app, in the backend's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its identifier.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: Uuid,
    /// Its name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The name of its plan.
    #[serde(deserialize_with = "name")]
    pub plan: String,
    /// Enclave size in MB.
    pub enclave_mb: u64,
    /// Processor cores.
    pub cores: u64,
    /// Where users' TLS ends.
    pub tls: TlsMode,
    /// SHA-256 of its package.
    #[serde(with = "hex32")]
    pub package: [u8; 32],
    /// What its owner wants.
    pub wanted: Wanted,
    /// How it is doing.
    pub state: State,
    /// The same in words.
    #[serde(deserialize_with = "line")]
    pub message: String,
    /// The name that users call it by.
    #[serde(deserialize_with = "host")]
    pub domain: String,
    /// The name that its owner configures it by.
    #[serde(deserialize_with = "host")]
    pub config_domain: String,
    /// The operator's word for its fingerprint, to be compared with the owner's own and with nothing else.
    #[serde(default, with = "hex32::optional")]
    pub fingerprint: Option<[u8; 32]>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it became what it is.
    pub changed_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub stopped_at: Option<Timestamp>,
}

/// What makes an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppOrder {
    /// Its name.
    pub name: String,
    /// The name of a plan on offer.
    pub plan: String,
    /// SHA-256 of its package, which was uploaded to the same project.
    #[serde(with = "hex32")]
    pub package: [u8; 32],
    /// Where users' TLS ends.
    pub tls: TlsMode,
    /// When it ends by itself; the backend chooses otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The name that users call it by, with [`TlsMode::OwnerCertificate`] and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// An upload, in the backend's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Upload {
    #[serde(with = "hex32")]
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
    pub(super) received: u64,
    pub(super) complete: bool,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    #[serde(default)]
    pub(super) next: Option<String>,
}

/// `problem+json`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type", deserialize_with = "line")]
    pub(super) kind: String,
    #[serde(deserialize_with = "line")]
    pub(super) title: String,
    #[serde(deserialize_with = "line")]
    pub(super) detail: String,
}

/// 32 bytes as 64 lower-case hexadecimal digits.
pub(super) mod hex32 {
    use super::*;

    pub(in crate::backend) fn parse(text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(bytes)
    }

    pub(in crate::backend) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(in crate::backend) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        parse(&String::deserialize(from)?).ok_or_else(|| wrong("64 lower-case hexadecimal digits"))
    }

    pub(in crate::backend) mod optional {
        use super::*;

        pub(in crate::backend) fn serialize<S: Serializer>(
            bytes: &Option<[u8; 32]>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            bytes.map(hex::encode).serialize(to)
        }

        pub(in crate::backend) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<[u8; 32]>, D::Error> {
            let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
            parse(&text).map(Some).ok_or_else(|| wrong("64 lower-case hexadecimal digits, or null"))
        }
    }
}

fn wrong<E: serde::de::Error>(expected: &str) -> E {
    E::custom(format_args!("expected {expected}"))
}

/// One line that can be printed: nothing in it moves the cursor, ends the line or turns the direction of writing.
pub(super) fn printable(text: &str) -> String {
    outside::printable::line(text, LINE)
}

pub(super) fn line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(printable(&String::deserialize(from)?))
}

/// Whether it is a name as the API has them: `a-z 0-9 . _ -`, a letter or digit first, at most 63.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63 && text.starts_with(plain) && text.chars().all(|c| plain(c) || "._-".contains(c))
}

pub(super) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if is_name(&text) { Ok(text) } else { Err(wrong("a name of a-z, 0-9, '.', '_' and '-', at most 63")) }
}

/// Whether it is a host name in its one form: lower case, no dot at the end, no IP address.
pub(super) fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    text.len() <= 253 && text.split('.').all(label) && matches!(Host::parse(text), Ok(Host::Domain(_)))
}

pub(super) fn host<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if is_host(&text) { Ok(text) } else { Err(wrong("a host name in lower case")) }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let known = host.parse::<std::net::IpAddr>().is_ok() || is_host(host);
        known && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good { Ok(text) } else { Err(wrong("an address of the form host:port")) }
}

/// Whether it is an address that a client of collateral can be given.
pub(super) fn is_url(text: &str) -> bool {
    text.len() <= LINE
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    if is_url(&text) { Ok(Some(text)) } else { Err(wrong("an http or https address, or null")) }
}

/// Whether it is text of the length and alphabet of a PEM certificate; what it certifies is judged where it is used.
pub(super) fn is_pem(text: &str) -> bool {
    text.len() <= PEM
        && text.starts_with("-----BEGIN CERTIFICATE-----")
        && text.bytes().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\n' | b'\r'))
}

fn root<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    if is_pem(&text) { Ok(Some(text)) } else { Err(wrong("a certificate in PEM, or null")) }
}
