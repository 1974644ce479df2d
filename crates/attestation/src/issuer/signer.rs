//! A key with the certificate that names it, and what it can sign: certificates, CRLs, raw messages.
//!
//! Formats: RFC 5280 for certificates and CRLs (made by `rcgen`), FIPS 186-5 for ECDSA on P-256 with SHA-256, signatures as
//! `r | s` of 32 bytes each where Intel's formats want them so.

use super::cannot;
use super::sgx_extension::tlv;
use crate::Error;
use crate::certificate::{Certificate, Signed};
use crate::ratls::since_1970;
use der::asn1::UintRef;
use der::{Reader, SliceReader};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, DnValue, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};
use std::sync::Arc;

/// A key pair on P-256 and its certificate.
#[derive(Clone)]
pub struct Signer {
    /// The key pair.
    pub key: Arc<KeyPair>,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// What the certificate was made from. What it signs next names its issuer after this, so a test that changes the
    /// name here makes children of a stranger.
    pub params: CertificateParams,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("subject", &self.params.distinguished_name).finish_non_exhaustive()
    }
}

impl Signer {
    /// A self-signed certificate for a fresh key.
    ///
    /// # Errors
    /// [`Error::Issue`] where `params` cannot be put into a certificate.
    pub fn self_signed(params: CertificateParams) -> Result<Self, Error> {
        let params = with_serial(params)?;
        let key = Arc::new(generate()?);
        let certificate =
            params.self_signed(&*key).map_err(|e| cannot("root certificate", e))?.der().to_vec();
        Ok(Self { key, certificate, params })
    }

    /// A certificate under this one, for a fresh key.
    ///
    /// # Errors
    /// As [`Self::self_signed`].
    pub fn certify(&self, params: CertificateParams) -> Result<Self, Error> {
        self.certify_key(params, Arc::new(generate()?))
    }

    /// A certificate under this one, for `key`.
    ///
    /// # Errors
    /// As [`Self::self_signed`].
    pub fn certify_key(&self, params: CertificateParams, key: Arc<KeyPair>) -> Result<Self, Error> {
        let params = with_serial(params)?;
        let issuer = Issuer::from_params(&self.params, &*self.key);
        let certificate =
            params.signed_by(&*key, &issuer).map_err(|e| cannot("certificate", e))?.der().to_vec();
        Ok(Self { key, certificate, params })
    }

    /// Puts a key and its certificate, kept from earlier, together again; `params` is what the certificate was
    /// made from.
    ///
    /// # Errors
    /// [`Error::Issue`] where they do not belong together, [`Error::Malformed`] where the certificate is none.
    pub(super) fn restore(
        key: KeyPair,
        certificate: Vec<u8>,
        mut params: CertificateParams,
    ) -> Result<Self, Error> {
        let parsed = Certificate::parse(&certificate)?;
        if parsed.key().as_ref().map(|point| &point[..]) != Some(key.public_key_raw()) {
            return Err(cannot("signer from its file", "the private key is not that of the certificate"));
        }
        let name = parsed.common_name().unwrap_or_default();
        if params.distinguished_name.get(&DnType::CommonName) != Some(&DnValue::from(name.as_str())) {
            return Err(cannot(
                "signer from its file",
                format!("the certificate is of another role, {name:?}"),
            ));
        }
        params.serial_number = Some(SerialNumber::from_slice(parsed.serial().as_bytes()));
        Ok(Self { key: Arc::new(key), certificate, params })
    }

    /// The certificate's serial number, big-endian.
    pub fn serial(&self) -> Vec<u8> {
        self.params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default()
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem_chain([&self.certificate])
    }

    /// The public key as x | y, 64 bytes, as quotes carry it.
    pub fn public_key(&self) -> [u8; 64] {
        public_key(&self.key)
    }

    /// Signs `message`: `r | s`, 64 bytes.
    ///
    /// # Errors
    /// [`Error::Issue`] where there are no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], Error> {
        sign(&self.key, message)
    }

    /// A revocation list of this authority, DER.
    ///
    /// # Errors
    /// [`Error::Issue`] for a window that ends before it starts, or a plan that RFC 5280 has no room for.
    pub fn crl(&self, plan: &CrlPlan) -> Result<Vec<u8>, Error> {
        let instant = |at| since_1970(at).map(|since| date_time_ymd(1970, 1, 1) + since);
        let this_update = instant(plan.this_update)?;
        let revoked_certs = plan.revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update,
            next_update: instant(plan.next_update)?,
            crl_number: SerialNumber::from(plan.number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &*self.key);
        Ok(params.signed_by(&issuer).map_err(|e| cannot("CRL", e))?.der().to_vec())
    }

    /// Changes the signed part of a certificate or CRL and signs it again with this key: for defects that no plan can
    /// express. `edit` gets the DER of the signed part, tag and length included, and leaves what shall be signed.
    ///
    /// # Errors
    /// [`Error::Malformed`] where `der` is neither a certificate nor a CRL.
    pub fn reissue(&self, der: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>, Error> {
        let body = Signed::read(der, "certificate or CRL")?.body;
        let mut signed = der[body].to_vec();
        edit(&mut signed);
        let signature = self.key.sign(&signed).map_err(|e| cannot("signature", e))?;
        // AlgorithmIdentifier { ecdsa-with-SHA256 }: RFC 5758, 3.2
        let algorithm = tlv(0x30, &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]);
        let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
        Ok(tlv(0x30, &[signed, algorithm, bits].concat()))
    }
}

/// What goes into a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlPlan {
    /// When it was issued.
    pub this_update: Timestamp,
    /// Until when it counts.
    pub next_update: Timestamp,
    /// Its number.
    pub number: u64,
    /// Serial numbers of revoked certificates, big-endian.
    pub revoked: Vec<Vec<u8>>,
}

impl CrlPlan {
    /// Number 1, nothing revoked.
    pub fn new(this_update: Timestamp, next_update: Timestamp) -> Self {
        Self { this_update, next_update, number: 1, revoked: Vec::new() }
    }
}

/// Sets the validity of a certificate, to the second.
///
/// # Errors
/// [`Error::Issue`] before 1970.
pub fn set_window(
    params: &mut CertificateParams,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<(), Error> {
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(not_before)?;
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(not_after)?;
    Ok(())
}

/// Certificates in PEM, in the order given.
pub fn pem_chain<'a>(certificates: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    certificates.into_iter().map(|der| pem_block("CERTIFICATE", der)).collect()
}

pub(super) fn pem_block(label: &str, der: &[u8]) -> String {
    // Only a label that is not ASCII or an overflowing length can fail here.
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der).unwrap_or_default()
}

pub(super) fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| cannot("key pair", e))
}

pub(super) fn public_key(key: &KeyPair) -> [u8; 64] {
    let mut xy = [0; 64];
    // An uncompressed point on P-256: 04 | x | y.
    xy.copy_from_slice(&key.public_key_raw()[1..]);
    xy
}

/// ECDSA with SHA-256, `r | s`.
pub(super) fn sign(key: &KeyPair, message: &[u8]) -> Result<[u8; 64], Error> {
    let der = key.sign(message).map_err(|e| cannot("signature", e))?;
    let read = || -> Result<[u8; 64], der::Error> {
        let mut reader = SliceReader::new(&der)?;
        reader.sequence(|pair| {
            let mut fixed = [0; 64];
            for half in fixed.chunks_exact_mut(32) {
                let number = pair.decode::<UintRef<'_>>()?;
                let bytes = number.as_bytes();
                let start = 32_usize.checked_sub(bytes.len()).ok_or(der::ErrorKind::Overflow)?;
                half[start..].copy_from_slice(bytes);
            }
            Ok(fixed)
        })
    };
    read().map_err(|e| cannot("signature", e))
}

/// Gives a random positive serial number of 20 bytes, as Intel's certificates have, where there is none yet.
fn with_serial(mut params: CertificateParams) -> Result<CertificateParams, Error> {
    if params.serial_number.is_none() {
        let mut serial = [0; 20];
        getrandom::fill(&mut serial).map_err(|e| cannot("serial number", e))?;
        serial[0] = (serial[0] & 0x7f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
    }
    Ok(params)
}
