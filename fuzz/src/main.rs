//! `mse-fuzz`: runs the targets for longer than the tests do, repeats an input, makes the corpus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use fuzz::{TARGETS, Target, campaign, seeds};
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
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::List => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        Verb::Seeds => seeds::write()?,
        Verb::Replay { target, file } => {
            let input = std::fs::read(&file).with_context(|| file.display().to_string())?;
            println!("taken: {}", (find(&target)?.run)(&input));
        }
        Verb::Run { targets, seconds, seed } => {
            let chosen: Vec<&Target> = match targets.as_slice() {
                [] => TARGETS.iter().collect(),
                names => names.iter().map(|name| find(name)).collect::<anyhow::Result<_>>()?,
            };
            let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond() as u64);
            println!("seed: {seed}");
            let mut crashed = false;
            for target in chosen {
                crashed |= run(target, seed, Duration::from_secs(seconds))?;
            }
            if crashed {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one target; says whether it crashed.
fn run(target: &Target, seed: u64, time: Duration) -> anyhow::Result<bool> {
    let end = Instant::now() + time;
    let outcome = campaign::run(target, seed, |_| Instant::now() < end)?;
    let (slowest, input) = &outcome.slowest;
    println!(
        "{}: {} inputs, {} taken, slowest {slowest:.1?} ({} bytes)",
        target.name,
        outcome.inputs,
        outcome.taken,
        input.len()
    );
    let Some(crash) = outcome.crash else { return Ok(false) };
    let name = format!("{}-{}", crash.target, &hex::encode(Sha256::digest(&crash.input))[..16]);
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crashes");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    std::fs::write(&path, &crash.input)?;
    println!("{}: PANIC: {}\n  input: {}", crash.target, crash.message, path.display());
    Ok(true)
}

fn find(name: &str) -> anyhow::Result<&'static Target> {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => Ok(target),
        None => bail!("{name}: expected a target that `mse-fuzz list` prints"),
    }
}
