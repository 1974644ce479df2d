//! The project in front of `mse cloud`: `mse.toml` with its `[cloud]` table, and the files that it names.

use std::path::{Path, PathBuf};

use client::backend::TlsMode;
use client::owner_certificate;
use jiff::{SignedDuration, Timestamp};
use package::Project;
use package::cloud_config::CloudConfig;
use package::config::AppConfig;
use zeroize::Zeroizing;

use crate::exit::{Advice, Failure};
use crate::files;

/// Where the project is.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ProjectArgs {
    /// The project's `mse.toml`, or the directory that holds it.
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
}

/// A project, read.
pub struct CloudProject {
    /// The directory of `mse.toml`.
    pub folder: PathBuf,
    /// `mse.toml` itself.
    pub config: PathBuf,
    /// Where its parts are.
    pub parts: Project,
    /// What the node runs.
    pub app: AppConfig,
    /// What the backend is asked for.
    pub cloud: CloudConfig,
}

/// The owner's certificate, read and looked at.
pub struct OwnCertificate {
    /// The name users call the application by.
    pub domain: String,
    /// The chain, PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
}

/// How long an application runs whose owner names no end, by the word of the API; the backend's answer decides.
const USUAL: SignedDuration = SignedDuration::from_hours(24 * 30);

impl OwnCertificate {
    /// Refuses one that cannot serve from `now` until the application ends.
    pub fn check(&self, now: Timestamp, until: Timestamp) -> anyhow::Result<()> {
        owner_certificate::check(&self.chain, &self.key, &self.domain, now, Some(until))
            .hint("[cloud.ssl] in mse.toml names certificate, key and domain; `expiration_date` in [cloud] is when the application ends")
    }
}

impl ProjectArgs {
    /// Reads `mse.toml`.
    pub fn open(&self) -> anyhow::Result<CloudProject> {
        let config = match self.path.is_dir() {
            true => self.path.join("mse.toml"),
            false => self.path.clone(),
        };
        let folder = match config.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let (mut parts, app) = Project::with_config(&folder, &config).hint(
            "name the project with --path; `mse cloud scaffold NAME` makes one, `mse cloud init` makes the mse.toml of yours",
        )?;
        let cloud = CloudConfig::from_table(&app.cloud)?;
        if let Some(code) = &cloud.code {
            parts.code = folder.join(code);
        }
        if let Some(tests) = &cloud.tests {
            parts.tests = folder.join(tests);
        }
        Ok(CloudProject { folder, config, parts, app, cloud })
    }
}

impl CloudProject {
    /// The backend's name for the project.
    pub fn project_name(&self) -> String {
        self.cloud.project.as_deref().unwrap_or("default").to_ascii_lowercase()
    }

    /// The backend's name for the application.
    pub fn app_name(&self) -> String {
        self.app.name.to_ascii_lowercase()
    }

    /// A file that the `[cloud]` table names.
    pub fn file(&self, named: &Option<String>) -> Option<PathBuf> {
        named.as_deref().map(|path| self.folder.join(path))
    }

    /// Where TLS is to end.
    pub fn tls_mode(&self, untrusted_ssl: bool) -> anyhow::Result<TlsMode> {
        match (&self.cloud.ssl, untrusted_ssl) {
            (Some(_), true) => Err(Failure::usage("--untrusted-ssl and [cloud.ssl] exclude each other")
                .hint("users' TLS ends either at the operator's router or in the enclave under your certificate")
                .into()),
            (Some(_), false) => Ok(TlsMode::OwnerCertificate),
            (None, true) => Ok(TlsMode::UntrustedSsl),
            (None, false) => Ok(TlsMode::ZeroTrust),
        }
    }

    /// The owner's certificate, which must be able to serve until the application ends.
    pub fn own_certificate(&self, now: Timestamp) -> anyhow::Result<Option<OwnCertificate>> {
        let Some(ssl) = &self.cloud.ssl else { return Ok(None) };
        let read = |name: &str| files::read_text(&self.folder.join(name));
        let chain = read(&ssl.certificate).hint("name the certificate chain (PEM) in [cloud.ssl]")?;
        let key = Zeroizing::new(read(&ssl.private_key).hint("name the private key (PEM) in [cloud.ssl]")?);
        let own = OwnCertificate { domain: ssl.domain_name.clone(), chain, key };
        own.check(now, self.cloud.expires_at.unwrap_or(now + USUAL))?;
        Ok(Some(own))
    }

    /// The files of secrets that the tests are told of: those in clear, and those to seal.
    pub fn secrets_for_tests(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        (self.file(&self.cloud.secrets), self.file(&self.cloud.sealed_secrets))
    }
}

/// A JSON object in a file, for the enclave.
pub fn read_secrets(path: Option<&Path>) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = files::read_secret(path)?;
    let is_object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_ok();
    if !is_object {
        return Err(Failure::usage(format!("{} must hold a JSON object", path.display())).into());
    }
    Ok(Some(bytes))
}
