//! The life of an app as a pure function: from what is wanted, what is known and what is seen, to the next thing to
//! do. The reconciler asks it, does that one thing, and asks again; nothing else decides.
//!
//! ```text
//! spawning -> initializing -> running <-> on-error      (any of them) -> stopped
//! ```
//!
//! *Spawning*: it waits for room, or its node starts. *Initializing*: the node waits for its owner's configuration,
//! or starts the application. *Running*: the health check passes. *On error*: it does not, or the node ended; a node
//! that ended is started again, later each time. *Stopped*: its node and what it occupied are gone; it stays so.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the owner wants of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It shall run.
    Running,
    /// It shall end.
    Stopped,
}

/// How an app is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits for room, or its node starts.
    Spawning,
    /// Its node waits for the configuration, or starts the application.
    Initializing,
    /// Its health check passes.
    Running,
    /// Its health check fails, or its node could not start or ended.
    OnError,
    /// It has ended, for good.
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] =
        [State::Spawning, State::Initializing, State::Running, State::OnError, State::Stopped];

    /// Its name, as in the API and the database.
    pub fn name(self) -> &'static str {
        match self {
            State::Spawning => "spawning",
            State::Initializing => "initializing",
            State::Running => "running",
            State::OnError => "on-error",
            State::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<State, ()> {
        State::ALL.into_iter().find(|state| state.name() == text).ok_or(())
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Running => "running",
            Wanted::Stopped => "stopped",
        })
    }
}

impl FromStr for Wanted {
    type Err = ();

    fn from_str(text: &str) -> Result<Wanted, ()> {
        match text {
            "running" => Ok(Wanted::Running),
            "stopped" => Ok(Wanted::Stopped),
            _ => Err(()),
        }
    }
}

/// What the runtime says of an app's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// It knows no such node.
    Missing,
    /// It knows one which is not this app's as placed: another id, or another address.
    Foreign,
    /// It ended, or was stopped.
    Ended,
    /// It runs, and this is what its port says.
    Alive(Answer),
}

/// What a node's port says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, or not in time.
    Silent,
    /// The configuration server waits.
    Waiting,
    /// The application passes its health check.
    Healthy,
    /// The application answers, and fails it.
    Unhealthy,
}

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the owner wants.
    pub wanted: Wanted,
    /// What the database says it is.
    pub state: State,
    /// Whether its time is over.
    pub expired: bool,
    /// Whether it occupies a place.
    pub placed: bool,
    /// What the runtime says.
    pub node: Node,
    /// Whether what the runtime says of the node (its address, its fingerprint) is noted.
    pub known: bool,
    /// When a failure was noted: whether it is time for the next attempt.
    pub retry: Retry,
}

/// Where an app stands between a failure and the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No failure is noted that was not answered by an attempt.
    None,
    /// One is noted; not yet.
    Later,
    /// One is noted; now.
    Due,
}

/// The next thing to do for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Note that its time is over: it is wanted stopped from now on.
    Expire,
    /// Give it a place, or let it wait for one.
    Place,
    /// Make its node.
    Spawn,
    /// Start its node again, with the same identity.
    Restart,
    /// End and remove its node.
    Remove,
    /// Free its place and note it as stopped, in one.
    Finish,
    /// Note that its node ended, and when to try again.
    NoteFailure,
    /// Note how it is doing.
    Become(State),
}

/// The next thing to do.
pub fn decide(facts: &Facts) -> Step {
    if facts.state == State::Stopped {
        return Step::Rest;
    }
    if facts.wanted == Wanted::Stopped {
        return match facts.node {
            Node::Missing => Step::Finish,
            Node::Foreign | Node::Ended | Node::Alive(_) => Step::Remove,
        };
    }
    if facts.expired {
        return Step::Expire;
    }
    if !facts.placed {
        return Step::Place;
    }
    match (facts.node, facts.retry) {
        (Node::Alive(answer), retry) => match next(facts.state, answer) {
            state if state == facts.state && retry == Retry::None && facts.known => Step::Rest,
            state => Step::Become(state),
        },
        (Node::Foreign, _) => Step::Remove,
        (Node::Missing | Node::Ended, Retry::Later) => Step::Rest,
        (Node::Missing, _) => Step::Spawn,
        (Node::Ended, Retry::None) => Step::NoteFailure,
        (Node::Ended, Retry::Due) => Step::Restart,
    }
}

/// How an app is doing whose node runs.
fn next(state: State, answer: Answer) -> State {
    match (answer, state) {
        (Answer::Waiting, _) => State::Initializing,
        (Answer::Healthy, _) => State::Running,
        // It was configured, and what it serves is not ready yet.
        (Answer::Silent | Answer::Unhealthy, State::Initializing) => State::Initializing,
        (Answer::Silent, State::Spawning) => State::Spawning,
        (Answer::Silent | Answer::Unhealthy, _) => State::OnError,
    }
}

/// The longest wait after a failure.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long to wait after so many failures in a row: one second, then twice as long each time, five minutes at most.
pub fn back_off(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(9)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Node; 7] = [
        Node::Missing,
        Node::Foreign,
        Node::Ended,
        Node::Alive(Answer::Silent),
        Node::Alive(Answer::Waiting),
        Node::Alive(Answer::Healthy),
        Node::Alive(Answer::Unhealthy),
    ];

    /// All there can be: few enough to look at each.
    fn everything() -> Vec<Facts> {
        let mut all = Vec::new();
        for wanted in [Wanted::Running, Wanted::Stopped] {
            for state in State::ALL {
                for node in NODES {
                    for retry in [Retry::None, Retry::Later, Retry::Due] {
                        for bits in 0..8 {
                            let [expired, placed, known] = [bits & 1, bits & 2, bits & 4].map(|bit| bit != 0);
                            all.push(Facts { wanted, state, expired, placed, node, known, retry });
                        }
                    }
                }
            }
        }
        all
    }

    /// What the world looks like after a step that succeeded.
    fn after(facts: &Facts, step: Step) -> Facts {
        let mut facts = *facts;
        match step {
            Step::Rest => {}
            Step::Expire => facts.wanted = Wanted::Stopped,
            Step::Place => facts.placed = true,
            Step::Spawn | Step::Restart => {
                facts.node = Node::Alive(Answer::Waiting);
                facts.retry = Retry::None;
            }
            Step::Remove => facts.node = Node::Missing,
            Step::Finish => {
                facts.placed = false;
                facts.state = State::Stopped;
            }
            Step::NoteFailure => {
                facts.state = State::OnError;
                facts.retry = Retry::Due;
            }
            Step::Become(state) => {
                facts.state = state;
                facts.known = true;
                facts.retry = Retry::None;
            }
        }
        facts
    }

    #[test]
    fn every_start_comes_to_rest_where_it_is_wanted() {
        for start in everything() {
            let mut now = start;
            let mut steps = Vec::new();
            loop {
                let step = decide(&now);
                if step == Step::Rest {
                    break;
                }
                steps.push(step);
                assert!(steps.len() <= 8, "{start:?}: {steps:?}");
                now = after(&now, step);
            }
            let alive = matches!(start.node, Node::Alive(_));
            if start.state == State::Stopped {
                assert!(steps.is_empty());
            } else if start.wanted == Wanted::Stopped || start.expired {
                assert_eq!(
                    (now.state, now.node, now.placed),
                    (State::Stopped, Node::Missing, false),
                    "{start:?}"
                );
            } else if start.retry != Retry::Later || alive && start.placed {
                assert!(matches!(now.node, Node::Alive(_)) && now.placed, "{start:?}: {steps:?}");
            }
        }
    }

    #[test]
    fn nothing_starts_without_a_place_and_no_place_is_freed_under_a_node() {
        for facts in everything() {
            match decide(&facts) {
                Step::Spawn | Step::Restart => {
                    assert!(facts.placed && facts.wanted == Wanted::Running && !facts.expired, "{facts:?}");
                    assert!(facts.retry != Retry::Later, "{facts:?}");
                    assert!(matches!(facts.node, Node::Missing | Node::Ended), "{facts:?}");
                }
                Step::Finish => {
                    assert_eq!((facts.node, facts.wanted), (Node::Missing, Wanted::Stopped), "{facts:?}");
                }
                Step::Remove => {
                    assert!(facts.wanted == Wanted::Stopped || facts.node == Node::Foreign, "{facts:?}");
                }
                Step::Rest | Step::Expire | Step::Place | Step::NoteFailure | Step::Become(_) => {}
            }
        }
    }

    #[test]
    fn a_running_node_is_left_alone() {
        let wanted = |facts: &Facts| facts.wanted == Wanted::Running && facts.placed && !facts.expired;
        for facts in everything().into_iter().filter(wanted) {
            if matches!(facts.node, Node::Alive(_)) {
                assert!(matches!(decide(&facts), Step::Rest | Step::Become(_)), "{facts:?}");
            }
        }
    }

    #[test]
    fn a_stopped_app_stays_so_and_nothing_else_becomes_stopped_by_a_look() {
        for facts in everything() {
            let step = decide(&facts);
            assert!(facts.state != State::Stopped || step == Step::Rest);
            assert_ne!(step, Step::Become(State::Stopped));
        }
    }

    #[test]
    fn waiting_grows_and_stays_bounded() {
        let waits: Vec<u64> = (0..12).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(back_off(u32::MAX).as_secs(), 300);
    }

    #[test]
    fn names_read_back() {
        for state in State::ALL {
            assert_eq!(state.name().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
