//! SIGSTRUCT.
use crate::{Error, attributes::Attributes};
use zeroize::Zeroizing;
/// A calendar date as SIGSTRUCT carries it; impossible dates are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// year
    pub year: u16,
    /// month
    pub month: u8,
    /// day
    pub day: u8,
}
impl std::str::FromStr for Date {
    type Err = Error;
    fn from_str(_: &str) -> Result<Date, Error> {
        todo!()
    }
}
/// RSA-3072, e = 3.
pub struct SignerKey(rsa::RsaPrivateKey);
impl SignerKey {
    /// A fresh key.
    pub fn generate() -> Result<SignerKey, Error> {
        todo!()
    }
    /// From PEM.
    pub fn from_pem(_: &str) -> Result<SignerKey, Error> {
        todo!()
    }
    /// To PKCS#8 PEM.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        let _ = &self.0;
        todo!()
    }
    /// SHA-256 of the modulus.
    pub fn mrsigner(&self) -> [u8; 32] {
        todo!()
    }
}
/// A parsed or freshly signed SIGSTRUCT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigStruct {
    /// d
    pub date: Date,
    /// m
    pub misc_select: u32,
    /// mm
    pub misc_mask: u32,
    /// a
    pub attributes: Attributes,
    /// am
    pub attribute_mask: Attributes,
    /// mre
    pub mrenclave: [u8; 32],
    /// id
    pub isv_prod_id: u16,
    /// svn
    pub isv_svn: u16,
}
impl SigStruct {
    /// Measures and signs.
    pub fn sign(_manifest: &[u8], _libpal: &[u8], _key: &SignerKey, _date: Date) -> Result<SigStruct, Error> {
        todo!()
    }
    /// Reads 1808 bytes.
    pub fn parse(_: &[u8]) -> Result<SigStruct, Error> {
        todo!()
    }
    /// The 1808 bytes.
    pub fn to_bytes(&self) -> [u8; 1808] {
        todo!()
    }
    /// Checks constants, signature, Q1, Q2.
    pub fn verify(&self) -> Result<(), Error> {
        todo!()
    }
    /// SHA-256 of the modulus.
    pub fn mrsigner(&self) -> [u8; 32] {
        todo!()
    }
}
