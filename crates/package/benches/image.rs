//! Reading a 1 GB image, compared with `sha256sum` on the same bytes in the same run.
//!
//! `cargo bench -p mse-package` makes the archive of `docker save` in a temporary directory: four layers with the sizes of
//! a Python image (many small modules, some large shared objects), content that does not repeat. It prints the time of
//! each, their ratio, and this process's peak of resident memory. Goal: a ratio of at most 1, and under 100 MB.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use package::image::Image;
use sha2::{Digest, Sha256};

/// Layers: number and size of their small files, number and size of their large ones.
const LAYERS: [(usize, usize, usize, usize); 4] = [
    (4_000, 12_000, 40, 2_000_000),
    (3_000, 8_000, 100, 1_500_000),
    (15_000, 9_000, 12, 40_000_000),
    (200, 5_000, 0, 0),
];
const ROUNDS: usize = 3;

fn main() {
    // `cargo test` runs benchmarks without this flag; there is nothing to test in them.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    make(&path);
    let size = path.metadata().unwrap().len();
    println!("image: {} MB, 4 layers", size / 1_000_000);
    // Both from the page cache, in turn, the best of each: what else the machine does hits both.
    let mut best = [Duration::MAX; 2];
    let mut files = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sum = Command::new("sha256sum").arg(&path).output().unwrap();
        assert!(sum.status.success());
        best[0] = best[0].min(start.elapsed());
        let start = Instant::now();
        let image = Image::open(&path).unwrap();
        best[1] = best[1].min(start.elapsed());
        files = image.tree().len();
    }
    println!("sha256sum: {:.2} s", best[0].as_secs_f64());
    println!("Image::open: {:.2} s, {files} files", best[1].as_secs_f64());
    println!("ratio: {:.2}", best[1].as_secs_f64() / best[0].as_secs_f64());
    println!("peak resident memory: {} MB", peak_resident() / 1_000_000);
}

/// Bytes, from `VmHWM` of /proc/self/status.
fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Writes the archive; each layer is written on its own first, since its digest has to be known.
fn make(path: &Path) {
    let mut archive = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    let mut noise = Noise(1);
    let (mut diff_ids, mut names) = (Vec::new(), Vec::new());
    for (index, (small, small_size, large, large_size)) in LAYERS.into_iter().enumerate() {
        let mut layer = tar::Builder::new(tempfile::tempfile().unwrap());
        for (kind, count, size) in [("small", small, small_size), ("large", large, large_size)] {
            for number in 0..count {
                let name = format!("usr/lib/python3/layer{index}/{kind}/{}/{number}.so", number % 100);
                let mut header = tar::Header::new_gnu();
                header.set_size(size as u64);
                header.set_mode(0o644);
                layer.append_data(&mut header, name, (&mut noise).take(size as u64)).unwrap();
            }
        }
        let mut file = layer.into_inner().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        diff_ids.push(format!("sha256:{}", hex::encode(hash.finalize())));
        names.push(format!("{index}/layer.tar"));
        archive.append_file(names.last().unwrap(), &mut file).unwrap();
    }
    let config = serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
    let name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = serde_json::json!([{ "Config": name, "Layers": names }]).to_string();
    for (name, text) in [(name.as_str(), config), ("manifest.json", manifest)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().flush().unwrap();
}

/// Bytes that do not repeat: xorshift, which is quicker than any disk.
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}
