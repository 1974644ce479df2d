//! What verification says: a [`Judgement`] with every check made, and [`Verified`], the value that only an accepted
//! judgement can make.
//!
//! The JSON form is part of the interface: {`verdict`, `platform`, `anchor`, `checks`, `tcb`, `qe`, `collateral`,
//! `measurements`, `policy`, `judged_at`, `valid_until`, `passed_over`}. Nothing here can be deserialised: a judgement cannot be read from a file.

use jiff::Timestamp;
use serde::Serialize;

use crate::checks::Id;
use crate::evidence::Evidence;
use crate::tcb::TcbStatus;
use crate::trust::AnchorKind;

/// Accepted or refused: there is nothing between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check that applies was made and passed.
    Accepted,
    /// At least one check failed or could not be made.
    Refused,
}

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail,
    /// Not judged: nobody asked, or what it rests on failed before.
    Skipped,
}

/// Who has to act where a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Whoever supplied the quote, certificate or evidence.
    Evidence,
    /// Whoever supplied the collateral.
    Collateral,
    /// Whoever runs the machine: its microcode, BIOS or configuration is not as it must be.
    Platform,
    /// Whoever built or chose the enclave.
    Enclave,
    /// Nobody cheated: the caller's policy or expectation is narrower than what was found.
    Policy,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which one.
    pub id: Id,
    /// How it ended.
    pub result: Outcome,
    /// What passes.
    pub expected: String,
    /// What was found; for a skipped check, why it was not judged.
    pub found: String,
    /// Who has to act; only where the check failed.
    pub fault: Option<Fault>,
    /// What to do about it, where there is more to say than who has to act; only where the check failed.
    pub hint: Option<String>,
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut map = serializer.serialize_struct("Check", 6)?;
        map.serialize_field("id", self.id.as_str())?;
        map.serialize_field("result", &self.result)?;
        map.serialize_field("expected", &self.expected)?;
        map.serialize_field("found", &self.found)?;
        map.serialize_field("fault", &self.fault)?;
        map.serialize_field("hint", &self.hint)?;
        map.end()
    }
}

/// What made the quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// An SGX processor.
    Sgx,
    /// A simulator: proves nothing about hardware.
    Simulated,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sgx => "sgx",
            Self::Simulated => "simulated",
        })
    }
}

/// The trust anchor that the chains end in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anchor {
    /// Intel's, an explicit one of the caller's, or a simulator's.
    pub kind: AnchorKind,
    /// SHA-256 of the root certificate, in hex.
    pub sha256: String,
}

/// State of the platform, quoting enclave included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcbSummary {
    /// The worst status of platform and QE, by Intel's name.
    pub status: TcbStatus,
    /// The status of the platform alone.
    pub platform_status: TcbStatus,
    /// Date of the TCB level the platform reaches.
    pub date: Timestamp,
    /// The lower evaluation data number of TCB info and QE identity.
    pub evaluation_data_number: u32,
    /// Advisories that apply to platform or QE, sorted.
    pub advisories: Vec<String>,
}

/// State of the quoting enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QeSummary {
    /// Its status, by Intel's name.
    pub status: TcbStatus,
    /// Date of the level it reaches.
    pub date: Timestamp,
    /// Its security version.
    pub isv_svn: u16,
}

/// Which set of TCB info and QE identity was judged with. Intel keeps several current at once, and whoever supplies
/// collateral chooses among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollateralSummary {
    /// The evaluation data number of the TCB info.
    pub tcb_info_number: u32,
    /// That of the QE identity.
    pub qe_identity_number: u32,
    /// When the TCB info was issued.
    pub tcb_info_issued: Timestamp,
    /// When the QE identity was issued.
    pub qe_identity_issued: Timestamp,
    /// Date of the newest level in the TCB info: the TCB recovery that the set knows of.
    pub newest_tcb_date: Option<Timestamp>,
}

/// What the quote says of the enclave. Byte strings are lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measurements {
    /// MRENCLAVE.
    pub mrenclave: String,
    /// MRSIGNER.
    pub mrsigner: String,
    /// ISVPRODID.
    pub isv_prod_id: u16,
    /// ISVSVN.
    pub isv_svn: u16,
    /// Attribute flags and XFRM, 16 bytes.
    pub attributes: String,
    /// MISCSELECT.
    pub misc_select: u32,
    /// Report data, 64 bytes.
    pub report_data: String,
    /// CONFIGID, where the enclave has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_id: Option<String>,
    /// FMSPC of the processor, from the PCK certificate.
    pub fmspc: Option<String>,
    /// PPID of the processor, from the PCK certificate.
    pub ppid: Option<String>,
    /// Platform instance id, where the PCK certificate has one.
    pub platform_instance_id: Option<String>,
}

/// Everything verification and validation found.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) platform: Option<Platform>,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) checks: Vec<Check>,
    pub(crate) tcb: Option<TcbSummary>,
    pub(crate) qe: Option<QeSummary>,
    pub(crate) collateral: Option<CollateralSummary>,
    pub(crate) measurements: Option<Measurements>,
    pub(crate) policy: String,
    pub(crate) judged_at: Timestamp,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) passed_over: Vec<String>,
}

impl Judgement {
    /// Accepted or refused.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether every check that applies was made and passed.
    pub fn is_accepted(&self) -> bool {
        self.verdict == Verdict::Accepted
    }

    /// What made the quote; nothing where that could not be told.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// The trust anchor of the chains; nothing where they end in none.
    pub fn anchor(&self) -> Option<&Anchor> {
        self.anchor.as_ref()
    }

    /// Every check of the register, in the order of [`Id::ALL`].
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.result == Outcome::Fail)
    }

    /// State of the platform, where it could be told.
    pub fn tcb(&self) -> Option<&TcbSummary> {
        self.tcb.as_ref()
    }

    /// State of the quoting enclave, where it could be told.
    pub fn qe(&self) -> Option<&QeSummary> {
        self.qe.as_ref()
    }

    /// Which collateral was judged with, where it could be read.
    pub fn collateral(&self) -> Option<&CollateralSummary> {
        self.collateral.as_ref()
    }

    /// What the quote says of the enclave, where there is a readable quote.
    pub fn measurements(&self) -> Option<&Measurements> {
        self.measurements.as_ref()
    }

    /// Name of the policy.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The time judged at.
    pub fn judged_at(&self) -> Timestamp {
        self.judged_at
    }

    /// Until when the same bytes would be judged the same: the first expiry of anything that was relied on.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Names in the collateral that are not known here and cannot change the verdict, each after the document it stands in.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The JSON form, on several lines, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Evidence (or another `T`) that was judged and accepted. Only this crate's [`crate::admit`] makes one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    pub(crate) value: T,
    pub(crate) judgement: Judgement,
    pub(crate) facts: VerifiedFacts,
}

/// What an accepted evidence proves, ready to use.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedFacts {
    pub(crate) platform: Platform,
    pub(crate) tcb_status: TcbStatus,
    pub(crate) mrenclave: [u8; 32],
    pub(crate) size_mb: Option<u64>,
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) claims: crate::ratls::Claims,
}

impl Verified<Evidence> {
    /// The evidence.
    pub fn evidence(&self) -> &Evidence {
        &self.value
    }

    /// The judgement: policy, time, status, expiry, every check.
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// What made the quote. [`Platform::Simulated`] must be shown wherever this value is relied on.
    pub fn platform(&self) -> Platform {
        self.facts.platform
    }

    /// The worst status of platform and QE. A status that was tolerated must be shown.
    pub fn tcb_status(&self) -> TcbStatus {
        self.facts.tcb_status
    }

    /// The fingerprint that was both expected and found.
    pub fn mrenclave(&self) -> [u8; 32] {
        self.facts.mrenclave
    }

    /// The enclave size in MiB that goes with the fingerprint, where the caller gave fingerprints by size.
    pub fn size_mb(&self) -> Option<u64> {
        self.facts.size_mb
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the RA-TLS certificate.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.facts.spki_sha256
    }

    /// What the enclave itself said, under the quote.
    pub fn claims(&self) -> &crate::ratls::Claims {
        &self.facts.claims
    }

    /// What the enclave said of the application: app id, sealing key, TLS mode.
    pub fn app(&self) -> Option<&crate::ratls::AppClaims> {
        self.facts.claims.app.as_ref()
    }
}

/// Evidence that was not accepted, and why.
#[derive(Debug, thiserror::Error)]
#[error("refused: {}", summary(.judgement))]
pub struct Refused {
    /// The judgement, with at least one failed check.
    pub judgement: Judgement,
}

/// The failed checks in one line.
fn summary(judgement: &Judgement) -> String {
    let failures: Vec<String> = judgement
        .failures()
        .map(|check| format!("{} (expected {}, found {})", check.id, check.expected, check.found))
        .collect();
    failures.join("; ")
}
