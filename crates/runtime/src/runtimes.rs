//! All runtimes of one state directory behind one [`Runtime`]: each node is where it was spawned, and a name means one
//! node only. No container engine is asked anything as long as no node is in one and none is to be spawned there.

use std::io::Write;
use std::path::Path;

use crate::docker::DockerRuntime;
use crate::error::Error;
use crate::name::NodeName;
use crate::process::ProcessRuntime;
use crate::{NodeSpec, NodeSummary, Runtime};

/// Where a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As a process of this machine: [`ProcessRuntime`].
    Process,
    /// As a container: [`DockerRuntime`].
    Docker,
}

/// The nodes of one state directory, wherever they run.
#[derive(Debug)]
pub struct Runtimes {
    process: ProcessRuntime,
    docker: DockerRuntime,
}

impl Runtimes {
    /// Both runtimes of `state_dir`.
    ///
    /// # Errors
    /// A directory that cannot be made, or that others can enter.
    pub fn new(state_dir: &Path) -> Result<Runtimes, Error> {
        Ok(Runtimes::of(ProcessRuntime::new(state_dir)?, DockerRuntime::new(state_dir)?))
    }

    /// These two, which must be of the same state directory.
    pub fn of(process: ProcessRuntime, docker: DockerRuntime) -> Runtimes {
        Runtimes { process, docker }
    }

    /// Where a node runs.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`].
    pub fn kind_of(&self, name: &NodeName) -> Result<Kind, Error> {
        if self.docker.knows(name) {
            Ok(Kind::Docker)
        } else if self.process.knows(name) {
            Ok(Kind::Process)
        } else {
            Err(Error::NoSuchNode { name: name.to_string() })
        }
    }

    /// Spawns a node in the runtime of the caller's choice.
    ///
    /// # Errors
    /// As [`Runtime::spawn`].
    pub fn spawn_with(&self, kind: Kind, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error> {
        self.of_kind(kind).spawn(spec)
    }

    fn of_kind(&self, kind: Kind) -> &dyn Runtime {
        match kind {
            Kind::Process => &self.process,
            Kind::Docker => &self.docker,
        }
    }

    fn of_node(&self, name: &NodeName) -> Result<&dyn Runtime, Error> {
        Ok(self.of_kind(self.kind_of(name)?))
    }
}

impl Runtime for Runtimes {
    /// In the runtime that fits the package: natively built ones have no interpreter, and so are processes.
    fn spawn(&self, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error> {
        let native = spec.package.interpreter().is_some();
        self.spawn_with(if native { Kind::Process } else { Kind::Docker }, spec)
    }

    fn names(&self) -> Result<Vec<NodeName>, Error> {
        let mut all = self.process.names()?;
        all.extend(self.docker.names()?);
        all.sort();
        Ok(all)
    }

    fn list(&self) -> Result<Vec<NodeSummary>, Error> {
        let mut all = self.process.list()?;
        all.extend(self.docker.list()?);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn summary(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        self.of_node(name)?.summary(name)
    }

    fn log_end(&self, name: &NodeName, most: u64, out: &mut dyn Write) -> Result<(), Error> {
        self.of_node(name)?.log_end(name, most, out)
    }

    fn logs(&self, name: &NodeName, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        self.of_node(name)?.logs(name, follow, out)
    }

    fn stop(&self, name: &NodeName) -> Result<(), Error> {
        self.of_node(name)?.stop(name)
    }

    fn remove(&self, name: &NodeName) -> Result<(), Error> {
        self.of_node(name)?.remove(name)
    }

    fn restart(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        self.of_node(name)?.restart(name)
    }
}
