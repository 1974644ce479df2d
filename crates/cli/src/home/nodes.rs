//! What the verbs share: the runtime, the records, and one look at a node.

use std::net::IpAddr;

use client::channel::Channel;
use client::health::{self, Probe};
use client::records::{Record, Store};
use client::state::{NodeState, Process};
use client::target::Target;
use jiff::Timestamp;
use runtime::{NodeName, NodeSummary, ProcessState, Runtimes};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{self, warn};
use crate::places;

/// The runtimes of this machine.
pub fn runtime() -> anyhow::Result<Runtimes> {
    Ok(Runtimes::new(&places::state()?)?)
}

/// The records of this home.
pub fn records() -> anyhow::Result<Store> {
    Ok(Store::open(&places::records()?)?)
}

/// The record *spawned here* of a node.
pub fn record(name: &NodeName) -> anyhow::Result<Record> {
    let found = records()?.by_node(name.as_str())?;
    found.ok_or_else(|| {
        Failure::failed(format!("there is no record of {name}: it was not spawned and verified here"))
            .hint("`mse home list` shows the nodes of this machine")
            .into()
    })
}

/// Says what whoever rests on a record must know: that its enclave is simulated, or that its channel is not attested.
pub fn announce(record: &Record) {
    if record.served_spki().is_some() {
        warn("the application serves its owner's certificate: the channel is not attested");
    }
    if record.is_simulated() {
        warn(format_args!(
            "{} enclave: it proves nothing about the machine",
            output::Styled(output::CARE, "SIMULATED")
        ));
    }
}

/// Where a node of this machine answers.
pub fn target(summary: &NodeSummary) -> anyhow::Result<Target> {
    let address = match summary.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(Target::new(&summary.host, summary.listen.port())?.resolve_to(address))
}

/// A node, and how it is doing.
#[derive(Serialize)]
pub struct Node {
    /// What the runtime knows.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// Its state.
    pub state: NodeState,
    /// Whether its enclave is simulated; unknown where it was not verified here.
    pub simulated: Option<bool>,
    /// What its port answered.
    pub answer: Probe,
}

impl Node {
    /// Looks at a node once, over the channel of its record.
    pub fn look(summary: NodeSummary, records: &Store) -> Node {
        let process = match summary.process {
            ProcessState::Alive { since, .. } => {
                Process::Alive(Timestamp::now().duration_since(since).unsigned_abs())
            }
            // Whatever its engine does, nobody can use it.
            ProcessState::Died | ProcessState::Unknown => Process::Died,
            ProcessState::Stopped => Process::Stopped,
        };
        let silent = |reason: String| Probe::Silent { reason };
        let record = records.by_node(summary.name.as_str());
        let simulated = record.as_ref().ok().and_then(Option::as_ref).map(Record::is_simulated);
        let answer = match (record, target(&summary)) {
            _ if summary.process == ProcessState::Unknown => {
                silent("its container engine does not answer".to_owned())
            }
            _ if !summary.process.is_alive() => silent("its process does not run".to_owned()),
            (Ok(None), _) => silent("it was not verified here".to_owned()),
            (Ok(Some(record)), Ok(target)) => {
                health::probe(&Channel::attested(&record, &target), &summary.healthcheck)
            }
            (Err(error), _) => silent(error.to_string()),
            (_, Err(error)) => silent(error.to_string()),
        };
        let state = NodeState::of(process, &answer);
        Node { summary, state, simulated, answer }
    }

    /// Its platform in words. What was not verified here passes for nothing.
    pub fn platform_word(&self) -> &'static str {
        match self.simulated {
            Some(true) => "SIMULATED (proves nothing)",
            Some(false) => "sgx",
            None => "unknown (not verified here)",
        }
    }

    /// Why it is not well.
    pub fn reason(&self) -> Option<String> {
        match (&self.state, &self.answer) {
            (NodeState::Stopped | NodeState::Running | NodeState::WaitingForSecrets, _) => None,
            (_, Probe::Silent { reason } | Probe::WrongPeer { reason }) => Some(reason.clone()),
            (_, Probe::Unhealthy { status }) => Some(format!("the health check answers {status}")),
            _ => None,
        }
    }
}
