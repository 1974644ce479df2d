//! Builds the node's shared object, which the binary carries inside.
//!
//! `MSE_NODE_LIBRARY` tells the source where it is. Where that variable is set from outside, it names a finished
//! shared object, and nothing is built. How it is built, and why so, is said where it is done.

use std::env;
use std::path::{Path, PathBuf};

#[path = "../node-python/shared_object.rs"]
mod shared_object;

/// Crates that end up in the shared object.
const ROOMS: [&str; 7] = ["attestation", "gramine", "secrets", "package", "platform", "node", "node-python"];

fn main() {
    println!("cargo::rerun-if-env-changed=MSE_NODE_LIBRARY");
    if let Some(finished) = env::var_os("MSE_NODE_LIBRARY").map(PathBuf::from) {
        assert!(
            finished.is_absolute() && finished.is_file(),
            "MSE_NODE_LIBRARY: expected the absolute path of a shared object, found {}",
            finished.display()
        );
        println!("cargo::rerun-if-changed={}", finished.display());
        println!("cargo::rustc-env=MSE_NODE_LIBRARY={}", finished.display());
        return;
    }

    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = here.join("../..").canonicalize().expect("the workspace is two folders up");
    for room in ROOMS {
        let room = workspace.join("crates").join(room);
        println!("cargo::rerun-if-changed={}", room.join("Cargo.toml").display());
        println!("cargo::rerun-if-changed={}", room.join("src").display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../node-python/shared_object.rs");

    let library = shared_object::build(&workspace, &target_directory(), Path::new(&variable("CARGO")));
    println!("cargo::rustc-env=MSE_NODE_LIBRARY={}", library.display());
}

/// `OUT_DIR` is `<target>/[<triple>/]<profile>/build/<package>/out`.
fn target_directory() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    out.ancestors().nth(4).expect("OUT_DIR lies in a target directory").to_path_buf()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
