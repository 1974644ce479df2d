//! The two questions together: [`judge`] for a judgement, [`admit`] for evidence to rely on.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::collateral::Collateral;
use crate::evidence::Evidence;
use crate::judgement::{Judgement, Refused, Verified};
use crate::policy::Policy;
use crate::trust::TrustAnchors;

/// What is judged, as the caller has it. Nothing in it is believed.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A bare quote, raw, in hex, in base64 or in PEM.
    Quote(Vec<u8>),
    /// An RA-TLS certificate in DER or PEM, with its quote inside.
    Certificate(Vec<u8>),
    /// An RA-TLS certificate and a quote that was made for it separately.
    Evidence(Box<Evidence>),
}

/// What is judged, as files: what cannot be read is a failed check, not an error.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A bare quote, raw, in hex, in base64 or in PEM.
    Quote(&'a [u8]),
    /// An RA-TLS certificate in DER or PEM, with its quote inside.
    Certificate(&'a [u8]),
    /// The JSON text of an evidence file.
    Evidence(&'a [u8]),
}

/// What the caller wants to find. Expected values come from the caller's own computation, never from evidence. A
/// `None` (or an empty list) is not compared; [`admit`] insists on a fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Any of these fingerprints.
    pub mrenclave: Vec<[u8; 32]>,
    /// Any of these fingerprints too, by enclave size in MiB: so that the size is proven where one of them is found.
    pub mrenclave_by_size: BTreeMap<u64, [u8; 32]>,
    /// The signer.
    pub mrsigner: Option<[u8; 32]>,
    /// The product id.
    pub isv_prod_id: Option<u16>,
    /// The lowest acceptable security version.
    pub min_isv_svn: Option<u16>,
    /// The whole report data.
    pub report_data: Option<[u8; 64]>,
    /// The nonce in the claims.
    pub nonce: Option<Vec<u8>>,
    /// When this verifier issued that nonce, from its own record; what a file says does not count.
    pub nonce_issued_at: Option<Timestamp>,
}

/// Judges `subject` with `collateral` at the time `at`: is it genuine, and is it what policy and caller want?
pub fn judge(
    subject: &Subject,
    collateral: &Collateral,
    anchors: &TrustAnchors,
    policy: &Policy,
    expected: &Expected,
    at: Timestamp,
) -> Judgement {
    let _ = (subject, collateral, anchors, policy, expected, at);
    todo!()
}

/// As [`judge`], from files. `collateral` overrides what an evidence file carries; without either, the judgement is a
/// refusal.
pub fn judge_bytes(
    input: Input<'_>,
    collateral: Option<&[u8]>,
    anchors: &TrustAnchors,
    policy: &Policy,
    expected: &Expected,
    at: Timestamp,
) -> Judgement {
    let _ = (input, collateral, anchors, policy, expected, at);
    todo!()
}

/// Judges evidence with the collateral it carries; returns it as [`Verified`] where it is accepted.
///
/// # Errors
/// [`Refused`] with the whole judgement where any check failed, or where `expected` names no fingerprint.
pub fn admit(
    evidence: Evidence,
    anchors: &TrustAnchors,
    policy: &Policy,
    expected: &Expected,
    at: Timestamp,
) -> Result<Verified<Evidence>, Box<Refused>> {
    let _ = (evidence, anchors, policy, expected, at);
    todo!()
}
