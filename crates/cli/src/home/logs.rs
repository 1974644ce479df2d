//! `mse home logs`: what a node has written.

use runtime::{NodeName, Runtime};

use crate::exit::Exit;
use crate::home::nodes;
use crate::output;

/// Print what a node has written to its log. The log is the operator's: it holds what the application prints. On a
/// terminal control characters are shown as escapes; a pipe or a file gets the bytes as they are.
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
    let runtime = nodes::runtime()?;
    output::log(|out| Ok(runtime.logs(&args.name, args.follow, out)?))?;
    Ok(Exit::Done)
}
