//! `mse sgx`: what Gramine's own tools made is made again, to the byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::installation::Installation;

fn vectors() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gramine/tests/vectors");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).map(|path| path.canonicalize().unwrap()).collect()
}

fn vector(name: &str) -> PathBuf {
    vectors().into_iter().find(|folder| folder.ends_with(name)).unwrap()
}

fn inputs(vector: &Path) -> String {
    format!("--manifest {0}/app.manifest.sgx --libpal {0}/libpal.so", vector.display())
}

#[test]
fn every_vector_is_measured_and_signed_as_gramine_does() {
    let person = Installation::new();
    for vector in vectors() {
        let expected: Value = serde_json::from_slice(&fs::read(vector.join("vector.json")).unwrap()).unwrap();
        let inputs = inputs(&vector);
        let report = person.run(&format!("sgx measure {inputs} --verbose --format json"), 0);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["mrenclave"], expected["mrenclave"], "{}", vector.display());
        assert_eq!(report["memory_map"], expected["memory_map"], "{}", vector.display());

        let date = expected["date"].as_str().unwrap();
        let sign = format!("sgx sign {inputs} --key {}/key.pem --date {date}", vector.display());
        person.run(&format!("{sign} --output app.sig"), 0);
        assert!(
            fs::read(person.path("app.sig")).unwrap() == fs::read(vector.join("app.sig")).unwrap(),
            "{sign}"
        );

        let report = person.run("sgx inspect app.sig --format json", 0);
        let report: Value = serde_json::from_str(&report).unwrap();
        for field in ["mrenclave", "mrsigner", "isv_prod_id", "isv_svn", "date", "misc_select", "misc_mask"] {
            assert_eq!(report[field], expected[field], "{field} of {}", vector.display());
        }
        assert_eq!(report["signature_valid"], true);
    }
}

#[test]
fn only_the_measurement_goes_to_standard_output() {
    let person = Installation::new();
    let vector = vector("10-inline-trusted-files-debug-edmm");
    let measure = format!("sgx measure {}", inputs(&vector));
    assert_eq!(person.run(&measure, 0), "9b717280cfe4ad6cb7f51ef816ddaad168749c93ad1b885e87b69ad6781cbfb1\n");
    // The signer takes this size, and the loader does not.
    assert!(person.talk(&measure, 0).contains("sgx.enclave_size: expected decimal digits"));
}

#[test]
fn a_new_key_signs_is_private_and_never_replaces_another() {
    let person = Installation::new();
    let mrsigner = person.run("sgx keygen --output keys/signer.pem", 0);
    let mode = fs::metadata(person.path("keys/signer.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(person.path("keys/signer.pem")).unwrap();
    assert!(person.talk("sgx keygen --output keys/signer.pem", 2).contains("exists already"));
    assert_eq!(fs::read(person.path("keys/signer.pem")).unwrap(), before);

    let vector = vector("04-edmm-default-size-t1");
    person.run(&format!("sgx sign {} --key keys/signer.pem --output a.sig", inputs(&vector)), 0);
    let report = person.run("sgx inspect a.sig", 0);
    assert!(report.contains(mrsigner.trim()) && report.contains("signature: valid"), "{report}");

    let report: Value =
        serde_json::from_str(&person.run("sgx keygen --output b.pem --format json", 0)).unwrap();
    assert_eq!(report["key"], "b.pem");
    person.run(&format!("sgx sign {} --key b.pem --output b.sig", inputs(&vector)), 0);
    let signed: Value = serde_json::from_str(&person.run("sgx inspect b.sig --format json", 0)).unwrap();
    assert_eq!(report["mrsigner"], signed["mrsigner"]);
}

#[test]
fn what_is_wrong_is_named() {
    let person = Installation::new();
    let vector = vector("04-edmm-default-size-t1");
    let libpal = vector.join("libpal.so");
    fs::write(person.path("manifest"), "sgx.enclave_size = '1M'\n").unwrap();
    let message = person.talk(&format!("sgx measure --manifest manifest --libpal {}", libpal.display()), 1);
    assert!(message.contains("sgx.enclave_size") && message.contains("sgx.max_threads"), "{message}");
    let message = person.talk("sgx measure --manifest manifest --libpal manifest", 1);
    assert!(message.contains("libpal, ELF header"), "{message}");
    let message = person.talk("sgx measure --manifest nowhere --libpal manifest", 1);
    assert!(message.contains("nowhere"), "{message}");
    person.talk(&format!("sgx sign {} --key manifest --output a.sig", inputs(&vector)), 1);
    let key = vector.join("key.pem");
    let sign = format!("sgx sign {} --key {} --output a.sig", inputs(&vector), key.display());
    person.talk(&format!("{sign} --date 2025-6-1"), 2);
    assert!(!person.path("a.sig").exists());

    let mut file = fs::read(vector.join("app.sig")).unwrap();
    file[1500] ^= 1;
    fs::write(person.path("altered.sig"), &file).unwrap();
    assert!(person.talk("sgx inspect altered.sig", 3).contains("SIGSTRUCT, Q2"));
    fs::write(person.path("short.sig"), &file[1..]).unwrap();
    assert!(person.talk("sgx inspect short.sig", 1).contains("expected 1808 bytes"));
}
