//! The code cipher: a package's code archive as one encrypted stream.
//!
//! The file is libsodium's `crypto_secretstream_xchacha20poly1305` behind a magic number:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `MSECODE1` |
//! | 24 | secretstream header (random) |
//! | 65,536 + 17 each | messages of exactly 64 KiB, tagged MESSAGE |
//! | up to 65,536 + 17 | the last message, tagged FINAL; empty only where the whole plaintext is |
//!
//! Each message is bound to all before it, so a stream that was cut, extended, reordered or spliced is refused.
//! Trusts nothing but the key. Memory: two messages, whatever the size of the archive.

use std::io::{self, Read, Write};

use dryoc::classic::crypto_secretstream_xchacha20poly1305 as secretstream;
use dryoc::constants::{
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_ABYTES as OVERHEAD,
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_TAG_FINAL as FINAL,
    CRYPTO_SECRETSTREAM_XCHACHA20POLY1305_TAG_MESSAGE as MESSAGE,
};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;
use crate::error::random;

/// The first eight bytes of an encrypted code archive.
pub const MAGIC: &[u8; 8] = b"MSECODE1";

/// Plaintext bytes of every message but the last.
pub const MESSAGE_SIZE: usize = 64 * 1024;

const ARCHIVE: &str = "encrypted code archive";

/// The key of one encrypted code archive: 32 random bytes, used for that archive only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CodeKey([u8; 32]);

impl CodeKey {
    /// A fresh key from the operating system's random numbers.
    ///
    /// # Errors
    /// [`Error::Random`] where the system gives none.
    pub fn generate() -> Result<CodeKey, Error> {
        let mut key = CodeKey([0; 32]);
        random(&mut key.0)?;
        Ok(key)
    }

    /// The key with these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> CodeKey {
        CodeKey(bytes)
    }

    /// Reads 64 hexadecimal digits; white space around them is ignored.
    ///
    /// # Errors
    /// [`Error::KeyFormat`], which does not show the text.
    pub fn from_hex(text: &str) -> Result<CodeKey, Error> {
        let text = text.trim();
        let mut key = CodeKey([0; 32]);
        hex::decode_to_slice(text, &mut key.0).map_err(|_| Error::KeyFormat {
            what: "code key",
            expected: "64 hexadecimal digits",
            found: format!("{} characters, or others than hexadecimal digits", text.chars().count()),
        })?;
        Ok(key)
    }

    /// The key as 64 lower-case hexadecimal digits: the content of a `.key` file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for CodeKey {
    fn eq(&self, other: &CodeKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for CodeKey {}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey(not shown)")
    }
}

/// Encrypts all of `plaintext` into `output`.
///
/// # Errors
/// [`Error::Io`] where reading or writing fails; what was written until then is of no use.
pub fn encrypt(key: &CodeKey, mut plaintext: impl Read, mut output: impl Write) -> Result<(), Error> {
    let mut header = secretstream::Header::default();
    let mut state = secretstream::State::new();
    secretstream::crypto_secretstream_xchacha20poly1305_init_push(&mut state, &mut header, &key.0);
    write(&mut output, MAGIC)?;
    write(&mut output, &header)?;

    let mut message = Zeroizing::new(Vec::with_capacity(MESSAGE_SIZE));
    let mut next = Zeroizing::new(Vec::with_capacity(MESSAGE_SIZE));
    let mut sealed = Vec::with_capacity(MESSAGE_SIZE + OVERHEAD);
    read_up_to(&mut plaintext, &mut message, MESSAGE_SIZE)?;
    loop {
        read_up_to(&mut plaintext, &mut next, MESSAGE_SIZE)?;
        let last = next.is_empty();
        sealed.resize(message.len() + OVERHEAD, 0);
        let tag = if last { FINAL } else { MESSAGE };
        secretstream::crypto_secretstream_xchacha20poly1305_push(
            &mut state,
            &mut sealed,
            &message,
            None,
            tag,
        )
        .map_err(|e| Error::Format {
            what: ARCHIVE,
            expected: "a message of 64 KiB",
            found: e.to_string(),
        })?;
        write(&mut output, &sealed)?;
        if last {
            return output.flush().map_err(|source| Error::Io { what: "writing", source });
        }
        std::mem::swap(&mut message, &mut next);
    }
}

/// Decrypts all of `ciphertext` into `output`.
///
/// Plaintext is written message by message, each one authentic; but only a return of `Ok` says that the archive is
/// complete. After an error the caller must throw away what was written.
///
/// # Errors
/// [`Error::NotAuthentic`] for a wrong key or altered bytes, [`Error::Stream`] for a stream that was cut or extended,
/// [`Error::Format`] for a file of another kind, [`Error::Io`].
pub fn decrypt(key: &CodeKey, mut ciphertext: impl Read, mut output: impl Write) -> Result<(), Error> {
    let mut state = read_header(key, &mut ciphertext)?;
    let mut sealed = Vec::with_capacity(MESSAGE_SIZE + OVERHEAD);
    let mut next = Vec::with_capacity(MESSAGE_SIZE + OVERHEAD);
    let mut message = Zeroizing::new(Vec::with_capacity(MESSAGE_SIZE));
    read_up_to(&mut ciphertext, &mut sealed, MESSAGE_SIZE + OVERHEAD)?;
    loop {
        read_up_to(&mut ciphertext, &mut next, MESSAGE_SIZE + OVERHEAD)?;
        if sealed.len() < OVERHEAD {
            return Err(Error::Stream { what: ARCHIVE, expected: "another message", found: "its end" });
        }
        message.resize(sealed.len() - OVERHEAD, 0);
        let mut tag = 0;
        secretstream::crypto_secretstream_xchacha20poly1305_pull(
            &mut state,
            &mut message,
            &mut tag,
            &sealed,
            None,
        )
        .map_err(|_| Error::NotAuthentic {
            what: ARCHIVE,
            expected: "an archive encrypted with this code key",
            reasons: "the code key is another archive's, or the archive was altered or cut",
        })?;
        match (tag, next.is_empty()) {
            (FINAL, true) => {
                write(&mut output, &message)?;
                return output.flush().map_err(|source| Error::Io { what: "writing", source });
            }
            (MESSAGE, false) => write(&mut output, &message)?,
            (FINAL, false) => {
                return Err(Error::Stream {
                    what: ARCHIVE,
                    expected: "its end",
                    found: "more bytes after the last message",
                });
            }
            (MESSAGE, true) => {
                return Err(Error::Stream { what: ARCHIVE, expected: "another message", found: "its end" });
            }
            _ => {
                return Err(Error::Stream {
                    what: ARCHIVE,
                    expected: "the tag MESSAGE or FINAL",
                    found: "another tag",
                });
            }
        }
        std::mem::swap(&mut sealed, &mut next);
    }
}

/// Reads magic number and header, and sets the stream up.
fn read_header(key: &CodeKey, ciphertext: &mut impl Read) -> Result<secretstream::State, Error> {
    let mut start = Vec::with_capacity(32);
    read_up_to(ciphertext, &mut start, 32)?;
    let header = start
        .strip_prefix(MAGIC)
        .and_then(|rest| secretstream::Header::try_from(rest).ok())
        .ok_or_else(|| Error::Format {
            what: ARCHIVE,
            expected: "MSECODE1 and a header of 24 bytes",
            found: format!("{} bytes that start with {}", start.len(), start.escape_ascii()),
        })?;
    let mut state = secretstream::State::new();
    secretstream::crypto_secretstream_xchacha20poly1305_init_pull(&mut state, &header, &key.0);
    Ok(state)
}

/// Replaces the content of `buffer` by the next `size` bytes, or by fewer where the input ends.
fn read_up_to(input: &mut impl Read, buffer: &mut Vec<u8>, size: usize) -> Result<(), Error> {
    buffer.clear();
    input.take(size as u64).read_to_end(buffer).map_err(|source| Error::Io { what: "reading", source })?;
    Ok(())
}

fn write(output: &mut impl Write, bytes: &[u8]) -> Result<(), Error> {
    output.write_all(bytes).map_err(|source: io::Error| Error::Io { what: "writing", source })
}
