//! The two questions together: [`judge`] for a judgement, [`admit`] for evidence to rely on.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::checks::Id;
use crate::collateral::Collateral;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::judgement::{
    CollateralSummary, Fault, Judgement, Measurements, Platform, QeSummary, Refused, TcbSummary, Verdict,
    Verified, VerifiedFacts,
};
use crate::policy::Policy;
use crate::quote::Quote;
use crate::ratls::{self, Binding, Claims, RatlsCertificate};
use crate::recorder::{Applies, Recorder};
use crate::trust::TrustAnchors;
use crate::verify::{self, Facts};
use crate::{binding, validate};

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
    let case = match subject {
        Subject::Quote(bytes) => Case::quote(bytes),
        Subject::Certificate(bytes) => Case::certificate(bytes),
        Subject::Evidence(evidence) => Case::evidence(evidence),
    };
    decide(&case, Some(Ok(collateral)), &Terms { anchors, policy, expected, at }).judgement
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
    decide_bytes(input, collateral, &Terms { anchors, policy, expected, at }).judgement
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
    let mut case = Case::evidence(&evidence);
    case.needs_fingerprint = true;
    let decision = decide(&case, Some(Ok(&evidence.collateral)), &Terms { anchors, policy, expected, at });
    let facts = decision.verified();
    let judgement = decision.judgement;
    match facts {
        Some(facts) if judgement.is_accepted() => Ok(Verified { value: evidence, judgement, facts }),
        _ => Err(Box::new(Refused { judgement })),
    }
}

/// What a subject is held against.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) anchors: &'a TrustAnchors,
    pub(crate) policy: &'a Policy,
    pub(crate) expected: &'a Expected,
    pub(crate) at: Timestamp,
}

/// A subject taken apart; each part may be what went wrong when it was read.
struct Case<'a> {
    /// The evidence file, where there should be one.
    evidence: Option<Result<&'a Evidence, Error>>,
    /// The certificate, where there should be one.
    certificate: Option<Result<RatlsCertificate, Error>>,
    /// The raw quote that is judged; nothing where what should hold it could not be read.
    quote: Option<Result<Vec<u8>, Error>>,
    /// The claims that go with that quote.
    claims: Option<Vec<u8>>,
    needs_fingerprint: bool,
}

impl<'a> Case<'a> {
    fn quote(bytes: &[u8]) -> Self {
        let quote = Some(Quote::recognise(bytes));
        Self { evidence: None, certificate: None, quote, claims: None, needs_fingerprint: false }
    }

    fn certificate(bytes: &[u8]) -> Self {
        let certificate = RatlsCertificate::from_file(bytes);
        let quote = certificate.as_ref().ok().map(|certificate| Ok(certificate.quote.clone()));
        let claims = certificate.as_ref().ok().and_then(|certificate| match &certificate.binding {
            Binding::Interoperable { claims } => Some(claims.clone()),
            Binding::Legacy => None,
        });
        Self { evidence: None, certificate: Some(certificate), quote, claims, needs_fingerprint: false }
    }

    fn evidence(evidence: &'a Evidence) -> Self {
        Self {
            certificate: Some(RatlsCertificate::parse(&evidence.certificate)),
            quote: Some(Ok(evidence.quote.clone())),
            claims: Some(evidence.claims.clone()),
            evidence: Some(Ok(evidence)),
            needs_fingerprint: false,
        }
    }

    fn unreadable_evidence(error: Error) -> Self {
        Self {
            evidence: Some(Err(error)),
            certificate: None,
            quote: None,
            claims: None,
            needs_fingerprint: false,
        }
    }
}

/// A judgement and what it was made from.
pub(crate) struct Decision {
    pub(crate) judgement: Judgement,
    pub(crate) facts: Facts,
    claims: Option<Claims>,
    spki_sha256: Option<[u8; 32]>,
    size_mb: Option<u64>,
}

impl Decision {
    /// What accepted evidence proves; nothing where a part of it is missing.
    fn verified(&self) -> Option<VerifiedFacts> {
        Some(VerifiedFacts {
            platform: self.facts.platform?,
            tcb_status: self.facts.status()?,
            mrenclave: self.facts.quote.as_ref()?.report.mr_enclave,
            size_mb: self.size_mb,
            spki_sha256: self.spki_sha256?,
            claims: self.claims.clone()?,
        })
    }
}

/// [`decide`] from files.
pub(crate) fn decide_bytes(input: Input<'_>, collateral: Option<&[u8]>, terms: &Terms<'_>) -> Decision {
    let (given, mut names) = match collateral.map(Collateral::from_json_noting) {
        None => (None, Vec::new()),
        Some(Ok((collateral, names))) => (Some(Ok(collateral)), names),
        Some(Err(error)) => (Some(Err(error)), Vec::new()),
    };
    let given = given.as_ref().map(Result::as_ref);
    let mut decision = match input {
        Input::Quote(bytes) => decide(&Case::quote(bytes), given, terms),
        Input::Certificate(bytes) => decide(&Case::certificate(bytes), given, terms),
        Input::Evidence(json) => match Evidence::from_json_noting(json) {
            Ok((evidence, inside)) => {
                if given.is_none() {
                    names = inside;
                }
                decide(&Case::evidence(&evidence), given.or(Some(Ok(&evidence.collateral))), terms)
            }
            Err(error) => decide(&Case::unreadable_evidence(error), given, terms),
        },
    };
    let names = names.into_iter().map(|name| format!("collateral: {name}"));
    decision.judgement.passed_over.splice(..0, names);
    decision
}

/// Makes every check there is. Without collateral, what should have held it could not be read.
fn decide(case: &Case<'_>, collateral: Option<Result<&Collateral, &Error>>, terms: &Terms<'_>) -> Decision {
    let Terms { anchors, policy, expected, at } = *terms;
    let mut recorder = Recorder::new();
    recorder.applies = Applies {
        certificate: case.certificate.is_some() || case.evidence.is_some(),
        claims: case.claims.is_some() || case.evidence.is_some(),
        evidence: case.evidence.is_some(),
    };
    if let Some(evidence) = &case.evidence {
        recorder.ask(Id::EvidenceFormat);
        match evidence {
            Ok(_) => recorder.pass(Id::EvidenceFormat, "version 1"),
            Err(error) => {
                let (expected, found) = error.halves();
                recorder.fail(Id::EvidenceFormat, Fault::Evidence, expected, found);
            }
        }
    }
    let certificate = case.certificate.as_ref().and_then(|read| read_certificate(read, &mut recorder));
    let quote = case.quote.as_ref().map(|quote| quote.as_deref());
    let mut facts = verify::verify(quote, collateral, anchors, at, &mut recorder);
    let claims = certificate.and_then(|certificate| bind(case, certificate, &mut facts, at, &mut recorder));
    if case.needs_fingerprint && expected.mrenclave.is_empty() && expected.mrenclave_by_size.is_empty() {
        recorder.ask(Id::QuoteMrenclave);
        recorder.fail(
            Id::QuoteMrenclave,
            Fault::Policy,
            "a fingerprint of the caller's to compare with",
            "none",
        );
    }
    let size_mb = validate::expectation(expected, &facts, claims.as_ref(), &mut recorder);
    validate::policy(policy, expected, size_mb, at, &mut facts, &mut recorder);

    let (verdict, checks) = recorder.finish();
    let judgement = Judgement {
        verdict,
        platform: facts.platform,
        anchor: facts.anchor.clone(),
        checks,
        tcb: tcb_summary(&facts),
        qe: qe_summary(&facts),
        collateral: collateral_summary(&facts),
        measurements: measurements(&facts),
        policy: policy.name().to_owned(),
        judged_at: at,
        valid_until: facts.valid_until.filter(|_| verdict == Verdict::Accepted),
        passed_over: passed_over(&facts),
    };
    let spki_sha256 = certificate.map(|certificate| certificate.spki_sha256);
    Decision { judgement, facts, claims, spki_sha256, size_mb }
}

/// Records whether the certificate is one and holds a quote.
fn read_certificate<'c>(
    read: &'c Result<RatlsCertificate, Error>,
    recorder: &mut Recorder,
) -> Option<&'c RatlsCertificate> {
    match read {
        Ok(certificate) => {
            recorder.pass(Id::CertFormat, certificate.subject.clone());
            recorder.pass(Id::CertQuote, format!("{} bytes", certificate.quote.len()));
            Some(certificate)
        }
        Err(error @ Error::Malformed { what: ratls::EVIDENCE | ratls::CLAIMS, .. }) => {
            recorder.pass(Id::CertFormat, "well-formed");
            let expected =
                "one quote, in extension 2.23.133.5.4.9 or 1.2.840.113741.1337.6 (or its older spelling)";
            recorder.fail(Id::CertQuote, Fault::Evidence, expected, error.to_string());
            None
        }
        Err(error) => {
            let expected = "one X.509 v3 certificate in strict DER or in PEM";
            let found = match error {
                Error::Malformed { what: ratls::FILE, found, .. } => found.clone(),
                other => other.to_string(),
            };
            recorder.fail(Id::CertFormat, Fault::Evidence, expected, found);
            None
        }
    }
}

/// Checks the certificate and what binds it to the quote; returns the claims.
fn bind(
    case: &Case<'_>,
    certificate: &RatlsCertificate,
    facts: &mut Facts,
    at: Timestamp,
    recorder: &mut Recorder,
) -> Option<Claims> {
    binding::check_certificate(certificate, at, recorder);
    facts.expires(certificate.not_after);
    let quote = facts.quote.as_ref();
    let Some(claims) = &case.claims else {
        binding::check_legacy(certificate, quote, recorder);
        return None;
    };
    let claims = binding::check_claims(certificate, quote, claims, recorder);
    if let Some(Ok(evidence)) = &case.evidence {
        binding::check_certificate_quote(certificate, quote, claims.as_ref(), recorder);
        binding::check_arguments(evidence, certificate, claims.as_ref(), facts.platform, recorder);
    }
    claims
}

/// The unknown names in what the TCB signer signed.
fn passed_over(facts: &Facts) -> Vec<String> {
    let tcb_info = facts.tcb_info.iter().flat_map(|info| &info.passed_over);
    let qe_identity = facts.qe_identity.iter().flat_map(|identity| &identity.passed_over);
    let of = |document: &'static str| move |name: &String| format!("{document}: {name}");
    tcb_info.map(of("TCB info")).chain(qe_identity.map(of("QE identity"))).collect()
}

fn tcb_summary(facts: &Facts) -> Option<TcbSummary> {
    let level = facts.tcb_level.as_ref()?;
    Some(TcbSummary {
        status: facts.status().unwrap_or(level.tcb_status),
        platform_status: level.tcb_status,
        date: level.tcb_date,
        evaluation_data_number: validate::evaluation_data_number(facts)
            .or(facts.tcb_info.as_ref().map(|info| info.tcb_evaluation_data_number))?,
        advisories: facts.advisories().into_iter().map(str::to_owned).collect(),
    })
}

fn qe_summary(facts: &Facts) -> Option<QeSummary> {
    let level = facts.qe_level.as_ref()?;
    let isv_svn = facts.quote.as_ref()?.signature.qe_report.isv_svn;
    Some(QeSummary { status: level.tcb_status, date: level.tcb_date, isv_svn })
}

fn collateral_summary(facts: &Facts) -> Option<CollateralSummary> {
    let (info, identity) = (facts.tcb_info.as_ref()?, facts.qe_identity.as_ref()?);
    Some(CollateralSummary {
        tcb_info_number: info.tcb_evaluation_data_number,
        qe_identity_number: identity.tcb_evaluation_data_number,
        tcb_info_issued: info.issue_date,
        qe_identity_issued: identity.issue_date,
        newest_tcb_date: info.tcb_levels.iter().map(|level| level.tcb_date).max(),
    })
}

fn measurements(facts: &Facts) -> Option<Measurements> {
    let report = &facts.quote.as_ref()?.report;
    let pck = facts.pck.as_ref();
    let has_config = report.config_id.iter().any(|byte| *byte != 0);
    Some(Measurements {
        mrenclave: hex::encode(report.mr_enclave),
        mrsigner: hex::encode(report.mr_signer),
        isv_prod_id: report.isv_prod_id,
        isv_svn: report.isv_svn,
        attributes: hex::encode(report.attributes.to_bytes()),
        misc_select: report.misc_select,
        report_data: hex::encode(report.report_data),
        config_id: has_config.then(|| hex::encode(report.config_id)),
        fmspc: pck.map(|pck| hex::encode(pck.fmspc)),
        ppid: pck.map(|pck| hex::encode(pck.ppid)),
        platform_instance_id: pck.and_then(|pck| pck.platform_instance_id).map(hex::encode),
    })
}

impl Platform {
    /// What every output that relies on this platform has to show; nothing for SGX.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Sgx => None,
            Self::Simulated => Some("SIMULATED"),
        }
    }
}
