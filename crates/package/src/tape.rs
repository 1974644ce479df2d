//! Tar streams: one strict reader and one deterministic writer, for every tar in this crate.
//!
//! Format: POSIX.1-2001 (ustar and pax), and GNU long names. The reader trusts nothing: it checks
//! each header's checksum and each path, bounds what it keeps in memory, and wants the archive to end
//! as tar says, in zero blocks and nothing else. It knows only paths inside the archive's own root.

use std::fmt::Display;
use std::io::{self, Read, Write};

use crate::{Error, Result};

const BLOCK: usize = 512;

/// Longest path, in bytes, and longest component of one: Linux's own limits.
const PATH_LIMIT: usize = 4096;
const COMPONENT_LIMIT: usize = 255;

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
    /// A device, a FIFO, or something unheard of; the tar type byte.
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
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
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
            let size = header.entry_size().map_err(|e| self.damaged("a size in the header", e))?;
            self.content = size;
            self.padding = size.wrapping_neg() % BLOCK as u64;
            match header.entry_type().as_byte() {
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                b'x' => self.pax(size, &mut extended)?,
                b'g' => {
                    let mut global = Extended::default();
                    self.pax(size, &mut global)?;
                    if global.path.is_some() || global.link.is_some() {
                        return Err(self.damaged("no path for all entries at once", "a global pax path"));
                    }
                    continue;
                }
                _ => return self.entry(&header, size, extended).map(Some),
            }
            pending = true;
        }
    }

    fn entry(&mut self, header: &tar::Header, size: u64, extended: Extended) -> Result<Entry> {
        let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = clean_path(&raw).map_err(|(expected, found)| Error::Entry {
            archive: self.archive.clone(),
            entry: printable(&raw),
            expected,
            found: found.into(),
        })?;
        let kind = match header.entry_type().as_byte() {
            // Before POSIX, a directory was a file whose name ends in a slash.
            b'0' | b'\0' | b'7' if !raw.ends_with(b"/") => Kind::File,
            b'0' | b'\0' | b'5' => Kind::Directory,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            other => Kind::Other(other),
        };
        if kind != Kind::File && size != 0 {
            return Err(Error::Entry {
                archive: self.archive.clone(),
                entry: path,
                expected: "content only in regular files",
                found: format!("{size} bytes in {}", kind.describe()),
            });
        }
        let mode = header.mode().map_err(|e| self.damaged("a mode in the header", e))? & 0o7777;
        let link =
            extended.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        Ok(Entry { path, kind, size, mode, link, offset: self.position })
    }

    /// The next 512-byte header, its checksum checked; `None` at the archive's proper end.
    fn next_header(&mut self) -> Result<Option<tar::Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        self.fill(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&b| b == 0) {
            self.ended = true;
            self.only_zeros_follow()?;
            return Ok(None);
        }
        let sum: u32 = (header.as_bytes().iter().enumerate())
            .map(|(i, &b)| if (148..156).contains(&i) { u32::from(b' ') } else { u32::from(b) })
            .sum();
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header)),
            _ => Err(self.damaged("a tar header with its checksum", "something else")),
        }
    }

    /// Tar ends in at least two zero blocks; after those, only more zeros are allowed: nothing may
    /// hide behind the end.
    fn only_zeros_follow(&mut self) -> Result<()> {
        self.fill(&mut [0; BLOCK])?;
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

    /// Reads pax records: `<length> <key>=<value>\n`, the length counting all of itself.
    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<()> {
        let data = self.bounded(size, PAX_LIMIT)?;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| self.damaged("a pax record", "something else"))?;
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"linkpath" => extended.link = Some(value.to_vec()),
                // Needed beyond 8 GiB only; honouring it here and not elsewhere would make two
                // readers see two archives.
                b"size" => return Err(self.damaged("sizes in the header", "a pax size")),
                _ if key.starts_with(b"GNU.sparse") => {
                    return Err(self.damaged("plain files", "a sparse file"));
                }
                _ => {}
            }
            rest = after;
        }
        Ok(())
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
        self.inner.read_exact(block).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("two zero blocks at its end", "the end of the file"),
            _ => self.damaged("a tar header", e),
        })?;
        self.position += BLOCK as u64;
        Ok(())
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

fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|&b| b == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
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
    for component in text.split('/') {
        match component {
            "" | "." => continue,
            ".." => return Err((RELATIVE, "`..`")),
            long if long.len() > COMPONENT_LIMIT => {
                return Err(("names of at most 255 bytes", "a longer one"));
            }
            _ => {}
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
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// A tar of one entry, made by hand so that it can be as wrong as a test likes.
    pub(crate) fn entry(path: &[u8], kind: u8, mode: u32, content: &[u8], link: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.as_mut_bytes()[156] = kind;
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    pub(crate) fn tape(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = entries.concat();
        bytes.extend_from_slice(&[0; 2 * BLOCK]);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Kind, Vec<u8>)>> {
        let mut reader = TapeReader::new("test.tar", bytes);
        let mut all = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map_err(|e| reader.damaged("content", e))?;
            all.push((entry.path, entry.kind, content));
        }
        Ok(all)
    }

    #[test]
    fn reads_what_it_writes() {
        let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        let mut writer = TapeWriter::new(Vec::new());
        writer.file("a/b", true, 3, &b"abc"[..]).unwrap();
        writer.file(&long, false, 0, &b""[..]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(
            read(&bytes).unwrap(),
            [("a/b".into(), Kind::File, b"abc".to_vec()), (long, Kind::File, vec![]),]
        );
        // The common reader of such archives sees the same.
        let names: Vec<_> = (tar::Archive::new(&bytes[..]).entries().unwrap())
            .map(|e| e.unwrap().path().unwrap().display().to_string().len())
            .collect();
        assert_eq!(names, [3, 401]);
    }

    #[test]
    fn paths_have_one_form() {
        assert_eq!(clean_path(b"./a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(clean_path(b"./").unwrap(), "");
        assert_eq!(clean_path(b"..a/b..").unwrap(), "..a/b..");
        for bad in [&b"/a"[..], b"..", b"a/../b", b"a/..", b"", b"a\0b", b"\xff", &[b'a'; 5000], &[b'a'; 256]]
        {
            assert!(clean_path(bad).is_err(), "{}", printable(bad));
        }
    }

    #[test]
    fn pax_names_are_read() {
        let records = b"30 mtime=1350244992.023960108\n19 path=other/name\n";
        let bytes = tape(&[
            entry(b"PaxHeaders/x", b'x', 0o644, records, b""),
            entry(b"short", b'0', 0o644, b"!", b""),
        ]);
        assert_eq!(read(&bytes).unwrap(), [("other/name".into(), Kind::File, b"!".to_vec())]);
        for bad in [&b"12 size=999\n"[..], b"22 GNU.sparse.major=1\n", b"999 path=a\n", b"x", b"0 a=b\n"] {
            let bytes = tape(&[entry(b"p", b'x', 0o644, bad, b""), entry(b"a", b'0', 0o644, b"", b"")]);
            assert!(matches!(read(&bytes), Err(Error::Archive { .. })), "{}", printable(bad));
        }
    }

    #[test]
    fn a_damaged_end_is_refused() {
        let whole = tape(&[entry(b"a", b'0', 0o644, b"abc", b"")]);
        assert!(read(&whole).is_ok());
        for cut in [0, 1, 511, 512, 514, 1023, 1024, 1536, whole.len() - 1] {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let padded = [&whole[..], &[0; 4096]].concat();
        assert!(read(&padded).is_ok());
        let trailing = [&whole[..], b"x"].concat();
        assert!(read(&trailing).is_err());
        let mut flipped = whole.clone();
        flipped[3] ^= 1;
        assert!(read(&flipped).is_err());
    }

    #[test]
    fn headers_that_would_fill_memory_are_refused() {
        let long = vec![b'a'; 10_000];
        let bytes = tape(&[entry(b"n", b'L', 0o644, &long, b""), entry(b"a", b'0', 0o644, b"", b"")]);
        assert!(matches!(read(&bytes), Err(Error::Limit { .. })));
        let bytes = tape(&[entry(b"n", b'L', 0o644, b"name\0", b"")]);
        assert!(matches!(read(&bytes), Err(Error::Archive { .. })), "a long name of nothing");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_header_is_read_or_refused(
            flips in proptest::collection::vec((0usize..512, proptest::num::u8::ANY), 1..6),
        ) {
            let mut bytes = entry(b"some/path", b'0', 0o644, b"content", b"");
            for (at, value) in flips {
                bytes[at] = value;
            }
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
            if let Ok(entries) = read(&tape(&[bytes])) {
                for (path, ..) in entries {
                    proptest::prop_assert!(!path.starts_with('/') && !path.split('/').any(|c| c == ".."));
                }
            }
        }
    }
}
