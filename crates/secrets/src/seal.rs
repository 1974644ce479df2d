//! Sealing: secrets and the code key for one enclave, and for nobody else.
//!
//! HPKE (RFC 9180) in base mode with the hybrid post-quantum KEM X-Wing (0x647a), HKDF-SHA256 and ChaCha20-Poly1305.
//! The sealed file passes through the operator's hands and may be kept for decades, hence the KEM.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `MSESEAL1` |
//! | 1120 | the encapsulated key `enc` |
//! | the rest | ciphertext of the payload, with its 16-byte tag |
//!
//! `info` is `MSE sealed secrets v1`, the fingerprint (32 bytes), the app id (16 bytes); `aad` is empty. So a file that was
//! sealed for another fingerprint or app id does not open even with the right key.
//!
//! The payload is a list of fields, each `tag (1) | length (4, big-endian) | value`, tags ascending, none twice:
//! 1 = secrets (a JSON object, as the owner wrote it), 2 = code key (32 bytes).
//!
//! HPKE does not say who sealed: anybody who has the public key can. What is sealed is believed because it opens the
//! owner's code archive and works, never because it is there.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::Error;
use crate::code::CodeKey;
use crate::error::random;

/// The first eight bytes of a sealed file.
pub const MAGIC: &[u8; 8] = b"MSESEAL1";

/// The largest sealed file, and the largest payload: 10 MiB.
pub const MAX_SIZE: usize = 10 * 1024 * 1024;

/// Bytes of a public sealing key (X-Wing: ML-KEM-768 1184, X25519 32).
pub const PUBLIC_KEY_SIZE: usize = 1216;

/// Bytes of the encapsulated key.
const ENCAPSULATED_SIZE: usize = 1120;

const INFO: &[u8] = b"MSE sealed secrets v1";
const SEALED: &str = "sealed file";
const PAYLOAD: &str = "sealed payload";
const TAG_SECRETS: u8 = 1;
const TAG_CODE_KEY: u8 = 2;

/// An enclave's private sealing key: the 32-byte seed from which X-Wing derives both of its private keys.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

/// The public half of a [`SealingKey`], checked to be one.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingPublicKey {
    key: <XWing as Kem>::PublicKey,
    bytes: Vec<u8>,
}

/// For whom something is sealed: one app in one enclave with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The enclave's MRENCLAVE.
    pub fingerprint: [u8; 32],
    /// The app's UUID.
    pub app_id: [u8; 16],
    /// The enclave's public sealing key.
    pub key: SealingPublicKey,
}

/// What is sealed. At least one of the two is there.
#[derive(Default)]
pub struct Payload {
    /// The text of a JSON object, byte for byte as the owner wrote it.
    pub secrets: Option<Zeroizing<Vec<u8>>>,
    /// The key of the encrypted code archive.
    pub code_key: Option<CodeKey>,
}

impl SealingPublicKey {
    /// Reads a public key of 1216 bytes, and checks that it is one (FIPS 203, 7.2).
    ///
    /// # Errors
    /// [`Error::KeyFormat`].
    pub fn from_bytes(bytes: &[u8]) -> Result<SealingPublicKey, Error> {
        let key = <XWing as Kem>::PublicKey::from_bytes(bytes).map_err(|_| Error::KeyFormat {
            what: "public sealing key",
            expected: "a valid X-Wing key of 1216 bytes",
            found: format!("{} bytes that are none", bytes.len()),
        })?;
        Ok(SealingPublicKey { key, bytes: bytes.to_vec() })
    }

    /// The 1216 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingPublicKey({}..)", hex::encode(&self.bytes[..8]))
    }
}

impl SealingKey {
    /// A fresh key from the operating system's random numbers.
    ///
    /// # Errors
    /// [`Error::Random`] where the system gives none.
    pub fn generate() -> Result<SealingKey, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut seed[..])?;
        Ok(SealingKey(seed))
    }

    /// The key with this seed. Every 32 bytes are a seed.
    pub fn from_bytes(seed: [u8; 32]) -> SealingKey {
        SealingKey(Zeroizing::new(seed))
    }

    /// The seed, to keep the key in sealed state.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half.
    pub fn public(&self) -> SealingPublicKey {
        let key = XWing::sk_to_pk(&self.private());
        let bytes = key.to_bytes().to_vec();
        SealingPublicKey { key, bytes }
    }

    /// Opens what was sealed to this key, for this fingerprint and app id.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::TooLarge`] for something that is no sealed file; [`Error::NotAuthentic`] where
    /// key, fingerprint or app id are not those that it was sealed for, or where it was altered.
    pub fn open(&self, fingerprint: &[u8; 32], app_id: &[u8; 16], sealed: &[u8]) -> Result<Payload, Error> {
        limit(SEALED, sealed.len())?;
        let wrong_kind = || Error::Format {
            what: SEALED,
            expected: "MSESEAL1, an encapsulated key of 1120 bytes and a ciphertext",
            found: format!(
                "{} bytes that start with {}",
                sealed.len(),
                sealed[..sealed.len().min(8)].escape_ascii()
            ),
        };
        let (encapsulated, ciphertext) = sealed
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_at_checked(ENCAPSULATED_SIZE))
            .ok_or_else(wrong_kind)?;
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| wrong_kind())?;
        let plaintext = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private(),
            &encapsulated,
            &info(fingerprint, app_id),
            ciphertext,
            b"",
        )
        .map_err(|_| Error::NotAuthentic {
            what: SEALED,
            expected: "a file sealed for this enclave",
            reasons: "it was sealed for another key, fingerprint or app id, or it was altered",
        })?;
        Payload::decode(&Zeroizing::new(plaintext))
    }

    fn private(&self) -> <XWing as Kem>::PrivateKey {
        // Every 32 bytes are an X-Wing seed: this cannot fail.
        #[allow(clippy::expect_used)]
        <XWing as Kem>::PrivateKey::from_bytes(&self.0[..]).expect("32 bytes are a seed")
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(not shown)")
    }
}

/// Seals `payload` to `recipient`.
///
/// The caller vouches for the recipient: only a verified enclave's key, fingerprint and app id belong here.
///
/// # Errors
/// [`Error::Format`] where the payload is empty or its secrets are no JSON object, [`Error::TooLarge`].
pub fn seal(recipient: &Recipient, payload: &Payload) -> Result<Vec<u8>, Error> {
    let plaintext = payload.encode()?;
    limit(SEALED, MAGIC.len() + ENCAPSULATED_SIZE + plaintext.len() + 16)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &recipient.key.key,
        &info(&recipient.fingerprint, &recipient.app_id),
        &plaintext,
        b"",
    )
    .map_err(|e| Error::KeyFormat {
        what: "public sealing key",
        expected: "one that can be sealed to",
        found: e.to_string(),
    })?;
    Ok([MAGIC.as_slice(), &encapsulated.to_bytes(), &ciphertext].concat())
}

fn info(fingerprint: &[u8; 32], app_id: &[u8; 16]) -> Vec<u8> {
    [INFO, fingerprint, app_id].concat()
}

fn limit(what: &'static str, found: usize) -> Result<(), Error> {
    if found > MAX_SIZE { Err(Error::TooLarge { what, limit: MAX_SIZE, found }) } else { Ok(()) }
}

impl Payload {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let secrets = self.secrets.as_ref().map(|secrets| secrets.as_slice());
        let code_key = self.code_key.as_ref().map(|key| key.as_bytes().as_slice());
        let fields = [(TAG_SECRETS, secrets), (TAG_CODE_KEY, code_key)];
        // Reserved at once: a growing vector would leave copies of secrets behind.
        let size = fields.iter().flat_map(|(_, value)| value).map(|value| value.len() + 5).sum();
        limit(PAYLOAD, size)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        for (tag, value) in fields {
            let Some(value) = value else { continue };
            bytes.push(tag);
            // Fits: the size was limited above.
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        self.check()?;
        Ok(bytes)
    }

    fn decode(mut bytes: &[u8]) -> Result<Payload, Error> {
        let broken = |found: String| Error::Format {
            what: PAYLOAD,
            expected: "secrets (tag 1), then a code key (tag 2) of 32 bytes",
            found,
        };
        let mut payload = Payload::default();
        let mut previous = 0;
        while !bytes.is_empty() {
            let (tag, value, rest) = field(bytes).ok_or_else(|| broken("a field that is cut".into()))?;
            match tag {
                _ if tag <= previous => return Err(broken(format!("tag {tag} after tag {previous}"))),
                TAG_SECRETS => payload.secrets = Some(Zeroizing::new(value.to_vec())),
                TAG_CODE_KEY => {
                    let key = <[u8; 32]>::try_from(value)
                        .map_err(|_| broken(format!("a code key of {} bytes", value.len())))?;
                    payload.code_key = Some(CodeKey::from_bytes(key));
                }
                _ => return Err(broken(format!("tag {tag}"))),
            }
            (previous, bytes) = (tag, rest);
        }
        payload.check()?;
        Ok(payload)
    }

    /// What holds for a payload on both sides.
    fn check(&self) -> Result<(), Error> {
        if self.secrets.is_none() && self.code_key.is_none() {
            return Err(Error::Format {
                what: PAYLOAD,
                expected: "secrets or a code key",
                found: "neither".into(),
            });
        }
        match &self.secrets {
            Some(secrets) => {
                serde_json::from_slice::<JsonObject>(secrets).map(|_| ()).map_err(|e| Error::Format {
                    what: "secrets",
                    expected: "a JSON object",
                    // Not the parser's own words: they may quote the secrets.
                    found: format!("something else, at line {} column {}", e.line(), e.column()),
                })
            }
            None => Ok(()),
        }
    }
}

/// Splits off the first field: tag, value, what follows.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((tag, value, rest))
}

/// Accepts any JSON object, and keeps nothing of it: no copies of secrets.
struct JsonObject;

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonObject, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = JsonObject;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(JsonObject)
            }
        }
        deserializer.deserialize_map(Object)
    }
}
