//! The code cipher: what goes in comes out, and nothing else does.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use secrets::Error;
use secrets::code::{CodeKey, MAGIC, MESSAGE_SIZE, decrypt, encrypt};

const SEALED_MESSAGE: usize = MESSAGE_SIZE + 17;
const HEADER: usize = 32;

fn key() -> CodeKey {
    CodeKey::from_bytes([7; 32])
}

fn encrypted(plaintext: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    encrypt(&key(), plaintext, &mut output).unwrap();
    output
}

fn decrypted(ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    decrypt(&key(), ciphertext, &mut output).map(|()| output)
}

fn archive(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i / 251 + i) as u8).collect()
}

#[test]
fn every_size_around_a_message_boundary_comes_back() {
    for size in
        [0, 1, MESSAGE_SIZE - 1, MESSAGE_SIZE, MESSAGE_SIZE + 1, 2 * MESSAGE_SIZE, 2 * MESSAGE_SIZE + 5]
    {
        let plaintext = archive(size);
        let ciphertext = encrypted(&plaintext);
        let messages = size.div_ceil(MESSAGE_SIZE).max(1);
        assert_eq!(ciphertext.len(), HEADER + size + 17 * messages, "size {size}");
        assert!(ciphertext.starts_with(MAGIC));
        assert_eq!(decrypted(&ciphertext).unwrap(), plaintext, "size {size}");
    }
}

#[test]
fn an_archive_of_an_earlier_version_still_opens() {
    let frozen = include_bytes!("vectors/code-seven-times-32.enc");
    assert_eq!(decrypted(frozen).unwrap(), b"def application(environ, start_response): ...\n");
}

#[test]
fn another_key_opens_nothing() {
    let ciphertext = encrypted(b"print('secret')");
    let error = decrypt(&CodeKey::from_bytes([8; 32]), ciphertext.as_slice(), std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::NotAuthentic { .. }), "{error}");
}

#[test]
fn a_cut_archive_is_refused_wherever_it_was_cut() {
    let ciphertext = encrypted(&archive(2 * MESSAGE_SIZE + 5));
    let cuts = [0, 7, 8, 31, HEADER, HEADER + 16, HEADER + SEALED_MESSAGE - 1, HEADER + SEALED_MESSAGE];
    for cut in cuts.into_iter().chain([HEADER + 2 * SEALED_MESSAGE, ciphertext.len() - 1]) {
        assert!(decrypted(&ciphertext[..cut]).is_err(), "cut at {cut}");
    }
    let at_boundary = decrypted(&ciphertext[..HEADER + SEALED_MESSAGE]).unwrap_err();
    assert!(matches!(at_boundary, Error::Stream { found: "its end", .. }), "{at_boundary}");
}

#[test]
fn bytes_after_the_last_message_are_refused() {
    for size in [5, MESSAGE_SIZE] {
        let mut ciphertext = encrypted(&archive(size));
        ciphertext.push(0);
        assert!(decrypted(&ciphertext).is_err(), "size {size}");
    }
    let mut twice = encrypted(&archive(MESSAGE_SIZE));
    twice.extend_from_within(HEADER..);
    let error = decrypted(&twice).unwrap_err();
    assert!(matches!(error, Error::Stream { found: "more bytes after the last message", .. }), "{error}");
}

#[test]
fn messages_in_another_order_are_refused() {
    let ciphertext = encrypted(&archive(3 * MESSAGE_SIZE));
    let message = |i: usize| &ciphertext[HEADER + i * SEALED_MESSAGE..HEADER + (i + 1) * SEALED_MESSAGE];
    let swapped = [&ciphertext[..HEADER], message(1), message(0), message(2)].concat();
    let skipped = [&ciphertext[..HEADER], message(0), message(2)].concat();
    for forged in [swapped, skipped] {
        assert!(matches!(decrypted(&forged), Err(Error::NotAuthentic { .. })));
    }
}

#[test]
fn a_plain_archive_is_recognised_as_not_encrypted() {
    let error = decrypted(&[b'm'; 600]).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn keys_travel_as_hexadecimal_and_never_show() {
    let key = CodeKey::from_hex(&format!(" {}\n", "0a".repeat(32))).unwrap();
    assert_eq!(key.as_bytes(), &[10; 32]);
    assert_eq!(*key.to_hex(), "0a".repeat(32));
    assert!(!format!("{key:?}").contains("0a"));
    for wrong in ["", "0a", "zz", &"0a".repeat(33), &"0g".repeat(32)] {
        let message = CodeKey::from_hex(wrong).unwrap_err().to_string();
        assert!(wrong.is_empty() || !message.contains(wrong), "{message}");
    }
    assert_ne!(CodeKey::generate().unwrap(), CodeKey::generate().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_flipped_bit_anywhere_is_noticed(plaintext in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut ciphertext = encrypted(&plaintext);
        let at = at.index(ciphertext.len());
        ciphertext[at] ^= 1u8 << bit;
        prop_assert!(decrypted(&ciphertext).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let input = if magic { [MAGIC.as_slice(), &bytes].concat() } else { bytes };
        prop_assert!(decrypted(&input).is_err());
    }
}
