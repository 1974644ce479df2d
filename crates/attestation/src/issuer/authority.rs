//! The make-believe Intel itself: a root and the three authorities under it.
//!
//! Names, extensions and usages follow Intel's certificates (profile specification 1.5): the root may sign CAs, the two PCK
//! CAs may sign PCK certificates and CRLs, TCB signing signs TCB info and QE identities. [`Authority::to_pem`] holds private
//! keys in clear: whoever stores it keeps it at mode 0600.

use super::signer::pem_block;
use super::{PckCa, Signer, cannot, set_window};
use crate::Error;
use crate::certificate::Certificate;
use crate::pck::{SIMULATION_MARKER, SIMULATION_MARKER_TEXT};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    DnValue, IsCa, KeyPair, KeyUsagePurpose,
};
use zeroize::Zeroizing;

/// The word that real certificates' names start with.
pub const INTEL: &str = "Intel";
/// The word that simulated certificates' names start with.
pub const SIMULATED: &str = "SIMULATED";

const ROOT: &str = "SGX Root CA";
const PLATFORM_CA: &str = "SGX PCK Platform CA";
const PROCESSOR_CA: &str = "SGX PCK Processor CA";
const TCB_SIGNING: &str = "SGX TCB Signing";
pub(super) const PCK: &str = "SGX PCK Certificate";
const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The longest file of keys that is read, in bytes.
pub(super) const MAX_PEM_LEN: usize = 64 * 1024;

/// What the authority's own certificates are made from; correct until changed.
#[derive(Clone, Debug)]
pub struct AuthorityPlan {
    /// The first word of all names: [`INTEL`] or [`SIMULATED`].
    pub prefix: String,
    /// Validity of all certificates, also of those that are issued later.
    pub window: (Timestamp, Timestamp),
    /// The self-signed root.
    pub root: CertificateParams,
    /// The CA of multi-package platforms.
    pub platform_ca: CertificateParams,
    /// The CA of single processors.
    pub processor_ca: CertificateParams,
    /// The signer of TCB info and QE identities.
    pub tcb_signing: CertificateParams,
}

impl AuthorityPlan {
    /// A correct plan whose names start with `prefix`.
    ///
    /// # Errors
    /// [`Error::Issue`] for a window before 1970.
    pub fn new(prefix: &str, not_before: Timestamp, not_after: Timestamp) -> Result<Self, Error> {
        let window = (not_before, not_after);
        let ca = |role, path_length| {
            let mut params = certificate_params(prefix, role, window)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Ok::<_, Error>(params)
        };
        Ok(Self {
            prefix: prefix.to_owned(),
            window,
            root: ca(ROOT, 1)?,
            platform_ca: ca(PLATFORM_CA, 0)?,
            processor_ca: ca(PROCESSOR_CA, 0)?,
            tcb_signing: certificate_params(prefix, TCB_SIGNING, window)?,
        })
    }
}

/// A root, and the authorities that it certified.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The first word of all names.
    pub prefix: String,
    /// Validity of the certificates issued next.
    pub window: (Timestamp, Timestamp),
    /// The root.
    pub root: Signer,
    /// The CA of multi-package platforms.
    pub platform_ca: Signer,
    /// The CA of single processors.
    pub processor_ca: Signer,
    /// The signer of TCB info and QE identities.
    pub tcb_signing: Signer,
}

impl Authority {
    /// Makes fresh keys and their certificates.
    ///
    /// # Errors
    /// [`Error::Issue`] where the plan cannot be put into certificates.
    pub fn generate(plan: &AuthorityPlan) -> Result<Self, Error> {
        let root = Signer::self_signed(plan.root.clone())?;
        Ok(Self {
            prefix: plan.prefix.clone(),
            window: plan.window,
            platform_ca: root.certify(plan.platform_ca.clone())?,
            processor_ca: root.certify(plan.processor_ca.clone())?,
            tcb_signing: root.certify(plan.tcb_signing.clone())?,
            root,
        })
    }

    /// The CA that certifies PCKs of this kind.
    pub fn pck_ca(&self, ca: PckCa) -> &Signer {
        match ca {
            PckCa::Platform => &self.platform_ca,
            PckCa::Processor => &self.processor_ca,
        }
    }

    /// The root certificate, DER.
    pub fn root_certificate(&self) -> &[u8] {
        &self.root.certificate
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// Whether this authority marks what it certifies as simulated.
    pub fn is_simulated(&self) -> bool {
        self.prefix == SIMULATED
    }

    /// All certificates and private keys: four pairs of PEM blocks (RFC 7468), root first.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let signers = [&self.root, &self.platform_ca, &self.processor_ca, &self.tcb_signing];
        let blocks = signers.map(signer_to_pem);
        Zeroizing::new(blocks.iter().map(|block| block.as_str()).collect())
    }

    /// Reads what [`Self::to_pem`] wrote, for an authority that was made from an unchanged plan.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`] or [`Error::Issue`] for anything else.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Error::check_size("authority", pem.as_bytes(), MAX_PEM_LEN)?;
        let mut blocks = PemBlocks { rest: pem };
        let root = blocks.certificate()?;
        let parsed = Certificate::parse(&root)?;
        let name = parsed.common_name().unwrap_or_default();
        let prefix = name.strip_suffix(ROOT).map(str::trim_end).filter(|prefix| !prefix.is_empty());
        let prefix = prefix
            .ok_or_else(|| Error::malformed("authority", format!("a root named \"... {ROOT}\""), &name))?;
        let (not_before, not_after) = parsed.validity();
        let plan = AuthorityPlan::new(prefix, not_before, not_after)?;
        let mut next = |params, certificate: Option<Vec<u8>>| {
            let certificate = certificate.map_or_else(|| blocks.certificate(), Ok)?;
            Signer::restore(blocks.private_key()?, certificate, params)
        };
        let authority = Self {
            root: next(plan.root, Some(root))?,
            platform_ca: next(plan.platform_ca, None)?,
            processor_ca: next(plan.processor_ca, None)?,
            tcb_signing: next(plan.tcb_signing, None)?,
            prefix: plan.prefix,
            window: plan.window,
        };
        blocks.finish()?;
        Ok(authority)
    }
}

/// The extension that marks a PCK certificate as simulated.
pub fn simulation_marker() -> CustomExtension {
    let oid: Vec<u64> = SIMULATION_MARKER.arcs().map(u64::from).collect();
    let utf8_string = super::sgx_extension::tlv(0x0c, SIMULATION_MARKER_TEXT.as_bytes());
    CustomExtension::from_oid_content(&oid, utf8_string)
}

/// A leaf certificate as Intel's profile wants it; CAs change it from there.
pub(super) fn certificate_params(
    prefix: &str,
    role: &str,
    (not_before, not_after): (Timestamp, Timestamp),
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(prefix, role)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    params.use_authority_key_identifier_extension = true;
    // A name that never resolves (RFC 2606): nothing here fetches from a certificate's address.
    let uris = vec!["https://simulated.invalid/crl".to_owned()];
    params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    set_window(&mut params, not_before, not_after)?;
    Ok(params)
}

fn distinguished_name(prefix: &str, role: &str) -> Result<DistinguishedName, Error> {
    let country = "US".try_into().map_err(|e| cannot("name", e))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{prefix} {role}"));
    name.push(DnType::OrganizationName, format!("{prefix} Corporation"));
    name.push(DnType::LocalityName, "Santa Clara");
    name.push(DnType::StateOrProvinceName, "CA");
    name.push(DnType::CountryName, DnValue::PrintableString(country));
    Ok(name)
}

/// Certificate, then private key.
pub(super) fn signer_to_pem(signer: &Signer) -> Zeroizing<String> {
    let key = key_to_pem(&signer.key);
    Zeroizing::new([signer.pem().as_str(), key.as_str()].concat())
}

/// A private key, PKCS #8 (RFC 5958) in PEM.
pub(super) fn key_to_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(pem_block(PRIVATE_KEY, key.serialized_der()))
}

/// PEM blocks, one after the other.
pub(super) struct PemBlocks<'a> {
    pub(super) rest: &'a str,
}

impl PemBlocks<'_> {
    pub(super) fn certificate(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.block(CERTIFICATE)?.to_vec())
    }

    pub(super) fn private_key(&mut self) -> Result<KeyPair, Error> {
        let der = self.block(PRIVATE_KEY)?;
        KeyPair::try_from(der.as_slice()).map_err(|e| cannot("private key from its file", e))
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        match self.rest.trim_ascii() {
            "" => Ok(()),
            _ => Err(Error::malformed("key file", "nothing after the last block", "more text")),
        }
    }

    fn block(&mut self, label: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wanted = |found: &str| Error::malformed("key file", format!("a PEM block {label}"), found);
        let end = format!("-----END {label}-----");
        let length = self.rest.find(&end).map(|at| at + end.len()).ok_or_else(|| wanted("none"))?;
        let (block, rest) = self.rest.split_at(length);
        let (found, der) =
            pem_rfc7468::decode_vec(block.trim_ascii().as_bytes()).map_err(|e| wanted(&e.to_string()))?;
        let der = Zeroizing::new(der);
        if found != label {
            return Err(wanted(found));
        }
        self.rest = rest;
        Ok(der)
    }
}
