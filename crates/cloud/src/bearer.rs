//! Bearer tokens: `mse_` and 32 random bytes in base64url. The backend keeps their SHA-256 alone: enough to know one
//! again, for nobody finds 32 random bytes by trying, and useless to whoever reads the database.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What every token begins with, so that scanners for leaked secrets know it.
pub const PREFIX: &str = "mse_";

/// A token in clear. It is shown once, and never kept.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A fresh one.
    pub fn generate() -> Result<Secret> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| Error::Random)?;
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
        Ok(Secret(Zeroizing::new(format!("{PREFIX}{}", encoded.as_str()))))
    }

    /// One that a client sent; `None` where it cannot be one.
    pub fn parse(text: &str) -> Option<Secret> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        (bytes.len() == 32).then(|| Secret(Zeroizing::new(text.to_owned())))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the database knows it by: 64 hexadecimal digits.
    pub fn sha256(&self) -> String {
        sha256(self.0.as_bytes())
    }

    /// The key for answers that only the bearer of this token shall read again.
    pub fn answer_key(&self) -> Zeroizing<[u8; 32]> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mse-cloud answers, version 1");
        let mut key = Zeroizing::new([0; 32]);
        // 32 bytes are far below what HKDF can give: neither call can fail.
        if let Ok(okm) = salt.extract(self.0.as_bytes()).expand(&[b"AES-256-GCM"], hkdf::HKDF_SHA256) {
            let _ = okm.fill(key.as_mut());
        }
        key
    }
}

/// SHA-256 in 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_distinct_and_read_back() {
        let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(a.reveal().len(), 4 + 43);
        let again = Secret::parse(a.reveal()).unwrap();
        assert_eq!((again.sha256(), again.answer_key()), (a.sha256(), a.answer_key()));
        assert_ne!(a.answer_key(), b.answer_key());
        assert_ne!(*a.answer_key(), [0; 32]);
    }

    #[test]
    fn what_cannot_be_a_token_is_none() {
        let good = Secret::generate().unwrap().reveal().to_owned();
        for bad in [
            "",
            "mse_",
            &good[4..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &good.replace("mse_", "MSE_"),
        ] {
            assert!(Secret::parse(bad).is_none(), "{bad}");
        }
    }
}
