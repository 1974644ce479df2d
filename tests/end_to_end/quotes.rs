//! `mse quote`: judged alone, offline, with no package.

use std::fs;
use std::path::{Path, PathBuf};

use crate::installation::Installation;

/// A real quote and its collateral, which are not part of the project: beside it, where they are at hand.
fn real_quote() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/quotes");
    if folder.join("sgx_quote").is_file() {
        return Some(folder.canonicalize().unwrap());
    }
    eprintln!("skipped: no real quote in {}", folder.display());
    None
}

#[test]
fn a_real_quote_is_refused_by_the_strict_policy_and_accepted_by_one_that_allows_its_state() {
    let Some(folder) = real_quote() else { return };
    let person = Installation::new();
    let files = format!(
        "--quote {} --collateral {}",
        folder.join("sgx_quote").display(),
        folder.join("sgx_quote_collateral.json").display()
    );
    let within = "--at 2025-07-01T00:00:00Z";
    let report = person.run(&format!("quote verify {files} {within} --format json"), 3);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["platform"], "sgx");
    let failed: Vec<_> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["result"] == "fail").collect();
    assert!(
        failed.iter().any(|check| check["found"] == "ConfigurationAndSWHardeningNeeded"),
        "the status is named: {failed:?}"
    );

    let policy = r#"
        name = "the state of that machine"
        allowed_tcb_statuses = ["UpToDate", "ConfigurationAndSWHardeningNeeded"]
        [[advisory]]
        id = "INTEL-SA-00289"
        owner = "operations"
        reason = "voltage settings are locked"
        expires = "2025-07-10"
        [[advisory]]
        id = "INTEL-SA-00615"
        owner = "operations"
        reason = "the library is patched"
        expires = "2025-07-10"
    "#;
    fs::write(person.path("policy.toml"), policy).unwrap();
    let report = person.run(&format!("quote verify {files} {within} --policy policy.toml"), 0);
    assert!(
        report.contains("ConfigurationAndSWHardeningNeeded"),
        "a tolerated status is still told: {report}"
    );
    for outside in ["2025-06-19T10:56:10Z", "2025-07-19T10:01:19Z", "2025-07-12T00:00:00Z"] {
        person.run(&format!("quote verify {files} --at {outside} --policy policy.toml"), 3);
    }
    let words = person.run(&format!("quote explain-tcb {files} {within} --policy policy.toml"), 0);
    assert!(words.contains("INTEL-SA-00289"), "{words}");
    person.run(&format!("quote inspect {}", folder.join("sgx_quote").display()), 0);

    // One flipped bit.
    let mut quote = fs::read(folder.join("sgx_quote")).unwrap();
    quote[200] ^= 1;
    fs::write(person.path("flipped"), &quote).unwrap();
    let collateral = folder.join("sgx_quote_collateral.json");
    let line = format!(
        "quote verify --quote flipped --collateral {} {within} --policy policy.toml",
        collateral.display()
    );
    person.run(&line, 3);
}

#[test]
fn exit_codes_tell_refused_from_could_not_judge() {
    let person = Installation::new();
    fs::write(person.path("empty"), b"").unwrap();
    fs::write(person.path("noise"), vec![0x5a; 5000]).unwrap();
    fs::write(person.path("object.json"), b"{}").unwrap();
    fs::write(person.path("bad.toml"), b"allowed_tcb_statuses = [\"Anything\"]").unwrap();
    for refused in [
        "quote verify --quote empty --collateral object.json",
        "quote verify --quote noise --collateral object.json",
        "quote verify --quote noise",
        "quote verify --cert noise --collateral object.json",
        "quote verify --evidence object.json",
    ] {
        let report = person.run(&format!("{refused} --format json"), 3);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["verdict"], "refused", "{refused}");
    }
    person.run("quote verify --quote missing --collateral object.json", 1);
    person.run("quote verify --quote noise --collateral missing", 1);
    person.run("quote verify --quote noise --collateral object.json --policy bad.toml", 1);
    person.run("quote verify --quote noise --collateral object.json --root-ca noise", 1);
    person.run("quote verify --collateral object.json", 2);
    person.run("quote verify --quote noise --evidence object.json", 2);
    person.run("quote verify --quote noise --mrenclave 00", 2);
}

#[test]
fn a_real_quote_is_read_in_the_forms_that_tools_write() {
    let Some(folder) = real_quote() else { return };
    let person = Installation::new();
    let raw = fs::read(folder.join("sgx_quote")).unwrap();
    let hex: String = raw.iter().map(|byte| format!("{byte:02X}")).collect();
    let length = (raw.len() as u64).to_le_bytes();
    let open_enclave = [&[1, 0, 0, 0, 2, 0, 0, 0][..], &length, &raw].concat();
    let zeros = [&raw[..], &[0; 4]].concat();
    let collateral = folder.join("sgx_quote_collateral.json");
    let failed = |bytes: &[u8]| -> Vec<(String, String)> {
        fs::write(person.path("quote"), bytes).unwrap();
        let command = format!(
            "quote verify --quote quote --collateral {} --at 2025-07-01T00:00:00Z --format json",
            collateral.display()
        );
        let report: serde_json::Value = serde_json::from_str(&person.run(&command, 3)).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let failures = report["checks"].as_array().unwrap().iter().filter(|check| check["result"] == "fail");
        failures.map(|check| (text(&check["id"]), text(&check["hint"]))).collect()
    };
    let ids = |failed: &[(String, String)]| failed.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let of_the_policy = ["policy.tcb_status", "policy.advisories"];
    for form in [&raw[..], hex.as_bytes(), format!("\u{feff}0x{hex}\n").as_bytes(), &open_enclave] {
        assert_eq!(ids(&failed(form)), of_the_policy);
    }
    let padded = failed(&zeros);
    assert_eq!(ids(&padded)[0], "quote.length");
    assert!(padded[0].1.contains(&format!("cut it to {} bytes", raw.len())), "{padded:?}");
    let shown = person.run("quote inspect quote", 0);
    assert!(shown.contains("after the quote: the quote ends after"), "{shown}");
}
