//! `mse quote collateral`: fetch what a quote is judged with.

use std::path::PathBuf;

use attestation::Quote;
use client::collate::says_simulated;

use crate::collateral::ServiceArgs;
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::output;

/// Fetch the collateral for a quote. It is not judged here.
#[derive(clap::Args)]
pub struct Args {
    /// The quote: raw, hex, base64 or PEM.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    #[command(flatten)]
    service: ServiceArgs,
    /// Where the JSON object goes; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Fetches and writes.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let quote = Quote::recognise(&files::read(&args.quote)?)
        .and_then(|bytes| Quote::parse(&bytes).map(|_| bytes))
        .map_err(|error| Failure::refused(format!("{}: {error}", args.quote.display())))?;
    let collateral = args.service.choice()?.fetch(&quote, says_simulated(&quote))?;
    output::bytes(&args.output, collateral.to_json().as_bytes(), PUBLIC)?;
    Ok(Exit::Done)
}
