//! AES-GCM files (NIST SP 800-38D): `nonce (12) | ciphertext | tag (16)`, no associated data.
//!
//! The form in which an application hands out a result with Python's `AESGCM`. AES-128 or AES-256, by the key's length.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use zeroize::Zeroizing;

use crate::Error;
use crate::error::random;

/// The largest plaintext or file: 1 GiB.
pub const MAX_SIZE: usize = 1 << 30;

const FILE: &str = "AES-GCM file";
const NONCE_SIZE: usize = 12;

/// Encrypts under a key of 32 (AES-128) or 64 (AES-256) hexadecimal digits, with a random nonce.
///
/// # Errors
/// [`Error::KeyFormat`], [`Error::TooLarge`], [`Error::Random`].
pub fn encrypt(key: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    limit(plaintext.len())?;
    let key = parse_key(key)?;
    let mut nonce = [0; NONCE_SIZE];
    random(&mut nonce)?;
    let ciphertext = match key.len() {
        16 => Aes128Gcm::new_from_slice(&key).map(|cipher| cipher.encrypt(&nonce.into(), plaintext)),
        _ => Aes256Gcm::new_from_slice(&key).map(|cipher| cipher.encrypt(&nonce.into(), plaintext)),
    };
    match ciphertext {
        Ok(Ok(ciphertext)) => Ok([nonce.as_slice(), &ciphertext].concat()),
        _ => Err(Error::TooLarge { what: FILE, limit: MAX_SIZE, found: plaintext.len() }),
    }
}

/// Decrypts a file made with such a key.
///
/// # Errors
/// [`Error::KeyFormat`], [`Error::TooLarge`], [`Error::Format`] for a file that is too short, [`Error::NotAuthentic`].
pub fn decrypt(key: &str, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    limit(file.len())?;
    let key = parse_key(key)?;
    let (nonce, ciphertext) = file
        .split_first_chunk::<NONCE_SIZE>()
        .filter(|(_, rest)| rest.len() >= 16)
        .ok_or_else(|| Error::Format {
            what: FILE,
            expected: "a nonce of 12 bytes, a ciphertext and a tag of 16 bytes",
            found: format!("{} bytes", file.len()),
        })?;
    let plaintext = match key.len() {
        16 => Aes128Gcm::new_from_slice(&key).map(|cipher| cipher.decrypt(&(*nonce).into(), ciphertext)),
        _ => Aes256Gcm::new_from_slice(&key).map(|cipher| cipher.decrypt(&(*nonce).into(), ciphertext)),
    };
    match plaintext {
        Ok(Ok(plaintext)) => Ok(Zeroizing::new(plaintext)),
        _ => Err(Error::NotAuthentic {
            what: FILE,
            expected: "a file encrypted with this key",
            reasons: "the key is another one, or the file was altered",
        }),
    }
}

fn limit(found: usize) -> Result<(), Error> {
    if found > MAX_SIZE { Err(Error::TooLarge { what: FILE, limit: MAX_SIZE, found }) } else { Ok(()) }
}

/// 16 or 32 bytes from hexadecimal text; white space around it is ignored.
fn parse_key(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let text = text.trim();
    match hex::decode(text).map(Zeroizing::new) {
        Ok(key) if matches!(key.len(), 16 | 32) => Ok(key),
        _ => Err(Error::KeyFormat {
            what: "AES key",
            expected: "32 or 64 hexadecimal digits",
            found: format!("{} characters, or others than hexadecimal digits", text.chars().count()),
        }),
    }
}
