//! Gramine's attestation files, played by plain ones.

use std::fs;
use std::path::Path;

use platform::sgx::Gramine;
use platform::{Error, Kind, Platform};
use tempfile::TempDir;

use crate::fixture::Inputs;

const REPORT_DATA: [u8; 64] = [9; 64];

/// A directory as Gramine would show it to an enclave that is asked for this quote.
fn device(mrenclave: &[u8; 32], quote: &[u8]) -> TempDir {
    let device = tempfile::tempdir().unwrap();
    let path = device.path();
    let mut target_info = [0; 512];
    target_info[..32].copy_from_slice(mrenclave);
    fs::write(path.join("attestation_type"), "dcap").unwrap();
    fs::write(path.join("my_target_info"), target_info).unwrap();
    fs::write(path.join("user_report_data"), [0; 64]).unwrap();
    fs::write(path.join("quote"), quote).unwrap();
    fs::create_dir(path.join("keys")).unwrap();
    fs::write(path.join("keys/_sgx_mrenclave"), [5; 16]).unwrap();
    device
}

/// An enclave's measurement and its quote.
fn quoted() -> ([u8; 32], Vec<u8>) {
    let enclave = Inputs::with("", &[]).load().unwrap();
    (enclave.mrenclave(), enclave.quote(&REPORT_DATA).unwrap())
}

fn refused(result: Result<impl Sized, Error>, file: &str, words: &str) {
    match result.map(drop).unwrap_err() {
        error @ Error::Device { .. } => {
            let message = error.to_string();
            assert!(message.contains(file) && message.contains(words), "{message}");
        }
        other => panic!("expected a refusal of {file}, found: {other}"),
    }
}

#[test]
fn quotes_and_keys_come_through_the_files() {
    let (mrenclave, quote) = quoted();
    let device = device(&mrenclave, &quote);
    let gramine = Gramine::open(device.path()).unwrap();
    assert_eq!(gramine.kind(), Kind::Sgx);
    assert_eq!(gramine.kind().to_string(), "sgx");
    assert_eq!(gramine.mrenclave(), mrenclave);
    assert_eq!(gramine.quote(&REPORT_DATA).unwrap(), quote);
    assert_eq!(fs::read(device.path().join("user_report_data")).unwrap(), REPORT_DATA);

    let key = gramine.sealing_key().unwrap();
    assert_eq!(gramine.sealing_key().unwrap(), key);
    fs::write(device.path().join("keys/_sgx_mrenclave"), [6; 16]).unwrap();
    assert_ne!(gramine.sealing_key().unwrap(), key);
}

#[test]
fn what_follows_the_quote_in_the_buffer_is_dropped() {
    let (mrenclave, quote) = quoted();
    let device = device(&mrenclave, &[quote.as_slice(), &[0; 2048]].concat());
    assert_eq!(Gramine::open(device.path()).unwrap().quote(&REPORT_DATA).unwrap(), quote);
}

#[test]
fn a_quote_about_something_else_is_refused() {
    let (mrenclave, quote) = quoted();
    let stale = device(&mrenclave, &quote);
    let gramine = Gramine::open(stale.path()).unwrap();
    refused(gramine.quote(&[8; 64]), "quote", "a quote with report data 0808");

    let stranger = device(&[1; 32], &quote);
    let gramine = Gramine::open(stranger.path()).unwrap();
    refused(gramine.quote(&REPORT_DATA), "quote", "a quote of the enclave 0101");
}

#[test]
fn what_is_no_quote_is_refused() {
    let (mrenclave, quote) = quoted();
    for bytes in [&[][..], &quote[..400], &quote[..quote.len() - 1]] {
        let device = device(&mrenclave, bytes);
        let error = Gramine::open(device.path()).unwrap().quote(&REPORT_DATA).unwrap_err();
        assert!(matches!(error, Error::Attestation(_)), "{error}");
    }
    let device = device(&mrenclave, &vec![0; 100_000]);
    refused(Gramine::open(device.path()).unwrap().quote(&REPORT_DATA), "quote", "more than 65536 bytes");
}

#[test]
fn without_an_enclave_the_message_says_what_is_needed() {
    let nothing = tempfile::tempdir().unwrap();
    let wanted = "sgx.remote_attestation = \"dcap\"";
    refused(Gramine::open(nothing.path()), "attestation_type", wanted);
    let (mrenclave, quote) = quoted();
    for kind in ["none", "epid", ""] {
        let device = device(&mrenclave, &quote);
        fs::write(device.path().join("attestation_type"), kind).unwrap();
        refused(Gramine::open(device.path()), "attestation_type", wanted);
    }
}

#[test]
fn a_target_info_has_512_bytes() {
    let (mrenclave, quote) = quoted();
    for length in [0, 31, 32, 511, 513] {
        let device = device(&mrenclave, &quote);
        fs::write(device.path().join("my_target_info"), vec![0; length]).unwrap();
        refused(Gramine::open(device.path()), "my_target_info", "512 bytes");
    }
}

#[test]
fn a_key_that_is_not_there_names_the_mount_that_brings_it() {
    let (mrenclave, quote) = quoted();
    let device = device(&mrenclave, &quote);
    let gramine = Gramine::open(device.path()).unwrap();
    let key: &Path = &device.path().join("keys/_sgx_mrenclave");
    for length in [0, 15, 17, 32] {
        fs::write(key, vec![1; length]).unwrap();
        refused(gramine.sealing_key(), "_sgx_mrenclave", "16 bytes");
    }
    fs::remove_file(key).unwrap();
    refused(gramine.sealing_key(), "_sgx_mrenclave", "key_name = \"_sgx_mrenclave\"");
}
