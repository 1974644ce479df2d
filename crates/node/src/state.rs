//! The sealed state: one small file on the host's disk, without which a restart would need the owner again.
//!
//! Format: JSON (below, [`Stored`]) sealed by `secrets::state` under the platform's MRENCLAVE-bound key, with the
//! app id as context. Identity is written at the first start, the configuration when it is accepted.
//! The host can delete, roll back or copy the file (nothing in an enclave counts reliably); it can neither read nor
//! change it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrets::code::CodeKey;
use secrets::seal::SealingKey;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::identity::Identity;
use crate::places::write_atomically;
use crate::served::OwnerCertificate;
use crate::set_aside::{self, Content};
use crate::{Error, Result, journal};

/// Largest sealed file that is read, in bytes: two sets of secrets within the configuration's limit, and some.
const LIMIT: usize = 32 * 1024 * 1024;
const VERSION: u32 = 1;
const CONTEXT: &[u8] = b"MSE node state";

/// What the owner configured, once accepted.
#[derive(Default)]
pub(crate) struct Configuration {
    pub(crate) code_key: Option<CodeKey>,
    /// The text of `secrets.json`.
    pub(crate) secrets: Option<Zeroizing<Vec<u8>>>,
    /// The text of `sealed_secrets.json`.
    pub(crate) sealed_secrets: Option<Zeroizing<Vec<u8>>>,
    pub(crate) certificate: Option<OwnerCertificate>,
}

/// The file, and the key that seals it.
pub(crate) struct Store {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
    app_id: Uuid,
}

/// What a sealed state holds: an identity, and the configuration once one was accepted.
pub(crate) type State = (Identity, Option<Configuration>);

impl Store {
    pub(crate) fn new(path: PathBuf, key: Zeroizing<[u8; 32]>, app_id: Uuid) -> Store {
        Store { path, key, app_id }
    }

    fn context(&self) -> Vec<u8> {
        [CONTEXT, self.app_id.as_bytes()].concat()
    }

    /// The state of the last run, or the newest of those set aside that opens under today's key; `None` where none
    /// does, and a new identity has to be made. A state that does not open is set aside, so that `save` replaces
    /// nothing. The host chooses every byte here: only what keeps a file from being read at all is an error.
    ///
    /// # Errors
    /// [`Error::SetAside`] where too many are set aside already; [`Error::Io`].
    pub(crate) fn find(&self) -> Result<Option<State>> {
        let missing = match self.open(&self.path)? {
            Ok(Some(state)) => return Ok(Some(state)),
            Ok(None) => true,
            Err(why) => {
                journal::note(&format!("the sealed state does not open: {why}"));
                false
            }
        };
        let older = self.find_set_aside()?;
        if !missing {
            // What opens makes room for it.
            let room = set_aside::LIMIT + usize::from(older.is_some());
            let aside = set_aside::set_aside(&self.path, room)?;
            journal::note(&format!("it is kept as {}, and tried again at each start", file_name(&aside)));
        }
        let Some((path, state)) = older else {
            if !missing {
                journal::note("a new identity is made, which waits for a configuration");
            }
            return Ok(None);
        };
        set_aside::restore(&path, &self.path)?;
        journal::note(&format!("{} opens again: it is the sealed state from now on", file_name(&path)));
        Ok(Some(state))
    }

    /// The newest state set aside that opens. One that cannot be read does not keep the node from starting: it stays
    /// where it is.
    fn find_set_aside(&self) -> Result<Option<(PathBuf, State)>> {
        for path in set_aside::list(&self.path)? {
            match self.open(&path) {
                Ok(Ok(Some(state))) => return Ok(Some((path, state))),
                Ok(Ok(None) | Err(_)) => {}
                Err(error) => journal::note(&format!("a sealed state set aside is passed over: {error}")),
            }
        }
        Ok(None)
    }

    /// Opens one file; `None` if it is not there, or in words why it does not open.
    fn open(&self, path: &Path) -> Result<Result<Option<State>, String>> {
        let sealed = match set_aside::read(path, LIMIT)? {
            Content::Nothing => return Ok(Ok(None)),
            Content::Other(found) => return Ok(Err(format!("expected a file, found {found}"))),
            Content::Bytes(sealed) => sealed,
        };
        let opened = match secrets::state::open(&self.key, &self.context(), &sealed) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(match Stored::read(&opened) {
            Ok(state) if state.0.app_id == self.app_id => Ok(Some(state)),
            Ok(_) => Err("it is another instance's".into()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Writes the whole state, atomically.
    pub(crate) fn save(&self, identity: &Identity, configuration: Option<&Configuration>) -> Result<()> {
        let plain = Stored::of(identity, configuration).to_json();
        let sealed = secrets::state::seal(&self.key, &self.context(), &plain)?;
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        }
        write_atomically(&self.path, &sealed)
    }
}

fn file_name(path: &Path) -> std::path::Display<'_> {
    path.file_name().map_or(path, Path::new).display()
}

/// The JSON form; byte strings are base64 (RFC 4648, 4).
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// 32 hexadecimal digits.
    app_id: String,
    tls_key: String,
    certificate: String,
    sealing_key: String,
    /// Absent until a configuration was accepted.
    configuration: Option<StoredConfiguration>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct StoredConfiguration {
    code_key: Option<String>,
    secrets: Option<String>,
    sealed_secrets: Option<String>,
    /// PEM.
    ssl_certificate: Option<String>,
    /// PEM.
    ssl_private_key: Option<String>,
}

impl Stored {
    fn of(identity: &Identity, configuration: Option<&Configuration>) -> Stored {
        Stored {
            version: VERSION,
            app_id: identity.app_id.simple().to_string(),
            tls_key: STANDARD.encode(&*identity.tls_key),
            certificate: STANDARD.encode(&identity.certificate),
            sealing_key: STANDARD.encode(*identity.sealing_key.to_bytes()),
            configuration: configuration.map(|given| StoredConfiguration {
                code_key: given.code_key.as_ref().map(|key| STANDARD.encode(key.as_bytes())),
                secrets: given.secrets.as_ref().map(|text| STANDARD.encode(text)),
                sealed_secrets: given.sealed_secrets.as_ref().map(|text| STANDARD.encode(text)),
                ssl_certificate: given.certificate.as_ref().map(|pair| pair.chain_pem().to_owned()),
                ssl_private_key: given.certificate.as_ref().map(|pair| pair.key_pem().to_string()),
            }),
        }
    }

    fn to_json(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it at once, so that no copy is left behind by a growing buffer. Escaping at most doubles PEM.
        let inner = self.configuration.as_ref();
        let lengths = inner.map(|given| {
            [
                &given.code_key,
                &given.secrets,
                &given.sealed_secrets,
                &given.ssl_certificate,
                &given.ssl_private_key,
            ]
            .map(|text| text.as_ref().map_or(0, String::len))
        });
        let room = self.tls_key.len() + self.certificate.len() + lengths.map_or(0, |all| all.iter().sum());
        let mut json = Zeroizing::new(Vec::with_capacity(2 * room + 4096));
        let written = serde_json::to_writer(&mut *json, self);
        debug_assert!(written.is_ok(), "strings and a vector");
        json
    }

    fn read(json: &[u8]) -> Result<(Identity, Option<Configuration>)> {
        let stored: Stored = serde_json::from_slice(json)
            .map_err(|e| Error::State(format!("other JSON at line {}, column {}", e.line(), e.column())))?;
        if stored.version != VERSION {
            return Err(Error::State(format!("version {}", stored.version)));
        }
        let app_id =
            Uuid::try_parse(&stored.app_id).map_err(|_| Error::State("a malformed app id".into()))?;
        let seed =
            Zeroizing::new(exactly::<32>(&decode(&stored.sealing_key, "sealing key")?, "sealing key")?);
        let identity = Identity::restore(
            app_id,
            decode(&stored.tls_key, "TLS key")?,
            decode(&stored.certificate, "certificate")?.to_vec(),
            SealingKey::from_bytes(*seed),
        )?;
        let configuration = stored.configuration.as_ref().map(StoredConfiguration::read).transpose()?;
        Ok((identity, configuration))
    }
}

impl StoredConfiguration {
    fn read(&self) -> Result<Configuration> {
        let bytes = |text: &Option<String>, what| text.as_deref().map(|text| decode(text, what)).transpose();
        let code_key = bytes(&self.code_key, "code key")?
            .map(|key| exactly(&key, "code key").map(CodeKey::from_bytes))
            .transpose()?;
        let certificate = match (&self.ssl_certificate, &self.ssl_private_key) {
            (Some(chain), Some(key)) => {
                Some(OwnerCertificate::from_pem(chain, key).map_err(|e| Error::State(e.to_string()))?)
            }
            (None, None) => None,
            _ => return Err(Error::State("a certificate without its key, or the reverse".into())),
        };
        Ok(Configuration {
            code_key,
            secrets: bytes(&self.secrets, "secrets")?,
            sealed_secrets: bytes(&self.sealed_secrets, "sealed secrets")?,
            certificate,
        })
    }
}

fn decode(text: &str, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD.decode(text).map_err(|_| Error::State(format!("a {what} that is not base64")))?;
    Ok(Zeroizing::new(bytes))
}

fn exactly<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::State(format!("a {what} of {} bytes", bytes.len())))
}
