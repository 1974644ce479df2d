//! Collateral: what Intel signed about platforms of this kind, as a PCCS or the PCS serves it, in one JSON object.
//!
//! Trusts nothing: this module only reads the object; each part is judged by [`crate::verify`]. Format: the object that
//! other verifiers read too, all fields strings and all required. Chains are PEM, leaf first, root last; CRLs are
//! DER in lower-case hex; signatures are r | s in lower-case hex; `tcb_info` and `qe_identity` are the exact JSON text
//! that was signed. Each part has one spelling, so that a changed bit anywhere is a refusal.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::tcb::Object;

/// The longest collateral object that is read, in bytes. Real ones have 10 to 60 kB.
pub const MAX_LEN: usize = 3_145_728;

/// The collateral of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collateral {
    /// The CA that signed [`pck_crl`](Self::pck_crl) (Platform or Processor CA), then the root. PEM.
    pub pck_crl_issuer_chain: String,
    /// The root CA's revocation list. DER in hex.
    pub root_ca_crl: String,
    /// The revocation list of the CA that issued the PCK certificate. DER in hex.
    pub pck_crl: String,
    /// The TCB signing certificate, then the root. PEM.
    pub tcb_info_issuer_chain: String,
    /// TCB info, version 3: the exact JSON text that was signed.
    pub tcb_info: String,
    /// ECDSA P-256 signature over `tcb_info`, r | s in hex.
    pub tcb_info_signature: String,
    /// The TCB signing certificate, then the root. PEM.
    pub qe_identity_issuer_chain: String,
    /// QE identity, version 2: the exact JSON text that was signed.
    pub qe_identity: String,
    /// ECDSA P-256 signature over `qe_identity`, r | s in hex.
    pub qe_identity_signature: String,
}

impl Collateral {
    /// Reads the JSON object. Missing, doubled and unknown fields are refused.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but that object.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        Error::check_size("collateral", json, MAX_LEN)?;
        let expected = "the JSON object of nine strings";
        let read: Result<Object<Self>, _> = serde_json::from_slice(json);
        read.map(|object| object.0).map_err(|e| Error::malformed("collateral", expected, e.to_string()))
    }

    /// The JSON object, on several lines, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Bytes from hex in lower case: the one spelling of a CRL or a signature.
///
/// # Errors
/// [`Error::Malformed`] for anything else.
pub(crate) fn from_hex(what: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    let wrong = || Error::malformed(what, "bytes in lower-case hex", "something else");
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong());
    }
    hex::decode(text).map_err(|_| wrong())
}
