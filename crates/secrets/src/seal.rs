//! Sealing to an enclave.
use crate::{Error, code::CodeKey};
use zeroize::Zeroizing;
/// The enclave's private sealing key.
pub struct SealingKey(Zeroizing<[u8; 32]>);
/// The public half, 1216 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingPublicKey(Vec<u8>);
/// For whom something is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// MRENCLAVE
    pub fingerprint: [u8; 32],
    /// app id
    pub app_id: [u8; 16],
    /// key
    pub key: SealingPublicKey,
}
/// What is sealed.
#[derive(Default)]
pub struct Payload {
    /// JSON object
    pub secrets: Option<Zeroizing<Vec<u8>>>,
    /// the code key
    pub code_key: Option<CodeKey>,
}
impl SealingPublicKey {
    /// From 1216 bytes.
    pub fn from_bytes(_: &[u8]) -> Result<SealingPublicKey, Error> {
        todo!()
    }
    /// 1216 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
impl SealingKey {
    /// Fresh.
    pub fn generate() -> Result<SealingKey, Error> {
        todo!()
    }
    /// From an X-Wing seed.
    pub fn from_bytes(seed: [u8; 32]) -> SealingKey {
        SealingKey(Zeroizing::new(seed))
    }
    /// The seed.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }
    /// The public half.
    pub fn public(&self) -> SealingPublicKey {
        todo!()
    }
    /// Opens.
    pub fn open(
        &self,
        _fingerprint: &[u8; 32],
        _app_id: &[u8; 16],
        _sealed: &[u8],
    ) -> Result<Payload, Error> {
        todo!()
    }
}
/// Seals.
pub fn seal(_: &Recipient, _: &Payload) -> Result<Vec<u8>, Error> {
    todo!()
}
