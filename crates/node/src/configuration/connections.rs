//! Which connections are open, and which of them makes room for the next.
//!
//! A connection is idle unless the node is at work for it: one that shakes hands, sends a header or withholds a body
//! is idle too, so that no number of such clients keeps another out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The open connections, oldest first.
pub(super) struct Connections {
    limit: usize,
    register: Arc<Register>,
}

#[derive(Default)]
struct Register {
    open: Mutex<Open>,
    closed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    at_work: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

/// One open connection; it is closed when this is dropped.
pub(super) struct Ticket {
    number: u64,
    at_work: Arc<AtomicBool>,
    asked: AtomicBool,
    configured: AtomicBool,
    register: Arc<Register>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Connections {
        Connections { limit, register: Arc::default() }
    }

    /// Enters a connection, whose task `spawn` starts; closes the oldest idle one where there are too many.
    pub(super) fn admit(&self, spawn: impl FnOnce(Ticket) -> AbortHandle) {
        let (number, at_work) = {
            let mut open = self.register.open();
            let (number, at_work) = (open.next, Arc::new(AtomicBool::new(false)));
            open.next += 1;
            open.entries.insert(number, Entry { at_work: at_work.clone(), task: None });
            (number, at_work)
        };
        let ticket = Ticket {
            number,
            at_work,
            asked: AtomicBool::new(false),
            configured: AtomicBool::new(false),
            register: self.register.clone(),
        };
        let task = spawn(ticket);
        if let Some(entry) = self.register.open().entries.get_mut(&number) {
            entry.task = Some(task);
        }
        if self.count() > self.limit {
            self.evict();
        }
    }

    /// Closes the oldest idle connection, if there is one.
    pub(super) fn evict(&self) {
        let mut open = self.register.open();
        let idle = open.entries.iter().find(|(_, entry)| !entry.at_work.load(Ordering::Acquire));
        let Some((&number, _)) = idle else { return };
        let task = open.entries.remove(&number).and_then(|entry| entry.task);
        drop(open);
        if let Some(task) = task {
            task.abort();
        }
    }

    fn count(&self) -> usize {
        self.register.open().entries.len()
    }

    /// Waits until no connection is open.
    pub(super) async fn all_closed(&self) {
        loop {
            let closed = self.register.closed.notified();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Register {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Says that the node is at work for this connection, until the returned value is dropped.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.at_work.store(true, Ordering::Release);
        AtWork(self)
    }

    /// Notes that a request came.
    pub(super) fn set_asked(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Notes that this connection brought the accepted configuration.
    pub(super) fn set_configured(&self) {
        self.configured.store(true, Ordering::Release);
    }

    pub(super) fn has_configured(&self) -> bool {
        self.configured.load(Ordering::Acquire)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.register.open().entries.remove(&self.number);
        self.register.closed.notify_waiters();
    }
}

pub(super) struct AtWork<'t>(&'t Ticket);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Admits a connection that stays open; returns its ticket.
    async fn admit(connections: &Connections) -> Arc<Ticket> {
        let mut kept = None;
        connections.admit(|ticket| {
            let ticket = Arc::new(ticket);
            kept = Some(Arc::downgrade(&ticket));
            tokio::spawn(async move {
                let _open = ticket;
                std::future::pending::<()>().await;
            })
            .abort_handle()
        });
        kept.and_then(|ticket| ticket.upgrade()).unwrap()
    }

    fn is_open(connections: &Connections, ticket: &Ticket) -> bool {
        connections.register.open().entries.contains_key(&ticket.number)
    }

    #[tokio::test]
    async fn the_oldest_idle_connection_makes_room() {
        let connections = Connections::new(2);
        let oldest = admit(&connections).await;
        let working = oldest.at_work();
        let second = admit(&connections).await;
        let third = admit(&connections).await;
        assert!(is_open(&connections, &oldest), "the node is at work for it");
        assert!(!is_open(&connections, &second), "the oldest of the idle ones");
        assert!(is_open(&connections, &third));
        drop(working);
        let fourth = admit(&connections).await;
        assert!(!is_open(&connections, &oldest), "idle again, and the oldest");
        assert!(is_open(&connections, &third) && is_open(&connections, &fourth));
    }

    #[tokio::test]
    async fn closed_connections_leave_the_register() {
        let connections = Connections::new(8);
        connections.admit(|ticket| tokio::spawn(async move { drop(ticket) }).abort_handle());
        connections.all_closed().await;
        assert_eq!(connections.count(), 0);
    }
}
