//! `dcap-qvl-verify`: dcap-qvl as a command, for `mse-corpus run`. Exit code 0 accepted, 1 refused, 2 cannot judge.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use benches::other::{self, Answer};
use clap::Parser;

/// Judge a raw quote with dcap-qvl.
#[derive(Parser)]
struct Args {
    /// The quote, raw.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The collateral's JSON.
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// The root to trust instead of Intel's, PEM.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The time to judge at, in seconds since 1970.
    #[arg(long, value_name = "UNIX")]
    at: u64,
    /// Accept only the status UpToDate.
    #[arg(long)]
    up_to_date: bool,
}

fn main() -> ExitCode {
    match judge(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn judge(args: &Args) -> anyhow::Result<bool> {
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let root = match &args.root {
        Some(path) => Some(other::der_of_pem(&read(path)?).with_context(|| path.display().to_string())?),
        None => None,
    };
    let (quote, collateral) = (read(&args.quote)?, read(&args.collateral)?);
    let answer = other::ask(&other::verifier(root), &quote, &collateral, args.at);
    match &answer {
        Answer::Verified { status, .. } => println!("verified: {status}"),
        Answer::Refused => println!("refused"),
        Answer::Panicked => println!("panicked"),
    }
    Ok(if args.up_to_date { answer.is_up_to_date() } else { answer.is_ok() })
}
