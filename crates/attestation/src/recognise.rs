//! What a file is, told from its first bytes: so that a wrong kind of file is called by its name.
//!
//! Trusts nothing and judges nothing: a [`Kind`] goes into messages, never into a verdict. It names kinds only, never
//! content, since the file may be a key or secrets that were named by mistake. The cost is linear in the length.

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::Error;
use crate::quote::{self, HEADER_LEN, Header, QE_VENDOR_INTEL};

/// The byte order mark that some editors write in front of UTF-8 text.
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
/// How far into a file a quote behind some other header is looked for, in bytes.
const SEARCHED: usize = 256;
/// The longest TOML that is looked into, in bytes.
const MAX_TOML: usize = 65_536;
/// Length of the header in front of an Open Enclave report, in bytes: version, type, length of the quote.
pub const OPEN_ENCLAVE_HEADER_LEN: usize = 16;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No bytes at all.
    Empty,
    /// White space only.
    Blank,
    /// Text in UTF-16, as some shells and editors write it.
    Utf16,
    /// An MSE evidence file.
    Evidence,
    /// A node's answer to a nonce: evidence without collateral and arguments.
    LiveEvidence,
    /// The JSON object with all parts of the collateral.
    Collateral,
    /// One part of the collateral, by name: as Intel's service answers, or the signed document alone.
    CollateralPart(&'static str),
    /// A report of `mse quote verify` or `mse home verify`.
    Judgement,
    /// Another JSON object.
    JsonObject,
    /// Text that starts as JSON does, and is none.
    BrokenJson,
    /// An SGX quote of version 3, raw.
    Quote,
    /// A quote of another kind, by name.
    OtherQuote(String),
    /// Open Enclave's report of an enclave on the same machine, which nobody else can check.
    OpenEnclaveLocal,
    /// Open Enclave's report, as EGo and MarbleRun write it too: the quote begins at byte 16.
    OpenEnclave {
        /// The length of the quote, as the header says.
        declared: u64,
        /// The length of what follows the header.
        found: usize,
    },
    /// Some header, then a quote.
    QuoteAt(usize),
    /// Text that holds another kind in an encoding.
    Encoded(&'static str, Box<Kind>),
    /// Certificates in PEM.
    CertificatePem,
    /// A certificate in DER.
    CertificateDer,
    /// A private key, in PEM or DER.
    PrivateKey,
    /// A public key.
    PublicKey,
    /// A request for a certificate.
    CertificateRequest,
    /// A revocation list, in PEM or DER.
    Crl,
    /// Another PEM block.
    OtherPem,
    /// A tar archive; a package is one.
    Tar,
    /// A compressed file, by name of the compression.
    Compressed(&'static str),
    /// A program or a library.
    Elf,
    /// A policy.
    Policy,
    /// The description of a project, `mse.toml`.
    Project,
    /// What an operator chose at spawn, `args.toml`.
    Arguments,
    /// Other TOML.
    Toml,
    /// So many bytes in hex, and nothing that is known.
    Hex(usize),
    /// Other text.
    Text,
    /// Other bytes.
    Binary,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Blank => "nothing but white space",
            Self::Utf16 => "text in UTF-16 (save it as UTF-8)",
            Self::Evidence => "an evidence file",
            Self::LiveEvidence => "live evidence of a node, without collateral and arguments",
            Self::Collateral => "collateral",
            Self::CollateralPart(part) => return write!(f, "{part} alone, which is one part of collateral"),
            Self::Judgement => "a verification report",
            Self::JsonObject => "another JSON object",
            Self::BrokenJson => "text that starts like JSON and is not",
            Self::Quote => "an SGX quote",
            Self::OtherQuote(name) => name,
            Self::OpenEnclaveLocal => {
                "a local report of Open Enclave, which only an enclave of the same machine can check"
            }
            Self::OpenEnclave { declared, found } if *declared == *found as u64 => {
                "an Open Enclave report, whose quote begins at byte 16"
            }
            Self::OpenEnclave { declared, found } => {
                return write!(
                    f,
                    "an Open Enclave report whose header declares a quote of {declared} bytes, and {found} bytes after it"
                );
            }
            Self::QuoteAt(offset) => {
                return write!(f, "another header, and what looks like a quote at byte {offset}");
            }
            Self::Encoded(encoding, kind) => return write!(f, "{kind}, in {encoding}"),
            Self::CertificatePem => "a certificate in PEM",
            Self::CertificateDer => "a certificate in DER",
            Self::PrivateKey => "a private key",
            Self::PublicKey => "a public key",
            Self::CertificateRequest => "a certificate signing request",
            Self::Crl => "a certificate revocation list",
            Self::OtherPem => "another PEM block",
            Self::Tar => "a tar archive (a package is one)",
            Self::Compressed(name) => return write!(f, "a file compressed with {name}"),
            Self::Elf => "an ELF program or library",
            Self::Policy => "a policy",
            Self::Project => "a project's mse.toml",
            Self::Arguments => "an operator's args.toml",
            Self::Toml => "another TOML file",
            Self::Hex(length) => return write!(f, "{length} bytes in hex"),
            Self::Text => "some other text",
            Self::Binary => "some other bytes",
        })
    }
}

/// Tells what `bytes` are.
pub fn kind_of(bytes: &[u8]) -> Kind {
    if bytes.is_empty() {
        return Kind::Empty;
    }
    if let Some(kind) = binary(bytes) {
        return kind;
    }
    let bytes = without_bom(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => textual(text.trim()),
        _ => Kind::Binary,
    }
}

/// Input that is longer than its reader takes.
pub(crate) enum Oversized {
    /// A file of another kind, which says more than a length.
    Named(Kind),
    /// Anything else.
    Nameless(Error),
}

/// Refuses `bytes` longer than `limit`, by their kind where only another kind of file is that long.
pub(crate) fn check_size(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), Oversized> {
    Error::check_size(what, bytes, limit).map_err(|error| match kind_of(bytes) {
        kind @ (Kind::Tar | Kind::Compressed(_) | Kind::Elf) => Oversized::Named(kind),
        _ => Oversized::Nameless(error),
    })
}

/// `bytes` without a UTF-8 byte order mark in front.
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF8_BOM).unwrap_or(bytes)
}

/// What is told from bytes that no text starts with.
fn binary(bytes: &[u8]) -> Option<Kind> {
    const COMPRESSED: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
    ];
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(Kind::Compressed(name));
    }
    if bytes.starts_with(b"\x7fELF") {
        return Some(Kind::Elf);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(Kind::Tar);
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some(Kind::Utf16);
    }
    der(bytes).or_else(|| open_enclave(bytes)).or_else(|| quote_at_start(bytes)).or_else(|| hidden(bytes))
}

/// The usual DER structures, by the elements that come first.
fn der(bytes: &[u8]) -> Option<Kind> {
    let outer = sequence(bytes)?;
    // The version of PKCS #8, PKCS #1 and SEC 1 keys.
    if outer.starts_with(&[2, 1, 0]) || outer.starts_with(&[2, 1, 1]) {
        return Some(Kind::PrivateKey);
    }
    let inner = sequence(outer)?;
    if inner.starts_with(&[0xa0, 3, 2, 1]) {
        return Some(Kind::CertificateDer);
    }
    if inner.starts_with(&[2, 1, 0]) {
        return Some(Kind::CertificateRequest);
    }
    if inner.starts_with(&[2, 1, 1]) {
        return Some(Kind::Crl);
    }
    inner.starts_with(&[6]).then_some(Kind::PublicKey)
}

/// The content of a DER SEQUENCE at the start of `bytes`; what is declared may be longer than what is there.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if tag != 0x30 {
        return None;
    }
    match length {
        0..=0x7f => Some(rest),
        0x81..=0x83 => rest.get(usize::from(length & 0x7f)..),
        _ => None,
    }
}

/// Open Enclave's `oe_report_header_t`: version 1, type (1 local, 2 remote), length; all little-endian.
pub(crate) fn open_enclave(bytes: &[u8]) -> Option<Kind> {
    let header: &[u8; OPEN_ENCLAVE_HEADER_LEN] = bytes.first_chunk()?;
    let (version, rest) = header.split_first_chunk::<4>()?;
    let (kind, length) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 1 {
        return None;
    }
    let declared = u64::from_le_bytes(*length.first_chunk()?);
    let found = bytes.len() - OPEN_ENCLAVE_HEADER_LEN;
    match u32::from_le_bytes(*kind) {
        1 if declared == found as u64 => Some(Kind::OpenEnclaveLocal),
        2 if quote_at_start(&bytes[OPEN_ENCLAVE_HEADER_LEN..]).is_some() || declared == found as u64 => {
            Some(Kind::OpenEnclave { declared, found })
        }
        _ => None,
    }
}

/// A DCAP quote of any version by its header: the vendor of the quoting enclave stands at byte 12.
fn quote_at_start(bytes: &[u8]) -> Option<Kind> {
    let header = Header::from_array(bytes.first_chunk::<HEADER_LEN>()?);
    if header.qe_vendor_id != QE_VENDOR_INTEL {
        return None;
    }
    Some(quote::other_quote(&header).map_or(Kind::Quote, Kind::OtherQuote))
}

/// A quote behind a header that is not known.
fn hidden(bytes: &[u8]) -> Option<Kind> {
    let start = &bytes[..bytes.len().min(SEARCHED)];
    let vendor = start.windows(QE_VENDOR_INTEL.len()).position(|window| window == QE_VENDOR_INTEL)?;
    let offset = vendor.checked_sub(12).filter(|offset| *offset > 0)?;
    let version = u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
    (3..=5).contains(&version).then_some(Kind::QuoteAt(offset))
}

/// What is told from text.
fn textual(text: &str) -> Kind {
    if text.is_empty() {
        return Kind::Blank;
    }
    if text.starts_with('{') {
        return json(text);
    }
    if let Some(label) = text.strip_prefix("-----BEGIN ") {
        return pem(label);
    }
    if let Some((encoding, raw)) = quote::decode_text(text) {
        return match (kind_of_raw(&raw), encoding) {
            (Kind::Binary, "hex") => Kind::Hex(raw.len()),
            // Most short words are base64 of something.
            (Kind::Binary, _) => toml(text),
            (kind, encoding) => Kind::Encoded(encoding, Box::new(kind)),
        };
    }
    toml(text)
}

/// What decoded bytes are, not looking for text in them again.
pub(crate) fn kind_of_raw(bytes: &[u8]) -> Kind {
    if bytes.is_empty() { Kind::Empty } else { binary(bytes).unwrap_or(Kind::Binary) }
}

/// A PEM block by its label, of which the first one counts.
pub(crate) fn pem(after: &str) -> Kind {
    let label = after.split("-----").next().unwrap_or_default();
    match label {
        "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => Kind::CertificatePem,
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::CertificateRequest,
        "X509 CRL" => Kind::Crl,
        label if label.ends_with("PRIVATE KEY") => Kind::PrivateKey,
        label if label.ends_with("PUBLIC KEY") => Kind::PublicKey,
        label if label.ends_with("QUOTE") => Kind::Encoded("PEM", Box::new(Kind::Quote)),
        // openssl writes the parameters of a curve in front of its key.
        "EC PARAMETERS" => Kind::PrivateKey,
        _ => Kind::OtherPem,
    }
}

/// A JSON object by the names in it.
fn json(text: &str) -> Kind {
    let Ok(names) = serde_json::from_str::<Names>(text) else { return Kind::BrokenJson };
    if names.certificate && names.quote {
        return if names.collateral || names.arguments { Kind::Evidence } else { Kind::LiveEvidence };
    }
    match names {
        Names { pck_crl: true, .. } | Names { tcb_info_signature: true, .. } => Kind::Collateral,
        Names { tcb_info: true, .. } => Kind::CollateralPart("TCB info"),
        Names { qe_identity: true, .. } => Kind::CollateralPart("QE identity"),
        Names { verdict: true, checks: true, .. } => Kind::Judgement,
        _ => Kind::JsonObject,
    }
}

/// Which names stand at the top of a JSON object.
#[derive(Default)]
struct Names {
    certificate: bool,
    quote: bool,
    collateral: bool,
    arguments: bool,
    pck_crl: bool,
    tcb_info_signature: bool,
    tcb_info: bool,
    qe_identity: bool,
    verdict: bool,
    checks: bool,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Names::default();
                while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    match &*name {
                        "certificate" => names.certificate = true,
                        "quote" => names.quote = true,
                        "collateral" => names.collateral = true,
                        "arguments" => names.arguments = true,
                        "pck_crl" | "pck_crl_issuer_chain" => names.pck_crl = true,
                        "tcb_info_signature" | "qe_identity_signature" => names.tcb_info_signature = true,
                        "tcbInfo" | "fmspc" => names.tcb_info = true,
                        "enclaveIdentity" | "mrsigner" => names.qe_identity = true,
                        "verdict" => names.verdict = true,
                        "checks" => names.checks = true,
                        _ => {}
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(names)
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// TOML by the names in it; other text where it is none.
fn toml(text: &str) -> Kind {
    if text.len() > MAX_TOML {
        return Kind::Text;
    }
    let Ok(table) = text.parse::<toml::Table>() else { return Kind::Text };
    let has = |name: &str| table.contains_key(name);
    if has("python_application") {
        Kind::Project
    } else if has("app_id") && has("size_mb") {
        Kind::Arguments
    } else if has("allowed_tcb_statuses") || has("advisory") || has("max_collateral_age") {
        Kind::Policy
    } else {
        Kind::Toml
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn header(version: u16, tee: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1100];
        bytes[..2].copy_from_slice(&version.to_le_bytes());
        bytes[2] = 2;
        bytes[4..8].copy_from_slice(&tee.to_le_bytes());
        bytes[12..28].copy_from_slice(&QE_VENDOR_INTEL);
        bytes
    }

    fn open_enclave_report(kind: u32, declared: u64, quote: &[u8]) -> Vec<u8> {
        let mut bytes = 1_u32.to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(declared.to_le_bytes());
        bytes.extend(quote);
        bytes
    }

    #[test]
    fn files_are_called_by_their_names() {
        let (sgx, tdx) = (header(3, 0), header(4, 0x81));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let behind = [vec![7; 28], sgx.clone()].concat();
        let files: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "an empty file"),
            (b" \n".to_vec(), "nothing but white space"),
            (b"\xef\xbb\xbf{}".to_vec(), "another JSON object"),
            (b"\xff\xfe{\0}\0".to_vec(), "UTF-16"),
            (b"{\"certificate\": \"\", \"quote\": \"\", \"collateral\": {}}".to_vec(), "an evidence file"),
            (b"{\"certificate\": \"\", \"quote\": \"\"}".to_vec(), "live evidence"),
            (b"{\"pck_crl\": \"\"}".to_vec(), "collateral"),
            (b"{\"tcbInfo\": {}, \"signature\": \"\"}".to_vec(), "TCB info alone"),
            (b"{\"id\": \"QE\", \"mrsigner\": \"\"}".to_vec(), "QE identity alone"),
            (b"{\"verdict\": \"\", \"checks\": []}".to_vec(), "a verification report"),
            (b"{\"login\": \"x\"".to_vec(), "starts like JSON"),
            (sgx.clone(), "an SGX quote"),
            (hex::encode(&sgx).into_bytes(), "an SGX quote, in hex"),
            (STANDARD.encode(&sgx).into_bytes(), "an SGX quote, in base64"),
            (tdx.clone(), "a TDX quote, version 4"),
            (header(5, 0x81), "a TDX quote, version 5"),
            (header(4, 0), "an SGX quote of version 4"),
            (open_enclave_report(2, 1100, &sgx), "an Open Enclave report, whose quote begins at byte 16"),
            (open_enclave_report(2, 1099, &sgx), "declares a quote of 1099 bytes, and 1100 bytes after it"),
            (open_enclave_report(1, 432, &[0; 432]), "a local report"),
            (behind, "what looks like a quote at byte 28"),
            (b"-----BEGIN CERTIFICATE-----\n".to_vec(), "a certificate in PEM"),
            (b"-----BEGIN EC PRIVATE KEY-----\n".to_vec(), "a private key"),
            (b"-----BEGIN PUBLIC KEY-----\n".to_vec(), "a public key"),
            (b"-----BEGIN X509 CRL-----\n".to_vec(), "a certificate revocation list"),
            (b"-----BEGIN CERTIFICATE REQUEST-----\n".to_vec(), "a certificate signing request"),
            (b"-----BEGIN PGP MESSAGE-----\n".to_vec(), "another PEM block"),
            (vec![0x30, 0x82, 4, 0, 0x30, 0x82, 3, 0, 0xa0, 3, 2, 1, 2], "a certificate in DER"),
            (vec![0x30, 0x81, 0x87, 2, 1, 0, 0x30], "a private key"),
            (vec![0x30, 0x82, 4, 0, 0x30, 0x81, 200, 2, 1, 1, 0x30], "a certificate revocation list"),
            (tar, "a tar archive"),
            (b"\x1f\x8b\x08".to_vec(), "gzip"),
            (b"\x7fELF\x02".to_vec(), "ELF"),
            (b"allowed_tcb_statuses = []".to_vec(), "a policy"),
            (b"name = \"x\"\npython_application = \"app:app\"".to_vec(), "mse.toml"),
            (b"a = 1".to_vec(), "another TOML file"),
            (b"00ff".repeat(16), "32 bytes in hex"),
            (b"how do you do?".to_vec(), "some other text"),
            (vec![0, 1, 2], "some other bytes"),
        ];
        for (bytes, name) in files {
            let found = kind_of(&bytes).to_string();
            assert!(found.contains(name), "{name}: {found}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(!kind_of(&bytes).to_string().is_empty());
        }

        #[test]
        fn no_message_repeats_what_the_file_holds(word in "[g-z]{12,40}") {
            for text in [format!("{{\"{word}\": \"{word}\"}}"), format!("{word} = 1"), format!("-----BEGIN {word}-----")] {
                prop_assert!(!kind_of(text.as_bytes()).to_string().contains(&word));
            }
        }
    }
}
