//! One layer: unpacked as a stream, its digests checked, its entries listed and hashed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::layout::{Blob, wrong, wrong_digest};
use super::tree::{File, Node};
use crate::region::{Hashing, RegionReader};
use crate::tape::{Entry, Kind, Source, TapeReader, clean_path, printable};
use crate::{Error, Result};

/// Most entries of a layer.
const ENTRIES_LIMIT: usize = 1_000_000;

/// How far a layer may expand: this much in any case, and this many times its packed size. Ordinary
/// layers expand two to five times; gzip reaches a thousand.
const EXPANSION_FREE: u64 = 256 << 20;
const EXPANSION_RATIO: u64 = 200;

/// Most bytes of a layer, unpacked.
const EXPANSION_LIMIT: u64 = 64 << 30;

/// Memory that zstd may ask for, as a power of two: 64 MiB.
const ZSTD_WINDOW: u32 = 26;

const BUFFER: usize = 1 << 17;

/// What a layer changes. Whiteouts act on the layers below only, wherever in the layer they stand.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) index: usize,
    pub(super) entries: BTreeMap<String, Change>,
    /// Paths that the layers below lose, with all that is under them.
    pub(super) whiteouts: BTreeSet<String>,
    /// Directories that lose what the layers below have in them.
    pub(super) opaque: BTreeSet<String>,
    /// Its length unpacked, in bytes.
    pub(super) unpacked: u64,
}

/// Whether a layer touches a path and what is below it, and whether anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) below: bool,
    pub(super) elsewhere: bool,
}

impl Layer {
    /// What of this layer is at `prefix` or below it. The directories that lead there belong to it.
    pub(super) fn place(&self, prefix: &str) -> Touched {
        let is_below =
            |path: &str| path.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let leads_there = |path: &str| {
            path.is_empty() || prefix.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        let mut touched = Touched { below: false, elsewhere: false };
        for (path, change) in &self.entries {
            let directory = matches!(change, Change::Put(Node::Directory));
            match (is_below(path), directory && leads_there(path)) {
                (true, _) => touched.below = true,
                (false, true) => {}
                (false, false) => touched.elsewhere = true,
            }
        }
        for path in self.whiteouts.iter().chain(&self.opaque) {
            match is_below(path) {
                true => touched.below = true,
                false => touched.elsewhere = true,
            }
        }
        touched
    }
}

#[derive(Debug)]
pub(super) enum Change {
    Put(Node),
    /// Another name for the file at this path.
    Link(String),
    /// The same, but the layer's own entry at this path stands further down, if it has one.
    EarlyLink(String),
}

/// How a layer lies in the archive, by its first bytes; what a media type says is not consulted.
#[derive(Clone, Copy, PartialEq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

fn packing(index: usize, blob: &Blob) -> Result<Packing> {
    let head = blob.region.part(0, 4).bytes().map_err(|e| wrong(&name(index), "readable bytes", e))?;
    match head[..] {
        [0x1f, 0x8b, ..] => Ok(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Ok(Packing::Zstd),
        [_, _, _, _] => Ok(Packing::Plain),
        _ => Err(wrong(&name(index), "a tar, plain or in gzip or zstd", "less than four bytes")),
    }
}

/// The unpacked bytes of a layer.
pub(super) enum Stream {
    Plain(RegionReader),
    Packed(BufReader<Box<dyn Read>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(reader) => reader.read(buffer),
            Stream::Packed(reader) => reader.read(buffer),
        }
    }
}

impl Source for Stream {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        match self {
            Stream::Plain(reader) => reader.skip(count),
            Stream::Packed(reader) => reader.skip(count),
        }
    }
}

/// The unpacked bytes of a layer, from their beginning.
pub(super) fn stream(index: usize, blob: &Blob) -> Result<Stream> {
    let region = blob.region.reader();
    let unpacker: Box<dyn Read> = match packing(index, blob)? {
        Packing::Plain => return Ok(Stream::Plain(region)),
        Packing::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, region)))
        }
        Packing::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::new(region).map_err(|e| wrong(&name(index), "zstd", e))?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(|e| wrong(&name(index), "zstd", e))?;
            Box::new(decoder)
        }
    };
    Ok(Stream::Packed(BufReader::with_capacity(BUFFER, unpacker)))
}

/// Reads a layer to its end, checks its digests, and lists what it changes.
pub(super) fn read(index: usize, blob: &Blob) -> Result<Layer> {
    let packed = packing(index, blob)? != Packing::Plain;
    if let Some(expected) = blob.digest {
        let found = match packed {
            true => blob.region.sha256().map_err(|e| wrong(&name(index), "readable bytes", e))?,
            false => blob.diff_id,
        };
        if found != expected {
            return Err(wrong_digest(&name(index), &expected, &found));
        }
    }
    let over = Rc::new(Cell::new(false));
    let limit =
        EXPANSION_FREE.saturating_add(blob.region.len().saturating_mul(EXPANSION_RATIO)).min(EXPANSION_LIMIT);
    let bounded = Bounded { inner: stream(index, blob)?, left: limit, over: over.clone() };
    let hashing = BufReader::with_capacity(BUFFER, Hashing::new(bounded));
    let mut tape = TapeReader::new(name(index), hashing);
    let mut layer = list(index, &mut tape).map_err(|error| {
        if !over.get() {
            return error;
        }
        let what = format!("{} ({} bytes), unpacked,", name(index), blob.region.len());
        Error::Limit { what, limit: format!("{limit} bytes") }
    })?;
    // The tape has been read to the very end, so the hash is of the whole layer.
    let (found, bounded) = tape.into_inner().into_inner().into_parts();
    layer.unpacked = limit - bounded.left;
    if found != blob.diff_id {
        return Err(wrong_digest(&format!("{}, unpacked", name(index)), &blob.diff_id, &found));
    }
    Ok(layer)
}

fn list(index: usize, tape: &mut TapeReader<impl Source>) -> Result<Layer> {
    let mut layer = Layer { index, ..Layer::default() };
    let mut buffer = vec![0; BUFFER];
    let mut count = 0;
    while let Some(entry) = tape.next_entry()? {
        count += 1;
        if count > ENTRIES_LIMIT {
            return Err(Error::Limit {
                what: format!("entries of {}", name(index)),
                limit: ENTRIES_LIMIT.to_string(),
            });
        }
        let (parent, base) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        if base == ".wh..wh..opq" {
            layer.opaque.insert(parent.into());
        } else if base.starts_with(".wh..wh.") {
            // Bookkeeping of an old storage driver.
        } else if let Some(gone) = base.strip_prefix(".wh.") {
            if gone.is_empty() {
                return Err(refuse(index, &entry, "a whiteout of something", "of nothing"));
            }
            // Some engines would take away the directory itself, or the one above.
            if gone == "." || gone == ".." {
                let found = format!("of `{gone}`");
                return Err(refuse(index, &entry, "a whiteout of something in its own directory", &found));
            }
            let path = if parent.is_empty() { gone.into() } else { format!("{parent}/{gone}") };
            layer.whiteouts.insert(path);
        } else {
            let change = change(index, &entry, tape, &mut buffer)?;
            let directory = matches!(change, Change::Put(Node::Directory));
            let change = match change {
                Change::Link(target) if !layer.entries.contains_key(&target) => Change::EarlyLink(target),
                change => change,
            };
            let before = layer.entries.insert(entry.path.clone(), change);
            // Some tools repeat directories; a repeated file would mean what its reader likes.
            if before.is_some_and(|before| !directory || !matches!(before, Change::Put(Node::Directory))) {
                return Err(refuse(index, &entry, "each path once", "the same path again"));
            }
        }
    }
    // The archive's own root is there anyway.
    layer.entries.remove("");
    Ok(layer)
}

fn change(index: usize, entry: &Entry, tape: &mut impl Read, buffer: &mut [u8]) -> Result<Change> {
    Ok(match entry.kind {
        Kind::Directory => Change::Put(Node::Directory),
        Kind::Symlink => {
            let target = String::from_utf8(entry.link.clone())
                .map_err(|_| refuse(index, entry, "a link target in UTF-8", "other bytes"))?;
            Change::Put(Node::Symlink(target))
        }
        Kind::HardLink => {
            let target = clean_path(&entry.link).map_err(|(expected, found)| {
                refuse(index, entry, expected, &format!("a hard link to {found}"))
            })?;
            Change::Link(target)
        }
        Kind::Other(_) => Change::Put(Node::Special),
        Kind::File if entry.path.is_empty() => return Err(refuse(index, entry, "a name", "none")),
        Kind::File => {
            let mut hash = Sha256::new();
            loop {
                match tape.read(buffer).map_err(|e| wrong(&name(index), "a whole file", e))? {
                    0 => break,
                    n => hash.update(&buffer[..n]),
                }
            }
            let sha256 = hash.finalize().into();
            let (size, mode, offset) = (entry.size, entry.mode, entry.offset);
            Change::Put(Node::File(File { sha256, size, mode, layer: index, offset }))
        }
    })
}

fn refuse(index: usize, entry: &Entry, expected: &'static str, found: &str) -> Error {
    let entry = printable(entry.path.as_bytes());
    Error::Entry { archive: name(index), entry, expected, found: found.into() }
}

/// A layer's name in messages, counted from 1.
pub(super) fn name(index: usize) -> String {
    format!("image layer {}", index + 1)
}

/// Fails once more than `left` bytes have been read, and leaves a note that this was why.
struct Bounded<R> {
    inner: R,
    left: u64,
    over: Rc<Cell<bool>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                self.over.set(true);
                return Err(io::Error::other("it expands beyond its limit"));
            }
        }
        Ok(n)
    }
}
