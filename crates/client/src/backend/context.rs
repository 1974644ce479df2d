//! What an owner keeps of each deployment: enough to verify the app again, to configure it again, and to replace it.
//!
//! A context holds the code key and is never sent anywhere. Format of `<app id>.json`, mode 0600: a JSON object with the
//! fields of [`Context`] in their order; digests in hex, times as in RFC 3339, absent things null. Unknown fields are
//! refused, since another version wrote them.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::api::{self, TlsMode, hex32};
use super::private::{self, From, secret};
use super::wire;
use crate::error::Error;

const WHAT: &str = "context of a deployment";

/// Most contexts in a directory that are listed.
const MOST: usize = 100_000;

/// Whether an app was verified before anything secret was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verification {
    /// Not so far: nothing secret was sent.
    NotYet,
    /// It was.
    Verified {
        /// When.
        at: Timestamp,
        /// Whether its quote was a simulated one.
        simulated: bool,
        /// When its keys were sent without, if they were: what was learned then, no later verification takes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped: Option<Timestamp>,
    },
    /// Its owner chose to do without.
    Skipped {
        /// When.
        at: Timestamp,
    },
}

/// A deployment, as its owner knows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// [`Context::VERSION`].
    pub version: u32,
    /// The app's identifier, and the name of this context.
    pub id: Uuid,
    /// The app's name.
    pub name: String,
    /// The name of its project.
    pub project: String,
    /// The identifier of its project.
    pub project_id: Uuid,
    /// The backend's address.
    pub backend: String,
    /// The name of its plan.
    pub plan: String,
    /// Enclave size in MB.
    pub size_mb: u64,
    /// SHA-256 of its package.
    #[serde(with = "hex32")]
    pub package_sha256: [u8; 32],
    /// Its fingerprint, computed from the package.
    #[serde(with = "hex32")]
    pub fingerprint: [u8; 32],
    /// SHA-256 of the code archive before it was encrypted.
    #[serde(with = "hex32")]
    pub code_sha256: [u8; 32],
    /// Where users' TLS ends.
    pub tls: TlsMode,
    /// The name that users call it by.
    pub domain: String,
    /// The name that its owner configures it by.
    pub config_domain: String,
    /// The port of both.
    pub router_port: u16,
    /// The key of its code, 64 hexadecimal digits.
    #[serde(with = "secret::optional")]
    pub code_key: Option<Zeroizing<String>>,
    /// The operator's signer, as recorded at login.
    #[serde(with = "hex32")]
    pub mrsigner: [u8; 32],
    /// Whether its owner had compared that signer.
    pub signer_confirmed: bool,
    /// The root of the operator's simulator (PEM).
    pub simulated_root: Option<String>,
    /// Where the operator says collateral is.
    pub pccs: Option<String>,
    /// When the app was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Whether it was verified.
    pub verified: Verification,
    /// When it was sent its configuration.
    pub configured_at: Option<Timestamp>,
}

impl Context {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// Writes it to a new file at `path`, mode 0600: whoever reads that file can read the code.
    pub fn export(&self, path: &Path) -> Result<(), Error> {
        self.check().map_err(|reason| refuse(path, reason))?;
        private::write(path, self, false)
    }

    /// Reads one that [`Context::export`] wrote.
    pub fn import(path: &Path) -> Result<Context, Error> {
        match read(path, From::Anywhere)? {
            Some(context) => Ok(context),
            None => Err(Error::file("open", path, ErrorKind::NotFound.into())),
        }
    }

    /// Where the app's owner configures it: what its evidence is fetched from.
    pub fn config_origin(&self) -> String {
        format!("https://{}:{}", self.config_domain, self.router_port)
    }

    /// Where users call the app.
    pub fn origin(&self) -> String {
        match self.router_port {
            443 => format!("https://{}", self.domain),
            port => format!("https://{}:{port}", self.domain),
        }
    }

    /// What of it is not as it has to be.
    fn check(&self) -> Result<(), String> {
        let expect = |good: bool, what: &str, found: &str| {
            if good { Ok(()) } else { Err(format!("expected {what}, found {found:?}")) }
        };
        expect(self.version == Self::VERSION, "version 1", &self.version.to_string())?;
        for name in [&self.name, &self.project, &self.plan] {
            expect(api::is_name(name), "a name", name)?;
        }
        for host in [&self.domain, &self.config_domain] {
            expect(api::is_host(host), "a host name in lower case", host)?;
        }
        let origin = wire::origin(&self.backend).map(|target| target.origin()).unwrap_or_default();
        expect(origin == self.backend, "the address of a backend", &self.backend)?;
        expect((1..=1 << 24).contains(&self.size_mb), "a size in MB", &self.size_mb.to_string())?;
        expect(self.router_port != 0, "a port", "0")?;
        if let Some(key) = &self.code_key {
            let good = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
            expect(good, "a code key of 64 hexadecimal digits", "something else")?;
        }
        if let Some(root) = &self.simulated_root {
            expect(api::is_pem(root), "a certificate in PEM", root)?;
        }
        if let Some(pccs) = &self.pccs {
            expect(api::is_url(pccs), "an http or https address", pccs)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("project", &self.project)
            .field("backend", &self.backend)
            .field("fingerprint", &hex::encode(self.fingerprint))
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

/// The contexts of this user.
#[derive(Clone, Debug)]
pub struct Contexts(PathBuf);

impl Contexts {
    /// Those in a directory of this user's, which is made when it is first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Contexts {
        Contexts(directory.into())
    }

    /// Keeps a context; an earlier one of the same app is replaced.
    pub fn save(&self, context: &Context) -> Result<(), Error> {
        let path = self.path(context.id);
        context.check().map_err(|reason| refuse(&path, reason))?;
        private::make_directory(&self.0)?;
        private::write(&path, context, true)
    }

    /// The context of an app, if there is one.
    pub fn load(&self, id: Uuid) -> Result<Option<Context>, Error> {
        let path = self.path(id);
        match read(&path, From::Private)? {
            Some(context) if context.id != id => {
                Err(refuse(&path, format!("expected the app {id}, found {}", context.id)))
            }
            found => Ok(found),
        }
    }

    /// All of them, oldest first. One that cannot be read is an error, which names its file.
    pub fn list(&self) -> Result<Vec<Context>, Error> {
        let mut all = Vec::new();
        for id in self.ids()? {
            // Another command may have removed it since.
            all.extend(self.load(id)?);
        }
        all.sort_by_key(|context| (context.created_at, context.id));
        Ok(all)
    }

    /// Forgets an app, code key and all; whether there was one.
    pub fn remove(&self, id: Uuid) -> Result<bool, Error> {
        private::remove(&self.path(id))
    }

    /// Forgets all, those too that cannot be read; how many there were.
    pub fn purge(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for id in self.ids()? {
            removed += usize::from(self.remove(id)?);
        }
        Ok(removed)
    }

    /// The identifier alone makes the name.
    fn path(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("{}.json", id.hyphenated()))
    }

    fn ids(&self) -> Result<Vec<Uuid>, Error> {
        let list = |source| Error::file("list", &self.0, source);
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(list(source)),
        };
        let mut ids = Vec::new();
        for entry in entries.take(MOST) {
            let name = entry.map_err(list)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<Uuid>().ok());
            // A name in another form than this one writes is not of ours.
            ids.extend(id.filter(|id| self.path(*id).file_name() == Some(&*name)));
        }
        ids.sort();
        Ok(ids)
    }
}

fn read(path: &Path, from: From) -> Result<Option<Context>, Error> {
    let Some(context) = private::read::<Context>(path, WHAT, from)? else { return Ok(None) };
    context.check().map_err(|reason| refuse(path, reason))?;
    Ok(Some(context))
}

fn refuse(path: &Path, reason: String) -> Error {
    Error::BackendFile { what: WHAT, path: path.to_owned(), reason }
}
