//! A reader of packages that reads in this process, and keeps a package in hand for as long as a test wants.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use package::Package;

use crate::reader::{Found, PackageReader, Refused};

#[derive(Default)]
pub(crate) struct Here {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    slow: HashSet<PathBuf>,
    reading: usize,
    most: usize,
}

impl Here {
    /// From now on the package there is read without an end.
    pub(crate) fn holds(&self, path: PathBuf) {
        self.state.lock().unwrap().slow.insert(path);
    }

    /// All that is held comes to its end.
    pub(crate) fn goes_on(&self) {
        self.state.lock().unwrap().slow.clear();
        self.changed.notify_all();
    }

    /// How many packages are read at present, and how many were at once.
    pub(crate) fn reading(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.reading, state.most)
    }
}

impl PackageReader for Here {
    /// Whoever has given up: a reader that cannot be ended is the worst.
    fn read(&self, path: &Path, size_mb: u64, _: &dyn Fn() -> bool) -> Result<Found, Refused> {
        let mut state = self.state.lock().unwrap();
        state.reading += 1;
        state.most = state.most.max(state.reading);
        while state.slow.contains(path) {
            state = self.changed.wait(state).unwrap();
        }
        state.reading -= 1;
        drop(state);
        let wrong = |error: package::Error| Refused::Wrong(error.to_string());
        let package = Package::open(path).map_err(wrong)?;
        package.manifest(size_mb).map_err(wrong)?;
        Ok(Found { tls_mode: package.node_config().tls_mode })
    }
}
