//! How the node's shared object is built: included by whoever needs the file itself (the command's build script, the
//! tests of this crate), because Cargo cannot make a library for another program a dependency.
//!
//! It is built with the workspace's lock file, under the profile `node`, into `<target>/node`, so that this inner
//! build never waits for the outer one's lock; all who include this share the result.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How variables begin that cargo sets for build scripts and tests about the package that they belong to.
const OF_THE_OUTER_PACKAGE: [&str; 12] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_BIN_",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
];

/// Builds `lib_node.so` below the outer build's target directory, and returns its path.
pub fn build(workspace: &Path, target: &Path, cargo: &Path) -> PathBuf {
    let target = target.join("node");
    let mut command = Command::new(cargo);
    // What cargo says of the package that asks would make it build everything anew for each who asks.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| OF_THE_OUTER_PACKAGE.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(name);
        }
    }
    let status = command
        .current_dir(workspace)
        .args(["build", "--quiet", "--package", "mse-node-python", "--profile", "node", "--target-dir"])
        .arg(&target)
        .env("PYO3_NO_PYTHON", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", path_remapping(workspace))
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
    library
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
