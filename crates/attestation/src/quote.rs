//! The DCAP quote, version 3, ECDSA P-256: reading and writing its bytes.
//!
//! Trusts nothing and judges little: [`Quote::parse`] refuses what does not add up to the byte, but leaves values (the
//! vendor, the attributes) to [`crate::verify`]. Format: Intel "SGX ECDSA QuoteLibReference DCAP API", appendix A.
//! All integers are little-endian:
//!
//! ```text
//!    0   48  header
//!   48  384  report of the enclave (ISV report)
//!  432    4  length of all that follows
//!  436   64  ECDSA signature over bytes 0..432, by the attestation key
//!  500   64  attestation public key, x | y
//!  564  384  report of the quoting enclave
//!  948   64  ECDSA signature over that report, by the PCK
//! 1012    2  length n of the QE authentication data, then n bytes
//!    .    2  certification data type, 4 length, then the data
//! ```

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::error::Error;
use crate::recognise::{self, Kind, OPEN_ENCLAVE_HEADER_LEN, kind_of, kind_of_raw, without_bom};
use crate::report::EnclaveReport;

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 48;
/// Length of what the attestation key signs: header and enclave report.
pub const SIGNED_LEN: usize = 432;
/// The shortest possible quote: no authentication data, no certification data.
pub const MIN_LEN: usize = 1020;
/// The longest raw quote that is read, in bytes. Real ones have 4 to 5 kB.
pub const MAX_LEN: usize = 65_536;
/// The longest text (hex, base64 or PEM) that is read as a quote, in bytes.
pub const MAX_TEXT_LEN: usize = 262_144;
/// The version this module reads.
pub const VERSION: u16 = 3;
/// `attestation key type`: ECDSA-256 with the P-256 curve.
pub const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
/// `TEE type`: SGX.
pub const TEE_SGX: u32 = 0;
/// `TEE type`: TDX.
pub const TEE_TDX: u32 = 0x81;
/// `QE vendor ID`: Intel, 939a7233-f79c-4ca9-940a-0db3957f0607.
pub const QE_VENDOR_INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data type 5: the PCK certificate chain in PEM, leaf first.
pub const CERTIFICATION_PCK_CHAIN: u16 = 5;

/// The 48 bytes in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the structure, 3.
    pub version: u16,
    /// Type of the attestation key, 2 for ECDSA P-256.
    pub attestation_key_type: u16,
    /// TEE type (reserved in version 3): 0 for SGX.
    pub tee_type: u32,
    /// ISVSVN of the quoting enclave, as it says itself.
    pub qe_svn: u16,
    /// ISVSVN of the provisioning certification enclave, as the QE says.
    pub pce_svn: u16,
    /// Vendor of the quoting enclave.
    pub qe_vendor_id: [u8; 16],
    /// Free for the vendor; Intel puts a platform identifier there.
    pub user_data: [u8; 20],
}

impl Header {
    /// Reads the header. Any value passes.
    pub fn from_array(bytes: &[u8; HEADER_LEN]) -> Self {
        let array = |at: usize| [bytes[at], bytes[at + 1]];
        let mut header = Self {
            version: u16::from_le_bytes(array(0)),
            attestation_key_type: u16::from_le_bytes(array(2)),
            tee_type: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            qe_svn: u16::from_le_bytes(array(8)),
            pce_svn: u16::from_le_bytes(array(10)),
            qe_vendor_id: [0; 16],
            user_data: [0; 20],
        };
        header.qe_vendor_id.copy_from_slice(&bytes[12..28]);
        header.user_data.copy_from_slice(&bytes[28..48]);
        header
    }

    /// The encoded header.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.attestation_key_type.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.tee_type.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.qe_svn.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.pce_svn.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.qe_vendor_id);
        bytes[28..48].copy_from_slice(&self.user_data);
        bytes
    }
}

/// The name of a quote that this module does not read, by its version and TEE type; nothing for one of version 3.
pub fn other_quote(header: &Header) -> Option<String> {
    let version = header.version;
    match (version, header.tee_type) {
        (VERSION, _) => None,
        (4.., TEE_TDX) => Some(format!("a TDX quote, version {version}")),
        (4 | 5, TEE_SGX) => Some(format!("an SGX quote of version {version}")),
        (1 | 2, _) if header.attestation_key_type < 2 => {
            Some(format!("version {version}, as the quotes of Intel's former EPID service have"))
        }
        _ => Some(format!("version {version}")),
    }
}

/// A certification data type with its name in Intel's "SGX ECDSA QuoteLibReference DCAP API", appendix A.
pub fn certification_data_name(kind: u16) -> String {
    let name = match kind {
        1 => "PPID in plain text",
        2 => "encrypted PPID, RSA-2048",
        3 => "encrypted PPID, RSA-3072",
        4 => "PCK certificate alone",
        CERTIFICATION_PCK_CHAIN => return "type 5".to_owned(),
        6 => "QE report certification data",
        7 => "platform manifest",
        _ => "unknown",
    };
    format!("type {kind} ({name})")
}

/// Everything after the signed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteSignature {
    /// ECDSA signature (r | s, big-endian) over header and report, by the attestation key.
    pub signature: [u8; 64],
    /// The attestation public key (x | y, big-endian).
    pub attestation_key: [u8; 64],
    /// The quoting enclave's report, whose report data binds the attestation key.
    pub qe_report: EnclaveReport,
    /// ECDSA signature over the QE report, by the PCK.
    pub qe_report_signature: [u8; 64],
    /// Bytes that the QE binds together with its key.
    pub qe_auth_data: Vec<u8>,
    /// What certifies the PCK; the type is 5 for a certificate chain.
    pub certification_data_type: u16,
    /// The certification data: for type 5 PEM text, sometimes ending in one NUL.
    pub certification_data: Vec<u8>,
}

impl QuoteSignature {
    /// Reads exactly this structure.
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = Rest { bytes, at: 0 };
        let signature = rest.array("the quote signature")?;
        let attestation_key = rest.array("the attestation key")?;
        let qe_report = EnclaveReport::from_array(&rest.array("the QE report")?);
        let qe_report_signature = rest.array("the QE report signature")?;
        let auth_len = u16::from_le_bytes(rest.array("the QE authentication data length")?);
        let qe_auth_data = rest.take(usize::from(auth_len), "the QE authentication data")?.to_vec();
        let certification_data_type = u16::from_le_bytes(rest.array("the certification data type")?);
        let data_len = u32::from_le_bytes(rest.array("the certification data length")?);
        let certification_data = rest.take(data_len as usize, "the certification data")?.to_vec();
        if rest.left() > 0 {
            let found = format!("{} bytes after it", rest.left());
            return Err(Error::malformed(
                "quote",
                "a signature that ends with its certification data",
                found,
            ));
        }
        Ok(Self {
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_auth_data,
            certification_data_type,
            certification_data,
        })
    }
}

/// A whole quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who made it and how.
    pub header: Header,
    /// The enclave it speaks for.
    pub report: EnclaveReport,
    /// Signature, keys and certificates.
    pub signature: QuoteSignature,
}

impl Quote {
    /// Reads exactly one version 3 quote: every declared length must add up and nothing may follow.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] where a length is wrong, bytes are missing or bytes
    /// are left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (quote, left) = Self::parse_prefix(bytes)?;
        if left > 0 {
            let rest = After::of(bytes, left);
            return Err(Error::malformed("quote", format!("{} bytes", rest.length), rest.to_string()));
        }
        Ok(quote)
    }

    /// Reads a version 3 quote at the start of `bytes`; says how many bytes follow it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for another version or attestation key type, which
    /// have another layout, and where a length is wrong or bytes are missing.
    pub fn parse_prefix(bytes: &[u8]) -> Result<(Self, usize), Error> {
        Error::check_size("quote", bytes, MAX_LEN)?;
        let mut rest = Rest { bytes, at: 0 };
        let header = Header::from_array(&rest.array("the header")?);
        if let Some(other) = other_quote(&header) {
            return Err(Error::malformed("quote", "an SGX quote of version 3", other));
        }
        if header.attestation_key_type != ATTESTATION_KEY_ECDSA_P256 {
            let found = format!("type {}", header.attestation_key_type);
            return Err(Error::malformed("quote", "attestation key type 2 (ECDSA P-256)", found));
        }
        let report = EnclaveReport::from_array(&rest.array("the enclave report")?);
        let tail_len = u32::from_le_bytes(rest.array("the signature length")?);
        let tail = rest.take(tail_len as usize, "the signature and what certifies it")?;
        Ok((Self { header, report, signature: QuoteSignature::parse(tail)? }, rest.left()))
    }

    /// The encoded quote.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tail = &self.signature;
        let tail_len = MIN_LEN - SIGNED_LEN - 4 + tail.qe_auth_data.len() + tail.certification_data.len();
        let mut bytes = Vec::with_capacity(SIGNED_LEN + 4 + tail_len);
        bytes.extend_from_slice(&self.signed_bytes());
        bytes.extend_from_slice(&(tail_len as u32).to_le_bytes());
        bytes.extend_from_slice(&tail.signature);
        bytes.extend_from_slice(&tail.attestation_key);
        bytes.extend_from_slice(&tail.qe_report.to_bytes());
        bytes.extend_from_slice(&tail.qe_report_signature);
        bytes.extend_from_slice(&(tail.qe_auth_data.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&tail.qe_auth_data);
        bytes.extend_from_slice(&tail.certification_data_type.to_le_bytes());
        bytes.extend_from_slice(&(tail.certification_data.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&tail.certification_data);
        bytes
    }

    /// What the attestation key signs: header and enclave report.
    pub fn signed_bytes(&self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&self.header.to_bytes());
        bytes[HEADER_LEN..].copy_from_slice(&self.report.to_bytes());
        bytes
    }

    /// Finds the raw quote in `bytes`, which may be raw already, or text: hex (of either case, with `0x`, colons and white
    /// space), base64 (of either alphabet, with or without padding) or one PEM block of any label but those of certificates, requests, lists and keys; with a
    /// byte order mark or in the quotes of a JSON string. The header of an Open Enclave report is stepped over. What comes
    /// back is not parsed yet.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else, called by its name where it has one; [`Error::TooLarge`] above
    /// [`MAX_LEN`], or [`MAX_TEXT_LEN`] for text.
    pub fn recognise(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let wrong = |kind: Kind| Error::malformed("quote", WANTED, kind.to_string());
        let text = without_bom(bytes);
        let is_text = text.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
        let limit = if is_text { MAX_TEXT_LEN } else { MAX_LEN + OPEN_ENCLAVE_HEADER_LEN };
        if bytes.len() > limit {
            let kind = kind_of(bytes);
            let nameless = matches!(kind, Kind::Binary | Kind::Text | Kind::Hex(_) | Kind::Quote);
            return Err(match nameless {
                true => Error::TooLarge { what: "quote", limit, found: bytes.len() },
                false => wrong(kind),
            });
        }
        let raw = match is_text {
            true => from_text(&String::from_utf8_lossy(text)).ok_or_else(|| wrong(kind_of(bytes)))?,
            false => bytes.to_vec(),
        };
        let raw = match kind_of_raw(&raw) {
            Kind::Quote | Kind::OtherQuote(_) | Kind::Binary => raw,
            Kind::OpenEnclave { declared, found } if declared == found as u64 => {
                raw[OPEN_ENCLAVE_HEADER_LEN..].to_vec()
            }
            other => return Err(wrong(other)),
        };
        Error::check_size("quote", &raw, MAX_LEN)?;
        Ok(raw)
    }

    /// Whether the file that [`Self::recognise`] was given starts with Open Enclave's header.
    pub fn is_open_enclave_report(bytes: &[u8]) -> bool {
        let text = without_bom(bytes);
        let raw = std::str::from_utf8(text).ok().and_then(from_text);
        matches!(recognise::open_enclave(raw.as_deref().unwrap_or(bytes)), Some(Kind::OpenEnclave { .. }))
    }

    /// The PCK certificate chain in the certification data, PEM; Intel's ends in one NUL, which is no part of it.
    ///
    /// # Errors
    /// [`Error::NoPckCertificate`] where the certification data is something else than a chain.
    pub fn pck_chain(&self) -> Result<&[u8], Error> {
        let tail = &self.signature;
        if tail.certification_data_type != CERTIFICATION_PCK_CHAIN {
            return Err(Error::NoPckCertificate { kind: tail.certification_data_type });
        }
        let data = tail.certification_data.as_slice();
        Ok(data.strip_suffix(&[0]).unwrap_or(data))
    }
}

/// What stands after a quote.
pub struct After {
    /// Length of the quote, in bytes.
    pub length: usize,
    /// How many bytes follow.
    pub left: usize,
    /// Whether all of them are zero.
    pub zero: bool,
}

impl After {
    /// The last `left` bytes of `bytes`, which start with a quote.
    pub fn of(bytes: &[u8], left: usize) -> Self {
        let length = bytes.len().saturating_sub(left);
        Self { length, left, zero: bytes[length..].iter().all(|byte| *byte == 0) }
    }

    /// What to do about them; nothing where there are none.
    pub fn advice(&self) -> Option<String> {
        let length = self.length;
        match (self.left, self.zero) {
            (0, _) => None,
            (_, true) => Some(format!(
                "the quote ends after {length} bytes, and zeros of the buffer it was written to follow: cut it to {length} bytes"
            )),
            (_, false) => Some(format!("the quote ends after {length} bytes: find out what follows it")),
        }
    }
}

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.zero && self.left > 0 { "zero bytes" } else { "bytes" };
        write!(f, "{} {what} after it", self.left)
    }
}

/// What [`Quote::recognise`] reads.
const WANTED: &str = "a quote, raw, in hex, in base64 or in PEM";

/// Base64 with or without padding; [`base64`] brings both alphabets to this one.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes a quote from text.
fn from_text(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    match text.strip_prefix("-----BEGIN ") {
        Some(after) => base64(pem_body(after)?),
        None => decode_text(text).map(|(_, raw)| raw),
    }
}

/// Decodes hex or base64, and says which of them it was.
pub(crate) fn decode_text(text: &str) -> Option<(&'static str, Vec<u8>)> {
    let text = text.trim_ascii();
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let compact: String = unquoted.unwrap_or(text).split_ascii_whitespace().collect();
    if compact.is_empty() {
        return None;
    }
    let digits = compact.strip_prefix("0x").or_else(|| compact.strip_prefix("0X")).unwrap_or(&compact);
    let digits: String = digits.split(':').collect();
    // An odd number of digits is hex that was cut, and no base64.
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return hex::decode(digits).ok().map(|raw| ("hex", raw));
    }
    base64(&compact).map(|raw| ("base64", raw))
}

/// Decodes base64 of either alphabet (RFC 4648, 4 and 5), without white space.
fn base64(text: &str) -> Option<Vec<u8>> {
    let standard: String = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    BASE64.decode(standard).ok()
}

/// The base64 text of the only block in `after`, which is what follows the first `-----BEGIN `.
fn pem_body(after: &str) -> Option<&str> {
    let (label, rest) = after.split_once("-----")?;
    let (body, end) = rest.split_once("-----END ")?;
    let closes = end.strip_prefix(label)? == "-----";
    let is_another = !matches!(recognise::pem(label), Kind::OtherPem | Kind::Encoded(..));
    (closes && !is_another).then_some(body)
}

/// What is left of a quote while it is read.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize, part: &str) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(|| {
            Error::malformed(
                "quote",
                format!("{length} bytes for {part} at offset {}", self.at),
                format!("{} bytes", self.left()),
            )
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, part)?);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn quote(auth_data: Vec<u8>, certification_data: Vec<u8>) -> Quote {
        Quote {
            header: Header {
                version: VERSION,
                attestation_key_type: ATTESTATION_KEY_ECDSA_P256,
                tee_type: TEE_SGX,
                qe_svn: 10,
                pce_svn: 15,
                qe_vendor_id: QE_VENDOR_INTEL,
                user_data: [5; 20],
            },
            report: EnclaveReport { isv_svn: 7, ..EnclaveReport::default() },
            signature: QuoteSignature {
                signature: [1; 64],
                attestation_key: [2; 64],
                qe_report: EnclaveReport { isv_svn: 8, ..EnclaveReport::default() },
                qe_report_signature: [3; 64],
                qe_auth_data: auth_data,
                certification_data_type: CERTIFICATION_PCK_CHAIN,
                certification_data,
            },
        }
    }

    proptest! {
        #[test]
        fn parse_undoes_to_bytes(auth in prop::collection::vec(any::<u8>(), 0..80), data in prop::collection::vec(any::<u8>(), 0..80)) {
            let quote = quote(auth, data);
            prop_assert_eq!(Quote::parse(&quote.to_bytes()).unwrap(), quote);
        }

        #[test]
        fn hostile_bytes_never_panic_and_what_parses_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(quote) = Quote::parse(&bytes) {
                prop_assert_eq!(quote.to_bytes(), bytes.clone());
            }
            let _ = Quote::recognise(&bytes);
        }

        #[test]
        fn a_changed_length_is_never_the_same_quote(at in 0usize..2, value in any::<[u8; 4]>()) {
            let bytes = quote(vec![4; 32], vec![6; 100]).to_bytes();
            let place = [SIGNED_LEN, bytes.len() - 104][at];
            let mut other = bytes.clone();
            other[place..place + 4].copy_from_slice(&value);
            prop_assume!(other != bytes);
            prop_assert!(Quote::parse(&other).is_err());
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = quote(vec![4; 32], vec![6; 100]).to_bytes();
        for length in 0..bytes.len() {
            assert!(Quote::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(quote(Vec::new(), Vec::new()).to_bytes().len(), MIN_LEN);
        assert_eq!(SIGNED_LEN, HEADER_LEN + crate::report::REPORT_LEN);
    }

    #[test]
    fn bytes_after_a_quote_are_told_and_refused() {
        let quote = quote(vec![4; 32], vec![6; 100]);
        let mut bytes = quote.to_bytes();
        bytes.extend([0, 0, 0]);
        assert_eq!(Quote::parse_prefix(&bytes).unwrap(), (quote, 3));
        let length = bytes.len() - 3;
        let error = Quote::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {length} bytes, found 3 zero bytes after it")), "{error}");
        let advice = After::of(&bytes, 3).advice().unwrap();
        assert!(advice.contains(&format!("cut it to {length} bytes")), "{advice}");
        bytes[length] = 1;
        assert!(!After::of(&bytes, 3).advice().unwrap().contains("cut"));
    }

    #[test]
    fn sizes_are_limited() {
        assert!(matches!(Quote::parse(&vec![0; MAX_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(Quote::recognise(&vec![0; MAX_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(Quote::recognise(&vec![0; 2 * MAX_LEN]), Err(Error::TooLarge { .. })));
        assert!(matches!(Quote::recognise(&vec![b'0'; MAX_TEXT_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(Quote::recognise(&vec![b'0'; 2 * MAX_LEN + 2]), Err(Error::TooLarge { .. })));
        assert!(Quote::recognise(&vec![b'0'; 2 * MAX_LEN]).is_ok());
        assert!(Quote::recognise(&vec![0; MAX_LEN]).is_ok());
    }

    #[test]
    fn text_is_recognised_and_other_text_refused() {
        let raw = quote(vec![4; 32], vec![6; 100]).to_bytes();
        let (hex, base64) = (hex::encode(&raw), STANDARD.encode(&raw));
        let pem = format!("-----BEGIN SGX QUOTE-----\r\n{base64}\r\n-----END SGX QUOTE-----");
        for text in [&hex, &format!("0x{hex}\n"), &base64, &format!(" {base64}\n"), &pem] {
            assert_eq!(Quote::recognise(text.as_bytes()).unwrap(), raw);
        }
        let bytes = [
            hex.to_uppercase(),
            format!("0X{}", hex.to_uppercase()),
            raw.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            raw.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
            format!("\u{feff}{hex}"),
            format!("\u{feff}{base64}"),
            format!("\"{}\"\n", URL_SAFE_NO_PAD.encode(&raw)),
            URL_SAFE.encode(&raw),
            URL_SAFE_NO_PAD.encode(&raw),
            STANDARD_NO_PAD.encode(&raw),
            base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n"),
            pem.replace("SGX QUOTE", "QUOTE"),
        ];
        for text in bytes {
            assert_eq!(Quote::recognise(text.as_bytes()).unwrap(), raw, "{text}");
        }
        assert!(Quote::recognise(&hex.as_bytes()[1..]).is_err(), "an odd number of digits");
        let twice = format!("{pem}\n{pem}");
        let certificate = pem.replace("SGX QUOTE", "CERTIFICATE");
        let key = pem.replace("SGX QUOTE", "EC PRIVATE KEY");
        for text in ["", " ", "quote!", &twice, &certificate, &key, &pem[..pem.len() - 3]] {
            assert!(Quote::recognise(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_open_enclave_header_is_stepped_over_where_it_tells_the_length() {
        let raw = quote(vec![4; 32], vec![6; 100]).to_bytes();
        let report = |declared: usize| {
            let mut bytes = vec![1, 0, 0, 0, 2, 0, 0, 0];
            bytes.extend((declared as u64).to_le_bytes());
            bytes.extend(&raw);
            bytes
        };
        let right = report(raw.len());
        assert_eq!(Quote::recognise(&right).unwrap(), raw);
        assert_eq!(Quote::recognise(hex::encode(&right).as_bytes()).unwrap(), raw);
        assert!(Quote::is_open_enclave_report(&right));
        assert!(Quote::is_open_enclave_report(hex::encode(&right).as_bytes()));
        assert!(!Quote::is_open_enclave_report(&raw));
        for declared in [0, raw.len() - 1, raw.len() + 1, usize::MAX] {
            let error = Quote::recognise(&report(declared)).unwrap_err().to_string();
            assert!(error.contains("an Open Enclave report whose header declares"), "{error}");
        }
        let mut twice = report(right.len());
        twice.truncate(16);
        twice.extend(&right);
        assert!(Quote::parse(&Quote::recognise(&twice).unwrap()).is_err(), "one header is stepped over");
    }

    #[test]
    fn quotes_of_other_kinds_are_named() {
        let named = |version, tee, key| {
            let mut quote = quote(vec![4; 32], vec![6; 100]);
            quote.header = Header { version, tee_type: tee, attestation_key_type: key, ..quote.header };
            Quote::parse(&quote.to_bytes()).unwrap_err().to_string()
        };
        for (version, tee, key, name) in [
            (4, TEE_TDX, 2, "an SGX quote of version 3, found a TDX quote, version 4"),
            (5, TEE_TDX, 2, "a TDX quote, version 5"),
            (4, TEE_SGX, 2, "an SGX quote of version 4"),
            (2, 0, 1, "EPID"),
            (9, 0, 2, "version 9"),
            (3, 0, 3, "attestation key type 2"),
        ] {
            let found = named(version, tee, key);
            assert!(found.contains(name), "{found}");
        }
    }

    #[test]
    fn a_quote_without_a_pck_chain_says_whose_fault_that_is() {
        let mut quote = quote(vec![4; 32], b"chain\0".to_vec());
        assert_eq!(quote.pck_chain().unwrap(), b"chain");
        for (kind, name) in
            [(1, "PPID in plain text"), (2, "RSA-2048"), (3, "type 3 (encrypted PPID"), (9, "unknown")]
        {
            quote.signature.certification_data_type = kind;
            let error = quote.pck_chain().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("see to its quote provider library"), "{error}");
        }
    }
}
