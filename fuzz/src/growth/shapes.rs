//! Generators that several parsers share.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Shape;

/// A piece of text again and again, each time with its number, up to about `size` bytes.
pub fn numbered(size: usize, piece: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(size + 64);
    for number in 0.. {
        if text.len() >= size {
            break;
        }
        text.push_str(&piece(number));
    }
    text
}

/// As many pieces as fit, with commas between.
pub fn listed(size: usize, piece: impl Fn(usize) -> String) -> String {
    let mut text = numbered(size, |number| piece(number) + ",");
    text.pop();
    text
}

/// JSON around a hole: `before`, what grows, `after`.
#[derive(Clone)]
pub struct Hole {
    before: Arc<str>,
    after: Arc<str>,
}

/// Where the grown part stands in a document.
const MARK: &str = "@@@";

impl Hole {
    /// A document with `@@@` where something grows.
    pub fn new(document: &str) -> Hole {
        let (before, after) = document.split_once(MARK).unwrap_or((document, ""));
        Hole { before: before.into(), after: after.into() }
    }

    /// A JSON document of which the value at `pointer` is replaced: by a string that grows.
    pub fn string(mut json: serde_json::Value, pointer: &str) -> Hole {
        if let Some(value) = json.pointer_mut(pointer) {
            *value = MARK.into();
        }
        Hole::new(&json.to_string())
    }

    /// A JSON document of which the value at `pointer` is replaced: by anything.
    pub fn value(mut json: serde_json::Value, pointer: &str) -> Hole {
        if let Some(value) = json.pointer_mut(pointer) {
            *value = MARK.into();
        }
        Hole::new(&json.to_string().replace(&format!("\"{MARK}\""), MARK))
    }

    /// The document with something in the hole.
    pub fn filled(&self, with: &str) -> Vec<u8> {
        [&self.before, with, &self.after].concat().into_bytes()
    }

    /// A shape: what `grow` makes of a size, in the hole.
    pub fn shape(&self, name: &'static str, grow: impl Fn(usize) -> String + Send + Sync + 'static) -> Shape {
        let hole = self.clone();
        Shape::new(name, move |size| hole.filled(&grow(size)))
    }

    /// Shapes of a text in JSON: long, escaped, of surrogates.
    pub fn texts(&self) -> Vec<Shape> {
        vec![
            self.shape("a long string", |size| "x".repeat(size)),
            self.shape("a string of escapes", |size| "\\u0041".repeat(size / 6)),
            self.shape("a string of surrogate pairs", |size| "\\ud83d\\ude00".repeat(size / 12)),
        ]
    }
}

/// Shapes of JSON itself, whatever is wanted.
pub fn json() -> Vec<Shape> {
    let object = |grow: fn(usize) -> String| move |size: usize| format!("{{{}}}", grow(size)).into_bytes();
    vec![
        Shape::new("arrays in arrays", |size| "[".repeat(size).into_bytes()),
        Shape::new("objects in objects", |size| "{\"a\":".repeat(size / 5).into_bytes()),
        Shape::new("distinct unknown fields", object(|size| listed(size, |n| format!("\"f{n}\":{n}")))),
        Shape::new("one field again and again", object(|size| listed(size, |_| "\"a\":1".into()))),
        Shape::new("white space", |size| " \n\t\r".repeat(size / 4).into_bytes()),
        Shape::new("a long number", |size| "1".repeat(size).into_bytes()),
        Shape::new("a number of many decimals", |size| format!("1.{}e1", "7".repeat(size)).into_bytes()),
    ]
}

/// Shapes of TOML itself, whatever is wanted.
pub fn toml() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new("distinct keys", text(|size| numbered(size, |n| format!("k{n}=1\n")))),
        Shape::new("distinct tables", text(|size| numbered(size, |n| format!("[t{n}]\n")))),
        Shape::new(
            "one table of distinct dotted keys",
            text(|size| numbered(size, |n| format!("a.b.k{n}=1\n"))),
        ),
        Shape::new(
            "tables under one long header",
            text(|size| {
                let above = "a.".repeat(60);
                numbered(size, |n| format!("[{above}t{n}]\n"))
            }),
        ),
        Shape::new("an array of tables", text(|size| "[[a]]\n".repeat(size / 6))),
        Shape::new(
            "tables below the last of an array",
            text(|size| numbered(size, |n| format!("[[a]]\n[a.t{n}]\n"))),
        ),
        Shape::new("one dotted key of many parts", text(|size| format!("{}a=1", "a.".repeat(size / 2)))),
        Shape::new("one header of many parts", text(|size| format!("[{}a]", "a.".repeat(size / 2)))),
        Shape::new("arrays in arrays", text(|size| format!("a={}", "[".repeat(size)))),
        Shape::new("inline tables in inline tables", text(|size| format!("a={}", "{a=".repeat(size / 3)))),
        Shape::new("an array of many", text(|size| format!("a=[{}]", "1,".repeat(size / 2)))),
        Shape::new("an array of inline tables", text(|size| format!("a=[{}]", "{a=1},".repeat(size / 6)))),
        Shape::new(
            "an inline table of many",
            text(|size| format!("a={{{}}}", listed(size, |n| format!("k{n}=1")))),
        ),
        Shape::new("a long string", text(|size| format!("a=\"{}\"", "x".repeat(size)))),
        Shape::new("a string of escapes", text(|size| format!("a=\"{}\"", "\\u0041".repeat(size / 6)))),
        Shape::new(
            "a string of many lines",
            text(|size| format!("a=\"\"\"{}\"\"\"", "\\\n \n".repeat(size / 4))),
        ),
        Shape::new("a long number", text(|size| format!("a={}", "1".repeat(size)))),
        Shape::new("a number of underscores", text(|size| format!("a={}1", "1_".repeat(size / 2)))),
        Shape::new("comments", text(|size| "#\n".repeat(size / 2))),
        Shape::new("quoted keys", text(|size| numbered(size, |n| format!("\"\\u0041{n}\"=1\n")))),
        Shape::new("one error a line", text(|size| "=\n".repeat(size / 2))),
        Shape::new("quotes", text(|size| "\"".repeat(size))),
        Shape::new("brackets that close", text(|size| "]".repeat(size))),
    ]
}

/// One DER element.
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

/// The elements inside the one that `der` is, each whole.
pub fn parts(der: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = content(der);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (header, length) = header(rest);
        let (part, after) = rest.split_at((header + length).min(rest.len()));
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

fn content(der: &[u8]) -> &[u8] {
    let (header, length) = header(der);
    der.get(header..header + length).unwrap_or_default()
}

/// Lengths of header and content.
fn header(der: &[u8]) -> (usize, usize) {
    match der.get(1).copied().unwrap_or_default() {
        short @ 0..0x80 => (2, short.into()),
        long => {
            let bytes = der.get(2..2 + usize::from(long & 0x7f)).unwrap_or_default();
            (2 + bytes.len(), bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
    }
}

/// The object identifier 1.2.3.`number`.
pub fn oid(number: usize) -> Vec<u8> {
    let mut arcs = vec![(number & 0x7f) as u8];
    let mut rest = number >> 7;
    while rest > 0 {
        arcs.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    arcs.extend([0x03, 0x2a]);
    arcs.reverse();
    der(0x06, &arcs)
}

/// Many elements, up to about `size` bytes.
pub fn many(size: usize, element: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 64);
    for number in 0.. {
        if out.len() >= size {
            break;
        }
        out.extend(element(number));
    }
    out
}

/// Extensions, each with another identifier, or all with one.
pub fn extensions(size: usize, distinct: bool) -> Vec<u8> {
    many(size, |n| sequence(&[&oid(if distinct { n } else { 0 }), &der(0x04, b"")]))
}

/// A Name of many relative names.
pub fn name(size: usize) -> Vec<u8> {
    let common_name = der(0x06, &[0x55, 0x04, 0x03]);
    der(0x30, &many(size, |_| der(0x31, &sequence(&[&common_name, &der(0x0c, b"x")]))))
}

/// Sequences in sequences, up to about `size` bytes.
pub fn nested(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < size / 2 {
        // A header has two to four bytes; built from the inside it would be copied each time.
        out.extend([0x30, 0x80]);
    }
    out
}

/// A certificate like `like`, in whose signed part `change` changed the elements.
pub fn certificate(like: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let outer = parts(like);
    let [body, algorithm, signature] = outer.as_slice() else { return Vec::new() };
    let mut body = parts(body);
    change(&mut body);
    let body = der(0x30, &body.concat());
    sequence(&[&body, algorithm, signature])
}

/// One block of PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// One member of a tar: header, content, padding.
pub fn member(kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = header.to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// One member with a name of any length, in a pax header where it has to be.
pub fn long_member(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut records = String::new();
    for (key, value) in [("path", name), ("linkpath", link)] {
        if value.len() > 100 {
            records.push_str(&pax_record(key, value));
        }
    }
    if !records.is_empty() {
        out.extend(member(b'x', b"pax", b"", records.as_bytes()));
    }
    out.extend(member(kind, name.as_bytes(), link.as_bytes(), content));
    out
}

/// `<length> <key>=<value>\n`, the length counting itself.
pub fn pax_record(key: &str, value: &str) -> String {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + bare.to_string().len();
    if length.to_string().len() > bare.to_string().len() {
        length = bare + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// The members and the end of a tar.
pub fn tar(mut members: Vec<u8>) -> Vec<u8> {
    members.resize(members.len() + 1024, 0);
    members
}

/// Shapes of a tar whose files may be anywhere; `prefix` is where they have to be.
pub fn tars(prefix: &'static str) -> Vec<Shape> {
    let deep = move |depth: usize, n: usize| format!("{prefix}{}f{n}", "d/".repeat(depth));
    vec![
        Shape::new("many empty files", move |size| {
            tar(many(size, |n| member(b'0', format!("{prefix}f{n}").as_bytes(), b"", b"")))
        })
        .up_to(128 << 10),
        Shape::new("many directories", move |size| {
            tar(many(size, |n| member(b'5', format!("{prefix}d{n}").as_bytes(), b"", b"")))
        })
        .up_to(128 << 10),
        Shape::new("files each in many directories of its own", move |size| {
            tar(many(size, |n| long_member(b'0', &format!("{prefix}{n}/{}f", "d/".repeat(1900)), "", b"")))
        })
        .up_to(128 << 10),
        Shape::new("files under one deep directory", move |size| {
            tar(many(size, |n| long_member(b'0', &deep(1900, n), "", b"")))
        })
        .up_to(128 << 10),
        Shape::new("one path that grows", move |size| tar(long_member(b'0', &deep(size / 2, 0), "", b"")))
            .up_to(4 << 10),
        Shape::new("directories in directories", move |size| {
            tar(many(size, |n| {
                long_member(b'5', &format!("{prefix}{}", "d/".repeat(n.min(1800) + 100)), "", b"")
            }))
        })
        .up_to(512 << 10),
        Shape::new("one path again and again", move |size| {
            tar(many(size, |_| member(b'5', format!("{prefix}d").as_bytes(), b"", b"")))
        })
        .up_to(128 << 10),
        Shape::new("long names before one file", move |size| {
            tar(many(size, |_| member(b'L', b"././@LongLink", b"", &[b'x'; 400])))
        })
        .up_to(128 << 10),
        Shape::new("pax headers before one file", move |size| {
            tar(many(size, |_| member(b'x', b"pax", b"", pax_record("mtime", "1").as_bytes())))
        })
        .up_to(128 << 10),
        Shape::new("global pax headers", move |size| {
            tar(many(size, |_| member(b'g', b"pax", b"", pax_record("comment", "x").as_bytes())))
        })
        .up_to(128 << 10),
        Shape::new("one pax header of many distinct records", move |size| {
            let records = numbered(size, |n| pax_record(&format!("SCHILY.xattr.user.x{n}"), ""));
            tar([
                member(b'x', b"pax", b"", records.as_bytes()),
                member(b'0', format!("{prefix}f").as_bytes(), b"", b""),
            ]
            .concat())
        })
        .up_to(128 << 10),
        Shape::new("one pax header of one path again and again", move |size| {
            let records = numbered(size, |_| pax_record("path", &format!("{prefix}f")));
            tar([member(b'x', b"pax", b"", records.as_bytes()), member(b'0', b"f", b"", b"")].concat())
        })
        .up_to(128 << 10),
        Shape::new("one large file", move |size| {
            tar(member(b'0', format!("{prefix}f").as_bytes(), b"", &vec![7; size]))
        })
        .up_to(128 << 10),
        Shape::new("zeros after the end", |size| vec![0; size.next_multiple_of(512)]).up_to(128 << 10),
    ]
}
