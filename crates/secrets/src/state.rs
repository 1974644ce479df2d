//! Sealed state: what a node keeps on the host's disk between two starts.
//!
//! `MSESTAT1 (8) | nonce (12) | AES-256-GCM ciphertext | tag (16)`, the magic number authenticated too. The key is
//! HKDF-SHA256 (RFC 5869) of the platform's sealing key, without salt, with info `MSE sealed state v1` and the context;
//! so state of another machine, enclave or purpose does not open. Nonces are random: a node writes its state a few
//! times in its life.
//!
//! The host can still delete the file, or bring back an older one: there is no counter to tell.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Error;
use crate::error::random;

/// The first eight bytes of a sealed state.
pub const MAGIC: &[u8; 8] = b"MSESTAT1";

/// The largest sealed state: 64 MiB, room for a configuration of 10 MiB in every encoding.
pub const MAX_SIZE: usize = 64 << 20;

const STATE: &str = "sealed state";
const INFO: &[u8] = b"MSE sealed state v1";
const NONCE_SIZE: usize = 12;
const OVERHEAD: usize = MAGIC.len() + NONCE_SIZE + 16;

/// Seals `plaintext` under the platform's sealing key, for one context (a fixed label: what kind of state this is).
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Random`].
pub fn seal(platform_key: &[u8; 32], context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    limit(plaintext.len().saturating_add(OVERHEAD))?;
    let mut nonce = [0; NONCE_SIZE];
    random(&mut nonce)?;
    let ciphertext = cipher(platform_key, context)?
        .encrypt(&nonce.into(), Payload { msg: plaintext, aad: MAGIC })
        .map_err(|_| Error::TooLarge { what: STATE, limit: MAX_SIZE, found: plaintext.len() })?;
    Ok([MAGIC.as_slice(), &nonce, &ciphertext].concat())
}

/// Opens what was sealed under the same key and context.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Format`] for something else than a sealed state, [`Error::NotAuthentic`] for one of
/// another machine, enclave or context, or one that was altered.
pub fn open(platform_key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    limit(sealed.len())?;
    let (nonce, ciphertext) = sealed
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<NONCE_SIZE>())
        .ok_or_else(|| Error::Format {
            what: STATE,
            expected: "MSESTAT1, a nonce of 12 bytes and a ciphertext",
            found: format!(
                "{} bytes that start with {}",
                sealed.len(),
                sealed[..sealed.len().min(8)].escape_ascii()
            ),
        })?;
    cipher(platform_key, context)?
        .decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad: MAGIC })
        .map(Zeroizing::new)
        .map_err(|_| Error::NotAuthentic {
            what: STATE,
            expected: "state that this enclave sealed on this machine",
            reasons: "it is another machine's or enclave's, the machine's microcode changed, or it was altered",
        })
}

fn cipher(platform_key: &[u8; 32], context: &[u8]) -> Result<Aes256Gcm, Error> {
    let mut key = Zeroizing::new([0; 32]);
    let derived = Hkdf::<Sha256>::new(None, platform_key).expand_multi_info(&[INFO, context], &mut key[..]);
    let cipher = derived.ok().and_then(|()| Aes256Gcm::new_from_slice(&key[..]).ok());
    // HKDF gives up to 8160 bytes, and AES-256 takes 32: neither can fail.
    cipher.ok_or_else(|| Error::KeyFormat {
        what: "state key",
        expected: "32 bytes",
        found: "none derived".into(),
    })
}

fn limit(found: usize) -> Result<(), Error> {
    if found > MAX_SIZE { Err(Error::TooLarge { what: STATE, limit: MAX_SIZE, found }) } else { Ok(()) }
}
