//! Sealing keys from what a platform keeps: HKDF-SHA256 (RFC 5869) without salt.

use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// 32 bytes that follow from `secret` for the purpose that `info`, all of it in order, names.
pub(crate) fn derive(secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let expanded = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let filled = expanded.expand(info, HKDF_SHA256).and_then(|material| material.fill(&mut *key));
    // Only more than 255 hashes of output can fail; this is one.
    debug_assert!(filled.is_ok());
    key
}

#[cfg(test)]
mod tests {
    use super::derive;

    /// RFC 5869, A.3: zero-length salt and info, the first 32 bytes.
    #[test]
    fn the_vector_of_the_standard() {
        let expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d";
        assert_eq!(hex::encode(*derive(&[0x0b; 22], &[])), expected);
    }

    #[test]
    fn secret_and_purpose_both_count() {
        let key = derive(b"secret", &[b"purpose", b"x"]);
        assert_ne!(key, derive(b"Secret", &[b"purpose", b"x"]));
        assert_ne!(key, derive(b"secret", &[b"purpose", b"y"]));
    }
}
