//! `mse quote`: read and judge quotes, alone, with no package.

mod inspect;

use clap::Subcommand;

use crate::exit::Exit;

/// Read and judge SGX quotes.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Inspect(inspect::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Inspect(args) => inspect::run(&args),
    }
}
