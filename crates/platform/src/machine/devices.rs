//! The device nodes of the SGX driver.
//!
//! The driver of Linux, from 5.11 on, makes `/dev/sgx_enclave` (to build enclaves) and `/dev/sgx_provision` (to let an
//! enclave use the provisioning key, without which there are no quotes). Drivers that came before it made
//! `/dev/sgx/enclave` and `/dev/sgx/provision` (Intel's DCAP driver) or `/dev/isgx` (its older one, for processors
//! without flexible launch control: no DCAP quotes). Format: Linux, Documentation/arch/x86/sgx.rst.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::below;

/// The node that builds enclaves.
pub const ENCLAVE: &str = "/dev/sgx_enclave";
/// The node that permits an enclave the provisioning key.
pub const PROVISION: &str = "/dev/sgx_provision";
/// Names of drivers that Gramine no longer works with.
pub const LEGACY: [&str; 3] = ["/dev/sgx/enclave", "/dev/sgx/provision", "/dev/isgx"];

/// Both device nodes that an enclave with DCAP quotes needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxDevices {
    /// [`ENCLAVE`].
    pub enclave: PathBuf,
    /// [`PROVISION`].
    pub provision: PathBuf,
}

/// Both device nodes, where this machine has both. Who may open them is another question: a container engine opens
/// them as root.
pub fn sgx_devices() -> Option<SgxDevices> {
    sgx_devices_below(Path::new("/"))
}

/// Whether this machine has both device nodes: what decides between a real enclave and a simulated one.
pub fn sgx_available() -> bool {
    sgx_devices().is_some()
}

/// [`sgx_devices`] of the machine whose root directory is `root`.
pub fn sgx_devices_below(root: &Path) -> Option<SgxDevices> {
    let devices = SgxDevices { enclave: below(root, ENCLAVE), provision: below(root, PROVISION) };
    let is_device = |path: &Path| fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device());
    (is_device(&devices.enclave) && is_device(&devices.provision)).then_some(devices)
}

/// What is at the place of a device node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Node {
    /// Nothing.
    Missing,
    /// Something else than a character device, or something that cannot be looked at; why, in words.
    NotADevice(String),
    /// A character device.
    Device {
        /// Whether this user can open it for reading and writing; else why not.
        opens: Result<(), String>,
        /// The group that owns it.
        group: u32,
        /// Its permissions, the low nine bits.
        mode: u32,
    },
}

impl Node {
    /// Looks, and opens what is a character device; opening an SGX node has no effect.
    pub fn look(path: &Path) -> Node {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Node::Missing,
            Err(error) => return Node::NotADevice(error.to_string()),
        };
        if !found.file_type().is_char_device() {
            return Node::NotADevice("expected a character device, found another kind of file".to_owned());
        }
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        Node::Device {
            opens: opened.map(drop).map_err(|error| error.to_string()),
            group: found.gid(),
            mode: found.mode() & 0o777,
        }
    }
}
