//! Sealing: only the right key, fingerprint and app id open a sealed file.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use secrets::Error;
use secrets::code::CodeKey;
use secrets::seal::{MAX_SIZE, Payload, Recipient, SealingKey, SealingPublicKey, seal};
use zeroize::Zeroizing;

const FINGERPRINT: [u8; 32] = [1; 32];
const APP_ID: [u8; 16] = [2; 16];

fn enclave() -> SealingKey {
    SealingKey::from_bytes([3; 32])
}

fn recipient() -> Recipient {
    Recipient { fingerprint: FINGERPRINT, app_id: APP_ID, key: enclave().public() }
}

fn secrets(text: &str) -> Payload {
    Payload { secrets: Some(Zeroizing::new(text.as_bytes().to_vec())), code_key: None }
}

fn open(sealed: &[u8]) -> Result<Payload, Error> {
    enclave().open(&FINGERPRINT, &APP_ID, sealed)
}

#[test]
fn secrets_and_code_key_come_back_byte_for_byte() {
    let text = "{ \"key\": \"caf\u{e9}\",\n \"n\": 1 }";
    let payload = Payload { code_key: Some(CodeKey::from_bytes([9; 32])), ..secrets(text) };
    let opened = open(&seal(&recipient(), &payload).unwrap()).unwrap();
    assert_eq!(opened.secrets.unwrap().as_slice(), text.as_bytes());
    assert_eq!(opened.code_key.unwrap(), CodeKey::from_bytes([9; 32]));

    let opened = open(&seal(&recipient(), &secrets("{}")).unwrap()).unwrap();
    assert!(opened.code_key.is_none());
    let only_key = Payload { secrets: None, code_key: Some(CodeKey::from_bytes([9; 32])) };
    let opened = open(&seal(&recipient(), &only_key).unwrap()).unwrap();
    assert!(opened.secrets.is_none());
}

#[test]
fn a_file_of_an_earlier_version_still_opens() {
    let opened = open(include_bytes!("vectors/threes-for-ones-and-twos.sealed")).unwrap();
    assert_eq!(opened.secrets.unwrap().as_slice(), b"{\"login\": \"alice\"}");
    assert_eq!(opened.code_key.unwrap(), CodeKey::from_bytes([9; 32]));
}

/// The first example of the X-Wing draft (appendix C).
#[test]
fn public_keys_follow_the_x_wing_draft() {
    let mut seed = [0; 32];
    hex::decode_to_slice("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26", &mut seed)
        .unwrap();
    let public = SealingKey::from_bytes(seed).public();
    assert_eq!(public.as_bytes().len(), 1216);
    assert_eq!(hex::encode(&public.as_bytes()[..16]), "e2236b35a8c24b39b10aa1323a96a919");
}

#[test]
fn nobody_else_opens_it() {
    let sealed = seal(&recipient(), &secrets("{}")).unwrap();
    let outcomes = [
        SealingKey::from_bytes([4; 32]).open(&FINGERPRINT, &APP_ID, &sealed),
        enclave().open(&[0; 32], &APP_ID, &sealed),
        enclave().open(&FINGERPRINT, &[0; 16], &sealed),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::NotAuthentic { .. })));
    }
    assert!(open(&sealed).is_ok());
}

#[test]
fn the_same_secrets_sealed_twice_look_different() {
    let payload = secrets("{\"a\": 1}");
    assert_ne!(seal(&recipient(), &payload).unwrap(), seal(&recipient(), &payload).unwrap());
}

#[test]
fn only_json_objects_are_secrets() {
    for text in ["", "1", "[]", "\"x\"", "null", "{", "{} {}", "{\"a\": }", "\u{feff}{}"] {
        let error = seal(&recipient(), &secrets(text)).unwrap_err();
        assert!(matches!(error, Error::Format { what: "secrets", .. }), "{text}: {error}");
    }
    let error = seal(&recipient(), &secrets("{\"password\": hunter2}")).unwrap_err().to_string();
    assert!(!error.contains("hunter2") && !error.contains("password"), "{error}");
}

#[test]
fn nothing_to_seal_is_an_error() {
    assert!(matches!(seal(&recipient(), &Payload::default()), Err(Error::Format { .. })));
}

#[test]
fn more_than_the_limit_is_neither_sealed_nor_read() {
    let big = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_SIZE));
    assert!(matches!(seal(&recipient(), &secrets(&big)), Err(Error::TooLarge { .. })));
    assert!(matches!(open(&vec![0; MAX_SIZE + 1]), Err(Error::TooLarge { .. })));
}

#[test]
fn public_keys_are_checked() {
    let good = enclave().public();
    assert_eq!(SealingPublicKey::from_bytes(good.as_bytes()).unwrap(), good);
    for wrong in [&[][..], &good.as_bytes()[1..], &[0xff; 1216]] {
        assert!(matches!(SealingPublicKey::from_bytes(wrong), Err(Error::KeyFormat { .. })));
    }
}

#[test]
fn a_generated_key_survives_being_kept() {
    let key = SealingKey::generate().unwrap();
    let kept = SealingKey::from_bytes(*key.to_bytes());
    assert_eq!(kept.public(), key.public());
    assert_ne!(SealingKey::generate().unwrap().public(), key.public());
    assert_eq!(format!("{key:?}"), "SealingKey(not shown)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_flipped_bit_anywhere_is_noticed(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut sealed = include_bytes!("vectors/threes-for-ones-and-twos.sealed").to_vec();
        let at = at.index(sealed.len());
        sealed[at] ^= 1u8 << bit;
        prop_assert!(open(&sealed).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1400), magic in any::<bool>()) {
        let input = if magic { [b"MSESEAL1".as_slice(), &bytes].concat() } else { bytes };
        prop_assert!(open(&input).is_err());
    }
}
