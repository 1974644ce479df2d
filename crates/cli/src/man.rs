//! `mse man DIR`: the manual pages, one for each command.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use crate::exit::Exit;
use crate::output::say;

/// Write the manual pages, one for each command.
#[derive(clap::Args)]
pub struct Args {
    /// The directory for the pages (`mse.1`, `mse-home-spawn.1`, …), made if missing.
    #[arg(value_name = "DIR")]
    output: PathBuf,
}

/// Writes every page.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    clap_mangen::generate_to(crate::Cli::command(), &args.output)?;
    say!("Wrote the pages; read the first with: man -l {}", args.output.join("mse.1").display());
    Ok(Exit::Done)
}
