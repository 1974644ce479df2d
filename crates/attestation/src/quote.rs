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
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
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
            return Err(Error::malformed("quote", "nothing after the quote", format!("{left} more bytes")));
        }
        Ok(quote)
    }

    /// Reads a version 3 quote at the start of `bytes`; says how many bytes follow it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] where a length is wrong or bytes are missing.
    pub fn parse_prefix(bytes: &[u8]) -> Result<(Self, usize), Error> {
        Error::check_size("quote", bytes, MAX_LEN)?;
        let mut rest = Rest { bytes, at: 0 };
        let header = Header::from_array(&rest.array("the header")?);
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

    /// Finds the raw quote in `bytes`, which may be raw already, or text: hex, base64 or one PEM block of any label but
    /// `CERTIFICATE`. What comes back is not parsed yet.
    ///
    /// # Errors
    /// [`Error::Malformed`] for text that is none of these, or for nothing at all; [`Error::TooLarge`] above
    /// [`MAX_LEN`], or [`MAX_TEXT_LEN`] for text.
    pub fn recognise(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let is_text = bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
        Error::check_size("quote", bytes, if is_text { MAX_TEXT_LEN } else { MAX_LEN })?;
        let raw = if is_text { from_text(&String::from_utf8_lossy(bytes))? } else { bytes.to_vec() };
        Error::check_size("quote", &raw, MAX_LEN)?;
        Ok(raw)
    }
}

/// Decodes a quote from text.
fn from_text(text: &str) -> Result<Vec<u8>, Error> {
    let wanted = "a quote, raw, in hex, in base64 or in PEM";
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(Error::malformed("quote", wanted, "nothing"));
    }
    let body = match text.strip_prefix("-----BEGIN ") {
        Some(after) => {
            pem_body(after).ok_or_else(|| Error::malformed("quote", wanted, "something else in PEM"))?
        }
        None => text,
    };
    let compact: String = body.split_ascii_whitespace().collect();
    if body.len() == text.len() {
        let digits = compact.strip_prefix("0x").unwrap_or(&compact);
        if let Ok(raw) = hex::decode(digits) {
            return Ok(raw);
        }
    }
    STANDARD.decode(&compact).map_err(|_| Error::malformed("quote", wanted, "some other text"))
}

/// The base64 text of the only block in `after`, which is what follows the first `-----BEGIN `.
fn pem_body(after: &str) -> Option<&str> {
    let (label, rest) = after.split_once("-----")?;
    let (body, end) = rest.split_once("-----END ")?;
    let closes = end.strip_prefix(label)? == "-----";
    (closes && label != "CERTIFICATE").then_some(body)
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
        assert!(Quote::parse(&bytes).unwrap_err().to_string().contains("3 more bytes"));
    }

    #[test]
    fn sizes_are_limited() {
        assert!(matches!(Quote::parse(&vec![0; MAX_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(Quote::recognise(&vec![0; MAX_LEN + 1]), Err(Error::TooLarge { .. })));
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
        let twice = format!("{pem}\n{pem}");
        let certificate = pem.replace("SGX QUOTE", "CERTIFICATE");
        for text in ["", " ", "quote!", &twice, &certificate, &pem[..pem.len() - 3]] {
            assert!(Quote::recognise(text.as_bytes()).is_err(), "{text}");
        }
    }
}
