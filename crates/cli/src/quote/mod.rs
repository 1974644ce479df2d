//! `mse quote`: read and judge quotes, alone, with no package.

mod collateral;
mod explain_tcb;
mod inspect;
mod subject;
mod verify;

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
    Verify(Box<verify::Args>),
    ExplainTcb(Box<explain_tcb::Args>),
    Collateral(collateral::Args),
    Inspect(inspect::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Verify(args) => verify::run(&args),
        Verb::ExplainTcb(args) => explain_tcb::run(&args),
        Verb::Collateral(args) => collateral::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
    }
}
