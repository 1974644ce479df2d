//! A runtime that only pretends, and outlives the backends that use it as a real one does.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use runtime::{Error, NodeName, NodeSpec, NodeSummary, ProcessState, Runtime};
use uuid::Uuid;

use crate::lifecycle::Answer;
use crate::probe::Probe;
use crate::store::fuse::Fuse;

/// What really is, whoever looks.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) nodes: Mutex<BTreeMap<NodeName, NodeSummary>>,
    /// How often nodes were made, by app.
    pub(crate) made: Mutex<HashMap<Uuid, u32>>,
    /// What each node's port says; those not named here wait for their configuration.
    pub(crate) answers: Mutex<HashMap<Uuid, Answer>>,
    /// Ports that somebody outside has.
    pub(crate) foreign_ports: Mutex<Vec<u16>>,
    /// Whether starting nodes fails.
    pub(crate) broken: Mutex<bool>,
    /// The app whose log has no end, and how often it is read at present.
    pub(crate) endless: Mutex<Option<Uuid>>,
    pub(crate) talking: AtomicUsize,
    /// The app whose node's record cannot be read.
    pub(crate) damaged: Mutex<Option<Uuid>>,
}

impl Machine {
    /// Ends a node, as a crash does.
    pub(crate) fn crash(&self, app: Uuid) {
        for node in self.nodes.lock().unwrap().values_mut().filter(|node| node.app_id == app) {
            node.process = ProcessState::Died;
        }
    }

    /// A node that runs already; its name.
    pub(crate) fn run(&self, app: Uuid) -> String {
        let name: NodeName = format!("app-{}", app.simple()).parse().unwrap();
        let node = NodeSummary {
            name: name.clone(),
            runtime: "process",
            application: "app".to_owned(),
            host: "app.apps.localhost".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 100)),
            size_mb: 1024,
            app_id: app,
            healthcheck: "/health".to_owned(),
            fingerprint: "ab".repeat(32),
            package_sha256: "cd".repeat(32),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            process: alive(),
        };
        self.nodes.lock().unwrap().insert(name.clone(), node);
        name.to_string()
    }

    pub(crate) fn says(&self, app: Uuid, answer: Answer) {
        self.answers.lock().unwrap().insert(app, answer);
    }

    /// From now on the app's log has no end.
    pub(crate) fn talks_for_ever(&self, app: Uuid) {
        *self.endless.lock().unwrap() = Some(app);
    }

    /// How often that log is read at present.
    pub(crate) fn talking(&self) -> usize {
        self.talking.load(Ordering::SeqCst)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.lock().unwrap().keys().map(NodeName::to_string).collect()
    }

    pub(crate) fn made(&self, app: Uuid) -> u32 {
        self.made.lock().unwrap().get(&app).copied().unwrap_or(0)
    }
}

impl Probe for Arc<Machine> {
    fn look<'a>(
        &'a self,
        address: SocketAddr,
        _: &'a str,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        let app = self.nodes.lock().unwrap().values().find(|node| node.listen == address).map(|n| n.app_id);
        let answers = self.answers.lock().unwrap();
        let answer = app.and_then(|app| answers.get(&app).copied()).unwrap_or(Answer::Waiting);
        Box::pin(async move { answer })
    }
}

/// One backend's way to it: fails with the backend.
pub(crate) struct Nodes {
    pub(crate) machine: Arc<Machine>,
    pub(crate) fuse: Fuse,
}

impl Nodes {
    /// An effect: the backend may end before it and after it.
    fn act<T>(&self, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let gone = |_| Error::Output(std::io::Error::other("the backend ended"));
        self.fuse.burn().map_err(gone)?;
        let done = act();
        self.fuse.burn().map_err(gone)?;
        done
    }
}

fn alive() -> ProcessState {
    ProcessState::Alive { pid: 1, since: jiff::Timestamp::UNIX_EPOCH }
}

fn missing(name: &NodeName) -> Error {
    Error::NoSuchNode { name: name.to_string() }
}

impl Runtime for Nodes {
    fn spawn(&self, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error> {
        self.act(|| {
            if *self.machine.broken.lock().unwrap() {
                return Err(Error::Specification {
                    what: "a secret path",
                    expected: "x".into(),
                    found: "y".into(),
                });
            }
            let mut nodes = self.machine.nodes.lock().unwrap();
            if nodes.contains_key(spec.name) {
                return Err(Error::NameInUse { name: spec.name.to_string() });
            }
            let held = nodes.values().any(|node| node.listen == spec.listen);
            assert!(!held, "two nodes on {}", spec.listen);
            if self.machine.foreign_ports.lock().unwrap().contains(&spec.listen.port()) {
                return Err(Error::PortInUse { listen: spec.listen, by: None });
            }
            let node = NodeSummary {
                name: spec.name.clone(),
                runtime: "process",
                application: spec.package.config().name.clone(),
                host: spec.host.to_owned(),
                listen: spec.listen,
                size_mb: spec.size_mb,
                app_id: spec.app_id,
                healthcheck: "/health".to_owned(),
                fingerprint: "ab".repeat(32),
                package_sha256: hex::encode(spec.package.sha256()),
                created_at: spec.now,
                process: alive(),
            };
            nodes.insert(spec.name.clone(), node.clone());
            *self.machine.made.lock().unwrap().entry(spec.app_id).or_default() += 1;
            Ok(node)
        })
    }

    fn names(&self) -> Result<Vec<NodeName>, Error> {
        Ok(self.machine.nodes.lock().unwrap().keys().cloned().collect())
    }

    fn list(&self) -> Result<Vec<NodeSummary>, Error> {
        self.names()?.iter().map(|name| self.summary(name)).collect()
    }

    fn summary(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        let node = self.machine.nodes.lock().unwrap().get(name).cloned().ok_or_else(|| missing(name))?;
        match *self.machine.damaged.lock().unwrap() {
            Some(app) if app == node.app_id => {
                Err(Error::Record { path: name.as_str().into(), reason: "it is damaged".to_owned() })
            }
            _ => Ok(node),
        }
    }

    fn logs(&self, name: &NodeName, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        let node = self.summary(name)?;
        if *self.machine.endless.lock().unwrap() == Some(node.app_id) {
            self.machine.talking.fetch_add(1, Ordering::SeqCst);
            let ended = loop {
                if let Err(error) = writeln!(out, "and so on") {
                    break error;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            };
            self.machine.talking.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::Output(ended));
        }
        // Who follows, and does not read, holds up the writer.
        let lines = if follow { 1000 } else { 1 };
        (0..lines).try_for_each(|_| writeln!(out, "the log of {}", node.app_id)).map_err(Error::Output)
    }

    fn stop(&self, name: &NodeName) -> Result<(), Error> {
        self.act(|| {
            let mut nodes = self.machine.nodes.lock().unwrap();
            nodes.get_mut(name).ok_or_else(|| missing(name))?.process = ProcessState::Stopped;
            Ok(())
        })
    }

    fn remove(&self, name: &NodeName) -> Result<(), Error> {
        self.act(|| {
            let mut nodes = self.machine.nodes.lock().unwrap();
            if nodes.get(name).ok_or_else(|| missing(name))?.process.is_alive() {
                return Err(Error::StillRunning { name: name.to_string() });
            }
            nodes.remove(name);
            Ok(())
        })
    }

    fn restart(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        self.act(|| {
            let mut nodes = self.machine.nodes.lock().unwrap();
            let node = nodes.get_mut(name).ok_or_else(|| missing(name))?;
            node.process = alive();
            Ok(node.clone())
        })
    }
}
