//! One instance: its identity, its evidence, and its configuration, which is accepted whole or not at all.
//!
//! The order of a configuration: the id; then everything that can be judged in memory (secrets that unseal, a private
//! key that matches); then the code, which is unpacked into an empty directory that nobody reads yet; last the sealed
//! state, whose atomic write is the moment of acceptance. Any failure before it empties the directory again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attestation::ratls::Claims;
use package::config::{CodeForm, NodeConfig, TlsMode};
use package::instance::Instance;
use platform::Platform;
use zeroize::Zeroizing;

use crate::evidence::Queue;
use crate::identity::Identity;
use crate::places::{self, Places, write_atomically};
use crate::request::Request;
use crate::served::OwnerCertificate;
use crate::state::{Configuration, Store};
use crate::{Error, Refusal, Result, code, journal};

/// What a node is made of.
pub struct Setup {
    /// What quotes and seals.
    pub platform: Arc<dyn Platform>,
    /// What the node was measured with.
    pub config: NodeConfig,
    /// What the operator chose.
    pub instance: Instance,
    /// Where its files live.
    pub places: Places,
}

/// One instance of an application.
pub struct Node {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) quotes: Queue,
    config: NodeConfig,
    places: Places,
    /// Whether the measured image holds the application's top module: then the code archive need not.
    module_installed: bool,
    store: Store,
    identity: Identity,
    /// Held while a configuration is judged and applied: one at a time.
    applying: Mutex<()>,
    /// Held for a moment only, so that evidence never waits for a configuration.
    accepted: Mutex<Accepted>,
}

#[derive(Default)]
struct Accepted {
    configuration: Option<Configuration>,
    /// Whether code and secrets lie in their places, in this process.
    in_place: bool,
}

/// The certificate to serve and its key, as files for a server that takes no others: 0600, memory-backed.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What is needed to start the application.
#[derive(Debug, Clone)]
pub struct Application {
    /// `module:variable`, or `module:factory()`.
    pub application: String,
    /// Where its code is.
    pub module_path: PathBuf,
    /// The variables that it finds in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Whether the code is encrypted on the host, so that no line of it belongs in the log.
    pub confidential: bool,
}

impl Node {
    /// Finds the identity of the last run, or makes one. A state that does not open is set aside; unless an older one
    /// opens again, a new identity waits for a configuration.
    pub fn open(setup: Setup) -> Result<Node> {
        let Setup { platform, config, instance, places } = setup;
        places.prepare()?;
        places.clear()?;
        let store = Store::new(places.state.clone(), platform.sealing_key()?, instance.app_id);
        let (identity, configuration) = match store.find()? {
            Some(state) => state,
            None => {
                let identity = Identity::create(&instance, &config, platform.as_ref())?;
                store.save(&identity, None)?;
                (identity, None)
            }
        };
        let accepted = Mutex::new(Accepted { configuration, in_place: false });
        Ok(Node {
            platform,
            quotes: Queue::default(),
            config,
            places,
            module_installed: false,
            store,
            identity,
            applying: Mutex::default(),
            accepted,
        })
    }

    /// The same node, which does not look for the application's module in the code archive where the measured image
    /// holds the module's top package.
    #[must_use]
    pub fn with_module_installed(self, module_installed: bool) -> Node {
        Node { module_installed, ..self }
    }

    /// The RA-TLS certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.identity.certificate
    }

    /// Whether a configuration was accepted, in this run or an earlier one.
    pub fn is_configured(&self) -> bool {
        self.accepted().configuration.is_some()
    }

    /// Judges the body of a configuration and applies it. On a refusal nothing has changed, neither in memory nor on
    /// disk.
    pub fn configure(&self, body: &[u8]) -> Result<(), Refusal> {
        let request = Request::parse(body)?;
        request.check_id(self.identity.app_id)?;
        let outcome = self.judge_and_apply(&request);
        match &outcome {
            Ok(()) => journal::note("the configuration is accepted"),
            Err(refusal) => journal::note(&format!("a configuration is refused: {}", refusal.kind())),
        }
        outcome
    }

    fn judge_and_apply(&self, request: &Request) -> Result<(), Refusal> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_configured() {
            return Err(Refusal::Configured);
        }
        let configuration = self.judge(request)?;
        let applied = self.put_in_place(&configuration).and_then(|()| {
            self.store.save(&self.identity, Some(&configuration)).map_err(|error| internal(&error))
        });
        if let Err(refusal) = applied {
            if let Err(error) = self.places.clear() {
                journal::note(&error.to_string());
            }
            return Err(refusal);
        }
        *self.accepted() = Accepted { configuration: Some(configuration), in_place: true };
        Ok(())
    }

    /// What can be judged without touching a file.
    fn judge(&self, request: &Request) -> Result<Configuration, Refusal> {
        let sealed = match request.sealed()? {
            None => secrets::seal::Payload::default(),
            Some(sealed) => {
                let (fingerprint, app_id) = (self.platform.mrenclave(), self.identity.app_id);
                let opened = self.identity.sealing_key.open(&fingerprint, app_id.as_bytes(), &sealed);
                opened.map_err(|_| Refusal::SealedSecrets)?
            }
        };
        if self.config.sealed_secrets_required && sealed.secrets.is_none() {
            return Err(Refusal::SealedSecretsMissing);
        }
        if sealed.secrets.as_ref().is_some_and(|text| !is_object(text)) {
            return Err(Refusal::SecretsForm("sealed secrets"));
        }
        let code_key = match (request.code_key()?, sealed.code_key) {
            (Some(one), Some(other)) if one.as_bytes() != other.as_bytes() => {
                return Err(Refusal::CodeKeysDiffer);
            }
            (one, other) => one.or(other),
        };
        match (self.config.code, &code_key) {
            (CodeForm::Encrypted, None) => return Err(Refusal::CodeKeyMissing),
            (CodeForm::Plain, Some(_)) => return Err(Refusal::CodeKeyUnexpected),
            _ => {}
        }
        let certificate = match (self.config.tls_mode, &request.ssl_certificate, &request.ssl_private_key) {
            (TlsMode::OwnerCertificate, Some(chain), Some(key)) => {
                Some(OwnerCertificate::from_pem(chain, key)?)
            }
            (TlsMode::OwnerCertificate, ..) => return Err(Refusal::CertificateMissing),
            (_, None, None) => None,
            _ => return Err(Refusal::CertificateUnexpected),
        };
        Ok(Configuration {
            code_key,
            secrets: request.secrets()?,
            sealed_secrets: sealed.secrets,
            certificate,
        })
    }

    /// Unpacks the code and writes the secrets, into places that were cleared.
    fn put_in_place(&self, configuration: &Configuration) -> Result<(), Refusal> {
        let Places { archive, module, .. } = &self.places;
        self.places.clear().map_err(|error| internal(&error))?;
        code::unpack(archive, configuration.code_key.as_ref(), module)?;
        if !self.module_installed {
            code::check_module(module, &self.config.application)?;
        }
        let files = [
            (self.places.secrets(), &configuration.secrets),
            (self.places.sealed_secrets(), &configuration.sealed_secrets),
        ];
        for (path, content) in files {
            if let Some(content) = content {
                write_atomically(&path, content).map_err(|error| internal(&error))?;
            }
        }
        Ok(())
    }

    /// Prepares everything that the application needs, after a configuration was accepted in this run or an earlier
    /// one.
    pub fn prepare(&self) -> Result<Application> {
        let mut accepted = self.accepted();
        let configuration = accepted.configuration.as_ref().ok_or(Error::ServerEnded)?;
        if !accepted.in_place {
            self.put_in_place(configuration).map_err(|refusal| Error::Prepare(refusal.to_string()))?;
            accepted.in_place = true;
        }
        Ok(Application {
            application: self.config.application.clone(),
            module_path: self.places.module.clone(),
            environment: vec![
                ("HOME", self.places.home.clone()),
                ("TMP_PATH", self.places.tmp.clone()),
                ("TMPDIR", self.places.tmp.clone()),
                ("KEY_PATH", self.places.key.clone()),
                ("SECRETS_PATH", self.places.secrets()),
                ("SEALED_SECRETS_PATH", self.places.sealed_secrets()),
                ("MODULE_PATH", self.places.module.clone()),
            ],
            confidential: self.config.code == CodeForm::Encrypted,
        })
    }

    /// Writes the certificate that the application serves, and its private key: the owner's where the TLS mode says
    /// so, else the node's own. Call [`Node::forget_tls_files`] once they were read.
    pub fn write_tls_files(&self) -> Result<TlsFiles> {
        let accepted = self.accepted();
        let configuration = accepted.configuration.as_ref().ok_or(Error::ServerEnded)?;
        let (chain, private) = match &configuration.certificate {
            Some(owner) => (owner.chain_pem().to_owned(), Zeroizing::new(owner.key_pem().to_owned())),
            None => (
                pem("CERTIFICATE", &self.identity.certificate)?.to_string(),
                pem("PRIVATE KEY", &self.identity.tls_key)?,
            ),
        };
        let files = TlsFiles { certificate: self.places.tls_certificate(), key: self.places.tls_key() };
        write_atomically(&files.certificate, chain.as_bytes())?;
        write_atomically(&files.key, private.as_bytes())?;
        Ok(files)
    }

    /// Removes the files which [`Node::write_tls_files`] wrote.
    pub fn forget_tls_files(&self) -> Result<()> {
        places::remove(&self.places.tls_certificate())?;
        places::remove(&self.places.tls_key())
    }

    /// What the node claims now; in the owner's certificate mode that includes the key it serves.
    pub(crate) fn claims(&self, nonce: Option<Vec<u8>>) -> Claims {
        let accepted = self.accepted();
        let owner = accepted.configuration.as_ref().and_then(|given| given.certificate.as_ref());
        self.identity.claims(self.config.tls_mode, nonce, owner.map(OwnerCertificate::spki))
    }

    pub(crate) fn tls_config(&self) -> Result<rustls::ServerConfig> {
        self.identity.tls_config()
    }

    fn accepted(&self) -> MutexGuard<'_, Accepted> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("app_id", &self.identity.app_id).finish_non_exhaustive()
    }
}

fn internal(error: &Error) -> Refusal {
    journal::note(&error.to_string());
    Refusal::Internal
}

fn is_object(json: &[u8]) -> bool {
    let read: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(json);
    read.is_ok_and(|value| value.get().starts_with('{'))
}

fn pem(label: &str, der: &[u8]) -> Result<Zeroizing<String>> {
    let text = pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der);
    text.map(Zeroizing::new).map_err(|e| Error::Tls(e.to_string()))
}
