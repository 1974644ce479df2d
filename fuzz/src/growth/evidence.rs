//! Evidence and what judges it: certificates, chains, CRLs, quotes, claims, collateral, policies.

use std::sync::Arc;

use serde_json::Value;

use super::shapes::{
    self, Hole, certificate, der, extensions, listed, many, name, nested, numbered, oid, parts, pem, sequence,
};
use super::{Memory, Shape, Subject};
use crate::campaign::corpus_file;
use crate::targets;

const DER: Memory = Memory { per_byte: 48, besides: 1 << 20, at: 60 << 10 };
const JSON: Memory = Memory { per_byte: 24, besides: 1 << 20, at: 256 << 10 };
const TOML: Memory = Memory { per_byte: 200, besides: 1 << 20, at: 128 << 10 };

pub(super) fn subjects() -> Vec<Subject> {
    let subject =
        |name, limit, shapes, memory| Subject { name, limit, run: targets::find(name), shapes, memory };
    vec![
        subject("certificate", "64 KiB", certificates("certificate", "root.der"), DER),
        Subject {
            name: "certificate-chain",
            limit: "256 KiB of PEM, 8 certificates",
            run: |data| attestation::certificate::chain_from_pem(data).is_ok(),
            shapes: chains(),
            memory: JSON,
        },
        subject("ratls-certificate", "128 KiB", certificates("ratls-certificate", "of-a-node.der"), DER),
        subject("pck-extension", "8 KiB", pck_extensions(), DER),
        subject("crl", "1 MiB", crls(), Memory { at: 256 << 10, ..DER }),
        subject("quote", "64 KiB, 256 KiB as text", quotes(), DER),
        subject("claims", "16 KiB, 8 deep", claims(), Memory { at: 16_000, ..DER }),
        subject("tcb-info", "1 MiB", documents("tcb-info"), JSON),
        subject("qe-identity", "256 KiB", documents("qe-identity"), JSON),
        subject("collateral", "3 MiB", collaterals(), JSON),
        Subject {
            name: "collateral-judged",
            limit: "3 MiB, each part with its own limit",
            run: targets::judged_with,
            shapes: collaterals(),
            memory: DER,
        },
        subject(
            "evidence",
            "4 MiB, each part with its own limit",
            evidence("evidence", "of-a-node.json"),
            JSON,
        ),
        subject("live-evidence", "512 KiB", evidence("live-evidence", "of-a-node.json"), JSON),
        subject("policy", "1 MiB", policies(), TOML),
        subject("arguments", "64 KiB", arguments(), Memory { at: 60 << 10, ..TOML }),
    ]
}

fn file(target: &str, name: &str) -> Arc<[u8]> {
    corpus_file(target, name).into()
}

fn json(target: &str, name: &str) -> Value {
    serde_json::from_slice(&file(target, name)).unwrap_or_default()
}

/// Shapes of DER in a certificate: its extensions, names and numbers.
fn certificates(target: &str, like: &str) -> Vec<Shape> {
    let like = file(target, like);
    // Version, serial number, algorithm, issuer, validity, subject, key, extensions.
    let with = |place: usize, grow: fn(usize) -> Vec<u8>| {
        let like = like.clone();
        move |size: usize| certificate(&like, |body| body[place] = grow(size))
    };
    let more_extensions = |grow: fn(usize) -> Vec<u8>| {
        let like = like.clone();
        move |size: usize| {
            certificate(&like, |body| {
                let own = parts(&parts(&body[7])[0]).concat();
                body[7] = der(0xa3, &der(0x30, &[own, grow(size)].concat()));
            })
        }
    };
    let names = |size| {
        let names = many(size, |n| der(0x82, format!("a{n}.b").as_bytes()));
        sequence(&[&der(0x06, &[0x55, 0x1d, 0x11]), &der(0x04, &der(0x30, &names))])
    };
    let with_names = like.clone();
    vec![
        Shape::new("distinct extensions", more_extensions(|size| extensions(size, true))),
        Shape::new("one extension again and again", more_extensions(|size| extensions(size, false))),
        Shape::new(
            "one long extension",
            more_extensions(|size| sequence(&[&oid(9), &der(0x04, &vec![5; size])])),
        ),
        Shape::new(
            "only distinct extensions",
            with(7, |size| der(0xa3, &der(0x30, &extensions(size, true)))),
        ),
        Shape::new("an alternative name of many", move |size| {
            certificate(&with_names, |body| {
                let own = parts(&parts(&body[7])[0]).into_iter();
                let own: Vec<u8> = own
                    .filter(|e| !e.windows(5).any(|w| w == [0x06, 3, 0x55, 0x1d, 0x11]))
                    .flatten()
                    .collect();
                body[7] = der(0xa3, &der(0x30, &[own, names(size)].concat()));
            })
        }),
        Shape::new("an issuer of many names", with(3, name)),
        Shape::new("a subject of many names", with(5, name)),
        Shape::new(
            "a subject of one long name",
            with(5, |size| {
                let one = sequence(&[&der(0x06, &[0x55, 0x04, 0x03]), &der(0x0c, &vec![b','; size])]);
                sequence(&[&der(0x31, &one)])
            }),
        ),
        Shape::new(
            "a subject of one name with many parts",
            with(5, |size| {
                let part = sequence(&[&der(0x06, &[0x55, 0x04, 0x03]), &der(0x0c, b"x")]);
                sequence(&[&der(
                    0x31,
                    &many(
                        size,
                        |n| {
                            if n == 0 { part.clone() } else { sequence(&[&oid(n), &der(0x0c, b"x")]) }
                        },
                    ),
                )])
            }),
        ),
        Shape::new("a long serial number", with(1, |size| der(0x02, &vec![5; size]))),
        Shape::new("a long key", with(6, |size| der(0x30, &vec![5; size]))),
        Shape::new("sequences in sequences", nested),
        Shape::new("a long object identifier", with(2, |size| sequence(&[&der(0x06, &vec![0x81; size])]))),
    ]
}

fn chains() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new("many small certificates", text(|size| pem("CERTIFICATE", b"x").repeat(size / 60))),
        Shape::new("one long certificate", text(|size| pem("CERTIFICATE", &vec![7; size * 3 / 4]))),
        Shape::new(
            "one certificate of many lines",
            text(|size| {
                format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", "A\n".repeat(size / 2))
            }),
        ),
        Shape::new(
            "a certificate that never ends",
            text(|size| format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(size))),
        ),
        Shape::new(
            "nearly an end, again and again",
            text(|size| {
                format!("-----BEGIN CERTIFICATE-----\n{}", "-----END CERTIFICATE----".repeat(size / 24))
            }),
        ),
        Shape::new("begins", text(|size| "-----BEGIN CERTIFICATE-----".repeat(size / 27))),
        Shape::new("line ends", text(|size| "\r\n".repeat(size / 2))),
        Shape::new("hyphens", text(|size| format!("-----BEGIN CERTIFICATE-----{}", "-".repeat(size)))),
    ]
}

fn pck_extensions() -> Vec<Shape> {
    let like = file("pck-extension", "platform");
    let parent = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    let pair = move |arcs: &[u8]| sequence(&[&der(0x06, &[&parent, arcs].concat()), &der(0x04, b"")]);
    let (unknown, doubled) = (pair, pair);
    vec![
        Shape::new("unknown pairs", move |size| {
            der(
                0x30,
                &[
                    parts(&like).concat(),
                    many(size, |n| unknown(&[0x81, (n >> 7 & 0x7f) as u8 | 0x80, (n & 0x7f) as u8])),
                ]
                .concat(),
            )
        })
        .up_to(7 << 10),
        Shape::new("one pair again and again", move |size| der(0x30, &many(size, |_| doubled(&[1]))))
            .up_to(7 << 10),
        Shape::new("sequences in sequences", nested).up_to(7 << 10),
        Shape::new("empty sequences", |size| der(0x30, &[0x30, 0x00].repeat(size / 2))).up_to(7 << 10),
    ]
}

fn crls() -> Vec<Shape> {
    let like = file("crl", "platform");
    // Version, algorithm, issuer, this update, next update, revoked certificates or extensions.
    let with = |change: fn(usize, &mut Vec<Vec<u8>>)| {
        let like = like.clone();
        move |size: usize| {
            certificate(&like, |body| {
                body.truncate(5);
                change(size, body);
            })
        }
    };
    fn entry(number: usize, extensions: &[u8]) -> Vec<u8> {
        let serial = der(0x02, &(0x0100_0000 + number as u32).to_be_bytes());
        let time = der(0x17, b"260101000000Z");
        match extensions {
            [] => sequence(&[&serial, &time]),
            extensions => sequence(&[&serial, &time, &der(0x30, extensions)]),
        }
    }
    vec![
        Shape::new(
            "revoked certificates",
            with(|size, body| body.push(der(0x30, &many(size, |n| entry(n, b""))))),
        ),
        Shape::new(
            "revoked certificates with extensions",
            with(|size, body| {
                let reason = sequence(&[&der(0x06, &[0x55, 0x1d, 0x15]), &der(0x04, &der(0x0a, &[1]))]);
                body.push(der(0x30, &many(size, |n| entry(n, &reason))));
            }),
        ),
        Shape::new(
            "one certificate again and again",
            with(|size, body| body.push(der(0x30, &many(size, |_| entry(0, b""))))),
        ),
        Shape::new(
            "distinct extensions",
            with(|size, body| {
                body.push(der(0xa0, &der(0x30, &extensions(size, true))));
            }),
        ),
        Shape::new(
            "one extension again and again",
            with(|size, body| {
                body.push(der(0xa0, &der(0x30, &extensions(size, false))));
            }),
        ),
        Shape::new(
            "an entry of distinct extensions",
            with(|size, body| {
                body.push(der(0x30, &entry(0, &extensions(size, true))));
            }),
        ),
        Shape::new("an issuer of many names", with(|size, body| body[2] = name(size))),
        Shape::new(
            "one long extension",
            with(|size, body| {
                body.push(der(0xa0, &der(0x30, &sequence(&[&oid(9), &der(0x04, &vec![5; size])]))));
            }),
        ),
        Shape::new(
            "long serial numbers",
            with(|size, body| {
                body.push(der(
                    0x30,
                    &many(size, |_| sequence(&[&der(0x02, &[5; 200]), &der(0x17, b"260101000000Z")])),
                ));
            }),
        ),
        Shape::new("sequences in sequences", nested),
    ]
}

fn quotes() -> Vec<Shape> {
    let raw = file("quote", "platform");
    // Signature data at 432, the length before it; QE report and signature, then authentication data, then certification
    // data: type and length.
    let grown = |grow: fn(usize) -> Vec<u8>| {
        let raw = raw.clone();
        move |size: usize| {
            let data = grow(size);
            let authentication = 432 + 4 + 64 + 64 + 384 + 64;
            let length = usize::from(u16::from_le_bytes([raw[authentication], raw[authentication + 1]]));
            let certification = authentication + 2 + length;
            let mut quote = raw[..certification + 2].to_vec();
            quote.extend((data.len() as u32).to_le_bytes());
            quote.extend(data);
            let signature = (quote.len() - 436) as u32;
            quote[432..436].copy_from_slice(&signature.to_le_bytes());
            quote
        }
    };
    let (hex_of, base64_of) = (raw.clone(), raw.clone());
    vec![
        Shape::new(
            "a chain of many certificates",
            grown(|size| pem("CERTIFICATE", b"x").repeat(size / 60).into_bytes()),
        ),
        Shape::new("a chain of line ends", grown(|size| vec![b'\n'; size])),
        Shape::new(
            "a chain of one long certificate",
            grown(|size| {
                let like = file("certificate", "pck-platform.der");
                let long =
                    certificate(&like, |body| body[7] = der(0xa3, &der(0x30, &extensions(size, true))));
                pem("CERTIFICATE", &long).into_bytes()
            }),
        ),
        Shape::new("bytes after the end", {
            let raw = raw.clone();
            move |size| [&raw[..], &vec![0; size]].concat()
        }),
        Shape::new("hex", move |size| hex::encode(&hex_of).repeat(1 + size / 9000).into_bytes()),
        Shape::new("white space in base64", move |size| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(&base64_of);
            let gap = " ".repeat(size / 100);
            text.as_bytes()
                .chunks(text.len() / 100)
                .flat_map(|chunk| [chunk, gap.as_bytes()].concat())
                .collect()
        }),
        Shape::new("hyphens", |size| format!("-----BEGIN {}", "-".repeat(size)).into_bytes()),
    ]
}

fn claims() -> Vec<Shape> {
    /// A head of CBOR.
    fn head(major: u8, number: usize) -> Vec<u8> {
        let major = major << 5;
        match number {
            0..24 => vec![major | number as u8],
            24..0x100 => vec![major | 24, number as u8],
            _ => [&[major | 25][..], &(number as u16).to_be_bytes()].concat(),
        }
    }
    fn text(text: &str) -> Vec<u8> {
        [head(3, text.len()), text.as_bytes().to_vec()].concat()
    }
    fn map(pairs: Vec<Vec<u8>>) -> Vec<u8> {
        [head(5, pairs.len()), pairs.concat()].concat()
    }
    fn pairs(size: usize, pair: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
        let mut all = Vec::new();
        let mut total = 0;
        while total < size {
            let pair = pair(all.len());
            total += pair.len();
            all.push(pair);
        }
        map(all)
    }
    let one = |grow: fn(usize) -> Vec<u8>| move |size: usize| map(vec![[text("x"), grow(size)].concat()]);
    let shapes = vec![
        Shape::new("distinct foreign claims", |size| {
            pairs(size, |n| [text(&format!("{n:04}")), vec![0]].concat())
        }),
        Shape::new("foreign claims of one long beginning", |size| {
            pairs(size, |n| [text(&format!("{}{n:04}", "x".repeat(100))), vec![0]].concat())
        }),
        Shape::new("an array of many", one(|size| [head(4, size), vec![0; size]].concat())),
        Shape::new("arrays in arrays", one(|size| vec![0x81; size])),
        Shape::new(
            "arrays in arrays, as deep as can be, again and again",
            one(|size| {
                let item = [0x81, 0x81, 0x81, 0x81, 0x81, 0];
                [head(4, size / 6), item.repeat(size / 6)].concat()
            }),
        ),
        Shape::new("tags on tags", one(|size| vec![0xc1; size])),
        Shape::new("a long text", one(|size| text(&"x".repeat(size)))),
        Shape::new("a map that says it has more than there is", |size| {
            [vec![0xbb], vec![0xff; 8], vec![0x60; size]].concat()
        }),
        Shape::new("a long \"mse\"", |size| {
            let inner = map(vec![[text("sealing-key"), head(2, size), vec![1; size]].concat()]);
            map(vec![[text("mse"), head(2, inner.len()), inner].concat()])
        }),
    ];
    shapes.into_iter().map(|shape| shape.up_to(15_000)).collect()
}

/// TCB info and QE identity: lists of levels, lists of advisories, texts.
fn documents(target: &str) -> Vec<Shape> {
    let document = json(target, "simulated.json");
    let level = document["tcbLevels"][0].to_string();
    let mut all = shapes::json();
    all.extend(Hole::string(document.clone(), "/id").texts());
    all.extend(Hole::string(document.clone(), "/tcbLevels/0/tcbStatus").texts());
    let mut with_advisories = document.clone();
    with_advisories["tcbLevels"][0]["advisoryIDs"] = Value::Array(vec![]);
    let fields = document.to_string().replacen('{', "{@@@,", 1);
    all.extend([
        Hole::value(document.clone(), "/tcbLevels")
            .shape("many levels", move |size| format!("[{}]", listed(size, |_| level.clone()))),
        Hole::value(with_advisories, "/tcbLevels/0/advisoryIDs").shape("many advisories", |size| {
            format!("[{}]", listed(size, |n| format!("\"INTEL-SA-{n:05}\"")))
        }),
        Hole::string(document.clone(), "/issueDate").shape("a long time", |size| "0".repeat(size)),
        Hole::new(&fields).shape("unknown fields before the known ones", |size| {
            listed(size, |n| format!("\"f{n}\":[{n}]"))
        }),
        Hole::new(&fields).shape("an unknown deep field", |size| format!("\"f\":{}", "[".repeat(size))),
        Hole::new(&format!("{}@@@", document)).shape("white space after the end", |size| " ".repeat(size)),
    ]);
    all
}

fn collaterals() -> Vec<Shape> {
    let collateral = json("collateral", "simulated.json");
    let mut all = shapes::json();
    let string = |field: &str| Hole::string(collateral.clone(), &format!("/{field}"));
    all.extend(string("tcb_info").texts());
    let in_crl = |grow: fn(usize) -> Vec<u8>| {
        let like = file("crl", "platform");
        move |size: usize| {
            hex::encode(certificate(&like, |body| {
                body.truncate(5);
                body.push(grow(size / 2));
            }))
        }
    };
    let of_certificate = file("certificate", "root.der");
    let info = collateral["tcb_info"].as_str().unwrap_or_default().to_owned();
    let level = serde_json::from_str::<Value>(&info).unwrap_or_default()["tcbLevels"][0].to_string();
    all.extend([
        string("pck_crl").shape(
            "a CRL of distinct extensions",
            in_crl(|size| der(0xa0, &der(0x30, &extensions(size, true)))),
        ),
        string("root_ca_crl").shape(
            "a CRL of revoked certificates",
            in_crl(|size| {
                der(
                    0x30,
                    &many(size, |n| {
                        let serial = der(0x02, &(0x0100_0000 + n as u32).to_be_bytes());
                        sequence(&[&serial, &der(0x17, b"260101000000Z")])
                    }),
                )
            }),
        ),
        string("tcb_info_issuer_chain").shape("a chain of many certificates", |size| {
            pem("CERTIFICATE", b"x").replace('\n', "\\n").repeat(size / 60)
        }),
        string("qe_identity_issuer_chain").shape(
            "a chain of a certificate of distinct extensions",
            move |size| {
                let long = certificate(&of_certificate, |body| {
                    body[7] = der(0xa3, &der(0x30, &extensions(size, true)))
                });
                pem("CERTIFICATE", &long).replace('\n', "\\n").repeat(2)
            },
        ),
        string("tcb_info").shape("a TCB info of many levels", move |size| {
            let levels = listed(size, |_| level.clone());
            let grown = info.replacen("\"tcbLevels\":[", &format!("\"tcbLevels\":[{levels},"), 1);
            let text = Value::from(grown).to_string();
            text[1..text.len() - 1].to_owned()
        }),
        string("tcb_info_signature").shape("a long signature", |size| "0".repeat(size)),
    ]);
    all
}

/// Evidence and live evidence: their fields grow.
fn evidence(target: &str, name: &str) -> Vec<Shape> {
    let document = json(target, name);
    let mut all = shapes::json();
    for field in ["certificate", "quote", "claims"] {
        let hole = Hole::string(document.clone(), &format!("/{field}"));
        all.push(match field {
            "certificate" => hole.shape("a long certificate", |size| "A".repeat(size)),
            "quote" => hole.shape("a long quote", |size| "A".repeat(size / 4 * 4)),
            _ => hole.shape("long claims", |size| "A".repeat(size / 4 * 4)),
        });
    }
    if target == "evidence" {
        all.extend(Hole::string(document.clone(), "/arguments/subject").texts());
        all.extend([
            Hole::string(document.clone(), "/certificate")
                .shape("a certificate of line ends", |size| "\\n".repeat(size / 2)),
            Hole::string(document.clone(), "/collateral/pck_crl")
                .shape("a long CRL", |size| "30".repeat(size / 2)),
            Hole::string(document, "/nonce").shape("a long nonce", |size| "30".repeat(size / 2)),
        ]);
    }
    all
}

fn policies() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    let mut all = shapes::toml();
    all.extend([
        Shape::new(
            "advisories",
            text(|size| {
                numbered(size, |n| {
                    format!("[[advisory]]\nid='{n}'\nowner='o'\nreason='r'\nexpires=2030-01-01\n")
                })
            }),
        ),
        Shape::new(
            "machines",
            text(|size| format!("allowed_ppids=[{}]", numbered(size, |n| format!("'{n:032}',")))),
        ),
        Shape::new(
            "sizes",
            text(|size| format!("allowed_enclave_sizes=[{}]", numbered(size, |n| format!("{n},")))),
        ),
        Shape::new("flags", text(|size| format!("allowed_smt=[{}]", "'enabled',".repeat(size / 10)))),
        Shape::new("a long duration", text(|size| format!("max_evidence_age='{}'", "1d ".repeat(size / 3)))),
        Shape::new(
            "a long time",
            text(|size| format!("min_tcb_date='{}'", "2030-01-01T00:00:00".repeat(size / 19))),
        ),
        Shape::new("a long name", text(|size| format!("name='{}'", "x".repeat(size)))),
    ]);
    all
}

fn arguments() -> Vec<Shape> {
    let own = String::from_utf8_lossy(&file("arguments", "args.toml")).into_owned();
    let mut all = shapes::toml();
    all.push(Hole::new(&own.replace("CN=myapp.fr", "@@@")).shape("a long subject", |size| "x".repeat(size)));
    all
}
