//! In which of five states a node is, told from two plain facts: what the runtime knows of its process, and
//! what an attested probe of its port said.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::health::Probe;

/// How long a node that runs may take until something answers on its port.
pub const STARTING_TIME: Duration = Duration::from_secs(120);

/// What the runtime knows of the node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It runs, since this long.
    Alive(Duration),
    /// It ended by itself: nobody asked it to.
    Died,
    /// It was stopped on request.
    Stopped,
}

/// The state of a node, as `list` and `status` show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// The process runs, and nothing answers yet.
    Initializing,
    /// The configuration server waits for the code key and secrets.
    WaitingForSecrets,
    /// The application answers its health check.
    Running,
    /// The process died by itself, the application fails its health check, or the peer is not the node.
    OnError,
    /// Stopped on request.
    Stopped,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeState::Initializing => "initializing",
            NodeState::WaitingForSecrets => "waiting for secrets",
            NodeState::Running => "running",
            NodeState::OnError => "on error",
            NodeState::Stopped => "stopped",
        })
    }
}

impl NodeState {
    /// Combines both facts. The process decides first: what answers on the port of a node that does not run
    /// is not the node.
    pub fn of(process: Process, probe: &Probe) -> NodeState {
        let age = match process {
            Process::Stopped => return NodeState::Stopped,
            Process::Died => return NodeState::OnError,
            Process::Alive(age) => age,
        };
        match probe {
            Probe::Waiting => NodeState::WaitingForSecrets,
            Probe::Healthy { .. } => NodeState::Running,
            Probe::Silent { .. } if age < STARTING_TIME => NodeState::Initializing,
            Probe::Silent { .. } | Probe::Unhealthy { .. } | Probe::WrongPeer { .. } => NodeState::OnError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_facts_has_its_state() {
        let young = Process::Alive(Duration::from_secs(1));
        let old = Process::Alive(STARTING_TIME);
        let silent = Probe::Silent { reason: String::new() };
        let healthy = Probe::Healthy { status: 200 };
        let unhealthy = Probe::Unhealthy { status: 500 };
        let wrong = Probe::WrongPeer { reason: String::new() };
        for (process, probe, state) in [
            (young, &silent, NodeState::Initializing),
            (old, &silent, NodeState::OnError),
            (young, &Probe::Waiting, NodeState::WaitingForSecrets),
            (old, &Probe::Waiting, NodeState::WaitingForSecrets),
            (young, &healthy, NodeState::Running),
            (young, &unhealthy, NodeState::OnError),
            (young, &wrong, NodeState::OnError),
            (Process::Died, &silent, NodeState::OnError),
            (Process::Died, &healthy, NodeState::OnError),
            (Process::Stopped, &silent, NodeState::Stopped),
            (Process::Stopped, &Probe::Waiting, NodeState::Stopped),
        ] {
            assert_eq!(NodeState::of(process, probe), state, "{process:?} {probe:?}");
        }
    }
}
