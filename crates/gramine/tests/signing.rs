//! Keys, dates and attributes.
#![allow(clippy::unwrap_used)]

use gramine::attributes::{Attributes, SignedAttributes};
use gramine::manifest::EnclaveSettings;
use gramine::{Date, Error, SigStruct, SignerKey};
use proptest::prelude::*;

const MANIFEST: &[u8] = include_bytes!("vectors/04-edmm-default-size-t1/app.manifest.sgx");
const LIBPAL: &[u8] = include_bytes!("vectors/04-edmm-default-size-t1/libpal.so");
const KEY: &str = include_str!("vectors/04-edmm-default-size-t1/key.pem");

#[test]
fn a_fresh_key_signs_and_survives_its_pem() {
    let key = SignerKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    let again = SignerKey::from_pem(&pem).unwrap();
    assert_eq!(again.mrsigner(), key.mrsigner());
    let date = Date { year: 2026, month: 1, day: 2 };
    let signed = SigStruct::sign(MANIFEST, LIBPAL, &key, date).unwrap();
    assert_eq!(signed.verify(), Ok(()));
    assert_eq!(signed.mrsigner(), key.mrsigner());
    assert!(SigStruct::sign(MANIFEST, LIBPAL, &again, date).unwrap() == signed);
    assert_eq!(format!("{key:?}"), format!("SignerKey(mrsigner {})", hex::encode(key.mrsigner())));
}

#[test]
fn other_keys_are_refused_without_being_shown() {
    let body = KEY.lines().nth(5).unwrap();
    for (pem, found) in [
        ("", "text that does not start with a private key"),
        ("-----BEGIN CERTIFICATE-----\n", "text that does not start with a private key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "an encrypted key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "an encrypted key"),
        (include_str!("keys/rsa-2048-e3.pem"), "one of 2048 bits with exponent 3"),
        (include_str!("keys/rsa-3072-e65537.pem"), "one of 3072 bits with exponent 65537"),
        (&KEY.replace(body, &body.chars().rev().collect::<String>()), ""),
        (&KEY[..KEY.len() / 2], ""),
        (&"x".repeat(70_000), "70000 bytes of text"),
    ] {
        let error = SignerKey::from_pem(pem).unwrap_err();
        assert!(matches!(error, Error::SigningKey { .. }));
        assert!(error.to_string().contains(found), "{error}");
        assert!(!error.to_string().contains(body));
    }
}

#[test]
fn dates_are_labels() {
    for text in ["2025-06-20", "0000-00-00", "9999-99-99"] {
        let date: Date = text.parse().unwrap();
        assert_eq!(date.to_string(), text);
        let key = SignerKey::from_pem(KEY).unwrap();
        let signed = SigStruct::sign(MANIFEST, LIBPAL, &key, date).unwrap();
        assert_eq!(
            hex::encode(&signed.to_bytes()[20..24]),
            [&text[8..], &text[5..7], &text[2..4], &text[..2]].concat()
        );
        assert_eq!(SigStruct::parse(&signed.to_bytes()).unwrap().date, date);
    }
    for text in
        ["", "today", "2025-6-20", "20250620", "2025-06-20-", "+025-06-20", "2025-06-2\u{661}", "-025-06-20"]
    {
        assert!(matches!(text.parse::<Date>(), Err(Error::Date { .. })), "{text}");
    }
    let impossible = Date { year: 10_000, month: 1, day: 1 };
    let key = SignerKey::from_pem(KEY).unwrap();
    assert!(matches!(SigStruct::sign(MANIFEST, LIBPAL, &key, impossible), Err(Error::Date { .. })));
}

fn attributes(features: &str) -> (u64, u64) {
    let settings = EnclaveSettings::parse(format!("sgx.cpu_features = {{ {features} }}").as_bytes()).unwrap();
    let signed = SignedAttributes::of(&settings);
    (signed.attributes.xfrm, signed.attribute_mask.xfrm)
}

/// The features are applied one after the other, and AVX-512's bits hold AVX's.
#[test]
fn a_later_feature_wins_over_an_earlier_one() {
    const OPEN: u64 = 0xffff_ffff_fff9_ff1b;
    assert_eq!(attributes(""), (0x3, OPEN));
    assert_eq!(attributes("avx = 'required'"), (0x7, OPEN | 0x4));
    assert_eq!(attributes("avx = 'required', avx512 = 'disabled'"), (0x3, OPEN | 0xe4));
    assert_eq!(attributes("avx = 'disabled', avx512 = 'required'"), (0xe7, OPEN | 0xe4));
    assert_eq!(attributes("amx = 'disabled'"), (0x3, OPEN | 0x60000));
    assert_eq!(
        attributes("amx = 'required', mpx = 'required', pkru = 'required'"),
        (0x6021b, OPEN | 0x60000)
    );
}

#[test]
fn debug_and_exinfo_are_the_only_other_bits() {
    let settings = EnclaveSettings::parse(b"sgx.debug = true\nsgx.use_exinfo = true").unwrap();
    let signed = SignedAttributes::of(&settings);
    assert_eq!(signed.attributes, Attributes { flags: 0x6, xfrm: 0x3 });
    assert_eq!(signed.misc_select, 1);
    let settings = EnclaveSettings::parse(b"sgx.remote_attestation = 'dcap'").unwrap();
    assert_eq!(SignedAttributes::of(&settings).attributes.flags, 0x4);
}

proptest! {
    #[test]
    fn no_text_makes_a_key_or_date_panic(text in ".{0,200}", head in 0usize..2500) {
        prop_assert!(SignerKey::from_pem(&text).is_err());
        let _ = text.parse::<Date>();
        let _ = SignerKey::from_pem(&format!("{}{text}", &KEY[..head.min(KEY.len())]));
    }
}
