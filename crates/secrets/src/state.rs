//! Sealed state.
use crate::Error;
use zeroize::Zeroizing;
/// Seals under the platform's key.
pub fn seal(_platform_key: &[u8; 32], _context: &[u8], _plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    todo!()
}
/// Opens.
pub fn open(_platform_key: &[u8; 32], _context: &[u8], _sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    todo!()
}
