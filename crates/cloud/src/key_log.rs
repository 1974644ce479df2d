//! The session keys of users whose TLS ends at the public port, for those who look for a fault: in the format of NSS key
//! logs (draft-ietf-tls-keylogfile), which packet analysers read. Nothing of a connection that passes through is in it.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustls::KeyLog;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A key log in a file, mode 0600.
pub struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    /// Appends to the file at `path`.
    pub fn open(path: &Path) -> Result<KeyLogFile> {
        let file = File::options().create(true).append(true).mode(0o600).open(path);
        Ok(KeyLogFile(Mutex::new(file.map_err(Error::file("open", path))?)))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let secret = Zeroizing::new(hex::encode(secret));
        let line = Zeroizing::new(format!("{label} {} {}\n", hex::encode(client_random), *secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the key log cannot be written");
        }
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLogFile").finish_non_exhaustive()
    }
}
