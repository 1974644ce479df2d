//! A fuse for tests: after so many effects everything fails, as after `kill -9`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::error::{Error, Result};

/// Shared by everything that has effects.
#[derive(Clone)]
pub(crate) struct Fuse(Arc<AtomicI64>);

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Fuse {
    /// Blows at the `n`th effect from now, the first being 0.
    pub(crate) fn blow_at(&self, n: i64) {
        self.0.store(n, Ordering::SeqCst);
    }

    /// Whether it has blown.
    pub(crate) fn is_blown(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// One effect.
    pub(crate) fn burn(&self) -> Result<()> {
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(Error::InUse { what: "blown fuse".to_owned() }),
        }
    }
}

impl super::Store {
    pub(crate) fn fuse(&self) -> Fuse {
        self.fuse.clone()
    }
}
