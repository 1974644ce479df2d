//! How a node is doing, asked over an attested channel: waiting for its configuration, or serving an
//! application that passes its health check.
//!
//! The header `Mse-Status: Waiting` is the configuration server's; an application has none.

use std::time::{Duration, Instant};

use http::Method;
use serde::Serialize;

use crate::channel::Channel;
use crate::error::Error;
use crate::exchange::{Answer, Question, ask};

const ANSWERING: Duration = Duration::from_secs(10);
const STATUS_HEADER: &str = "mse-status";

/// What one look at the node's port found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "probe", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Probe {
    /// Nothing answers, or not in time.
    Silent {
        /// Why.
        reason: String,
    },
    /// The configuration server waits for a configuration.
    Waiting,
    /// The application's health check answers with success.
    Healthy {
        /// The HTTP status, 200 to 299.
        status: u16,
    },
    /// The application answers, and not with success.
    Unhealthy {
        /// The HTTP status.
        status: u16,
    },
    /// Somebody else answers.
    WrongPeer {
        /// The whole reason.
        reason: String,
    },
}

/// Looks once. `health` is the path of the application's health check, as measured in its node
/// configuration.
pub fn probe(channel: &Channel, health: &str) -> Probe {
    match look(channel, health) {
        Ok(probe) => probe,
        Err(error) if error.is_passing() => Probe::Silent { reason: error.to_string() },
        Err(error) => Probe::WrongPeer { reason: error.to_string() },
    }
}

fn look(channel: &Channel, health: &str) -> Result<Probe, Error> {
    let answer = get(channel, health)?;
    if is_waiting(&answer) {
        return Ok(Probe::Waiting);
    }
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(Probe::Healthy { status });
    }
    // The protocol promises the header at the root only.
    if health != "/" && is_waiting(&get(channel, "/")?) {
        return Ok(Probe::Waiting);
    }
    Ok(Probe::Unhealthy { status })
}

fn get(channel: &Channel, path: &str) -> Result<Answer, Error> {
    let what = "answer its health check";
    ask(channel, Question { method: Method::GET, path, body: None, what, limit: ANSWERING, longest: None })
}

/// Whether the configuration server answers, and waits.
pub(crate) fn waits_for_configuration(channel: &Channel) -> Result<bool, Error> {
    Ok(is_waiting(&get(channel, "/")?))
}

fn is_waiting(answer: &Answer) -> bool {
    answer.headers.get(STATUS_HEADER).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"waiting"))
}

/// Looks again and again until `settled` likes what it sees, at most for `limit`; returns the last look.
/// `settled` also ends the waiting early when the caller knows better (the process died, say).
pub fn wait(
    channel: &Channel,
    health: &str,
    limit: Duration,
    mut settled: impl FnMut(&Probe) -> bool,
) -> Result<Probe, Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let probe = probe(channel, health);
        if settled(&probe) {
            return Ok(probe);
        }
        if started.elapsed() >= limit {
            let target = channel.target().to_string();
            return Err(Error::TooSlow { target, what: "reach the expected state", limit });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use http::Response;

    use super::*;
    use crate::testing::{Identity, Server, body, nowhere, ok};

    fn probe_of(server: &Server, identity: &Identity) -> Probe {
        probe(&Channel::attested(&identity.record(), &server.target()), "/health")
    }

    #[test]
    fn a_configuration_server_waits_even_where_only_its_root_says_so() {
        let identity = Identity::generate();
        let everywhere = Server::start(&identity, async |_| {
            Response::builder().status(404).header("Mse-Status", "Waiting").body(body("")).unwrap()
        });
        assert_eq!(probe_of(&everywhere, &identity), Probe::Waiting);
        let at_root = Server::start(&identity, async |request| match request.uri().path() {
            "/" => Response::builder().header("Mse-Status", "Waiting").body(body("")).unwrap(),
            _ => Response::builder().status(404).body(body("")).unwrap(),
        });
        assert_eq!(probe_of(&at_root, &identity), Probe::Waiting);
    }

    #[test]
    fn the_health_check_decides_for_an_application() {
        let identity = Identity::generate();
        let server = Server::start(&identity, async |request| match request.uri().path() {
            "/health" => Response::builder().status(204).body(body("")).unwrap(),
            _ => Response::builder().status(500).body(body("")).unwrap(),
        });
        assert_eq!(probe_of(&server, &identity), Probe::Healthy { status: 204 });
        let ill = Server::start(&identity, async |request| match request.uri().path() {
            "/health" => Response::builder().status(503).body(body("")).unwrap(),
            _ => ok("fine"),
        });
        assert_eq!(probe_of(&ill, &identity), Probe::Unhealthy { status: 503 });
    }

    #[test]
    fn an_impostor_is_not_asked_how_it_is() {
        let server = Server::start(&Identity::generate(), async |_| ok("fine"));
        let found = probe_of(&server, &Identity::generate());
        assert!(
            matches!(&found, Probe::WrongPeer { reason } if reason.contains("not the enclave")),
            "{found:?}"
        );
    }

    #[test]
    fn nobody_there_is_silence() {
        let record = Identity::generate().record();
        let found = probe(&Channel::attested(&record, &nowhere()), "/health");
        assert!(matches!(found, Probe::Silent { .. }), "{found:?}");
    }

    #[test]
    fn waiting_ends_when_the_caller_is_content() {
        let identity = Identity::generate();
        let calls = Arc::new(AtomicU16::new(0));
        let counted = calls.clone();
        let server = Server::start(&identity, move |_| {
            let status = if counted.fetch_add(1, Ordering::SeqCst) < 4 { 503 } else { 200 };
            async move { Response::builder().status(status).body(body("")).unwrap() }
        });
        let channel = Channel::attested(&identity.record(), &server.target());
        let healthy = |probe: &Probe| matches!(probe, Probe::Healthy { .. });
        assert_eq!(
            wait(&channel, "/health", Duration::from_secs(20), healthy).unwrap(),
            Probe::Healthy { status: 200 }
        );
        let never = wait(&channel, "/health", Duration::ZERO, |_| false).unwrap_err();
        assert!(matches!(never, Error::TooSlow { .. }), "{never}");
    }
}
