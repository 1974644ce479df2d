//! `mse home restart`: start a node again with the same identity and sealed state.

use std::time::Duration;

use client::channel::Channel;
use client::health::{self, Probe};
use runtime::{NodeName, Runtime};

use crate::exit::{Exit, Failure};
use crate::home::nodes;
use crate::output::{self, say};

/// Stop a node if it runs, and start it again. A configured one needs no owner.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds to wait for the node to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// The node's name.
    name: NodeName,
}

/// Restarts, and waits until the node waits for secrets or its application answers.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = nodes::runtime()?;
    let record = nodes::record(&args.name)?;
    nodes::announce(&record);
    let summary = runtime.restart(&args.name)?;
    let target = nodes::target(&summary)?;
    let channel = Channel::attested(&record, &target);
    let bar = output::progress();
    bar.set_message("waiting for the node");
    let mut ended = false;
    let probe = health::wait(&channel, &summary.healthcheck, Duration::from_secs(args.timeout), |probe| {
        ended = !runtime.status(&args.name).is_ok_and(|process| process.is_alive());
        ended || matches!(probe, Probe::Healthy { .. } | Probe::Waiting | Probe::WrongPeer { .. })
    });
    bar.finish_and_clear();
    match probe {
        Ok(Probe::Healthy { .. }) => say!("Running: {}", target.origin()),
        Ok(Probe::Waiting) => say!("{} waits for its secrets; `mse home run` gives them.", args.name),
        Ok(Probe::WrongPeer { reason }) => {
            return Err(Failure::failed(format!("the node came back with another identity: {reason}"))
                .hint("its sealed state could not be opened; `stop --remove` it and spawn it again")
                .into());
        }
        found => {
            let found = match found {
                _ if ended => "its process ended".to_owned(),
                Ok(Probe::Unhealthy { status }) => format!("its health check answers {status}"),
                Ok(_) => "it does not answer".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(Failure::failed(format!("{} did not come up again: {found}", args.name))
                .hint(format!("see `mse home logs {}`", args.name))
                .into());
        }
    }
    Ok(Exit::Done)
}
