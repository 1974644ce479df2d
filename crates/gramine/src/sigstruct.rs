//! SIGSTRUCT: the enclave signature structure of 1808 bytes (Intel SDM, volume 3D, "Enclave Signature Structure").
//!
//! The signature is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2), RSA-3072 with exponent 3, over the bytes `[0, 128)`
//! and `[900, 1028)`. It is deterministic: the same inputs give the same file. Q1 and Q2 are quotients that spare the
//! processor two long divisions; a wrong one makes it refuse the enclave, so [`SigStruct::verify`] checks them too.
//!
//! A SIGSTRUCT says who signed, never that the signer is to be trusted: compare [`SigStruct::mrsigner`].

use std::fmt;
use std::str::FromStr;

use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::{BigUint, RsaPublicKey};
use zeroize::Zeroizing;

use crate::Error;
use crate::attributes::{Attributes, SignedAttributes};
use crate::measure::measure;

pub use crate::signer_key::SignerKey;

/// Bytes of a SIGSTRUCT.
pub const SIZE: usize = 1808;
/// Bytes of the modulus, the signature, Q1 and Q2.
pub const NUMBER_SIZE: usize = 384;

const HEADER: [u8; 16] = *b"\x06\0\0\0\xe1\0\0\0\0\0\x01\0\0\0\0\0";
const HEADER2: [u8; 16] = *b"\x01\x01\0\0\x60\0\0\0\x60\0\0\0\x01\0\0\0";
const EXPONENT: u32 = 3;

/// The calendar date in a SIGSTRUCT: a label of the signer's. Impossible dates, such as `0000-00-00`, are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 99.
    pub month: u8,
    /// 0 to 99.
    pub day: u8,
}

impl FromStr for Date {
    type Err = Error;

    /// Reads `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Date, Error> {
        let number =
            |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        let read = || {
            let mut parts = text.split('-');
            let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
            let lengths = (year.len(), month.len(), day.len(), parts.next());
            let numbers =
                (number(year)?, u8::try_from(number(month)?).ok()?, u8::try_from(number(day)?).ok()?);
            (lengths == (4, 2, 2, None)).then_some(Date { year: numbers.0, month: numbers.1, day: numbers.2 })
        };
        read().ok_or_else(|| Error::Date { found: text.chars().take(40).collect() })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Date {
    /// Two decimal digits per byte: day, month, year (little-endian).
    fn to_bcd(self) -> Result<[u8; 4], Error> {
        if self.year > 9999 || self.month > 99 || self.day > 99 {
            return Err(Error::Date { found: self.to_string() });
        }
        let bcd = |number: u8| ((number / 10) << 4) | (number % 10);
        Ok([bcd(self.day), bcd(self.month), bcd((self.year % 100) as u8), bcd((self.year / 100) as u8)])
    }

    fn from_bcd(bytes: [u8; 4]) -> Option<Date> {
        let digits = |byte: u8| (byte >> 4 <= 9 && byte & 15 <= 9).then_some((byte >> 4) * 10 + (byte & 15));
        let [day, month, years, centuries] = bytes;
        let year = u16::from(digits(centuries)?) * 100 + u16::from(digits(years)?);
        Some(Date { year, month: digits(month)?, day: digits(day)? })
    }
}

/// A SIGSTRUCT, field by field. Numbers of 384 bytes are little-endian, as in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct SigStruct {
    /// VENDOR: 0, or 0x8086 for Intel's own enclaves.
    pub vendor: u32,
    /// DATE.
    pub date: Date,
    /// SWDEFINED.
    pub sw_defined: u32,
    /// MODULUS of the signer's key.
    pub modulus: [u8; NUMBER_SIZE],
    /// SIGNATURE.
    pub signature: [u8; NUMBER_SIZE],
    /// MISCSELECT.
    pub misc_select: u32,
    /// MISCMASK.
    pub misc_mask: u32,
    /// CET_ATTRIBUTES and their mask.
    pub cet_attributes: [u8; 2],
    /// ISVFAMILYID.
    pub isv_family_id: [u8; 16],
    /// ATTRIBUTES.
    pub attributes: Attributes,
    /// ATTRIBUTEMASK.
    pub attribute_mask: Attributes,
    /// ENCLAVEHASH: the MRENCLAVE that this is for.
    pub mrenclave: [u8; 32],
    /// ISVEXTPRODID.
    pub isv_ext_prod_id: [u8; 16],
    /// ISVPRODID.
    pub isv_prod_id: u16,
    /// ISVSVN.
    pub isv_svn: u16,
    /// Q1.
    pub q1: [u8; NUMBER_SIZE],
    /// Q2.
    pub q2: [u8; NUMBER_SIZE],
}

impl SigStruct {
    /// Measures the enclave of a manifest and libpal, and signs the result as Gramine's signer does, byte for byte.
    ///
    /// # Errors
    /// Those of [`measure`]; [`Error::Date`]; [`Error::SigningKey`] where the key is damaged.
    pub fn sign(manifest: &[u8], libpal: &[u8], key: &SignerKey, date: Date) -> Result<SigStruct, Error> {
        date.to_bcd()?;
        let measurement = measure(manifest, libpal)?;
        let SignedAttributes { attributes, attribute_mask, misc_select, misc_mask } =
            SignedAttributes::of(&measurement.settings);
        let mut sigstruct = SigStruct {
            vendor: 0,
            date,
            sw_defined: 0,
            modulus: key.modulus(),
            signature: [0; NUMBER_SIZE],
            misc_select,
            misc_mask,
            cet_attributes: [0; 2],
            isv_family_id: [0; 16],
            attributes,
            attribute_mask,
            mrenclave: measurement.mrenclave,
            isv_ext_prod_id: [0; 16],
            isv_prod_id: measurement.settings.isv_prod_id,
            isv_svn: measurement.settings.isv_svn,
            q1: [0; NUMBER_SIZE],
            q2: [0; NUMBER_SIZE],
        };
        sigstruct.signature = key.sign(&sigstruct.digest())?;
        (sigstruct.q1, sigstruct.q2) = quotients(&sigstruct.signature, &sigstruct.modulus);
        Ok(sigstruct)
    }

    /// Reads a SIGSTRUCT and checks what is constant in every one. The signature is left to [`SigStruct::verify`].
    ///
    /// # Errors
    /// [`Error::SigStruct`] with the field at fault.
    pub fn parse(bytes: &[u8]) -> Result<SigStruct, Error> {
        let bytes: &[u8; SIZE] =
            bytes.try_into().map_err(|_| wrong("size", "1808 bytes", format!("{} bytes", bytes.len())))?;
        for (name, offset, expected) in [("HEADER", 0, &HEADER), ("HEADER2", 24, &HEADER2)] {
            let found: [u8; 16] = array(bytes, offset);
            if found != *expected {
                return Err(wrong(name, hex::encode(expected), hex::encode(found)));
            }
        }
        for (offset, size) in [(44, 84), (910, 2), (992, 16), (1028, 12)] {
            if bytes[offset..offset + size].iter().any(|&byte| byte != 0) {
                return Err(wrong("reserved", format!("zeros from byte {offset}"), "others"));
            }
        }
        let exponent = u32_at(bytes, 512);
        if exponent != EXPONENT {
            return Err(wrong("EXPONENT", "3", exponent.to_string()));
        }
        let date = array(bytes, 20);
        Ok(SigStruct {
            vendor: u32_at(bytes, 16),
            date: Date::from_bcd(date).ok_or_else(|| wrong("DATE", "decimal digits", hex::encode(date)))?,
            sw_defined: u32_at(bytes, 40),
            modulus: array(bytes, 128),
            signature: array(bytes, 516),
            misc_select: u32_at(bytes, 900),
            misc_mask: u32_at(bytes, 904),
            cet_attributes: array(bytes, 908),
            isv_family_id: array(bytes, 912),
            attributes: Attributes { flags: u64_at(bytes, 928), xfrm: u64_at(bytes, 936) },
            attribute_mask: Attributes { flags: u64_at(bytes, 944), xfrm: u64_at(bytes, 952) },
            mrenclave: array(bytes, 960),
            isv_ext_prod_id: array(bytes, 1008),
            isv_prod_id: u16::from_le_bytes(array(bytes, 1024)),
            isv_svn: u16::from_le_bytes(array(bytes, 1026)),
            q1: array(bytes, 1040),
            q2: array(bytes, 1424),
        })
    }

    /// The file: 1808 bytes.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, &HEADER);
        put(16, &self.vendor.to_le_bytes());
        // A date that does not fit was refused when it was made; zeros stand for one that was changed since.
        put(20, &self.date.to_bcd().unwrap_or_default());
        put(24, &HEADER2);
        put(40, &self.sw_defined.to_le_bytes());
        put(128, &self.modulus);
        put(512, &EXPONENT.to_le_bytes());
        put(516, &self.signature);
        put(900, &self.misc_select.to_le_bytes());
        put(904, &self.misc_mask.to_le_bytes());
        put(908, &self.cet_attributes);
        put(912, &self.isv_family_id);
        put(928, &self.attributes.flags.to_le_bytes());
        put(936, &self.attributes.xfrm.to_le_bytes());
        put(944, &self.attribute_mask.flags.to_le_bytes());
        put(952, &self.attribute_mask.xfrm.to_le_bytes());
        put(960, &self.mrenclave);
        put(1008, &self.isv_ext_prod_id);
        put(1024, &self.isv_prod_id.to_le_bytes());
        put(1026, &self.isv_svn.to_le_bytes());
        put(1040, &self.q1);
        put(1424, &self.q2);
        bytes
    }

    /// Checks what the processor checks at EINIT of the structure alone: modulus, signature, Q1 and Q2.
    ///
    /// # Errors
    /// [`Error::SigStruct`] with the field at fault.
    pub fn verify(&self) -> Result<(), Error> {
        let modulus = BigUint::from_bytes_le(&self.modulus);
        if modulus.bits() != 3072 || self.modulus[0].is_multiple_of(2) {
            return Err(wrong(
                "MODULUS",
                "an odd number of 3072 bits",
                format!("one of {} bits", modulus.bits()),
            ));
        }
        let key = RsaPublicKey::new(modulus, EXPONENT.into())
            .map_err(|e| wrong("MODULUS", "an RSA key with exponent 3", e.to_string()))?;
        let mut signature = self.signature;
        signature.reverse();
        key.verify(Pkcs1v15Sign::new::<rsa::sha2::Sha256>(), &self.digest(), &signature)
            .map_err(|_| wrong("SIGNATURE", "one over these fields by this modulus", "another"))?;
        let (q1, q2) = quotients(&self.signature, &self.modulus);
        for (name, expected, found) in [("Q1", q1, self.q1), ("Q2", q2, self.q2)] {
            if expected != found {
                return Err(wrong(name, "the quotient of signature and modulus", "another number"));
            }
        }
        Ok(())
    }

    /// MRSIGNER: SHA-256 of the modulus.
    pub fn mrsigner(&self) -> [u8; 32] {
        mrsigner_of(&self.modulus)
    }

    /// SHA-256 of the signed bytes.
    fn digest(&self) -> [u8; 32] {
        let bytes = self.to_bytes();
        sha256(&[&bytes[..128], &bytes[900..1028]].concat())
    }
}

impl fmt::Debug for SigStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigStruct")
            .field("mrenclave", &hex::encode(self.mrenclave))
            .field("mrsigner", &hex::encode(self.mrsigner()))
            .field("attributes", &self.attributes)
            .field("isv_prod_id", &self.isv_prod_id)
            .field("isv_svn", &self.isv_svn)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// MRSIGNER of a little-endian modulus.
pub(crate) fn mrsigner_of(modulus: &[u8; NUMBER_SIZE]) -> [u8; 32] {
    sha256(modulus)
}

/// A number of at most 384 bytes as it stands in a SIGSTRUCT.
pub(crate) fn little_endian(number: &BigUint) -> [u8; NUMBER_SIZE] {
    let mut bytes = [0; NUMBER_SIZE];
    let digits = Zeroizing::new(number.to_bytes_le());
    let length = digits.len().min(NUMBER_SIZE);
    bytes[..length].copy_from_slice(&digits[..length]);
    bytes
}

/// `Q1 = s * s / n` and `Q2 = (s * s - Q1 * n) * s / n`, rounded down. The modulus must not be zero.
fn quotients(
    signature: &[u8; NUMBER_SIZE],
    modulus: &[u8; NUMBER_SIZE],
) -> ([u8; NUMBER_SIZE], [u8; NUMBER_SIZE]) {
    let (s, n) = (BigUint::from_bytes_le(signature), BigUint::from_bytes_le(modulus));
    let square = &s * &s;
    let q1 = &square / &n;
    let q2 = (square - &q1 * &n) * s / n;
    (little_endian(&q1), little_endian(&q2))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

fn wrong(field: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::SigStruct { field, expected: expected.into(), found: found.into() }
}

fn array<const N: usize>(bytes: &[u8; SIZE], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

fn u32_at(bytes: &[u8; SIZE], offset: usize) -> u32 {
    u32::from_le_bytes(array(bytes, offset))
}

fn u64_at(bytes: &[u8; SIZE], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}
