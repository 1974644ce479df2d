//! `node.json`: what this runtime remembers of a node. It is the operator's own note, read and written here
//! only, and nothing that is verified rests on it.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::error::Error;
use crate::name::NodeName;
use crate::process::pid::Process;

/// Name of the file in the node's directory.
const FILE: &str = "node.json";
/// The only version there is.
const VERSION: u32 = 1;
/// No record is longer, in bytes.
const LONGEST: u64 = 64 * 1024;

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
    pub(super) started_at: Option<Timestamp>,
    pub(super) process: Option<Process>,
    /// Its memory-backed directory since it was started last.
    #[serde(default)]
    pub(super) memory: Option<PathBuf>,
    /// Whether it was asked to stop since it was started last.
    pub(super) stopped: bool,
}

impl Record {
    pub(super) const VERSION: u32 = VERSION;

    pub(super) fn read(directory: &Path, name: &NodeName) -> Result<Record, Error> {
        let path = directory.join(FILE);
        let refuse = |reason: String| Error::Record { path: path.clone(), reason };
        let text = match outside::files::read_text(&path, LONGEST) {
            Ok(text) => text,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => return Err(Error::NoSuchNode { name: name.to_string() }),
                ErrorKind::InvalidInput | ErrorKind::FileTooLarge | ErrorKind::InvalidData => {
                    return Err(refuse(error.to_string()));
                }
                _ => return Err(Error::file("read", &path)(error)),
            },
        };
        let record: Record = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if record.version != VERSION {
            return Err(refuse(format!("expected version {VERSION}, found {}", record.version)));
        }
        if &record.name != name {
            return Err(refuse(format!("it is the record of '{}'", record.name)));
        }
        Ok(record)
    }

    /// Replaces the file in one step.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let write = || {
            let mut file = NamedTempFile::new_in(directory)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(Error::file("write", &path))
    }
}
