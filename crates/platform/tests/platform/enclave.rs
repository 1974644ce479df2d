//! Loading simulated enclaves, and every reason not to.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use attestation::Quote;
use platform::simulated::Installation;
use platform::{Error, Kind, Platform};

use crate::fixture::{Inputs, LIBPAL, now, sign, signer};

const REPORT_DATA: [u8; 64] = [7; 64];

#[test]
fn a_quote_says_what_was_loaded() {
    let inputs = Inputs::with("isvprodid = 7\nisvsvn = 3\n", &["app/main.py"]);
    let enclave = inputs.load().unwrap();
    let report = Quote::parse(&enclave.quote(&REPORT_DATA).unwrap()).unwrap().report;
    assert_eq!(enclave.kind(), Kind::Simulated);
    assert_eq!(enclave.kind().to_string(), "simulated");
    let measured = gramine::measure::mrenclave(inputs.manifest.as_bytes(), LIBPAL).unwrap();
    assert_eq!(enclave.mrenclave(), measured);
    assert_eq!(report.mr_enclave, measured);
    assert_eq!(report.mr_signer, signer().mrsigner());
    assert_eq!((report.isv_prod_id, report.isv_svn), (7, 3));
    assert_eq!((report.attributes.flags, report.attributes.xfrm), (0x5, 0x3));
    assert_eq!(report.misc_select, 0);
    assert_eq!(report.report_data, REPORT_DATA);
    assert!(report.reserved_is_zero());
}

#[test]
fn debug_and_processor_features_show_in_the_report() {
    let settings = "debug = true\nuse_exinfo = true\ncpu_features = { avx = \"required\" }\n";
    let enclave = Inputs::with(settings, &[]).load().unwrap();
    let report = Quote::parse(&enclave.quote(&REPORT_DATA).unwrap()).unwrap().report;
    assert_eq!((report.attributes.flags, report.attributes.xfrm), (0x7, 0x7));
    assert_eq!(report.misc_select, 1);
}

#[test]
fn the_sealing_key_follows_from_machine_and_measurement() {
    let inputs = Inputs::new();
    let key = inputs.load().unwrap().sealing_key().unwrap();
    let again = Installation::open(&inputs.directory.path().join("simulator")).unwrap();
    assert_eq!(inputs.load_on(&again).unwrap().sealing_key().unwrap(), key);

    let elsewhere = Installation::open_or_create(&inputs.directory.path().join("other"), now()).unwrap();
    assert_ne!(inputs.load_on(&elsewhere).unwrap().sealing_key().unwrap(), key);

    let mut other = inputs;
    other.manifest.push_str("# another enclave\n");
    other.sigstruct = sign(&other.manifest);
    assert_ne!(other.load().unwrap().sealing_key().unwrap(), key);
}

#[test]
fn a_manifest_changed_after_signing_is_refused() {
    let mut inputs = Inputs::new();
    inputs.manifest.push_str("# one more line\n");
    refused_for("ENCLAVEHASH", &inputs);
}

#[test]
fn another_libpal_is_refused() {
    let mut inputs = Inputs::new();
    // In the first page behind the headers, which is measured like all others.
    inputs.libpal[0x1000] ^= 1;
    refused_for("ENCLAVEHASH", &inputs);
}

#[test]
fn the_sigstruct_of_another_enclave_is_refused() {
    let mut inputs = Inputs::new();
    inputs.sigstruct = sign(&Inputs::with("debug = true\n", &[]).manifest);
    refused_for("ENCLAVEHASH", &inputs);
}

#[test]
fn no_byte_of_a_sigstruct_can_be_changed() {
    let mut inputs = Inputs::new();
    // Header, date, modulus, signature, MISCSELECT, ATTRIBUTES, ENCLAVEHASH, ISVSVN, Q1, Q2.
    for at in [0, 20, 200, 600, 900, 928, 960, 1026, 1100, 1500] {
        inputs.sigstruct[at] ^= 1;
        let error = inputs.load().unwrap_err();
        assert!(matches!(error, Error::Gramine(gramine::Error::SigStruct { .. })), "byte {at}: {error}");
        inputs.sigstruct[at] ^= 1;
    }
    inputs.load().unwrap();
    inputs.sigstruct.pop();
    assert!(matches!(inputs.load(), Err(Error::Gramine(_))));
}

#[test]
fn an_enclave_that_cannot_quote_is_refused() {
    for settings in ["remote_attestation = \"none\"\n", "# remote_attestation is not set\n"] {
        let error = Inputs::with(settings, &[]).load().unwrap_err();
        assert!(matches!(error, Error::Manifest { key: "sgx.remote_attestation", .. }), "{error}");
    }
}

#[test]
fn a_changed_file_is_refused_by_its_name() {
    let inputs = Inputs::new();
    fs::write(inputs.root().join("lib/data"), "lib/dato").unwrap();
    let error = inputs.load().unwrap_err();
    let expected = crate::fixture::sha256(b"lib/data");
    let found = crate::fixture::sha256(b"lib/dato");
    assert_eq!(
        error.to_string(),
        format!("trusted file file:/lib/data: expected SHA-256 {expected}, found {found}")
    );
}

#[test]
fn files_are_left_to_gramine_where_it_compares_them_and_nothing_else_is() {
    let mut inputs = Inputs::new();
    fs::write(inputs.root().join("lib/data"), "lib/dato").unwrap();
    let enclave = inputs.load_under_gramine().unwrap();
    assert_eq!(enclave.max_threads(), 4, "Gramine's default");
    inputs.manifest.push('\n');
    assert!(matches!(inputs.load_under_gramine(), Err(Error::NotSignedForThis { .. })));
}

#[test]
fn a_missing_file_is_refused() {
    let inputs = Inputs::new();
    fs::remove_file(inputs.root().join("app/main.py")).unwrap();
    refused_file("file:/app/main.py", "No such file", &inputs);
}

#[test]
fn what_is_no_file_is_refused() {
    let mut inputs = Inputs::new();
    inputs.trust("file:/lib", b"");
    refused_file("file:/lib", "something else", &inputs);

    let _socket = UnixListener::bind(inputs.root().join("socket")).unwrap();
    inputs.trust("file:/socket", b"");
    refused_file("file:/socket", "something else", &inputs);
}

#[test]
fn a_link_out_of_the_root_is_refused_even_where_the_content_is_right() {
    let mut inputs = Inputs::new();
    let outside = inputs.directory.path().join("outside");
    fs::write(&outside, "right").unwrap();
    symlink(&outside, inputs.root().join("absolute")).unwrap();
    symlink("../outside", inputs.root().join("relative")).unwrap();
    symlink("..", inputs.root().join("above")).unwrap();
    for uri in ["file:/absolute", "file:/relative", "file:/above/outside"] {
        inputs.trust(uri, b"right");
        refused_file(uri, "a link out of it", &inputs);
    }
}

#[test]
fn a_link_within_the_root_is_followed() {
    let mut inputs = Inputs::new();
    symlink("lib", inputs.root().join("lib64")).unwrap();
    inputs.trust("file:/lib64/data", b"lib/data");
    inputs.load().unwrap();
}

#[test]
fn a_neighbour_whose_name_starts_alike_is_outside() {
    let mut inputs = Inputs::new();
    let neighbour = inputs.directory.path().join("root-of-another");
    fs::create_dir(&neighbour).unwrap();
    fs::write(neighbour.join("data"), "right").unwrap();
    symlink(&neighbour, inputs.root().join("link")).unwrap();
    inputs.trust("file:/link/data", b"right");
    refused_file("file:/link/data", "a link out of it", &inputs);
}

#[test]
fn uris_that_do_not_start_at_the_root_are_refused() {
    let mut inputs = Inputs::new();
    fs::write(inputs.directory.path().join("outside"), "right").unwrap();
    for uri in ["file:/../outside", "file:/lib/../../outside", "file:lib/data", "file:", "file:/"] {
        inputs.trust(uri, b"right");
        refused_file(uri, "another form", &inputs);
    }
}

fn refused_for(field: &str, inputs: &Inputs) {
    match inputs.load().unwrap_err() {
        Error::NotSignedForThis { field: found, .. } => assert_eq!(found, field),
        other => panic!("expected a refusal for {field}, found: {other}"),
    }
}

fn refused_file(file: &str, reason: &str, inputs: &Inputs) {
    match inputs.load().unwrap_err() {
        Error::TrustedFile { uri, found, .. } => {
            assert_eq!(uri, file);
            assert!(found.contains(reason), "{found}");
        }
        other => panic!("expected a refusal of {file}, found: {other}"),
    }
}
