//! What this machine has for SGX: processor, driver, device nodes, Intel's quoting service, accounts, clock.
//!
//! Everything is read below a root directory of the caller's choice, so that it works the same on an imitated machine.
//! Nothing here is proof of anything: a quote is. These are answers for whoever sets a machine up.
//!
//! Trust: files are read up to a limit, and whatever does not have its documented form counts as unknown.

mod devices;

use std::path::{Path, PathBuf};

pub use devices::{ENCLAVE, LEGACY, Node, PROVISION, SgxDevices, sgx_available, sgx_devices, sgx_devices_below};

/// An absolute path, below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
