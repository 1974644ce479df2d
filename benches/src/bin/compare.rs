//! `compare`: how long one verification takes, ours and dcap-qvl's, on the same bytes at the same time.
//!
//! Both read the collateral's JSON and judge the raw quote; anchors and policy are made before. The two take turns, so
//! that whatever else the machine does hits both; the medians are compared.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use attestation::{Expected, Input, judge_bytes};
use benches::other;
use benches::samples::{self, Sample};
use clap::Parser;
use dcap_qvl::QuoteCollateralV3;

/// Time one verification, ours next to dcap-qvl's.
#[derive(Parser)]
struct Args {
    /// The directory of the real quote.
    #[arg(long, value_name = "DIR", default_value_os_t = samples::usual_directory())]
    quotes: PathBuf,
    /// How many verifications of each.
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// Exit with 1 where ours takes more than this times theirs.
    #[arg(long, value_name = "RATIO")]
    limit: Option<f64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds: expected at least 1");
    let real = samples::real(&args.quotes)?;
    if real.is_none() {
        eprintln!("no real quote in {}: only the corpus's is timed", args.quotes.display());
    }
    let mut within = true;
    for sample in real.into_iter().chain([samples::of_the_corpus()?]) {
        let (ours, theirs) = compare(&sample, args.rounds)?;
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "{}: ours {ours:.1?}, dcap-qvl {theirs:.1?}, ratio {ratio:.2} (medians of {} each)",
            sample.name, args.rounds
        );
        within &= args.limit.is_none_or(|limit| ratio <= limit);
    }
    if !within {
        eprintln!("error: slower than the limit allows");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The medians, ours first.
fn compare(sample: &Sample, rounds: usize) -> anyhow::Result<(Duration, Duration)> {
    let (anchors, policy, expected) = (sample.anchors()?, sample.policy()?, Expected::default());
    let ours = || {
        let (input, collateral) = (Input::Quote(&sample.quote), Some(&sample.collateral[..]));
        judge_bytes(input, collateral, &anchors, &policy, &expected, sample.at).is_accepted()
    };
    let verifier = other::verifier(sample.root.clone());
    let at = u64::try_from(sample.at.as_second())?;
    let theirs = || {
        let collateral = serde_json::from_slice::<QuoteCollateralV3>(&sample.collateral);
        collateral.is_ok_and(|collateral| verifier.verify(&sample.quote, &collateral, at).is_ok())
    };
    // A refusal may be quicker than the whole way: what is timed must be accepted.
    ensure!(ours(), "{}: ours does not accept it", sample.name);
    ensure!(theirs(), "{}: dcap-qvl does not accept it", sample.name);
    let (mut first, mut second) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds {
        // Neither always runs in the caches that the other has just left.
        if round % 2 == 0 {
            first.push(time(ours));
            second.push(time(theirs));
        } else {
            second.push(time(theirs));
            first.push(time(ours));
        }
    }
    Ok((median(first), median(second)))
}

fn time(verify: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    std::hint::black_box(verify());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
