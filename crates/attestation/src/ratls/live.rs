//! Live evidence: what a node answers to `GET /.well-known/mse/evidence?nonce=HEX`.
//!
//! JSON `{version, certificate, quote, claims}`, the last three base64url (RFC 4648, 5) without padding: the node's RA-TLS
//! certificate in DER, a quote made for this request, and the claims that quote binds. No collateral: an enclave fetches
//! nothing. Whoever reads it trusts nothing of it before it verifies, and compares the nonce first.

use crate::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The longest live evidence that is read, in bytes of JSON.
pub const MAX_LIVE_EVIDENCE_BYTES: usize = 512 * 1024;
const VERSION: u32 = 1;
const WHAT: &str = "live evidence";

/// A node's answer to a verifier's nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvidence {
    /// The version of the format: 1.
    pub version: u32,
    /// The node's RA-TLS certificate, DER.
    pub certificate: Vec<u8>,
    /// The quote, raw.
    pub quote: Vec<u8>,
    /// The claims, CBOR.
    pub claims: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    version: u32,
    certificate: String,
    quote: String,
    claims: String,
}

impl LiveEvidence {
    /// Evidence of the current version.
    pub fn new(certificate: Vec<u8>, quote: Vec<u8>, claims: Vec<u8>) -> Self {
        LiveEvidence { version: VERSION, certificate, quote, claims }
    }

    /// The JSON form.
    pub fn to_json(&self) -> String {
        let json = Json {
            version: self.version,
            certificate: URL_SAFE_NO_PAD.encode(&self.certificate),
            quote: URL_SAFE_NO_PAD.encode(&self.quote),
            claims: URL_SAFE_NO_PAD.encode(&self.claims),
        };
        serde_json::json!(json).to_string()
    }

    /// Reads the JSON form strictly: these four fields, this version, at most [`MAX_LIVE_EVIDENCE_BYTES`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::Malformed`].
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        Error::check_size(WHAT, json, MAX_LIVE_EVIDENCE_BYTES)?;
        let json: Json = serde_json::from_slice(json).map_err(|error| {
            Error::malformed(WHAT, "the JSON object {version, certificate, quote, claims}", error.to_string())
        })?;
        if json.version != VERSION {
            return Err(Error::malformed(
                WHAT,
                format!("version {VERSION}"),
                format!("version {}", json.version),
            ));
        }
        let decode = |field: &str, text: &str| {
            URL_SAFE_NO_PAD.decode(text).map_err(|error| {
                Error::malformed(WHAT, format!("base64url without padding in {field}"), error.to_string())
            })
        };
        Ok(LiveEvidence {
            version: VERSION,
            certificate: decode("certificate", &json.certificate)?,
            quote: decode("quote", &json.quote)?,
            claims: decode("claims", &json.claims)?,
        })
    }
}
