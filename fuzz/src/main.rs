//! `mse-fuzz`: runs the targets for longer than the tests do, repeats an input, makes the corpus.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Parser, Subcommand};
use fuzz::campaign::{self, Crash, Outcome};
use fuzz::growth::{self, Subject, check, count, toy};
use fuzz::{TARGETS, Target, seeds};
use sha2::{Digest, Sha256};

/// Feed every parser of outside bytes with mutated inputs.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the names of all targets.
    List,
    /// Run targets (all without names); inputs that panic are kept in `crashes/`.
    Run {
        /// Names of targets.
        targets: Vec<String>,
        /// For how long, each.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// So many inputs instead, all targets together, each an equal share; as many targets at once as there are
        /// processors. A seed then repeats the whole run.
        #[arg(long, value_name = "N", conflicts_with = "seconds")]
        inputs: Option<u64>,
        /// Where the sequence of mutations starts; another one each time without it.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Feed one target with one file.
    Replay {
        /// The target's name.
        target: String,
        /// The input.
        file: PathBuf,
    },
    /// Write the corpus anew.
    Seeds,
    /// Grow inputs and count what they cost, in instructions (with Valgrind) and in allocations; fail where that is more
    /// than in proportion.
    Growth {
        /// Names of parsers; all without any.
        parsers: Vec<String>,
        /// Print the table of `docs/reference/limits.md`.
        #[arg(long)]
        table: bool,
        /// Only shapes with this in their names.
        #[arg(long, value_name = "TEXT", default_value = "")]
        shape: String,
        /// Count no instructions, and read no larger inputs.
        #[arg(long)]
        allocations_only: bool,
    },
    /// What `growth` runs under Valgrind.
    #[command(hide = true)]
    GrowthChild {
        /// Where the inputs are.
        directory: PathBuf,
        /// Which child this is, and of how many.
        child: usize,
        children: usize,
        /// Names of parsers.
        parsers: Vec<String>,
        #[arg(long, default_value = "")]
        shape: String,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::List => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        Verb::Seeds => seeds::write()?,
        Verb::Replay { target, file } => {
            let input = std::fs::read(&file).with_context(|| file.display().to_string())?;
            println!("taken: {}", (find(&target)?.run)(&input));
        }
        Verb::Growth { parsers, table, shape, allocations_only } => {
            return grow(&parsers, &shape, table, !allocations_only);
        }
        Verb::GrowthChild { directory, child, children, parsers, shape } => {
            count::child(&directory, child, children, &chosen(&parsers, &shape)?)?;
        }
        Verb::Run { targets, seconds, inputs, seed } => {
            let chosen: Vec<&Target> = match targets.as_slice() {
                [] => TARGETS.iter().collect(),
                names => names.iter().map(|name| find(name)).collect::<anyhow::Result<_>>()?,
            };
            let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond() as u64);
            println!("seed: {seed}");
            let outcomes = match inputs {
                Some(inputs) => run_inputs(&chosen, seed, inputs)?,
                None => run_seconds(&chosen, seed, Duration::from_secs(seconds))?,
            };
            let tried: u64 = outcomes.iter().map(|outcome| outcome.inputs).sum();
            let crashes = outcomes.into_iter().filter_map(|outcome| outcome.crash).collect::<Vec<_>>();
            println!("{tried} inputs, {} targets, {} panics", chosen.len(), crashes.len());
            for crash in &crashes {
                keep(crash)?;
            }
            if !crashes.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Parsers by name, with the shapes that have `shape` in their names.
fn chosen(names: &[String], shape: &str) -> anyhow::Result<Vec<Subject>> {
    let all = || growth::subjects().into_iter().chain(toy::subjects());
    if let Some(name) = names.iter().find(|name| !all().any(|subject| subject.name == **name)) {
        let known = all().map(|subject| subject.name).collect::<Vec<_>>().join(", ");
        bail!("{name}: expected one of {known}");
    }
    let mut chosen: Vec<Subject> = match names {
        [] => growth::subjects(),
        // In the order of the names: a child has to agree with who started it.
        names => names.iter().filter_map(|name| all().find(|subject| subject.name == *name)).collect(),
    };
    for subject in &mut chosen {
        subject.shapes.retain(|known| known.name.contains(shape));
    }
    Ok(chosen)
}

/// Measures what was chosen; first, parsers of known cost, which have to be told apart.
fn grow(names: &[String], shape: &str, table: bool, instructions: bool) -> anyhow::Result<ExitCode> {
    toy::check(instructions)?;
    let measured = check::measure(&chosen(names, shape)?, shape, instructions)?;
    match table {
        true => print!("{}", check::table(&measured)),
        false => print!("{}", check::list(&measured)),
    }
    let faults = check::faults(&measured);
    faults.iter().for_each(|fault| eprintln!("FAULT: {fault}"));
    eprintln!("{} shapes, {} faults", measured.len(), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One target after the other, so that each has the time for itself.
fn run_seconds(targets: &[&Target], seed: u64, time: Duration) -> anyhow::Result<Vec<Outcome>> {
    let run = |target: &&Target| {
        let end = Instant::now() + time;
        run(target, seed, |_| Instant::now() < end)
    };
    targets.iter().map(run).collect()
}

/// An equal share of the inputs for each target.
fn run_inputs(targets: &[&Target], seed: u64, inputs: u64) -> anyhow::Result<Vec<Outcome>> {
    let share = inputs.div_ceil(targets.len() as u64);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut outcomes = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push(run(target, seed, |tried| tried < share)?);
        }
        Ok(outcomes)
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let done: Vec<anyhow::Result<Vec<Outcome>>> = thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let join = |handle: ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|_| Err(anyhow!("a run ended beside its target")))
        };
        started.into_iter().map(join).collect()
    });
    Ok(done.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Runs one target and says how it went.
fn run(target: &Target, seed: u64, go_on: impl FnMut(u64) -> bool) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let outcome = campaign::run(target, seed, go_on)?;
    let (slowest, input) = &outcome.slowest;
    println!(
        "{}: {} inputs in {:.1?}, {} taken, slowest {slowest:.1?} ({} bytes)",
        target.name,
        outcome.inputs,
        start.elapsed(),
        outcome.taken,
        input.len()
    );
    Ok(outcome)
}

/// Keeps the input that panicked.
fn keep(crash: &Crash) -> anyhow::Result<()> {
    let name = format!("{}-{}", crash.target, &hex::encode(Sha256::digest(&crash.input))[..16]);
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crashes");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    std::fs::write(&path, &crash.input)?;
    println!("{}: PANIC: {}\n  input: {}", crash.target, crash.message, path.display());
    Ok(())
}

fn find(name: &str) -> anyhow::Result<&'static Target> {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => Ok(target),
        None => bail!("{name}: expected a target that `mse-fuzz list` prints"),
    }
}
