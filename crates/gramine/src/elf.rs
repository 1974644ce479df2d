//! Reading the `PT_LOAD` program headers of `libpal.so`: all that an enclave takes of it.
//!
//! Format: System V ABI (generic), chapters 4 and 5, and its x86-64 supplement; only 64-bit little-endian x86-64
//! images. Section headers, symbols and relocations are never looked at: the image is measured as it lies in the file.
//!
//! The file is hostile input. What the ELF specification forbids is refused here, with the header at fault; what only
//! Gramine's loader forbids is left to [`crate::loader`].

use crate::Error;
use crate::layout::{PAGE_SIZE, Permissions, page_down, page_up};

/// The largest image that is read: 256 MiB.
pub const MAX_SIZE: u64 = 256 << 20;

/// The most `PT_LOAD` program headers. The loader reads 16; each may cover the whole file, so that measuring takes as many
/// times its size.
pub const MAX_SEGMENTS: usize = 64;

const FILE_HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const PT_LOAD: u32 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
/// `e_phnum` where the real number stands elsewhere: more headers than any image of this kind has.
const PN_XNUM: u16 = 0xffff;

/// An image to be measured: where its loadable segments lie in the file and in memory.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    file: &'a [u8],
    /// `e_entry`.
    pub entry: u64,
    /// The `PT_LOAD` segments, in header order; at least one.
    pub segments: Vec<Segment>,
}

/// One `PT_LOAD` program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The header's place in the program header table, from 0.
    pub index: u16,
    /// `p_offset`: where its bytes start in the file.
    pub offset: u64,
    /// `p_vaddr`: where they start in the image.
    pub address: u64,
    /// `p_filesz`: bytes from the file.
    pub file_size: u64,
    /// `p_memsz`: bytes in memory, zero after the file's.
    pub memory_size: u64,
    /// `p_flags`.
    pub permissions: Permissions,
}

impl<'a> Image<'a> {
    /// Reads the headers of `file`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Elf`] with the header at fault.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, Error> {
        let found = file.len() as u64;
        if found > MAX_SIZE {
            return Err(Error::TooLarge { what: "libpal", limit: MAX_SIZE, found });
        }
        let header = file.get(..FILE_HEADER_SIZE).ok_or_else(|| {
            file_header("size", format!("at least {FILE_HEADER_SIZE} bytes"), format!("{found} bytes"))
        })?;
        check_identity(header)?;
        let mut image = Image { file, entry: u64_at(header, 24), segments: Vec::new() };
        for (index, header) in program_headers(file, header)? {
            if u32_at(header, 0) == PT_LOAD {
                if image.segments.len() == MAX_SEGMENTS {
                    let expected = format!("at most {MAX_SEGMENTS} PT_LOAD program headers");
                    return Err(file_header("e_phnum", expected, "more"));
                }
                image.segments.push(Segment::parse(index, header, found)?);
            }
        }
        if image.segments.is_empty() {
            return Err(file_header("e_phnum", "at least one PT_LOAD program header", "none"));
        }
        Ok(image)
    }

    /// The lowest page address of any segment.
    pub fn lowest(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pages().0).min().unwrap_or(0)
    }

    /// The end of the highest page of any segment.
    pub fn highest(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pages().1).max().unwrap_or(0)
    }

    /// Fills `page` with the content of the page at `address` of `segment`, or says that all of it is zero.
    ///
    /// Only bytes of the segment itself come from the file: what shares a page with it in the file is zeroed.
    pub fn read_page(&self, segment: &Segment, address: u64, page: &mut [u8; PAGE_SIZE as usize]) -> Content {
        if segment.file_size == 0 {
            // Without bytes the offset means nothing: nobody checked it.
            return Content::Zero;
        }
        let in_file = page_down(segment.offset) + (address - segment.pages().0);
        let start = in_file.max(segment.offset);
        let end = (in_file + PAGE_SIZE).min(segment.offset + segment.file_size);
        if start >= end {
            return Content::Zero;
        }
        page.fill(0);
        // In range: parsing checked that the segment's bytes lie in the file.
        page[(start - in_file) as usize..(end - in_file) as usize]
            .copy_from_slice(&self.file[start as usize..end as usize]);
        Content::Bytes
    }
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Bytes, of which some may be zero.
    Bytes,
    /// Only zeros.
    Zero,
}

impl Segment {
    fn parse(index: u16, header: &[u8], file_size: u64) -> Result<Segment, Error> {
        let segment = Segment {
            index,
            permissions: Permissions::from_elf(u32_at(header, 4)),
            offset: u64_at(header, 8),
            address: u64_at(header, 16),
            file_size: u64_at(header, 32),
            memory_size: u64_at(header, 40),
        };
        let wrong = |field, expected: String, found: String| {
            Err(Error::Elf { header: format!("program header {index}, {field}"), expected, found })
        };
        if segment.file_size > segment.memory_size {
            let expected = format!("at most p_memsz, {:#x}", segment.memory_size);
            return wrong("p_filesz", expected, format!("{:#x}", segment.file_size));
        }
        let end_in_file = segment.offset.checked_add(segment.file_size);
        if segment.file_size > 0 && end_in_file.is_none_or(|end| end > file_size) {
            let expected = format!("bytes inside the file of {file_size:#x}");
            let found = format!("{:#x} bytes from {:#x}", segment.file_size, segment.offset);
            return wrong("p_offset and p_filesz", expected, found);
        }
        let end = segment.address.checked_add(segment.memory_size).and_then(|end| end.checked_add(PAGE_SIZE));
        if end.is_none() {
            let found = format!("{:#x} bytes from {:#x}", segment.memory_size, segment.address);
            return wrong("p_vaddr and p_memsz", "an end below 2^64".into(), found);
        }
        Ok(segment)
    }

    /// Start and end of the pages that the segment touches.
    pub fn pages(&self) -> (u64, u64) {
        (page_down(self.address), page_up(self.address + self.memory_size))
    }
}

/// Checks that this is an ELF file of the right kind.
fn check_identity(header: &[u8]) -> Result<(), Error> {
    if !header.starts_with(b"\x7fELF") {
        return Err(file_header("e_ident", "7f 45 4c 46", format!("{:02x?}", &header[..4])));
    }
    for (offset, name, expected, value) in [
        (4, "e_ident[EI_CLASS]", "2 (64-bit)", 2),
        (5, "e_ident[EI_DATA]", "1 (little-endian)", 1),
        (6, "e_ident[EI_VERSION]", "1", 1),
    ] {
        if header[offset] != value {
            return Err(file_header(name, expected, header[offset].to_string()));
        }
    }
    let kind = u16_at(header, 16);
    if kind != ET_DYN && kind != ET_EXEC {
        return Err(file_header("e_type", "3 (shared object) or 2 (executable)", kind.to_string()));
    }
    let machine = u16_at(header, 18);
    if machine != EM_X86_64 {
        return Err(file_header("e_machine", "62 (x86-64)", machine.to_string()));
    }
    Ok(())
}

/// The program headers, each with its index.
fn program_headers<'a>(
    file: &'a [u8],
    header: &[u8],
) -> Result<impl Iterator<Item = (u16, &'a [u8])>, Error> {
    let (offset, entry_size, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
    if usize::from(entry_size) != PROGRAM_HEADER_SIZE {
        return Err(file_header("e_phentsize", PROGRAM_HEADER_SIZE.to_string(), entry_size.to_string()));
    }
    if count == 0 || count == PN_XNUM {
        return Err(file_header("e_phnum", "1 to 65534", count.to_string()));
    }
    let size = usize::from(count) * PROGRAM_HEADER_SIZE;
    let table =
        usize::try_from(offset).ok().and_then(|offset| file.get(offset..)?.get(..size)).ok_or_else(|| {
            let expected = format!("{count} program headers inside the file of {:#x} bytes", file.len());
            file_header("e_phoff", expected, format!("{offset:#x}"))
        })?;
    Ok((0..count).zip(table.chunks_exact(PROGRAM_HEADER_SIZE)))
}

fn file_header(field: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Elf { header: format!("ELF header, {field}"), expected: expected.into(), found: found.into() }
}

/// The integer at `offset` of a header whose size was checked.
fn integer<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[offset..offset + N]);
    bytes
}

fn u16_at(header: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(integer(header, offset))
}

fn u32_at(header: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(integer(header, offset))
}

fn u64_at(header: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(integer(header, offset))
}
