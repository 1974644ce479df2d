//! One container at a time: made, filled, started, looked at, ended, removed.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::body_try_stream;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerState};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use jiff::Timestamp;

use crate::ProcessState;
use crate::docker::engine::{Session, found};
use crate::docker::images::stream_of;
use crate::docker::pipe::through;
use crate::error::Error;

/// An id as the engine gives it: 64 hexadecimal digits.
pub(super) fn is_container_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Session {
    /// Makes a container and returns its id.
    pub(super) fn create(&self, name: Option<&str>, body: ContainerCreateBody) -> Result<String, Error> {
        let action = "make a container";
        let mut options = CreateContainerOptionsBuilder::default();
        if let Some(name) = name {
            options = options.name(name);
        }
        let image = body.image.clone().unwrap_or_default();
        let creating = self.docker.create_container(Some(options.build()), body);
        let made = found(self.patiently(action, creating))?.ok_or(Error::NoImage { reference: image })?;
        if is_container_id(&made.id) {
            return Ok(made.id);
        }
        let found = format!("expected an id of 64 hexadecimal digits, found {:?}", made.id);
        Err(Error::EngineAnswer { action: action.to_owned(), found })
    }

    /// Unpacks the tar that `write` writes below `path` in a container.
    pub(super) fn upload(
        &self,
        id: &str,
        path: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        through(write, |body| {
            let options = UploadToContainerOptionsBuilder::default()
                .path(path)
                .no_overwrite_dir_non_dir("true")
                .build();
            let body = body_try_stream(stream_of(body));
            self.long(self.docker.upload_to_container(id, Some(options), body))
                .map_err(|error| self.error("copy files into a container", error))
        })
    }

    pub(super) fn start(&self, id: &str) -> Result<(), Error> {
        let starting = self.docker.start_container(id, None::<StartContainerOptions>);
        self.patiently("start a container", starting)
    }

    /// A container, if there is one.
    pub(super) fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let looking = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        found(self.quick("look at a container", looking))
    }

    /// How a container is doing, if there is one. One that does not run has ended by itself, for all the engine
    /// knows.
    pub(super) fn state(&self, id: &str) -> Result<Option<ProcessState>, Error> {
        let Some(container) = self.inspect(id)? else { return Ok(None) };
        process_state(container.state).map(Some)
    }

    /// Sends a signal; says whether there was a process to send it to.
    pub(super) fn signal(&self, id: &str, signal: &str) -> Result<bool, Error> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.quick("end a container", self.docker.kill_container(id, Some(options))) {
            Ok(()) => Ok(true),
            // No such container, or none that runs.
            Err(Error::EngineRefused { status: 404 | 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until a container does not run; says whether that is so.
    pub(super) fn wait(&self, id: &str, limit: Duration) -> Result<bool, Error> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let ended = self.long(async {
            let mut answers = std::pin::pin!(self.docker.wait_container(id, Some(options)));
            tokio::time::timeout(limit, answers.next()).await
        });
        match ended {
            Err(_) => Ok(false),
            // An exit code other than 0 is an error to the client, not to us.
            Ok(None | Some(Ok(_) | Err(ApiError::DockerContainerWaitError { .. }))) => Ok(true),
            Ok(Some(Err(error))) => {
                found(Err(self.error("wait for a container", error))).map(|_: Option<()>| true)
            }
        }
    }

    /// Removes a container, even one that runs, and its anonymous volumes; one that is not there is removed already.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        found(self.patiently("remove a container", self.docker.remove_container(id, Some(options)))).map(drop)
    }

    /// Copies what a container has written, as it was written; with `follow` until it ends.
    pub(super) fn copy_log(&self, id: &str, follow: bool, out: &mut dyn Write) -> Result<bool, Error> {
        let options =
            LogsOptionsBuilder::default().follow(follow).stdout(true).stderr(true).tail("all").build();
        let copied = self.long(async {
            let mut pieces = std::pin::pin!(self.docker.logs(id, Some(options)));
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| self.error("show what a container wrote", error))?;
                out.write_all(&piece.into_bytes()).map_err(Error::Output)?;
                out.flush().map_err(Error::Output)?;
            }
            out.flush().map_err(Error::Output)
        });
        Ok(found(copied)?.is_some())
    }
}

/// What the engine says of a container's process.
fn process_state(state: Option<ContainerState>) -> Result<ProcessState, Error> {
    let refuse = |found: String| Error::EngineAnswer { action: "look at a container".into(), found };
    let state = state.ok_or_else(|| refuse("expected a state, found none".into()))?;
    if state.running != Some(true) {
        return Ok(ProcessState::Died);
    }
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0);
    let since = state.started_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    match (pid, since) {
        (Some(pid), Some(since)) => Ok(ProcessState::Alive { pid, since }),
        _ => Err(refuse(format!(
            "expected a process id and a time of start, found {:?} and {:?}",
            state.pid, state.started_at
        ))),
    }
}

/// Where a container's port is published.
pub(super) fn published(container: &ContainerInspectResponse, port: u16) -> Option<SocketAddr> {
    let ports = container.network_settings.as_ref()?.ports.as_ref()?;
    let bindings = ports.get(&format!("{port}/tcp"))?.as_ref()?;
    bindings.iter().find_map(|binding| {
        let ip: IpAddr = binding.host_ip.as_deref()?.parse().ok()?;
        Some(SocketAddr::new(ip, binding.host_port.as_deref()?.parse().ok()?))
    })
}

/// Whether the engine could not publish a port because somebody has it.
pub(super) fn is_port_in_use(error: &Error) -> bool {
    matches!(error, Error::EngineRefused { message, .. }
        if message.contains("port is already allocated") || message.contains("address already in use"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_makes_no_sense_is_refused() {
        let running = |pid, at: &str| ContainerState {
            running: Some(true),
            pid,
            started_at: Some(at.into()),
            ..ContainerState::default()
        };
        let at = "2026-05-06T07:08:09.123456789Z";
        let alive = process_state(Some(running(Some(7), at))).unwrap();
        assert!(
            matches!(alive, ProcessState::Alive { pid: 7, since } if since.to_string().starts_with("2026-05-06"))
        );
        assert_eq!(process_state(Some(ContainerState::default())).unwrap(), ProcessState::Died);
        for bad in
            [running(Some(0), at), running(Some(-1), at), running(None, at), running(Some(7), "yesterday")]
        {
            assert!(matches!(process_state(Some(bad)), Err(Error::EngineAnswer { .. })));
        }
        assert!(matches!(process_state(None), Err(Error::EngineAnswer { .. })));
    }
}
