//! Where everything lies in an enclave.
//!
//! Addresses are given out downwards from the enclave's end, each area directly below the one before:
//!
//! | area | size | pages |
//! |---|---|---|
//! | manifest | its bytes and one NUL | REG R |
//! | ssa | 2 frames of 4 pages per thread | REG RW |
//! | tcs, tls | 1 page each per thread | TCS; REG RW |
//! | stack, sig_stack | 256 KiB and 64 KiB per thread, thread 0 highest | REG RW |
//! | libpal | its segments; holes between them stay empty | REG, as the segments say |
//! | free | the rest, down to 0x10000; not measured, absent with EDMM | REG RWX |
//!
//! The enclave's base is 0, so addresses are also the offsets that SGX measures. Nothing here looks at page content.

use std::iter;
use std::ops::Range;

use crate::Error;
use crate::elf::{Image, Segment};
use crate::manifest::EnclaveSettings;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 0x1000;
/// No area starts below this address.
pub const LOWEST_ADDRESS: u64 = 0x10000;
/// Bytes of one SSA frame.
pub const SSA_FRAME_SIZE: u64 = 4 * PAGE_SIZE;
/// SSA frames of each thread.
pub const SSA_FRAMES: u64 = 2;
/// Bytes of each thread's stack.
pub const STACK_SIZE: u64 = 0x40000;
/// Bytes of each thread's signal stack.
pub const SIG_STACK_SIZE: u64 = 0x10000;

/// The page that `address` lies in.
pub const fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// The first page boundary not below `address`, which must be at most 2^64 - 4096.
pub const fn page_up(address: u64) -> u64 {
    page_down(address + (PAGE_SIZE - 1))
}

/// What may be done with a page: the low bits of SECINFO.FLAGS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// Nothing: what SECINFO says of a TCS.
    pub const NONE: Permissions = Permissions(0);
    /// Read.
    pub const R: Permissions = Permissions(1);
    /// Read and write.
    pub const RW: Permissions = Permissions(3);
    /// Read, write and execute.
    pub const RWX: Permissions = Permissions(7);

    /// From `p_flags` of a program header, whose bits stand the other way round.
    pub const fn from_elf(flags: u32) -> Permissions {
        Permissions((flags >> 2 & 1 | flags & 2 | (flags & 1) << 2) as u64)
    }

    /// Whether the pages may be executed.
    pub const fn executable(self) -> bool {
        self.0 & 4 != 0
    }
}

impl std::fmt::Display for Permissions {
    /// As in `R-X`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letter = |bit: u64, letter| if self.0 & bit != 0 { letter } else { '-' };
        write!(f, "{}{}{}", letter(1, 'R'), letter(2, 'W'), letter(4, 'X'))
    }
}

/// The type of a page in SECINFO.FLAGS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageType {
    /// A thread control structure.
    Tcs,
    /// An ordinary page.
    Reg,
}

impl std::fmt::Display for PageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PageType::Tcs => "TCS",
            PageType::Reg => "REG",
        })
    }
}

/// One line of the memory map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// `manifest`, `ssa`, `tcs`, `tls`, `stack`, `sig_stack`, `code`, `data` or `free`.
    pub name: &'static str,
    /// First address, and the first one behind.
    pub addresses: Range<u64>,
    /// The type of its pages.
    pub page_type: PageType,
    /// What may be done with them.
    pub permissions: Permissions,
    /// Whether their content enters MRENCLAVE (their addresses and permissions always do).
    pub measured: bool,
}

impl Area {
    /// SECINFO.FLAGS of the area's pages, as EADD measures them.
    pub fn secinfo_flags(&self) -> u64 {
        let page_type = match self.page_type {
            PageType::Tcs => 0x100,
            PageType::Reg => 0x200,
        };
        page_type | self.permissions.0
    }

    /// The number of its pages.
    pub fn pages(&self) -> u64 {
        (self.addresses.end - self.addresses.start) / PAGE_SIZE
    }

    fn reg(name: &'static str, addresses: Range<u64>, permissions: Permissions) -> Area {
        Area { name, addresses, page_type: PageType::Reg, permissions, measured: true }
    }
}

/// The addresses of all areas of one enclave.
///
/// Its size does not depend on the enclave's: the threads' areas are computed when asked for.
#[derive(Debug, Clone)]
pub struct Layout {
    /// SECS.SIZE in bytes.
    pub enclave_size: u64,
    /// Number of threads.
    pub threads: u64,
    /// Bytes of the manifest with its final NUL.
    pub manifest_size: u64,
    /// Start of the manifest.
    pub manifest: u64,
    /// Start of all threads' SSA frames.
    pub ssa: u64,
    /// Start of all threads' TCS pages.
    pub tcs: u64,
    /// Start of all threads' TLS pages.
    pub tls: u64,
    /// Lowest address of all stacks.
    pub stacks: u64,
    /// Lowest address of all signal stacks.
    pub sig_stacks: u64,
    /// Lowest address of the image.
    pub image: u64,
    /// What is added to the image's own addresses.
    load_bias: u64,
    /// OENTRY: where threads enter.
    pub entry: u64,
    segments: Vec<Segment>,
    free: Vec<Range<u64>>,
}

impl Layout {
    /// Lays out an enclave for a manifest of `manifest_len` bytes (without the NUL) and an image.
    ///
    /// # Errors
    /// [`Error::ManifestKey`] where `sgx.enclave_size` is no multiple of a page, [`Error::EnclaveTooSmall`], and
    /// [`Error::Elf`] for an image with fixed addresses that does not fit in between.
    pub fn new(settings: &EnclaveSettings, manifest_len: u64, image: &Image<'_>) -> Result<Layout, Error> {
        let enclave_size = settings.enclave_size;
        if !enclave_size.is_multiple_of(PAGE_SIZE) {
            return Err(Error::ManifestKey {
                key: "sgx.enclave_size".into(),
                expected: "a multiple of 4096 bytes".into(),
                found: format!("{enclave_size} bytes"),
            });
        }
        let threads = u64::from(settings.max_threads);
        let manifest_size = manifest_len + 1;
        let mut below = Downwards { enclave_size, lowest: enclave_size };
        let manifest = below.place("manifest", page_up(manifest_size))?;
        let ssa = below.place("ssa", threads * SSA_FRAMES * SSA_FRAME_SIZE)?;
        let tcs = below.place("tcs", threads * PAGE_SIZE)?;
        let tls = below.place("tls", threads * PAGE_SIZE)?;
        let stacks = below.place("stack", threads * STACK_SIZE)?;
        let sig_stacks = below.place("sig_stack", threads * SIG_STACK_SIZE)?;

        let (lowest, highest) = (image.lowest(), image.highest());
        let start = if lowest == 0 { below.place("libpal", highest)? } else { lowest };
        let end = start + (highest - lowest);
        if start < LOWEST_ADDRESS || end > sig_stacks {
            return Err(Error::Elf {
                header: "program headers, p_vaddr".into(),
                expected: format!(
                    "addresses from 0, or fixed ones between {LOWEST_ADDRESS:#x} and {sig_stacks:#x}"
                ),
                found: format!("{lowest:#x} to {highest:#x}"),
            });
        }
        // Of an image with fixed addresses Gramine's signer adds the start a second time.
        let entry = start.checked_add(image.entry).ok_or_else(|| Error::Elf {
            header: "ELF header, e_entry".into(),
            expected: "an address inside the enclave".into(),
            found: format!("{:#x}", image.entry),
        })?;
        let free = match settings.edmm_enable {
            true => Vec::new(),
            false => [end..sig_stacks, LOWEST_ADDRESS..start]
                .into_iter()
                .filter(|range| !range.is_empty())
                .collect(),
        };
        let load_bias = start - lowest;
        let segments = image.segments.clone();
        Ok(Layout {
            enclave_size,
            threads,
            manifest_size,
            manifest,
            ssa,
            tcs,
            tls,
            stacks,
            sig_stacks,
            image: start,
            load_bias,
            entry,
            segments,
            free,
        })
    }

    /// Start of thread `t`'s SSA frames.
    pub fn ssa_of(&self, t: u64) -> u64 {
        self.ssa + t * SSA_FRAMES * SSA_FRAME_SIZE
    }

    /// Thread `t`'s TCS page.
    pub fn tcs_of(&self, t: u64) -> u64 {
        self.tcs + t * PAGE_SIZE
    }

    /// Thread `t`'s TLS page.
    pub fn tls_of(&self, t: u64) -> u64 {
        self.tls + t * PAGE_SIZE
    }

    /// Lowest address of thread `t`'s stack.
    pub fn stack_of(&self, t: u64) -> u64 {
        self.stacks + (self.threads - 1 - t) * STACK_SIZE
    }

    /// Lowest address of thread `t`'s signal stack.
    pub fn sig_stack_of(&self, t: u64) -> u64 {
        self.sig_stacks + (self.threads - 1 - t) * SIG_STACK_SIZE
    }

    /// The manifest's area.
    pub fn manifest_area(&self) -> Area {
        Area::reg("manifest", self.manifest..self.enclave_size, Permissions::R)
    }

    /// The SSA frames of all threads.
    pub fn ssa_area(&self) -> Area {
        Area::reg("ssa", self.ssa..self.manifest, Permissions::RW)
    }

    /// The TCS pages of all threads.
    pub fn tcs_area(&self) -> Area {
        Area { page_type: PageType::Tcs, ..Area::reg("tcs", self.tcs..self.ssa, Permissions::NONE) }
    }

    /// The TLS pages of all threads.
    pub fn tls_area(&self) -> Area {
        Area::reg("tls", self.tls..self.tcs, Permissions::RW)
    }

    /// The stacks, thread 0 first.
    pub fn stack_areas(&self) -> impl Iterator<Item = Area> + '_ {
        (0..self.threads)
            .map(|t| self.stack_of(t))
            .map(|start| Area::reg("stack", start..start + STACK_SIZE, Permissions::RW))
    }

    /// The signal stacks, thread 0 first.
    pub fn sig_stack_areas(&self) -> impl Iterator<Item = Area> + '_ {
        let starts = (0..self.threads).map(|t| self.sig_stack_of(t));
        starts.map(|start| Area::reg("sig_stack", start..start + SIG_STACK_SIZE, Permissions::RW))
    }

    /// The image's segments with their areas, in header order.
    pub fn segment_areas(&self) -> impl Iterator<Item = (&Segment, Area)> {
        self.segments.iter().map(|segment| {
            let name = if segment.permissions.executable() { "code" } else { "data" };
            let (start, end) = segment.pages();
            // Overflows nowhere: the whole image lies inside the enclave.
            (segment, Area::reg(name, start + self.load_bias..end + self.load_bias, segment.permissions))
        })
    }

    /// The free ranges: added to the enclave, but not measured.
    pub fn free_areas(&self) -> impl Iterator<Item = Area> + '_ {
        self.free
            .iter()
            .map(|range| Area { measured: false, ..Area::reg("free", range.clone(), Permissions::RWX) })
    }

    /// All areas that have pages, in the order in which the loader adds them.
    pub fn memory_map(&self) -> impl Iterator<Item = Area> + '_ {
        iter::once(self.manifest_area())
            .chain([self.ssa_area(), self.tcs_area(), self.tls_area()])
            .chain(self.stack_areas())
            .chain(self.sig_stack_areas())
            .chain(self.segment_areas().map(|(_, area)| area))
            .chain(self.free_areas())
            .filter(|area| !area.addresses.is_empty())
    }

    /// How many pages the loader adds, and how many of these it measures.
    pub fn page_counts(&self) -> PageCounts {
        let threads = [self.manifest_area(), self.ssa_area(), self.tcs_area(), self.tls_area()];
        let stacks = (self.tls - self.sig_stacks) / PAGE_SIZE;
        let segments = self.segment_areas().map(|(_, area)| area.pages());
        let measured = threads.iter().map(Area::pages).chain(segments).fold(stacks, u64::saturating_add);
        let free = self.free_areas().map(|area| area.pages()).sum();
        PageCounts { added: measured.saturating_add(free), measured }
    }
}

/// Numbers of pages of an enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCounts {
    /// All that are added (EADD).
    pub added: u64,
    /// Those whose content is measured too (EEXTEND).
    pub measured: u64,
}

/// Gives out addresses from the enclave's end downwards.
struct Downwards {
    enclave_size: u64,
    lowest: u64,
}

impl Downwards {
    fn place(&mut self, area: &'static str, size: u64) -> Result<u64, Error> {
        match self.lowest.checked_sub(size) {
            Some(start) if start >= LOWEST_ADDRESS => {
                self.lowest = start;
                Ok(start)
            }
            _ => {
                Err(Error::EnclaveTooSmall { area, enclave_size: self.enclave_size, lowest: LOWEST_ADDRESS })
            }
        }
    }
}
