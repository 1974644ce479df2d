//! `mse home logs`: what a node has written.

use std::io;

use runtime::{NodeName, Runtime};

use crate::exit::Exit;
use crate::home::nodes;

/// Print what a node has written to its log. The log is the operator's: it holds what the application prints.
#[derive(clap::Args)]
pub struct Args {
    /// Go on as the node writes, until it ends.
    #[arg(short, long)]
    follow: bool,
    /// The node's name.
    name: NodeName,
}

/// Copies the log to standard output.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    nodes::runtime()?.logs(&args.name, args.follow, &mut io::stdout().lock())?;
    Ok(Exit::Done)
}
