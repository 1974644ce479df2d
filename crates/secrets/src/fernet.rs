//! Fernet tokens.
use crate::Error;
use zeroize::Zeroizing;
/// A fresh key.
pub fn generate_key() -> Zeroizing<String> {
    todo!()
}
/// Encrypts.
pub fn encrypt(_key: &str, _plaintext: &[u8]) -> Result<String, Error> {
    todo!()
}
/// Decrypts.
pub fn decrypt(_key: &str, _token: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    todo!()
}
