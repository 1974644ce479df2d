//! The highest TCB evaluation data number that this home has seen in collateral it accepted.
//!
//! Intel keeps the sets of several TCB recoveries current at once, so an operator can choose the mildest. Who has seen a newer
//! one is told so. It is a remark, not a refusal: `update=standard` lags behind `update=early` by design, and a home
//! that once saw an early set would refuse everybody's standard one. A policy refuses: `min_tcb_evaluation_data_number`.
//!
//! One JSON file of the home's own: for each trust anchor (SHA-256 of the root, in hex) the number and when it was seen. A
//! file that cannot be read or written costs a remark, so neither is an error.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use attestation::judgement::Judgement;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The file in the home's directory.
const NAME: &str = "tcb-evaluation.json";
/// The longest file that is read, in bytes.
const MAX_LEN: u64 = 65_536;
/// No home trusts more anchors than this; of more, none is remembered.
const MAX_ANCHORS: usize = 64;

/// A number that was seen in accepted collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The TCB evaluation data number.
    pub number: u32,
    /// When it was judged.
    pub seen_at: Timestamp,
}

/// What a home remembers.
#[derive(Clone, Debug)]
pub struct Memory {
    path: PathBuf,
}

impl Memory {
    /// That of the home with this directory.
    pub fn of(directory: &Path) -> Self {
        Self { path: directory.join(NAME) }
    }

    /// Compares a judgement with what was seen before, and remembers it where it was accepted. `Some` where a newer set than
    /// the one judged with was accepted here before.
    pub fn note(&self, judgement: &Judgement) -> Option<Seen> {
        let collateral = judgement.collateral()?;
        let number = collateral.tcb_info_number.min(collateral.qe_identity_number);
        let anchor = judgement.anchor()?.sha256.clone();
        let seen = Seen { number, seen_at: judgement.judged_at() };
        self.compare(anchor, seen, judgement.is_accepted())
    }

    fn compare(&self, anchor: String, now: Seen, accepted: bool) -> Option<Seen> {
        let mut all = self.load().unwrap_or_default();
        let before = all.get(&anchor).copied();
        let newest = before.is_none_or(|before| before.number < now.number);
        if accepted && newest && (before.is_some() || all.len() < MAX_ANCHORS) {
            all.insert(anchor, now);
            let _ = self.store(&all);
        }
        before.filter(|before| before.number > now.number)
    }

    fn load(&self) -> Option<BTreeMap<String, Seen>> {
        let regular = std::fs::metadata(&self.path).ok()?.is_file();
        let file = regular.then(|| std::fs::File::open(&self.path).ok()).flatten()?;
        let mut json = Vec::new();
        file.take(MAX_LEN).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn store(&self, all: &BTreeMap<String, Seen>) -> Option<()> {
        let directory = self.path.parent()?;
        std::fs::create_dir_all(directory).ok()?;
        let mut file = tempfile::NamedTempFile::new_in(directory).ok()?;
        file.write_all(&serde_json::to_vec_pretty(all).ok()?).ok()?;
        file.persist(&self.path).ok().map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(number: u32) -> Seen {
        Seen { number, seen_at: "2026-03-01T12:00:00Z".parse().unwrap() }
    }

    #[test]
    fn a_newer_set_is_remembered_for_its_anchor_where_it_was_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::of(&directory.path().join("made"));
        let note = |anchor: &str, number, accepted| memory.compare(anchor.to_owned(), seen(number), accepted);
        assert_eq!(note("a", 18, true), None);
        assert_eq!(note("a", u32::MAX, false), None, "what was refused is not remembered");
        assert_eq!(note("a", 17, true), Some(seen(18)));
        assert_eq!(note("a", 18, true), None);
        assert_eq!(note("b", 17, true), None, "another root is another story");
        assert_eq!(note("a", 19, true), None);
        assert_eq!(note("a", 18, false), Some(seen(19)));
    }

    #[test]
    fn a_damaged_memory_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::of(directory.path());
        for content in
            ["", "{\"a\": 7}", "[]", "{\"a\": {\"number\": -1, \"seen_at\": \"2026-03-01T12:00:00Z\"}}"]
        {
            std::fs::write(directory.path().join(NAME), content).unwrap();
            assert_eq!(memory.compare("a".to_owned(), seen(17), true), None, "{content}");
            assert_eq!(memory.compare("a".to_owned(), seen(16), true), Some(seen(17)), "{content}");
        }
    }

    #[test]
    fn the_memory_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::of(directory.path());
        for anchor in 0..200 {
            memory.compare(anchor.to_string(), seen(17), true);
        }
        assert_eq!(memory.load().unwrap().len(), MAX_ANCHORS);
    }
}
