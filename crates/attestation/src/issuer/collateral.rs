//! The collateral that goes with a machine: TCB info, QE identity, CRLs, each signed by the right authority.
//!
//! Formats: Intel PCS API v4: TCB info version 3, enclave identity version 2; dates in RFC 3339 to the second, hex in upper
//! case. Signatures are over the JSON text itself, so a test may also change the text and sign that ([`sign_text`]).

use super::{Authority, CrlPlan, MachinePlan, PckCa, Signer, pem_chain};
use crate::{Collateral, Error};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// Intel's running number of TCB recoveries, as both documents carry it.
const EVALUATION_DATA_NUMBER: u32 = 17;
/// When the level that is current came into force, and the one before it.
const CURRENT_SINCE: &str = "2025-08-13T00:00:00Z";
const PREVIOUS_SINCE: &str = "2024-03-13T00:00:00Z";

/// TCB info: which SVNs make a platform of one FMSPC up to date.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `SGX`.
    pub id: String,
    /// 3.
    pub version: u32,
    /// RFC 3339.
    pub issue_date: String,
    /// RFC 3339.
    pub next_update: String,
    /// 6 bytes of hex.
    pub fmspc: String,
    /// 2 bytes of hex.
    pub pce_id: String,
    /// 0.
    pub tcb_type: u32,
    /// Counts TCB recoveries.
    pub tcb_evaluation_data_number: u32,
    /// Best first.
    pub tcb_levels: Vec<TcbLevel>,
}

/// One level of a TCB info.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbLevel {
    /// What a platform must reach.
    pub tcb: TcbComponents,
    /// Since when this is known, RFC 3339.
    pub tcb_date: String,
    /// Intel's name of the status.
    pub tcb_status: String,
    /// Security advisories that apply at this level.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// The SVNs of a level.
#[derive(Clone, Debug, Serialize)]
pub struct TcbComponents {
    /// 16 of them.
    pub sgxtcbcomponents: Vec<Svn>,
    /// SVN of the provisioning certification enclave.
    pub pcesvn: u32,
}

/// One component's SVN.
#[derive(Clone, Debug, Serialize)]
pub struct Svn {
    /// 0 to 255.
    pub svn: u32,
    /// What the component is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What the component is, by name.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// QE identity: what a quoting enclave must be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `QE`.
    pub id: String,
    /// 2.
    pub version: u32,
    /// RFC 3339.
    pub issue_date: String,
    /// RFC 3339.
    pub next_update: String,
    /// Counts TCB recoveries.
    pub tcb_evaluation_data_number: u32,
    /// 4 bytes of hex, as they stand in a report.
    pub miscselect: String,
    /// 4 bytes of hex.
    #[serde(rename = "miscselectMask")]
    pub miscselect_mask: String,
    /// 16 bytes of hex.
    pub attributes: String,
    /// 16 bytes of hex.
    pub attributes_mask: String,
    /// 32 bytes of hex.
    pub mrsigner: String,
    /// ISVPRODID.
    pub isvprodid: u32,
    /// Best first.
    pub tcb_levels: Vec<QeLevel>,
}

/// One level of a QE identity.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QeLevel {
    /// What a QE must reach.
    pub tcb: QeTcb,
    /// Since when this is known, RFC 3339.
    pub tcb_date: String,
    /// Intel's name of the status.
    pub tcb_status: String,
    /// Security advisories that apply at this level.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// The SVN of a QE's level.
#[derive(Clone, Debug, Serialize)]
pub struct QeTcb {
    /// ISVSVN.
    pub isvsvn: u32,
}

impl TcbInfo {
    /// TCB info under which the machine of this plan is up to date, and one of any older microcode out of date.
    pub fn for_machine(machine: &MachinePlan, issue_date: Timestamp, next_update: Timestamp) -> Self {
        let sgx = &machine.sgx;
        let svn = |svn: &u8| Svn { svn: u32::from(*svn), category: None, kind: None };
        let current = TcbComponents {
            sgxtcbcomponents: sgx.components.iter().map(svn).collect(),
            pcesvn: u32::from(sgx.pce_svn),
        };
        let mut older = current.clone();
        older.sgxtcbcomponents[..2]
            .iter_mut()
            .for_each(|component| component.svn = component.svn.saturating_sub(1));
        Self {
            id: "SGX".into(),
            version: 3,
            issue_date: rfc3339(issue_date),
            next_update: rfc3339(next_update),
            fmspc: hex::encode_upper(sgx.fmspc),
            pce_id: hex::encode_upper(sgx.pce_id),
            tcb_type: 0,
            tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
            tcb_levels: vec![
                TcbLevel {
                    tcb: current,
                    tcb_date: CURRENT_SINCE.into(),
                    tcb_status: "UpToDate".into(),
                    advisory_ids: Vec::new(),
                },
                TcbLevel {
                    tcb: older,
                    tcb_date: PREVIOUS_SINCE.into(),
                    tcb_status: "OutOfDate".into(),
                    advisory_ids: vec!["INTEL-SA-00828".into()],
                },
            ],
        }
    }

    /// The JSON text, as it is signed.
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings, or a failing writer, can fail here.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl QeIdentity {
    /// The identity that the QE of this plan has.
    pub fn for_machine(machine: &MachinePlan, issue_date: Timestamp, next_update: Timestamp) -> Self {
        let qe = &machine.qe;
        // Intel's own mask leaves out the 64-bit mode and all of XFRM.
        let mut attributes = qe.attributes.to_bytes();
        attributes[0] &= 0xfb;
        attributes[8..].fill(0);
        let level = |isvsvn, date: &str, status: &str, advisories: &[&str]| QeLevel {
            tcb: QeTcb { isvsvn },
            tcb_date: date.into(),
            tcb_status: status.into(),
            advisory_ids: advisories.iter().map(|&id| id.into()).collect(),
        };
        let isv_svn = u32::from(qe.isv_svn);
        Self {
            id: "QE".into(),
            version: 2,
            issue_date: rfc3339(issue_date),
            next_update: rfc3339(next_update),
            tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
            miscselect: hex::encode_upper(qe.misc_select.to_le_bytes()),
            miscselect_mask: "FFFFFFFF".into(),
            attributes: hex::encode_upper(attributes),
            attributes_mask: "FBFFFFFFFFFFFFFF0000000000000000".into(),
            mrsigner: hex::encode_upper(qe.mr_signer),
            isvprodid: u32::from(qe.isv_prod_id),
            tcb_levels: vec![
                level(isv_svn, CURRENT_SINCE, "UpToDate", &[]),
                level(isv_svn.saturating_sub(2), PREVIOUS_SINCE, "OutOfDate", &["INTEL-SA-00615"]),
            ],
        }
    }

    /// The JSON text, as it is signed.
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings, or a failing writer, can fail here.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What collateral is made from; correct until changed.
#[derive(Clone, Debug)]
pub struct CollateralPlan {
    /// The TCB info's JSON text.
    pub tcb_info: String,
    /// The QE identity's JSON text.
    pub qe_identity: String,
    /// The root's revocation list.
    pub root_crl: CrlPlan,
    /// The PCK CA's revocation list.
    pub pck_crl: CrlPlan,
    /// Whose list that is.
    pub pck_ca: PckCa,
}

impl CollateralPlan {
    /// Collateral under which `machine` is in order, issued and renewed at these times.
    pub fn new(machine: &MachinePlan, issued: Timestamp, next_update: Timestamp) -> Self {
        Self {
            tcb_info: TcbInfo::for_machine(machine, issued, next_update).to_json(),
            qe_identity: QeIdentity::for_machine(machine, issued, next_update).to_json(),
            root_crl: CrlPlan::new(issued, next_update),
            pck_crl: CrlPlan::new(issued, next_update),
            pck_ca: machine.ca,
        }
    }
}

impl Authority {
    /// Collateral for `machine`, issued at `at` and valid for `validity`.
    ///
    /// # Errors
    /// [`Error::Issue`] for a time that X.509 cannot say.
    pub fn collateral(
        &self,
        machine: &MachinePlan,
        at: Timestamp,
        validity: SignedDuration,
    ) -> Result<Collateral, Error> {
        let next_update = at.checked_add(validity).map_err(|e| super::cannot("collateral", e))?;
        self.issue_collateral(&CollateralPlan::new(machine, at, next_update))
    }

    /// Signs what the plan says.
    ///
    /// # Errors
    /// [`Error::Issue`] where a CRL cannot be made of it.
    pub fn issue_collateral(&self, plan: &CollateralPlan) -> Result<Collateral, Error> {
        let pck_ca = self.pck_ca(plan.pck_ca);
        let tcb_signing_chain = pem_chain([&self.tcb_signing.certificate, &self.root.certificate]);
        Ok(Collateral {
            pck_crl_issuer_chain: pem_chain([&pck_ca.certificate, &self.root.certificate]),
            root_ca_crl: hex::encode(self.root.crl(&plan.root_crl)?),
            pck_crl: hex::encode(pck_ca.crl(&plan.pck_crl)?),
            tcb_info_issuer_chain: tcb_signing_chain.clone(),
            tcb_info_signature: sign_text(&self.tcb_signing, &plan.tcb_info)?,
            tcb_info: plan.tcb_info.clone(),
            qe_identity_issuer_chain: tcb_signing_chain,
            qe_identity_signature: sign_text(&self.tcb_signing, &plan.qe_identity)?,
            qe_identity: plan.qe_identity.clone(),
        })
    }
}

/// The signature over a JSON text, `r | s` in hex, as collateral carries it.
///
/// # Errors
/// [`Error::Issue`] where there are no random numbers.
pub fn sign_text(signer: &Signer, text: &str) -> Result<String, Error> {
    Ok(hex::encode(signer.sign(text.as_bytes())?))
}

/// To the second, as Intel's documents have it.
fn rfc3339(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
