//! Intel's quoting service (AESM), which signs an enclave's report so that it becomes a quote.
//!
//! Gramine speaks to it over a Unix socket. That something accepts a connection there is all that is asked: what it is
//! able to do shows with the first quote.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Where it listens.
pub const SOCKET: &str = "/var/run/aesmd/aesm.socket";

/// Whether the service is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aesm {
    /// There is no socket.
    Missing,
    /// Something else than a socket, or something that cannot be looked at; why, in words.
    NotASocket(String),
    /// A socket that does not let this user in, or that nobody listens at; why, in words.
    Silent(String),
    /// It accepts connections.
    Answers,
}

impl Aesm {
    /// Connects without waiting: a service that takes no more connections counts as silent.
    pub(super) fn look(path: &Path) -> Aesm {
        match fs::metadata(path) {
            Ok(found) if found.file_type().is_socket() => {}
            Ok(_) => {
                return Aesm::NotASocket("expected a socket, found another kind of file".to_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Aesm::Missing,
            Err(error) => return Aesm::NotASocket(error.to_string()),
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let connected = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
        match connected {
            Ok(()) => Aesm::Answers,
            Err(error) => Aesm::Silent(std::io::Error::from(error).to_string()),
        }
    }
}
