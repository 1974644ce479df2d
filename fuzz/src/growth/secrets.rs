//! Encrypted and sealed files.

use super::shapes::numbered;
use super::{Memory, Shape, Subject};
use crate::targets;

const PLAIN: Memory = Memory { per_byte: 6, besides: 1 << 20, at: 1 << 20 };

pub(super) fn subjects() -> Vec<Subject> {
    let subject =
        |name, limit, shapes| Subject { name, limit, run: targets::find(name), shapes, memory: PLAIN };
    vec![
        subject(
            "aes-file",
            "1 GiB",
            vec![
                Shape::new("a long file, not authentic", |size| vec![7; size]),
                Shape::new("a long file", |size| {
                    secrets::aes::encrypt(&"00".repeat(16), &vec![7; size]).unwrap_or_default()
                }),
            ],
        ),
        subject(
            "fernet-token",
            "1 GiB",
            vec![
                Shape::new("a long token", |size| {
                    let token = secrets::fernet::encrypt(
                        targets::FERNET_KEY,
                        &vec![7; size],
                        jiff::Timestamp::UNIX_EPOCH,
                    );
                    token.unwrap_or_default().into_bytes()
                }),
                Shape::new("white space", |size| vec![b' '; size]),
                Shape::new("letters", |size| vec![b'g'; size]),
            ],
        ),
        subject(
            "encrypted-code",
            "messages of 64 KiB; 4 GiB in a package",
            vec![
                Shape::new("a long archive", |size| {
                    let mut out = Vec::new();
                    let key = secrets::code::CodeKey::from_bytes([7; 32]);
                    let _ = secrets::code::encrypt(&key, vec![7; size].as_slice(), &mut out);
                    out
                })
                .up_to(512 << 10),
                Shape::new("a long archive, not authentic", |size| {
                    [secrets::code::MAGIC.as_slice(), &vec![7; size]].concat()
                }),
            ],
        ),
        subject(
            "sealed",
            "64 MiB",
            vec![
                Shape::new("a long file, not authentic", |size| {
                    [b"MSESEAL1".as_slice(), &vec![7; size]].concat()
                }),
                Shape::new("long secrets", |size| {
                    let key = secrets::seal::SealingKey::from_bytes([3; 32]).public();
                    let recipient = secrets::seal::Recipient { fingerprint: [1; 32], app_id: [2; 16], key };
                    let secrets =
                        format!("{{{}}}", super::shapes::listed(size, |n| format!("\"s{n}\":[[1]]")));
                    let payload = secrets::seal::Payload {
                        secrets: Some(zeroize::Zeroizing::new(secrets.into_bytes())),
                        code_key: None,
                    };
                    secrets::seal::seal(&recipient, &payload).unwrap_or_default()
                })
                .up_to(256 << 10),
            ],
        ),
        subject(
            "sealed-state",
            "64 MiB",
            vec![
                Shape::new("a long state", |size| {
                    secrets::state::seal(&[5; 32], b"node", &vec![7; size]).unwrap_or_default()
                }),
                Shape::new("a long state, not authentic", |size| {
                    [secrets::state::MAGIC.as_slice(), &vec![7; size]].concat()
                }),
            ],
        ),
        subject(
            "code-key",
            "64 digits",
            vec![
                Shape::new("digits", |size| vec![b'0'; size]),
                Shape::new("white space", |size| numbered(size, |_| " ".into()).into_bytes()),
            ],
        ),
        subject(
            "sealing-public-key",
            "1,216 bytes exactly",
            vec![Shape::new("a long key", |size| vec![9; size])],
        ),
    ]
}
