//! What this machine has for SGX: processor, kernel, device nodes, Intel's quoting service, accounts, clock.
//!
//! Everything is read below a root directory of the caller's choice, so that it works the same on an imitated machine.
//! Nothing here is proof of anything: a quote is. These are answers for whoever sets a machine up.
//!
//! Trust: files are read up to a limit, and whatever does not have its documented form counts as unknown.

mod account;
mod aesm;
mod clock;
mod cpu;
mod devices;
mod kernel;
mod memory;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use account::{Account, Membership};
pub use aesm::{Aesm, SOCKET};
pub use clock::Clock;
pub use cpu::Cpu;
pub use devices::{
    ENCLAVE, LEGACY, Node, PROVISION, SgxDevices, sgx_available, sgx_devices, sgx_devices_below,
};
pub use kernel::{Kernel, OLDEST};
pub use memory::memory_backed;
use rustix::fs::OFlags;

/// The groups that open doors on a machine with SGX, and through whom they come: the engine's package, systemd, and
/// Intel's packages.
pub const GROUPS: [&str; 3] = ["docker", "sgx", "sgx_prv"];

/// A machine, as [`Machine::look`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor; `None` where it is of another architecture.
    pub cpu: Option<Cpu>,
    /// The kernel.
    pub kernel: Kernel,
    /// What is at [`ENCLAVE`].
    pub enclave: Node,
    /// What is at [`PROVISION`].
    pub provision: Node,
    /// Those of [`LEGACY`] that are there.
    pub legacy: Vec<&'static str>,
    /// Intel's quoting service.
    pub aesm: Aesm,
    /// The user's number.
    pub user: u32,
    /// The user's name, where `/etc/passwd` has it.
    pub user_name: Option<String>,
    /// Each of [`GROUPS`].
    pub groups: Vec<(&'static str, Membership)>,
    /// The clock.
    pub clock: Clock,
    /// The names of the groups that own the two device nodes, where `/etc/group` has them.
    pub device_groups: [Option<String>; 2],
}

impl Machine {
    /// Looks at the machine whose root directory is `root`, with the eyes of `account`.
    pub fn look(root: &Path, cpu: Option<Cpu>, account: &Account) -> Machine {
        let accounts = account::Accounts::read(root);
        let enclave = Node::look(&below(root, ENCLAVE));
        let provision = Node::look(&below(root, PROVISION));
        let owner = |node: &Node| match node {
            Node::Device { group, .. } => accounts.group_name(*group).map(str::to_owned),
            _ => None,
        };
        Machine {
            cpu,
            kernel: Kernel::look(root),
            device_groups: [owner(&enclave), owner(&provision)],
            enclave,
            provision,
            legacy: LEGACY.into_iter().filter(|path| below(root, path).symlink_metadata().is_ok()).collect(),
            aesm: Aesm::look(&below(root, SOCKET)),
            user: account.user,
            user_name: accounts.user_name(account.user).map(str::to_owned),
            groups: GROUPS.map(|name| (name, accounts.membership(account, name))).to_vec(),
            clock: Clock::look(root),
        }
    }

    /// This machine.
    pub fn here() -> Machine {
        Machine::look(Path::new("/"), Cpu::here(), &Account::current())
    }
}

/// An absolute path, below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The beginning of a regular file; what is not UTF-8 in it is replaced. `None` where it cannot be read.
fn text(root: &Path, path: &str, limit: u64) -> Option<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(below(root, path)).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
