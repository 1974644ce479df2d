//! `mse home status`: how one node is doing.

use runtime::{NodeName, ProcessState, Runtime};

use crate::exit::Exit;
use crate::home::nodes::{self, Node};
use crate::output::{self, Format, out, printable};

/// Show the state of a node, asked over an attested channel.
#[derive(clap::Args)]
pub struct Args {
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The node's name.
    name: NodeName,
}

/// Looks once.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let summary = nodes::runtime()?.summary(&args.name)?;
    let node = Node::look(summary, &nodes::records()?);
    if args.format == Format::Json {
        output::json(&node)?;
        return Ok(Exit::Done);
    }
    let summary = &node.summary;
    out!("Name: {}", summary.name)?;
    out!("State: {}", node.state)?;
    if let Some(reason) = node.reason() {
        out!("Reason: {}", printable(&reason, ""))?;
    }
    out!("Platform: {}", node.platform_word())?;
    out!("Runtime: {}", summary.runtime)?;
    if let ProcessState::Alive { pid, since } = summary.process {
        out!("Process: {pid}, since {since}")?;
    }
    out!("Application: {}", printable(&summary.application, ""))?;
    out!("Host: {}", printable(&summary.host, ""))?;
    out!("Address: {}", summary.listen)?;
    out!("Health check: {}", printable(&summary.healthcheck, ""))?;
    out!("Enclave size: {} MB", summary.size_mb)?;
    out!("Fingerprint: {}", summary.fingerprint)?;
    out!("App id: {}", summary.app_id)?;
    out!("Spawned: {}", summary.created_at)?;
    Ok(Exit::Done)
}
