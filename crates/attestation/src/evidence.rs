//! The evidence file, version 1: everything needed to judge one node offline.
//!
//! Trusts nothing: it comes from the operator. Only [`crate::admit`] turns it into something to rely on. Format: one
//! JSON object {`version`: 1, `certificate`: PEM text, `quote`: base64url without padding, `claims`: base64url without
//! padding, `nonce`: hex (optional), `collateral`: object of [`crate::collateral`], `arguments`: object}.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::certificate;
use crate::collateral::{self, Collateral};
use crate::error::Error;
use crate::recognise::{Kind, Oversized, check_size, kind_of, without_bom};
use crate::signed_json::{Below, Shape, Unknown, passed_over};
use crate::tcb::{Object, object};

/// The longest evidence file that is read, in bytes.
pub const MAX_LEN: usize = 4_194_304;
/// The longest `args.toml` that is read, in bytes.
pub const MAX_ARGUMENTS_LEN: usize = 65_536;
/// The only version there is.
pub const VERSION: u32 = 1;

/// What the operator chose at spawn: the content of `args.toml`. Shown by verification; none of it can change what code
/// runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Host name in the certificate.
    pub host: String,
    /// TCP port the node listens on.
    pub port: u16,
    /// Enclave size in MiB.
    pub size_mb: u64,
    /// Validity of the certificate in days.
    pub days: u32,
    /// Subject of the certificate.
    pub subject: String,
    /// The application id, a UUID in text.
    pub app_id: String,
    /// `sgx` or `simulated`.
    pub platform: String,
    /// `process` or `docker`.
    pub runtime: String,
}

impl Arguments {
    /// Reads `args.toml`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_ARGUMENTS_LEN`]; [`Error::Malformed`] for anything but these fields.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Error::check_size("args.toml", text.as_bytes(), MAX_ARGUMENTS_LEN)?;
        toml::from_str(text).map_err(|e| Error::malformed("args.toml", "the arguments of spawn", e.message()))
    }

    /// The content of `args.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// One node's evidence: an RA-TLS certificate, and a quote (the one in the certificate or a fresher one) whose claims
/// bind the certificate's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The RA-TLS certificate, DER.
    pub certificate: Vec<u8>,
    /// The quote, raw.
    pub quote: Vec<u8>,
    /// The claims that the quote's report data is the digest of, CBOR as carried.
    pub claims: Vec<u8>,
    /// The nonce that was asked for, if one was.
    pub nonce: Option<Vec<u8>>,
    /// Intel's word about the platform.
    pub collateral: Collateral,
    /// The operator's word about the node.
    pub arguments: Arguments,
}

/// The names in the file: only the collateral may have further ones.
static SHAPE: Shape = Shape {
    fields: &[
        ("version", Below::Value),
        ("certificate", Below::Value),
        ("quote", Below::Value),
        ("claims", Below::Value),
        ("nonce", Below::Value),
        ("collateral", Below::Object(&collateral::SHAPE)),
        ("arguments", Below::Value),
    ],
    unknown: Unknown::Refused,
};

/// The file as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    certificate: String,
    quote: String,
    claims: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(deserialize_with = "object")]
    collateral: Collateral,
    #[serde(deserialize_with = "object")]
    arguments: Arguments,
}

impl Evidence {
    /// Reads an evidence file. Missing, doubled and unknown fields are refused, but for further ones of the collateral.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but an evidence file of version 1.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        Self::from_json_noting(json).map(|(evidence, _)| evidence)
    }

    /// As [`Self::from_json`], with the names of the collateral's fields that were passed over.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_json_noting(json: &[u8]) -> Result<(Self, Vec<String>), Error> {
        let wrong = |found| Error::malformed("evidence", "an evidence file of version 1", found);
        check_size("evidence", json, MAX_LEN).map_err(|error| match error {
            Oversized::Named(kind) => wrong(kind.to_string()),
            Oversized::Nameless(error) => error,
        })?;
        let text = std::str::from_utf8(without_bom(json)).map_err(|_| wrong(kind_of(json).to_string()))?;
        let read = || {
            let names = passed_over(text, &SHAPE)?;
            let Object(file) = serde_json::from_str::<Object<File>>(text)?;
            Ok::<_, serde_json::Error>((file, names))
        };
        let (file, names) = read().map_err(|error| match kind_of(json) {
            Kind::Evidence => wrong(error.to_string()),
            Kind::JsonObject | Kind::BrokenJson => wrong(format!("{}: {error}", kind_of(json))),
            other => wrong(other.to_string()),
        })?;
        if file.version != VERSION {
            return Err(Error::malformed("evidence", "version 1", format!("version {}", file.version)));
        }
        let nonce = file.nonce.map(|nonce| {
            hex::decode(&nonce).map_err(|_| Error::malformed("evidence", "a nonce in hex", "something else"))
        });
        let evidence = Self {
            certificate: certificate::single_from_pem(file.certificate.as_bytes())?,
            quote: base64url(&file.quote, "a quote in base64url")?,
            claims: base64url(&file.claims, "claims in base64url")?,
            nonce: nonce.transpose()?,
            collateral: file.collateral,
            arguments: file.arguments,
        };
        Ok((evidence, names))
    }

    /// The evidence file, on several lines, ending in a newline.
    pub fn to_json(&self) -> String {
        let file = File {
            version: VERSION,
            certificate: to_pem(&self.certificate),
            quote: URL_SAFE_NO_PAD.encode(&self.quote),
            claims: URL_SAFE_NO_PAD.encode(&self.claims),
            nonce: self.nonce.as_ref().map(hex::encode),
            collateral: self.collateral.clone(),
            arguments: self.arguments.clone(),
        };
        let mut json = serde_json::to_string_pretty(&file).unwrap_or_default();
        json.push('\n');
        json
    }
}

fn base64url(text: &str, expected: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::malformed("evidence", expected, "something else"))
}

/// One `CERTIFICATE` block, lines of 64, ending in a newline.
fn to_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_arguments_is_limited() {
        let read = |length| Arguments::from_toml(&"#".repeat(length));
        assert!(matches!(read(MAX_ARGUMENTS_LEN), Err(Error::Malformed { .. })));
        assert!(matches!(read(MAX_ARGUMENTS_LEN + 1), Err(Error::TooLarge { .. })));
    }
}
