//! The key that signs enclaves: RSA-3072 with exponent 3, the only kind that SGX takes.
//!
//! In PEM (RFC 7468) as PKCS #1 or PKCS #8. The private numbers are wiped from memory when the key is dropped.

use num_bigint_dig::prime::probably_prime;
use num_traits::ToPrimitive;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rsa::rand_core::{OsRng, RngCore};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPrivateKey};
use zeroize::Zeroizing;

use crate::Error;
use crate::sigstruct::{NUMBER_SIZE, little_endian, mrsigner_of};

const BITS: usize = 3072;
const EXPONENT: u32 = 3;
/// A PEM file of such a key has 2.5 kB.
const MAX_PEM_SIZE: usize = 64 << 10;

/// A private key of RSA-3072 with exponent 3.
pub struct SignerKey(RsaPrivateKey);

impl SignerKey {
    /// A fresh key from the operating system's random numbers. Takes a good part of a second.
    ///
    /// # Errors
    /// [`Error::SigningKey`] where no key could be made.
    pub fn generate() -> Result<SignerKey, Error> {
        let none = |reason: String| wrong(format!("that none could be made: {reason}"));
        let next = || random_prime().map_err(|e| none(e.to_string()));
        let (p, q) = (next()?, next()?);
        let key = RsaPrivateKey::from_p_q(p, q, EXPONENT.into()).map_err(|e| none(e.to_string()))?;
        key.validate().map_err(|e| none(e.to_string()))?;
        Ok(SignerKey(key))
    }

    /// Reads a PEM file. Encrypted ones are not read.
    ///
    /// # Errors
    /// [`Error::SigningKey`] for every other kind of key, size or exponent.
    pub fn from_pem(pem: &str) -> Result<SignerKey, Error> {
        if pem.len() > MAX_PEM_SIZE {
            return Err(wrong(format!("{} bytes of text", pem.len())));
        }
        let pem = pem.trim_start();
        let key = if pem.starts_with("-----BEGIN RSA PRIVATE KEY-----") && !pem.contains("ENCRYPTED") {
            RsaPrivateKey::from_pkcs1_pem(pem).map_err(|e| e.to_string())
        } else if pem.starts_with("-----BEGIN PRIVATE KEY-----") {
            RsaPrivateKey::from_pkcs8_pem(pem).map_err(|e| e.to_string())
        } else if pem.contains("ENCRYPTED") {
            Err("an encrypted key; decrypt it first, as with `openssl pkey`".into())
        } else {
            Err("text that does not start with a private key".into())
        };
        let key = key.map_err(wrong)?;
        if key.n().bits() != BITS || key.e() != &BigUint::from(EXPONENT) {
            return Err(wrong(format!("one of {} bits with exponent {}", key.n().bits(), key.e())));
        }
        key.validate().map_err(|e| wrong(format!("a damaged one: {e}")))?;
        Ok(SignerKey(key))
    }

    /// The key as PEM, PKCS #8.
    ///
    /// # Errors
    /// [`Error::SigningKey`] where it cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|e| wrong(e.to_string()))
    }

    /// MRSIGNER of what this key signs: SHA-256 of its modulus.
    pub fn mrsigner(&self) -> [u8; 32] {
        mrsigner_of(&self.modulus())
    }

    /// The modulus, little-endian.
    pub fn modulus(&self) -> [u8; NUMBER_SIZE] {
        little_endian(self.0.n())
    }

    /// Signs a SHA-256 digest; the signature is little-endian.
    ///
    /// # Errors
    /// [`Error::SigningKey`] where the key is damaged.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<[u8; NUMBER_SIZE], Error> {
        let signature = self
            .0
            .sign_with_rng(&mut OsRng, Pkcs1v15Sign::new::<rsa::sha2::Sha256>(), digest)
            .map_err(|e| wrong(format!("a damaged one: {e}")))?;
        Ok(little_endian(&BigUint::from_bytes_be(&signature)))
    }
}

impl std::fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignerKey(mrsigner {})", hex::encode(self.mrsigner()))
    }
}

fn wrong(found: String) -> Error {
    Error::SigningKey { found }
}

/// A random prime of half the modulus' size that leaves 2 divided by 3: else 3 could not be the exponent (RFC 8017,
/// 3.1).
///
/// Searches upwards from a random start, in steps that keep the candidate odd and its remainder by 3; candidates with a
/// small factor are passed over, which leaves few for the real test (Miller-Rabin and Lucas).
fn random_prime() -> Result<BigUint, rsa::rand_core::Error> {
    const STEP: u64 = 6;
    const STEPS: u64 = 4096;
    let small_primes: Vec<u64> =
        (5..4096).filter(|&n| (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)).collect();
    let mut bytes = Zeroizing::new([0; BITS / 16]);
    loop {
        OsRng.try_fill_bytes(&mut bytes[..])?;
        // The two highest bits, so that the product of two such numbers has all of its bits.
        bytes[0] |= 0xc0;
        let start = BigUint::from_bytes_be(&bytes[..]);
        let start = &start + (5 - remainder(&start, STEP));
        let remainders: Vec<_> =
            small_primes.iter().map(|&prime| (prime, remainder(&start, prime))).collect();
        for offset in (0..STEPS).map(|step| step * STEP) {
            if remainders.iter().any(|(prime, remainder)| (remainder + offset) % prime == 0) {
                continue;
            }
            let candidate = &start + offset;
            if probably_prime(&candidate, 20) && candidate.bits() == BITS / 2 {
                return Ok(candidate);
            }
        }
    }
}

fn remainder(number: &BigUint, divisor: u64) -> u64 {
    (number % divisor).to_u64().unwrap_or_default()
}
