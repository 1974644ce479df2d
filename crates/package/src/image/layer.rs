//! One layer: unpacked as a stream, its digests checked, its entries listed and hashed.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::layout::{Blob, wrong, wrong_digest};
use super::tree::{File, Node};
use crate::paths::{Budget, Id, Paths, ROOT};
use crate::region::{Hashing, RegionReader};
use crate::tape::{Entry, Kind, Source, TapeReader, clean_path, printable};
use crate::{Error, Result};

/// Most entries of a layer.
const ENTRIES_LIMIT: usize = 1_000_000;

/// How far the layers of an image may expand, all together: this much in any case, and this many times their packed
/// size. Ordinary layers expand two to five times; gzip reaches a thousand.
const EXPANSION_FREE: u64 = 256 << 20;
const EXPANSION_RATIO: u64 = 200;

/// Most bytes of a layer, unpacked, and of all layers of an image together.
const EXPANSION_LIMIT: u64 = 64 << 30;
const EXPANSION_TOTAL: u64 = 256 << 30;

/// Memory that zstd may ask for, as a power of two: 32 MiB, and 64 MiB for a layer from [`ZSTD_LARGE`] bytes on.
/// Smaller ones are unpacked one at a time, so that an image of a few bytes takes that memory once.
const ZSTD_WINDOW: u32 = 25;
const ZSTD_WINDOW_LARGE: u32 = 26;
const ZSTD_LARGE: u64 = 32 << 20;

const BUFFER: usize = 1 << 17;

/// What the layers of one image may take together, and whether to stop.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes that may still be unpacked, and how many they were.
    left: AtomicU64,
    expansion: u64,
    /// What may be kept about their entries.
    pub(super) budget: Budget,
    /// Another layer was refused already.
    pub(super) stop: AtomicBool,
    small_zstd: Mutex<()>,
}

impl Limits {
    /// For layers of `packed` bytes.
    pub(super) fn new(packed: u64) -> Self {
        let expansion =
            EXPANSION_FREE.saturating_add(packed.saturating_mul(EXPANSION_RATIO)).min(EXPANSION_TOTAL);
        Limits {
            left: AtomicU64::new(expansion),
            expansion,
            budget: Budget::for_layers(packed),
            stop: AtomicBool::new(false),
            small_zstd: Mutex::new(()),
        }
    }
}

/// What a layer changes. Whiteouts act on the layers below only.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) index: usize,
    pub(super) paths: Paths<Item>,
    /// Where the hard links are, in their order.
    pub(super) links: Vec<Id>,
    /// Its length unpacked, in bytes.
    pub(super) unpacked: u64,
}

/// What a layer says about a path.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// Its entry; `None` for directories that only paths name.
    pub(super) change: Option<Change>,
    /// A path below it came before its own entry.
    pub(super) implied: bool,
    /// It is a directory because there are entries below it, not only whiteouts.
    pub(super) holds: bool,
    /// Below it, a directory had no entry of its own when something was put into it.
    loose: bool,
    /// The layers below lose it, with all that is under it.
    pub(super) whiteout: bool,
    /// The layers below lose what they have in it.
    pub(super) opaque: bool,
}

#[derive(Debug)]
pub(super) enum Change {
    Put(Node),
    Link(Link),
}

/// Another name for the file at a path.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: Box<str>,
    /// The layer has had no entry at the target so far.
    pub(super) early: bool,
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
        let leads_there = |path: &str| prefix.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let mut touched = Touched { below: false, elsewhere: self.paths.value(ROOT).opaque };
        for (path, _, item) in self.paths.below(ROOT) {
            let acts = item.whiteout || item.opaque;
            let directory = matches!(item.change, Some(Change::Put(Node::Directory)));
            match (is_below(&path), item.change.is_some()) {
                (true, has) => touched.below |= has || acts,
                (false, has) => touched.elsewhere |= acts || (has && !(directory && leads_there(&path))),
            }
        }
        touched
    }

    /// The directory at `path`, made as far as it is not there. `entry` is what leads there; `holds` if it is no
    /// whiteout.
    fn directory(&mut self, entry: &Entry, path: &str, holds: bool) -> Result<Id> {
        let mut at = ROOT;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            if component.starts_with(".wh.") {
                return Err(refuse(self.index, entry, "nothing below the name of a whiteout", "an entry"));
            }
            at = match self.paths.child(at, component) {
                Some(id) => id,
                None => {
                    let id = self.paths.add(at, component);
                    self.paths.value_mut(id).implied = true;
                    id
                }
            };
            let item = self.paths.value_mut(at);
            item.holds |= holds;
            let found = match &item.change {
                // Some engines merge it with the directory that is taken away, and some do not.
                _ if item.whiteout => "a path below what the same layer takes away",
                None | Some(Change::Put(Node::Directory)) => continue,
                Some(_) => "a path below something else",
            };
            return Err(refuse(self.index, entry, "paths below directories", found));
        }
        if holds {
            let (mut above, mut loose) = (at, false);
            loop {
                let item = self.paths.value_mut(above);
                item.loose |= loose;
                loose |= item.change.is_none();
                if above == ROOT {
                    break;
                }
                above = self.paths.parent(above);
            }
        }
        Ok(at)
    }

    /// Notes an entry of the layer.
    fn put(&mut self, entry: &Entry, change: Change) -> Result<()> {
        let directory = matches!(change, Change::Put(Node::Directory));
        let index = self.index;
        let Some(name) = entry.path.rsplit('/').next().filter(|name| !name.is_empty()) else {
            // The archive's own root is there anyway.
            return if directory { Ok(()) } else { Err(refuse(index, entry, "a name", "none")) };
        };
        let parent = self.directory(entry, parent(&entry.path), true)?;
        let change = match change {
            Change::Link(mut link) => {
                let target = self.paths.find(&link.target);
                link.early = target.is_none_or(|id| self.paths.value(id).change.is_none());
                self.paths.note(link.target.len());
                Change::Link(link)
            }
            Change::Put(node) => {
                if let Node::Symlink(target) = &node {
                    self.paths.note(target.len());
                }
                Change::Put(node)
            }
        };
        let id = self.paths.child(parent, name).unwrap_or_else(|| self.paths.add(parent, name));
        let has_children = self.paths.has_children(id);
        let link = matches!(change, Change::Link(_));
        let item = self.paths.value_mut(id);
        match &item.change {
            // Some tools repeat directories; a repeated file would mean what its reader likes.
            Some(Change::Put(Node::Directory)) if directory => return Ok(()),
            Some(_) => return Err(refuse(index, entry, "each path once", "the same path again")),
            None if has_children && !directory => {
                return Err(refuse(index, entry, "each path once", "a directory and something else"));
            }
            // Some engines leave in it what the layers below have there.
            None if item.whiteout && directory => {
                let expected = "no directory where the same layer takes something away";
                return Err(refuse(index, entry, expected, "one"));
            }
            None => {}
        }
        item.change = Some(change);
        if link {
            self.links.push(id);
        }
        Ok(())
    }

    /// Notes that the layers below lose `name` in the directory at `parent`.
    fn whiteout(&mut self, entry: &Entry, parent: &str, name: &str) -> Result<()> {
        let parent = self.directory(entry, parent, false)?;
        let id = self.paths.child(parent, name).unwrap_or_else(|| self.paths.add(parent, name));
        let has_children = self.paths.has_children(id);
        let item = self.paths.value_mut(id);
        // Engines go through a layer in order, and would take away what it brought just before.
        if item.change.is_some() || item.holds || has_children {
            let expected = "whiteouts of what lower layers brought";
            return Err(refuse(self.index, entry, expected, "one behind the layer's own entry there"));
        }
        if item.whiteout {
            return Err(refuse(self.index, entry, "each path once", "the same whiteout again"));
        }
        item.whiteout = true;
        Ok(())
    }

    /// Notes that the layers below lose what they have in the directory at `path`.
    fn opaque(&mut self, entry: &Entry, path: &str) -> Result<()> {
        let id = self.directory(entry, path, false)?;
        if self.paths.value(id).opaque {
            return Err(refuse(self.index, entry, "each path once", "the same whiteout again"));
        }
        // Engines take away what is there and was no entry of this layer, directories without one included.
        if self.paths.value(id).loose {
            let expected = "an opaque whiteout before what is in its directory";
            return Err(refuse(self.index, entry, expected, "one behind a path without its directories"));
        }
        self.paths.value_mut(id).opaque = true;
        Ok(())
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
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
            let window = if blob.region.len() < ZSTD_LARGE { ZSTD_WINDOW } else { ZSTD_WINDOW_LARGE };
            decoder.window_log_max(window).map_err(|e| wrong(&name(index), "zstd", e))?;
            Box::new(decoder)
        }
    };
    Ok(Stream::Packed(BufReader::with_capacity(BUFFER, unpacker)))
}

/// Reads a layer to its end, checks its digests, and lists what it changes.
pub(super) fn read(index: usize, blob: &Blob, limits: &Limits) -> Result<Layer> {
    let packing = packing(index, blob)?;
    if let Some(expected) = blob.digest {
        let found = match packing {
            Packing::Plain => blob.diff_id,
            _ => blob.region.sha256().map_err(|e| wrong(&name(index), "readable bytes", e))?,
        };
        if found != expected {
            return Err(wrong_digest(&name(index), &expected, &found));
        }
    }
    let _alone = (packing == Packing::Zstd && blob.region.len() < ZSTD_LARGE)
        .then(|| limits.small_zstd.lock().unwrap_or_else(PoisonError::into_inner));
    let over = AtomicU64::new(0);
    let bounded = Bounded { inner: stream(index, blob)?, read: 0, limits, over: &over };
    let hashing = BufReader::with_capacity(BUFFER, Hashing::new(bounded));
    let mut tape = TapeReader::new(name(index), hashing);
    let mut layer =
        list(index, &mut tape, &limits.budget).map_err(|error| match over.load(Ordering::Relaxed) {
            0 => error,
            limit => Error::Limit {
                what: format!(
                    "{} ({} bytes packed), unpacked with those before it,",
                    name(index),
                    blob.region.len()
                ),
                limit: format!("{limit} bytes"),
            },
        })?;
    // The tape has been read to the very end, so the hash is of the whole layer.
    let (found, bounded) = tape.into_inner().into_inner().into_parts();
    layer.unpacked = bounded.read;
    if found != blob.diff_id {
        return Err(wrong_digest(&format!("{}, unpacked", name(index)), &blob.diff_id, &found));
    }
    Ok(layer)
}

fn list(index: usize, tape: &mut TapeReader<impl Source>, budget: &Budget) -> Result<Layer> {
    let mut layer = Layer { index, ..Layer::default() };
    let mut buffer = vec![0; BUFFER];
    let mut count = 0;
    let mut charged = 0;
    while let Some(entry) = tape.next_entry()? {
        count += 1;
        if count > ENTRIES_LIMIT {
            return Err(Error::Limit {
                what: format!("entries of {}", name(index)),
                limit: ENTRIES_LIMIT.to_string(),
            });
        }
        let (parent, base) = (parent(&entry.path), entry.path.rsplit('/').next().unwrap_or_default());
        if base == ".wh..wh..opq" {
            layer.opaque(&entry, parent)?;
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
            layer.whiteout(&entry, parent, gone)?;
        } else {
            let change = change(index, &entry, tape, &mut buffer)?;
            layer.put(&entry, change)?;
        }
        let cost = layer.paths.cost();
        budget.charge(cost - charged, &format!("the list of files of {}", name(index)))?;
        charged = cost;
    }
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
            // Kaniko writes them from the image's root on, and engines take them so.
            let slashes = entry.link.iter().take_while(|&&b| b == b'/').count();
            let target = clean_path(&entry.link[slashes..]).map_err(|(expected, found)| {
                refuse(index, entry, expected, &format!("a hard link to {found}"))
            })?;
            Change::Link(Link { target: target.into(), early: false })
        }
        Kind::Other(_) => Change::Put(Node::Special),
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

/// Fails once the layer or the whole image has given more bytes than it may, and leaves a note of the limit.
struct Bounded<'a, R> {
    inner: R,
    read: u64,
    limits: &'a Limits,
    over: &'a AtomicU64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.limits.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer was refused"));
        }
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        let took = |left: u64| left.checked_sub(n as u64);
        let whole = self.limits.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, took);
        let limit = match whole {
            Err(_) => self.limits.expansion,
            Ok(_) if self.read > EXPANSION_LIMIT => EXPANSION_LIMIT,
            Ok(_) => return Ok(n),
        };
        self.over.store(limit, Ordering::Relaxed);
        Err(io::Error::other("it expands beyond its limit"))
    }
}
