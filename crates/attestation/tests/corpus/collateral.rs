//! Defects of the collateral object, of TCB info and QE identity, and of the chains of their signers.

use std::sync::Arc;

use attestation::checks::Id;
use attestation::issuer::{INTEL, Signer, pem_chain, set_window, sign_text};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384,
};

use super::draft::{Draft, authority, hours};
use super::{Mutant, mutant};

pub fn mutants() -> Vec<Mutant> {
    [object(), chain(true), chain(false), signature(true), signature(false), tcb_info(), qe_identity()]
        .into_iter()
        .flatten()
        .collect()
}

/// The object of nine strings.
fn object() -> Vec<Mutant> {
    let file = |name: &str, change: fn(&mut String)| {
        mutant(name, Id::CollateralFormat, move |d| {
            let mut json = d.collateral.to_json();
            change(&mut json);
            d.collateral_file = Some(json.into_bytes());
        })
    };
    vec![
        file("collateral-empty-file", String::clear),
        file("collateral-empty-object", |j| *j = "{}".into()),
        file("collateral-array", |j| *j = r#"["","","","","","","","",""]"#.into()),
        file("collateral-prose", |j| *j = "collateral".into()),
        file("collateral-truncated", |j| j.truncate(j.len() / 2)),
        file("collateral-twice", |j| *j = j.repeat(2)),
        file("collateral-field-missing", |j| *j = j.replace("\"pck_crl\"", "\"pck_crl_\"")),
        file("collateral-unknown-field-twice", |j| *j = j.replacen('{', "{\"more\": 1, \"more\": 2,", 1)),
        file("collateral-is-a-certificate", |j| *j = "-----BEGIN CERTIFICATE-----\nAwAC\n".into()),
        file("collateral-is-tcb-info", |j| *j = r#"{"tcbInfo": {}, "signature": ""}"#.into()),
        mutant("collateral-pck-chain-in-place-of-the-quotes", Id::QuoteCertificationType, |d| {
            // Other tools take the chain from here where the quote has none.
            let chain = pem_chain(&d.machine.pck_chain);
            d.collateral_file = Some(with_field(d, "pck_certificate_chain", chain.into()));
            d.quote.signature.certification_data_type = 3;
            d.quote.signature.certification_data = vec![7; 404];
        }),
        file("collateral-field-twice", |j| *j = j.replacen('{', "{\"pck_crl\": \"\",", 1)),
        file("collateral-field-null", |j| {
            let start = j.find("\"pck_crl\": ").unwrap() + "\"pck_crl\": ".len();
            let end = start + j[start..].find(',').unwrap();
            j.replace_range(start..end, "null");
        }),
        mutant("collateral-missing", Id::CollateralFormat, |d| d.without_collateral = true),
        mutant("collateral-too-large", Id::CollateralFormat, |d| {
            d.collateral.pck_crl_issuer_chain = " ".repeat(attestation::collateral::MAX_LEN);
        }),
    ]
}

/// The collateral's JSON with one more field in front.
pub fn with_field(d: &Draft, name: &str, value: serde_json::Value) -> Vec<u8> {
    let field = format!("{{{}: {value},", serde_json::json!(name));
    d.collateral.to_json().replacen('{', &field, 1).into_bytes()
}

/// Puts another certificate of the signer's key into one of the two chains.
fn set_signer(d: &mut Draft, of_tcb: bool, signer: &Signer) {
    let root = d.authority.root.certificate.clone();
    set_chain(d, of_tcb, &[&signer.certificate, &root]);
}

fn set_chain(d: &mut Draft, of_tcb: bool, chain: &[&Vec<u8>]) {
    *issuer_chain(d, of_tcb) = pem_chain(chain.iter().copied());
}

fn issuer_chain(d: &mut Draft, of_tcb: bool) -> &mut String {
    if of_tcb { &mut d.collateral.tcb_info_issuer_chain } else { &mut d.collateral.qe_identity_issuer_chain }
}

/// The same defects of either signer's chain.
fn chain(of_tcb: bool) -> Vec<Mutant> {
    let prefix = if of_tcb { "tcb-chain" } else { "qe-chain" };
    let pick = move |tcb, qe| if of_tcb { tcb } else { qe };
    let text = |name: &str, change: fn(&mut String)| {
        let id = pick(Id::TcbChainFormat, Id::QeChainFormat);
        mutant(format!("{prefix}-{name}"), id, move |d| change(issuer_chain(d, of_tcb)))
    };
    let signer = |name: &str, id, change: fn(&mut CertificateParams, jiff::Timestamp)| {
        mutant(format!("{prefix}-{name}"), id, move |d| {
            let signer = d.other_signer(|params| change(params, d.at));
            set_signer(d, of_tcb, &signer);
        })
    };
    let order = pick(Id::TcbChainOrder, Id::QeChainOrder);
    let validity = pick(Id::TcbChainValidity, Id::QeChainValidity);
    let length = pick(Id::TcbChainLength, Id::QeChainLength);
    vec![
        text("empty", String::clear),
        text("prose", |t| *t = "none".into()),
        mutant(format!("{prefix}-without-root"), length, move |d| {
            let signer = d.authority.tcb_signing.certificate.clone();
            set_chain(d, of_tcb, &[&signer]);
        }),
        mutant(format!("{prefix}-root-twice"), length, move |d| {
            let (signer, root) =
                (d.authority.tcb_signing.certificate.clone(), d.authority.root.certificate.clone());
            set_chain(d, of_tcb, &[&signer, &root, &root]);
        }),
        mutant(format!("{prefix}-reversed"), order, move |d| {
            let (signer, root) =
                (d.authority.tcb_signing.certificate.clone(), d.authority.root.certificate.clone());
            set_chain(d, of_tcb, &[&root, &signer]);
        }),
        mutant(format!("{prefix}-under-a-strange-root"), pick(Id::TcbChainRoot, Id::QeChainRoot), move |d| {
            let stranger = authority(INTEL);
            let own = &d.authority.tcb_signing;
            let signer = stranger.root.certify_key(own.params.clone(), own.key.clone()).unwrap();
            set_chain(d, of_tcb, &[&signer.certificate, &stranger.root.certificate]);
        }),
        signer("signer-of-another-role", pick(Id::TcbChainNames, Id::QeChainNames), |p, _| {
            p.distinguished_name.remove(DnType::CommonName);
            p.distinguished_name.push(DnType::CommonName, "Intel SGX PCK Certificate");
        }),
        mutant(format!("{prefix}-signer-key-on-p384"), pick(Id::TcbChainKeys, Id::QeChainKeys), move |d| {
            let key = Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
            let params = d.authority.tcb_signing.params.clone();
            let signer = d.authority.root.certify_key(params, key).unwrap();
            set_signer(d, of_tcb, &signer);
        }),
        mutant(
            format!("{prefix}-signer-signed-by-a-stranger"),
            pick(Id::TcbChainSignatures, Id::QeChainSignatures),
            move |d| {
                let stranger = authority(INTEL);
                let own = &d.authority.tcb_signing;
                let signer = stranger.root.certify_key(own.params.clone(), own.key.clone()).unwrap();
                set_signer(d, of_tcb, &signer);
            },
        ),
        signer("signer-expired", validity, |p, at| set_window(p, at - hours(48), at - hours(1)).unwrap()),
        signer("signer-not-yet-valid", validity, |p, at| {
            set_window(p, at + hours(1), at + hours(48)).unwrap()
        }),
        signer("signer-is-a-ca", pick(Id::TcbChainConstraints, Id::QeChainConstraints), |p, _| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        signer("signer-may-not-sign", pick(Id::TcbChainKeyUsage, Id::QeChainKeyUsage), |p, _| {
            p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }),
        mutant(
            format!("{prefix}-signer-unknown-critical-extension"),
            pick(Id::TcbChainExtensions, Id::QeChainExtensions),
            move |d| {
                let signer = d.other_signer(|params| {
                    let oid = [1, 3, 6, 1, 4, 1, 99999, 1];
                    let mut extension = CustomExtension::from_oid_content(&oid, vec![5, 0]);
                    extension.set_criticality(true);
                    params.custom_extensions.push(extension);
                });
                set_signer(d, of_tcb, &signer);
            },
        ),
    ]
}

/// The same defects of either signature.
fn signature(of_tcb: bool) -> Vec<Mutant> {
    let (prefix, id) = match of_tcb {
        true => ("tcb-info", Id::TcbInfoSignature),
        false => ("qe-identity", Id::QeIdentitySignature),
    };
    fn text_and_signature(d: &mut Draft, of_tcb: bool) -> (&mut String, &mut String) {
        match of_tcb {
            true => (&mut d.collateral.tcb_info, &mut d.collateral.tcb_info_signature),
            false => (&mut d.collateral.qe_identity, &mut d.collateral.qe_identity_signature),
        }
    }
    let edit = |name: &str, change: fn(&mut String, &mut String)| {
        mutant(format!("{prefix}-{name}"), id, move |d| {
            let (text, signature) = text_and_signature(d, of_tcb);
            change(text, signature);
        })
    };
    let by = |name: &str, signer: fn(&Draft) -> Signer| {
        mutant(format!("{prefix}-{name}"), id, move |d| {
            let signer = signer(d);
            let (text, signature) = text_and_signature(d, of_tcb);
            *signature = sign_text(&signer, text).unwrap();
        })
    };
    vec![
        edit("signature-empty", |_, s| s.clear()),
        edit("signature-63-bytes", |_, s| s.truncate(126)),
        edit("signature-65-bytes", |_, s| s.push_str("00")),
        edit("signature-not-hex", |_, s| s.replace_range(..1, "g")),
        edit("signature-zero", |_, s| *s = "00".repeat(64)),
        edit("signature-flipped-bit", |_, s| {
            let mut raw = hex::decode(&*s).unwrap();
            raw[0] ^= 1;
            *s = hex::encode(raw);
        }),
        edit("date-after-signing", |t, _| *t = t.replacen("2026-", "2025-", 1)),
        edit("space-after-signing", |t, _| t.push(' ')),
        by("signed-by-the-root", |d| d.authority.root.clone()),
        by("signed-by-the-pck-ca", |d| d.authority.platform_ca.clone()),
        by("signed-by-the-pck", |d| d.machine.pck.clone()),
        by("signed-by-a-stranger", |_| authority(INTEL).tcb_signing.clone()),
    ]
}

fn tcb_info() -> Vec<Mutant> {
    let text = |name: &str, from: &'static str, to: &'static str| {
        mutant(format!("tcb-info-{name}"), Id::TcbInfoFormat, move |d| d.replace_in_tcb(from, to))
    };
    let value = |name: &str, id, change: fn(&mut attestation::issuer::TcbInfo)| {
        mutant(format!("tcb-info-{name}"), id, move |d| d.edit_tcb(change))
    };
    let dated = |name: &str, from: i64, until: i64| {
        mutant(format!("tcb-info-{name}"), Id::TcbInfoWindow, move |d| {
            let (from, until) = ((d.at + hours(from)).to_string(), (d.at + hours(until)).to_string());
            d.edit_tcb(|info| (info.issue_date, info.next_update) = (from, until));
        })
    };
    vec![
        text("unknown-field-that-could-decide", "{", r#"{"tcbStatusReason":"x","#),
        text("unknown-field-of-revocation", "{", r#"{"revoked":true,"#),
        text("unknown-field-with-an-odd-name", "{", "{\"n\u{43e}te\":1,"),
        text("unknown-field-twice", "{", r#"{"more":1,"more":1,"#),
        text("field-in-another-case-beside-it", "{", r#"{"Version":3,"#),
        text("unknown-field-in-a-level", r#"{"tcb":"#, r#"{"more":1,"tcb":"#),
        text("unknown-field-in-the-versions", r#""pcesvn""#, r#""tdxtcbcomponents":[],"pcesvn""#),
        text("unknown-field-in-a-component", r#"{"svn":11}"#, r#"{"svn":11,"more":1}"#),
        text("field-twice", "{", r#"{"id":"SGX","#),
        text("level-status-twice", r#""tcbStatus":"#, r#""tcbStatus":"UpToDate","tcbStatus":"#),
        text("component-as-array", r#"{"svn":11}"#, "[11]"),
        text("component-as-text", r#"{"svn":11}"#, r#"{"svn":"11"}"#),
        text("component-as-float", r#"{"svn":11}"#, r#"{"svn":11.0}"#),
        text("component-256", r#"{"svn":11}"#, r#"{"svn":256}"#),
        text("component-negative", r#"{"svn":11}"#, r#"{"svn":-1}"#),
        text("fifteen-components", r#"{"svn":11},"#, ""),
        text("seventeen-components", r#"{"svn":11},"#, r#"{"svn":11},{"svn":11},"#),
        text("status-unknown", "UpToDate", "Fine"),
        text("status-other-case", "UpToDate", "uptodate"),
        text("version-as-text", r#""version":3"#, r#""version":"3""#),
        text("id-missing", r#""id":"SGX","#, ""),
        text("next-update-missing", r#""nextUpdate":"2026-03-02T12:00:00Z","#, ""),
        text("date-without-zone", r#"T00:00:00Z"#, "T00:00:00"),
        text("date-with-offset", r#"T00:00:00Z"#, "T00:00:00+00:00"),
        text("date-with-fraction", r#"T00:00:00Z"#, "T00:00:00.5Z"),
        text("date-without-time", r#"T00:00:00Z"#, ""),
        text("date-impossible", "2025-08-13T", "2025-02-30T"),
        text("fmspc-odd-digits", r#""fmspc":""#, r#""fmspc":"0"#),
        value("no-levels", Id::TcbInfoFormat, |info| info.tcb_levels.clear()),
        mutant("tcb-info-empty-object", Id::TcbInfoFormat, |d| d.set_tcb_text("{}".into())),
        mutant("tcb-info-in-an-array", Id::TcbInfoFormat, |d| {
            d.set_tcb_text(format!("[{}]", d.collateral.tcb_info));
        }),
        mutant("tcb-info-empty", Id::TcbInfoFormat, |d| d.set_tcb_text(String::new())),
        mutant("tcb-info-is-a-qe-identity", Id::TcbInfoVersion, |d| {
            d.set_tcb_text(d.collateral.qe_identity.clone())
        }),
        mutant("tcb-info-trailing-text", Id::TcbInfoFormat, |d| {
            d.set_tcb_text(format!("{}x", d.collateral.tcb_info))
        }),
        value("version-2", Id::TcbInfoVersion, |info| info.version = 2),
        value("version-4", Id::TcbInfoVersion, |info| info.version = 4),
        value("id-tdx", Id::TcbInfoId, |info| info.id = "TDX".into()),
        value("id-lower-case", Id::TcbInfoId, |info| info.id = "sgx".into()),
        value("tcb-type-1", Id::TcbInfoType, |info| info.tcb_type = 1),
        value("of-another-fmspc", Id::TcbInfoFmspc, |info| info.fmspc = "00906ED50000".into()),
        value("of-another-pce", Id::TcbInfoPceId, |info| info.pce_id = "0001".into()),
        dated("expired", -48, -1),
        dated("from-the-future", 1, 48),
        dated("window-reversed", 24, -24),
    ]
}

fn qe_identity() -> Vec<Mutant> {
    let text = |name: &str, from: &'static str, to: &'static str| {
        mutant(format!("qe-identity-{name}"), Id::QeIdentityFormat, move |d| d.replace_in_qe(from, to))
    };
    let value = |name: &str, id, change: fn(&mut attestation::issuer::QeIdentity)| {
        mutant(format!("qe-identity-{name}"), id, move |d| d.edit_qe(change))
    };
    let dated = |name: &str, from: i64, until: i64| {
        mutant(format!("qe-identity-{name}"), Id::QeIdentityWindow, move |d| {
            let (from, until) = ((d.at + hours(from)).to_string(), (d.at + hours(until)).to_string());
            d.edit_qe(|identity| (identity.issue_date, identity.next_update) = (from, until));
        })
    };
    vec![
        text("unknown-field-of-the-report", "{", r#"{"isvextprodid":1,"#),
        text("unknown-mask", "{", r#"{"reportDataMask":"00","#),
        text("unknown-field-in-a-level", r#"{"tcb":"#, r#"{"more":1,"tcb":"#),
        text("unknown-field-beside-isvsvn", r#"{"isvsvn":8}"#, r#"{"isvsvn":8,"more":1}"#),
        text("unknown-field-twice", "{", r#"{"more":1,"more":1,"#),
        text("field-in-another-case-beside-it", "{", r#"{"mrSigner":"00","#),
        text("field-twice", "{", r#"{"id":"QE","#),
        text("mrsigner-missing", r#""mrsigner":"#, r#""mrsignerr":"#),
        text("isvsvn-in-an-array", r#"{"isvsvn":8}"#, "[8]"),
        text("isvsvn-as-text", r#"{"isvsvn":8}"#, r#"{"isvsvn":"8"}"#),
        text("isvsvn-65536", r#"{"isvsvn":8}"#, r#"{"isvsvn":65536}"#),
        text("status-unknown", "UpToDate", "Fine"),
        text("mask-of-3-bytes", r#""FFFFFFFF""#, r#""FFFFFF""#),
        text("date-without-zone", r#"T00:00:00Z"#, "T00:00:00"),
        value("no-levels", Id::QeIdentityFormat, |identity| identity.tcb_levels.clear()),
        mutant("qe-identity-empty-object", Id::QeIdentityFormat, |d| d.set_qe_text("{}".into())),
        mutant("qe-identity-trailing-text", Id::QeIdentityFormat, |d| {
            d.set_qe_text(format!("{}{{}}", d.collateral.qe_identity));
        }),
        value("version-1", Id::QeIdentityVersion, |identity| identity.version = 1),
        value("version-3", Id::QeIdentityVersion, |identity| identity.version = 3),
        value("of-the-verification-enclave", Id::QeIdentityId, |identity| identity.id = "QVE".into()),
        value("of-the-td-quoting-enclave", Id::QeIdentityId, |identity| identity.id = "TD_QE".into()),
        dated("expired", -48, -1),
        dated("from-the-future", 1, 48),
    ]
}
