//! `mse simulator`: this installation's stand-in for Intel and the CPU.

mod pccs;
mod root;

use clap::Subcommand;

use crate::exit::Exit;

/// This installation's simulated platform.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Root(root::Args),
    Pccs(pccs::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Root(args) => root::run(&args),
        Verb::Pccs(args) => pccs::run(&args),
    }
}
