//! The directory of records.
//!
//! ```text
//! key                               32 random bytes, mode 0600: signs everything else
//! verify-<SHA-256 of the certificate>.json
//! spawned-<node>.json
//! deployed-<app id>.json            of an app on a backend; its origin says whether it was verified
//! nonce-<hex>.json                  a nonce of this verifier's, and when it was issued
//! ```
//!
//! Each file is JSON `{"mac": hex, "record": {...}}`; the MAC is HMAC-SHA256 (RFC 2104) under `key` over the
//! kind, a NUL, the file's name, a NUL, and the bytes of the inner object as they stand in the file.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use attestation::ratls::{NONCE_BYTES, RatlsCertificate, TlsMode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::records::{Origin, Record};

const RECORD: &str = "MSE record, version 1";
const NONCE: &str = "MSE nonce, version 1";
const KEY_FILE: &str = "key";
/// No file of ours is longer, in bytes.
const LONGEST: u64 = 256 * 1024;

/// Records of verification in a directory of this user's.
pub struct Store {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

/// A file: the signature, and the signed bytes as they stand.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed<'a> {
    mac: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// A record in its only form: these fields, in this order, without blanks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Canonical {
    origin: String,
    node: Option<String>,
    certificate: String,
    spki_sha256: String,
    fingerprint: String,
    app_id: Uuid,
    sealing_key: String,
    tls_mode: String,
    served_spki: Option<String>,
    simulated: bool,
    tcb_status: String,
    policy: String,
    judged_at: Timestamp,
    valid_until: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuedNonce {
    nonce: String,
    issued_at: Timestamp,
}

impl Store {
    /// Opens the store, and makes it on first use.
    pub fn open(directory: &Path) -> Result<Store, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| Error::file("make the directory", directory, source))?;
        let path = directory.join(KEY_FILE);
        let key = match read_key(&path)? {
            Some(key) => key,
            None => make_key(directory, &path)?,
        };
        Ok(Store { directory: directory.to_owned(), key })
    }

    /// Keeps a record; replaces an older one of the same enclave (or node) and origin.
    pub fn save(&self, record: &Record) -> Result<(), Error> {
        let name = file_name(record.origin, record.node.as_deref(), &record.certificate)?;
        self.write(RECORD, &name, &Canonical::from(record))
    }

    /// The record of the enclave with this RA-TLS certificate (DER): one made by `verify`, else one of a node
    /// that was spawned here, or of an app that was verified when it was deployed.
    pub fn by_certificate(&self, certificate: &[u8]) -> Result<Option<Record>, Error> {
        let name = file_name(Origin::Verify, None, certificate)?;
        if let Some(record) = self.read_record(&name)? {
            return Ok(Some(record));
        }
        for name in self.named()? {
            match self.read_record(&name)? {
                Some(record) if record.certificate == certificate && record.origin != Origin::Unverified => {
                    return Ok(Some(record));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The record of the node of this name, spawned here.
    pub fn by_node(&self, node: &str) -> Result<Option<Record>, Error> {
        self.read_record(&file_name(Origin::SpawnedHere, Some(node), &[])?)
    }

    /// Forgets the node of this name.
    pub fn forget_node(&self, node: &str) -> Result<(), Error> {
        self.forget(&file_name(Origin::SpawnedHere, Some(node), &[])?)
    }

    /// The record of an app that was deployed.
    pub fn by_deployment(&self, app: Uuid) -> Result<Option<Record>, Error> {
        self.read_record(&file_name(Origin::Deployed, Some(&app.to_string()), &[])?)
    }

    /// Forgets an app that was deployed.
    pub fn forget_deployment(&self, app: Uuid) -> Result<(), Error> {
        self.forget(&file_name(Origin::Deployed, Some(&app.to_string()), &[])?)
    }

    /// Withdraws what `verify` found of the enclave with this RA-TLS certificate (DER): it was judged again, and refused.
    pub fn withdraw(&self, certificate: &[u8]) -> Result<(), Error> {
        self.forget(&file_name(Origin::Verify, None, certificate)?)
    }

    fn forget(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::file("remove", &path, source)),
            _ => Ok(()),
        }
    }

    /// A fresh nonce of 32 bytes, and a note of when it was issued: evidence over it cannot be older.
    pub fn issue_nonce(&self, now: Timestamp) -> Result<[u8; 32], Error> {
        let nonce = random()?;
        self.note_nonce(&*nonce, now)?;
        Ok(*nonce)
    }

    /// Notes that a nonce of the caller's own making is handed out now.
    pub fn note_nonce(&self, nonce: &[u8], now: Timestamp) -> Result<(), Error> {
        let name =
            nonce_name(nonce).ok_or_else(|| Error::Configuration("a nonce has 16 to 64 bytes".to_owned()))?;
        if self.nonce_issued_at(nonce)?.is_some() {
            // The first time counts.
            return Ok(());
        }
        self.write(NONCE, &name, &IssuedNonce { nonce: hex::encode(nonce), issued_at: now })
    }

    /// When this store issued a nonce; `None` for one that it did not issue.
    pub fn nonce_issued_at(&self, nonce: &[u8]) -> Result<Option<Timestamp>, Error> {
        let Some(name) = nonce_name(nonce) else { return Ok(None) };
        let Some(issued) = self.read::<IssuedNonce>(NONCE, &name)? else { return Ok(None) };
        if issued.nonce != hex::encode(nonce) {
            return Err(self.not_a_record(&name, "it is about another nonce"));
        }
        Ok(Some(issued.issued_at))
    }

    fn read_record(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(canonical) = self.read::<Canonical>(RECORD, name)? else { return Ok(None) };
        let record = canonical.into_record().map_err(|reason| self.not_a_record(name, reason))?;
        if file_name(record.origin, record.node.as_deref(), &record.certificate)? != name {
            return Err(self.not_a_record(name, "it is about another enclave than its name says"));
        }
        Ok(Some(record))
    }

    /// The files of nodes and apps that have a name.
    fn named(&self) -> Result<Vec<String>, Error> {
        let list = |source| Error::file("list", &self.directory, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            if let Some(name) = name.to_str()
                && (name.starts_with("spawned-") || name.starts_with("deployed-"))
                && name.ends_with(".json")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn write(&self, kind: &str, name: &str, content: &impl Serialize) -> Result<(), Error> {
        let path = self.directory.join(name);
        let write = || {
            let record = serde_json::value::to_raw_value(content)?;
            let mac = self.mac(kind, name, record.get()).finalize().into_bytes();
            let mut file = NamedTempFile::new_in(&self.directory)?;
            serde_json::to_writer(&mut file, &Signed { mac: hex::encode(mac), record: &record })?;
            file.write_all(b"\n")?;
            file.as_file().sync_data()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| Error::file("write", &path, source))
    }

    fn read<T: Serialize + DeserializeOwned>(&self, kind: &str, name: &str) -> Result<Option<T>, Error> {
        let path = self.directory.join(name);
        let bytes = match outside::files::read(&path, LONGEST) {
            Ok(bytes) => bytes,
            Err(source) => match source.kind() {
                ErrorKind::NotFound => return Ok(None),
                ErrorKind::FileTooLarge => return Err(self.not_a_record(name, "it is too long")),
                _ => return Err(Error::file("read", &path, source)),
            },
        };
        let signed: Signed<'_> = serde_json::from_slice(&bytes)
            .map_err(|_| self.not_a_record(name, "it has not the form of one"))?;
        let mac = hex::decode(&signed.mac).unwrap_or_default();
        if self.mac(kind, name, signed.record.get()).verify_slice(&mac).is_err() {
            let reason = "its signature is not this store's; it was changed, or comes from elsewhere";
            return Err(self.not_a_record(name, reason));
        }
        let content: T = serde_json::from_str(signed.record.get())
            .map_err(|error| self.not_a_record(name, format!("another version wrote it: {error}")))?;
        if serde_json::to_string(&content).ok().as_deref() != Some(signed.record.get()) {
            return Err(self.not_a_record(name, "it is not in canonical form"));
        }
        Ok(Some(content))
    }

    fn mac(&self, kind: &str, name: &str, record: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*self.key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        for part in [kind, "\0", name, "\0", record] {
            mac.update(part.as_bytes());
        }
        mac
    }

    fn not_a_record(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::NotARecord { path: self.directory.join(name), reason: reason.into() }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl From<&Record> for Canonical {
    fn from(record: &Record) -> Canonical {
        Canonical {
            origin: record.origin.as_str().to_owned(),
            node: record.node.clone(),
            certificate: BASE64_STANDARD.encode(&record.certificate),
            spki_sha256: hex::encode(record.spki_sha256),
            fingerprint: hex::encode(record.fingerprint),
            app_id: Uuid::from_bytes(record.app_id),
            sealing_key: BASE64_STANDARD.encode(&record.sealing_key),
            tls_mode: record.tls_mode.as_str().to_owned(),
            served_spki: record.served_spki.map(hex::encode),
            simulated: record.simulated,
            tcb_status: record.tcb_status.clone(),
            policy: record.policy.clone(),
            judged_at: record.judged_at,
            valid_until: record.valid_until,
        }
    }
}

impl Canonical {
    /// The signature says that this store wrote it; this says that it is whole.
    fn into_record(self) -> Result<Record, &'static str> {
        let origins = [Origin::Verify, Origin::SpawnedHere, Origin::Deployed, Origin::Unverified];
        let modes = [TlsMode::RaTls, TlsMode::OwnerCertificate, TlsMode::OperatorCertificate];
        let certificate =
            BASE64_STANDARD.decode(&self.certificate).map_err(|_| "its certificate is damaged")?;
        let parsed = RatlsCertificate::parse(&certificate).map_err(|_| "its certificate is malformed")?;
        let hash = |text: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).map(|()| bytes).map_err(|_| "a hash in it is damaged")
        };
        let spki_sha256 = hash(&self.spki_sha256)?;
        if parsed.spki_sha256 != spki_sha256 {
            return Err("its key is not that of its certificate");
        }
        Ok(Record {
            origin: *origins.iter().find(|o| o.as_str() == self.origin).ok_or("its origin is unknown")?,
            node: self.node,
            certificate,
            certificate_until: parsed.not_after,
            spki_sha256,
            fingerprint: hash(&self.fingerprint)?,
            app_id: self.app_id.into_bytes(),
            sealing_key: BASE64_STANDARD
                .decode(&self.sealing_key)
                .map_err(|_| "its sealing key is damaged")?,
            tls_mode: *modes.iter().find(|m| m.as_str() == self.tls_mode).ok_or("its TLS mode is unknown")?,
            served_spki: self.served_spki.as_deref().map(hash).transpose()?,
            simulated: self.simulated,
            tcb_status: self.tcb_status,
            policy: self.policy,
            judged_at: self.judged_at,
            valid_until: self.valid_until,
        })
    }
}

fn file_name(origin: Origin, node: Option<&str>, certificate: &[u8]) -> Result<String, Error> {
    let kind = match origin {
        Origin::Verify => {
            return Ok(format!("verify-{}.json", hex::encode(Sha256::digest(certificate))));
        }
        Origin::SpawnedHere => "spawned",
        Origin::Deployed | Origin::Unverified => "deployed",
    };
    let node = node.ok_or_else(|| Error::Configuration(format!("a record of kind {kind} has a name")))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if node.is_empty() || node.len() > 128 || !node.chars().all(plain) {
        return Err(Error::Configuration(format!("'{}' is no name of a node", node.escape_debug())));
    }
    Ok(format!("{kind}-{node}.json"))
}

fn nonce_name(nonce: &[u8]) -> Option<String> {
    NONCE_BYTES.contains(&nonce.len()).then(|| format!("nonce-{}.json", hex::encode(nonce)))
}

fn random() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Error::System { what: "random bytes", reason: error.to_string() })?;
    Ok(bytes)
}

/// Reads the key; `None` where there is none yet.
fn read_key(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
    let refuse = |reason: String| Error::RecordKey { path: path.to_owned(), reason };
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = match outside::files::open_with(path, no_link) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error.to_string())),
    };
    let found = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !found.is_file() || found.len() != 32 {
        return Err(refuse(format!("expected a file of 32 bytes, found {} bytes", found.len())));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(refuse(format!("expected a file of this user's, found one of user {}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "expected mode 0600, found {:04o}: others may know it",
            found.mode() & 0o7777
        )));
    }
    let mut key = Zeroizing::new([0; 32]);
    file.read_exact(&mut *key).map_err(|error| refuse(error.to_string()))?;
    Ok(Some(key))
}

/// Makes the key; where another command was faster, takes that one's.
fn make_key(directory: &Path, path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let refuse = |reason: String| Error::RecordKey { path: path.to_owned(), reason };
    let key = random()?;
    // Temporary files have mode 0600 from the start.
    let mut file = NamedTempFile::new_in(directory).map_err(|error| refuse(error.to_string()))?;
    file.write_all(&*key).map_err(|error| refuse(error.to_string()))?;
    file.as_file().sync_data().map_err(|error| refuse(error.to_string()))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            read_key(path)?.ok_or_else(|| refuse("it vanished".to_owned()))
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}
