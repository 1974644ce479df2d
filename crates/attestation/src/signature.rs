//! ECDSA on P-256 with SHA-256 (FIPS 186-5): the only signatures there are in SGX attestation.
//!
//! Trusts nothing: a key that is not a point of the curve verifies nothing.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// An uncompressed point of P-256: `04 | x | y`.
pub type Point = [u8; 65];

/// The uncompressed point of a key carried as x | y.
pub fn point_of(key: &[u8; 64]) -> Point {
    let mut point = [4; 65];
    point[1..].copy_from_slice(key);
    point
}

/// Whether `signature` (r | s, 64 bytes, as in quotes and collateral) is `key`'s over `message`.
pub fn verify_fixed(key: &Point, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
}

/// Whether `signature` (DER `SEQUENCE { r, s }`, as in certificates and CRLs) is `key`'s over `message`.
pub fn verify_der(key: &Point, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, signature).is_ok()
}
