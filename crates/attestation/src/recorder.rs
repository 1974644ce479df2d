//! Keeps the checks of one judgement while it is made, and decides the verdict from them.
//!
//! Trusts nobody to be complete: a check that applies and was never recorded counts as not passed.

use crate::checks::{Id, Kind};
use crate::error::shortened;
use crate::judgement::{Check, Fault, Outcome, Verdict};

/// Which kinds of checks apply to what is being judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applies {
    pub(crate) certificate: bool,
    pub(crate) claims: bool,
    pub(crate) evidence: bool,
}

/// The checks made so far.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    checks: Vec<Check>,
    asked: Vec<Id>,
    pub(crate) applies: Applies,
}

impl Recorder {
    /// A recorder with nothing in it.
    pub(crate) fn new() -> Self {
        Self { checks: Vec::with_capacity(Id::ALL.len()), asked: Vec::new(), applies: Applies::default() }
    }

    /// Notes that the caller or the policy asks for `id`: from now on it must pass.
    pub(crate) fn ask(&mut self, id: Id) {
        self.asked.push(id);
    }

    fn push(&mut self, id: Id, result: Outcome, expected: String, found: String, fault: Option<Fault>) {
        debug_assert!(self.checks.iter().all(|check| check.id != id), "{id} recorded twice");
        let (expected, found) = (shortened(expected), shortened(found));
        self.checks.push(Check { id, result, expected, found, fault, hint: None });
    }

    /// Records a pass.
    pub(crate) fn pass(&mut self, id: Id, found: impl Into<String>) {
        self.push(id, Outcome::Pass, id.question().to_owned(), found.into(), None);
    }

    /// Records a failure.
    pub(crate) fn fail(
        &mut self,
        id: Id,
        fault: Fault,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.push(id, Outcome::Fail, expected.into(), found.into(), Some(fault));
    }

    /// Adds what to do about a failure of `id`; nothing where it did not fail.
    pub(crate) fn advise(&mut self, id: Id, hint: impl Into<String>) {
        let failed = |check: &&mut Check| check.id == id && check.result == Outcome::Fail;
        if let Some(check) = self.checks.iter_mut().find(failed) {
            check.hint = Some(hint.into());
        }
    }

    /// Records that `id` was not judged, and why.
    pub(crate) fn skip(&mut self, id: Id, why: &str) {
        self.push(id, Outcome::Skipped, id.question().to_owned(), why.to_owned(), None);
    }

    /// Records that none of `ids` was judged, and why.
    pub(crate) fn skip_all(&mut self, ids: &[Id], why: &str) {
        for id in ids {
            self.skip(*id, why);
        }
    }

    /// Records a pass or a failure; says which.
    pub(crate) fn check(
        &mut self,
        id: Id,
        ok: bool,
        fault: Fault,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> bool {
        let result = if ok { Outcome::Pass } else { Outcome::Fail };
        self.push(id, result, expected.into(), found.into(), (!ok).then_some(fault));
        ok
    }

    /// The checks in the order of the register, those that were never recorded among them as skipped, and the verdict.
    pub(crate) fn finish(mut self) -> (Verdict, Vec<Check>) {
        let mut seen = vec![false; Id::ALL.len()];
        for check in &self.checks {
            seen[check.id as usize] = true;
        }
        for id in Id::ALL {
            if !seen[*id as usize] {
                let why = if self.applicable(*id) { "not judged" } else { "not asked for" };
                self.skip(*id, why);
            }
        }
        self.checks.sort_by_key(|check| check.id);
        let acceptable = self.checks.iter().all(|check| match check.result {
            Outcome::Pass => true,
            Outcome::Fail => false,
            Outcome::Skipped => !self.applicable(check.id),
        });
        (if acceptable { Verdict::Accepted } else { Verdict::Refused }, self.checks)
    }

    /// Whether this check must pass here.
    fn applicable(&self, id: Id) -> bool {
        match id.kind() {
            Kind::Always => true,
            Kind::Certificate => self.applies.certificate,
            Kind::Claims => self.applies.claims,
            Kind::Evidence => self.applies.evidence,
            Kind::Asked => self.asked.contains(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_pass(except: Option<Id>) -> Recorder {
        let mut recorder = Recorder::new();
        for id in Id::ALL {
            if id.kind() == Kind::Always && Some(*id) != except {
                recorder.pass(*id, "");
            }
        }
        recorder
    }

    #[test]
    fn accepts_only_where_every_check_that_applies_was_made() {
        assert_eq!(all_pass(None).finish().0, Verdict::Accepted);
        for id in Id::ALL.iter().filter(|id| id.kind() == Kind::Always) {
            assert_eq!(all_pass(Some(*id)).finish().0, Verdict::Refused, "{id} forgotten");
            let mut failed = all_pass(Some(*id));
            failed.fail(*id, Fault::Evidence, "", "");
            assert_eq!(failed.finish().0, Verdict::Refused, "{id} failed");
        }
    }

    #[test]
    fn what_was_asked_must_pass() {
        let mut recorder = all_pass(None);
        recorder.ask(Id::QuoteMrenclave);
        assert_eq!(recorder.finish().0, Verdict::Refused);
        let mut recorder = all_pass(None);
        recorder.ask(Id::QuoteMrenclave);
        recorder.pass(Id::QuoteMrenclave, "");
        assert_eq!(recorder.finish().0, Verdict::Accepted);
    }

    #[test]
    fn each_kind_of_input_brings_its_checks() {
        for (applies, kind) in [
            (Applies { certificate: true, ..Applies::default() }, Kind::Certificate),
            (Applies { claims: true, ..Applies::default() }, Kind::Claims),
            (Applies { evidence: true, ..Applies::default() }, Kind::Evidence),
        ] {
            let mut recorder = all_pass(None);
            recorder.applies = applies;
            for id in Id::ALL.iter().filter(|id| id.kind() == kind).skip(1) {
                recorder.pass(*id, "");
            }
            assert_eq!(recorder.finish().0, Verdict::Refused, "{kind:?}");
        }
    }

    #[test]
    fn every_check_is_listed_once_and_in_order() {
        let (_, checks) = Recorder::new().finish();
        assert_eq!(checks.iter().map(|check| check.id).collect::<Vec<_>>(), Id::ALL);
    }
}
