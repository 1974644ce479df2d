//! The corpus as files, for other verifiers and other languages.
//!
//! One folder for each case; [`README`], which is written beside them, says what is in it.

use std::io;
use std::path::Path;

use attestation::issuer::pem_chain;
use serde_json::json;

use super::{Anchor, Case, Form};

/// What the files are, for those who have nothing else.
const README: &str = "\
# A corpus of SGX evidence

One folder for each case, named after its defect (or `sound-...` where there is none):

- `quote`, `certificate.pem` or `evidence.json` is what is judged: a quote, an RA-TLS certificate with a quote inside, or
  an evidence file (which carries its own collateral).
- `collateral.json` is what Intel's servers would serve for it; where it is missing, the verifier gets none.
- `root.pem` is the root that the verifier is given beside Intel's, if `anchor` says so.
- `policy.toml`, where there is one, is the policy in the form of this project; without it, only a platform and a quoting
  enclave of status UpToDate without advisories are to be accepted.
- `case.json` says the rest.

`expectations.json` is the list of all `case.json`. The fields of each:

- `name`: of the case and its folder; `form`: `quote`, `certificate` or `evidence`; `subject`: the file that is judged.
- `anchor`: what `root.pem` is to the verifier: `explicit` (a trust anchor), `simulated` (one for simulated platforms only),
  or null (none: only Intel's is trusted).
- `at` and `unix`: the time to judge at, RFC 3339 and in seconds since 1970.
- `expected`: what the caller expects to find; a null or empty field is not compared.
- `for_every_verifier`: whether it is a bare quote that needs no policy, expectation or simulation: what any verifier of
  quotes can be asked.
- `verdict`: `accepted` or `refused`; `fails`: the checks that fail, one for each defect.

All keys were made for this corpus and thrown away.
";

/// Writes what explains the cases: a README and the list of all expectations.
pub fn write_explanations(cases: &[Case], dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("README.md"), README)?;
    let all: Vec<serde_json::Value> = cases.iter().map(description).collect();
    let mut text = serde_json::to_string_pretty(&all)?;
    text.push('\n');
    std::fs::write(dir.join("expectations.json"), text)
}

/// Writes one case into its folder below `dir`.
pub fn write(case: &Case, dir: &Path) -> io::Result<()> {
    let folder = dir.join(&case.name);
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content);
    match case.form {
        Form::Quote | Form::Evidence => file(subject(case), &case.subject)?,
        Form::Certificate | Form::Legacy => file(subject(case), &certificate(&case.subject))?,
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

/// The file that is judged.
fn subject(case: &Case) -> &'static str {
    match case.form {
        Form::Quote => "quote",
        Form::Certificate | Form::Legacy => "certificate.pem",
        Form::Evidence => "evidence.json",
    }
}

/// Whether the case asks for nothing that only this project's verifier offers.
fn is_for_every_verifier(case: &Case) -> bool {
    let expected = &case.expected;
    let expects_nothing = expected.mrenclave.is_empty()
        && expected.mrenclave_by_size.is_empty()
        && expected.mrsigner.is_none()
        && expected.isv_prod_id.is_none()
        && expected.min_isv_svn.is_none()
        && expected.report_data.is_none()
        && expected.nonce.is_none();
    case.form == Form::Quote && case.anchor == Anchor::Explicit && case.policy.is_empty() && expects_nothing
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
        "subject": subject(case),
        "at": case.at.to_string(),
        "unix": case.at.as_second(),
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
        "for_every_verifier": is_for_every_verifier(case),
        "verdict": if case.fails.is_empty() { "accepted" } else { "refused" },
        "fails": case.fails.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
    })
}
