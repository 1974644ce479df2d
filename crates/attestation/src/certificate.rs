//! X.509 certificates as they occur in SGX chains: PEM, DER and the few parts that are judged.
//!
//! Trusts nothing: parsing refuses what is malformed or ambiguous, and says nothing of who signed. Formats: RFC 5280
//! (certificates), ITU-T X.690 (DER), RFC 7468 (PEM).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::ObjectIdentifier;
use der::{Decode, Reader, SliceReader};
use jiff::Timestamp;
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use crate::error::Error;
use crate::recognise::kind_of;
use crate::signature::{self, Point};
use crate::trust::sha256;

/// The longest certificate that is read, in bytes of DER. Real ones have 0.6 to 1.3 kB.
pub const MAX_LEN: usize = 65_536;
/// The longest PEM text that is read, in bytes.
pub const MAX_PEM_LEN: usize = 262_144;
/// The most certificates that are read from one PEM text.
pub const MAX_CERTIFICATES: usize = 8;
/// The most extensions that one certificate may have. Real ones have 5 to 8.
pub const MAX_EXTENSIONS: usize = 32;

/// `ecdsa-with-SHA256`: RFC 5758, 3.2.
pub const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// One parsed certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The whole certificate, DER.
    pub der: Vec<u8>,
    sha256: [u8; 32],
    /// Where in [`der`](Self::der) the signed part stands.
    tbs: std::ops::Range<usize>,
    fields: TbsCertificate,
    /// The signature, DER `SEQUENCE { r, s }`.
    signature: Vec<u8>,
    algorithm: ObjectIdentifier,
    /// `basicConstraints`, where there is one.
    pub basic_constraints: Option<BasicConstraints>,
    /// `keyUsage`, where there is one.
    pub key_usage: Option<KeyUsage>,
}

impl Certificate {
    /// Reads one certificate, X.509 version 3, with nothing after it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything that is not strict DER of a certificate,
    /// for two different signature algorithms, or for malformed constraints and usages.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        Error::check_size("certificate", der, MAX_LEN)?;
        let Signed { body, algorithm, signature } = Signed::read(der, "certificate")?;
        let fields = TbsCertificate::from_der(&der[body.clone()]).map_err(|e| malformed(&e))?;
        if fields.version() != Version::V3 {
            return Err(Error::malformed(
                "certificate",
                "X.509 version 3",
                format!("{:?}", fields.version()),
            ));
        }
        if *fields.signature() != algorithm {
            return Err(Error::malformed("certificate", "one signature algorithm", "two different ones"));
        }
        check_number_of_extensions("certificate", &fields)?;
        Ok(Self {
            basic_constraints: decode_extension(&fields, &BASIC_CONSTRAINTS)?,
            key_usage: decode_extension(&fields, &KEY_USAGE)?,
            sha256: sha256(der),
            der: der.to_vec(),
            tbs: body,
            fields,
            signature,
            algorithm: algorithm.oid,
        })
    }

    /// SHA-256 of the whole certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The subject.
    pub fn subject(&self) -> &Name {
        self.fields.subject()
    }

    /// The issuer.
    pub fn issuer(&self) -> &Name {
        self.fields.issuer()
    }

    /// The serial number.
    pub fn serial(&self) -> &SerialNumber {
        self.fields.serial_number()
    }

    /// The only common name of the subject.
    pub fn common_name(&self) -> Option<String> {
        common_name(self.fields.subject())
    }

    /// First and last instant of validity.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        let validity = self.fields.validity();
        (timestamp(validity.not_before), timestamp(validity.not_after))
    }

    /// The public key, where it is an uncompressed point of P-256 under the named curve.
    pub fn key(&self) -> Option<Point> {
        let spki = self.fields.subject_public_key_info();
        let curve: ObjectIdentifier = spki.algorithm.parameters.as_ref()?.decode_as().ok()?;
        if spki.algorithm.oid != EC_PUBLIC_KEY || curve != PRIME256V1 {
            return None;
        }
        let point: Point = spki.subject_public_key.as_bytes()?.try_into().ok()?;
        (point[0] == 4).then_some(point)
    }

    /// The extensions in their order.
    pub fn extensions(&self) -> &[Extension] {
        self.fields.extensions().map_or(&[], Vec::as_slice)
    }

    /// The value of the only extension with this OID.
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        self.extensions().iter().find(|e| e.extn_id == *oid).map(|e| e.extn_value.as_bytes())
    }

    /// An extension that stands there twice, or is critical and neither a constraint, a key usage nor in `known`.
    pub fn objectionable_extension(&self, known: &[ObjectIdentifier]) -> Option<String> {
        let extensions = self.extensions();
        extensions.iter().enumerate().find_map(|(index, extension)| {
            let oid = extension.extn_id;
            let understood = oid == BASIC_CONSTRAINTS || oid == KEY_USAGE || known.contains(&oid);
            if extensions[..index].iter().any(|earlier| earlier.extn_id == oid) {
                Some(format!("{oid} twice"))
            } else if extension.critical && !understood {
                Some(format!("{oid}, critical and unknown"))
            } else {
                None
            }
        })
    }

    /// Whether `key` signed this certificate, by ECDSA with SHA-256.
    pub fn is_signed_by(&self, key: &Point) -> bool {
        self.algorithm == ECDSA_WITH_SHA256
            && signature::verify_der(key, &self.der[self.tbs.clone()], &self.signature)
    }
}

/// Refuses more than [`MAX_EXTENSIONS`], before anything compares them with each other.
pub(crate) fn check_number_of_extensions(what: &'static str, fields: &TbsCertificate) -> Result<(), Error> {
    let number = fields.extensions().map_or(0, Vec::len);
    if number > MAX_EXTENSIONS {
        let expected = format!("at most {MAX_EXTENSIONS} extensions");
        return Err(Error::malformed(what, expected, format!("{number} extensions")));
    }
    Ok(())
}

/// The outer structure that certificates and CRLs share: RFC 5280, 4.1.1 and 5.1.1.
pub(crate) struct Signed {
    /// Where the signed part stands in the input, tag and length included.
    pub(crate) body: std::ops::Range<usize>,
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    /// Content of the signature's bit string.
    pub(crate) signature: Vec<u8>,
}

impl Signed {
    /// Reads `SEQUENCE { body, algorithm, signature }` with nothing after it.
    pub(crate) fn read(der: &[u8], what: &'static str) -> Result<Self, Error> {
        let parts = || -> Result<_, der::Error> {
            let mut outer = SliceReader::new(der)?;
            let (body, algorithm, signature) = outer.sequence(|inner| {
                let body = inner.tlv_bytes()?;
                let algorithm = AlgorithmIdentifierOwned::decode(inner)?;
                let signature = der::asn1::BitString::decode(inner)?;
                Ok::<_, der::Error>((body, algorithm, signature))
            })?;
            outer.finish()?;
            Ok((body, algorithm, signature))
        };
        let (body, algorithm, signature) =
            parts().map_err(|e| Error::malformed(what, "strict DER", e.to_string()))?;
        let signature = signature
            .as_bytes()
            .ok_or_else(|| Error::malformed(what, "a signature of whole bytes", "a broken one"))?
            .to_vec();
        let start = body.as_ptr() as usize - der.as_ptr() as usize;
        Ok(Self { body: start..start + body.len(), algorithm, signature })
    }
}

/// The value of an extension, decoded; absent where the extension is.
fn decode_extension<'a, T: Decode<'a, Error = der::Error>>(
    fields: &'a TbsCertificate,
    oid: &ObjectIdentifier,
) -> Result<Option<T>, Error> {
    let extensions = fields.extensions().map_or(&[][..], Vec::as_slice);
    let value = extensions.iter().find(|extension| extension.extn_id == *oid);
    value.map(|extension| T::from_der(extension.extn_value.as_bytes())).transpose().map_err(|e| malformed(&e))
}

fn malformed(error: &der::Error) -> Error {
    Error::malformed("certificate", "strict DER of an X.509 certificate", error.to_string())
}

/// The only common name in `name`; none where there are several.
pub(crate) fn common_name(name: &Name) -> Option<String> {
    let text = name.common_name().ok()??;
    Some(text.value().into_owned())
}

/// An X.509 time; the end of jiff's time where it lies beyond.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// Reads PEM that holds nothing but `CERTIFICATE` blocks, at least one and at most [`MAX_CERTIFICATES`]; returns their
/// DER, not parsed. Lines may end in LF or CRLF; no other white space is read, so that one chain has one text.
///
/// # Errors
/// [`Error::TooLarge`] above [`MAX_PEM_LEN`]; [`Error::Malformed`] for anything else in the text.
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    const LINE_ENDS: [char; 2] = ['\r', '\n'];
    Error::check_size("certificate chain", pem, MAX_PEM_LEN)?;
    let wrong =
        |found: &str| Error::malformed("certificate chain", "certificates in PEM and nothing else", found);
    let mut rest = std::str::from_utf8(pem).map_err(|_| wrong(&kind_of(pem).to_string()))?;
    rest = rest.trim_start_matches(LINE_ENDS);
    let mut chain = Vec::new();
    let mut compact = Vec::new();
    while !rest.is_empty() {
        let after = rest.strip_prefix(BEGIN).ok_or_else(|| match chain.is_empty() {
            true => wrong(&kind_of(rest.as_bytes()).to_string()),
            false => wrong(&format!("after a certificate, {}", kind_of(rest.as_bytes()))),
        })?;
        let (body, after) = after.split_once(END).ok_or_else(|| wrong("a certificate without an end"))?;
        if chain.len() == MAX_CERTIFICATES {
            return Err(wrong("too many certificates"));
        }
        compact.clear();
        compact.extend(body.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        let der = STANDARD.decode(&compact).map_err(|_| wrong("a certificate that is not base64"))?;
        if der.is_empty() {
            return Err(wrong("an empty certificate"));
        }
        chain.push(der);
        rest = after.trim_start_matches(LINE_ENDS);
    }
    if chain.is_empty() {
        return Err(wrong("an empty file"));
    }
    Ok(chain)
}

/// Reads the only certificate of a PEM text; returns its DER, not parsed.
///
/// # Errors
/// As [`chain_from_pem`], and where there are several.
pub fn single_from_pem(pem: &[u8]) -> Result<Vec<u8>, Error> {
    let mut chain = chain_from_pem(pem)?;
    match (chain.pop(), chain.len()) {
        (Some(der), 0) => Ok(der),
        (_, before) => Err(Error::malformed("certificate", "one certificate", format!("{}", before + 1))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pem(ders: &[&[u8]], line_end: &str) -> String {
        let block = |der: &&[u8]| {
            format!(
                "-----BEGIN CERTIFICATE-----{line_end}{}{line_end}-----END CERTIFICATE-----{line_end}",
                STANDARD.encode(der)
            )
        };
        ders.iter().map(block).collect()
    }

    #[test]
    fn pem_has_one_spelling_but_for_its_line_ends() {
        let ders: [&[u8]; 2] = [b"one", b"another"];
        for line_end in ["\n", "\r\n"] {
            assert_eq!(chain_from_pem(pem(&ders, line_end).as_bytes()).unwrap(), ders);
        }
        let good = pem(&ders, "\n");
        let bad = [
            String::new(),
            "\n".into(),
            format!("{good} "),
            format!("{good}\0"),
            format!("x{good}"),
            good.replacen("b25l", "b25\t", 1),
            good.replacen("b25l", "b2 5l", 1),
            good.replacen("b25l", "", 1),
            good.replacen("END CERT", "END KERT", 1),
            good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        ];
        for text in bad {
            assert!(chain_from_pem(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_and_sizes_are_limited() {
        let many: Vec<&[u8]> = vec![b"one"; MAX_CERTIFICATES];
        assert_eq!(chain_from_pem(pem(&many, "\n").as_bytes()).unwrap().len(), MAX_CERTIFICATES);
        let more: Vec<&[u8]> = vec![b"one"; MAX_CERTIFICATES + 1];
        assert!(chain_from_pem(pem(&more, "\n").as_bytes()).is_err());
        assert!(matches!(chain_from_pem(&vec![b'\n'; MAX_PEM_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(Certificate::parse(&vec![0x30; MAX_LEN + 1]), Err(Error::TooLarge { .. })));
        assert!(single_from_pem(pem(&[b"one", b"two"], "\n").as_bytes()).is_err());
        assert_eq!(single_from_pem(pem(&[b"one"], "\n").as_bytes()).unwrap(), b"one");
    }

    /// `der` with every occurrence of the bytes `from` replaced by as many others.
    fn replaced(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut der = der.to_vec();
        let places: Vec<usize> =
            (0..der.len() - from.len()).filter(|at| der[*at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for at in places {
            der[at..at + to.len()].copy_from_slice(to);
        }
        der
    }

    #[test]
    fn a_key_counts_only_on_p256_under_its_own_names() {
        let (from, until) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2036-01-01T00:00:00Z".parse().unwrap());
        let plan = crate::issuer::AuthorityPlan::new(crate::issuer::INTEL, from, until).unwrap();
        let der = crate::issuer::Authority::generate(&plan).unwrap().root.certificate.clone();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.key().map(|point| point[0]), Some(4));
        assert_eq!(certificate.sha256(), sha256(&der));
        let algorithm = EC_PUBLIC_KEY.as_bytes();
        let mut other = algorithm.to_vec();
        other[6] = 2;
        assert_eq!(Certificate::parse(&replaced(&der, algorithm, &other)).unwrap().key(), None);
        let curve = PRIME256V1.as_bytes();
        let mut other = curve.to_vec();
        other[7] = 6;
        assert_eq!(Certificate::parse(&replaced(&der, curve, &other)).unwrap().key(), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Certificate::parse(&bytes);
            let _ = chain_from_pem(&bytes);
            let _ = crate::crl::Crl::parse(&bytes);
            let _ = crate::pck::SgxExtension::parse(&bytes);
        }
    }
}
