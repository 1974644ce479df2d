//! The kernel and its SGX driver.
//!
//! Linux has the driver from 5.11 on. It takes the flags `sgx` and `sgx_lc` out of `/proc/cpuinfo` where the BIOS left
//! SGX off or locked the launch control, so that they say what can be used. Format: proc(5); Linux,
//! Documentation/arch/x86/sgx.rst.

use std::path::Path;

use super::{below, text};

/// The first kernel with the SGX driver, and with the FSGSBASE instructions that Gramine needs.
pub const OLDEST: (u32, u32) = (5, 11);
/// One processor's entry is a few kilobytes; the first is enough.
const CPUINFO_READ: u64 = 64 * 1024;
/// Out-of-tree drivers, by the names of their modules.
const LEGACY_MODULES: [&str; 2] = ["isgx", "intel_sgx"];

/// The kernel, as far as enclaves are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says; empty where unknown.
    pub release: String,
    /// Whether it lets SGX be used; `None` where unknown.
    pub sgx: Option<bool>,
    /// Whether it can set the launch control; `None` where unknown.
    pub flc: Option<bool>,
    /// A driver from before 5.11 that is loaded.
    pub legacy_module: Option<&'static str>,
}

impl Kernel {
    pub(super) fn look(root: &Path) -> Kernel {
        let release = text(root, "/proc/sys/kernel/osrelease", 256).unwrap_or_default();
        let cpuinfo = text(root, "/proc/cpuinfo", CPUINFO_READ).unwrap_or_default();
        let flags = cpuinfo.lines().find_map(|line| {
            let (name, flags) = line.split_once(':')?;
            (name.trim() == "flags").then_some(flags)
        });
        let flag = |name: &str| flags.map(|flags| flags.split_ascii_whitespace().any(|flag| flag == name));
        let loaded = |module: &&str| below(root, &format!("/sys/module/{module}")).is_dir();
        Kernel {
            release: release.trim().to_owned(),
            sgx: flag("sgx"),
            flc: flag("sgx_lc"),
            legacy_module: LEGACY_MODULES.into_iter().find(loaded),
        }
    }

    /// Major and minor version, where the release begins with them.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Whether it is too old for SGX; `false` where unknown.
    pub fn is_too_old(&self) -> bool {
        self.version().is_some_and(|version| version < OLDEST)
    }
}
