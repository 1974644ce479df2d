//! Nodes as containers of an engine: see [`record`](super::record) for what is kept here, [`prepare`](super::prepare)
//! for what is made there.
//!
//! Whatever is made in an engine was noted down here before, so that a command which is killed half-way leaves nothing
//! that the next one does not find and remove. Containers and volumes are touched only if they carry the labels of this
//! state directory and of the node; containers of nodes are known by id, whatever has their name later.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveVolumeOptions};
use package::enclave;

use crate::docker::containers::{is_container_id, is_port_in_use};
use crate::docker::engine::{Engine, Session, found};
use crate::docker::images::check_reference;
use crate::docker::prepare::{Plan, labels};
use crate::docker::record::{Intent, Record, home};
use crate::error::Error;
use crate::name::NodeName;
use crate::process::{HalfMade, Lock, ProcessRuntime, make_private, remove_half_made};
use crate::{NodeSpec, NodeSummary, ProcessState, Runtime};

/// How long a node may take to end by itself.
const ENDING: Duration = Duration::from_secs(10);
/// How often SIGTERM is repeated: one that arrives while a node starts up is lost.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a container may take to end once it was killed.
const DYING: Duration = Duration::from_secs(10);
/// How often an image is loaded that somebody removes before there is a container of it.
const ATTEMPTS: usize = 3;

/// The runtime whose nodes are containers. Cheap to make: no engine is asked anything before a node needs it.
#[derive(Debug)]
pub struct DockerRuntime {
    directory: PathBuf,
    /// Names and ports are one matter for all nodes of a state directory, and so is the lock.
    processes: ProcessRuntime,
    /// Instead of the engine that the environment names.
    engine: Option<Engine>,
}

impl DockerRuntime {
    /// Nodes noted down under `<state_dir>/docker`, new ones in the engine that [`Engine::connect`] finds.
    ///
    /// # Errors
    /// A directory that cannot be made, or that others can enter.
    pub fn new(state_dir: &Path) -> Result<DockerRuntime, Error> {
        let processes = ProcessRuntime::new(state_dir)?;
        let directory = state_dir.join("docker");
        make_private(&directory)?;
        let directory = directory.canonicalize().map_err(Error::file("find", &directory))?;
        Ok(DockerRuntime { directory, processes, engine: None })
    }

    /// The same, with new nodes in `engine`.
    ///
    /// # Errors
    /// As [`DockerRuntime::new`].
    pub fn with_engine(state_dir: &Path, engine: Engine) -> Result<DockerRuntime, Error> {
        Ok(DockerRuntime { engine: Some(engine), ..DockerRuntime::new(state_dir)? })
    }

    /// Whether there is a node of this name, readable record or not.
    pub fn knows(&self, name: &NodeName) -> bool {
        Record::path(&self.directory, name).symlink_metadata().is_ok()
    }

    fn engine(&self) -> Result<Engine, Error> {
        self.engine.clone().map_or_else(Engine::connect, Ok)
    }

    /// The engine that has a node: not always the one that new nodes get.
    fn engine_of(&self, place: &Intent) -> Result<Engine, Error> {
        match &self.engine {
            Some(engine) if engine.address() == place.engine => Ok(engine.clone()),
            _ => Engine::at(&place.engine),
        }
    }

    fn record(&self, name: &NodeName) -> Result<Record, Error> {
        Record::read(&self.directory, name)
    }

    /// Refuses an address that a node has, or anybody else, as far as that can be told from here.
    fn check_port(&self, listen: SocketAddr, own: &NodeName, engine: &Engine) -> Result<(), Error> {
        let checked = self.processes.check_published(listen, own, engine.is_local());
        let Err(Error::PortInUse { by: None, .. }) = checked else { return checked };
        let by = self.names()?.into_iter().filter(|name| name != own).find(|name| {
            self.record(name).is_ok_and(|record| !record.stopped && record.listen.port() == listen.port())
        });
        Err(Error::PortInUse { listen, by: by.map(|name| name.to_string()) })
    }

    /// Removes what killed commands left behind; what an engine that does not answer has of it stays for the next.
    fn sweep(&self, _: &Lock) -> Result<(), Error> {
        remove_half_made(&self.directory, |left| {
            let Ok(Some(intent)) = Intent::read(left) else { return true };
            let finished = self.names().unwrap_or_default().into_iter().any(|name| {
                self.record(&name).is_ok_and(|record| record.place.container == intent.container)
            });
            finished || self.undo(&intent).is_ok()
        })
    }

    fn sweep_if_idle(&self) -> Result<(), Error> {
        match self.processes.try_lock()? {
            Some(lock) => self.sweep(&lock),
            None => Ok(()),
        }
    }

    /// Removes what a node has in its engine, as far as it has it.
    fn undo(&self, place: &Intent) -> Result<(), Error> {
        check_reference(&place.container)?;
        check_reference(&place.volume)?;
        let home = home(&self.directory)?.to_string();
        let engine = self.engine_of(place)?;
        let session = engine.session()?;
        let app_id = place.app_id.to_string();
        if let Some(container) = session.inspect(&place.container)? {
            let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
            let ours = labels.get("mse.home") == Some(&home) && labels.get("mse.app-id") == Some(&app_id);
            if let Some(id) = container.id.filter(|id| ours && is_container_id(id)) {
                session.remove(&id)?;
            }
        }
        if let Some(volume) = volume(&session, &place.volume)? {
            let ours = volume.get("mse.home") == Some(&home) && volume.get("mse.app-id") == Some(&app_id);
            if ours {
                let removing = session.docker.remove_volume(&place.volume, None::<RemoveVolumeOptions>);
                found(session.patiently("remove a volume", removing))?;
            }
        }
        // Packages with other code may have the very same image under another name, so the engine cannot tell whose
        // container is whose.
        let filters = [("label".to_owned(), vec![format!("mse.image={}", place.image)])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let users = session.quick("list containers", session.docker.list_containers(Some(options)))?;
        if !users.is_empty() {
            return Ok(());
        }
        // It stays as long as any other container uses it, whoever made that.
        engine.remove_image(&place.image).map(drop)
    }

    /// Loads the image where it is missing, and makes volume and container; returns the container's id.
    fn make(
        &self,
        engine: &Engine,
        spec: &NodeSpec<'_>,
        plan: &Plan,
        half_made: &Path,
    ) -> Result<String, Error> {
        let archive = half_made.join("app.tar");
        spec.package.copy_code_archive(&archive)?;
        let home = home(&self.directory)?;
        let labels = labels(spec.name.as_str(), home, &plan.place);
        let session = engine.session()?;
        let request = VolumeCreateRequest {
            name: Some(plan.place.volume.clone()),
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        };
        let action = format!("make the volume {}", plan.place.volume);
        session.quick(&action, session.docker.create_volume(request))?;
        // One that was there before is told as if it were new.
        if volume(&session, &plan.place.volume)?.and_then(|found| found.get("mse.app-id").cloned())
            != labels.get("mse.app-id").cloned()
        {
            let message = "there is a volume of that name already, and it is somebody else's".into();
            return Err(Error::EngineRefused { action, status: 409, message });
        }
        let mut attempts = 0;
        let id = loop {
            if !engine.has_image(&plan.place.image)? {
                engine.load_from(|out| Ok(spec.package.write_image(&plan.place.image, out)?))?;
            }
            attempts += 1;
            match session.create(Some(&plan.place.container), plan.container(spec, labels.clone())?) {
                // Another home may have removed its last node of this image meanwhile.
                Err(Error::NoImage { .. }) if attempts < ATTEMPTS => {}
                made => break made?,
            }
        };
        session.upload(&id, enclave::VOLUME, |out| plan.write_files(spec, &archive, out))?;
        Ok(id)
    }

    /// Starts the container of a node, which is noted down as running before.
    fn start(&self, _: &Lock, mut record: Record) -> Result<NodeSummary, Error> {
        let session = self.engine_of(&record.place)?.session()?;
        record.stopped = false;
        record.write(&self.directory)?;
        let started = session.start(&record.container_id).map_err(|error| match error {
            error if is_port_in_use(&error) => Error::PortInUse { listen: record.listen, by: None },
            Error::EngineRefused { status: 404, .. } => gone(&record),
            error => error,
        });
        if let Err(error) = started {
            record.stopped = true;
            let _ = record.write(&self.directory);
            return Err(error);
        }
        Ok(record.summary(session.state(&record.container_id)?))
    }

    fn end(&self, _: &Lock, record: &mut Record) -> Result<(), Error> {
        let session = self.engine_of(&record.place)?.session()?;
        if !record.stopped {
            // Before the signal, so that a node which ends on it is never taken for one that died.
            record.stopped = true;
            record.write(&self.directory)?;
        }
        let Some(ProcessState::Alive { pid, .. }) = session.state(&record.container_id)? else {
            return Ok(());
        };
        let deadline = Instant::now() + ENDING;
        while Instant::now() < deadline {
            let limit = AGAIN.min(deadline.saturating_duration_since(Instant::now()));
            if !session.signal(&record.container_id, "SIGTERM")?
                || session.wait(&record.container_id, limit)?
            {
                return Ok(());
            }
        }
        if session.signal(&record.container_id, "SIGKILL")? && !session.wait(&record.container_id, DYING)? {
            return Err(Error::Unkillable { name: record.name.to_string(), pid });
        }
        Ok(())
    }

    /// What has the labels of a node whose record cannot be read.
    fn remove_labelled(&self, name: &NodeName) -> Result<(), Error> {
        let home = home(&self.directory)?;
        let session = self.engine()?.session()?;
        let filters = vec![format!("mse.home={home}"), format!("mse.name={name}")];
        let filters = [("label".to_owned(), filters)].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = session.quick("list containers", session.docker.list_containers(Some(options)))?;
        let mut volumes = Vec::new();
        for container in listed {
            let mounts = container.mounts.unwrap_or_default();
            volumes.extend(mounts.into_iter().filter_map(|mount| mount.name));
            if let Some(id) = container.id.filter(|id| is_container_id(id)) {
                session.remove(&id)?;
            }
        }
        for name in volumes.iter().filter(|name| check_reference(name).is_ok()) {
            let ours = volume(&session, name)?
                .is_some_and(|labels| labels.get("mse.home") == Some(&home.to_string()));
            if ours {
                let removing = session.docker.remove_volume(name, None::<RemoveVolumeOptions>);
                found(session.patiently("remove a volume", removing))?;
            }
        }
        Ok(())
    }
}

impl Runtime for DockerRuntime {
    fn spawn(&self, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error> {
        let engine = self.engine()?;
        let plan = Plan::new(spec, &engine.address())?;
        engine.version()?;
        let half_made = {
            let lock = self.processes.lock()?;
            self.sweep(&lock)?;
            self.processes.check_name(spec.name)?;
            self.check_port(spec.listen, spec.name, &engine)?;
            home(&self.directory)?;
            let half_made = HalfMade::create(&self.directory, spec.name)?;
            plan.place.write(half_made.path())?;
            half_made
        };
        // The long part, without the lock: other nodes need not wait for it.
        let result = self.make(&engine, spec, &plan, half_made.path()).and_then(|container_id| {
            let record = Record {
                version: Record::VERSION,
                name: spec.name.clone(),
                application: spec.package.config().name.clone(),
                host: spec.host.to_owned(),
                listen: spec.listen,
                size_mb: spec.size_mb,
                app_id: spec.app_id,
                healthcheck: spec.package.node_config().healthcheck,
                fingerprint: plan.fingerprint.clone(),
                package_sha256: hex::encode(spec.package.sha256()),
                created_at: spec.now,
                container_id,
                place: plan.place.clone(),
                stopped: true,
            };
            let lock = self.processes.lock()?;
            self.processes.check_name(spec.name)?;
            self.check_port(spec.listen, spec.name, &engine)?;
            self.start(&lock, record).inspect_err(|_| drop(Record::remove(&self.directory, spec.name)))
        });
        if result.is_err() && self.undo(&plan.place).is_err() {
            // For the next command, when the engine is there again.
            half_made.leave();
        }
        result
    }

    fn names(&self) -> Result<Vec<NodeName>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(Error::file("list", &self.directory))? {
            let entry = entry.map_err(Error::file("list", &self.directory))?;
            let file = entry.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(name.and_then(|name| name.parse::<NodeName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    fn list(&self) -> Result<Vec<NodeSummary>, Error> {
        self.sweep_if_idle()?;
        let mut summaries = Vec::new();
        let mut silent: Vec<(String, Error)> = Vec::new();
        for name in self.names()? {
            let record = match self.record(&name) {
                // Another command may remove a node while this one looks.
                Err(Error::NoSuchNode { .. }) => continue,
                record => record?,
            };
            let known = silent.iter().any(|(engine, _)| *engine == record.place.engine);
            let state = if known {
                Some(ProcessState::Unknown)
            } else {
                let state = self.engine_of(&record.place).and_then(|engine| engine.session());
                match state.and_then(|session| session.state(&record.container_id)) {
                    Ok(state) => state,
                    Err(error) => {
                        silent.push((record.place.engine.clone(), error));
                        Some(ProcessState::Unknown)
                    }
                }
            };
            summaries.push(record.summary(state));
        }
        Ok(summaries)
    }

    fn summary(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        self.sweep_if_idle()?;
        let record = self.record(name)?;
        let state = self.engine_of(&record.place)?.session()?.state(&record.container_id)?;
        Ok(record.summary(state))
    }

    fn logs(&self, name: &NodeName, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        self.sweep_if_idle()?;
        let record = self.record(name)?;
        let session = self.engine_of(&record.place)?.session()?;
        match session.copy_log(&record.container_id, follow, out)? {
            true => Ok(()),
            false => Err(gone(&record)),
        }
    }

    fn stop(&self, name: &NodeName) -> Result<(), Error> {
        let lock = self.processes.lock()?;
        let mut record = self.record(name)?;
        self.end(&lock, &mut record)?;
        self.sweep(&lock)
    }

    fn remove(&self, name: &NodeName) -> Result<(), Error> {
        let lock = self.processes.lock()?;
        let record = match self.record(name) {
            Ok(record) => record,
            // Removal is the way out of a damaged record.
            Err(Error::Record { .. }) => {
                self.remove_labelled(name)?;
                return Record::remove(&self.directory, name);
            }
            Err(error) => return Err(error),
        };
        let session = self.engine_of(&record.place)?.session()?;
        if session.state(&record.container_id)?.is_some_and(|state| state.is_alive()) {
            return Err(Error::StillRunning { name: name.to_string() });
        }
        let grave = HalfMade::create(&self.directory, name)?;
        record.place.write(grave.path())?;
        Record::remove(&self.directory, name)?;
        if let Err(error) = self.undo(&record.place) {
            grave.leave();
            return Err(error);
        }
        drop(grave);
        self.sweep(&lock)
    }

    fn restart(&self, name: &NodeName) -> Result<NodeSummary, Error> {
        let lock = self.processes.lock()?;
        let mut record = self.record(name)?;
        let engine = self.engine_of(&record.place)?;
        if engine.session()?.inspect(&record.container_id)?.is_none() {
            return Err(gone(&record));
        }
        self.end(&lock, &mut record)?;
        self.sweep(&lock)?;
        self.processes.wait_for_published(record.listen, name, engine.is_local())?;
        self.start(&lock, record)
    }
}

fn gone(record: &Record) -> Error {
    Error::ContainerGone { name: record.name.to_string(), container: record.place.container.clone() }
}

/// The labels of a volume, if there is one of that name.
fn volume(session: &Session, name: &str) -> Result<Option<std::collections::HashMap<String, String>>, Error> {
    let looking = session.docker.inspect_volume(name);
    Ok(found(session.quick("look at a volume", looking))?.map(|volume| volume.labels))
}
