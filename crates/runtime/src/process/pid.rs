//! Processes that cannot be mistaken for others: id, start time and boot.
//!
//! Process ids are used again. The start time of a process, in clock ticks since boot (field 22 of
//! `/proc/<pid>/stat`, proc(5)), tells one use from the next, and the boot id tells one boot from the next.

use std::fs;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How often SIGTERM is repeated: one that arrives while a process starts up may be lost.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the kernel may take to end a process that was killed.
const DYING: Duration = Duration::from_secs(5);

/// One particular process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pid: i32,
    /// Clock ticks since boot.
    start_time: u64,
    boot: Uuid,
}

impl Process {
    /// The process that has this id now; none if there is none.
    pub(crate) fn now(pid: u32) -> Option<Process> {
        let pid = i32::try_from(pid).ok()?;
        Some(Process { pid, start_time: stat(pid)?.start_time, boot: boot()? })
    }

    pub(super) fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Whether this very process still runs. One that ended and waits for its parent (a zombie) does not.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(stat) = stat(self.pid) else { return false };
        if stat.start_time != self.start_time || boot() != Some(self.boot) {
            return false;
        }
        if stat.ended {
            self.reap();
        }
        !stat.ended
    }

    /// Asks it to end with SIGTERM, again every second, and kills it when `patience` is over. Says whether
    /// it has ended.
    pub(super) fn end(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !self.signal(Signal::TERM) || self.wait(AGAIN.min(deadline - Instant::now())) {
                return true;
            }
        }
        !self.signal(Signal::KILL) || self.wait(DYING)
    }

    /// Waits until it has ended; says whether it has.
    fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(10));
        }
        true
    }

    /// Sends a signal to this very process; says whether there was one to send it to.
    fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // The descriptor names one process for good: if it is ours after opening, the signal goes to ours.
        let descriptor: Result<OwnedFd, Errno> = pidfd_open(pid, PidfdFlags::empty());
        if !self.is_alive() {
            return false;
        }
        let sent = match descriptor {
            Ok(descriptor) => pidfd_send_signal(descriptor, signal),
            // Kernels before 5.3 have no such descriptors.
            Err(_) => kill_process(pid, signal),
        };
        sent.is_ok() || self.is_alive()
    }

    /// Lets go of it where it was a child of this process.
    fn reap(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

struct Stat {
    ended: bool,
    start_time: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid ...`: the name may hold blanks and parentheses, so count from its last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    // The first thread may be gone while others still end, and their files and ports with them.
    Some(Stat { ended: matches!(state, "Z" | "X" | "x") && threads <= 1, start_time })
}

fn boot() -> Option<Uuid> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> (Child, Process) {
        let child = Command::new("sleep").arg("100").spawn().unwrap();
        let process = Process::now(child.id()).unwrap();
        (child, process)
    }

    #[test]
    fn the_name_of_a_process_cannot_forge_its_state() {
        let stat = parse_stat("7 (a) Z (b) c) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4242 5 6").unwrap();
        assert!(!stat.ended);
        assert_eq!(stat.start_time, 4242);
        assert!(parse_stat("7 (a) S 1 2").is_none());
    }

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let stat = |threads| format!("7 (a) Z 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 {threads} 0 4242 5 6");
        assert!(!parse_stat(&stat(2)).unwrap().ended);
        assert!(parse_stat(&stat(1)).unwrap().ended);
    }

    #[test]
    fn another_use_of_the_same_id_is_left_alone() {
        let (mut child, process) = sleeper();
        let earlier = Process { start_time: process.start_time - 1, ..process };
        let other_boot = Process { boot: Uuid::from_u128(1), ..process };
        for other in [earlier, other_boot] {
            assert!(!other.is_alive());
            assert!(other.end(Duration::from_secs(1)), "what is gone counts as ended");
        }
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn a_willing_process_ends_on_sigterm() {
        let (_child, process) = sleeper();
        assert!(process.end(Duration::from_secs(30)));
        assert!(!process.is_alive());
    }

    #[test]
    fn an_unwilling_process_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process::now(child.id()).unwrap();
        assert!(process.end(Duration::from_millis(50)));
        assert!(!process.is_alive());
        // Nothing is left to wait for.
        assert!(child.wait().is_err());
    }
}
