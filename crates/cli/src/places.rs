//! Where this installation keeps its files (XDG Base Directory Specification).

use std::env;
use std::path::PathBuf;

use crate::exit::Failure;

/// What must outlive a restart and belongs to this machine: nodes, records, the simulator.
pub fn state() -> anyhow::Result<PathBuf> {
    base("XDG_STATE_HOME", ".local/state")
}

/// What can be made again: collateral, Python environments.
pub fn cache() -> anyhow::Result<PathBuf> {
    base("XDG_CACHE_HOME", ".cache")
}

/// What its owner chose: the signer's key.
pub fn config() -> anyhow::Result<PathBuf> {
    base("XDG_CONFIG_HOME", ".config")
}

/// The simulated platform of this installation.
pub fn simulator() -> anyhow::Result<PathBuf> {
    Ok(state()?.join("simulator"))
}

/// Records of verification.
pub fn records() -> anyhow::Result<PathBuf> {
    Ok(state()?.join("records"))
}

/// The login to a backend, and what was deployed there.
pub fn cloud() -> anyhow::Result<PathBuf> {
    Ok(state()?.join("cloud"))
}

/// The key that signs this operator's enclaves.
pub fn signer_key() -> anyhow::Result<PathBuf> {
    Ok(config()?.join("signer-key.pem"))
}

/// XDG says that a relative path in these variables is to be ignored.
fn base(variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match named {
        Some(path) => path,
        None => env::var_os("HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .map(|home| home.join(below_home))
            .ok_or_else(|| {
                Failure::failed(format!("neither {variable} nor HOME names an absolute path"))
                    .hint("set HOME")
            })?,
    };
    Ok(base.join("mse"))
}
