//! One answer of a PCS or PCCS, brought into the form in which collateral holds it.
//!
//! TCB info and QE identity come as JSON objects that hold the signed document and its signature; the document's text is kept
//! to the byte, since the signature is over the text. CRLs come as DER, or as hex, base64 or PEM (RFC 7468) of it. Issuer
//! chains come in a header, PEM with percent-encoding (RFC 3986) or form encoding, where a space is a `+`. A body may be
//! packed (gzip, RFC 1952). None of these spellings is signed, so each is read. Nothing is believed: only what is needed to
//! assemble the collateral and to know its next update is read.

use super::{Document, MAX_ANSWER_BYTES};
use crate::Error;
use crate::crl::Crl;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Read;

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
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        match document {
            Document::TcbInfo => {
                let signed: SignedTcbInfo<'_> = from_json(body, name, "{\"tcbInfo\", \"signature\"}")?;
                self.signed_json(document, signed.document.get(), signed.signature)
            }
            Document::QeIdentity => {
                let signed: SignedQeIdentity<'_> =
                    from_json(body, name, "{\"enclaveIdentity\", \"signature\"}")?;
                self.signed_json(document, signed.document.get(), signed.signature)
            }
            Document::PckCrl | Document::RootCrl => {
                let der = crl_der(body).ok_or_else(|| {
                    Error::malformed(name, "a CRL in DER, hex, base64 or PEM", "something else")
                })?;
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
        // Hex in capitals says the same; collateral has it in one spelling.
        let signature = signature.trim().to_ascii_lowercase();
        Ok(Part { text: text.to_owned(), signature, chain, next_update: window.next_update })
    }

    fn chain(&self, document: Document) -> Result<String, Error> {
        let Some(header) = document.chain_headers().first() else { return Ok(String::new()) };
        let wrong = |found: &str| {
            Error::malformed("issuer chain", format!("url-encoded PEM in the header {header}"), found)
        };
        match percent_decode(&spaces(&self.chain)).decode_utf8() {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(pem.into_owned()),
            Ok(pem) if pem.is_empty() => Err(wrong("none")),
            _ => Err(wrong("something else")),
        }
    }
}

fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8], what: &'static str, expected: &str) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::malformed(what, expected, error.to_string()))
}

/// The chain with its spaces as spaces. Base64 has a `+` of its own; so it stands for a space where it does so in the words of
/// PEM, which have no other, and is encoded as `%2B` there.
fn spaces(chain: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: &[u8] = b"BEGIN+CERTIFICATE";
    match chain.windows(WORDS.len()).any(|window| window == WORDS) {
        true => chain.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect(),
        false => chain.into(),
    }
}

/// The body as it was before it was packed by `encoding`, the value of `Content-Encoding`; at most [`MAX_ANSWER_BYTES`].
///
/// # Errors
/// What was expected and what was found.
pub(super) fn unpack(body: Vec<u8>, encoding: Option<&[u8]>) -> Result<Vec<u8>, (String, String)> {
    let encoding = encoding.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match encoding.as_slice() {
        b"" | b"identity" => return Ok(body),
        b"gzip" | b"x-gzip" => {}
        _ => return Err(("an answer in gzip or as it is".to_owned(), super::reason::shown(&encoding))),
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(body.as_slice())
        .take(MAX_ANSWER_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| ("an answer in gzip".to_owned(), error.to_string()))?;
    if unpacked.len() > MAX_ANSWER_BYTES {
        return Err((format!("at most {MAX_ANSWER_BYTES} bytes"), "more, unpacked".to_owned()));
    }
    Ok(unpacked)
}

/// The DER of a CRL that came as DER, hex, base64 or PEM.
fn crl_der(body: &[u8]) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    // In hex the same starts with the character '3' (0x33), in base64 with 'M': they cannot be confused.
    if body.first() == Some(&SEQUENCE) {
        return Some(body.to_vec());
    }
    let text = body.trim_ascii();
    // A PCCS may quote its text as a JSON string.
    let quoted = text.starts_with(b"\"").then(|| serde_json::from_slice::<String>(text).ok());
    let unquoted = match quoted {
        Some(quoted) => Cow::Owned(quoted?.into_bytes()),
        None => Cow::Borrowed(text),
    };
    let text = unquoted.trim_ascii();
    if text.starts_with(b"3") {
        return hex::decode(text).ok();
    }
    let armour = |rest: &'_ [u8]| -> Option<Vec<u8>> {
        let rest = rest.strip_prefix(b"-----BEGIN X509 CRL-----")?;
        Some(rest.strip_suffix(b"-----END X509 CRL-----")?.to_vec())
    };
    let base64 = if text.starts_with(b"-----") { armour(text)? } else { text.to_vec() };
    let compact: Vec<u8> = base64.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok()
}
