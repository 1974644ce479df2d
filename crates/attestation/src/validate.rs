//! Is it what policy and caller want? Everything that is asked of a quote beside being genuine: expected measurements,
//! nonce, and the [`Policy`].
//!
//! Trusts the policy and the expectation, which are the caller's own. A rule that cannot be judged refuses. Judges
//! what [`crate::verify`] found and makes no statement on whether that is genuine.

use jiff::{SignedDuration, Timestamp};

use crate::checks::Id;
use crate::judge::Expected;
use crate::judgement::Fault;
use crate::policy::{FlagState, Policy};
use crate::ratls::Claims;
use crate::recorder::Recorder;
use crate::tcb::TcbStatus;
use crate::verify::Facts;

/// Compares the quote with what the caller expects. Returns the enclave size whose fingerprint was found.
pub(crate) fn expectation(
    expected: &Expected,
    facts: &Facts,
    claims: Option<&Claims>,
    recorder: &mut Recorder,
) -> Option<u64> {
    let size = fingerprint(expected, facts, recorder);
    let report = facts.quote.as_ref().map(|quote| &quote.report);
    let policy = Fault::Policy;
    if let Some(wanted) = expected.mrsigner {
        recorder.ask(Id::QuoteMrsigner);
        if let Some(report) = report {
            let found = hex::encode(report.mr_signer);
            recorder.check(Id::QuoteMrsigner, report.mr_signer == wanted, policy, hex::encode(wanted), found);
        }
    }
    if let Some(wanted) = expected.isv_prod_id {
        recorder.ask(Id::QuoteIsvProdId);
        if let Some(report) = report {
            let found = report.isv_prod_id.to_string();
            recorder.check(
                Id::QuoteIsvProdId,
                report.isv_prod_id == wanted,
                policy,
                wanted.to_string(),
                found,
            );
        }
    }
    if let Some(lowest) = expected.min_isv_svn {
        recorder.ask(Id::QuoteIsvSvn);
        if let Some(report) = report {
            let found = report.isv_svn.to_string();
            recorder.check(
                Id::QuoteIsvSvn,
                report.isv_svn >= lowest,
                policy,
                format!("at least {lowest}"),
                found,
            );
        }
    }
    if let Some(wanted) = expected.report_data {
        recorder.ask(Id::BindingReportData);
        if let Some(report) = report {
            let found = hex::encode(report.report_data);
            recorder.check(
                Id::BindingReportData,
                report.report_data == wanted,
                policy,
                hex::encode(wanted),
                found,
            );
        }
    }
    if let Some(wanted) = &expected.nonce {
        recorder.ask(Id::BindingNonce);
        let found = claims.and_then(|claims| claims.nonce.as_ref());
        let text = found.map_or_else(|| "none".to_owned(), hex::encode);
        recorder.check(Id::BindingNonce, found == Some(wanted), Fault::Evidence, hex::encode(wanted), text);
    }
    size
}

/// MRENCLAVE against the caller's fingerprints.
fn fingerprint(expected: &Expected, facts: &Facts, recorder: &mut Recorder) -> Option<u64> {
    let wanted: Vec<&[u8; 32]> =
        expected.mrenclave.iter().chain(expected.mrenclave_by_size.values()).collect();
    if wanted.is_empty() {
        return None;
    }
    recorder.ask(Id::QuoteMrenclave);
    let found = &facts.quote.as_ref()?.report.mr_enclave;
    let list: Vec<String> = wanted.iter().map(hex::encode).collect();
    let right = wanted.contains(&found);
    recorder.check(Id::QuoteMrenclave, right, Fault::Enclave, list.join(" or "), hex::encode(found));
    expected.mrenclave_by_size.iter().find(|(_, fingerprint)| *fingerprint == found).map(|(size, _)| *size)
}

/// Holds the platform against the policy. `size` is the enclave size, where a fingerprint proved it.
pub(crate) fn policy(
    policy: &Policy,
    expected: &Expected,
    size: Option<u64>,
    at: Timestamp,
    facts: &mut Facts,
    recorder: &mut Recorder,
) {
    let mut ends = Vec::new();
    if let Some(status) = facts.status() {
        let allowed: Vec<&str> = policy.allowed_statuses.iter().map(|status| status.as_str()).collect();
        let right = policy.allowed_statuses.contains(&status);
        recorder.check(Id::PolicyTcbStatus, right, Fault::Platform, allowed.join(" or "), status.as_str());
        advisories(policy, at, facts, recorder, &mut ends);
        if let Some(grace) = policy.grace {
            recorder.ask(Id::PolicyGrace);
            within_grace(grace, status, at, facts, recorder, &mut ends);
        }
    }
    numbers_and_dates(policy, facts, recorder);
    machine(policy, facts, recorder);
    if let Some(sizes) = &policy.enclave_sizes {
        recorder.ask(Id::PolicyEnclaveSize);
        let right = size.is_some_and(|size| sizes.contains(&size));
        let found =
            size.map_or_else(|| "a size that no fingerprint proves".to_owned(), |size| format!("{size} MiB"));
        recorder.check(Id::PolicyEnclaveSize, right, Fault::Policy, format!("one of {sizes:?} MiB"), found);
    }
    ages(policy, expected, at, facts, recorder, &mut ends);
    facts.tolerated_until = ends.iter().min().copied();
    if let Some(end) = facts.tolerated_until {
        facts.expires(end);
    }
}

/// Every advisory has to be on the allow-list, and its entry not expired.
fn advisories(
    policy: &Policy,
    at: Timestamp,
    facts: &Facts,
    recorder: &mut Recorder,
    ends: &mut Vec<Timestamp>,
) {
    let mut refused = Vec::new();
    for id in facts.advisories() {
        let entries = policy.advisories.iter().filter(|entry| entry.id == id);
        match entries.map(|entry| entry.expires).max() {
            Some(expires) if at < expires => ends.push(expires),
            Some(expires) => refused.push(format!("{id} (tolerated until {expires})")),
            None => refused.push(id.to_owned()),
        }
    }
    let expected = "only advisories on the policy's list";
    if refused.is_empty() {
        let all: Vec<&str> = facts.advisories().into_iter().collect();
        let found = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        recorder.pass(Id::PolicyAdvisories, found);
    } else {
        recorder.fail(Id::PolicyAdvisories, Fault::Platform, expected, refused.join(", "));
    }
}

/// What is out of date is tolerated for a while from the date of the level that would be current.
fn within_grace(
    grace: SignedDuration,
    status: TcbStatus,
    at: Timestamp,
    facts: &Facts,
    recorder: &mut Recorder,
    ends: &mut Vec<Timestamp>,
) {
    if !status.is_out_of_date() {
        return recorder.pass(Id::PolicyGrace, "not out of date");
    }
    let expected = format!("out of date for at most {} days", grace.as_hours() / 24);
    match grace_end(grace, facts) {
        Some(end) => {
            ends.push(end);
            recorder.check(
                Id::PolicyGrace,
                at <= end,
                Fault::Platform,
                expected,
                format!("tolerated until {end}"),
            );
        }
        None => recorder.fail(Id::PolicyGrace, Fault::Platform, expected, "no level would be current"),
    }
}

/// When the grace of whatever is out of date ends.
pub(crate) fn grace_end(grace: SignedDuration, facts: &Facts) -> Option<Timestamp> {
    let mut dates = Vec::new();
    if facts.tcb_level.as_ref()?.tcb_status.is_out_of_date() {
        dates.push(facts.tcb_info.as_ref()?.current_level()?.tcb_date);
    }
    if facts.qe_level.as_ref()?.tcb_status.is_out_of_date() {
        dates.push(facts.qe_identity.as_ref()?.current_level()?.tcb_date);
    }
    dates.into_iter().min()?.checked_add(grace).ok()
}

fn numbers_and_dates(policy: &Policy, facts: &Facts, recorder: &mut Recorder) {
    if let Some(lowest) = policy.min_evaluation_data_number {
        recorder.ask(Id::PolicyEvaluationNumber);
        if let Some(number) = evaluation_data_number(facts) {
            let (right, expected) = (number >= lowest, format!("at least {lowest}"));
            recorder.check(
                Id::PolicyEvaluationNumber,
                right,
                Fault::Collateral,
                expected,
                number.to_string(),
            );
        }
    }
    if let Some(earliest) = policy.min_tcb_date {
        recorder.ask(Id::PolicyTcbDate);
        if let Some(level) = &facts.tcb_level {
            let (right, expected) = (level.tcb_date >= earliest, format!("{earliest} or later"));
            recorder.check(Id::PolicyTcbDate, right, Fault::Platform, expected, level.tcb_date.to_string());
        }
    }
}

/// The lower number of TCB info and QE identity.
pub(crate) fn evaluation_data_number(facts: &Facts) -> Option<u32> {
    let tcb = facts.tcb_info.as_ref()?.tcb_evaluation_data_number;
    Some(tcb.min(facts.qe_identity.as_ref()?.tcb_evaluation_data_number))
}

/// Which machine, and how it is configured.
fn machine(policy: &Policy, facts: &Facts, recorder: &mut Recorder) {
    let configuration = facts.pck.as_ref().map(|pck| pck.configuration.unwrap_or_default());
    let flags = [
        (Id::PolicySmt, &policy.smt, configuration.map(|c| c.smt)),
        (Id::PolicyDynamicPlatform, &policy.dynamic_platform, configuration.map(|c| c.dynamic_platform)),
        (Id::PolicyCachedKeys, &policy.cached_keys, configuration.map(|c| c.cached_keys)),
    ];
    for (id, allowed, flag) in flags {
        let Some(allowed) = allowed else { continue };
        recorder.ask(id);
        if let Some(flag) = flag {
            let state = FlagState::of(flag);
            let expected: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let right = allowed.contains(&state);
            recorder.check(id, right, Fault::Platform, expected.join(" or "), state.to_string());
        }
    }
    if let Some(machines) = &policy.machines {
        recorder.ask(Id::PolicyMachine);
        if let Some(pck) = &facts.pck {
            let by_instance =
                pck.platform_instance_id.is_some_and(|id| machines.platform_instances.contains(&id));
            let right = machines.ppids.contains(&pck.ppid) || by_instance;
            let found = format!("PPID {}", hex::encode(pck.ppid));
            recorder.check(
                Id::PolicyMachine,
                right,
                Fault::Platform,
                "a machine on the policy's list",
                found,
            );
        }
    }
}

/// Ages of collateral and evidence, and whether there is a nonce at all.
fn ages(
    policy: &Policy,
    expected: &Expected,
    at: Timestamp,
    facts: &Facts,
    recorder: &mut Recorder,
    ends: &mut Vec<Timestamp>,
) {
    if let Some(longest) = policy.max_collateral_age {
        recorder.ask(Id::PolicyCollateralAge);
        if let Some(oldest) = facts.oldest_issue {
            let end = oldest.checked_add(longest).unwrap_or(Timestamp::MAX);
            ends.push(end);
            let wanted = format!("issued at most {longest:#} before {at}");
            let found = format!("oldest part issued at {oldest}");
            recorder.check(Id::PolicyCollateralAge, at <= end, Fault::Collateral, wanted, found);
        }
    }
    if policy.require_nonce {
        recorder.ask(Id::PolicyNonce);
        let named = expected.nonce.is_some();
        let found = if named { "one" } else { "none" };
        recorder.check(Id::PolicyNonce, named, Fault::Policy, "a nonce that the caller names", found);
    }
    if let Some(longest) = policy.max_evidence_age {
        recorder.ask(Id::PolicyEvidenceAge);
        let issued = expected.nonce.as_ref().and(expected.nonce_issued_at);
        let end = issued.map(|issued| issued.checked_add(longest).unwrap_or(Timestamp::MAX));
        let right = issued.is_some_and(|issued| issued <= at) && end.is_some_and(|end| at <= end);
        ends.extend(end);
        let wanted = format!("a nonce that this verifier issued at most {longest:#} before {at}");
        let found = issued.map_or_else(|| "no such nonce".to_owned(), |issued| format!("issued at {issued}"));
        recorder.check(Id::PolicyEvidenceAge, right, Fault::Evidence, wanted, found);
    }
}
