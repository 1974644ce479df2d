//! What comes over a connection: the router's first bytes, configurations, answers of a backend and of a PCCS.

use super::shapes::{self, Hole, listed, many, numbered};
use super::{Memory, Shape, Subject};
use crate::targets;

const JSON: Memory = Memory { per_byte: 24, besides: 1 << 20, at: 512 << 10 };
const SMALL: Memory = Memory { per_byte: 24, besides: 1 << 20, at: 60 << 10 };

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        Subject {
            name: "client-hello",
            limit: "64 KiB, records of 16 KiB",
            run: targets::find("client-hello"),
            shapes: hellos(),
            memory: SMALL,
        },
        Subject {
            name: "client-hello-bytewise",
            limit: "64 KiB, records of 16 KiB",
            run: byte_by_byte,
            shapes: hellos(),
            memory: SMALL,
        },
        Subject {
            name: "url",
            limit: "what a command line holds",
            run: targets::find("url"),
            shapes: vec![
                Shape::new("a long host", |size| format!("https://{}", "a".repeat(size)).into_bytes()),
                Shape::new("many labels", |size| format!("https://{}", "a.".repeat(size / 2)).into_bytes()),
                Shape::new("labels of other scripts", |size| {
                    format!("https://{}", "\u{e9}.".repeat(size / 3)).into_bytes()
                })
                .up_to(8 << 10),
                Shape::new("a long path", |size| {
                    format!("https://a/{}", "../a/".repeat(size / 5)).into_bytes()
                }),
                Shape::new("many colons", |size| format!("https://{}", ":".repeat(size)).into_bytes()),
            ],
            memory: Memory { per_byte: 64, ..SMALL },
        },
        Subject {
            name: "configuration-request",
            limit: "10 MiB",
            run: |data| node::fuzzing::configuration_request(data),
            shapes: requests(),
            memory: JSON,
        },
        Subject {
            name: "backend-answer",
            limit: "4 MiB; lines of 2,000 characters",
            run: |data| client::backend::fuzzing::answer(data),
            shapes: answers(),
            memory: JSON,
        },
        Subject {
            name: "backend-problem",
            limit: "64 KiB; lines of 2,000 characters",
            run: |data| client::backend::fuzzing::problem(data),
            shapes: problems(),
            memory: SMALL,
        },
        Subject {
            name: "pcs-answer",
            limit: "2 MiB, headers of 64 KiB",
            run: |data| attestation::pcs::fuzzing::answer(data, b"-----BEGIN CERTIFICATE-----"),
            shapes: pcs_answers(),
            memory: JSON,
        },
        Subject {
            name: "pcs-issuer-chain",
            limit: "headers of 64 KiB",
            run: |data| {
                attestation::pcs::fuzzing::answer(
                    br#"{"tcbInfo":{"nextUpdate":"2030-01-01T00:00:00Z"},"signature":""}"#,
                    data,
                )
            },
            shapes: vec![
                Shape::new("percent signs", |size| "%41".repeat(size / 3).into_bytes()),
                Shape::new("broken percent signs", |size| "%".repeat(size).into_bytes()),
                Shape::new("plus signs", |size| "+".repeat(size).into_bytes()),
                Shape::new("begins of certificates", |size| {
                    "-----BEGIN%20CERTIFICATE-----".repeat(size / 29).into_bytes()
                }),
                Shape::new("hyphens", |size| "-".repeat(size).into_bytes()),
            ],
            memory: SMALL,
        },
        Subject {
            name: "qcnl",
            limit: "1 MiB",
            run: qcnl,
            shapes: [shapes::json(), qcnls()].into_iter().flatten().collect(),
            memory: SMALL,
        },
    ]
}

fn qcnl(data: &[u8]) -> bool {
    targets::with_file(data, |file| {
        client::collate::Sources { qcnl: Some(file), ..client::collate::Sources::default() }.choose().is_ok()
    })
}

fn qcnls() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new("comments", text(|size| format!("{}{{}}", "// x\n".repeat(size / 5)))),
        Shape::new("comments of several lines", text(|size| format!("{}{{}}", "/**/".repeat(size / 4)))),
        Shape::new("comments that begin and never end", text(|size| "/*".repeat(size / 2))),
        Shape::new(
            "slashes and colons",
            text(|size| format!("{{\"pccs_url\":\"{}\"}}", "://".repeat(size / 3))),
        ),
        Shape::new("lines of the older form", text(|size| numbered(size, |n| format!("K{n}={n}\n")))),
        Shape::new(
            "one line of the older form again and again",
            text(|size| "PCCS_URL=https://a\n".repeat(size / 19)),
        ),
        Shape::new("quotes", text(|size| "\"".repeat(size))),
        Shape::new("backslashes in quotes", text(|size| format!("\"{}", "\\".repeat(size)))),
    ]
}

fn byte_by_byte(data: &[u8]) -> bool {
    let mut reader = router::HelloReader::new();
    data.iter().any(|byte| !matches!(reader.push(&[*byte]), Ok(None)))
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

/// A ClientHello with these extensions, in records of so many bytes.
fn hello(extensions: &[u8], record: usize) -> Vec<u8> {
    let body =
        [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 0x01]), &[1, 0], &vector16(extensions)].concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message.chunks(record).flat_map(|fragment| [&[22, 3, 1][..], &vector16(fragment)].concat()).collect()
}

fn hellos() -> Vec<Shape> {
    let distinct = |size| many(size, |n| [&(100 + n as u16).to_be_bytes()[..], &[0, 0]].concat());
    let protocols = |size| {
        let list = vector16(&many(size, |_| vec![1, b'h']));
        [&[0, 16][..], &vector16(&list)].concat()
    };
    vec![
        Shape::new("distinct extensions", move |size| hello(&distinct(size), 1 << 14)),
        Shape::new("one extension again and again", |size| {
            hello(&many(size, |_| vec![0, 99, 0, 0]), 1 << 14)
        }),
        Shape::new("records of one byte", move |size| hello(&distinct(size / 6), 1)),
        Shape::new("protocols of one byte", move |size| hello(&protocols(size), 1 << 14)),
        Shape::new("a hello that is never complete", |size| {
            let mut bytes = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
            bytes.resize(size.max(9), 0);
            bytes
        })
        .up_to(16 << 10),
    ]
}

fn requests() -> Vec<Shape> {
    let id = "00000000-0000-0000-0000-000000001234";
    let with = |field: &str| Hole::new(&format!("{{\"uuid\":\"{id}\",{field}}}"));
    let secrets = with("\"app_secrets\":{@@@}");
    let mut all = shapes::json();
    all.extend(with("\"app_sealed_secrets\":\"@@@\"").texts());
    all.extend([
        secrets.shape("secrets of distinct names", |size| listed(size, |n| format!("\"s{n}\":{n}"))),
        secrets.shape("secrets in secrets", |size| {
            let depth = size / 6;
            format!("\"a\":{}{}", "{\"a\":".repeat(depth) + "1", "}".repeat(depth))
        }),
        with("\"app_secrets\":@@@").shape("secrets that are a deep array", |size| "[".repeat(size)),
        with("\"code_secret_key\":\"@@@\"").shape("a long key", |size| "0".repeat(size)),
        with("\"ssl_certificate\":\"@@@\"")
            .shape("a long certificate", |size| "-----BEGIN CERTIFICATE-----\\n".repeat(size / 29)),
    ]);
    all
}

const OPERATOR: &str = r#"{"version":"1","domain":"apps.example","router":"apps.example:443","mrsigner":"MRSIGNER","platform":"simulated","runtime":"process"}"#;

fn answers() -> Vec<Shape> {
    let operator = OPERATOR.replace("MRSIGNER", &"ab".repeat(32));
    let with = |field: &str, text: &str| {
        let value: serde_json::Value = serde_json::from_str(&operator).unwrap_or_default();
        let mut value = value;
        value[field] = text.into();
        Hole::new(&value.to_string())
    };
    let mut all = shapes::json();
    all.extend(with("version", "@@@").texts());
    all.extend([
        with("version", "@@@").shape("a line of control characters", |size| "\\u001b".repeat(size / 6)),
        with("version", "@@@").shape("a line of directional characters", |size| "\\u202e".repeat(size / 6)),
        with("domain", "@@@").shape("a domain of many labels", |size| "a.".repeat(size / 2)),
        with("router", "@@@").shape("an address of many colons", |size| ":".repeat(size)),
        with("pccs", "@@@").shape("a long address", |size| format!("https://a/{}", "a/".repeat(size / 2))),
        with("simulated_root", "@@@")
            .shape("a long root", |size| "-----BEGIN CERTIFICATE-----\\n".repeat(size / 29)),
        Hole::new(&operator.replacen('{', "{@@@,", 1))
            .shape("unknown fields before the known ones", |size| {
                listed(size, |n| format!("\"f{n}\":[{n}]"))
            }),
        Hole::new("{\"items\":[@@@]}").shape("a page of many things", |size| listed(size, |n| n.to_string())),
    ]);
    all
}

fn problems() -> Vec<Shape> {
    let mut all = shapes::json();
    for field in ["title", "detail"] {
        all.extend(Hole::new(&format!("{{\"type\":\"about:blank\",\"{field}\":\"@@@\"}}")).texts());
    }
    all
}

fn pcs_answers() -> Vec<Shape> {
    let info = |inside: &str| {
        Hole::new(&format!(
            "{{\"tcbInfo\":{{\"nextUpdate\":\"2030-01-01T00:00:00Z\",{inside}}},\"signature\":\"00\"}}"
        ))
    };
    let mut all = shapes::json();
    all.extend(info("\"id\":\"@@@\"").texts());
    all.extend([
        info("\"x\":[@@@]").shape("many levels", |size| listed(size, |n| format!("{{\"tcb\":{n}}}"))),
        info("@@@").shape("many fields", |size| listed(size, |n| format!("\"f{n}\":0"))),
        Shape::new("a CRL in hex", |size| vec![b'3'; size]),
        Shape::new("a CRL in PEM", |size| shapes::pem("X509 CRL", &vec![0x30; size]).into_bytes()),
        Shape::new("a CRL in PEM of many lines", |size| {
            format!("-----BEGIN X509 CRL-----\n{}-----END X509 CRL-----\n", "AAAA\n".repeat(size / 5))
                .into_bytes()
        }),
        Shape::new("a CRL in DER", |size| shapes::der(0x30, &vec![0x30; size])),
    ]);
    all
}
