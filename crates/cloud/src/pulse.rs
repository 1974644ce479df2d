//! Whether the reconciler still does its work, for `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A look may start nodes, which takes its time; one that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What the reconciler gives of itself.
#[derive(Debug)]
pub struct Pulse {
    last: Mutex<Instant>,
    ended: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { last: Mutex::new(Instant::now()), ended: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// A look was finished.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether one was finished not long ago, and another will be.
    pub fn is_alive(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        !self.ended.load(Ordering::Relaxed) && now.saturating_duration_since(last) < PATIENCE
    }
}

/// Dropped with the reconciler, however that ends.
pub(crate) struct Ended(pub(crate) Arc<Pulse>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ended_or_hangs_is_not_alive() {
        let pulse = Arc::new(Pulse::default());
        let now = Instant::now();
        assert!(pulse.is_alive(now));
        assert!(!pulse.is_alive(now + PATIENCE * 2));
        pulse.beat();
        assert!(pulse.is_alive(now));
        drop(Ended(pulse.clone()));
        assert!(!pulse.is_alive(now));
    }
}
