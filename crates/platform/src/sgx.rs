//! A real enclave, asked through the files that Gramine offers inside it.
//!
//! Format: Gramine's documentation, "Attestation and Secret Provisioning", "Low-level /dev/attestation interface":
//!
//! ```text
//! attestation_type       "dcap" where sgx.remote_attestation = "dcap" in the manifest
//! my_target_info         TARGETINFO of this enclave, 512 bytes (Intel SDM, volume 3D); it starts with MRENCLAVE
//! user_report_data       write 64 bytes, then
//! quote                  read a quote whose report carries them
//! keys/_sgx_mrenclave    16 bytes: EGETKEY's seal key by MRENCLAVE; there only where a mount of the manifest names the key
//! ```
//!
//! Trust: Gramine is inside the enclave; the host that carries messages to the quoting enclave is not. What comes back is
//! therefore checked for being about this enclave and these 64 bytes; whether it is signed is for the verifier to see.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use attestation::quote::{MAX_LEN, Quote};
use zeroize::Zeroizing;

use crate::{Error, Kind, Platform, sealing};

/// Where Gramine offers attestation inside an enclave.
pub const DEVICE: &str = "/dev/attestation";

/// Length of a TARGETINFO, in bytes.
const TARGET_INFO_LEN: usize = 512;
/// Length of EGETKEY's keys, in bytes.
const KEY_LEN: usize = 16;
const SEALING_INFO: &[u8] = b"MSE SGX sealing key v1";

/// The two files around a quote are one state of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The enclave that this process runs in.
#[derive(Debug)]
pub struct Gramine {
    directory: PathBuf,
    mrenclave: [u8; 32],
}

impl Gramine {
    /// Looks at `directory`, which is [`DEVICE`] but in tests.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no enclave, or one that cannot make DCAP quotes; [`Error::Io`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("attestation_type");
        let expected =
            "\"dcap\", which an SGX enclave has with sgx.remote_attestation = \"dcap\" in its manifest";
        let found = read(&path, 16, expected)?;
        if found.trim_ascii() != b"dcap" {
            return Err(device(&path, expected, format!("\"{}\"", found.escape_ascii())));
        }
        let path = directory.join("my_target_info");
        let expected = "the 512 bytes of a TARGETINFO";
        let target_info = read(&path, TARGET_INFO_LEN, expected)?;
        match target_info.first_chunk() {
            Some(mrenclave) if target_info.len() == TARGET_INFO_LEN => {
                Ok(Self { directory: directory.to_owned(), mrenclave: *mrenclave })
            }
            _ => Err(device(&path, expected, format!("{} bytes", target_info.len()))),
        }
    }
}

impl Platform for Gramine {
    fn kind(&self) -> Kind {
        Kind::Sgx
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, Error> {
        let request = self.directory.join("user_report_data");
        let path = self.directory.join("quote");
        let bytes = {
            let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            // Gramine takes what one call writes for the whole; 64 bytes are never split.
            let opened = OpenOptions::new().write(true).truncate(true).open(&request);
            let written = opened.and_then(|mut file| file.write_all(report_data));
            written.map_err(Error::io("write", &request))?;
            read(&path, MAX_LEN, "a quote from the machine's quoting enclave (is its AESM service running?)")?
        };
        let (quote, left) = Quote::parse_prefix(&bytes)?;
        let about = |what, expected: &[u8], found: &[u8]| match expected == found {
            true => Ok(()),
            false => Err(device(&path, &format!("{what} {}", hex::encode(expected)), hex::encode(found))),
        };
        about("a quote with report data", report_data, &quote.report.report_data)?;
        about("a quote of the enclave", &self.mrenclave, &quote.report.mr_enclave)?;
        // Gramine's buffer may be longer than what the quoting enclave wrote.
        Ok(bytes[..bytes.len() - left].to_vec())
    }

    fn sealing_key(&self) -> Result<Zeroizing<[u8; 32]>, Error> {
        let path = self.directory.join("keys/_sgx_mrenclave");
        let expected = "a key of 16 bytes, which is there where a mount of the manifest has key_name = \"_sgx_mrenclave\"";
        let key = read(&path, KEY_LEN, expected)?;
        if key.len() != KEY_LEN {
            return Err(device(&path, expected, format!("{} bytes", key.len())));
        }
        Ok(sealing::derive(&key, &[SEALING_INFO]))
    }

    fn mrenclave(&self) -> [u8; 32] {
        self.mrenclave
    }
}

/// The content of one of Gramine's files, of which `limit` bytes are the most there can be.
fn read(path: &Path, limit: usize, expected: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(device(path, expected, "no such file".to_owned()));
        }
        opened => opened.map_err(Error::io("open", path))?,
    };
    // Never grown while it is filled: what a key leaves behind would not be cleared.
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let length = read_all(file, &mut bytes).map_err(Error::io("read", path))?;
    if length > limit {
        return Err(device(path, expected, format!("more than {limit} bytes")));
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Fills `buffer` as far as there is something to read.
fn read_all(mut from: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn device(path: &Path, expected: &str, found: String) -> Error {
    Error::Device { path: path.to_owned(), expected: expected.to_owned(), found }
}
