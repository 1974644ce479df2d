//! Gramine's files: manifests, images to measure, signatures, keys.

use super::shapes::{self, Hole, numbered};
use super::{Memory, Shape, Subject};
use crate::growth::shapes::{der, pem};
use crate::targets;

/// TOML is read into a tree of values with their places.
const TOML: Memory = Memory { per_byte: 200, besides: 1 << 20, at: 128 << 10 };

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        Subject {
            name: "manifest",
            limit: "16 MiB",
            run: manifest,
            shapes: [shapes::toml(), manifests()].into_iter().flatten().collect(),
            memory: TOML,
        },
        Subject {
            name: "elf",
            limit: "256 MiB, 64 loadable segments; 64 GiB hashed to measure",
            run: targets::find("elf"),
            shapes: images(),
            memory: Memory { per_byte: 8, besides: 4 << 20, at: 1 << 20 },
        },
        Subject {
            name: "sigstruct",
            limit: "1,808 bytes exactly",
            run: targets::find("sigstruct"),
            shapes: vec![Shape::new("a long file", |size| vec![6; size])],
            memory: Memory { per_byte: 8, besides: 1 << 20, at: 1 << 20 },
        },
        Subject {
            name: "signer-key",
            limit: "64 KiB of PEM",
            run: targets::find("signer-key"),
            shapes: keys(),
            memory: Memory { per_byte: 64, besides: 1 << 20, at: 48 << 10 },
        },
        Subject {
            name: "date",
            limit: "10 characters",
            run: targets::find("date"),
            shapes: vec![Shape::new("digits", |size| vec![b'2'; size])],
            memory: Memory { per_byte: 8, besides: 1 << 20, at: 1 << 20 },
        },
    ]
}

/// Read as it is for a real enclave, and checked as its loader does; what measuring takes is the enclave's size.
fn manifest(data: &[u8]) -> bool {
    let parsed = gramine::Manifest::parse(data).is_ok();
    let _ = gramine::loader::check(data, targets::LIBPAL);
    parsed
}

fn manifests() -> Vec<Shape> {
    let hash = "ab".repeat(32);
    let start = "libos.entrypoint = 'a'\nloader.entrypoint.uri = 'file:a'\nsgx.max_threads = 4\n";
    let one_hash = hash.clone();
    let files = Hole::new(&format!("{start}sgx.trusted_files = [\n@@@]\n"));
    vec![
        files.shape("distinct trusted files", move |size| {
            numbered(size, |n| format!("{{uri='file:{n}',sha256='{hash}'}},\n"))
        }),
        files.shape("one trusted file again and again", move |size| {
            numbered(size, |_| format!("{{uri='file:a',sha256='{one_hash}'}},\n"))
        }),
        Hole::new(&format!("{start}[loader.env]\n@@@"))
            .shape("variables", |size| numbered(size, |n| format!("V{n}='x'\n"))),
        Hole::new(&format!("{start}loader.argv=[@@@]\n"))
            .shape("arguments", |size| numbered(size, |_| "'a',".into())),
        Hole::new(&format!("{start}sgx.enclave_size='@@@M'"))
            .shape("an enclave size of many digits", |size| "1_".repeat(size / 2) + "1"),
        Hole::new(&format!("{start}sgx.max_threads=@@@"))
            .shape("a number of threads of many digits", |size| "1".repeat(size)),
    ]
}

/// An image with so many program headers, and as many bytes behind them.
fn image(size: usize, header: impl Fn(usize, usize) -> [u64; 4]) -> Vec<u8> {
    let count = (size / 56).min(0xfffe);
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[16] = 3;
    out[18] = 62;
    out[32..40].copy_from_slice(&64u64.to_le_bytes());
    out[54..56].copy_from_slice(&56u16.to_le_bytes());
    out[56..58].copy_from_slice(&(count as u16).to_le_bytes());
    let length = 64 + 56 * count;
    for number in 0..count {
        let [offset, address, in_file, in_memory] = header(number, length);
        let mut one = [0; 56];
        one[0] = 1;
        one[4] = 5;
        for (at, value) in [(8, offset), (16, address), (32, in_file), (40, in_memory)] {
            one[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out.extend(one);
    }
    out
}

fn images() -> Vec<Shape> {
    vec![
        Shape::new("program headers of nothing", |size| image(size, |_, _| [0, 0, 0, 0])),
        Shape::new("segments one after the other", |size| image(size, |n, _| [0, 4096 * n as u64, 64, 64]))
            .up_to(8 << 10),
        Shape::new("segments of one page, each the same", |size| image(size, |_, _| [0, 0, 64, 64]))
            .up_to(8 << 10),
        Shape::new("segments that are each the whole file", |size| {
            image(size, |_, length| [0, 0, length as u64, length as u64])
        }),
        Shape::new("one segment of all bytes", |size| {
            let mut file = image(56, |_, _| [0, 0, 0, 0]);
            file.resize(size.max(120), 1);
            let length = (file.len() as u64).to_le_bytes();
            file[64 + 32..64 + 40].copy_from_slice(&length);
            file[64 + 40..64 + 48].copy_from_slice(&length);
            file
        }),
    ]
}

fn keys() -> Vec<Shape> {
    /// PKCS #1 with numbers of so many bytes: `n`, `d`, `p`, `q` and so on.
    fn pkcs1(numbers: [Vec<u8>; 8]) -> Vec<u8> {
        let integer = |bytes: &Vec<u8>| {
            let mut bytes = bytes.clone();
            if bytes.first().is_none_or(|first| *first >= 0x80) {
                bytes.insert(0, 0);
            }
            der(0x02, &bytes)
        };
        let numbers: Vec<u8> = numbers.iter().flat_map(integer).collect();
        der(0x30, &[vec![0x02, 0x01, 0x00], numbers].concat())
    }
    vec![
        Shape::new("numbers that grow", |size| {
            let (half, whole) = (vec![0x7f; size / 12 + 1], vec![0x7f; size / 6 + 1]);
            let numbers = [
                whole.clone(),
                vec![3],
                whole.clone(),
                half.clone(),
                half.clone(),
                half.clone(),
                half.clone(),
                half,
            ];
            pem("RSA PRIVATE KEY", &pkcs1(numbers)).into_bytes()
        }),
        Shape::new("a modulus that fits, primes that grow", |size| {
            let half = vec![0x7f; size / 8 + 1];
            let numbers = [
                vec![0xff; 384],
                vec![3],
                half.clone(),
                half.clone(),
                half.clone(),
                half.clone(),
                half.clone(),
                half,
            ];
            pem("RSA PRIVATE KEY", &pkcs1(numbers)).into_bytes()
        }),
        Shape::new("base64 of nothing", |size| pem("PRIVATE KEY", &vec![0; size / 2]).into_bytes()),
        Shape::new("white space", |size| vec![b' '; size]),
        Shape::new("lines", |size| {
            format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", "AAAA\n".repeat(size / 5))
                .into_bytes()
        }),
    ]
}
