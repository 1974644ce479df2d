//! `mse home list`: the nodes of this machine.

use runtime::Runtime;

use crate::exit::Exit;
use crate::home::nodes::{self, Node};
use crate::output::{self, Format, out, say};

/// List the nodes of this machine and their states.
#[derive(clap::Args)]
pub struct Args {
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Asks every node, each over its own attested channel.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let records = nodes::records()?;
    let summaries = nodes::runtime()?.list()?;
    let nodes: Vec<Node> = std::thread::scope(|scope| {
        let looks: Vec<_> =
            summaries.into_iter().map(|summary| scope.spawn(|| Node::look(summary, &records))).collect();
        looks.into_iter().filter_map(|look| look.join().ok()).collect()
    });
    if args.format == Format::Json {
        output::json(&nodes)?;
        return Ok(Exit::Done);
    }
    if nodes.is_empty() {
        say!("There is no node here; `mse home spawn` makes one.");
        return Ok(Exit::Done);
    }
    let width = nodes.iter().map(|node| node.summary.name.as_str().len()).max().unwrap_or(0).max(4);
    out!("{:<width$}  {:<19}  {:<21}  {}", "NAME", "STATE", "ADDRESS", "HOST")?;
    for node in &nodes {
        let remark = match node.simulated {
            Some(true) => "  SIMULATED",
            Some(false) => "",
            None => "  NOT VERIFIED HERE",
        };
        out!(
            "{:<width$}  {:<19}  {:<21}  {}{remark}",
            node.summary.name.as_str(),
            node.state.to_string(),
            node.summary.listen.to_string(),
            output::printable(&node.summary.host, ""),
        )?;
    }
    Ok(Exit::Done)
}
