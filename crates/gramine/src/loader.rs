//! What Gramine's loader demands beyond what its signer does: whether a measured enclave would also start.
//!
//! The signer measures, and [`crate::measure`] with it, some enclaves that no machine will load. Who makes a manifest
//! for real use asks [`check`] as well.

use crate::Error;
use crate::elf::{Image, Segment};
use crate::layout::{Layout, PAGE_SIZE, page_down};
use crate::manifest::{Manifest, parse_toml};
use crate::toml_tree::Section;

/// The most threads that the loader makes.
pub const MAX_THREADS: u32 = 4096;
/// The most `PT_LOAD` headers that the loader reads.
pub const MAX_SEGMENTS: usize = 16;

/// Checks a manifest and an image against the loader's rules.
///
/// # Errors
/// [`Error::ManifestKey`] or [`Error::Elf`] with the key or header at fault; the errors of [`Manifest::parse`],
/// [`Image::parse`] and [`Layout::new`].
pub fn check(manifest: &[u8], libpal: &[u8]) -> Result<(), Error> {
    let tree = parse_toml(manifest)?;
    let root = Section::root(&tree);
    let settings = Manifest::check(&root)?;
    let sgx = root.section("sgx")?;
    let size = sgx.text("enclave_size")?.unwrap_or("256M");
    let digits = size.strip_suffix(['K', 'M', 'G', 'k', 'm', 'g']).unwrap_or(size);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(sgx.wrong(
            "enclave_size",
            "decimal digits, then K, M or G or nothing",
            format!("{size:?}"),
        ));
    }
    if !settings.enclave_size.is_power_of_two() {
        return Err(sgx.wrong("enclave_size", "a power of two", format!("{size:?}")));
    }
    if !(1..=MAX_THREADS).contains(&settings.max_threads) {
        return Err(sgx.wrong("max_threads", format!("1 to {MAX_THREADS}"), settings.max_threads));
    }
    for (section, key) in
        [(root.section("libos")?, "entrypoint"), (root.section("loader")?.section("entrypoint")?, "uri")]
    {
        if section.text(key)?.is_none() {
            return Err(section.wrong(key, "a string", "nothing"));
        }
    }
    let image = Image::parse(libpal)?;
    check_image(&image)?;
    Layout::new(&settings, manifest.len() as u64, &image).map(|_| ())
}

fn check_image(image: &Image<'_>) -> Result<(), Error> {
    if image.segments.len() > MAX_SEGMENTS {
        return Err(Error::Elf {
            header: "ELF header, e_phnum".into(),
            expected: format!("at most {MAX_SEGMENTS} PT_LOAD program headers"),
            found: image.segments.len().to_string(),
        });
    }
    let wrong = |segment: &Segment, field: &str, expected: String| Error::Elf {
        header: format!("program header {}, {field}", segment.index),
        expected,
        found: format!("{:#x}", segment.address),
    };
    let mut end = 0;
    for (position, segment) in image.segments.iter().enumerate() {
        if position == 0 && page_down(segment.address) != 0 {
            return Err(wrong(segment, "p_vaddr", "an image that starts at address 0".into()));
        }
        let (start, next_end) = segment.pages();
        if start < end {
            return Err(wrong(
                segment,
                "p_vaddr",
                format!("a page of its own behind the segment before, from {end:#x}"),
            ));
        }
        if segment.file_size > 0 && segment.address % PAGE_SIZE != segment.offset % PAGE_SIZE {
            let expected = format!("the same place in a page as p_offset, {:#x}", segment.offset);
            return Err(wrong(segment, "p_vaddr", expected));
        }
        end = next_end;
    }
    Ok(())
}
