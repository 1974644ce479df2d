//! Builds the node's shared object, which the binary carries inside.
//!
//! The node is a library for another program (CPython), so Cargo cannot make it a dependency of this binary. It is
//! built with the same lock file, under the profile `node`, into a target directory of its own (`target/node`), so
//! that this inner build never waits for the outer one's lock. `MSE_NODE_LIBRARY` tells the source where it is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that end up in the shared object.
const ROOMS: [&str; 7] = ["attestation", "gramine", "secrets", "package", "platform", "node", "node-python"];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = here.join("../..").canonicalize().expect("the workspace is two folders up");
    for room in ROOMS {
        let room = workspace.join("crates").join(room);
        println!("cargo::rerun-if-changed={}", room.join("Cargo.toml").display());
        println!("cargo::rerun-if-changed={}", room.join("src").display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");

    let target = target_directory().join("node");
    let status = Command::new(variable("CARGO"))
        .current_dir(&workspace)
        .args(["build", "--quiet", "--package", "mse-node-python", "--profile", "node", "--target-dir"])
        .arg(&target)
        .env("PYO3_NO_PYTHON", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", path_remapping(&workspace))
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("the node's shared object did not build: {status}"),
        Err(error) => panic!("cannot run cargo to build the node's shared object: {error}"),
    }
    let library = target.join("node/lib_node.so");
    assert!(library.is_file(), "cargo left no {}", library.display());
    println!("cargo::rustc-env=MSE_NODE_LIBRARY={}", library.display());
}

/// No path of the machine that builds enters what is measured.
fn path_remapping(workspace: &Path) -> String {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=mse", workspace.display())];
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags.join("\x1f")
}

/// `OUT_DIR` is `<target>/[<triple>/]<profile>/build/<package>/out`.
fn target_directory() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    out.ancestors().nth(4).expect("OUT_DIR lies in a target directory").to_path_buf()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
