//! Ctrl-C leaves nothing behind: what must be undone is registered while it exists.
//!
//! SIGINT, SIGTERM and SIGHUP run what is registered, the newest first, and end the process with the exit code that
//! shells expect (128 + signal). A second Ctrl-C ends it at once: what is to be undone elsewhere may take its time.
//! Signals that come together are one interruption: `timeout -s INT` sends two, to the process and to its group.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output::warn;

type Undo = Box<dyn FnOnce() + Send>;

static REGISTERED: Mutex<Vec<(u64, Undo)>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// What comes so soon after the first signal belongs to it.
const TOGETHER: Duration = Duration::from_secs(1);

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
        let mut signals = signals.forever();
        let Some(signal) = signals.next() else { return };
        let begun = Instant::now();
        std::thread::spawn(move || {
            // The lock is kept: nothing new is registered while the process ends.
            let mut registered = registered();
            while let Some((_, undo)) = registered.pop() {
                undo();
            }
            std::process::exit(128 + signal);
        });
        if signals.any(|again| again == SIGINT && begun.elapsed() > TOGETHER) {
            warn("interrupted again: what was begun is left as it is");
            std::process::exit(128 + signal);
        }
    });
}

/// How long an `mse` that this one started may take to undo what it has begun.
const UNDOING: Duration = Duration::from_secs(30);
/// How long work may take to tidy up once the programs it waits for are gone.
const TIDYING: Duration = Duration::from_secs(5);

/// A child process in a group of its own, which ends with this process or when dropped.
pub struct Group {
    child: Child,
    patience: Duration,
    _guard: Guard,
}

impl Group {
    /// Takes charge of a child that was started with `process_group(0)`.
    pub fn new(child: Child) -> Self {
        Self::patient(child, Duration::ZERO)
    }

    /// The same for another `mse`: it is asked to end, and has time to end what it started itself.
    pub fn of_mse(child: Child) -> Self {
        Self::patient(child, UNDOING)
    }

    fn patient(child: Child, patience: Duration) -> Self {
        let pid = pid_of(&child);
        Self { child, patience, _guard: on_interrupt(move || end(pid, patience)) }
    }

    /// The child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        end(pid_of(&self.child), self.patience);
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Asks the leader of a group to end where there is patience, then ends the whole group.
fn end(group: Option<Pid>, patience: Duration) {
    let Some(group) = group else { return };
    let deadline = Instant::now() + patience;
    if !patience.is_zero() && kill_process(group, Signal::TERM).is_ok() {
        while !has_ended(group) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let _ = kill_process_group(group, Signal::KILL);
}

/// Whether a child has ended, without taking its status from whoever waits for it.
fn has_ended(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(child), options), Ok(None))
}

/// Work that waits for programs and leaves nothing behind when they fail. An interruption makes them fail, and gives
/// the work a moment to tidy up.
pub struct Work {
    done: Arc<(Mutex<bool>, Condvar)>,
    _guard: Guard,
}

impl Work {
    /// The work begins; it ends when the value is dropped.
    pub fn begin() -> Self {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let watched = Arc::clone(&done);
        let undo = move || {
            for signal in [Signal::INT, Signal::KILL] {
                for child in children() {
                    let _ = kill_process(child, signal);
                }
                let (lock, changed) = &*watched;
                let done = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = changed.wait_timeout_while(done, TIDYING, |done| !*done);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
            }
        };
        Self { done, _guard: on_interrupt(undo) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let (lock, changed) = &*self.done;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

/// The programs that this process has started and that have not ended (proc(5), `/proc/pid/task/tid/children`).
fn children() -> Vec<Pid> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().map(str::parse).collect::<Vec<_>>())
        .filter_map(|pid| pid.ok().and_then(Pid::from_raw))
        .collect()
}

/// A directory that is gone when this value is, also when the process is interrupted.
pub struct Scratch {
    path: PathBuf,
    _guard: Guard,
}

impl Scratch {
    /// Makes an empty directory, mode 0700, in the system's temporary directory.
    pub fn new() -> std::io::Result<Self> {
        Self::inside(&std::env::temp_dir(), "mse-")
    }

    /// The same in another directory; the name begins with `prefix`.
    pub fn inside(folder: &Path, prefix: &str) -> std::io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let path = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(folder)?.keep();
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_scratch_directory_is_private_and_gone_when_dropped() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn another_mse_may_undo_what_it_began_before_it_ends() {
        let scratch = Scratch::new().unwrap();
        let mark = scratch.path().join("undone");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap 'touch \"$0\"; exit' TERM; echo ready; while :; do sleep 0.01; done"])
            .arg(&mark)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        drop(Group::of_mse(child));
        assert!(mark.exists());
    }

    #[test]
    fn the_programs_of_this_process_are_found() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        assert!(children().contains(&pid_of(&child).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
