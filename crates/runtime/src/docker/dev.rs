//! One short-lived container without an enclave: an application in its own image, for its tests.
//!
//! It is removed when its [`DevContainer`] is dropped. One whose maker was killed is removed by the next: each carries
//! a label that names the process which made it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::{Deserialize, Serialize};

use crate::ProcessState;
use crate::docker::containers::{is_container_id, is_port_in_use, published};
use crate::docker::engine::Engine;
use crate::docker::images::check_reference;
use crate::error::Error;
use crate::process::Process;

/// The label with the [`Owner`], as JSON.
const OWNER: &str = "mse.dev";

/// What is to run.
#[derive(Clone, Debug, Default)]
pub struct DevSpec<'a> {
    /// Name or id of the image.
    pub image: &'a str,
    /// The program and its arguments; the image's own entry point and command are not used.
    pub command: &'a [String],
    /// Variables, besides those of the image.
    pub env: &'a [(String, String)],
    /// Where it runs; `/` where that is empty.
    pub working_dir: &'a str,
    /// The port that it listens on inside.
    pub port: u16,
    /// The port on 127.0.0.1 which leads there; 0 for any that is free.
    pub host_port: u16,
    /// Directories that get a memory-backed file system, with so many MiB.
    pub tmpfs: &'a [(String, u64)],
}

/// A container that lives no longer than this value.
#[derive(Debug)]
pub struct DevContainer {
    engine: Engine,
    id: String,
    address: SocketAddr,
}

/// The process that made a container.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Owner {
    process: Process,
    /// Process ids mean something in one namespace only.
    namespace: String,
}

impl Owner {
    fn this() -> Option<Owner> {
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let process = Process::now(std::process::id())?;
        Some(Owner { process, namespace: namespace.to_string_lossy().into_owned() })
    }
}

impl DevContainer {
    /// Starts a container with the files of the tar that `files` writes, whose paths begin at the container's root.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::PortInUse`], what `files` says, an engine that does not answer or refuses. Nothing
    /// is left behind.
    pub fn start(
        engine: &Engine,
        spec: &DevSpec<'_>,
        files: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
    ) -> Result<DevContainer, Error> {
        check_reference(spec.image)?;
        let session = engine.session()?;
        remove_orphans(engine)?;
        let id = session.create(None, body(spec))?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, spec.host_port));
        // From here on, dropping it removes it.
        let mut container = DevContainer { engine: engine.clone(), id, address: listen };
        session.upload(&container.id, "/", files)?;
        session.start(&container.id).map_err(|error| match error {
            error if is_port_in_use(&error) => Error::PortInUse { listen, by: None },
            error => error,
        })?;
        let address = session.inspect(&container.id)?.and_then(|found| published(&found, spec.port));
        match address {
            Some(address) => container.address = address,
            // One that ended already has no port any more; its log says why.
            None if !container.is_running()? => {}
            None => {
                let found = "expected the address of the published port, found none".to_owned();
                return Err(Error::EngineAnswer { action: "publish a port".into(), found });
            }
        }
        Ok(container)
    }

    /// Where the published port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether its program still runs.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub fn is_running(&self) -> Result<bool, Error> {
        let state = self.engine.session()?.state(&self.id)?;
        Ok(state.as_ref().is_some_and(ProcessState::is_alive))
    }

    /// Copies what the program writes; with `follow` goes on until it ends or `out` fails.
    ///
    /// # Errors
    /// What `out` says; an engine that does not answer.
    pub fn logs(&self, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        self.engine.session()?.copy_log(&self.id, follow, out).map(drop)
    }

    /// Follows the log on a thread of its own, which ends with the container.
    pub fn follow(&self, mut out: impl Write + Send + 'static) -> std::thread::JoinHandle<Result<(), Error>> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        std::thread::spawn(move || engine.session()?.copy_log(&id, true, &mut out).map(drop))
    }

    /// What removes it from another thread, for a program that is interrupted and drops nothing.
    pub fn undo(&self) -> impl Fn() + Clone + Send + Sync + 'static {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        move || {
            if let Ok(session) = engine.session() {
                let _ = session.remove(&id);
            }
        }
    }

    /// Removes it now, and says so if that fails.
    ///
    /// # Errors
    /// An engine that does not answer or refuses.
    pub fn remove(mut self) -> Result<(), Error> {
        let id = std::mem::take(&mut self.id);
        self.engine.session()?.remove(&id)
    }
}

impl Drop for DevContainer {
    fn drop(&mut self) {
        if !self.id.is_empty()
            && let Ok(session) = self.engine.session()
        {
            let _ = session.remove(&self.id);
        }
    }
}

fn body(spec: &DevSpec<'_>) -> ContainerCreateBody {
    let port = format!("{}/tcp", spec.port);
    let binding = PortBinding {
        host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
        host_port: Some(spec.host_port.to_string()),
    };
    let owner = Owner::this().and_then(|owner| serde_json::to_string(&owner).ok()).unwrap_or_default();
    let tmpfs =
        |(path, size): &(String, u64)| (path.clone(), format!("rw,nosuid,nodev,size={size}m,mode=0700"));
    ContainerCreateBody {
        image: Some(spec.image.to_owned()),
        // In place of the image's own, whatever they are.
        entrypoint: spec.command.get(..1).map(<[String]>::to_vec),
        cmd: spec.command.get(1..).map(<[String]>::to_vec),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: Some(if spec.working_dir.is_empty() { "/" } else { spec.working_dir }.to_owned()),
        user: Some("0:0".into()),
        labels: Some(HashMap::from([("mse".into(), "dev".into()), (OWNER.into(), owner)])),
        exposed_ports: Some(vec![port.clone()]),
        host_config: Some(HostConfig {
            port_bindings: Some(HashMap::from([(port, Some(vec![binding]))])),
            tmpfs: Some(spec.tmpfs.iter().map(tmpfs).collect()),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            pids_limit: Some(super::PIDS),
            ..super::logging()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Removes containers whose makers are gone, as far as that can be told: on this machine and in this namespace.
fn remove_orphans(engine: &Engine) -> Result<(), Error> {
    let Some(this) = Owner::this().filter(|_| engine.is_local()) else { return Ok(()) };
    let session = engine.session()?;
    let filters = HashMap::from([("label", vec![OWNER])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    for container in session.quick("list containers", session.docker.list_containers(Some(options)))? {
        let owner = container.labels.as_ref().and_then(|labels| labels.get(OWNER));
        let owner = owner.and_then(|json| serde_json::from_str::<Owner>(json).ok());
        let orphan =
            owner.is_some_and(|owner| owner.namespace == this.namespace && !owner.process.is_alive());
        if let Some(id) = container.id.filter(|id| orphan && is_container_id(id)) {
            session.remove(&id)?;
        }
    }
    Ok(())
}
