//! Fernet tokens (version 0x80 of the Fernet spec), as Python's `cryptography` makes and reads them.
//!
//! A token is the URL-safe base64 text of `0x80 | creation time (8, big-endian seconds) | IV (16) | AES-128-CBC
//! ciphertext with PKCS #7 padding | HMAC-SHA-256 (32) of everything before`. A key is the URL-safe base64 text of 32
//! bytes: the first half for HMAC, the second for AES.
//!
//! The time in a token is not checked: a token has no expiry here, and the clocks of an enclave's host prove nothing.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Error;
use crate::error::random;

/// The largest plaintext or token: 1 GiB.
pub const MAX_SIZE: usize = 1 << 30;

const TOKEN: &str = "Fernet token";
const VERSION: u8 = 0x80;
/// Version, time, IV.
const HEADER_SIZE: usize = 1 + 8 + 16;
const MAC_SIZE: usize = 32;

/// Writes padding, and reads with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A fresh key: 44 characters.
///
/// # Errors
/// [`Error::Random`] where the system gives no random numbers.
pub fn generate_key() -> Result<Zeroizing<String>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    random(&mut key[..])?;
    Ok(Zeroizing::new(BASE64.encode(&key[..])))
}

/// Encrypts `plaintext` into a token that says it was made `at` that time (whole seconds).
///
/// # Errors
/// [`Error::KeyFormat`], [`Error::TooLarge`], [`Error::Random`].
pub fn encrypt(key: &str, plaintext: &[u8], at: jiff::Timestamp) -> Result<String, Error> {
    let mut iv = [0; 16];
    random(&mut iv)?;
    // Before 1970 is no time of this format; the field is unsigned.
    encrypt_with(key, plaintext, at.as_second().max(0).unsigned_abs(), iv)
}

fn encrypt_with(key: &str, plaintext: &[u8], seconds: u64, iv: [u8; 16]) -> Result<String, Error> {
    limit(plaintext.len())?;
    let key = Key::parse(key)?;
    let ciphertext = cbc::Encryptor::<aes::Aes128>::new(&key.encryption().into(), &iv.into())
        .encrypt_padded_vec::<Pkcs7>(plaintext);
    let mut token = [&[VERSION], seconds.to_be_bytes().as_slice(), &iv, &ciphertext].concat();
    let mac = key.mac(&token).finalize().into_bytes();
    token.extend_from_slice(&mac);
    Ok(BASE64.encode(token))
}

/// Decrypts a token; white space around it is ignored.
///
/// # Errors
/// [`Error::KeyFormat`], [`Error::TooLarge`], [`Error::Format`] for something that is no token,
/// [`Error::NotAuthentic`].
pub fn decrypt(key: &str, token: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    limit(token.len())?;
    let key = Key::parse(key)?;
    let format = |found: &str| Error::Format {
        what: TOKEN,
        expected: "URL-safe base64 of a token of version 0x80",
        found: found.into(),
    };
    let bytes =
        BASE64.decode(token.trim_ascii()).map_err(|_| format("something that is not URL-safe base64"))?;
    if bytes.first() != Some(&VERSION) {
        return Err(format("another version"));
    }
    let (signed, mac) = bytes
        .len()
        .checked_sub(MAC_SIZE)
        .filter(|&signed| signed > HEADER_SIZE)
        .map(|signed| bytes.split_at(signed))
        .ok_or_else(|| format("fewer bytes than any token has"))?;
    let not_authentic = Error::NotAuthentic {
        what: TOKEN,
        expected: "a token made with this key",
        reasons: "the key is another one, or the token was altered",
    };
    if key.mac(signed).verify_slice(mac).is_err() {
        return Err(not_authentic);
    }
    let (header, ciphertext) = signed.split_at(HEADER_SIZE);
    let mut iv = [0; 16];
    iv.copy_from_slice(&header[9..]);
    cbc::Decryptor::<aes::Aes128>::new(&key.encryption().into(), &iv.into())
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .map(Zeroizing::new)
        .map_err(|_| not_authentic)
}

fn limit(found: usize) -> Result<(), Error> {
    if found > MAX_SIZE { Err(Error::TooLarge { what: TOKEN, limit: MAX_SIZE, found }) } else { Ok(()) }
}

/// Signing half, then encryption half.
struct Key(Zeroizing<Vec<u8>>);

impl Key {
    fn parse(text: &str) -> Result<Key, Error> {
        let wrong = |found: String| Error::KeyFormat {
            what: "Fernet key",
            expected: "44 characters, URL-safe base64 of 32 bytes",
            found,
        };
        let bytes = BASE64
            .decode(text.trim())
            .map(Zeroizing::new)
            .map_err(|_| wrong("something that is not URL-safe base64".into()))?;
        match bytes.len() {
            32 => Ok(Key(bytes)),
            other => Err(wrong(format!("{other} bytes"))),
        }
    }

    fn encryption(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[16..]);
        half
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of every length: this cannot fail.
        #[allow(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0[..16]).expect("HMAC takes keys of every length");
        mac.update(message);
        mac
    }
}
