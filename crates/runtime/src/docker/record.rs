//! `<state>/docker/`: what this runtime remembers. The files are the operator's own notes, read and written here only,
//! and nothing that is verified rests on them.
//!
//! ```text
//! home                 the random id of this state directory, which its containers and volumes carry as a label
//! <name>.json          one node
//! <name>.tmp-*/        a node being made or removed; locked as long as somebody does that
//!     intent.json      what to remove from the engine when nobody does any more
//! ```

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::error::Error;
use crate::name::NodeName;
use crate::{NodeSummary, ProcessState};

/// The only version there is.
const VERSION: u32 = 1;
/// No file is longer, in bytes.
const LONGEST: u64 = 64 * 1024;
const HOME: &str = "home";
const INTENT: &str = "intent.json";

/// What a node has in an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    /// Address of the engine.
    pub(super) engine: String,
    /// Name of the container.
    pub(super) container: String,
    /// Name of the volume.
    pub(super) volume: String,
    /// Name of the image.
    pub(super) image: String,
    /// Whose they are: each carries it as a label.
    pub(super) app_id: Uuid,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) name: NodeName,
    pub(super) application: String,
    pub(super) host: String,
    pub(super) listen: SocketAddr,
    pub(super) size_mb: u64,
    pub(super) app_id: Uuid,
    pub(super) healthcheck: String,
    /// Hex.
    pub(super) fingerprint: String,
    /// Hex.
    pub(super) package_sha256: String,
    pub(super) created_at: Timestamp,
    /// Id of the container: 64 hex digits.
    pub(super) container_id: String,
    pub(super) place: Intent,
    /// Whether it was asked to stop since it was started last.
    pub(super) stopped: bool,
}

impl Record {
    pub(super) const VERSION: u32 = VERSION;

    pub(super) fn path(directory: &Path, name: &NodeName) -> PathBuf {
        directory.join(format!("{name}.json"))
    }

    pub(super) fn read(directory: &Path, name: &NodeName) -> Result<Record, Error> {
        let path = Record::path(directory, name);
        let record: Record = read_json(&path)?.ok_or_else(|| Error::NoSuchNode { name: name.to_string() })?;
        let refuse = |reason: String| Err(Error::Record { path: path.clone(), reason });
        if record.version != VERSION {
            return refuse(format!("expected version {VERSION}, found {}", record.version));
        }
        if &record.name != name {
            return refuse(format!("it is the record of '{}'", record.name));
        }
        if !super::containers::is_container_id(&record.container_id) {
            return refuse("its container has no id of 64 hexadecimal digits".into());
        }
        Ok(record)
    }

    /// Replaces the file in one step.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        write_json(directory, &Record::path(directory, &self.name), self)
    }

    pub(super) fn remove(directory: &Path, name: &NodeName) -> Result<(), Error> {
        let path = Record::path(directory, name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// With the state that the engine tells; `None` for a container that is not there.
    pub(super) fn summary(&self, state: Option<ProcessState>) -> NodeSummary {
        let process = match state {
            Some(ProcessState::Died) | None if self.stopped => ProcessState::Stopped,
            Some(state) => state,
            None => ProcessState::Died,
        };
        NodeSummary {
            name: self.name.clone(),
            runtime: "docker",
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

impl Intent {
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        write_json(directory, &directory.join(INTENT), self)
    }

    /// None where nothing was begun yet.
    pub(super) fn read(directory: &Path) -> Result<Option<Intent>, Error> {
        read_json(&directory.join(INTENT))
    }
}

/// The id of this state directory, made with the first use; call it with the lock held.
pub(super) fn home(directory: &Path) -> Result<Uuid, Error> {
    let path = directory.join(HOME);
    if let Some(id) = read_json(&path)? {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    write_json(directory, &path, &id)?;
    Ok(id)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match outside::files::read(path, LONGEST) {
        Ok(text) => text,
        Err(error) => match error.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::InvalidInput | ErrorKind::FileTooLarge => {
                return Err(Error::Record { path: path.to_owned(), reason: error.to_string() });
            }
            _ => return Err(Error::file("read", path)(error)),
        },
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Record { path: path.to_owned(), reason: error.to_string() })
}

fn write_json(directory: &Path, path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let write = || {
        let mut file = NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.as_file().sync_data()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(Error::file("write", path))
}
