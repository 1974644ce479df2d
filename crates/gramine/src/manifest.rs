//! Reading a Gramine manifest.
use crate::Error;
use std::collections::BTreeMap;
/// What the manifest says about a CPU feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuFeature {
    /// Left to the machine.
    Unspecified,
    /// Must be off.
    Disabled,
    /// Must be there.
    Required,
}
/// `sgx.cpu_features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuFeatures {
    /// avx
    pub avx: CpuFeature,
    /// avx512
    pub avx512: CpuFeature,
    /// amx
    pub amx: CpuFeature,
    /// mpx
    pub mpx: CpuFeature,
    /// pkru
    pub pkru: CpuFeature,
}
/// `sgx.remote_attestation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAttestation {
    /// none
    None,
    /// dcap
    Dcap,
}
/// The part of a manifest that shapes the enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnclaveSettings {
    /// bytes
    pub enclave_size: u64,
    /// threads
    pub max_threads: u32,
    /// debug
    pub debug: bool,
    /// edmm
    pub edmm_enable: bool,
    /// exinfo
    pub use_exinfo: bool,
    /// features
    pub cpu_features: CpuFeatures,
    /// prod id
    pub isv_prod_id: u16,
    /// svn
    pub isv_svn: u16,
    /// ra
    pub remote_attestation: RemoteAttestation,
}
/// One entry of `sgx.trusted_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedFile {
    /// `file:...`, as written
    pub uri: String,
    /// SHA-256 of the content
    pub sha256: [u8; 32],
}
/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `[sgx]`
    pub sgx: EnclaveSettings,
    /// `sgx.trusted_files`, in order
    pub trusted_files: Vec<TrustedFile>,
    /// `loader.env`
    pub env: BTreeMap<String, String>,
    /// `loader.argv`
    pub argv: Vec<String>,
}
impl Manifest {
    /// Reads a manifest.
    pub fn parse(manifest: &[u8]) -> Result<Manifest, Error> {
        let _ = manifest;
        todo!()
    }
}
impl EnclaveSettings {
    /// Reads only the settings.
    pub fn parse(manifest: &[u8]) -> Result<EnclaveSettings, Error> {
        let _ = manifest;
        todo!()
    }
}
