//! A simulated enclave.
use super::Installation;
use crate::{Error, Kind, Platform};
use std::path::Path;
use zeroize::Zeroizing;

/// A simulated enclave.
#[derive(Debug)]
pub struct Enclave {}

impl Enclave {
    /// Loads an enclave as Gramine's loader and the processor would; `file:/x` of the manifest is `root/x`.
    ///
    /// # Errors
    /// [`Error::NotSignedForThis`], [`Error::TrustedFile`], [`Error::Manifest`], [`Error::Gramine`], [`Error::Io`].
    pub fn load(
        installation: &Installation,
        manifest: &[u8],
        libpal: &[u8],
        sigstruct: &[u8],
        root: &Path,
    ) -> Result<Self, Error> {
        let _ = (installation, manifest, libpal, sigstruct, root);
        todo!()
    }
}

impl Platform for Enclave {
    fn kind(&self) -> Kind {
        Kind::Simulated
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
