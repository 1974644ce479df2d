//! What commands that judge evidence share: whom to trust, under which policy, at what time, and how to print it.

use std::path::{Path, PathBuf};

use anstyle::Style;
use attestation::judgement::{Judgement, Outcome, Platform};
use attestation::trust::{ExplicitRoot, SimulatedRoot};
use attestation::{Policy, TrustAnchors};
use client::evaluation::{Memory, Seen};
use jiff::Timestamp;
use platform::simulated::Installation;

use crate::exit::{Advice, Failure};
use crate::output::{self, BAD, CARE, Format, GOOD, Styled, out, printable, warn};
use crate::{files, places};

/// Whom to trust beside Intel's pinned root.
#[derive(clap::Args)]
pub struct Trust {
    /// Accept this installation's simulated enclaves. They prove nothing: anyone who owns the installation can forge
    /// them.
    #[arg(long, conflicts_with = "simulated_root")]
    pub allow_simulated: bool,
    /// Accept the simulated enclaves of another installation, whose root this is (`mse simulator root` there).
    #[arg(long, value_name = "PEM")]
    pub simulated_root: Option<PathBuf>,
}

impl Trust {
    /// The trust anchors that the caller named, always beside Intel's.
    pub fn anchors(&self) -> anyhow::Result<TrustAnchors> {
        let anchors = TrustAnchors::intel();
        let root = match (&self.simulated_root, self.allow_simulated) {
            (Some(file), _) => files::read(file)?,
            (None, true) => {
                Installation::open_or_create(&places::simulator()?, Timestamp::now())?.root_pem().into()
            }
            (None, false) => return Ok(anchors),
        };
        let root =
            SimulatedRoot::from_pem(&root).hint("`mse simulator root` prints the root of an installation")?;
        Ok(anchors.with_simulated(root))
    }

    /// The same, with one more root that the caller trusts explicitly.
    pub fn anchors_and(&self, root: Option<&Path>) -> anyhow::Result<TrustAnchors> {
        let anchors = self.anchors()?;
        Ok(match root {
            Some(file) => anchors.with_explicit(ExplicitRoot::from_pem(&files::read(file)?)?),
            None => anchors,
        })
    }
}

/// Under which policy, at what time.
#[derive(clap::Args)]
pub struct Rules {
    /// The policy: `strict`, or a TOML file.
    #[arg(long, value_name = "strict|FILE", default_value = "strict")]
    pub policy: String,
    /// Judge at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
}

impl Rules {
    /// Reads the policy.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        if self.policy == "strict" {
            return Ok(Policy::strict());
        }
        let text = files::read_text(Path::new(&self.policy)).hint("name a file, or `strict`")?;
        Ok(Policy::from_toml(&text).map_err(|error| Failure::failed(format!("{}: {error}", self.policy)))?)
    }

    /// The time to judge at.
    pub fn at(&self) -> Timestamp {
        self.at.unwrap_or_else(Timestamp::now)
    }
}

/// Reads bytes given as hex.
pub fn hex_bytes(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text.trim()).map_err(|error| format!("hex digits are expected: {error}"))
}

/// Reads `N` bytes given as hex.
pub fn hex_array<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let found = text.trim().len();
    hex_bytes(text)?.try_into().map_err(|_| format!("{} hex digits are expected, found {found}", 2 * N))
}

/// Prints a judgement: every check, then the verdict.
pub fn print(judgement: &Judgement, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&report(judgement)?);
    }
    note(judgement);
    let mut skipped = Vec::new();
    for check in judgement.checks() {
        match check.result {
            Outcome::Pass => out!("{}    {}: {}", Styled(GOOD, "ok"), check.id, check.id.question())?,
            Outcome::Skipped => skipped.push(check.id.as_str()),
            Outcome::Fail => {
                out!("{}  {}: {}", Styled(BAD, "FAIL"), check.id, check.id.question())?;
                out!("        expected: {}", printable(&check.expected, ""))?;
                out!("        found: {}", printable(&check.found, ""))?;
                if let Some(fault) = check.fault {
                    out!("        at fault: {fault:?}")?;
                }
                if let Some(hint) = &check.hint {
                    out!("        hint: {}", printable(hint, ""))?;
                }
            }
        }
    }
    if !skipped.is_empty() {
        out!("skip  not asked for, or not to be judged: {}", skipped.join(", "))?;
    }
    if !judgement.passed_over().is_empty() {
        let names = printable(&judgement.passed_over().join(", "), "");
        out!("note  unknown fields that cannot change the verdict were ignored: {names}")?;
    }
    if let Some(tcb) = judgement.tcb() {
        out!("TCB status: {} (level of {})", tcb.status, tcb.date)?;
        if !tcb.advisories.is_empty() {
            out!("Advisories: {}", printable(&tcb.advisories.join(", "), ""))?;
        }
    }
    if let Some(collateral) = judgement.collateral() {
        let (info, identity) = (collateral.tcb_info_number, collateral.qe_identity_number);
        let other = if info == identity { String::new() } else { format!(", of the QE identity {identity}") };
        let newest =
            collateral.newest_tcb_date.map_or_else(String::new, |date| format!("newest level of {date}, "));
        let issued = collateral.tcb_info_issued;
        out!("TCB evaluation data number: {info}{other} ({newest}TCB info issued at {issued})")?;
    }
    out!("Policy: {}", judgement.policy())?;
    out!("Judged at: {}", judgement.judged_at())?;
    if let Some(until) = judgement.valid_until() {
        out!("Collateral valid until: {until}")?;
    }
    if let Some(platform) = judgement.platform() {
        out!("Platform: {}", platform_word(platform))?;
    }
    if judgement.is_accepted() {
        out!("Verdict: {}", Styled(GOOD, "accepted"))?;
    } else {
        out!("Verdict: {}", Styled(BAD, "refused"))?;
    }
    Ok(())
}

/// The JSON form of a judgement, with the highest TCB evaluation data number that was accepted here before, where the one judged
/// with is lower.
pub fn report(judgement: &Judgement) -> anyhow::Result<serde_json::Value> {
    let mut report = serde_json::to_value(judgement)?;
    if let Some(newer) = note(judgement) {
        report["newer_evaluation_data_number"] = serde_json::to_value(newer)?;
    }
    Ok(report)
}

/// Remembers which set of collateral was accepted, and warns where a newer one was before.
pub fn note(judgement: &Judgement) -> Option<Seen> {
    let newer = Memory::of(&places::state().ok()?).note(judgement)?;
    warn(format_args!(
        "a newer TCB evaluation data number was accepted here before: {} at {}; whoever supplied this collateral chose an older          set. Judge with --tcb-update early or your own --collateral, or set min_tcb_evaluation_data_number in a policy",
        newer.number, newer.seen_at
    ));
    Some(newer)
}

/// A platform's name; a simulated one in capitals.
pub fn platform_word(platform: Platform) -> Styled<'static> {
    match platform {
        Platform::Simulated => Styled(CARE, "SIMULATED (proves nothing about the machine)"),
        Platform::Sgx => Styled(Style::new(), "sgx"),
    }
}

/// The error for a refusal, which names the first check that failed.
pub fn refusal(judgement: &Judgement) -> Failure {
    let Some(check) = judgement.failures().next() else {
        return Failure::refused("the evidence is refused");
    };
    let failure = Failure::refused(format!(
        "refused by {}: expected {}, found {}",
        check.id,
        printable(&check.expected, ""),
        printable(&check.found, "")
    ));
    let about_the_root = check.id.as_str().ends_with(".root");
    if about_the_root && judgement.platform() == Some(Platform::Simulated) {
        return failure.hint(
            "this enclave is simulated; only --allow-simulated, or --simulated-root with the root of its installation, accepts one",
        );
    }
    match &check.hint {
        Some(hint) => failure.hint(printable(hint, "")),
        None => failure,
    }
}
