//! The state of a platform in words: what is missing, which advisories apply, how long the policy goes on tolerating it.
//!
//! Judges nothing itself: it tells what [`crate::verify`] and [`crate::validate`] found. Meaning of the statuses: Intel PCS
//! API v4, "TCB status".

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::judge::{Expected, Input, Terms, decide_bytes};
use crate::judgement::{Judgement, Platform};
use crate::pck::SgxExtension;
use crate::policy::{FlagState, Policy};
use crate::tcb::{TcbLevel, TcbStatus};
use crate::trust::TrustAnchors;
use crate::verify::Facts;

/// The explanation of one platform's state.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The judgement that is explained.
    pub judgement: Judgement,
    /// The worst status of platform and QE; nothing where it could not be told.
    pub status: Option<TcbStatus>,
    /// Versions that are lower than those of the level that would be current.
    pub missing: Vec<Missing>,
    /// The date of the level that would be current.
    pub current_level: Option<Timestamp>,
    /// Hyper-threading, as the PCK certificate states it.
    pub smt: Option<String>,
    /// The quoting enclave's ISVSVN and the one that would be current, where the first is lower.
    pub quoting_enclave: Option<(u16, u16)>,
    /// Advisories that apply.
    pub advisories: Vec<AppliedAdvisory>,
    /// When the first tolerance of the policy ends.
    pub tolerated_until: Option<Timestamp>,
    /// Whole days from the judged time until the policy would refuse this platform with fresh collateral; 0 where it
    /// refuses now; nothing where no tolerance ends.
    pub days_left: Option<i64>,
}

/// One version that is too low.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Number of the component, 1 to 16; nothing for PCESVN.
    pub component: Option<usize>,
    /// What it is, by Intel's words where the TCB info has them.
    pub name: String,
    /// Where the update comes from.
    pub remedy: &'static str,
    /// The platform's version.
    pub found: u16,
    /// The version of the level that would be current.
    pub needed: u16,
}

/// One advisory that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppliedAdvisory {
    /// Its name.
    pub id: String,
    /// Where Intel tells of it.
    pub url: String,
    /// Until when the policy tolerates it; nothing where it does not.
    pub tolerated_until: Option<Timestamp>,
    /// Who answers for the tolerance, and why.
    pub tolerance: Option<String>,
}

/// Judges `input` as [`crate::judge_bytes`] does and explains what was found.
pub fn explain(
    input: Input<'_>,
    collateral: Option<&[u8]>,
    anchors: &TrustAnchors,
    policy: &Policy,
    expected: &Expected,
    at: Timestamp,
) -> Explanation {
    let decision = decide_bytes(input, collateral, &Terms { anchors, policy, expected, at });
    let (judgement, facts) = (decision.judgement, decision.facts);
    let current = facts.tcb_info.as_ref().and_then(|info| info.current_level());
    let days = |until: Timestamp| (until.duration_since(at).as_hours() / 24).max(0);
    Explanation {
        status: facts.status(),
        missing: missing(&facts, current),
        current_level: current.map(|level| level.tcb_date),
        smt: smt(facts.pck.as_ref()),
        quoting_enclave: quoting_enclave(&facts),
        advisories: advisories(&facts, policy, at),
        tolerated_until: facts.tolerated_until,
        days_left: if judgement.is_accepted() { facts.tolerated_until.map(days) } else { Some(0) },
        judgement,
    }
}

/// Component by component, what the platform lacks for `current`.
fn missing(facts: &Facts, current: Option<&TcbLevel>) -> Vec<Missing> {
    let (Some(pck), Some(level)) = (&facts.pck, current) else { return Vec::new() };
    let mut missing = Vec::new();
    for (index, (component, found)) in level.tcb.sgxtcbcomponents.iter().zip(pck.components).enumerate() {
        if found < component.svn {
            let category = component.category.as_deref();
            missing.push(Missing {
                component: Some(index + 1),
                name: component.kind.as_deref().or(category).unwrap_or("unnamed").to_owned(),
                remedy: remedy(category),
                found: found.into(),
                needed: component.svn.into(),
            });
        }
    }
    if pck.pce_svn < level.tcb.pcesvn {
        missing.push(Missing {
            component: None,
            name: "provisioning certification enclave (PCESVN)".to_owned(),
            remedy: "update Intel's SGX platform software",
            found: pck.pce_svn,
            needed: level.tcb.pcesvn,
        });
    }
    missing
}

/// Where an update of a category comes from.
fn remedy(category: Option<&str>) -> &'static str {
    match category {
        Some("BIOS") => "update the BIOS",
        Some("OS/VMM") => "update the microcode that the operating system loads",
        _ => "update BIOS and microcode, and change the BIOS settings that the advisories name",
    }
}

fn smt(pck: Option<&SgxExtension>) -> Option<String> {
    pck.map(|pck| FlagState::of(pck.configuration.unwrap_or_default().smt).to_string())
}

fn quoting_enclave(facts: &Facts) -> Option<(u16, u16)> {
    let found = facts.quote.as_ref()?.signature.qe_report.isv_svn;
    let needed = facts.qe_identity.as_ref()?.current_level()?.tcb.isvsvn;
    (found < needed).then_some((found, needed))
}

fn advisories(facts: &Facts, policy: &Policy, at: Timestamp) -> Vec<AppliedAdvisory> {
    let applied = |id: &str| {
        let entry = policy.advisories.iter().filter(|entry| entry.id == id && at < entry.expires);
        let entry = entry.max_by_key(|entry| entry.expires);
        AppliedAdvisory {
            id: id.to_owned(),
            url: advisory_url(id),
            tolerated_until: entry.map(|entry| entry.expires),
            tolerance: entry.map(|entry| format!("{}: {}", entry.owner, entry.reason)),
        }
    };
    facts.advisories().into_iter().map(applied).collect()
}

fn advisory_url(id: &str) -> String {
    let page = id.to_ascii_lowercase();
    format!("https://www.intel.com/content/www/us/en/security-center/advisory/{page}.html")
}

/// What a status means and asks for.
fn meaning(status: TcbStatus) -> &'static str {
    match status {
        TcbStatus::UpToDate => "The platform is up to date.",
        TcbStatus::SWHardeningNeeded => {
            "The platform is up to date; the enclave itself has to be built with the mitigations that the advisories name."
        }
        TcbStatus::ConfigurationNeeded => {
            "The platform is up to date, but its configuration (BIOS settings such as hyper-threading) has to change."
        }
        TcbStatus::ConfigurationAndSWHardeningNeeded => {
            "The platform's microcode is up to date, but its configuration (BIOS settings such as hyper-threading) has to \
             change, and the enclave itself has to be built with the mitigations that the advisories name."
        }
        TcbStatus::OutOfDate => "Firmware, microcode or platform software is out of date.",
        TcbStatus::OutOfDateConfigurationNeeded => {
            "Firmware, microcode or platform software is out of date, and the configuration (BIOS settings such as \
             hyper-threading) has to change."
        }
        TcbStatus::Revoked => "Intel has revoked this state: no update makes what it signed trustworthy.",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.judgement.platform() == Some(Platform::Simulated) {
            writeln!(f, "SIMULATED: this says nothing about any hardware.")?;
        }
        let Some(status) = self.status else {
            writeln!(f, "The state of the platform could not be told:")?;
            return self.write_failures(f);
        };
        writeln!(f, "TCB status: {status}")?;
        writeln!(f, "{}", meaning(status))?;
        self.write_missing(f)?;
        self.write_advisories(f)?;
        self.write_remaining(f)
    }
}

impl Explanation {
    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in self.judgement.failures() {
            writeln!(f, "  {}: expected {}, found {}", check.id, check.expected, check.found)?;
        }
        Ok(())
    }

    fn write_missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(tcb), Some(current)) = (self.judgement.tcb(), self.current_level) {
            writeln!(f, "TCB level reached: of {}; the level that would be current: of {current}", tcb.date)?;
        }
        for missing in &self.missing {
            let number = missing.component.map(|number| format!("component {number}, ")).unwrap_or_default();
            let Missing { name, remedy, found, needed, .. } = missing;
            writeln!(f, "Missing: {number}{name}: {found}, needed {needed}: {remedy}")?;
        }
        if let Some((found, needed)) = self.quoting_enclave {
            writeln!(
                f,
                "Missing: quoting enclave: ISVSVN {found}, needed {needed}: update Intel's quoting enclave"
            )?;
        }
        if let Some(smt) = &self.smt {
            writeln!(f, "Hyper-threading, as the PCK certificate states it: {smt}")?;
        }
        Ok(())
    }

    fn write_advisories(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.advisories.is_empty() {
            return writeln!(f, "Advisories: none");
        }
        for advisory in &self.advisories {
            match (&advisory.tolerance, advisory.tolerated_until) {
                (Some(tolerance), Some(until)) => {
                    writeln!(
                        f,
                        "Advisory: {} (tolerated until {until}; {tolerance}) {}",
                        advisory.id, advisory.url
                    )?;
                }
                _ => writeln!(f, "Advisory: {} (not tolerated) {}", advisory.id, advisory.url)?,
            }
        }
        Ok(())
    }

    fn write_remaining(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.judgement.policy();
        if !self.judgement.is_accepted() {
            writeln!(f, "The policy {policy:?} refuses now:")?;
            return self.write_failures(f);
        }
        match self.days_left {
            Some(days) => writeln!(f, "Days until the policy {policy:?} refuses: {days}")?,
            None => writeln!(f, "The policy {policy:?} goes on accepting this state.")?,
        }
        match self.judgement.valid_until() {
            Some(until) => writeln!(f, "This judgement holds until: {until}"),
            None => Ok(()),
        }
    }
}
