//! The caller's policy: what states of a genuine platform are acceptable.
//!
//! Trusts the file: it is the caller's own. It has no permissive default: a field that is left out is as in
//! [`Policy::strict`], and every tolerance has to be written down. Format: TOML v1.0, see [`Policy::from_toml`].

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;

use crate::error::Error;
use crate::recognise::{Kind, kind_of};
use crate::tcb::TcbStatus;

/// The longest policy file that is read, in bytes.
pub const MAX_LEN: usize = 1_048_576;

/// State of a flag in the PCK certificate's configuration. Certificates of the Processor CA have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlagState {
    /// The certificate says true.
    Enabled,
    /// The certificate says false.
    Disabled,
    /// The certificate does not say.
    Unstated,
}

impl FlagState {
    /// The state of a flag that may be absent.
    pub fn of(flag: Option<bool>) -> Self {
        match flag {
            Some(true) => Self::Enabled,
            Some(false) => Self::Disabled,
            None => Self::Unstated,
        }
    }
}

impl std::fmt::Display for FlagState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Unstated => "unstated",
        })
    }
}

/// One tolerated advisory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advisory {
    /// For instance `INTEL-SA-00615`.
    pub id: String,
    /// Who answers for the tolerance.
    pub owner: String,
    /// Why it is tolerated.
    pub reason: String,
    /// The tolerance ends at this instant.
    pub expires: Timestamp,
}

/// What is acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) allowed_statuses: BTreeSet<TcbStatus>,
    pub(crate) advisories: Vec<Advisory>,
    pub(crate) grace: Option<SignedDuration>,
    pub(crate) min_evaluation_data_number: Option<u32>,
    pub(crate) min_tcb_date: Option<Timestamp>,
    pub(crate) smt: Option<BTreeSet<FlagState>>,
    pub(crate) dynamic_platform: Option<BTreeSet<FlagState>>,
    pub(crate) cached_keys: Option<BTreeSet<FlagState>>,
    pub(crate) machines: Option<Machines>,
    pub(crate) enclave_sizes: Option<BTreeSet<u64>>,
    pub(crate) max_collateral_age: Option<SignedDuration>,
    pub(crate) max_evidence_age: Option<SignedDuration>,
    pub(crate) require_nonce: bool,
}

/// The machines that are allowed: one match in either list is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// Encrypted-free platform ids of the PCK certificate's PPID field.
    pub(crate) ppids: BTreeSet<[u8; 16]>,
    /// Platform instance ids.
    pub(crate) platform_instances: BTreeSet<[u8; 16]>,
}

impl Policy {
    /// Platform and QE `UpToDate`, no advisory tolerated, and no rule on dates, numbers, ages, nonces, machines or sizes.
    /// Debug enclaves are refused under every policy.
    pub fn strict() -> Self {
        Self {
            name: "strict".to_owned(),
            allowed_statuses: BTreeSet::from([TcbStatus::UpToDate]),
            advisories: Vec::new(),
            grace: None,
            min_evaluation_data_number: None,
            min_tcb_date: None,
            smt: None,
            dynamic_platform: None,
            cached_keys: None,
            machines: None,
            enclave_sizes: None,
            max_collateral_age: None,
            max_evidence_age: None,
            require_nonce: false,
        }
    }

    /// Name of the policy, as judgements carry it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a policy file. All fields may be left out; unknown ones are refused.
    ///
    /// | field | type | meaning | left out |
    /// |---|---|---|---|
    /// | `name` | string | shown in judgements | `custom` |
    /// | `allowed_tcb_statuses` | strings | the worst status of platform and QE must be one of these names of Intel's; `Revoked` cannot be allowed | `["UpToDate"]` |
    /// | `grace_days` | integer | required with an `OutOfDate…` status: how many days after the date of the level that would be current such a status is tolerated | |
    /// | `[[advisory]]` | `id`, `owner`, `reason`, `expires` (date or RFC 3339) | an advisory that is tolerated until then | none is |
    /// | `min_tcb_evaluation_data_number` | integer | TCB info and QE identity must have at least this number | no rule |
    /// | `min_tcb_date` | date or RFC 3339 | the platform's TCB level must be of this date or later | no rule |
    /// | `allowed_smt`, `allowed_dynamic_platform`, `allowed_cached_keys` | `enabled`, `disabled`, `unstated` | the flag of the PCK certificate must be one of these | no rule |
    /// | `allowed_ppids`, `allowed_platform_instances` | 16 bytes in hex | the machine must be in one of the two lists | no rule |
    /// | `allowed_enclave_sizes` | MiB | the fingerprint that matched must be that of one of these sizes | no rule |
    /// | `max_collateral_age` | duration such as `30d` or `12h` | judged time less the oldest issue time among TCB info, QE identity and CRLs | no rule |
    /// | `require_nonce` | boolean | the evidence must be over a nonce that the caller names | `false` |
    /// | `max_evidence_age` | duration | the evidence must be over a nonce that this verifier issued at most this long ago | no rule |
    ///
    /// # Errors
    /// [`Error::Policy`] for anything else.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LEN {
            return Err(wrong(format!("at most {MAX_LEN} bytes"), format!("{} bytes", text.len())));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read: Result<File, _> = toml::from_str(text);
        let file = read.map_err(|error| match kind_of(text.as_bytes()) {
            Kind::Policy | Kind::Toml | Kind::Text => wrong("the fields of a policy", error.message()),
            other => wrong("a policy in TOML", other.to_string()),
        })?;
        file.into_policy()
    }
}

/// The file as it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    allowed_tcb_statuses: Option<Vec<TcbStatus>>,
    grace_days: Option<u32>,
    #[serde(default)]
    advisory: Vec<AdvisoryEntry>,
    min_tcb_evaluation_data_number: Option<u32>,
    min_tcb_date: Option<toml::Value>,
    allowed_smt: Option<BTreeSet<FlagState>>,
    allowed_dynamic_platform: Option<BTreeSet<FlagState>>,
    allowed_cached_keys: Option<BTreeSet<FlagState>>,
    allowed_ppids: Option<Vec<String>>,
    allowed_platform_instances: Option<Vec<String>>,
    allowed_enclave_sizes: Option<BTreeSet<u64>>,
    max_collateral_age: Option<String>,
    max_evidence_age: Option<String>,
    #[serde(default)]
    require_nonce: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvisoryEntry {
    id: String,
    owner: String,
    reason: String,
    expires: toml::Value,
}

impl File {
    fn into_policy(self) -> Result<Policy, Error> {
        let statuses = match self.allowed_tcb_statuses {
            None => BTreeSet::from([TcbStatus::UpToDate]),
            Some(list) if list.is_empty() => {
                return Err(wrong("at least one status in allowed_tcb_statuses", "none"));
            }
            Some(list) => list.into_iter().collect(),
        };
        if statuses.contains(&TcbStatus::Revoked) {
            return Err(wrong("statuses that can be allowed", "Revoked, which never can"));
        }
        let tolerates_out_of_date = statuses.iter().any(|status| status.is_out_of_date());
        if tolerates_out_of_date != self.grace_days.is_some() {
            return Err(wrong(
                "grace_days exactly where an OutOfDate status is allowed",
                "one without the other",
            ));
        }
        let machines = match (self.allowed_ppids, self.allowed_platform_instances) {
            (None, None) => None,
            (ppids, instances) => Some(Machines {
                ppids: machine_ids("allowed_ppids", ppids.unwrap_or_default())?,
                platform_instances: machine_ids("allowed_platform_instances", instances.unwrap_or_default())?,
            }),
        };
        Ok(Policy {
            name: self.name.unwrap_or_else(|| "custom".to_owned()),
            allowed_statuses: statuses,
            advisories: self.advisory.into_iter().map(AdvisoryEntry::check).collect::<Result<_, _>>()?,
            grace: self.grace_days.map(|days| SignedDuration::from_hours(24 * i64::from(days))),
            min_evaluation_data_number: self.min_tcb_evaluation_data_number,
            min_tcb_date: self.min_tcb_date.map(|value| instant("min_tcb_date", &value)).transpose()?,
            smt: self.allowed_smt,
            dynamic_platform: self.allowed_dynamic_platform,
            cached_keys: self.allowed_cached_keys,
            machines,
            enclave_sizes: self.allowed_enclave_sizes,
            max_collateral_age: self
                .max_collateral_age
                .map(|d| duration("max_collateral_age", &d))
                .transpose()?,
            max_evidence_age: self.max_evidence_age.map(|d| duration("max_evidence_age", &d)).transpose()?,
            require_nonce: self.require_nonce,
        })
    }
}

impl AdvisoryEntry {
    fn check(self) -> Result<Advisory, Error> {
        for (field, value) in [("id", &self.id), ("owner", &self.owner), ("reason", &self.reason)] {
            if value.trim().is_empty() {
                return Err(wrong(format!("an advisory with its {field}"), "an empty one"));
            }
        }
        let expires = instant("expires", &self.expires)?;
        Ok(Advisory { id: self.id, owner: self.owner, reason: self.reason, expires })
    }
}

fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Policy { expected: expected.into(), found: found.into() }
}

/// A date (its first instant in UTC) or an RFC 3339 time, quoted or as TOML's own type.
fn instant(field: &str, value: &toml::Value) -> Result<Timestamp, Error> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(datetime) => datetime.to_string(),
        _ => return Err(wrong(format!("a date or an RFC 3339 time in {field}"), "another type")),
    };
    let from_date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let parsed = if text.len() == "2025-01-01".len() { from_date() } else { text.parse().ok() };
    parsed.ok_or_else(|| wrong(format!("a date or an RFC 3339 time in {field}"), text.clone()))
}

/// A positive duration in jiff's friendly or ISO 8601 form; days have 24 hours.
fn duration(field: &str, text: &str) -> Result<SignedDuration, Error> {
    let expected = || format!("a duration such as 30d or 12h in {field}");
    let span: jiff::Span = text.parse().map_err(|_| wrong(expected(), text))?;
    let duration =
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong(expected(), text))?;
    if duration.is_positive() { Ok(duration) } else { Err(wrong(expected(), text)) }
}

fn machine_ids(field: &str, list: Vec<String>) -> Result<BTreeSet<[u8; 16]>, Error> {
    list.into_iter()
        .map(|text| {
            let mut id = [0; 16];
            match hex::decode_to_slice(&text, &mut id) {
                Ok(()) => Ok(id),
                Err(_) => Err(wrong(format!("16 bytes in hex in {field}"), text)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(toml: &str, why: &str) {
        let error = Policy::from_toml(toml).unwrap_err().to_string();
        assert!(error.contains(why), "{toml}: {error}");
    }

    #[test]
    fn an_empty_file_is_the_strict_policy_under_another_name() {
        let strict = Policy { name: "custom".into(), ..Policy::strict() };
        assert_eq!(Policy::from_toml("").unwrap(), strict);
    }

    #[test]
    fn every_field_is_read() {
        let policy = Policy::from_toml(
            r#"
            name = "all"
            allowed_tcb_statuses = ["UpToDate", "OutOfDate"]
            grace_days = 30
            min_tcb_evaluation_data_number = 17
            min_tcb_date = 2024-03-13
            allowed_smt = ["disabled", "unstated"]
            allowed_dynamic_platform = ["disabled"]
            allowed_cached_keys = ["enabled"]
            allowed_ppids = ["00112233445566778899aabbccddeeff"]
            allowed_platform_instances = ["FFEEDDCCBBAA99887766554433221100"]
            allowed_enclave_sizes = [1024, 4096]
            max_collateral_age = "30d"
            max_evidence_age = "PT10M"
            require_nonce = true
            [[advisory]]
            id = "INTEL-SA-00615"
            owner = "me"
            reason = "why not"
            expires = "2030-01-02T03:04:05Z"
            "#,
        )
        .unwrap();
        assert_eq!(policy.name(), "all");
        assert_eq!(policy.allowed_statuses, BTreeSet::from([TcbStatus::UpToDate, TcbStatus::OutOfDate]));
        assert_eq!(policy.grace, Some(SignedDuration::from_hours(30 * 24)));
        assert_eq!(policy.min_evaluation_data_number, Some(17));
        assert_eq!(policy.min_tcb_date, Some("2024-03-13T00:00:00Z".parse().unwrap()));
        assert_eq!(policy.smt, Some(BTreeSet::from([FlagState::Disabled, FlagState::Unstated])));
        assert_eq!(policy.dynamic_platform, Some(BTreeSet::from([FlagState::Disabled])));
        assert_eq!(policy.cached_keys, Some(BTreeSet::from([FlagState::Enabled])));
        let machines = policy.machines.unwrap();
        assert!(
            machines.ppids.iter().any(|id| id[0] == 0)
                && machines.platform_instances.iter().any(|id| id[0] == 0xff)
        );
        assert_eq!(policy.enclave_sizes, Some(BTreeSet::from([1024, 4096])));
        assert_eq!(policy.max_collateral_age, Some(SignedDuration::from_hours(30 * 24)));
        assert_eq!(policy.max_evidence_age, Some(SignedDuration::from_mins(10)));
        assert!(policy.require_nonce);
        assert_eq!(policy.advisories[0].expires, "2030-01-02T03:04:05Z".parse().unwrap());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_refused() {
        assert!(Policy::from_toml("\u{feff}name = \"x\"").is_ok());
        refused("{\"allowed_tcb_statuses\": []}", "another JSON object");
        refused("-----BEGIN CERTIFICATE-----", "a certificate in PEM");
        refused("name = \"x\"\npython_application = \"app:app\"", "mse.toml");
        refused("alowed_tcb_statuses = []", "unknown field");
        refused("allowed_tcb_statuses = []", "none");
        refused("allowed_tcb_statuses = [\"Fine\"]", "unknown variant");
        refused("allowed_tcb_statuses = [\"Revoked\"]", "never can");
        refused("allowed_tcb_statuses = [\"OutOfDate\"]", "grace_days");
        refused("allowed_tcb_statuses = [\"OutOfDateConfigurationNeeded\"]", "grace_days");
        refused("grace_days = 3", "grace_days");
        refused("min_tcb_date = \"soon\"", "min_tcb_date");
        refused("min_tcb_date = 7", "min_tcb_date");
        refused("max_collateral_age = \"0s\"", "max_collateral_age");
        refused("max_collateral_age = \"-1d\"", "max_collateral_age");
        refused("max_evidence_age = \"1 month\"", "max_evidence_age");
        refused("allowed_ppids = [\"00\"]", "allowed_ppids");
        refused("allowed_smt = [\"on\"]", "unknown variant");
        let advisory = |owner: &str| {
            format!(
                "advisory = [{{ id = \"INTEL-SA-1\", owner = \"{owner}\", reason = \"r\", expires = 2030-01-01 }}]"
            )
        };
        assert!(Policy::from_toml(&advisory("me")).is_ok());
        refused(&advisory(" "), "owner");
        refused("advisory = [{ id = \"INTEL-SA-1\", owner = \"me\", reason = \"r\" }]", "expires");
        refused(&" ".repeat(MAX_LEN + 1), "bytes");
        assert!(Policy::from_toml(&" ".repeat(MAX_LEN)).is_ok());
    }
}
