//! Tenants' packages are opened in a process of their own, with limits of memory, processor time and time. What a
//! package does to its reader (memory without end, time without end, a crash) it does to that process: the backend goes
//! on, and the tenant is told.
//!
//! The process is this program with a hidden verb. It limits itself before it opens anything, writes nothing to files,
//! and says what it found in one line of JSON on standard output: [`Answer`]. It leads its own process group, which is
//! killed when its time is over or nobody waits for it any more, and dies with the thread that started it.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use package::Package;
use package::config::TlsMode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getppid, kill_process_group,
    set_parent_process_death_signal, setrlimit, waitid,
};
use serde::{Deserialize, Serialize};

/// The hidden verb.
pub const VERB: &str = "read-package";

/// The version of what the process answers.
const VERSION: u32 = 1;

/// The longest answer, and the longest reason in it, in bytes.
const LONGEST: usize = 64 * 1024;
const LONGEST_REASON: usize = 4096;

/// So many bytes of a package have another second.
const BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// How the standard library says on standard error that there is no more memory: its allocator, and a thread that has no
/// stack.
const OUT_OF_MEMORY: [&str; 3] = ["memory allocation of", "Cannot allocate memory", "failed to spawn thread"];

/// How often it is looked whether anybody still waits.
const LOOK: Duration = Duration::from_millis(200);

/// What a package may take of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderLimits {
    /// Memory, in MiB, beside what the program itself occupies.
    pub memory_mb: u64,
    /// Processor time, in seconds, of the smallest package; every 16 MiB have one more.
    pub seconds: u64,
    /// Seconds beside twice the processor time, after which it is too late: other work may hold it up.
    pub grace_seconds: u64,
}

impl Default for ReaderLimits {
    fn default() -> ReaderLimits {
        ReaderLimits { memory_mb: 1024, seconds: 60, grace_seconds: 30 }
    }
}

impl ReaderLimits {
    /// Processor time for a package of `size` bytes, in seconds.
    fn processor(self, size: u64) -> u64 {
        self.seconds.saturating_add(size / BYTES_PER_SECOND)
    }

    /// Time for the same, in seconds.
    fn time(self, size: u64) -> u64 {
        self.processor(size).saturating_mul(2).saturating_add(self.grace_seconds)
    }
}

/// What was found of a package that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where users' TLS ends: measured.
    pub tls_mode: TlsMode,
}

/// Why a package was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is none, or a wrong one: the package's fault.
    #[error("{0}")]
    Wrong(String),
    /// It takes too much memory.
    #[error("expected a package that opens within {memory_mb} MiB of memory; this one takes more")]
    Memory {
        /// What there is.
        memory_mb: u64,
    },
    /// It takes too much processor time.
    #[error("expected a package that opens within {seconds} s of processor time; this one takes more")]
    Processor {
        /// What there is.
        seconds: u64,
    },
    /// It takes too long.
    #[error("expected a package that opens within {seconds} s; this one takes longer")]
    Time {
        /// What there is.
        seconds: u64,
    },
    /// Its reader crashed: this program's fault, and the package's.
    #[error("it could not be opened: its reader ended early ({how})")]
    Crashed {
        /// Exit code or signal.
        how: String,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for it any more")]
    GivenUp,
    /// The operator's machine could not do it.
    #[error("the reader of packages cannot be run: {0}")]
    Broken(String),
}

impl Refused {
    /// Whether the package is to blame, so that its owner is told.
    pub fn is_of_package(&self) -> bool {
        !matches!(self, Refused::GivenUp | Refused::Broken(_))
    }
}

/// Opens packages of tenants.
pub trait PackageReader: Send + Sync {
    /// Opens the package at `path`, and makes the manifest of an enclave of `size_mb` MiB of it. Blocks. Ends early
    /// where `given_up` says so.
    ///
    /// # Errors
    /// See [`Refused`].
    fn read(&self, path: &Path, size_mb: u64, given_up: &dyn Fn() -> bool) -> Result<Found, Refused>;
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    version: u32,
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Opened { tls_mode: TlsMode },
    Refused { reason: String },
    Crashed,
}

/// In a process of its own for each package.
#[derive(Clone, Debug)]
pub struct ChildReader {
    program: PathBuf,
    limits: ReaderLimits,
}

impl ChildReader {
    /// `program` is this program: one whose `main` calls [`answer`] for [`VERB`].
    pub fn new(program: PathBuf, limits: ReaderLimits) -> ChildReader {
        ChildReader { program, limits }
    }

    fn start(&self, path: &Path, size_mb: u64, seconds: u64) -> std::io::Result<Reading> {
        let child = Command::new(&self.program)
            .arg(VERB)
            .args([std::process::id().to_string(), self.limits.memory_mb.to_string(), seconds.to_string()])
            .arg(size_mb.to_string())
            .arg(path)
            .env_clear()
            // One arena for all threads: each takes address space in advance (mallopt(3)).
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Reading { child, has_ended: false })
    }
}

/// A process that reads; dropping it ends it, and whatever it started.
struct Reading {
    child: Child,
    has_ended: bool,
}

impl Reading {
    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether it has ended; its number stays its own until [`Reading::end`].
    fn is_over(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.id().is_none_or(|id| !matches!(waitid(WaitId::Pid(id), options), Ok(None)))
    }

    /// Ends it with its group; how it ended.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(group) = self.id() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.has_ended = true;
        self.child.wait()
    }

    /// What it writes to standard output and to standard error, until both end.
    fn words(
        &mut self,
        deadline: Instant,
        given_up: &dyn Fn() -> bool,
    ) -> Result<[Vec<u8>; 2], Option<Refused>> {
        let broken = |error: &dyn std::fmt::Display| Some(Refused::Broken(error.to_string()));
        let (Some(mut out), Some(mut err)) = (self.child.stdout.take(), self.child.stderr.take()) else {
            return Err(broken(&"its output is missing"));
        };
        let mut words = [Vec::new(), Vec::new()];
        let mut open = [true, true];
        let mut buffer = [0; 4096];
        while open.contains(&true) {
            if given_up() {
                return Err(Some(Refused::GivenUp));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(None);
            }
            let ready = {
                let ends = [out.as_fd(), err.as_fd()];
                let watched = (0..2).filter(|n| open[*n]);
                let mut polled: Vec<_> =
                    watched.clone().map(|n| PollFd::from_borrowed_fd(ends[n], PollFlags::IN)).collect();
                let wait = Timespec::try_from(left.min(LOOK)).unwrap_or_default();
                match poll(&mut polled, Some(&wait)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(broken(&error)),
                }
                let ready = watched.zip(polled).filter(|(_, polled)| !polled.revents().is_empty());
                ready.map(|(n, _)| n).collect::<Vec<_>>()
            };
            for n in ready {
                let read = if n == 0 { out.read(&mut buffer) } else { err.read(&mut buffer) };
                let length = read.map_err(|error| broken(&error))?;
                open[n] = length > 0;
                // What is too long is not kept, and no answer.
                let room = LONGEST.saturating_sub(words[n].len());
                words[n].extend_from_slice(&buffer[..length.min(room)]);
            }
        }
        Ok(words)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.end();
        }
    }
}

impl PackageReader for ChildReader {
    fn read(&self, path: &Path, size_mb: u64, given_up: &dyn Fn() -> bool) -> Result<Found, Refused> {
        let broken = |error: std::io::Error| Refused::Broken(error.to_string());
        let size = std::fs::metadata(path).map_err(broken)?.len();
        let (processor, time) = (self.limits.processor(size), self.limits.time(size));
        let deadline = Instant::now() + Duration::from_secs(time);
        let mut reading = self.start(path, size_mb, processor).map_err(broken)?;
        let [out, err] = reading
            .words(deadline, given_up)
            .map_err(|why| why.unwrap_or(Refused::Time { seconds: time }))?;
        // Both ends are closed: it has ended, or is about to.
        while !reading.is_over() {
            if Instant::now() >= deadline {
                return Err(Refused::Time { seconds: time });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = reading.end().map_err(broken)?;
        let answer = serde_json::from_slice::<Answer>(&out).ok();
        let answer = answer.filter(|answer| answer.version == VERSION && status.success());
        match answer.map(|answer| answer.outcome) {
            Some(Outcome::Opened { tls_mode }) => return Ok(Found { tls_mode }),
            Some(Outcome::Refused { reason }) => return Err(Refused::Wrong(reason)),
            Some(Outcome::Crashed) | None => {}
        }
        let said = String::from_utf8_lossy(&err).into_owned();
        let how = status.to_string();
        tracing::warn!(%status, said, "the reader of a package ended early");
        let signalled = |signal: Signal| status.signal() == Some(signal.as_raw());
        Err(match () {
            () if signalled(Signal::XCPU) => Refused::Processor { seconds: processor },
            // Killed by the kernel, where the machine itself has no memory left.
            () if signalled(Signal::KILL) || OUT_OF_MEMORY.iter().any(|words| said.contains(words)) => {
                Refused::Memory { memory_mb: self.limits.memory_mb }
            }
            () => Refused::Crashed { how },
        })
    }
}

/// What the process does: see the head of this file. `arguments` are those after the verb: the parent's process id,
/// MiB of memory, seconds of processor time, the enclave's size in MiB, the package.
pub fn answer(arguments: &[std::ffi::OsString]) -> ExitCode {
    let number = |n: usize| arguments.get(n)?.to_str()?.parse::<u64>().ok();
    let numbers = (number(0), number(1), number(2), number(3), arguments.get(4));
    let (Some(parent), Some(memory_mb), Some(seconds), Some(size_mb), Some(path)) = numbers else {
        eprintln!("error: this verb is for mse-cloud itself");
        return ExitCode::from(2);
    };
    if let Err(error) = limit(parent, memory_mb, seconds) {
        eprintln!("error: the reader of a package cannot limit itself: {error}");
        return ExitCode::FAILURE;
    }
    let path = Path::new(path);
    let opened = std::panic::catch_unwind(|| {
        let package = Package::open(path)?;
        // What a node is made of, too: it takes the more the more files there are.
        package.manifest(size_mb)?;
        package.libpal()?;
        Ok::<_, package::Error>(package.node_config().tls_mode)
    });
    let outcome = match opened {
        Ok(Ok(tls_mode)) => Outcome::Opened { tls_mode },
        Ok(Err(error)) => Outcome::Refused { reason: short(error.to_string()) },
        Err(_) => Outcome::Crashed,
    };
    let crashed = matches!(outcome, Outcome::Crashed);
    let line = serde_json::to_vec(&Answer { version: VERSION, outcome }).unwrap_or_default();
    let written = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    if crashed || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn short(mut reason: String) -> String {
    if reason.len() > LONGEST_REASON {
        let end = (0..=LONGEST_REASON).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
        reason.push_str("...");
    }
    reason
}

/// Before anything of the package is read. What was inherited and is stricter stays.
fn limit(parent: u64, memory_mb: u64, seconds: u64) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Whoever died before that call sent no signal.
    if getppid().map(|pid| pid.as_raw_nonzero().get() as u64) != Some(parent) {
        return Err(std::io::Error::other("its parent has ended"));
    }
    let occupied = occupied()?;
    let memory = occupied.saturating_add(memory_mb.saturating_mul(1024 * 1024));
    let set = |resource, soft: u64, hard: u64| {
        let found = rustix::process::getrlimit(resource);
        let least = |limit: u64, found: Option<u64>| Some(found.map_or(limit, |found| found.min(limit)));
        let limit = Rlimit { current: least(soft, found.maximum), maximum: least(hard, found.maximum) };
        setrlimit(resource, limit)
    };
    set(Resource::As, memory, memory)?;
    // SIGXCPU at the first, which says why; SIGKILL at the second.
    set(Resource::Cpu, seconds.max(1), seconds.max(1).saturating_add(1))?;
    set(Resource::Core, 0, 0)?;
    set(Resource::Fsize, 0, 0)?;
    set(Resource::Nofile, 64, 64)?;
    Ok(())
}

/// Address space that this program has by now, in bytes (proc(5), `/proc/pid/status`).
fn occupied() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| std::io::Error::other("/proc/self/status has no VmSize"))?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(short("x".to_owned()), "x");
        let cut = short("\u{20ac}".repeat(LONGEST_REASON));
        assert!(cut.len() <= LONGEST_REASON + 3 && cut.ends_with("\u{20ac}..."));
    }

    #[test]
    fn a_larger_package_has_more_time() {
        let limits = ReaderLimits { seconds: 60, ..ReaderLimits::default() };
        assert_eq!((limits.processor(0), limits.processor(8 << 30)), (60, 572));
        assert_eq!(limits.time(u64::MAX), 2 * (60 + u64::MAX / BYTES_PER_SECOND) + 30);
    }
}
