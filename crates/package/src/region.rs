//! A part of a file, read where it stands: a member of the package, a layer of the image.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::tape::Source;

/// `len` bytes of `file` from `offset` on. Reading does not move the file's own position, so that
/// several threads can read the same file.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl Region {
    /// The whole of `file`, as long as it is now.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Region { file: Arc::new(file), offset: 0, len })
    }

    /// The part of this region from `offset` on; never more than there is.
    pub(crate) fn part(&self, offset: u64, len: u64) -> Self {
        let offset = offset.min(self.len);
        Region { file: self.file.clone(), offset: self.offset + offset, len: len.min(self.len - offset) }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where in the file it lies.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    /// Reads the region from its beginning.
    pub(crate) fn reader(&self) -> RegionReader {
        RegionReader { region: self.clone() }
    }

    /// All of the region, which the caller knows to be small.
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// SHA-256 of the region.
    pub(crate) fn sha256(&self) -> io::Result<[u8; 32]> {
        let mut reader = self.reader();
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hash.finalize().into()),
                n => hash.update(&buffer[..n]),
            }
        }
    }
}

/// Passes bytes through and hashes them.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Hashing { inner, hash: Sha256::new() }
    }

    /// SHA-256 of what was read.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }

    /// The same, and what was read from.
    pub(crate) fn into_parts(self) -> ([u8; 32], R) {
        (self.hash.finalize().into(), self.inner)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

/// What of a [`Region`] is still to be read.
pub(crate) struct RegionReader {
    region: Region,
}

impl Read for RegionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.region.len).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.region.file.read_at(&mut buffer[..wanted], self.region.offset)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was read"));
        }
        self.region.offset += n as u64;
        self.region.len -= n as u64;
        Ok(n)
    }
}

impl Source for RegionReader {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let skipped = count.min(self.region.len);
        self.region = self.region.part(skipped, u64::MAX);
        Ok(skipped)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn parts_stay_inside() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let whole = Region::whole(file.try_clone().unwrap()).unwrap();
        assert_eq!(whole.part(2, 5).bytes().unwrap(), b"23456");
        assert_eq!(whole.part(2, 5).part(3, 100).bytes().unwrap(), b"56");
        assert_eq!(whole.part(20, 5).len(), 0);
        file.set_len(4).unwrap();
        assert!(whole.bytes().is_err(), "a file that shrinks is noticed");
    }
}
