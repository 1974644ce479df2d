//! `mse home stop`: end a node, and with `--remove` all that is left of it.

use runtime::{NodeName, Runtime};

use crate::exit::Exit;
use crate::home::nodes;
use crate::output::say;

/// Stop a node. It can be started again without its owner.
#[derive(clap::Args)]
pub struct Args {
    /// Remove the node, too: its sealed state and its log are gone for good.
    #[arg(long)]
    remove: bool,
    /// The node's name.
    name: NodeName,
}

/// Stops, and removes if asked to.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = nodes::runtime()?;
    runtime.stop(&args.name)?;
    if args.remove {
        runtime.remove(&args.name)?;
        nodes::records()?.forget_node(args.name.as_str())?;
        say!("Removed {}.", args.name);
    } else {
        say!("Stopped {}.", args.name);
    }
    Ok(Exit::Done)
}
