//! SGX through Gramine.
use crate::{Error, Kind, Platform};
use std::path::Path;
use zeroize::Zeroizing;

/// Where Gramine offers attestation inside an enclave.
pub const DEVICE: &str = "/dev/attestation";

/// The enclave that this process runs in.
#[derive(Debug)]
pub struct Gramine {}

impl Gramine {
    /// Looks at `directory`, which is [`DEVICE`] but in tests.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no enclave, [`Error::Device`] where it cannot make DCAP quotes.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let _ = directory;
        todo!()
    }
}

impl Platform for Gramine {
    fn kind(&self) -> Kind {
        Kind::Sgx
    }
    fn quote(&self, _report_data: &[u8; 64]) -> Result<Vec<u8>, Error> {
        todo!()
    }
    fn sealing_key(&self) -> Result<Zeroizing<[u8; 32]>, Error> {
        todo!()
    }
    fn mrenclave(&self) -> [u8; 32] {
        todo!()
    }
}
