//! Tar streams: one strict reader and one deterministic writer, for every tar in this crate.
//!
//! Format: POSIX.1-2001 (ustar and pax), and GNU long names. The reader trusts nothing: it checks
//! each header's checksum and each path, bounds what it keeps in memory, and wants the archive to end
//! as tar says, in zero blocks and nothing else. It knows only paths inside the archive's own root.
//!
//! What Go's `archive/tar` (in every container engine), GNU tar and Python would read in different ways is refused: a
//! layer whose files were measured must not be another layer to the engine that unpacks it.

mod header;
mod pax;

use std::fmt::Display;
use std::io::{self, Read, Write};

use crate::recognise;
use crate::{Error, Result};

const BLOCK: usize = 512;

/// Longest path, in bytes, and longest component of one: Linux's own limits.
const PATH_LIMIT: usize = 4096;
const COMPONENT_LIMIT: usize = 255;

/// Most components of a path. Linux has no limit of its own but that on the length.
const DEPTH_LIMIT: usize = 256;

/// Sizes from which a header's octal field is too short: 8 GiB.
const OCTAL_LIMIT: u64 = 1 << 33;

/// Largest pax header, in bytes. They hold paths, times and extended attributes.
const PAX_LIMIT: u64 = 1024 * 1024;

/// Time of modification of everything that is written here: 1980-01-01, the earliest that every
/// archive format can express.
const MTIME: u64 = 315_532_800;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device or a FIFO; the tar type byte.
    Other(u8),
}

impl Kind {
    /// The kind in words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Kind::File => "a regular file".into(),
            Kind::Directory => "a directory".into(),
            Kind::Symlink => "a symbolic link".into(),
            Kind::HardLink => "a hard link".into(),
            Kind::Other(b'3' | b'4') => "a device".into(),
            Kind::Other(b'6') => "a FIFO".into(),
            Kind::Other(type_byte) => format!("an entry of type {:?}", char::from(*type_byte)),
        }
    }
}

/// What a file is that begins with `head` (512 bytes of it) and is no tar, as far as that is known.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head.first_chunk().map(header::parse) {
        Some(Ok(_)) => None,
        _ => recognise::describe(head),
    }
}

/// One entry's header.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Relative, without `.`, `..` or empty components; empty for the archive's root itself.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Size of the content, in bytes.
    pub(crate) size: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u32,
    /// Target of a link, as carried.
    pub(crate) link: Vec<u8>,
    /// Where the content begins, counted from the start of the stream.
    pub(crate) offset: u64,
}

/// A stream that may know a quicker way over bytes that nobody wants.
pub(crate) trait Source: Read {
    /// Passes over `count` bytes, or over what there is; says how many those were.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        io::copy(&mut Read::take(&mut *self, count), &mut io::sink())
    }
}

impl Source for &[u8] {}
impl<R: Read> Source for io::BufReader<R> {}

/// Reads a tar stream entry by entry. Between two calls of [`TapeReader::next_entry`], it reads as the
/// content of the entry last returned.
pub(crate) struct TapeReader<R> {
    /// What to call the archive in messages.
    archive: String,
    inner: R,
    position: u64,
    /// Bytes of the current entry's content not read yet, and of the padding after it.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What pax and GNU headers said about the entry that follows them.
#[derive(Default)]
struct Extended {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<pax::Records>,
}

impl<R: Source> TapeReader<R> {
    pub(crate) fn new(archive: impl Into<String>, inner: R) -> Self {
        TapeReader { archive: archive.into(), inner, position: 0, content: 0, padding: 0, ended: false }
    }

    /// The stream below; at its end, once there are no more entries.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` once the archive has ended properly.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extended = Extended::default();
        let mut pending = false;
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else {
                return if pending {
                    Err(self.damaged("an entry after its long name", "the end"))
                } else {
                    Ok(None)
                };
            };
            let size = header.size;
            self.content = size;
            self.padding = size.wrapping_neg() % BLOCK as u64;
            // Which of two counts, and whether the first is still there after a header of the other kind, every reader
            // decides for itself.
            const ONCE: &str = "one pax header, or one long name and one long link, before an entry";
            match header.kind {
                b'L' | b'K' if extended.pax.is_some() => {
                    return Err(self.two_readings(ONCE, "a pax header and a long name"));
                }
                b'L' if extended.long_name.is_some() => return Err(self.two_readings(ONCE, "two long names")),
                b'L' => extended.long_name = Some(self.long_name(size)?),
                b'K' if extended.long_link.is_some() => return Err(self.two_readings(ONCE, "two long links")),
                b'K' => extended.long_link = Some(self.long_name(size)?),
                b'x' if extended.pax.is_some() => return Err(self.two_readings(ONCE, "two pax headers")),
                b'x' if pending => return Err(self.two_readings(ONCE, "a long name and a pax header")),
                b'x' => {
                    let data = self.bounded(size, PAX_LIMIT)?;
                    let records = pax::parse(&data).map_err(|(e, found)| self.two_readings(e, found))?;
                    extended.pax = Some(records);
                }
                b'g' if pending => return Err(self.two_readings(ONCE, "a global header in between")),
                b'g' => {
                    let data = self.bounded(size, PAX_LIMIT)?;
                    pax::check_global(&data).map_err(|(e, found)| self.two_readings(e, found))?;
                    continue;
                }
                _ => return self.entry(header, extended).map(Some),
            }
            pending = true;
        }
    }

    fn entry(&mut self, header: header::Header, extended: Extended) -> Result<Entry> {
        let pax = extended.pax.unwrap_or_default();
        let raw = extended.long_name.or(pax.path).unwrap_or_else(|| header.name.clone());
        let refuse = |expected: &'static str, found: String| {
            let (archive, entry) = (self.archive.clone(), printable(&raw));
            Error::Entry { archive, entry, expected, found }
        };
        let path = match clean_path(&raw) {
            Ok(path) => path,
            Err((expected, found)) => return Err(refuse(expected, found.into())),
        };
        // Some take the name for a directory's, others the type for a file's.
        let (slash, own_slash) = (raw.ends_with(b"/"), header.name.ends_with(b"/"));
        let kind = match header.kind {
            // Before POSIX, a directory was a file whose name ends in a slash.
            b'\0' if slash && own_slash => Kind::Directory,
            b'\0' if slash || own_slash => {
                return Err(refuse(
                    "one name that says what an entry is",
                    "a directory's and a file's".into(),
                ));
            }
            b'5' => Kind::Directory,
            _ if slash => {
                let found =
                    format!("a slash behind the name of an entry of type {:?}", char::from(header.kind));
                return Err(refuse("a slash behind names of directories only", found));
            }
            b'0' | b'\0' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            other @ (b'3' | b'4' | b'6') => Kind::Other(other),
            // Files to some readers, unknown to others, and sparse files, parts of files, volume labels to a few.
            other => {
                let found = format!("an entry of type {:?}", char::from(other));
                return Err(refuse("files, directories, links, devices and FIFOs", found));
            }
        };
        let size = match pax.size {
            // The record replaces the header's size, which says the same, or nothing, or cannot say it.
            Some(size) if header.size != 0 && header.size != size && size < OCTAL_LIMIT => {
                let found = format!("{} bytes in the header, {size} in a pax record", header.size);
                return Err(refuse("one size", found));
            }
            Some(size) => size,
            None => header.size,
        };
        if kind != Kind::File && (size != 0 || header.size != 0) {
            let found = format!("{} bytes in {}", size.max(header.size), kind.describe());
            return Err(refuse("content only in regular files", found));
        }
        let link = extended.long_link.or(pax.link).unwrap_or(header.link);
        if matches!(kind, Kind::Symlink | Kind::HardLink) {
            let found = match &link[..] {
                [] => Some("none"),
                link if link.contains(&0) => Some("one with NUL"),
                link if link.len() > PATH_LIMIT => Some("a longer one"),
                _ => None,
            };
            if let Some(found) = found {
                return Err(refuse("a target of 1 to 4096 bytes", found.into()));
            }
        }
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(Entry { path, kind, size, mode: header.mode, link, offset: self.position })
    }

    /// The next 512-byte header, its checksum checked; `None` at the archive's proper end.
    fn next_header(&mut self) -> Result<Option<header::Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let first = self.position == 0;
        self.fill(&mut block)?;
        if block.iter().all(|&b| b == 0) {
            self.ended = true;
            self.only_zeros_follow()?;
            return Ok(None);
        }
        header::parse(&block).map(Some).map_err(|(expected, found)| {
            match recognise::describe(&block).filter(|_| first) {
                Some(kind) => self.damaged("a tar", kind),
                None => self.two_readings(expected, found),
            }
        })
    }

    /// Tar ends in at least two zero blocks; after those, only more zeros are allowed: nothing may
    /// hide behind the end.
    fn only_zeros_follow(&mut self) -> Result<()> {
        let mut second = [0; BLOCK];
        self.fill(&mut second)?;
        if second.iter().any(|&b| b != 0) {
            // Some stop at the first, others only at two.
            return Err(self.damaged("two zero blocks at its end", "one, and more bytes"));
        }
        let mut buffer = [0; 8192];
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if buffer[..n].iter().all(|&b| b == 0) => {}
                Ok(_) => return Err(self.damaged("nothing but zeros after the end", "more bytes")),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.damaged("nothing but zeros after the end", e)),
            }
        }
    }

    fn skip_content(&mut self) -> Result<()> {
        let left = self.content.saturating_add(self.padding);
        let skipped = self.inner.skip(left).map_err(|e| self.damaged("a whole entry", e))?;
        if skipped != left {
            return Err(self.damaged("a whole entry", "the end of the file"));
        }
        self.position += left;
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.bounded(size, PATH_LIMIT as u64 + 1)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn bounded(&mut self, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            let what = format!("{}, a long name or pax header", self.archive);
            return Err(Error::Limit { what, limit: format!("{limit} bytes") });
        }
        let mut bytes = Vec::new();
        self.by_ref().take(size).read_to_end(&mut bytes).map_err(|e| self.damaged("a header", e))?;
        Ok(bytes)
    }

    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<()> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) => {
                    let short = recognise::describe(&block[..filled]).filter(|_| self.position == 0);
                    return Err(match short {
                        Some(kind) => self.damaged("a tar", kind),
                        None => self.damaged("two zero blocks at its end", "the end of the file"),
                    });
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.damaged("a tar header", e)),
            }
        }
        self.position += BLOCK as u64;
        Ok(())
    }

    /// A form that readers understand differently, or none at all.
    fn two_readings(&self, expected: &str, found: impl Display) -> Error {
        let expected = format!("{expected}, so that every reader of tar reads the same");
        self.damaged(&expected, found)
    }

    fn damaged(&self, expected: &str, found: impl Display) -> Error {
        Error::Archive { archive: self.archive.clone(), expected: expected.into(), found: found.to_string() }
    }
}

impl<R: Source> Read for TapeReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.content -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

/// Brings a path into its one form, or says what was expected and what is wrong with it.
pub(crate) fn clean_path(raw: &[u8]) -> Result<String, (&'static str, &'static str)> {
    const RELATIVE: &str = "a relative path inside the archive";
    if raw.len() > PATH_LIMIT {
        return Err(("a path of at most 4096 bytes", "a longer one"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| ("a path in UTF-8", "other bytes"))?;
    if text.contains('\0') {
        return Err(("a path without NUL", "one"));
    }
    if text.starts_with('/') {
        return Err((RELATIVE, "an absolute one"));
    }
    if text.is_empty() {
        return Err((RELATIVE, "none"));
    }
    let mut clean = String::with_capacity(text.len());
    let mut depth = 0;
    for component in text.split('/') {
        match component {
            "" | "." => continue,
            ".." => return Err((RELATIVE, "`..`")),
            long if long.len() > COMPONENT_LIMIT => {
                return Err(("names of at most 255 bytes", "a longer one"));
            }
            _ => {}
        }
        depth += 1;
        if depth > DEPTH_LIMIT {
            return Err(("a path of at most 256 components", "more of them"));
        }
        if !clean.is_empty() {
            clean.push('/');
        }
        clean.push_str(component);
    }
    Ok(clean)
}

/// `raw` for a message: no control characters, not too long.
pub(crate) fn printable(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(200).flat_map(char::escape_debug).collect()
}

/// Writes a deterministic tar: owner 0, fixed times, modes 0644 or 0755. The caller gives the entries
/// in order.
pub(crate) struct TapeWriter<W: Write> {
    inner: W,
}

impl<W: Write> TapeWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        TapeWriter { inner }
    }

    /// Appends a regular file of exactly `size` bytes.
    pub(crate) fn file(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.header(path, mode, size)?;
        let copied = io::copy(&mut content.take(size), &mut self.inner)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{path} shrank while it was read"),
            ));
        }
        self.pad(size)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn header(&mut self, path: &str, mode: u32, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(MTIME);
        header.set_uid(0);
        header.set_gid(0);
        let name = path.as_bytes();
        if name.len() > 100 {
            self.long_name(name)?;
        }
        let short = &name[..name.len().min(100)];
        header.as_mut_bytes()[..short.len()].copy_from_slice(short);
        header.set_cksum();
        self.inner.write_all(header.as_bytes())
    }

    /// GNU's way to say a name of more than 100 bytes: an entry before the entry.
    fn long_name(&mut self, name: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        let marker = b"././@LongLink";
        header.as_mut_bytes()[..marker.len()].copy_from_slice(marker);
        header.set_mode(0o644);
        header.set_size(name.len() as u64 + 1);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.inner.write_all(header.as_bytes())?;
        self.inner.write_all(name)?;
        self.inner.write_all(&[0])?;
        self.pad(name.len() as u64 + 1)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.inner.write_all(&[0; BLOCK][..padding as usize])
    }
}

#[cfg(test)]
pub(crate) mod tests;
