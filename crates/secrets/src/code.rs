//! The code cipher.
use crate::Error;
use std::io::{Read, Write};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
/// The key of one encrypted code archive: 32 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CodeKey([u8; 32]);
impl CodeKey {
    /// A fresh random key.
    pub fn generate() -> Result<CodeKey, Error> {
        todo!()
    }
    /// From 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> CodeKey {
        CodeKey(bytes)
    }
    /// From 64 hex digits.
    pub fn from_hex(_: &str) -> Result<CodeKey, Error> {
        todo!()
    }
    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        todo!()
    }
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
/// Encrypts.
pub fn encrypt(_: &CodeKey, _: impl Read, _: impl Write) -> Result<(), Error> {
    todo!()
}
/// Decrypts.
pub fn decrypt(_: &CodeKey, _: impl Read, _: impl Write) -> Result<(), Error> {
    todo!()
}
