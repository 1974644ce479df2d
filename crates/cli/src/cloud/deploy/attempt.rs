//! One attempt to deploy: what it made on the backend and here goes away again when it fails or is interrupted.
//!
//! The app is found by its package, which no other attempt has: its code is encrypted under a fresh key. So it does not
//! matter whether the answer to its creation ever arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::backend::Session;
use uuid::Uuid;

use crate::cloud::deploy::stage_one::{Place, Sealed};
use crate::cloud::stop;
use crate::interrupt::{self, Guard};
use crate::output::say;

/// As long as this lives, failure and interruption undo.
pub struct Attempt {
    undo: Undo,
    succeeded: Arc<AtomicBool>,
    _guard: Guard,
}

#[derive(Clone)]
struct Undo {
    session: Session,
    project: Uuid,
    package_sha256: [u8; 32],
}

impl Attempt {
    /// Begins before the app is asked for.
    pub fn begin(session: &Session, place: &Place, package: &Sealed) -> anyhow::Result<Attempt> {
        let undo = Undo {
            session: session.clone(),
            project: place.project.id,
            package_sha256: package.built.sha256,
        };
        let succeeded = Arc::new(AtomicBool::new(false));
        let (interrupted, done) = (undo.clone(), Arc::clone(&succeeded));
        let guard = interrupt::on_interrupt(move || {
            if !done.load(Ordering::SeqCst) {
                interrupted.undo();
            }
        });
        Ok(Attempt { undo, succeeded, _guard: guard })
    }

    /// What was made stays.
    pub fn succeeded(self) {
        self.succeeded.store(true, Ordering::SeqCst);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.succeeded.load(Ordering::SeqCst) {
            self.undo.undo();
        }
    }
}

impl Undo {
    /// Stops the app of this attempt, if there is one. The backend may be out of reach: the next deployment finds the app
    /// by its name, and `mse cloud stop` ends it.
    fn undo(&self) {
        let apps = self.session.apps(self.project, false).unwrap_or_else(|error| {
            say!("What was begun at the backend has to be stopped later: {error}");
            Vec::new()
        });
        for app in apps.iter().filter(|app| app.package == self.package_sha256) {
            match self.session.stop_app(app.id) {
                Ok(_) => say!("The app {} was stopped: its deployment was not finished.", app.id),
                Err(error) => say!("The app {} could not be stopped: {error}", app.id),
            }
            let _ = stop::forget(app.id);
        }
    }
}
