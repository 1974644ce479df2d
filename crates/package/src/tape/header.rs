//! One 512-byte header. Formats: POSIX.1-1988 (ustar), GNU tar, and Unix V7, which has no magic.
//!
//! Only what all readers read alike is taken. They differ in which headers they take a prefix of the name from (Go by
//! magic alone, GNU tar and Rust by magic and version, Python from any), in what numbers look like, and in what types
//! there are.

use std::ops::Range;

/// What was expected, and what was found.
pub(super) type Refusal = (&'static str, String);

#[derive(Debug)]
pub(super) struct Header {
    /// The whole name, prefix included.
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) link: Vec<u8>,
}

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
/// What ustar leaves empty; star keeps its own magic there, and a shorter prefix.
const TAIL: Range<usize> = 500..512;

pub(super) fn parse(block: &[u8; 512]) -> Result<Header, Refusal> {
    let sum: u64 = (block.iter().enumerate())
        .map(|(i, &b)| if CHECKSUM.contains(&i) { u64::from(b' ') } else { u64::from(b) })
        .sum();
    if octal(&block[CHECKSUM]).is_none_or(|stated| stated.unwrap_or(0) != sum) {
        return Err(("a tar header with its checksum", "something else".into()));
    }
    let prefix = match &block[MAGIC] {
        b"ustar\x0000" => {
            let prefix = text(&block[PREFIX]);
            let after = PREFIX.start + prefix.len()..TAIL.end;
            if block[after].iter().any(|&b| b != 0) {
                return Err(("nothing behind a header's prefix", "more bytes, which star would read".into()));
            }
            prefix
        }
        b"ustar  \0" if block[PREFIX.start..].iter().any(|&b| b != 0) => {
            return Err((
                "a GNU header without the fields of dumps",
                "some, which others read as a prefix".into(),
            ));
        }
        b"ustar  \0" => &[],
        magic if magic.iter().all(|&b| b == 0) => {
            // GNU tar writes numbers of devices even there, which nobody reads.
            if block[PREFIX.start..].iter().any(|&b| b != 0) {
                return Err((
                    "nothing in the place of a prefix in a V7 header",
                    "more bytes, which others read as a prefix".into(),
                ));
            }
            &[]
        }
        magic => {
            let found = format!("{:?}", magic.escape_ascii().to_string());
            return Err(("the magic and version of POSIX or GNU in a header", found));
        }
    };
    let name = match prefix {
        [] => text(&block[NAME]).to_vec(),
        prefix => [prefix, b"/", text(&block[NAME])].concat(),
    };
    let size = number(&block[SIZE]).ok_or_else(|| {
        (
            "a size in the header, in octal or base 256",
            format!("{:?}", block[SIZE].escape_ascii().to_string()),
        )
    })?;
    let mode = octal(&block[MODE])
        .ok_or_else(|| ("a mode in octal", format!("{:?}", block[MODE].escape_ascii().to_string())))?
        .unwrap_or(0);
    let mode = (mode & 0o7777) as u32;
    Ok(Header { name, kind: block[KIND], size, mode, link: text(&block[LINK]).to_vec() })
}

/// A field of text ends in NUL, if it does not fill its place.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

/// Leading spaces, octal digits, and then only spaces and NULs: `None` for anything else, `Some(None)` for no digits.
/// Readers differ in where they stop and in what they pass over.
fn octal(field: &[u8]) -> Option<Option<u64>> {
    let start = field.iter().position(|&b| b != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(|b| !matches!(b, b'0'..=b'7')).unwrap_or(digits.len())];
    let rest = &field[start + digits.len()..];
    if rest.iter().any(|&b| b != 0 && b != b' ') {
        return None;
    }
    // Twelve digits at the most: no overflow.
    let value = digits.iter().fold(0, |value, &digit| value * 8 + u64::from(digit - b'0'));
    Some((!digits.is_empty()).then_some(value))
}

/// An octal number, or a positive one in base 256, which GNU writes from 8 GiB on.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, rest @ ..] => {
            let value =
                rest.iter().try_fold(0u64, |value, &b| Some(value.checked_mul(256)? + u64::from(b)))?;
            (value <= i64::MAX as u64).then_some(value)
        }
        _ => octal(field)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_forms_that_all_readers_know() {
        for (field, value) in [
            (&b"00000000144\0"[..], 100),
            (b"        144 ", 100),
            (b"144 \0\0\0\0\0\0\0\0", 100),
            (b"777777777777", (1 << 36) - 1),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 1 << 33),
        ] {
            assert_eq!(number(field), Some(value), "{}", field.escape_ascii());
        }
        for field in [
            &b"\0\0\0\0\0\0\0\0\0\0\0\0"[..],
            b"            ",
            b"\0\0\x000000144",
            b"144\x00144\0\0\0\0\0",
            b"144 144\0\0\0\0\0",
            b"1_44\0\0\0\0\0\0\0\0",
            b"0o144\0\0\0\0\0\0\0",
            b"+144\0\0\0\0\0\0\0\0",
            b"-144\0\0\0\0\0\0\0\0",
            b"00000000188\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\0\0\0\0\0\0\0\0\0\0\x01",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(number(field), None, "{}", field.escape_ascii());
        }
    }
}
