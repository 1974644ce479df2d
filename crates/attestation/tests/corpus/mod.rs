//! The corpus: correct evidence made by our own issuer, and mutants of it, each with exactly one thing broken.
//!
//! A mutant is named after its defect and lists the checks that must fail: one, or two for the pairs. [`draft`] makes the
//! correct evidence and re-signs what a mutant changes, so that nothing but the defect is wrong; one module for each theme
//! holds the mutants; [`files`] writes them out for other verifiers.

pub mod draft;
pub mod files;

mod bindings;
mod chains;
mod collateral;
mod crls;
mod der;
mod levels;
mod pairs;
mod policies;
mod quotes;

use attestation::checks::Id;
use attestation::issuer::pem_chain;
use attestation::trust::{ExplicitRoot, SimulatedRoot};
use attestation::{Expected, Input, Judgement, Policy, TrustAnchors, judge_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use draft::Draft;
use jiff::Timestamp;
use rcgen::CustomExtension;

/// What a case hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bare quote.
    Quote,
    /// An RA-TLS certificate of the interoperable form.
    Certificate,
    /// An RA-TLS certificate of the legacy form.
    Legacy,
    /// An evidence file with a fresh quote over a nonce.
    Evidence,
}

/// Which anchor the verifier is given beside Intel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The root of the case, as an explicit one.
    Explicit,
    /// The root of the case, as a simulator's.
    Simulated,
    /// None.
    Nothing,
}

/// One defect: how to make it, and the checks that must fail for it.
pub struct Mutant {
    /// Named after the defect; also the name of its folder.
    pub name: String,
    /// What is handed in.
    pub form: Form,
    /// The checks that must fail, and no others.
    pub fails: Vec<Id>,
    make: Box<dyn Fn(&mut Draft)>,
}

impl Mutant {
    /// The finished case.
    pub fn case(&self) -> Case {
        let mut draft = Draft::new(self.form);
        (self.make)(&mut draft);
        draft.finish(self.name.clone(), self.fails.clone())
    }

    /// The same defect in another form.
    fn in_form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }
}

/// A mutant of a bare quote with its collateral.
fn mutant(name: impl Into<String>, fails: Id, make: impl Fn(&mut Draft) + 'static) -> Mutant {
    Mutant { name: name.into(), form: Form::Quote, fails: vec![fails], make: Box::new(make) }
}

/// Everything a verifier needs to judge one piece of evidence, and what must come out.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the case.
    pub name: String,
    /// What is handed in.
    pub form: Form,
    /// The file that is judged.
    pub subject: Vec<u8>,
    /// The collateral's JSON; evidence carries its own.
    pub collateral: Option<Vec<u8>>,
    /// The root, PEM.
    pub root: String,
    /// What the root is to the verifier.
    pub anchor: Anchor,
    /// The policy, TOML; empty for the strict one.
    pub policy: String,
    /// What the caller expects.
    pub expected: Expected,
    /// The time to judge at.
    pub at: Timestamp,
    /// The checks that must fail; none for correct evidence.
    pub fails: Vec<Id>,
}

impl Case {
    /// Judges the case.
    pub fn judge(&self) -> Judgement {
        let anchors = match self.anchor {
            Anchor::Nothing => TrustAnchors::intel(),
            Anchor::Explicit => {
                TrustAnchors::intel().with_explicit(ExplicitRoot::from_pem(self.root.as_bytes()).unwrap())
            }
            Anchor::Simulated => {
                TrustAnchors::intel().with_simulated(SimulatedRoot::from_pem(self.root.as_bytes()).unwrap())
            }
        };
        let policy = match self.policy.as_str() {
            "" => Policy::strict(),
            text => Policy::from_toml(text).unwrap(),
        };
        let input = match self.form {
            Form::Quote => Input::Quote(&self.subject),
            Form::Certificate | Form::Legacy => Input::Certificate(&self.subject),
            Form::Evidence => Input::Evidence(&self.subject),
        };
        judge_bytes(input, self.collateral.as_deref(), &anchors, &policy, &self.expected, self.at)
    }
}

/// Every mutant, pairs included.
pub fn mutants() -> Vec<Mutant> {
    let themes = [
        quotes::mutants(),
        chains::mutants(),
        crls::mutants(),
        collateral::mutants(),
        levels::mutants(),
        bindings::mutants(),
        policies::mutants(),
        pairs::mutants(),
    ];
    themes.into_iter().flatten().collect()
}

/// Correct evidence of every form: what must be accepted.
pub fn sound() -> Vec<Case> {
    let plain = |name: &str, form| Draft::new(form).finish(name.to_owned(), Vec::new());
    let mut sound = vec![
        plain("sound-quote", Form::Quote),
        plain("sound-certificate", Form::Certificate),
        plain("sound-legacy-certificate", Form::Legacy),
        plain("sound-evidence", Form::Evidence),
        Draft::of_processor_ca().finish("sound-processor-ca".to_owned(), Vec::new()),
        Draft::simulated().finish("sound-simulated".to_owned(), Vec::new()),
    ];
    sound.extend(policies::sound());
    sound
}

/// Correct evidence as other tools, and older versions of them, write it: must be accepted as well. Not part of the corpus
/// that is written out, since other verifiers read fewer forms.
#[cfg_attr(not(test), allow(dead_code))]
pub fn other_spellings() -> Vec<Case> {
    let spelt = |name: &str, form, change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new(form);
        change(&mut draft);
        draft.finish(name.to_owned(), Vec::new())
    };
    let quote = |name: &str, spell: &dyn Fn(&[u8]) -> Vec<u8>| {
        spelt(name, Form::Quote, &|d| d.quote_file = Some(spell(&d.quote.to_bytes())))
    };
    let field = |name: &str, field: &str, value: &dyn Fn(&Draft) -> serde_json::Value| {
        spelt(name, Form::Quote, &|d| d.collateral_file = Some(collateral::with_field(d, field, value(d))))
    };
    let in_lines = |text: String| {
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        lines.join("\r\n")
    };
    let in_der = |hex: &str| hex::decode(hex).unwrap();
    vec![
        quote("quote-in-base64url", &|raw| URL_SAFE.encode(raw).into()),
        quote("quote-in-base64url-without-padding", &|raw| URL_SAFE_NO_PAD.encode(raw).into()),
        quote("quote-in-base64-without-padding", &|raw| STANDARD_NO_PAD.encode(raw).into()),
        quote("quote-in-base64-in-lines", &|raw| in_lines(STANDARD.encode(raw)).into()),
        quote("quote-in-hex-after-0x", &|raw| format!("0x{}\n", hex::encode(raw)).into()),
        quote("quote-in-upper-case-hex-after-0x", &|raw| format!("0X{}", hex::encode_upper(raw)).into()),
        quote("quote-in-hex-in-lines", &|raw| in_lines(hex::encode(raw)).into()),
        quote("quote-in-hex-with-colons", &|raw| {
            raw.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":").into()
        }),
        quote("quote-in-hex-after-a-byte-order-mark", &|raw| format!("\u{feff}{}", hex::encode(raw)).into()),
        quote("quote-behind-an-open-enclave-header", &quotes::open_enclave_report),
        field("collateral-without-its-pck-chain", "pck_certificate_chain", &|_| serde_json::Value::Null),
        field("collateral-with-the-quotes-pck-chain", "pck_certificate_chain", &|d| {
            pem_chain(&d.machine.pck_chain).into()
        }),
        field("collateral-with-a-field-more", "more", &|_| serde_json::json!({"a": [1, {"b": null}]})),
        spelt("collateral-in-upper-case-hex", Form::Quote, &|d| {
            let parts = &mut d.collateral;
            for text in [
                &mut parts.root_ca_crl,
                &mut parts.pck_crl,
                &mut parts.tcb_info_signature,
                &mut parts.qe_identity_signature,
            ] {
                *text = text.to_uppercase();
            }
        }),
        spelt("crls-in-base64-and-pem", Form::Quote, &|d| {
            d.collateral.pck_crl = STANDARD.encode(in_der(&d.collateral.pck_crl));
            let pem = in_lines(STANDARD.encode(in_der(&d.collateral.root_ca_crl)));
            d.collateral.root_ca_crl = format!("-----BEGIN X509 CRL-----\n{pem}\n-----END X509 CRL-----\n");
        }),
        spelt("tcb-info-with-a-field-more", Form::Quote, &|d| {
            d.replace_in_tcb("{", r#"{"note":{"b":1},"#);
        }),
        spelt("qe-identity-with-a-field-more", Form::Quote, &|d| d.replace_in_qe("{", r#"{"note":"x","#)),
        spelt("legacy-certificate-of-older-gramine", Form::Legacy, &|d| {
            let extension = CustomExtension::from_oid_content(&bindings::MISSPELT_LEGACY, d.quote.to_bytes());
            d.certificate = d.issue_with(vec![extension]);
        }),
        spelt("evidence-whose-collateral-has-a-field-more", Form::Evidence, &|d| {
            let json = d.to_evidence().replacen("\"pck_crl\"", "\"more\": 1, \"pck_crl\"", 1);
            d.evidence_file = Some(json.into());
        }),
    ]
}
