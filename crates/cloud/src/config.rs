//! `cloud.toml`: what the operator chose. Everything has a default; without the file the backend runs on SQLite, the
//! `process` runtime and the simulated platform, for one machine.
//!
//! ```toml
//! listen = "127.0.0.1:7443"         # the API
//! router = "127.0.0.1:8443"         # the public port
//! domain = "apps.localhost"         # apps are <id>.<domain>
//! names = ["cloud.example"]         # other names of the API, for its certificate
//! database = "postgres://..."       # absent: mse.db in the data directory
//!
//! [capacity]                        # what apps may occupy together
//! memory_mb = 65536
//! cores = 64
//!
//! [ports]                           # of nodes, on loopback
//! first = 20000
//! last = 20999
//!
//! runtime = "process"               # or "docker"
//! platform = "simulated"            # or "sgx", with docker
//! pccs = "https://..."              # where collateral is; without it the simulator's endpoint, or Intel's service
//! pccs_listen = "127.0.0.1:0"       # where the simulator's endpoint listens
//!
//! [certificate]                     # of the public port, for apps with --untrusted-ssl: `*.<domain>`
//! chain = "fullchain.pem"           # without it the API's CA signs one
//! private_key = "key.pem"
//!
//! [diagnosis]
//! key_log = "FILE"                  # session keys of users whose TLS ends at the public port: whoever has it reads all
//!
//! [limits]
//! requests_per_second = 50          # of one user
//! burst = 200
//! failures_per_second = 1           # requests of one address without a token that holds
//! failures_burst = 20
//! projects_per_user = 20
//! upload_bytes = 8589934592         # of one upload
//! apps = 20                         # of a new project, as the next two
//! memory_mb = 65536
//! all_uploads_bytes = 21474836480
//! keep_uploads_days = 30            # uploads of which no living app was made go after so long
//! package_memory_mb = 1024          # what opening a package may take; 2 are opened at once for orders, 2 for nodes
//! package_seconds = 60              # of processor time, and one more for every 16 MiB
//! ```

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::Deserialize;

use crate::api::Limits;
use crate::api::limits::Rate;
use crate::error::{Error, Result};
use crate::placement::Room;
use crate::reader::ReaderLimits;
use crate::store::Quota;

/// The largest file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// The whole of it.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the public port is.
    pub router: SocketAddr,
    /// Apps are `<id>.<domain>`.
    pub domain: String,
    /// Other names of the API.
    pub names: Vec<String>,
    /// The database's URL; it may hold a password, and is never shown.
    pub database: Option<String>,
    /// What apps may occupy together.
    pub capacity: Capacity,
    /// The ports of nodes.
    pub ports: Ports,
    /// What clients may use.
    pub limits: Allowed,
    /// What starts nodes.
    pub runtime: RuntimeKind,
    /// What makes quotes.
    pub platform: PlatformKind,
    /// Where collateral is.
    pub pccs: Option<String>,
    /// Where the simulator's endpoint for collateral listens.
    pub pccs_listen: SocketAddr,
    /// The public port's own certificate.
    pub certificate: Option<CertificateFiles>,
    /// For those who look for a fault.
    pub diagnosis: Diagnosis,
}

/// What starts nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// Child processes: simulation only.
    #[default]
    Process,
    /// Containers of this machine's engine.
    Docker,
}

impl RuntimeKind {
    /// Its name, as clients read it.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Process => "process",
            RuntimeKind::Docker => "docker",
        }
    }
}

/// What makes quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformKind {
    /// The simulator: it proves nothing.
    #[default]
    Simulated,
    /// The processor.
    Sgx,
}

impl PlatformKind {
    /// Its name, as clients read it.
    pub fn name(self) -> &'static str {
        match self {
            PlatformKind::Simulated => "simulated",
            PlatformKind::Sgx => "sgx",
        }
    }
}

/// A certificate and its key, in files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The chain, PEM, leaf first.
    pub chain: PathBuf,
    /// The private key, PEM.
    pub private_key: PathBuf,
}

/// For those who look for a fault.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diagnosis {
    /// Where the session keys of users go whose TLS ends at the public port (the format of NSS key logs).
    pub key_log: Option<PathBuf>,
}

/// What apps may occupy together.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// Enclave memory in MB.
    pub memory_mb: u64,
    /// Cores, or shares of them.
    pub cores: u64,
}

/// The ports of nodes, on loopback: both ends included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// What clients may use.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Requests of one user, in the long run.
    pub requests_per_second: f64,
    /// Requests of one user, at once.
    pub burst: f64,
    /// How often one address may fail to show a token that holds.
    pub failures_per_second: f64,
    /// The same at once.
    pub failures_burst: f64,
    /// Projects of one user.
    pub projects_per_user: u64,
    /// The largest upload.
    pub upload_bytes: u64,
    /// Apps of a new project.
    pub apps: u64,
    /// Memory of a new project's apps.
    pub memory_mb: u64,
    /// All uploads of a new project.
    pub all_uploads_bytes: u64,
    /// Days after which uploads go of which no living app was made.
    pub keep_uploads_days: u32,
    /// Memory that opening a package may take, in MiB.
    pub package_memory_mb: u64,
    /// Processor time that opening a small package may take, in seconds.
    pub package_seconds: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7443)),
            router: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
            domain: "apps.localhost".to_owned(),
            names: Vec::new(),
            database: None,
            capacity: Capacity::default(),
            ports: Ports::default(),
            limits: Allowed::default(),
            runtime: RuntimeKind::default(),
            platform: PlatformKind::default(),
            pccs: None,
            pccs_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate: None,
            diagnosis: Diagnosis::default(),
        }
    }
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { memory_mb: 64 * 1024, cores: 64 }
    }
}

impl Default for Ports {
    /// Below the ports that the kernel hands to outgoing connections (ip(7): from 32768 on).
    fn default() -> Ports {
        Ports { first: 20_000, last: 20_999 }
    }
}

impl Default for Allowed {
    fn default() -> Allowed {
        let limits = Limits::default();
        Allowed {
            requests_per_second: limits.caller.per_second,
            burst: limits.caller.burst,
            failures_per_second: limits.stranger.per_second,
            failures_burst: limits.stranger.burst,
            projects_per_user: limits.projects_per_user,
            upload_bytes: limits.upload_bytes,
            apps: limits.project.max_apps,
            memory_mb: limits.project.max_memory_mb,
            all_uploads_bytes: limits.project.max_upload_bytes,
            keep_uploads_days: 30,
            package_memory_mb: ReaderLimits::default().memory_mb,
            package_seconds: ReaderLimits::default().seconds,
        }
    }
}

/// Without the database's URL.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("router", &self.router)
            .field("domain", &self.domain)
            .field("names", &self.names)
            .field("capacity", &self.capacity)
            .field("ports", &self.ports)
            .field("limits", &self.limits)
            .field("runtime", &self.runtime)
            .field("platform", &self.platform)
            .field("certificate", &self.certificate)
            .field("diagnosis", &self.diagnosis)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file at `path`, and checks it.
    pub fn read(path: &Path) -> Result<Config> {
        let content = |found| Error::Content { path: path.to_owned(), expected: "a cloud.toml", found };
        let text = outside::files::read_text(path, LIMIT).map_err(Error::file("read", path))?;
        // Of an error the place and the reason, and not the line: it may hold a password.
        let config: Config = toml::from_str(&text).map_err(|error| content(error.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what is not possible.
    pub fn check(&self) -> Result<()> {
        let wrong = |what, expected: &str, found: String| {
            Err(Error::Configuration { what, expected: expected.to_owned(), found })
        };
        // 32 digits, `.config.` and the domain are a name of at most 253 characters.
        if !package::instance::is_host(&self.domain) || self.domain.len() > 200 {
            return wrong("domain", "a host name of at most 200 characters", self.domain.clone());
        }
        if let Some(name) = self.names.iter().find(|name| !package::instance::is_host(name)) {
            return wrong("names", "host names and addresses", name.clone());
        }
        if self.ports.first == 0 || self.ports.first > self.ports.last {
            let found = format!("{} to {}", self.ports.first, self.ports.last);
            return wrong("ports", "the first, from 1 on, not above the last", found);
        }
        if self.platform == PlatformKind::Sgx && self.runtime == RuntimeKind::Process {
            return wrong(
                "platform",
                "sgx with runtime = \"docker\": processes are simulated",
                "sgx".to_owned(),
            );
        }
        let limits = self.limits;
        let rates =
            [limits.requests_per_second, limits.burst, limits.failures_per_second, limits.failures_burst];
        if rates.iter().any(|rate| !rate.is_finite() || *rate < 1.0) {
            return wrong("limits", "rates from 1 on", format!("{rates:?}"));
        }
        if !(1..=36_500).contains(&self.limits.keep_uploads_days) {
            let found = self.limits.keep_uploads_days.to_string();
            return wrong("limits.keep_uploads_days", "1 to 36500", found);
        }
        if !(64..=1024 * 1024).contains(&limits.package_memory_mb) {
            let found = limits.package_memory_mb.to_string();
            return wrong("limits.package_memory_mb", "64 to 1048576", found);
        }
        if !(1..=86_400).contains(&limits.package_seconds) {
            return wrong("limits.package_seconds", "1 to 86400", limits.package_seconds.to_string());
        }
        Ok(())
    }

    /// How long uploads stay of which no living app was made.
    pub fn keep_uploads(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.limits.keep_uploads_days))
    }

    /// What apps may occupy together.
    pub fn room(&self) -> Room {
        Room { memory_mb: self.capacity.memory_mb, cores: self.capacity.cores }
    }

    /// The ports of nodes.
    pub fn node_ports(&self) -> RangeInclusive<u16> {
        self.ports.first..=self.ports.last
    }

    /// What opening a package may take.
    pub fn reader_limits(&self) -> ReaderLimits {
        ReaderLimits {
            memory_mb: self.limits.package_memory_mb,
            seconds: self.limits.package_seconds,
            ..ReaderLimits::default()
        }
    }

    /// What clients may use.
    pub fn limits(&self) -> Limits {
        let allowed = self.limits;
        Limits {
            caller: Rate { per_second: allowed.requests_per_second, burst: allowed.burst },
            stranger: Rate { per_second: allowed.failures_per_second, burst: allowed.failures_burst },
            projects_per_user: allowed.projects_per_user,
            upload_bytes: allowed.upload_bytes,
            project: Quota {
                max_apps: allowed.apps,
                max_memory_mb: allowed.memory_mb,
                max_upload_bytes: allowed.all_uploads_bytes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let config = read("domain = \"apps.example\"\n[limits]\nburst = 3.0\n").unwrap();
        assert_eq!((config.domain.as_str(), config.limits().caller.burst), ("apps.example", 3.0));
        assert_eq!(config.listen, Config::default().listen);
        assert_eq!(read("").unwrap().limits(), Limits::default());
        Config::default().check().unwrap();
    }

    #[test]
    fn what_is_not_possible_is_refused_and_no_password_shown() {
        for bad in [
            "domain = \"\"",
            "domain = \"a b\"",
            "names = [\"-\"]",
            "listen = \"nowhere\"",
            "unknown = 1",
            "[ports]\nfirst = 5\nlast = 4",
            "[ports]\nfirst = 0",
            "[limits]\nburst = 0.0",
            "[limits]\nkeep_uploads_days = 0",
            "[limits]\npackage_memory_mb = 0",
            "[limits]\npackage_seconds = 0",
            "[limits]\nfailures_burst = 0.5",
            "[limits]\nrequests_per_second = nan",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let error = read("database = \"postgres://me:hunter2@db\" x").err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let config = read("database = \"postgres://me:hunter2@db\"").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
