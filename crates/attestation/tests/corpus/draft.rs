//! Correct evidence, open to change at every place: what a mutant edits.
//!
//! Every `edit_*` and `remake_*` signs again whatever the change touches, so that only the change itself is wrong. What is
//! changed without them (the fields are public) stays unsigned.

use attestation::issuer::{
    Authority, AuthorityPlan, CollateralPlan, CrlPlan, INTEL, Machine, MachinePlan, PckCa, QeIdentity,
    SIMULATED, Signer, TcbInfo, pem_chain, sign_text,
};
use attestation::ratls::{AppClaims, CertificateRequest, Claims, TlsMode, issue, report_data, spki_sha256};
use attestation::{Arguments, Collateral, EnclaveReport, Evidence, Expected, Quote};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData};

use super::{Anchor, Case, Form};
use attestation::checks::Id;

/// The time that all cases are judged at, unless they say otherwise.
pub const AT: &str = "2026-03-01T12:00:00Z";
/// The nonce of the evidence.
pub const NONCE: [u8; 32] = [9; 32];
/// MRENCLAVE of the enclave.
pub const MRENCLAVE: [u8; 32] = [3; 32];
/// MRSIGNER of the enclave.
pub const MRSIGNER: [u8; 32] = [4; 32];
/// PPID of the machine.
pub const PPID: [u8; 16] = [7; 16];

/// One piece of evidence in the making.
pub struct Draft {
    /// What is handed in.
    pub form: Form,
    /// Who issues.
    pub authority: Authority,
    /// Who quotes.
    pub machine: Machine,
    /// The enclave that is quoted.
    pub report: EnclaveReport,
    /// The quote that is judged.
    pub quote: Quote,
    /// The quote file, where it is something else than the encoded quote.
    pub quote_file: Option<Vec<u8>>,
    /// The TCB info that is signed next.
    pub tcb: TcbInfo,
    /// The QE identity that is signed next.
    pub qe: QeIdentity,
    /// The collateral.
    pub collateral: Collateral,
    /// The collateral file, where it is something else than the collateral.
    pub collateral_file: Option<Vec<u8>>,
    /// Whether no collateral is handed in at all.
    pub without_collateral: bool,
    /// The node's TLS key.
    pub key: KeyPair,
    /// What the node claims.
    pub claims: Claims,
    /// The claims as carried.
    pub claims_bytes: Vec<u8>,
    /// The RA-TLS certificate, DER.
    pub certificate: Vec<u8>,
    /// The window of the RA-TLS certificate.
    pub certificate_window: (Timestamp, Timestamp),
    /// What the operator wrote down.
    pub arguments: Arguments,
    /// The nonce that the evidence file names.
    pub nonce: Option<Vec<u8>>,
    /// The evidence file, where it is something else.
    pub evidence_file: Option<Vec<u8>>,
    /// The root as the verifier has it, PEM.
    pub root: String,
    /// What that root is to the verifier.
    pub anchor: Anchor,
    /// The policy, TOML; empty for the strict one.
    pub policy: String,
    /// What the caller expects.
    pub expected: Expected,
    /// The time to judge at.
    pub at: Timestamp,
}

/// A time from its text.
pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// So many hours.
pub fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// An authority that all correct evidence could have come from.
pub fn authority(prefix: &str) -> Authority {
    let window = (time("2026-01-01T00:00:00Z"), time("2046-01-01T00:00:00Z"));
    Authority::generate(&AuthorityPlan::new(prefix, window.0, window.1).unwrap()).unwrap()
}

impl Draft {
    /// Correct evidence of this form, of a machine under the Platform CA, under an explicit root.
    pub fn new(form: Form) -> Self {
        Self::build(form, authority(INTEL), PckCa::Platform)
    }

    /// A correct quote of a machine under the Processor CA.
    pub fn of_processor_ca() -> Self {
        Self::build(Form::Quote, authority(INTEL), PckCa::Processor)
    }

    /// A correct quote of a simulated machine, under a simulator's root.
    pub fn simulated() -> Self {
        let mut draft = Self::build(Form::Quote, authority(SIMULATED), PckCa::Platform);
        draft.anchor = Anchor::Simulated;
        draft
    }

    fn build(form: Form, authority: Authority, ca: PckCa) -> Self {
        let at = time(AT);
        let machine = authority.machine(MachinePlan::new(&authority, ca, *b"MSESIM", PPID).unwrap()).unwrap();
        let (issued, next) = (at - hours(1), at + hours(24));
        let report = EnclaveReport {
            mr_enclave: MRENCLAVE,
            mr_signer: MRSIGNER,
            isv_prod_id: 5,
            isv_svn: 6,
            ..machine.report()
        };
        let key = KeyPair::generate().unwrap();
        let claims = Claims {
            pubkey_hash: spki_sha256(&key.subject_public_key_info()),
            nonce: None,
            app: Some(AppClaims::new([1; 16], vec![2; 1216], TlsMode::RaTls)),
        };
        let mut draft = Self {
            form,
            quote: machine.make_quote(&report).unwrap(),
            quote_file: None,
            tcb: TcbInfo::for_machine(&machine.plan, issued, next),
            qe: QeIdentity::for_machine(&machine.plan, issued, next),
            collateral: authority
                .issue_collateral(&CollateralPlan::new(&machine.plan, issued, next))
                .unwrap(),
            collateral_file: None,
            without_collateral: false,
            claims_bytes: claims.encode(),
            claims,
            key,
            certificate: Vec::new(),
            certificate_window: (at - hours(1), at + hours(48)),
            arguments: Arguments {
                host: "myapp.fr".into(),
                port: 7777,
                size_mb: 4096,
                days: 365,
                subject: "CN=myapp.fr".into(),
                app_id: "01010101-0101-0101-0101-010101010101".into(),
                platform: "sgx".into(),
                runtime: "docker".into(),
            },
            nonce: None,
            evidence_file: None,
            root: authority.root_pem(),
            anchor: Anchor::Explicit,
            policy: String::new(),
            expected: Expected::default(),
            at,
            authority,
            machine,
            report,
        };
        draft.remake_node();
        draft
    }

    // ---- the quote

    /// Changes the quote, then binds and signs everything in it again.
    pub fn edit_quote(&mut self, change: impl FnOnce(&mut Quote)) {
        change(&mut self.quote);
        self.machine.bind_attestation_key(&mut self.quote);
        self.sign_quote();
    }

    /// Changes the QE report, then signs again, without touching the key it binds.
    pub fn edit_qe_report(&mut self, change: impl FnOnce(&mut EnclaveReport)) {
        change(&mut self.quote.signature.qe_report);
        self.sign_quote();
    }

    /// Signs QE report and quote.
    pub fn sign_quote(&mut self) {
        self.machine.sign_qe_report(&mut self.quote).unwrap();
        self.machine.sign_quote(&mut self.quote).unwrap();
    }

    /// Makes the machine anew from a changed plan, certified by the same authority, and quotes with it. The collateral
    /// stays.
    pub fn remake_machine(&mut self, change: impl FnOnce(&mut MachinePlan)) {
        let mut plan = self.machine.plan.clone();
        change(&mut plan);
        self.machine = self.authority.machine(plan).unwrap();
        self.quote = self.machine.make_quote(&self.report).unwrap();
    }

    /// Puts another SGX extension into the PCK certificate.
    pub fn remake_sgx_extension(&mut self, der: Vec<u8>) {
        self.remake_machine(|plan| plan.set_sgx_der(der));
    }

    /// Carries other certificates as PCK chain.
    pub fn set_pck_chain(&mut self, chain: &[Vec<u8>]) {
        self.quote.signature.certification_data = pem_chain(chain).into_bytes();
    }

    /// Changes the signed part of the PCK certificate (DER) and signs it again with the CA's key.
    pub fn reissue_pck(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut chain = self.machine.pck_chain.clone();
        chain[0] = self.authority.platform_ca.reissue(&chain[0], change).unwrap();
        self.set_pck_chain(&chain);
    }

    // ---- the chains

    /// Another certificate of the CA's key under the same root.
    pub fn other_ca(&self, change: impl FnOnce(&mut CertificateParams)) -> Signer {
        let ca = &self.authority.platform_ca;
        recertify(&self.authority.root, ca, change)
    }

    /// Another certificate of the TCB signer's key under the same root.
    pub fn other_signer(&self, change: impl FnOnce(&mut CertificateParams)) -> Signer {
        recertify(&self.authority.root, &self.authority.tcb_signing, change)
    }

    /// Another root certificate of the root's key, everywhere: in all chains and as the anchor.
    pub fn remake_root(&mut self, change: impl FnOnce(&mut CertificateParams)) {
        let root = &self.authority.root;
        let mut params = root.params.clone();
        params.serial_number = None;
        change(&mut params);
        let der = params.self_signed(&*root.key).unwrap().der().to_vec();
        let (old, new) = (pem_chain([&root.certificate]), pem_chain([&der]));
        for chain in [
            &mut self.collateral.pck_crl_issuer_chain,
            &mut self.collateral.tcb_info_issuer_chain,
            &mut self.collateral.qe_identity_issuer_chain,
        ] {
            *chain = chain.replace(&old, &new);
        }
        let mut chain = self.machine.pck_chain.clone();
        chain[2] = der;
        self.set_pck_chain(&chain);
        self.root = new;
    }

    // ---- the collateral

    /// A CRL plan as the correct lists have it.
    pub fn crl_plan(&self) -> CrlPlan {
        CrlPlan::new(self.at - hours(1), self.at + hours(24))
    }

    /// Another root CA CRL.
    pub fn remake_root_crl(&mut self, change: impl FnOnce(&mut CrlPlan)) {
        let mut plan = self.crl_plan();
        change(&mut plan);
        self.collateral.root_ca_crl = hex::encode(self.authority.root.crl(&plan).unwrap());
    }

    /// Another PCK CRL.
    pub fn remake_pck_crl(&mut self, change: impl FnOnce(&mut CrlPlan)) {
        let mut plan = self.crl_plan();
        change(&mut plan);
        self.collateral.pck_crl = hex::encode(self.authority.platform_ca.crl(&plan).unwrap());
    }

    /// Changes the TCB info and signs it again.
    pub fn edit_tcb(&mut self, change: impl FnOnce(&mut TcbInfo)) {
        change(&mut self.tcb);
        self.set_tcb_text(self.tcb.to_json());
    }

    /// Signs this text as TCB info.
    pub fn set_tcb_text(&mut self, text: String) {
        self.collateral.tcb_info_signature = sign_text(&self.authority.tcb_signing, &text).unwrap();
        self.collateral.tcb_info = text;
    }

    /// Replaces a piece of the TCB info's text and signs it again.
    pub fn replace_in_tcb(&mut self, from: &str, to: &str) {
        let text = &self.collateral.tcb_info;
        assert!(text.contains(from), "{from:?} is not in {text}");
        self.set_tcb_text(text.replacen(from, to, 1));
    }

    /// Changes the QE identity and signs it again.
    pub fn edit_qe(&mut self, change: impl FnOnce(&mut QeIdentity)) {
        change(&mut self.qe);
        self.set_qe_text(self.qe.to_json());
    }

    /// Signs this text as QE identity.
    pub fn set_qe_text(&mut self, text: String) {
        self.collateral.qe_identity_signature = sign_text(&self.authority.tcb_signing, &text).unwrap();
        self.collateral.qe_identity = text;
    }

    /// Replaces a piece of the QE identity's text and signs it again.
    pub fn replace_in_qe(&mut self, from: &str, to: &str) {
        let text = &self.collateral.qe_identity;
        assert!(text.contains(from), "{from:?} is not in {text}");
        self.set_qe_text(text.replacen(from, to, 1));
    }

    // ---- certificate and evidence

    /// Makes certificate and quotes from key, claims and report, as a node does.
    pub fn remake_node(&mut self) {
        let quote = self.quote_over(report_data(&self.claims_bytes));
        match self.form {
            Form::Quote => {}
            Form::Certificate => {
                self.certificate = self.issue(&quote.to_bytes(), &self.claims_bytes);
                self.quote = quote;
            }
            Form::Legacy => {
                let mut data = [0; 64];
                data[..32].copy_from_slice(&spki_sha256(&self.key.subject_public_key_info()));
                self.quote = self.quote_over(data);
                self.certificate = self.issue_legacy(&self.quote.to_bytes());
            }
            Form::Evidence => {
                self.certificate = self.issue(&quote.to_bytes(), &self.claims_bytes);
                self.nonce = Some(NONCE.to_vec());
                self.set_fresh_claims(Claims { nonce: Some(NONCE.to_vec()), ..self.claims.clone() }.encode());
            }
        }
    }

    /// Makes the fresh quote of the evidence over these claims.
    pub fn set_fresh_claims(&mut self, claims: Vec<u8>) {
        self.quote = self.quote_over(report_data(&claims));
        self.claims_bytes = claims;
    }

    /// A quote of this machine and enclave with this report data.
    pub fn quote_over(&self, report_data: [u8; 64]) -> Quote {
        self.machine.make_quote(&EnclaveReport { report_data, ..self.report.clone() }).unwrap()
    }

    /// An RA-TLS certificate of the interoperable form.
    pub fn issue(&self, quote: &[u8], claims: &[u8]) -> Vec<u8> {
        let (not_before, not_after) = self.certificate_window;
        let request = CertificateRequest {
            subject: "CN=myapp.fr",
            hosts: &["myapp.fr".to_owned()],
            not_before,
            not_after,
            key: &self.key,
            quote,
            claims,
        };
        issue(&request).unwrap()
    }

    /// An RA-TLS certificate of the legacy form.
    pub fn issue_legacy(&self, quote: &[u8]) -> Vec<u8> {
        let oid = [1, 2, 840, 113_741, 1337, 6];
        self.issue_with(vec![CustomExtension::from_oid_content(&oid, quote.to_vec())])
    }

    /// A self-signed certificate of the node's key with these extensions.
    pub fn issue_with(&self, extensions: Vec<CustomExtension>) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["myapp.fr".to_owned()]).unwrap();
        let (from, until) = self.certificate_window;
        attestation::issuer::set_window(&mut params, from, until).unwrap();
        params.custom_extensions = extensions;
        params.self_signed(&self.key).unwrap().der().to_vec()
    }

    // ---- the end

    /// The evidence file of this draft.
    pub fn to_evidence(&self) -> String {
        let evidence = Evidence {
            certificate: self.certificate.clone(),
            quote: self.quote_file.clone().unwrap_or_else(|| self.quote.to_bytes()),
            claims: self.claims_bytes.clone(),
            nonce: self.nonce.clone(),
            collateral: self.collateral.clone(),
            arguments: self.arguments.clone(),
        };
        evidence.to_json()
    }

    /// The case.
    pub fn finish(self, name: String, fails: Vec<Id>) -> Case {
        let quote = self.quote_file.clone().unwrap_or_else(|| self.quote.to_bytes());
        let collateral =
            self.collateral_file.clone().unwrap_or_else(|| self.collateral.to_json().into_bytes());
        let (subject, collateral) = match self.form {
            Form::Quote => (quote, (!self.without_collateral).then_some(collateral)),
            Form::Certificate | Form::Legacy => (self.certificate, Some(collateral)),
            Form::Evidence => {
                (self.evidence_file.clone().unwrap_or_else(|| self.to_evidence().into_bytes()), None)
            }
        };
        Case {
            name,
            form: self.form,
            subject,
            collateral,
            root: self.root,
            anchor: self.anchor,
            policy: self.policy,
            expected: self.expected,
            at: self.at,
            fails,
        }
    }
}

/// Another certificate for the same key, with a serial number of its own.
fn recertify(issuer: &Signer, subject: &Signer, change: impl FnOnce(&mut CertificateParams)) -> Signer {
    let mut params = subject.params.clone();
    params.serial_number = None;
    change(&mut params);
    issuer.certify_key(params, subject.key.clone()).unwrap()
}
