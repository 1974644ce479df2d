//! The corpus as files, for other verifiers and other languages.
//!
//! One folder for each case: `quote`, `certificate.pem` or `evidence.json` is judged; `collateral.json` goes with it (not
//! with evidence, which carries its own); `root.pem` is the root; `policy.toml`, where there is one, the policy; and
//! `case.json` says the rest: {`name`, `form`, `anchor`: `explicit`, `simulated` or null, `at`: RFC 3339, `expected`: what
//! the caller expects, `verdict`: `accepted` or `refused`, `fails`: ids of the checks that fail}.

use std::io;
use std::path::Path;

use attestation::issuer::pem_chain;
use serde_json::json;

use super::{Anchor, Case, Form};

/// Writes one case into its folder below `dir`.
pub fn write(case: &Case, dir: &Path) -> io::Result<()> {
    let folder = dir.join(&case.name);
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content);
    match case.form {
        Form::Quote => file("quote", &case.subject)?,
        Form::Certificate | Form::Legacy => file("certificate.pem", &certificate(&case.subject))?,
        Form::Evidence => file("evidence.json", &case.subject)?,
    }
    if let Some(collateral) = &case.collateral {
        file("collateral.json", collateral)?;
    }
    file("root.pem", case.root.as_bytes())?;
    if !case.policy.is_empty() {
        file("policy.toml", case.policy.as_bytes())?;
    }
    let mut text = serde_json::to_string_pretty(&description(case))?;
    text.push('\n');
    file("case.json", text.as_bytes())
}

/// PEM where the subject is DER; a subject that is broken as a whole stays as it is.
fn certificate(subject: &[u8]) -> Vec<u8> {
    match subject.first() {
        Some(0x30) => pem_chain([&subject.to_vec()]).into_bytes(),
        _ => subject.to_vec(),
    }
}

fn description(case: &Case) -> serde_json::Value {
    let expected = &case.expected;
    json!({
        "name": case.name,
        "form": match case.form {
            Form::Quote => "quote",
            Form::Certificate | Form::Legacy => "certificate",
            Form::Evidence => "evidence",
        },
        "anchor": match case.anchor {
            Anchor::Explicit => Some("explicit"),
            Anchor::Simulated => Some("simulated"),
            Anchor::Nothing => None,
        },
        "at": case.at.to_string(),
        "expected": {
            "mrenclave": expected.mrenclave.iter().map(hex::encode).collect::<Vec<_>>(),
            "mrenclave_by_size": expected.mrenclave_by_size.iter()
                .map(|(size, value)| (size.to_string(), json!(hex::encode(value))))
                .collect::<serde_json::Map<_, _>>(),
            "mrsigner": expected.mrsigner.map(hex::encode),
            "isv_prod_id": expected.isv_prod_id,
            "min_isv_svn": expected.min_isv_svn,
            "report_data": expected.report_data.map(hex::encode),
            "nonce": expected.nonce.as_ref().map(hex::encode),
            "nonce_issued_at": expected.nonce_issued_at.map(|at| at.to_string()),
        },
        "verdict": if case.fails.is_empty() { "accepted" } else { "refused" },
        "fails": case.fails.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
    })
}
