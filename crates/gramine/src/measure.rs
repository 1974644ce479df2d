//! MRENCLAVE: SHA-256 over a record of every page, in the order in which the loader adds them.
//!
//! The records are those of the instructions ECREATE, EADD and EEXTEND (Intel SDM, volume 3D), 64 bytes each:
//!
//! ```text
//! "ECREATE\0" | u32 SSA frame size in pages | u64 enclave size | 44 zero bytes            once
//! "EADD\0\0\0\0" | u64 page address | u64 SECINFO.FLAGS | 40 zero bytes                   per page
//! "EEXTEND\0" | u64 address of the chunk | 48 zero bytes, then the chunk's 256 bytes      16 per measured page
//! ```
//!
//! Pages are made one at a time and forgotten once hashed, so memory does not grow with the enclave. Zero pages, which
//! are most, reuse one buffer in which only addresses change.

use ring::digest;

use crate::Error;
use crate::elf::{Content, Image};
use crate::layout::{
    Area, LOWEST_ADDRESS, Layout, PAGE_SIZE, PageCounts, SIG_STACK_SIZE, SSA_FRAME_SIZE, SSA_FRAMES,
    STACK_SIZE,
};
use crate::manifest::EnclaveSettings;

/// The most bytes that are hashed for one enclave: 64 GiB, three times what 1024G without EDMM takes.
pub const MAX_MEASURED: u64 = 64 << 30;

const PAGE: usize = PAGE_SIZE as usize;
const RECORD: usize = 64;
const CHUNK: usize = 256;
const CHUNKS: usize = PAGE / CHUNK;
/// A measured page in the stream: its EADD record, and each chunk behind its EEXTEND record.
const PAGE_RECORDS: usize = RECORD + CHUNKS * (RECORD + CHUNK);
/// How many EADD records of unmeasured pages are hashed at once: they should stay in the processor's nearest cache.
const BATCH: usize = 128;

/// Bytes of the register area at the end of an SSA frame.
const GPR_SIZE: u64 = 0xb8;
const STACK_CANARY: u64 = 0xbadb_adba_dbad;

/// What a measurement found.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// The settings that the manifest asks for.
    pub settings: EnclaveSettings,
    /// Where everything lies.
    pub layout: Layout,
}

/// How far a measurement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// ECREATE.
    Created,
    /// The manifest's pages.
    Manifest,
    /// The SSA frames of all threads.
    Ssa,
    /// The TCS pages of all threads.
    Tcs,
    /// The TLS pages of all threads.
    Tls,
    /// The stacks of all threads.
    Stacks,
    /// The signal stacks of all threads.
    SigStacks,
    /// One segment of the image.
    Segment {
        /// Its `p_vaddr`.
        address: u64,
    },
    /// The free ranges: the end.
    Free,
}

/// The MRENCLAVE of the enclave that Gramine's loader builds from these two files.
///
/// # Errors
/// Those of [`measure`].
pub fn mrenclave(manifest: &[u8], libpal: &[u8]) -> Result<[u8; 32], Error> {
    measure(manifest, libpal).map(|measurement| measurement.mrenclave)
}

/// As [`mrenclave`], and says what the enclave looks like.
///
/// # Errors
/// [`Error::ManifestSyntax`] and [`Error::ManifestKey`] name the place in the manifest, [`Error::Elf`] the header of
/// libpal; [`Error::EnclaveTooSmall`]; [`Error::TooLarge`] and [`Error::TooMuchToMeasure`] for inputs that no real
/// enclave has.
pub fn measure(manifest: &[u8], libpal: &[u8]) -> Result<Measurement, Error> {
    measure_in_stages(manifest, libpal, |_, _| {})
}

/// As [`measure`], and shows the SHA-256 of the stream so far after every stage, to find where two measurements part.
///
/// # Errors
/// Those of [`measure`].
pub fn measure_in_stages(
    manifest: &[u8],
    libpal: &[u8],
    mut observe: impl FnMut(Stage, [u8; 32]),
) -> Result<Measurement, Error> {
    let settings = EnclaveSettings::parse(manifest)?;
    let image = Image::parse(libpal)?;
    let layout = Layout::new(&settings, manifest.len() as u64, &image)?;
    check_amount(layout.page_counts())?;

    let mut stream = Stream::create(layout.enclave_size);
    observe(Stage::Created, stream.digest());
    stream.pages(&layout.manifest_area(), |index, page| manifest_page(manifest, index, page));
    observe(Stage::Manifest, stream.digest());
    stream.zeros(&layout.ssa_area());
    observe(Stage::Ssa, stream.digest());
    stream.pages(&layout.tcs_area(), |thread, page| tcs_page(&layout, thread, page));
    observe(Stage::Tcs, stream.digest());
    stream.pages(&layout.tls_area(), |thread, page| tls_page(&layout, thread, page));
    observe(Stage::Tls, stream.digest());
    layout.stack_areas().for_each(|area| stream.zeros(&area));
    observe(Stage::Stacks, stream.digest());
    layout.sig_stack_areas().for_each(|area| stream.zeros(&area));
    observe(Stage::SigStacks, stream.digest());
    for (segment, area) in layout.segment_areas() {
        let first = segment.pages().0;
        stream.pages(&area, |index, page| image.read_page(segment, first + index * PAGE_SIZE, page));
        observe(Stage::Segment { address: segment.address }, stream.digest());
    }
    layout.free_areas().for_each(|area| stream.unmeasured(&area));
    let mrenclave = stream.digest();
    observe(Stage::Free, mrenclave);
    Ok(Measurement { mrenclave, settings, layout })
}

/// How many bytes are hashed to measure an enclave with so many pages.
pub fn measured_bytes(pages: PageCounts) -> u64 {
    let free = (pages.added - pages.measured).saturating_mul(RECORD as u64);
    pages.measured.saturating_mul(PAGE_RECORDS as u64).saturating_add(free).saturating_add(RECORD as u64)
}

fn check_amount(pages: PageCounts) -> Result<(), Error> {
    match measured_bytes(pages) {
        found if found > MAX_MEASURED => Err(Error::TooMuchToMeasure { limit: MAX_MEASURED, found }),
        _ => Ok(()),
    }
}

/// Page `index` of the manifest and its final NUL.
fn manifest_page(manifest: &[u8], index: u64, page: &mut [u8; PAGE]) -> Content {
    let rest = manifest.get(index as usize * PAGE..).unwrap_or_default();
    let here = rest.len().min(PAGE);
    page.fill(0);
    page[..here].copy_from_slice(&rest[..here]);
    Content::Bytes
}

/// The thread control structure of `thread`.
fn tcs_page(layout: &Layout, thread: u64, page: &mut [u8; PAGE]) -> Content {
    page.fill(0);
    put(page, 0x10, layout.ssa_of(thread)); // OSSA
    put(page, 0x18, SSA_FRAMES << 32); // CSSA = 0, NSSA
    put(page, 0x20, layout.entry); // OENTRY
    put(page, 0x38, layout.tls_of(thread)); // OGSBASE
    put(page, 0x40, 0xfff_0000_0fff); // FSLIMIT, GSLIMIT
    Content::Bytes
}

/// The page that Gramine finds at the start of the GS segment of `thread`.
fn tls_page(layout: &Layout, thread: u64, page: &mut [u8; PAGE]) -> Content {
    let ssa = layout.ssa_of(thread);
    let sig_stack = layout.sig_stack_of(thread);
    page.fill(0);
    put(page, 0x000, layout.tls_of(thread)); // its own address
    put(page, 0x008, STACK_CANARY);
    put(page, 0x110, layout.enclave_size);
    put(page, 0x118, layout.tcs_of(thread));
    put(page, 0x120, layout.stack_of(thread) + STACK_SIZE);
    put(page, 0x130, sig_stack);
    put(page, 0x138, sig_stack + SIG_STACK_SIZE);
    put(page, 0x148, ssa);
    put(page, 0x150, ssa + SSA_FRAME_SIZE - GPR_SIZE);
    put(page, 0x1a0, layout.manifest_size);
    put(page, 0x1a8, LOWEST_ADDRESS); // of the heap
    put(page, 0x1b0, layout.image); // end of the heap
    Content::Bytes
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// The stream of records, hashed as it is made.
struct Stream {
    sha256: digest::Context,
    /// Records of a zero page; only addresses and flags change.
    zero: Box<[u8; PAGE_RECORDS]>,
    /// Records of a page with content.
    filled: Box<[u8; PAGE_RECORDS]>,
    /// EADD records of pages that are not measured.
    batch: Box<[u8; BATCH * RECORD]>,
}

impl Stream {
    fn create(enclave_size: u64) -> Stream {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(b"ECREATE\0");
        record[8..12].copy_from_slice(&((SSA_FRAME_SIZE / PAGE_SIZE) as u32).to_le_bytes());
        put(&mut record, 12, enclave_size);
        let mut sha256 = digest::Context::new(&digest::SHA256);
        sha256.update(&record);

        let mut page = Box::new([0; PAGE_RECORDS]);
        page[..4].copy_from_slice(b"EADD");
        for chunk in page[RECORD..].chunks_exact_mut(RECORD + CHUNK) {
            chunk[..7].copy_from_slice(b"EEXTEND");
        }
        let mut batch = Box::new([0; BATCH * RECORD]);
        for record in batch.chunks_exact_mut(RECORD) {
            record[..4].copy_from_slice(b"EADD");
        }
        Stream { sha256, zero: page.clone(), filled: page, batch }
    }

    /// SHA-256 of the stream so far.
    fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.sha256.clone().finish().as_ref());
        digest
    }

    /// Adds and measures pages whose content `fill` gives, by their index in the area.
    fn pages(&mut self, area: &Area, mut fill: impl FnMut(u64, &mut [u8; PAGE]) -> Content) {
        let flags = area.secinfo_flags();
        let mut page = [0; PAGE];
        for index in 0..area.pages() {
            let records = match fill(index, &mut page) {
                Content::Zero => &mut self.zero,
                Content::Bytes => {
                    let chunks = self.filled[RECORD..].chunks_exact_mut(RECORD + CHUNK);
                    for (record, chunk) in chunks.zip(page.chunks_exact(CHUNK)) {
                        record[RECORD..].copy_from_slice(chunk);
                    }
                    &mut self.filled
                }
            };
            set_addresses(records, area.addresses.start + index * PAGE_SIZE, flags);
            self.sha256.update(&records[..]);
        }
    }

    /// Adds and measures pages of zeros.
    fn zeros(&mut self, area: &Area) {
        self.pages(area, |_, _| Content::Zero);
    }

    /// Adds pages without measuring their content.
    fn unmeasured(&mut self, area: &Area) {
        let mut addresses = area.addresses.clone().step_by(PAGE);
        let flags = area.secinfo_flags();
        loop {
            let mut filled = 0;
            for (record, address) in self.batch.chunks_exact_mut(RECORD).zip(&mut addresses) {
                put(record, 8, address);
                put(record, 16, flags);
                filled += RECORD;
            }
            if filled == 0 {
                return;
            }
            self.sha256.update(&self.batch[..filled]);
        }
    }
}

fn set_addresses(records: &mut [u8; PAGE_RECORDS], address: u64, flags: u64) {
    put(records, 8, address);
    put(records, 16, flags);
    for chunk in 0..CHUNKS {
        put(records, RECORD + chunk * (RECORD + CHUNK) + 8, address + (chunk * CHUNK) as u64);
    }
}
