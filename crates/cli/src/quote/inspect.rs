//! `mse quote inspect`: what a quote, an RA-TLS certificate or an evidence file says, believed or not.

use std::path::PathBuf;

use attestation::quote::{After, certification_data_name};
use attestation::ratls::{Binding, Claims, RatlsCertificate};
use attestation::recognise::{Kind, kind_of};
use attestation::report::EnclaveReport;
use attestation::{Evidence, Quote};
use serde_json::{Map, Value, json};

use crate::exit::{Advice, Exit};
use crate::files;
use crate::output::{self, Format, out, say};

/// Show what a quote, an RA-TLS certificate or an evidence file says. Nothing of it is verified.
#[derive(clap::Args)]
pub struct Args {
    /// The file: a quote (raw, hex, base64 or PEM), a certificate (PEM or DER) or evidence (JSON).
    file: PathBuf,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Tells what the file is, and shows it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let bytes = files::read(&args.file)?;
    let tree = recognise(&bytes).hint(
        "a quote (raw, hex, base64, PEM), an RA-TLS certificate (PEM, DER) or an evidence file is expected",
    )?;
    if args.format == Format::Json {
        output::json(&tree)?;
    } else {
        print(&tree, 0)?;
        say!("Nothing of this was verified; `mse quote verify` does.");
    }
    Ok(Exit::Done)
}

fn recognise(bytes: &[u8]) -> anyhow::Result<Value> {
    match kind_of(bytes) {
        Kind::Evidence => evidence(&Evidence::from_json(bytes)?),
        Kind::CertificatePem | Kind::CertificateDer => certificate(&RatlsCertificate::from_file(bytes)?),
        _ => {
            let mut tree = quote(&Quote::recognise(bytes)?)?;
            if Quote::is_open_enclave_report(bytes) {
                tree["quote"]["behind"] = json!("an Open Enclave header of 16 bytes");
            }
            Ok(tree)
        }
    }
}

fn evidence(evidence: &Evidence) -> anyhow::Result<Value> {
    Ok(json!({
        "evidence": {
            "certificate": certificate(&RatlsCertificate::parse(&evidence.certificate)?)?,
            "quote": quote(&evidence.quote)?,
            "claims": claims(&evidence.claims),
            "nonce": evidence.nonce.as_ref().map(hex::encode),
            "arguments": serde_json::to_value(&evidence.arguments)?,
            "collateral": {
                "tcb_info": document(&evidence.collateral.tcb_info),
                "qe_identity": document(&evidence.collateral.qe_identity),
            },
        }
    }))
}

/// What matters first in a signed JSON document; the rest is in the file.
fn document(text: &str) -> Value {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return json!("not a JSON object") };
    let shown = |(name, value): (String, Value)| match value {
        Value::Array(entries) => (name, json!(format!("{} entries", entries.len()))),
        value => (name, value),
    };
    Value::Object(fields.into_iter().map(shown).collect())
}

fn certificate(certificate: &RatlsCertificate) -> anyhow::Result<Value> {
    let (form, claims) = match &certificate.binding {
        Binding::Interoperable { claims: bytes, .. } => ("interoperable (2.23.133.5.4.9)", claims(bytes)),
        _ => ("older (1.2.840.113741.1337.6)", Value::Null),
    };
    Ok(json!({
        "certificate": {
            "subject": certificate.subject,
            "hosts": certificate.hosts,
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "spki_sha256": hex::encode(certificate.spki_sha256),
            "self_signature": certificate.self_signature_is_valid(),
            "form": form,
            "claims": claims,
            "quote": quote(&certificate.quote)?,
        }
    }))
}

fn claims(bytes: &[u8]) -> Value {
    match Claims::decode(bytes) {
        Err(error) => json!(error.to_string()),
        Ok(claims) => json!({
            "pubkey_hash": hex::encode(claims.pubkey_hash),
            "nonce": claims.nonce.map(hex::encode),
            "mse": claims.app.map(|app| json!({
                "version": app.version,
                "app_id": uuid::Uuid::from_bytes(app.app_id),
                "sealing_key": format!("{} bytes", app.sealing_key.len()),
                "tls_mode": app.tls_mode.as_str(),
                "served_spki": app.served_spki.map(hex::encode),
            })),
        }),
    }
}

fn quote(bytes: &[u8]) -> anyhow::Result<Value> {
    let (quote, left) = Quote::parse_prefix(bytes)?;
    let after = After::of(bytes, left);
    let header = &quote.header;
    let signature = &quote.signature;
    let certificates =
        String::from_utf8_lossy(&signature.certification_data).matches("BEGIN CERTIFICATE").count();
    Ok(json!({
        "quote": {
            "length": after.length,
            "after_the_quote": after.advice(),
            "header": {
                "version": header.version,
                "attestation_key_type": header.attestation_key_type,
                "tee_type": header.tee_type,
                "qe_svn": header.qe_svn,
                "pce_svn": header.pce_svn,
                "qe_vendor_id": hex::encode(header.qe_vendor_id),
                "user_data": hex::encode(header.user_data),
            },
            "report": report(&quote.report),
            "qe_report": report(&signature.qe_report),
            "attestation_key": hex::encode(signature.attestation_key),
            "qe_auth_data": hex::encode(&signature.qe_auth_data),
            "certification_data": {
                "type": certification_data_name(signature.certification_data_type),
                "length": signature.certification_data.len(),
                "certificates": certificates,
            },
        }
    }))
}

fn report(report: &EnclaveReport) -> Value {
    json!({
        "mrenclave": hex::encode(report.mr_enclave),
        "mrsigner": hex::encode(report.mr_signer),
        "isv_prod_id": report.isv_prod_id,
        "isv_svn": report.isv_svn,
        "attributes": {
            "flags": format!("{:#x}", report.attributes.flags),
            "xfrm": format!("{:#x}", report.attributes.xfrm),
            "debug": report.attributes.flags & attestation::report::FLAG_DEBUG != 0,
        },
        "misc_select": format!("{:#x}", report.misc_select),
        "cpu_svn": hex::encode(report.cpu_svn),
        "report_data": hex::encode(report.report_data),
    })
}

/// A tree as indented lines. Strings come from outside: what a terminal would act on is shown as an escape.
fn print(tree: &Value, depth: usize) -> anyhow::Result<()> {
    let Value::Object(fields) = tree else { return Ok(()) };
    for (name, value) in fields {
        let indent = "  ".repeat(depth);
        let name = name.replace('_', " ").escape_debug().to_string();
        match value {
            Value::Object(inner) => {
                let inner = unwrapped(&name, inner);
                out!("{indent}{name}:")?;
                print(inner.unwrap_or(value), depth + 1)?;
            }
            Value::String(text) => out!("{indent}{name}: {}", text.escape_debug())?,
            Value::Null => out!("{indent}{name}: none")?,
            Value::Array(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| item.as_str().unwrap_or_default().escape_debug().to_string())
                    .collect();
                out!("{indent}{name}: {}", items.join(", "))?;
            }
            other => out!("{indent}{name}: {other}")?,
        }
    }
    Ok(())
}

/// `quote: { quote: { … } }` is shown once.
fn unwrapped<'a>(name: &str, inner: &'a Map<String, Value>) -> Option<&'a Value> {
    match inner.iter().next() {
        Some((only, value)) if inner.len() == 1 && only == name => Some(value),
        _ => None,
    }
}
