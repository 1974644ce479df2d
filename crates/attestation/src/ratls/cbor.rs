//! A strict reader of CBOR (RFC 8949): definite lengths and shortest form only, every byte accounted for.
//!
//! The claims are hashed as carried, so a lenient reader would let two different byte strings mean the same claims. This one
//! refuses what deterministic encoding (RFC 8949, 4.2.1) refuses, except that the order of map keys is free: other
//! implementations write them in the order of their tables. Nothing it reads is trusted.

use crate::Error;

/// How deep arrays, maps and tags of foreign claims may nest.
const MAX_DEPTH: u32 = 8;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Fails unless every byte was read.
    pub(super) fn finish(self, what: &str) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(malformed(format!("nothing after {what}"), format!("{extra} more bytes"))),
        }
    }

    pub(super) fn unsigned(&mut self, what: &str) -> Result<u64, Error> {
        self.expect(UNSIGNED, what, "an unsigned integer")
    }

    pub(super) fn bytes(&mut self, what: &str) -> Result<&'b [u8], Error> {
        let length = self.expect(BYTES, what, "a byte string")?;
        self.take(length, what)
    }

    pub(super) fn text(&mut self, what: &str) -> Result<&'b str, Error> {
        let length = self.expect(TEXT, what, "a text string")?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| malformed(format!("UTF-8 in {what}"), "other bytes"))
    }

    /// The number of elements of an array whose head comes next.
    pub(super) fn array(&mut self, what: &str) -> Result<u64, Error> {
        self.expect(ARRAY, what, "an array")
    }

    /// The number of pairs of a map whose head comes next.
    pub(super) fn map(&mut self, what: &str) -> Result<u64, Error> {
        self.expect(MAP, what, "a map")
    }

    pub(super) fn tag(&mut self, what: &str) -> Result<u64, Error> {
        self.expect(TAG, what, "a tag")
    }

    /// Steps over one well-formed item of any kind.
    pub(super) fn skip(&mut self, what: &str) -> Result<(), Error> {
        self.skip_nested(what, MAX_DEPTH)
    }

    fn skip_nested(&mut self, what: &str, depth: u32) -> Result<(), Error> {
        if depth == 0 {
            return Err(malformed(format!("{what} nesting at most {MAX_DEPTH} deep"), "deeper nesting"));
        }
        let (major, argument) = self.head(what)?;
        let children = match major {
            BYTES => return self.take(argument, what).map(drop),
            TEXT => {
                let bytes = self.take(argument, what)?;
                return std::str::from_utf8(bytes)
                    .map(drop)
                    .map_err(|_| malformed(format!("UTF-8 in {what}"), "other bytes"));
            }
            ARRAY => argument,
            MAP => argument.saturating_mul(2),
            TAG => 1,
            _ => return Ok(()),
        };
        // Each child takes at least one byte, so the loop ends with the input at the latest.
        for _ in 0..children {
            self.skip_nested(what, depth - 1)?;
        }
        Ok(())
    }

    fn expect(&mut self, major: u8, what: &str, kind: &str) -> Result<u64, Error> {
        match self.head(what)? {
            (found, argument) if found == major => Ok(argument),
            (found, _) => Err(malformed(
                format!("{kind} (CBOR major type {major}) for {what}"),
                format!("major type {found}"),
            )),
        }
    }

    /// Major type and argument of the next item (RFC 8949, 3).
    fn head(&mut self, what: &str) -> Result<(u8, u64), Error> {
        let first = self.take(1, what)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let width: u64 = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24..=27 => 1 << (info - 24),
            31 => return Err(malformed(format!("a definite length for {what}"), "an indefinite one")),
            _ => {
                return Err(malformed(
                    format!("the head of {what}"),
                    format!("the reserved byte {first:#04x}"),
                ));
            }
        };
        let argument = self.take(width, what)?.iter().fold(0_u64, |sum, byte| (sum << 8) + u64::from(*byte));
        // Major type 7 of more than one byte is a float: its bits are a value, not a length that could be shorter.
        let shortest = match (major, width) {
            (7, 1) => argument >= 32,
            (7, _) => true,
            (_, 1) => argument > 23,
            (_, 2) => argument > 0xff,
            (_, 4) => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        match shortest {
            true => Ok((major, argument)),
            false => Err(malformed(
                format!("the shortest form of {what}"),
                format!("a head of {} bytes", width + 1),
            )),
        }
    }

    fn take(&mut self, length: u64, what: &str) -> Result<&'b [u8], Error> {
        let (taken, rest) =
            usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)).ok_or_else(
                || malformed(format!("{length} bytes for {what}"), format!("{} bytes", self.rest.len())),
            )?;
        self.rest = rest;
        Ok(taken)
    }
}

/// An error about the claims, or about the CBOR around them.
pub(super) fn malformed(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::malformed(super::CLAIMS, expected, found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_head_has_its_shortest_form() {
        let shortest = [
            (&[0x17][..], 23),
            (&[0x18, 24], 24),
            (&[0x18, 0xff], 255),
            (&[0x19, 1, 0], 256),
            (&[0x19, 0xff, 0xfe], 0xfffe),
            (&[0x1a, 0, 1, 0, 0], 0x1_0000),
            (&[0x1a, 0xff, 2, 3, 4], 0xff02_0304),
            (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], 0x1_0000_0000),
            (&[0x1b, 1, 2, 3, 4, 5, 6, 7, 8], 0x0102_0304_0506_0708),
        ];
        for (bytes, value) in shortest {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.unsigned("a number").unwrap(), value);
            reader.finish("the number").unwrap();
        }
        let longer: [&[u8]; 7] = [
            &[0x18, 23],
            &[0x19, 0, 0xff],
            &[0x1a, 0, 0, 0xff, 0xff],
            &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0x1c],
            &[0x1f],
            &[0x18],
        ];
        for bytes in longer {
            assert!(Reader::new(bytes).unsigned("a number").is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn an_item_of_any_kind_is_stepped_over_whole() {
        let items: [&[u8]; 9] = [
            &[0x05],
            &[0x26],
            &[0x42, 1, 2],
            &[0x62, b'a', b'b'],
            &[0x82, 0x41, 1, 2],
            &[0xa1, 0x61, b'a', 0x41, 1],
            &[0xc1, 0x42, 1, 2],
            &[0xf5],
            &[0xf9, 0, 0],
        ];
        for bytes in items {
            let mut reader = Reader::new(bytes);
            reader.skip("an item").unwrap();
            assert!(reader.finish("the item").is_ok(), "{bytes:02x?}");
            assert!(bytes.len() == 1 || Reader::new(&bytes[..bytes.len() - 1]).skip("an item").is_err());
        }
        let error = Reader::new(&[0x5f, 0xff]).skip("an item").unwrap_err();
        assert!(error.to_string().contains("indefinite"), "{error}");
    }
}
