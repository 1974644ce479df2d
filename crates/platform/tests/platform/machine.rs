//! What a machine has, against imitated machines: directories for roots, and a made-up CPUID.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use platform::machine::{
    Account, Aesm, Clock, Cpu, Machine, Membership, Node, SgxDevices, memory_backed, sgx_devices_below,
};
use proptest::prelude::*;
use raw_cpuid::{CpuId, CpuIdResult};
use tempfile::TempDir;

const GIB: u64 = 1 << 30;

/// An imitated machine's root directory.
struct Root(TempDir);

impl Root {
    fn new() -> Root {
        Root(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Root {
        fs::write(self.path(path), content).unwrap();
        self
    }

    /// Any character device that everybody may open serves as one.
    fn device(&self, path: &str) -> &Root {
        symlink("/dev/null", self.path(path)).unwrap();
        self
    }

    fn look(&self, account: &Account) -> Machine {
        Machine::look(self.0.path(), None, account)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}

fn nobody() -> Account {
    Account { user: 1000, groups: vec![1000] }
}

/// CPUID of an Intel processor with the given bits of leaf 7 and the given EPC sections.
fn cpu(ebx7: u32, ecx7: u32, eax12: u32, sections: &'static [u64]) -> Cpu {
    let answer = |eax, ebx, ecx, edx| CpuIdResult { eax, ebx, ecx, edx };
    Cpu::of(&CpuId::with_cpuid_reader(move |leaf: u32, subleaf: u32| match (leaf, subleaf) {
        // "GenuineIntel", highest leaf 0x16.
        (0, _) => answer(0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        (7, 0) => answer(0, ebx7, ecx7, 0),
        (0x12, 0) => answer(eax12, 0, 0, 0),
        (0x12, 2..) => match sections.get(subleaf as usize - 2) {
            Some(size) => answer(1, 0, (*size as u32 & 0xffff_f000) | 1, (*size >> 32) as u32),
            None => answer(0, 0, 0, 0),
        },
        _ => answer(0, 0, 0, 0),
    }))
}

#[test]
fn the_epc_of_every_section_counts() {
    let found = cpu(1 << 2, 1 << 30, 0b11, &[GIB, 64 * GIB]);
    assert!(found.sgx && found.flc && found.sgx1 && found.sgx2);
    assert_eq!(found.vendor, "GenuineIntel");
    assert_eq!(found.epc, 65 * GIB);
    assert!(!found.virtual_machine);
}

#[test]
fn a_processor_without_sgx_has_none_of_it_whatever_its_other_leaves_say() {
    let found = cpu(0, 1 << 30, 0b11, &[GIB]);
    assert!(!found.sgx && !found.sgx1 && !found.sgx2);
    assert_eq!(found.epc, 0);
}

#[test]
fn sgx_that_the_bios_left_off_shows_without_memory() {
    let found = cpu(1 << 2, 0, 0, &[]);
    assert!(found.sgx && !found.flc && !found.sgx1);
    assert_eq!(found.epc, 0);
}

#[test]
fn a_hypervisor_that_never_stops_counting_sections_does_not_hold_us_up() {
    let endless = CpuId::with_cpuid_reader(|leaf: u32, _: u32| match leaf {
        0 => CpuIdResult { eax: 0x16, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
        _ => CpuIdResult { eax: 0xffff_fff1, ebx: u32::MAX, ecx: 0xffff_f001, edx: u32::MAX },
    });
    assert!(Cpu::of(&endless).epc > 0);
}

#[test]
fn the_processor_at_work_can_be_asked() {
    assert_eq!(Cpu::here().is_some(), cfg!(target_arch = "x86_64"));
}

#[test]
fn both_device_nodes_make_a_machine_with_sgx_and_nothing_less_does() {
    let root = Root::new();
    assert_eq!(sgx_devices_below(root.root()), None);
    root.device("/dev/sgx_enclave");
    assert_eq!(sgx_devices_below(root.root()), None);
    root.file("/dev/sgx_provision", "");
    assert_eq!(sgx_devices_below(root.root()), None, "a plain file is no device");
    fs::remove_file(root.path("/dev/sgx_provision")).unwrap();
    root.device("/dev/sgx_provision");
    let expected =
        SgxDevices { enclave: root.path("/dev/sgx_enclave"), provision: root.path("/dev/sgx_provision") };
    assert_eq!(sgx_devices_below(root.root()), Some(expected));
}

#[test]
fn an_empty_machine_has_nothing_and_is_no_error() {
    let machine = Root::new().look(&nobody());
    assert_eq!(machine.enclave, Node::Missing);
    assert_eq!(machine.provision, Node::Missing);
    assert_eq!(machine.legacy, Vec::<&str>::new());
    assert_eq!(machine.aesm, Aesm::Missing);
    assert_eq!(machine.clock, Clock::Unknown);
    assert_eq!((machine.kernel.sgx, machine.kernel.flc, machine.kernel.version()), (None, None, None));
    assert!(machine.groups.iter().all(|(_, found)| *found == Membership::NoSuchGroup));
    assert_eq!(machine.user_name, None);
}

#[test]
fn device_nodes_are_told_from_what_is_none_and_opened() {
    let root = Root::new();
    root.device("/dev/sgx_enclave").file("/dev/sgx_provision", "").file("/dev/isgx", "");
    let machine = root.look(&nobody());
    assert!(matches!(machine.enclave, Node::Device { opens: Ok(()), .. }), "{:?}", machine.enclave);
    assert!(matches!(machine.provision, Node::NotADevice(_)), "{:?}", machine.provision);
    assert_eq!(machine.legacy, ["/dev/isgx"]);
}

#[test]
fn the_kernel_says_what_it_lets_be_used() {
    let root = Root::new();
    root.file("/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
    root.file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sgx_lc_not sgx vme\n");
    fs::create_dir_all(root.path("/sys/module/isgx")).unwrap();
    let kernel = root.look(&nobody()).kernel;
    assert_eq!((kernel.sgx, kernel.flc), (Some(true), Some(false)));
    assert_eq!(kernel.version(), Some((5, 10)));
    assert!(kernel.is_too_old());
    assert_eq!(kernel.legacy_module, Some("isgx"));
    root.file("/proc/sys/kernel/osrelease", "6.8.0-41-generic");
    assert!(!root.look(&nobody()).kernel.is_too_old());
    root.file("/proc/sys/kernel/osrelease", "six");
    assert_eq!(root.look(&nobody()).kernel.version(), None);
}

#[test]
fn the_quoting_service_is_there_while_it_listens() {
    let root = Root::new();
    root.file("/var/run/aesmd/aesm.socket", "");
    assert!(matches!(root.look(&nobody()).aesm, Aesm::NotASocket(_)));
    let path = root.path("/var/run/aesmd/aesm.socket");
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(root.look(&nobody()).aesm, Aesm::Answers);
    drop(listener);
    assert!(matches!(root.look(&nobody()).aesm, Aesm::Silent(_)));
}

#[test]
fn a_group_counts_from_the_next_log_in_on() {
    let root = Root::new();
    root.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n:::\nada:x:1000:1000::/home/ada:/bin/sh\n");
    root.file("/etc/group", "docker:x:999:bob,ada\nsgx:x:106:\nbroken\nsgx_prv:x:107:adam\n");
    let groups = |account: &Account| root.look(account).groups;
    assert_eq!(
        groups(&nobody()),
        [
            ("docker", Membership::AfterLogin),
            ("sgx", Membership::NotMember),
            ("sgx_prv", Membership::NotMember)
        ]
    );
    let member = Account { user: 1000, groups: vec![1000, 999, 107] };
    assert_eq!(
        groups(&member),
        [("docker", Membership::Member), ("sgx", Membership::NotMember), ("sgx_prv", Membership::Member)]
    );
    assert_eq!(root.look(&member).user_name.as_deref(), Some("ada"));
}

#[test]
fn only_a_mark_of_success_makes_the_clock_right() {
    let root = Root::new();
    root.file("/run/chrony/chronyd.pid", "1");
    assert_eq!(root.look(&nobody()).clock, Clock::Kept("chronyd"));
    root.file("/run/systemd/timesync/synchronized", "");
    assert_eq!(root.look(&nobody()).clock, Clock::Synchronised("systemd-timesyncd"));
}

#[test]
fn a_directory_or_a_pipe_where_a_file_should_be_is_unknown_and_holds_nobody_up() {
    let root = Root::new();
    fs::create_dir_all(root.path("/proc/cpuinfo")).unwrap();
    let pipe = root.path("/etc/group");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let machine = root.look(&nobody());
    assert_eq!(machine.kernel.sgx, None);
    assert_eq!(machine.groups[0].1, Membership::NoSuchGroup);
}

#[test]
fn what_lives_in_memory_is_told_from_what_does_not() {
    assert_eq!(memory_backed(Path::new("/nowhere")), None);
    assert_eq!(memory_backed(Path::new("/proc")), None);
    let shared = fs::read_to_string("/proc/mounts").unwrap();
    if shared.lines().any(|mount| mount.contains(" /dev/shm tmpfs ")) {
        assert!(memory_backed(Path::new("/dev/shm")).is_some());
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_file_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let root = Root::new();
        for path in ["/proc/cpuinfo", "/proc/sys/kernel/osrelease", "/etc/passwd", "/etc/group"] {
            root.file(path, &bytes);
        }
        let machine = root.look(&nobody());
        prop_assert_eq!(machine.groups.len(), 3);
        prop_assert!(machine.kernel.version().is_none() || machine.kernel.release.len() > 2);
    }
}
