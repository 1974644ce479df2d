//! Certificate revocation lists, complete ones, version 2.
//!
//! Trusts nothing: parsing refuses what is malformed, partial (delta, distribution point) or indirect. Who signed it and
//! when it is current is for [`crate::verify`]. Format: RFC 5280, section 5, in strict DER.

use der::Decode;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use x509_cert::certificate::Version;
use x509_cert::crl::TbsCertList;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

use crate::certificate::{ECDSA_WITH_SHA256, Signed, timestamp};
use crate::error::Error;
use crate::signature::{self, Point};

/// The longest list that is read, in bytes of DER. Real ones have 0.3 to 100 kB.
pub const MAX_LEN: usize = 1_048_576;
/// The most extensions that one list, or one entry of it, may have. Real lists have two, their entries one.
pub const MAX_EXTENSIONS: usize = 16;

/// `cRLNumber`, which tells nothing that is judged.
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
/// `authorityKeyIdentifier`: the signature says more.
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
/// `reasonCode`: whatever the reason, what is listed is revoked.
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
/// `invalidityDate`.
const INVALIDITY_DATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.24");
/// Extensions of partial lists and indirect entries, refused even where they are not critical:
/// `deltaCRLIndicator`, `issuingDistributionPoint`, `certificateIssuer`.
const PARTIAL: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("2.5.29.27"),
    ObjectIdentifier::new_unwrap("2.5.29.28"),
    ObjectIdentifier::new_unwrap("2.5.29.29"),
];

/// One parsed list.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    body: std::ops::Range<usize>,
    signature: Vec<u8>,
    algorithm: ObjectIdentifier,
    /// Who issued it.
    pub issuer: Name,
    /// When it was issued.
    pub this_update: Timestamp,
    /// Until when it is current.
    pub next_update: Timestamp,
    revoked: Vec<SerialNumber>,
}

impl Crl {
    /// Reads one list with nothing after it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but strict DER of a complete version 2
    /// list with a `nextUpdate`, for doubled extensions and for critical ones that are not known.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        Error::check_size("CRL", der, MAX_LEN)?;
        let Signed { body, algorithm, signature } = Signed::read(der, "CRL")?;
        let list = TbsCertList::from_der(&der[body.clone()])
            .map_err(|e| wrong("strict DER of a CRL", e.to_string()))?;
        if list.version != Version::V2 {
            return Err(wrong("version 2", format!("{:?}", list.version)));
        }
        if list.signature != algorithm {
            return Err(wrong("one signature algorithm", "two different ones"));
        }
        check_extensions(list.crl_extensions.as_deref(), &[CRL_NUMBER, AUTHORITY_KEY_ID])?;
        let entries = list.revoked_certificates.unwrap_or_default();
        for entry in &entries {
            check_extensions(entry.crl_entry_extensions.as_deref(), &[REASON_CODE, INVALIDITY_DATE])?;
        }
        let next_update = list.next_update.ok_or_else(|| wrong("a time of the next update", "none"))?;
        Ok(Self {
            der: der.to_vec(),
            body,
            signature,
            algorithm: algorithm.oid,
            issuer: list.issuer,
            this_update: timestamp(list.this_update),
            next_update: timestamp(next_update),
            revoked: entries.into_iter().map(|entry| entry.serial_number).collect(),
        })
    }

    /// Whether `key` signed this list, by ECDSA with SHA-256.
    pub fn is_signed_by(&self, key: &Point) -> bool {
        self.algorithm == ECDSA_WITH_SHA256
            && signature::verify_der(key, &self.der[self.body.clone()], &self.signature)
    }

    /// Whether the list holds this serial number of its issuer's.
    pub fn revokes(&self, serial: &SerialNumber) -> bool {
        self.revoked.contains(serial)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }
}

/// Refuses doubled extensions, partial ones and unknown critical ones.
fn check_extensions(extensions: Option<&[Extension]>, known: &[ObjectIdentifier]) -> Result<(), Error> {
    let extensions = extensions.unwrap_or_default();
    // Everything below is bounded by this: extensions are compared with each other before anybody's signature is checked.
    if extensions.len() > MAX_EXTENSIONS {
        let (expected, found) = (format!("at most {MAX_EXTENSIONS} extensions"), extensions.len());
        return Err(wrong(expected, format!("{found} extensions")));
    }
    for (index, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions[..index].iter().any(|earlier| earlier.extn_id == oid) {
            return Err(wrong("each extension once", format!("{oid} twice")));
        }
        if PARTIAL.contains(&oid) {
            return Err(wrong("a complete and direct list", format!("the extension {oid}")));
        }
        if extension.critical && !known.contains(&oid) {
            return Err(wrong("no unknown critical extension", oid.to_string()));
        }
    }
    Ok(())
}

fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::malformed("CRL", expected, found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::issuer::{Authority, AuthorityPlan, CrlPlan, INTEL};

    #[test]
    fn entries_are_counted() {
        let (from, until) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2036-01-01T00:00:00Z".parse().unwrap());
        let authority = Authority::generate(&AuthorityPlan::new(INTEL, from, until).unwrap()).unwrap();
        let mut plan = CrlPlan::new(from, until);
        let list = Crl::parse(&authority.root.crl(&plan).unwrap()).unwrap();
        assert!(list.is_empty());
        assert_eq!(list.len(), 0);
        plan.revoked.extend([authority.platform_ca.serial(), authority.tcb_signing.serial()]);
        let list = Crl::parse(&authority.root.crl(&plan).unwrap()).unwrap();
        assert!(!list.is_empty());
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn the_number_of_extensions_is_limited_before_they_are_compared() {
        let extension = |number: u32| Extension {
            extn_id: ObjectIdentifier::from_arcs([1, 2, 3, number]).unwrap(),
            critical: false,
            extn_value: der::asn1::OctetString::new([0]).unwrap(),
        };
        let most: Vec<Extension> = (0..MAX_EXTENSIONS as u32).map(extension).collect();
        assert!(check_extensions(Some(&most), &[]).is_ok());
        let more: Vec<Extension> = (0..=MAX_EXTENSIONS as u32).map(extension).collect();
        let error = check_extensions(Some(&more), &[]).unwrap_err().to_string();
        assert!(error.contains("at most 16 extensions, found 17"), "{error}");
        let twice = [extension(1), extension(2), extension(1)];
        assert!(check_extensions(Some(&twice), &[]).unwrap_err().to_string().contains("1.2.3.1 twice"));
    }

    #[test]
    fn an_unknown_extension_is_refused_where_it_is_critical() {
        let unknown = ObjectIdentifier::new_unwrap("1.2.3.4");
        for (oid, critical, fine) in [
            (unknown, false, true),
            (unknown, true, false),
            (CRL_NUMBER, false, true),
            (CRL_NUMBER, true, true),
        ] {
            let extension =
                Extension { extn_id: oid, critical, extn_value: der::asn1::OctetString::new([0]).unwrap() };
            assert_eq!(check_extensions(Some(&[extension]), &[CRL_NUMBER]).is_ok(), fine, "{oid} {critical}");
        }
    }
}
