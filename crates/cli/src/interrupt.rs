//! Ctrl-C leaves nothing behind: what must be undone is registered while it exists.
//!
//! SIGINT, SIGTERM and SIGHUP run what is registered, the newest first, and end the process with the exit code that
//! shells expect (128 + signal).

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Undo = Box<dyn FnOnce() + Send>;

static REGISTERED: Mutex<Vec<(u64, Undo)>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// As long as this lives, an interruption undoes what it stands for.
#[must_use]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        registered().retain(|(id, _)| *id != self.0);
    }
}

/// Registers what an interruption has to undo.
pub fn on_interrupt(undo: impl FnOnce() + Send + 'static) -> Guard {
    WATCH.call_once(watch);
    let mut registered = registered();
    let id = registered.last().map_or(0, |(id, _)| id + 1);
    registered.push((id, Box::new(undo)));
    Guard(id)
}

fn registered() -> MutexGuard<'static, Vec<(u64, Undo)>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // The lock is kept: nothing new is registered while the process ends.
            let mut registered = registered();
            while let Some((_, undo)) = registered.pop() {
                undo();
            }
            std::process::exit(128 + signal);
        }
    });
}

/// A child process in a group of its own, which ends with this process or when dropped.
pub struct Group {
    child: Child,
    _guard: Guard,
}

impl Group {
    /// Takes charge of a child that was started with `process_group(0)`.
    pub fn new(child: Child) -> Self {
        let pid = pid_of(&child);
        Self { child, _guard: on_interrupt(move || kill(pid)) }
    }

    /// The child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        kill(pid_of(&self.child));
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A directory that is gone when this value is, also when the process is interrupted.
pub struct Scratch {
    path: PathBuf,
    _guard: Guard,
}

impl Scratch {
    /// Makes an empty directory, mode 0700, in the system's temporary directory.
    pub fn new() -> std::io::Result<Self> {
        let path = tempfile::Builder::new().prefix("mse-").tempdir()?.keep();
        let undone = path.clone();
        Ok(Self { path, _guard: on_interrupt(move || remove(&undone)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
}
