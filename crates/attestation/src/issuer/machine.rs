//! A machine that can quote: its PCK certificate, its quoting enclave, its attestation key.
//!
//! Format of what it makes: [`crate::quote`]. As on real hardware the PCK signs the report of the quoting enclave (QE), whose
//! report data is SHA-256 of attestation key and authentication data, and the attestation key signs header and enclave report.

use super::authority::{MAX_PEM_LEN, PCK, PemBlocks, certificate_params, key_to_pem, signer_to_pem};
use super::signer::{generate, public_key, sign};
use super::{Authority, PckCa, Signer, encode_sgx_extension, pem_chain, simulation_marker};
use crate::Error;
use crate::pck::{Configuration, SGX_EXTENSION, SgxExtension, SgxType};
use crate::quote::{
    ATTESTATION_KEY_ECDSA_P256, CERTIFICATION_PCK_CHAIN, Header, QE_VENDOR_INTEL, Quote, QuoteSignature,
    TEE_SGX, VERSION,
};
use crate::report::{Attributes, EnclaveReport, FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use zeroize::Zeroizing;

/// MRSIGNER of the make-believe QE: SHA-256 of these words. Intel's own is never imitated.
const QE_SIGNER: &[u8] = b"MSE simulated quoting enclave signer";
const QE_CODE: &[u8] = b"MSE simulated quoting enclave";
const QE_ISV_PROD_ID: u16 = 1;
const QE_ISV_SVN: u16 = 8;
/// x87 and SSE: the state that every SGX processor saves.
const XFRM_LEGACY: u64 = 0x3;

/// What a machine is made from; correct until changed.
#[derive(Clone, Debug)]
pub struct MachinePlan {
    /// The CA that certifies the PCK.
    pub ca: PckCa,
    /// What the PCK certificate's SGX extension says. Changes here reach the certificate through [`Self::set_sgx`].
    pub sgx: SgxExtension,
    /// The PCK certificate; its custom extensions are the SGX extension and, where simulated, the marker.
    pub pck: CertificateParams,
    /// The QE's report, without report data.
    pub qe: EnclaveReport,
    /// What the QE binds together with the attestation key.
    pub qe_auth_data: Vec<u8>,
    /// The header of its quotes.
    pub header: Header,
}

impl MachinePlan {
    /// A correct plan for a machine of this FMSPC, certified by `ca`.
    ///
    /// # Errors
    /// [`Error::Issue`] where the authority's window lies before 1970.
    pub fn new(authority: &Authority, ca: PckCa, fmspc: [u8; 6], ppid: [u8; 16]) -> Result<Self, Error> {
        let components = [11, 11, 2, 2, 4, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        let platform = ca == PckCa::Platform;
        let configuration =
            Configuration { dynamic_platform: Some(true), cached_keys: Some(true), smt: Some(true) };
        let sgx = SgxExtension {
            ppid,
            components,
            pce_svn: 13,
            cpu_svn: components,
            pce_id: [0, 0],
            fmspc,
            sgx_type: if platform { SgxType::Scalable } else { SgxType::Standard },
            platform_instance_id: platform.then_some(ppid),
            configuration: platform.then_some(configuration),
        };
        let mut pck = certificate_params(&authority.prefix, PCK, authority.window)?;
        if authority.is_simulated() {
            pck.custom_extensions.push(simulation_marker());
        }
        let mut user_data = [0; 20];
        user_data[..16].copy_from_slice(&ppid);
        let mut plan = Self {
            ca,
            pck,
            qe: EnclaveReport {
                cpu_svn: sgx.cpu_svn,
                attributes: Attributes {
                    flags: FLAG_INIT | FLAG_MODE64BIT | FLAG_PROVISION_KEY,
                    xfrm: XFRM_LEGACY,
                },
                mr_enclave: Sha256::digest(QE_CODE).into(),
                mr_signer: Sha256::digest(QE_SIGNER).into(),
                isv_prod_id: QE_ISV_PROD_ID,
                isv_svn: QE_ISV_SVN,
                ..EnclaveReport::default()
            },
            qe_auth_data: (0..32).collect(),
            header: Header {
                version: VERSION,
                attestation_key_type: ATTESTATION_KEY_ECDSA_P256,
                tee_type: TEE_SGX,
                qe_svn: QE_ISV_SVN,
                pce_svn: sgx.pce_svn,
                qe_vendor_id: QE_VENDOR_INTEL,
                user_data,
            },
            sgx: sgx.clone(),
        };
        plan.set_sgx(sgx);
        Ok(plan)
    }

    /// Puts `sgx` into the plan and its encoding into the PCK certificate.
    pub fn set_sgx(&mut self, sgx: SgxExtension) {
        self.set_sgx_der(encode_sgx_extension(&sgx));
        self.sgx = sgx;
    }

    /// Puts any bytes into the PCK certificate as its SGX extension.
    pub fn set_sgx_der(&mut self, der: Vec<u8>) {
        let oid: Vec<u64> = SGX_EXTENSION.arcs().map(u64::from).collect();
        self.pck.custom_extensions.retain(|extension| !extension.oid_components().eq(oid.iter().copied()));
        self.pck.custom_extensions.insert(0, CustomExtension::from_oid_content(&oid, der));
    }
}

/// A machine with its keys.
#[derive(Clone)]
pub struct Machine {
    /// What it was made from.
    pub plan: MachinePlan,
    /// The PCK and its certificate.
    pub pck: Signer,
    /// What its quotes carry: PCK certificate, CA, root; DER.
    pub pck_chain: Vec<Vec<u8>>,
    /// The key that signs quotes.
    pub attestation_key: Arc<KeyPair>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a machine: fresh keys, its PCK certified.
    ///
    /// # Errors
    /// [`Error::Issue`] where the plan cannot be put into a certificate.
    pub fn machine(&self, plan: MachinePlan) -> Result<Machine, Error> {
        let pck = self.pck_ca(plan.ca).certify(plan.pck.clone())?;
        Ok(self.assemble(plan, pck, generate()?))
    }

    /// Puts a machine together again from what [`Machine::to_pem`] wrote and the plan it was made from.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Issue`] where the text is something else.
    pub fn machine_from_pem(&self, plan: MachinePlan, pem: &str) -> Result<Machine, Error> {
        Error::check_size("machine", pem.as_bytes(), MAX_PEM_LEN)?;
        let mut blocks = PemBlocks { rest: pem };
        let certificate = blocks.certificate()?;
        let pck = Signer::restore(blocks.private_key()?, certificate, plan.pck.clone())?;
        let attestation_key = blocks.private_key()?;
        blocks.finish()?;
        Ok(self.assemble(plan, pck, attestation_key))
    }

    fn assemble(&self, plan: MachinePlan, pck: Signer, attestation_key: KeyPair) -> Machine {
        let ca = self.pck_ca(plan.ca);
        let pck_chain = vec![pck.certificate.clone(), ca.certificate.clone(), self.root.certificate.clone()];
        Machine { plan, pck, pck_chain, attestation_key: Arc::new(attestation_key) }
    }
}

impl Machine {
    /// A report as this machine makes it for an ordinary 64-bit enclave: CPUSVN and attributes set, all else zero.
    pub fn report(&self) -> EnclaveReport {
        EnclaveReport {
            cpu_svn: self.plan.sgx.cpu_svn,
            attributes: Attributes { flags: FLAG_INIT | FLAG_MODE64BIT, xfrm: XFRM_LEGACY },
            ..EnclaveReport::default()
        }
    }

    /// A quote over `report`, encoded.
    ///
    /// # Errors
    /// [`Error::Issue`] where there are no random numbers.
    pub fn quote(&self, report: &EnclaveReport) -> Result<Vec<u8>, Error> {
        Ok(self.make_quote(report)?.to_bytes())
    }

    /// A quote over `report`, still open to changes; sign again what they touch.
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn make_quote(&self, report: &EnclaveReport) -> Result<Quote, Error> {
        let mut quote = Quote {
            header: self.plan.header.clone(),
            report: report.clone(),
            signature: QuoteSignature {
                signature: [0; 64],
                attestation_key: public_key(&self.attestation_key),
                qe_report: self.plan.qe.clone(),
                qe_report_signature: [0; 64],
                qe_auth_data: self.plan.qe_auth_data.clone(),
                certification_data_type: CERTIFICATION_PCK_CHAIN,
                certification_data: pem_chain(&self.pck_chain).into_bytes(),
            },
        };
        self.bind_attestation_key(&mut quote);
        self.sign_qe_report(&mut quote)?;
        self.sign_quote(&mut quote)?;
        Ok(quote)
    }

    /// Makes the QE report bind the attestation key and the authentication data that the quote carries. The report needs
    /// a new signature afterwards.
    pub fn bind_attestation_key(&self, quote: &mut Quote) {
        let tail = &mut quote.signature;
        let binding =
            Sha256::new().chain_update(tail.attestation_key).chain_update(&tail.qe_auth_data).finalize();
        tail.qe_report.report_data = [0; 64];
        tail.qe_report.report_data[..32].copy_from_slice(&binding);
    }

    /// Signs the QE report with the PCK.
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn sign_qe_report(&self, quote: &mut Quote) -> Result<(), Error> {
        quote.signature.qe_report_signature = self.pck.sign(&quote.signature.qe_report.to_bytes())?;
        Ok(())
    }

    /// Signs header and report with the attestation key.
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn sign_quote(&self, quote: &mut Quote) -> Result<(), Error> {
        quote.signature.signature = sign(&self.attestation_key, &quote.signed_bytes())?;
        Ok(())
    }

    /// PCK certificate, PCK, attestation key: three PEM blocks, private keys in clear.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let attestation_key = key_to_pem(&self.attestation_key);
        Zeroizing::new([signer_to_pem(&self.pck).as_str(), attestation_key.as_str()].concat())
    }
}
