//! Collateral: what Intel signed about platforms of this kind, as a PCCS or the PCS serves it, in one JSON object.
//!
//! Trusts nothing: this module only reads the object; each part is judged by [`crate::verify`]. Format: the object that
//! other verifiers read too, nine fields, all strings and all required. Chains are PEM, leaf first, root last; CRLs are DER
//! in hex, base64 or PEM; signatures are r | s in hex; `tcb_info` and `qe_identity` are the exact JSON text that was
//! signed. What is written is lower-case hex.
//!
//! Further fields of the object are passed over and named in the judgement, since nothing vouches for them: among them
//! `pck_certificate_chain`, which other tools add. The PCK chain is the quote's own and never comes from here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::recognise::{Kind, Oversized, check_size, kind_of, without_bom};
use crate::signed_json::{Below, Shape, Unknown, passed_over};
use crate::tcb::Object;

/// The longest collateral object that is read, in bytes. Real ones have 10 to 60 kB.
pub const MAX_LEN: usize = 3_145_728;

/// The names in the object.
pub(crate) static SHAPE: Shape = Shape {
    fields: &[
        ("pck_crl_issuer_chain", Below::Value),
        ("root_ca_crl", Below::Value),
        ("pck_crl", Below::Value),
        ("tcb_info_issuer_chain", Below::Value),
        ("tcb_info", Below::Value),
        ("tcb_info_signature", Below::Value),
        ("qe_identity_issuer_chain", Below::Value),
        ("qe_identity", Below::Value),
        ("qe_identity_signature", Below::Value),
    ],
    unknown: Unknown::PassedOver,
};

/// The collateral of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Reads the JSON object. Missing and doubled fields are refused, further ones passed over.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but that object.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        Self::from_json_noting(json).map(|(collateral, _)| collateral)
    }

    /// As [`Self::from_json`], with the names of the fields that were passed over.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_json_noting(json: &[u8]) -> Result<(Self, Vec<String>), Error> {
        let wrong = |found| Error::malformed("collateral", "the JSON object of nine strings", found);
        check_size("collateral", json, MAX_LEN).map_err(|error| match error {
            Oversized::Named(kind) => wrong(kind.to_string()),
            Oversized::Nameless(error) => error,
        })?;
        let text = std::str::from_utf8(without_bom(json)).map_err(|_| wrong(kind_of(json).to_string()))?;
        let read = || {
            let names = passed_over(text, &SHAPE)?;
            let Object(collateral) = serde_json::from_str::<Object<Self>>(text)?;
            Ok::<_, serde_json::Error>((collateral, names))
        };
        read().map_err(|error| match kind_of(json) {
            Kind::Collateral => wrong(error.to_string()),
            Kind::JsonObject | Kind::BrokenJson => wrong(format!("{}: {error}", kind_of(json))),
            other => wrong(other.to_string()),
        })
    }

    /// The JSON object, on several lines, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Bytes from hex of either case.
///
/// # Errors
/// [`Error::Malformed`] for anything else.
pub(crate) fn from_hex(what: &'static str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|error| Error::malformed(what, "bytes in hex", error.to_string()))
}

/// The DER of a CRL from hex, base64 or PEM (RFC 7468). Base64 of DER starts with `M`, which is no digit of hex.
///
/// # Errors
/// [`Error::Malformed`] for anything else.
pub(crate) fn crl_der(text: &str) -> Result<Vec<u8>, Error> {
    const EXPECTED: &str = "a CRL in hex, base64 or PEM";
    let wrong = |found: String| Error::malformed("CRL", EXPECTED, found);
    if text.starts_with("-----BEGIN ") {
        return match pem_rfc7468::decode_vec(text.as_bytes()) {
            Ok(("X509 CRL", der)) => Ok(der),
            _ => Err(wrong(kind_of(text.as_bytes()).to_string())),
        };
    }
    if text.starts_with('M') {
        return STANDARD.decode(text).map_err(|error| wrong(format!("broken base64: {error}")));
    }
    match text {
        "" => Err(wrong("nothing".to_owned())),
        _ => hex::decode(text).map_err(|error| wrong(format!("broken hex: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn collateral() -> Collateral {
        let text = || "x".to_owned();
        Collateral {
            pck_crl_issuer_chain: text(),
            root_ca_crl: text(),
            pck_crl: text(),
            tcb_info_issuer_chain: text(),
            tcb_info: text(),
            tcb_info_signature: text(),
            qe_identity_issuer_chain: text(),
            qe_identity: text(),
            qe_identity_signature: text(),
        }
    }

    #[test]
    fn further_fields_are_passed_over_and_named() {
        let json = collateral().to_json();
        for value in ["null", "\"-----BEGIN CERTIFICATE-----\"", "{\"pck_crl\": [1]}"] {
            let more =
                json.replacen('{', &format!("{{\"pck_certificate_chain\": {value}, \"teeType\": 0,"), 1);
            let (read, names) = Collateral::from_json_noting(more.as_bytes()).unwrap();
            assert_eq!(read, collateral());
            assert_eq!(names, ["pck_certificate_chain", "teeType"]);
            let bom = format!("\u{feff}{more}");
            assert_eq!(Collateral::from_json(bom.as_bytes()).unwrap(), collateral());
        }
        let twice = json.replacen('{', "{\"more\": 1, \"more\": 2,", 1);
        let error = Collateral::from_json(twice.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{error}");
    }

    #[test]
    fn another_file_is_called_by_its_name() {
        for (bytes, name) in [
            (&b""[..], "an empty file"),
            (b"{}", "another JSON object"),
            (b"-----BEGIN CERTIFICATE-----", "a certificate in PEM"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"{\"certificate\": \"\", \"quote\": \"\", \"collateral\": {}}", "an evidence file"),
            (b"{\"tcbInfo\": {}}", "TCB info alone"),
        ] {
            let error = Collateral::from_json(bytes).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
        let tar = [vec![0; 257], b"ustar".to_vec(), vec![0; MAX_LEN]].concat();
        assert!(Collateral::from_json(&tar).unwrap_err().to_string().contains("a tar archive"));
    }

    #[test]
    fn lists_are_read_in_hex_base64_and_pem() {
        let der = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        let base64 = STANDARD.encode(&der);
        let pem = pem_rfc7468::encode_string("X509 CRL", pem_rfc7468::LineEnding::LF, &der).unwrap();
        for text in [&hex::encode(&der), &hex::encode_upper(&der), &base64, &pem] {
            assert_eq!(crl_der(text).unwrap(), der, "{text}");
        }
        let other = pem.replace("X509 CRL", "CERTIFICATE");
        for text in ["", " ", "3", "xx", "M", &base64[1..], &other, &format!("{pem}{pem}")] {
            assert!(crl_der(text).is_err(), "{text}");
        }
    }
}
