//! How fast an enclave is measured, beside what SHA-256 alone takes for the same number of bytes.
//!
//! Read the two columns of GB/s together: measuring should reach at least 0.8 of the raw rate.
#![allow(clippy::unwrap_used)]

use divan::Bencher;
use divan::counter::BytesCount;
use gramine::measure::{measure, measured_bytes, mrenclave};
use ring::digest;

/// 256M with 4 threads; 4G with 256 threads, 185 MB to hash.
const ENCLAVES: [&str; 2] = ["01-defaults-256m-t4", "03-4g-t256-debug-long"];

struct Enclave {
    manifest: Vec<u8>,
    libpal: Vec<u8>,
    bytes: u64,
}

impl Enclave {
    fn read(name: &str) -> Enclave {
        let read = |file| {
            std::fs::read(format!("{}/tests/vectors/{name}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        };
        let (manifest, libpal) = (read("app.manifest.sgx"), read("libpal.so"));
        let bytes = measured_bytes(measure(&manifest, &libpal).unwrap().layout.page_counts());
        Enclave { manifest, libpal, bytes }
    }
}

#[divan::bench(args = ENCLAVES, sample_count = 10)]
fn mrenclave_of(bencher: Bencher<'_, '_>, name: &str) {
    let enclave = Enclave::read(name);
    bencher.counter(BytesCount::new(enclave.bytes)).bench(|| mrenclave(&enclave.manifest, &enclave.libpal));
}

#[divan::bench(args = ENCLAVES, sample_count = 10)]
fn raw_sha256_of_as_many_bytes(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = Enclave::read(name).bytes;
    let block = vec![0x5a; 1 << 20];
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let mut sha256 = digest::Context::new(&digest::SHA256);
        for start in (0..bytes).step_by(block.len()) {
            sha256.update(&block[..block.len().min((bytes - start) as usize)]);
        }
        sha256.finish()
    });
}

fn main() {
    divan::main();
}
