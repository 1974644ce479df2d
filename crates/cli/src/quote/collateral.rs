//! `mse quote collateral`: fetch what a quote is judged with.

use std::path::PathBuf;

use attestation::Quote;
use client::collate::{Sources, says_simulated};

use crate::collateral::{self, TcbUpdate};
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::{output, places};

/// Fetch the collateral for a quote. It is not judged here.
#[derive(clap::Args)]
pub struct Args {
    /// The quote: raw, hex, base64 or PEM.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// The PCCS to ask; Intel's service without it (for a simulated quote: this installation's simulator).
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,
    /// The TCB recovery to ask for: `early` is the newest from the day it is published, before platforms are expected to
    /// have applied it.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    tcb_update: TcbUpdate,
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
    let collateral = collateral::fetch_of(args.tcb_update, &sources, &quote)?;
    output::bytes(&args.output, collateral.to_json().as_bytes(), PUBLIC)?;
    Ok(Exit::Done)
}
