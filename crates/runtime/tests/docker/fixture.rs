//! The engine under test, and small images for it.

use std::io::Cursor;
use std::process::Command;
use std::time::{Duration, Instant};

use runtime::docker::Engine;

/// What every image of these tests starts from.
pub const BASE: &str = "debian:bookworm";

/// The engine, unless the tests that need one are to be skipped.
pub fn engine() -> Option<Engine> {
    if std::env::var_os("MSE_TEST_DOCKER").is_none() {
        eprintln!("skipped: MSE_TEST_DOCKER is not set");
        return None;
    }
    let engine = Engine::connect().unwrap();
    engine.version().unwrap();
    assert!(engine.has_image(BASE).unwrap(), "the tests need the image {BASE}");
    Some(engine)
}

/// An image that goes with the test.
pub struct Image(pub String);

impl Image {
    pub fn named(test: &str) -> Image {
        Image(format!("mse-test-{test}:{}", std::process::id()))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Engine::connect().and_then(|engine| engine.remove_image(&self.0));
    }
}

/// What the engine's own client says; it is an independent witness.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Bytes that no text has: the same in every run.
pub struct Random;

impl Random {
    pub fn bytes(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        };
        (0..length).map(next).collect()
    }
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1);
        builder.append_data(&mut header, path, Cursor::new(content)).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
