//! A part of a file, read where it stands: a member of the package, a layer of the image.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::tape::Source;
use crate::{Error, Result};

/// What a region is a part of.
#[derive(Debug, Clone)]
enum Whole {
    File(Arc<File>),
    Bytes(Arc<[u8]>),
}

/// `len` bytes of `file` from `offset` on. Reading does not move the file's own position, so that
/// several threads can read the same file.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    whole: Whole,
    offset: u64,
    len: u64,
}

impl Region {
    /// The whole of `file`, as long as it is now.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Region { whole: Whole::File(Arc::new(file)), offset: 0, len })
    }

    /// The whole of the file at `path`. Nothing but a regular file is opened: others wait, never end, or act.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            let found = format!("{}, {}", path.display(), outside::files::name(metadata.file_type()));
            return Err(Error::Package { expected: "a regular file".into(), found });
        }
        let file = outside::files::open(path).map_err(Error::io("open", path))?;
        Self::whole(file).map_err(Error::io("read", path))
    }

    /// The part of this region from `offset` on; never more than there is.
    pub(crate) fn part(&self, offset: u64, len: u64) -> Self {
        let offset = offset.min(self.len);
        Region { whole: self.whole.clone(), offset: self.offset + offset, len: len.min(self.len - offset) }
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

impl From<Vec<u8>> for Region {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Region { whole: Whole::Bytes(bytes.into()), offset: 0, len }
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
        let n = match &self.region.whole {
            Whole::File(file) => file.read_at(&mut buffer[..wanted], self.region.offset)?,
            // A region never goes beyond the bytes it is a part of, which are in memory.
            Whole::Bytes(bytes) => {
                let from = self.region.offset as usize;
                buffer[..wanted].copy_from_slice(&bytes[from..from + wanted]);
                wanted
            }
        };
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
        let bytes = Region::from(b"0123456789".to_vec());
        assert_eq!(bytes.part(2, 5).part(3, 100).bytes().unwrap(), b"56");
        assert_eq!(bytes.part(20, 5).bytes().unwrap(), b"");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, found) in
            [(directory.path(), "directory"), (Path::new("/dev/zero"), "device"), (&socket, "socket")]
        {
            let error = Region::open(path).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Were it opened, this would wait for a writer for ever.
        assert!(Region::open(&fifo).unwrap_err().to_string().contains("FIFO"));
    }
}
