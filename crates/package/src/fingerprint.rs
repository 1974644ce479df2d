//! The fingerprint: the MRENCLAVE that a package must show at a given enclave size.
//!
//! It follows from the manifest's bytes and `libpal.so` alone; the rules are Gramine's, and
//! `gramine::measure` applies them.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The enclave sizes that `package` reports and `spawn` accepts, in MiB.
pub const SIZES: [u64; 7] = [1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// An expected MRENCLAVE, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Measures an enclave: what Gramine's signing tool would put into SIGSTRUCT.
    pub fn measure(manifest: &[u8], libpal: &[u8]) -> Result<Self> {
        gramine::measure::mrenclave(manifest, libpal)
            .map(Fingerprint)
            .map_err(|e| Error::Measure(e.to_string()))
    }

    /// The 32 bytes of MRENCLAVE.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| Error::Package {
            expected: "a fingerprint of 64 hexadecimal digits".into(),
            found: format!("{} characters that are not that", text.len()),
        })?;
        Ok(Fingerprint(bytes))
    }
}

/// Refuses a size that is not in [`SIZES`].
pub fn check_size(size_mb: u64) -> Result<()> {
    if SIZES.contains(&size_mb) { Ok(()) } else { Err(Error::EnclaveSize(size_mb)) }
}
