//! What is counted: plain atomics, for the backend to export. Names of applications and numbers only, never contents.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::Refusal;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one, unless that would be more than `limit`.
    pub(crate) fn rise_to(&self, limit: usize) -> bool {
        let limit = limit as u64;
        let risen =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1));
        risen.is_ok()
    }

    pub(crate) fn fall(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The router's own counters.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections taken from the listener.
    pub accepted: Counter,
    /// Times the listener gave an error in place of a connection.
    pub accept_errors: Counter,
    /// Connections open now, in whatever stage.
    pub open: Gauge,
    /// Connections open now whose hello is not complete.
    pub hellos: Gauge,
    /// Connections that reached their node.
    pub routed: Counter,
    /// Connections that ended because nothing was said for too long.
    pub idle: Counter,
    /// Connections that one end broke off.
    pub broken: Counter,
    /// Connections that were cut off when the router stopped.
    pub cut_off: Counter,
    /// Bytes from users to nodes: TLS as it came in pass-through, what it carried where TLS ends here.
    pub bytes_up: Counter,
    /// Bytes from nodes to users, likewise.
    pub bytes_down: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl Metrics {
    /// How many connections were refused for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].get()
    }

    pub(crate) fn refuse(&self, reason: Refusal) {
        self.refused[reason as usize].add(1);
    }
}

/// The counters of one route: one name of one application. They live as long as the name is in the table.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RouteMetrics {
    /// Connections that asked for the name.
    pub asked: Counter,
    /// Connections that reached the node.
    pub routed: Counter,
    /// Connections refused for the application's limit ([`Refusal::AppBusy`]).
    pub app_busy: Counter,
    /// Connections that did not reach the node ([`Refusal::Unreachable`]).
    pub unreachable: Counter,
    /// Bytes from users to the node.
    pub bytes_up: Counter,
    /// Bytes from the node to users.
    pub bytes_down: Counter,
}
