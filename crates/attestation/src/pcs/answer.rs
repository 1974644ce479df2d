//! One answer of a PCS or PCCS, brought into the form in which collateral holds it.
//!
//! TCB info and QE identity come as JSON objects that hold the signed document and its signature; the document's text is kept
//! to the byte, since the signature is over the text. CRLs come as DER, as hex of DER or as PEM (RFC 7468). Issuer chains
//! come in a header, PEM with percent-encoding (RFC 3986). Nothing is believed: only what is needed to
//! assemble the collateral and to know its next update is read.

use super::{Document, MAX_ANSWER_BYTES};
use crate::Error;
use crate::crl::Crl;
use jiff::Timestamp;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The body.
    pub(super) body: Vec<u8>,
    /// The header with the issuer chain, as sent; empty where there was none.
    pub(super) chain: Vec<u8>,
}

/// One part of the collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// JSON text, or DER in hex.
    pub(super) text: String,
    /// Signature in hex; empty for CRLs, which carry their own.
    pub(super) signature: String,
    /// Issuer chain in PEM; empty for the root's CRL.
    pub(super) chain: String,
    /// When the issuer promises the next one.
    pub(super) next_update: Timestamp,
}

#[derive(Deserialize)]
struct SignedTcbInfo<'a> {
    #[serde(rename = "tcbInfo", borrow)]
    document: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
struct SignedQeIdentity<'a> {
    #[serde(rename = "enclaveIdentity", borrow)]
    document: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    next_update: Timestamp,
}

impl Answer {
    /// The part of the collateral that this answer holds.
    pub(super) fn read(&self, document: Document) -> Result<Part, Error> {
        let name = document.name();
        Error::check_size(name, &self.body, MAX_ANSWER_BYTES)?;
        match document {
            Document::TcbInfo => {
                let signed: SignedTcbInfo<'_> = from_json(&self.body, name, "{\"tcbInfo\", \"signature\"}")?;
                self.signed_json(document, signed.document.get(), signed.signature)
            }
            Document::QeIdentity => {
                let signed: SignedQeIdentity<'_> =
                    from_json(&self.body, name, "{\"enclaveIdentity\", \"signature\"}")?;
                self.signed_json(document, signed.document.get(), signed.signature)
            }
            Document::PckCrl | Document::RootCrl => {
                let der = crl_der(&self.body)
                    .ok_or_else(|| Error::malformed(name, "a CRL in DER, hex or PEM", "something else"))?;
                Ok(Part {
                    next_update: Crl::parse(&der)?.next_update,
                    text: hex::encode(der),
                    signature: String::new(),
                    chain: self.chain(document)?,
                })
            }
        }
    }

    fn signed_json(&self, document: Document, text: &str, signature: String) -> Result<Part, Error> {
        let window: Window = from_json(text.as_bytes(), document.name(), "a nextUpdate in RFC 3339")?;
        let chain = self.chain(document)?;
        Ok(Part { text: text.to_owned(), signature, chain, next_update: window.next_update })
    }

    fn chain(&self, document: Document) -> Result<String, Error> {
        let Some(header) = document.chain_headers().first() else { return Ok(String::new()) };
        let wrong = |found: &str| {
            Error::malformed("issuer chain", format!("url-encoded PEM in the header {header}"), found)
        };
        match percent_decode(&self.chain).decode_utf8() {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(pem.into_owned()),
            Ok(pem) if pem.is_empty() => Err(wrong("none")),
            _ => Err(wrong("something else")),
        }
    }
}

fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8], what: &'static str, expected: &str) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::malformed(what, expected, error.to_string()))
}

/// The DER of a CRL that came as DER, hex or PEM.
fn crl_der(body: &[u8]) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    // The same in hex starts with the character '3', 0x33: the two cannot be confused.
    if body.first() == Some(&SEQUENCE) {
        return Some(body.to_vec());
    }
    let text = body.trim_ascii();
    if text.starts_with(b"-----BEGIN X509 CRL-----") {
        return pem_rfc7468::decode_vec(text).ok().map(|(_, der)| der);
    }
    // A PCCS may quote its hex as a JSON string.
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    hex::decode(text).ok()
}
