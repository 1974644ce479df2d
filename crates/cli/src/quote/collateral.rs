//! `mse quote collateral`: fetch what a quote is judged with.

use std::path::PathBuf;

use attestation::Quote;
use client::collate::{Sources, says_simulated};

use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::{collateral, output, places};

/// Fetch the collateral for a quote. It is not judged here.
#[derive(clap::Args)]
pub struct Args {
    /// The quote: raw, hex, base64 or PEM.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The PCCS to ask; Intel's service without it (for a simulated quote: this installation's simulator).
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,
    /// Where the JSON object goes; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Fetches and writes.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let quote = Quote::recognise(&files::read(&args.quote)?)
        .and_then(|bytes| Quote::parse(&bytes).map(|_| bytes))
        .map_err(|error| Failure::refused(format!("{}: {error}", args.quote.display())))?;
    let simulator = places::simulator()?;
    let sources = Sources {
        pccs: args.pccs.as_deref(),
        simulator: says_simulated(&quote).then_some(simulator.as_path()),
        intel: true,
        ..Sources::default()
    };
    let collateral = collateral::fetch(&sources, &quote)?;
    output::bytes(&args.output, collateral.to_json().as_bytes(), PUBLIC)?;
    Ok(Exit::Done)
}
