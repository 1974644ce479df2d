//! MRENCLAVE.
use crate::Error;
/// The MRENCLAVE.
pub fn mrenclave(manifest: &[u8], libpal: &[u8]) -> Result<[u8; 32], Error> {
    let _ = (manifest, libpal);
    todo!()
}
