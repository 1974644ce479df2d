//! One container engine: its address, one conversation with it at a time, and the errors that can come of it.
//!
//! Every call opens a connection of its own on a runtime of its own, so an [`Engine`] can be shared by threads and no
//! call can hold up another; none of them may be made from within an asynchronous task.

use std::error::Error as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Serialize;

use crate::error::Error;

/// Where Docker listens unless told otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";

/// Oldest version of the API that will do: that of Docker 20.10.
const OLDEST: (u32, u32) = (1, 41);

/// How long the engine has for what should be quick.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what takes as long as it takes: a year.
const WITHOUT_END: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest message of the engine's that is passed on, in characters.
const LONGEST_MESSAGE: usize = 2_000;

/// A container engine that speaks the Docker Engine API.
#[derive(Clone, Debug)]
pub struct Engine {
    address: Address,
    patience: Duration,
    version: Arc<OnceLock<EngineVersion>>,
}

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineVersion {
    /// Its own version: `20.10.24`.
    pub version: String,
    /// The newest version of the API that it speaks: `1.41`.
    pub api_version: String,
}

/// One conversation with the engine.
pub(super) struct Session {
    runtime: tokio::runtime::Runtime,
    pub(super) docker: Docker,
    engine: Engine,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, else the one behind `/var/run/docker.sock`. Contacts nobody.
    ///
    /// # Errors
    /// [`Error::EngineAddress`] for an address that is neither a Unix socket nor plain TCP.
    pub fn connect() -> Result<Engine, Error> {
        let named = std::env::var_os("DOCKER_HOST").filter(|value| !value.is_empty());
        let address = match named {
            Some(address) => address
                .into_string()
                .map_err(|other| Error::EngineAddress { found: other.to_string_lossy().into_owned() })?,
            None => DEFAULT.to_owned(),
        };
        let tls = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        if tls && !address.starts_with("unix://") {
            return Err(Error::EngineAddress { found: format!("{address} with DOCKER_TLS_VERIFY") });
        }
        Engine::at(&address)
    }

    /// The engine at `unix:///path` or `tcp://host:port`. Contacts nobody.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub fn at(address: &str) -> Result<Engine, Error> {
        let refuse = || Error::EngineAddress { found: address.to_owned() };
        let parsed = if let Some(path) = address.strip_prefix("unix://") {
            Path::new(path).is_absolute().then(|| Address::Unix(path.into()))
        } else if let Some(host) = address.strip_prefix("tcp://") {
            let host = host.trim_end_matches('/');
            let good = host.rsplit_once(':').is_some_and(|(name, port)| {
                !name.is_empty() && port.parse::<u16>().is_ok() && !name.contains(['/', '@', '?', '#'])
            });
            good.then(|| Address::Tcp(host.to_owned()))
        } else {
            None
        };
        let address = parsed.ok_or_else(refuse)?;
        Ok(Engine { address, patience: PATIENCE, version: Arc::default() })
    }

    /// The same engine, which gets `patience` instead of twenty seconds for each thing that should be quick.
    pub fn with_patience(self, patience: Duration) -> Engine {
        Engine { patience, ..self }
    }

    /// Whether it runs on this machine, so that its ports are this machine's.
    pub fn is_local(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Its address, as it was given.
    pub fn address(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{}", path.display()),
            Address::Tcp(host) => format!("tcp://{host}"),
        }
    }

    /// Asks for its version.
    ///
    /// # Errors
    /// [`Error::EngineTooOld`] for an API older than 1.41; [`Error::EngineUnreachable`] and [`Error::EngineSilent`]
    /// where nobody answers.
    pub fn version(&self) -> Result<EngineVersion, Error> {
        let session = self.session_unchecked()?;
        session.quick("say its version", async {
            let said = session.docker.version().await?;
            let text = |value: Option<String>| printable(value.as_deref().unwrap_or("of an unknown version"));
            let found = EngineVersion { version: text(said.version), api_version: text(said.api_version) };
            let mut parts = found.api_version.splitn(2, '.').map(str::parse::<u32>);
            Ok(match (parts.next(), parts.next()) {
                (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Ok(found),
                _ => Err(Error::EngineTooOld { version: found.version, found: found.api_version }),
            })
        })?
    }

    /// A conversation, once it is known that the engine is new enough.
    pub(super) fn session(&self) -> Result<Session, Error> {
        if self.version.get().is_none() {
            let version = self.version()?;
            let _ = self.version.set(version);
        }
        self.session_unchecked()
    }

    fn session_unchecked(&self) -> Result<Session, Error> {
        let limit = WITHOUT_END.as_secs();
        let docker = match &self.address {
            Address::Unix(path) => {
                let path = path.to_str().ok_or_else(|| Error::EngineAddress { found: self.address() })?;
                Docker::connect_with_unix(path, limit, API_DEFAULT_VERSION)
            }
            Address::Tcp(host) => Docker::connect_with_http(host, limit, API_DEFAULT_VERSION),
        };
        let docker = docker.map_err(|error| self.error("take a request", error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Stream { action: "talk to the container engine".into(), source })?;
        Ok(Session { runtime, docker, engine: self.clone() })
    }

    /// What an error of the API means.
    pub(super) fn error(&self, action: &str, error: ApiError) -> Error {
        let unreachable = |reason: String| Error::EngineUnreachable { address: self.address(), reason };
        match &error {
            ApiError::SocketNotFoundError(_) => {
                return unreachable("there is no such socket; install Docker, and start it".into());
            }
            ApiError::DockerResponseServerError { status_code, message } => {
                return Error::EngineRefused {
                    action: action.to_owned(),
                    status: *status_code,
                    message: cut(message),
                };
            }
            ApiError::DockerStreamError { error } => {
                return Error::EngineRefused { action: action.to_owned(), status: 200, message: cut(error) };
            }
            ApiError::HyperLegacyError { .. }
            | ApiError::HyperResponseError { .. }
            | ApiError::IOError { .. } => {}
            other => {
                return Error::EngineAnswer { action: action.to_owned(), found: cut(&other.to_string()) };
            }
        }
        let mut cause = error.source();
        let mut last = error.to_string();
        while let Some(next) = cause {
            if let Some(io) = next.downcast_ref::<std::io::Error>() {
                use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
                match io.kind() {
                    NotFound => {
                        return unreachable("there is no such socket; install Docker, and start it".into());
                    }
                    PermissionDenied => {
                        return unreachable(
                            "this user may not use it; add yourself to the group docker \
                             (`sudo usermod -aG docker $USER`) and log in again"
                                .into(),
                        );
                    }
                    ConnectionRefused => return unreachable("nobody listens there; start the engine".into()),
                    _ => {}
                }
            }
            last = next.to_string();
            cause = next.source();
        }
        unreachable(format!("the connection ended when it was asked to {action}: {}", cut(&last)))
    }
}

impl Session {
    /// Asks for something that should be quick.
    pub(super) fn quick<T>(
        &self,
        action: &str,
        future: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, Error> {
        self.within(self.engine.patience, action, future)
    }

    /// Asks for something that may take several times as long.
    pub(super) fn patiently<T>(
        &self,
        action: &str,
        future: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, Error> {
        self.within(self.engine.patience * 6, action, future)
    }

    fn within<T>(
        &self,
        limit: Duration,
        action: &str,
        future: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, Error> {
        match self.runtime.block_on(async { tokio::time::timeout(limit, future).await }) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.engine.error(action, error)),
            Err(_) => {
                Err(Error::EngineSilent { address: self.engine.address(), action: action.to_owned(), limit })
            }
        }
    }

    /// Asks for something that takes as long as it takes.
    pub(super) fn long<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn error(&self, action: &str, error: ApiError) -> Error {
        self.engine.error(action, error)
    }
}

/// A thing that is not there is `None`.
pub(super) fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::EngineRefused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// At most so much of what the engine says.
pub(super) fn cut(text: &str) -> String {
    match text.trim_end().char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.trim_end().to_owned(),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !outside::printable::acts(*c)).take(64).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn addresses() {
        for good in
            ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375/", "tcp://build:2375"]
        {
            assert!(Engine::at(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "unix://",
            "unix://docker.sock",
            "tcp://",
            "tcp://host",
            "tcp://a@b:1",
            "tcp://a/b:1",
            "ssh://a:22",
            "https://a:1",
        ] {
            assert!(matches!(Engine::at(bad), Err(Error::EngineAddress { .. })), "{bad}");
        }
    }

    /// An engine that answers one request with `answer`, or never.
    fn engine(answer: Option<&str>) -> (tempfile::TempDir, Engine) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answer = answer.map(|body| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        });
        std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 4096]);
            match answer {
                Some(answer) => peer.write_all(answer.as_bytes()).unwrap(),
                // Until the client has given up.
                None => drop(peer.read(&mut [0])),
            }
        });
        let engine = Engine::at(&format!("unix://{}", path.display())).unwrap();
        (folder, engine.with_patience(Duration::from_millis(200)))
    }

    #[test]
    fn an_old_engine_and_one_without_a_version_are_refused() {
        for answer in [
            r#"{"Version":"19.03.1","ApiVersion":"1.40"}"#,
            "{}",
            r#"{"ApiVersion":"1"}"#,
            r#"{"ApiVersion":"x.y"}"#,
        ] {
            let (_folder, engine) = engine(Some(answer));
            assert!(matches!(engine.version(), Err(Error::EngineTooOld { .. })), "{answer}");
        }
        for answer in
            [r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#, r#"{"Version":"99","ApiVersion":"2.0"}"#]
        {
            let (_folder, engine) = engine(Some(answer));
            assert!(engine.version().is_ok(), "{answer}");
        }
    }

    #[test]
    fn nonsense_and_silence_are_named() {
        let (_folder, engine) = self::engine(Some("no json"));
        assert!(matches!(engine.version(), Err(Error::EngineAnswer { .. })), "{:?}", engine.version());
        let (_folder, engine) = self::engine(None);
        assert!(matches!(engine.version(), Err(Error::EngineSilent { .. })));
        let (_folder, engine) = self::engine(Some(""));
        assert!(engine.version().is_err());
    }

    #[test]
    fn an_engine_that_is_not_there_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock");
        let engine = Engine::at(&format!("unix://{}", socket.display())).unwrap();
        let missing = engine.version().unwrap_err().to_string();
        assert!(missing.contains("install Docker"), "{missing}");
        drop(UnixListener::bind(&socket).unwrap());
        let stopped = engine.version().unwrap_err().to_string();
        assert!(stopped.contains("start the engine"), "{stopped}");
    }
}
