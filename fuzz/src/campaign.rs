//! Runs targets on the corpus and on mutations of it, and catches what panics.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Target;
use crate::mutate::{Random, mutate};

/// An input that made a target panic.
#[derive(Debug)]
pub struct Crash {
    /// The target's name.
    pub target: &'static str,
    /// What the panic said.
    pub message: String,
    /// The input.
    pub input: Vec<u8>,
}

/// What a run of one target saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Inputs tried.
    pub inputs: u64,
    /// How many of them the parser took.
    pub taken: u64,
    /// The longest that one took, and which.
    pub slowest: (Duration, Vec<u8>),
    /// The first input that panicked; the run ends there.
    pub crash: Option<Crash>,
}

/// The directory of a target's corpus.
pub fn corpus_directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The root certificate that the corpus's quotes and evidence lead to.
pub fn root_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("simulated-root.pem")
}

/// The corpus of a target, in order of file names.
///
/// # Errors
/// Where the directory cannot be read, or holds nothing.
pub fn corpus(target: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let directory = corpus_directory(target);
    let reading = || format!("cannot read {}", directory.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&directory).with_context(reading)? {
        files.push(entry.with_context(reading)?.path());
    }
    anyhow::ensure!(!files.is_empty(), "{}: expected at least one file, found none", directory.display());
    files.sort();
    files.iter().map(|file| fs::read(file).with_context(reading)).collect()
}

/// One file of the corpus; empty where it is not there.
pub fn corpus_file(target: &str, name: &str) -> Vec<u8> {
    fs::read(corpus_directory(target).join(name)).unwrap_or_default()
}

/// Feeds a target with its corpus, then with mutations of it while `go_on` says so (it is told how many inputs there
/// were).
///
/// # Errors
/// Those of [`corpus`].
pub fn run(target: &Target, seed: u64, mut go_on: impl FnMut(u64) -> bool) -> anyhow::Result<Outcome> {
    let corpus = corpus(target.name)?;
    let mut outcome = Outcome::default();
    for input in &corpus {
        attempt(target, input.clone(), &mut outcome);
    }
    // Every target has a sequence of its own, so that one can be repeated without the others.
    let mut random =
        Random::new(target.name.bytes().fold(seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte)));
    while outcome.crash.is_none() && go_on(outcome.inputs) {
        let mut input = mutate(&corpus, &mut random);
        if let Some(repair) = target.repair
            && random.below(8) > 0
        {
            repair(&mut input);
        }
        attempt(target, input, &mut outcome);
    }
    Ok(outcome)
}

fn attempt(target: &Target, input: Vec<u8>, outcome: &mut Outcome) {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
    let took = start.elapsed();
    outcome.inputs += 1;
    match result {
        Err(panic) => {
            let message = message_of(&*panic);
            outcome.crash.get_or_insert(Crash { target: target.name, message, input });
        }
        Ok(taken) => {
            outcome.taken += u64::from(taken);
            if took > outcome.slowest.0 {
                outcome.slowest = (took, input);
            }
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
    text.chars().take(400).collect()
}
