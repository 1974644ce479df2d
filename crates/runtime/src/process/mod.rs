//! Nodes as child processes: no container engine, no root, simulation only.
//!
//! ```text
//! <state>/nodes/.lock              held while names, ports or processes change
//! <state>/nodes/<name>/            one node: see [`prepare`] for what is in it
//! <state>/nodes/<name>.tmp-*/      a node being made or removed; holds a lock on its `.lock`
//! <memory>/<name>.<hash>/          its memory-backed directory: see [`memory`]
//! ```
//!
//! A command that is killed half-way leaves a `.tmp-` directory that nobody has locked, and a node that is
//! killed leaves its memory-backed directory; the next command removes both.
//!
//! Processes are known by id *and* start time (see [`pid`]), so that none but our own is ever signalled.

mod launch;
mod logs;
mod memory;
mod pid;
mod prepare;
mod record;

pub use launch::ISOLATED;
pub(crate) use memory::make_private;
pub(crate) use pid::Process;
pub(crate) use prepare::{HalfMade, check_validity, date, measured, not_after, remove_half_made};

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::name::NodeName;
use crate::process::memory::Memory;
use crate::process::record::Record;
use crate::{NodeSpec, NodeSummary, ProcessState, Runtime};

/// How long a node may take to end by itself.
const ENDING: Duration = Duration::from_secs(10);

/// How long the kernel may take to release the port of a node that has ended.
const RELEASING: Duration = Duration::from_secs(5);

/// The runtime whose nodes are processes of the calling user.
#[derive(Debug)]
pub struct ProcessRuntime {
    nodes: PathBuf,
    memory: Memory,
}

/// Held while names, ports or processes change; released when dropped, and by the death of its holder.
pub(crate) struct Lock(#[allow(dead_code)] File);

impl ProcessRuntime {
    /// Nodes under `<state_dir>/nodes`; their memory-backed directories under `$XDG_RUNTIME_DIR/mse` where that
    /// is memory-backed, else under `/dev/shm/mse-<uid>`.
    pub fn new(state_dir: &Path) -> Result<ProcessRuntime, Error> {
        ProcessRuntime::with_memory(state_dir, &memory::candidates())
    }

    /// The same, with the memory-backed directories under the first of `memory` that will do.
    pub fn with_memory(state_dir: &Path, memory: &[PathBuf]) -> Result<ProcessRuntime, Error> {
        let nodes = state_dir.join("nodes");
        memory::make_private(&nodes)?;
        let nodes = nodes.canonicalize().map_err(Error::file("find", &nodes))?;
        let memory = Memory::new(&nodes, memory);
        Ok(ProcessRuntime { nodes, memory })
    }

    /// Where a node's files are: `instance.toml`, the log, the sealed state.
    pub fn directory(&self, name: &NodeName) -> PathBuf {
        self.nodes.join(name.as_str())
    }

    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let file = self.lock_file()?;
        file.lock().map_err(Error::file("lock", &self.nodes))?;
        Ok(Lock(file))
    }

    /// The lock, unless some other command has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, Error> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::file("lock", &self.nodes)(source)),
        }
    }

    fn lock_file(&self) -> Result<File, Error> {
        let path = self.nodes.join(".lock");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))
    }

    /// Removes what killed commands and killed nodes left behind.
    fn sweep(&self, _: &Lock) -> Result<(), Error> {
        remove_half_made(&self.nodes, |_| true)?;
        // Of a node whose record cannot be read nobody knows whether it runs.
        let runs = |name: &str| {
            let record = name.parse().map(|name| self.record(&name));
            record.is_ok_and(|record| match record {
                Ok(record) => record.is_alive(),
                Err(error) => !matches!(error, Error::NoSuchNode { .. }),
            })
        };
        self.memory.sweep(runs)
    }

    /// Sweeps where no other command is at work, which would sweep itself.
    fn sweep_if_idle(&self) -> Result<(), Error> {
        match self.try_lock()? {
            Some(lock) => self.sweep(&lock),
            None => Ok(()),
        }
    }

    /// All nodes, by name; the first record that cannot be read is an error.
    fn records(&self) -> Result<Vec<Record>, Error> {
        let mut records = self.try_records()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// All nodes, each with its record or why that cannot be read: one damaged file must not stop work on the others.
    fn try_records(&self) -> Result<Vec<Result<Record, Error>>, Error> {
        let mut records = Vec::new();
        for name in self.names()? {
            // Another command may remove a node while this one looks.
            match self.record(&name) {
                Err(Error::NoSuchNode { .. }) => {}
                record => records.push(record),
            }
        }
        Ok(records)
    }

    fn record(&self, name: &NodeName) -> Result<Record, Error> {
        Record::read(&self.directory(name), name)
    }

    /// Whether there is a node of this name, readable record or not.
    pub fn knows(&self, name: &NodeName) -> bool {
        self.directory(name).symlink_metadata().is_ok()
    }

    /// Refuses a name that a node of any runtime has.
    pub(crate) fn check_name(&self, name: &NodeName) -> Result<(), Error> {
        let container = self.nodes.with_file_name("docker").join(format!("{name}.json"));
        for path in [self.directory(name), container] {
            match path.symlink_metadata() {
                Ok(_) => return Err(Error::NameInUse { name: name.to_string() }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("look at", &path)(error)),
            }
        }
        Ok(())
    }

    /// Refuses an address that a running node has (even one which does not listen yet), or anybody else.
    fn check_port(&self, listen: SocketAddr, own: &NodeName) -> Result<(), Error> {
        for record in self.try_records()?.into_iter().flatten() {
            if record.listen.port() == listen.port() && &record.name != own && record.is_alive() {
                return Err(Error::PortInUse { listen, by: Some(record.name.to_string()) });
            }
        }
        match TcpListener::bind(listen) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Err(Error::PortInUse { listen, by: None })
            }
            Err(source) => Err(Error::Listen { listen, source }),
        }
    }

    /// The same for a port that a container engine is to publish: on another machine it cannot be tried here, and here
    /// the engine may do what this user may not.
    pub(crate) fn check_published(
        &self,
        listen: SocketAddr,
        own: &NodeName,
        local: bool,
    ) -> Result<(), Error> {
        match self.check_port(listen, own) {
            Err(Error::PortInUse { .. } | Error::Listen { .. }) if !local => Ok(()),
            Err(Error::Listen { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            checked => checked,
        }
    }

    /// The same, with a moment's patience.
    pub(crate) fn wait_for_published(
        &self,
        listen: SocketAddr,
        own: &NodeName,
        local: bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + RELEASING;
        loop {
            match self.check_published(listen, own, local) {
                Err(Error::PortInUse { by: None, .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                checked => return checked,
            }
        }
    }

    /// As [`Self::check_port`], but gives the kernel a moment to take the port back from the node that had it.
    fn wait_for_port(&self, listen: SocketAddr, own: &NodeName) -> Result<(), Error> {
        let deadline = Instant::now() + RELEASING;
        loop {
            match self.check_port(listen, own) {
                Err(Error::PortInUse { by: None, .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                checked => return checked,
            }
        }
    }

    /// Starts the process of a node whose directory is complete, and notes it down.
    fn start(&self, _: &Lock, mut record: Record) -> Result<Record, Error> {
        let directory = self.directory(&record.name);
        let memory = self.memory.make(record.name.as_str())?;
        let (child, since) = launch::launch(&directory, &memory)?;
        record.memory = Some(memory);
        record.process = Some(child);
        record.started_at = Some(since);
        record.stopped = false;
        if let Err(error) = record.write(&directory) {
            // A process that nobody knows of could never be stopped.
            child.end(Duration::ZERO);
            return Err(error);
        }
        Ok(record)
    }

    fn end(&self, _: &Lock, record: &mut Record) -> Result<(), Error> {
        let alive = record.process.filter(pid::Process::is_alive);
        if !record.stopped {
            // Before the signal, so that a node which ends on it is never taken for one that died.
            record.stopped = true;
            record.write(&self.directory(&record.name))?;
        }
        if let Some(process) = alive
            && !process.end(ENDING)
        {
            return Err(Error::Unkillable { name: record.name.to_string(), pid: process.id() });
        }
        self.memory.remove_of(record)
    }
}

impl Runtime for ProcessRuntime {
    fn spawn(&self, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error> {
        prepare::check(spec)?;
        let half_made = {
            let lock = self.lock()?;
            self.sweep(&lock)?;
            self.check_name(spec.name)?;
            self.check_port(spec.listen, spec.name)?;
            HalfMade::create(&self.nodes, spec.name)?
        };
        // The long part, without the lock: other nodes need not wait for it.
        let record = prepare::fill(half_made.path(), spec)?;

        let lock = self.lock()?;
        self.check_name(spec.name)?;
        self.check_port(spec.listen, spec.name)?;
        let directory = half_made.finish(spec.name)?;
        match self.start(&lock, record) {
            Ok(record) => Ok(record.summary()),
            Err(error) => {
                let _ = self.memory.remove(spec.name.as_str());
                let _ = prepare::remove(&self.nodes, &directory, spec.name);
                Err(error)
            }
        }
    }

    fn names(&self) -> Result<Vec<NodeName>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.nodes).map_err(Error::file("list", &self.nodes))? {
            let name = entry.map_err(Error::file("list", &self.nodes))?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse::<NodeName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    fn list(&self) -> Result<Vec<NodeSummary>, Error> {
        self.sweep_if_idle()?;
        Ok(self.records()?.iter().map(Record::summary).collect())
    }

    fn summary(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        self.sweep_if_idle()?;
        Ok(self.record(name)?.summary())
    }

    fn logs(&self, name: &NodeName, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        self.sweep_if_idle()?;
        let record = self.record(name)?;
        let runs = || follow && self.record(&record.name).is_ok_and(|record| record.is_alive());
        logs::copy(&self.directory(name).join(launch::LOG), 0, runs, out)
    }

    fn log_end(&self, name: &NodeName, most: u64, out: &mut dyn Write) -> Result<(), Error> {
        self.sweep_if_idle()?;
        let record = self.record(name)?;
        let path = self.directory(&record.name).join(launch::LOG);
        let length = path.metadata().map_err(Error::file("look at", &path))?.len();
        logs::copy(&path, length.saturating_sub(most), || false, out)
    }

    fn stop(&self, name: &NodeName) -> Result<(), Error> {
        let lock = self.lock()?;
        let mut record = self.record(name)?;
        self.end(&lock, &mut record)?;
        self.sweep(&lock)
    }

    fn remove(&self, name: &NodeName) -> Result<(), Error> {
        let lock = self.lock()?;
        match self.record(name) {
            Ok(record) if record.is_alive() => {
                return Err(Error::StillRunning { name: name.to_string() });
            }
            Ok(record) => self.memory.remove_of(&record)?,
            // Removal is the way out of a damaged record.
            Err(Error::Record { .. }) => self.memory.remove(name.as_str())?,
            Err(error) => return Err(error),
        }
        prepare::remove(&self.nodes, &self.directory(name), name)?;
        self.sweep(&lock)
    }

    fn restart(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        let lock = self.lock()?;
        let mut record = self.record(name)?;
        self.end(&lock, &mut record)?;
        self.sweep(&lock)?;
        self.wait_for_port(record.listen, name)?;
        Ok(self.start(&lock, record)?.summary())
    }
}

impl Record {
    fn is_alive(&self) -> bool {
        self.process.is_some_and(|process| process.is_alive())
    }

    fn summary(&self) -> NodeSummary {
        let process = match (self.process.filter(pid::Process::is_alive), self.started_at) {
            (Some(process), Some(since)) => ProcessState::Alive { pid: process.id(), since },
            _ if self.stopped => ProcessState::Stopped,
            _ => ProcessState::Died,
        };
        NodeSummary {
            name: self.name.clone(),
            runtime: "process",
            application: self.application.clone(),
            host: self.host.clone(),
            listen: self.listen,
            size_mb: self.size_mb,
            app_id: self.app_id,
            healthcheck: self.healthcheck.clone(),
            fingerprint: self.fingerprint.clone(),
            package_sha256: self.package_sha256.clone(),
            created_at: self.created_at,
            process,
        }
    }
}
