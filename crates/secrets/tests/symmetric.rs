//! Fernet tokens, AES-GCM files and sealed state.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use proptest::prelude::*;
use secrets::{Error, aes, fernet, state};

/// Key and tokens of the Fernet spec's own vectors (generate.json, verify.json).
const FERNET_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const FERNET_TOKEN: &str =
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

#[test]
fn the_fernet_specs_own_token_opens() {
    assert_eq!(fernet::decrypt(FERNET_KEY, FERNET_TOKEN.as_bytes()).unwrap().as_slice(), b"hello");
    let as_in_a_file = format!("{FERNET_TOKEN}\n");
    let key_as_in_a_file = format!("{FERNET_KEY}\n");
    assert_eq!(fernet::decrypt(&key_as_in_a_file, as_in_a_file.as_bytes()).unwrap().as_slice(), b"hello");
}

#[test]
fn fernet_tokens_carry_their_time_and_come_back() {
    let key = fernet::generate_key().unwrap();
    assert_eq!(key.len(), 44);
    for size in [0, 1, 15, 16, 17, 1000] {
        let token =
            fernet::encrypt(&key, &vec![b'x'; size], Timestamp::from_second(499_162_800).unwrap()).unwrap();
        assert!(token.starts_with("gAAAAAAdwJ6w"), "{token}");
        assert_eq!(fernet::decrypt(&key, token.as_bytes()).unwrap().len(), size);
    }
}

#[test]
fn fernet_refuses_other_keys_versions_and_altered_tokens() {
    let other = fernet::generate_key().unwrap();
    assert!(matches!(fernet::decrypt(&other, FERNET_TOKEN.as_bytes()), Err(Error::NotAuthentic { .. })));
    let altered = FERNET_TOKEN.replace("AAECAw", "AAECBw");
    assert!(matches!(fernet::decrypt(FERNET_KEY, altered.as_bytes()), Err(Error::NotAuthentic { .. })));
    for no_token in
        ["", "gAAAAA==", "hello world", "AAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF"]
    {
        assert!(
            matches!(fernet::decrypt(FERNET_KEY, no_token.as_bytes()), Err(Error::Format { .. })),
            "{no_token}"
        );
    }
    for no_key in ["", "short", &FERNET_KEY[4..], "not base64 at all: ?????????????????????????"] {
        let error = fernet::decrypt(no_key, FERNET_TOKEN.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::KeyFormat { .. }));
        assert!(no_key.is_empty() || !error.to_string().contains(no_key));
    }
}

/// Test cases 1, 2 and 13 of the GCM specification's annex B: all-zero keys and nonces.
#[test]
fn aes_files_follow_nist() {
    let nonce = "00".repeat(12);
    let cases = [
        ("00".repeat(16), "58e2fccefa7e3061367f1d57a4e7455a", ""),
        (
            "00".repeat(16),
            "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
            "00000000000000000000000000000000",
        ),
        ("00".repeat(32), "530f8afbc74536b9a963b4f1c4cb738b", ""),
    ];
    for (key, ciphertext, plaintext) in cases {
        let file = hex::decode(format!("{nonce}{ciphertext}")).unwrap();
        assert_eq!(hex::encode(&aes::decrypt(&key, &file).unwrap()[..]), plaintext);
    }
}

#[test]
fn aes_files_come_back_and_refuse_other_keys() {
    for key in ["00112233445566778899aabbccddeeff", &"ab".repeat(32)] {
        let file = aes::encrypt(key, b"message").unwrap();
        assert_eq!(file.len(), 12 + 7 + 16);
        assert_eq!(aes::decrypt(key, &file).unwrap().as_slice(), b"message");
        assert_ne!(aes::encrypt(key, b"message").unwrap(), file, "a nonce was used twice");
        assert!(matches!(aes::decrypt(&"cd".repeat(16), &file), Err(Error::NotAuthentic { .. })));
        assert!(matches!(aes::decrypt(key, &file[..27]), Err(Error::Format { .. })));
    }
    for wrong in ["", "00", &"0".repeat(48), &"zz".repeat(16)] {
        assert!(matches!(aes::encrypt(wrong, b""), Err(Error::KeyFormat { .. })), "{wrong}");
    }
}

#[test]
fn state_opens_only_with_its_key_and_context() {
    let key = [5; 32];
    let sealed = state::seal(&key, b"node", b"identity").unwrap();
    assert!(sealed.starts_with(b"MSESTAT1"));
    assert_eq!(state::open(&key, b"node", &sealed).unwrap().as_slice(), b"identity");
    for outcome in [state::open(&[6; 32], b"node", &sealed), state::open(&key, b"node2", &sealed)] {
        assert!(matches!(outcome, Err(Error::NotAuthentic { .. })));
    }
    assert!(matches!(state::open(&key, b"node", b"MSESTAT1"), Err(Error::Format { .. })));
    assert!(matches!(state::open(&key, b"node", b"{}"), Err(Error::Format { .. })));
}

#[test]
fn state_of_an_earlier_version_still_opens() {
    let frozen = include_bytes!("vectors/fives-for-node.state");
    assert_eq!(state::open(&[5; 32], b"node", frozen).unwrap().as_slice(), b"identity");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_make_any_of_them_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
        let prefixed = [b"MSESTAT1".as_slice(), &bytes].concat();
        prop_assert!(state::open(&[0; 32], b"", &prefixed).is_err());
        prop_assert!(aes::decrypt(&"00".repeat(16), &bytes).is_err());
        prop_assert!(fernet::decrypt(FERNET_KEY, &bytes).is_err());
        prop_assert!(fernet::decrypt(FERNET_KEY, text.as_bytes()).is_err());
        prop_assert!(fernet::decrypt(&text, FERNET_TOKEN.as_bytes()).is_err());
        prop_assert!(aes::encrypt(&text, &bytes).is_err());
    }

    #[test]
    fn one_flipped_bit_in_state_is_noticed(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut sealed = state::seal(&[5; 32], b"node", b"identity").unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1u8 << bit;
        prop_assert!(state::open(&[5; 32], b"node", &sealed).is_err());
    }
}
