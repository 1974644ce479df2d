//! An opened package: checked whole, before anything of it is written.

use std::path::Path;

use crate::config::{AppConfig, NodeConfig};
use crate::python::InterpreterRecord;
use crate::{Fingerprint, Result};

/// A package that passed every check.
pub struct Package {
    config: AppConfig,
}

impl Package {
    /// Opens and checks the package at `path`; writes nothing.
    pub fn open(path: &Path) -> Result<Self> {
        let _ = path;
        todo!()
    }
    /// The `mse.toml` inside.
    pub fn config(&self) -> &AppConfig {
        &self.config
    }
    /// The text of that `mse.toml`, as carried.
    pub fn config_toml(&self) -> &str {
        todo!()
    }
    /// What the node is measured with.
    pub fn node_config(&self) -> NodeConfig {
        todo!()
    }
    /// SHA-256 of the package file.
    pub fn sha256(&self) -> [u8; 32] {
        todo!()
    }
    /// Whether the code archive is encrypted.
    pub fn encrypted(&self) -> bool {
        todo!()
    }
    /// The fingerprint at one enclave size (MiB).
    pub fn fingerprint(&self, size_mb: u64) -> Result<Fingerprint> {
        let _ = size_mb;
        todo!()
    }
    /// The fingerprints at all sizes.
    pub fn fingerprints(&self) -> Result<Vec<(u64, Fingerprint)>> {
        todo!()
    }
    /// The bytes of `node.manifest.sgx` at one enclave size (MiB).
    pub fn manifest(&self, size_mb: u64) -> Result<Vec<u8>> {
        let _ = size_mb;
        todo!()
    }
    /// The bytes of `libpal.so`, or of the file that stands in for it.
    pub fn libpal(&self) -> Result<Vec<u8>> {
        todo!()
    }
    /// The interpreter that a natively built image needs; `None` for a container image, which has its own.
    pub fn interpreter(&self) -> Option<&InterpreterRecord> {
        todo!()
    }
    /// Number and bytes of the files that the enclave trusts.
    pub fn trusted_files(&self) -> (usize, u64) {
        todo!()
    }
    /// Unpacks the (natively built) image into `dest`, which must not exist or be empty.
    pub fn extract_image(&self, dest: &Path) -> Result<()> {
        let _ = dest;
        todo!()
    }
    /// Unpacks the tests into `dest`, which must not exist or be empty.
    pub fn extract_tests(&self, dest: &Path) -> Result<()> {
        let _ = dest;
        todo!()
    }
    /// Copies the code archive, as carried, to the file `dest`.
    pub fn copy_code_archive(&self, dest: &Path) -> Result<()> {
        let _ = dest;
        todo!()
    }
}
