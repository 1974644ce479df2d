//! Container images, read as a stream: which files an image ends up with, and their digests.
//!
//! Formats: the OCI image layout and image specification 1.x, and what `docker save` writes (before and
//! since version 25); layers as tar, gzip or zstd. Nothing is trusted: every blob must have the digest
//! by which it is named and every layer its diff id, sizes and expansion are bounded, and nothing is
//! written until somebody asks for [`Image::extract`], which works on plain files and directories only.
//!
//! ```text
//! layout   which blobs make up the image, and in which order
//! layer    one layer: unpacked, digests checked, entries listed
//! tree     layers on top of each other: whiteouts, replacements, links
//! write    the one layout that the native builder makes
//! save     an image for a container engine to load
//! ```

mod layer;
mod layout;
mod save;
mod tree;
mod write;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::code_archive::{clear, empty_directory, write_file};
use crate::region::{Hashing, Region};
use crate::tape::Source;
use crate::{Error, Result};

pub use tree::{File, Node, Tree};
pub(crate) use write::{Content, write_layout};

/// Bytes by which the files of an image that is extracted may exceed its layers.
const COPIES_FREE: u64 = 64 << 20;

/// An image whose every digest has been checked.
#[derive(Debug)]
pub struct Image {
    layers: Vec<layout::Blob>,
    settings: layout::Settings,
    tree: Tree,
}

impl Image {
    /// Reads and checks the image archive (an uncompressed tar) in the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(&Region::open(path)?)
    }

    /// Reads and checks the image archive in `bytes`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::read(&Region::from(bytes))
    }

    /// Reads and checks the image archive in `region`.
    pub(crate) fn read(region: &Region) -> Result<Self> {
        let (layers, settings) = layout::read(region)?;
        Self::of_layers(layers, settings)
    }

    fn of_layers(mut blobs: Vec<layout::Blob>, settings: layout::Settings) -> Result<Self> {
        let (layers, order, limits) = read_layers(&blobs)?;
        for (blob, &layer) in blobs.iter_mut().zip(&order) {
            blob.unpacked = layers[layer].unpacked;
        }
        let mut tree = Tree::within(limits.budget.fresh());
        tree.apply(order.iter().map(|&layer| &layers[layer]))?;
        Ok(Image { layers: blobs, settings, tree })
    }

    /// The same image with one more layer on top: the unpacked tar in `layer`.
    pub(crate) fn with_layer(mut self, layer: fs::File) -> Result<Self> {
        let unreadable = |e| Error::io("read", Path::new("a layer"))(e);
        let region = Region::whole(layer).map_err(unreadable)?;
        let diff_id = region.sha256().map_err(unreadable)?;
        let packed = region.len();
        let mut blob = layout::Blob { region, digest: None, diff_id, unpacked: 0 };
        let read = layer::read(self.layers.len(), &blob, &layer::Limits::new(packed))?;
        blob.unpacked = read.unpacked;
        self.layers.push(blob);
        self.tree.grow(packed);
        self.tree.apply([&read])?;
        Ok(self)
    }

    /// The image without the layers that only put something at `prefix` or below it, or take it away again, together
    /// with the directories that lead there: files which a build needs and no image may keep.
    ///
    /// # Errors
    /// [`Error::Image`] if a layer that does anything else besides has an entry at `prefix` or below it.
    pub fn without_layers_below(&self, prefix: &str) -> Result<Image> {
        let prefix = crate::tape::clean_path(prefix.trim_start_matches('/').as_bytes())
            .map_err(|(expected, found)| layout::wrong("the prefix of a layer", expected, found))?;
        let mut kept = Vec::new();
        let (layers, order, _) = read_layers(&self.layers)?;
        let places: Vec<_> = layers.iter().map(|layer| layer.place(&prefix)).collect();
        for (index, &layer) in order.iter().enumerate() {
            let place = places[layer];
            if place.below && place.elsewhere {
                let expected = format!("no entry at {prefix} in a layer with others");
                return Err(layout::wrong(&layer::name(index), expected, "one"));
            }
            if !place.below {
                kept.push(self.layers[index].clone());
            }
        }
        Self::of_layers(kept, self.settings.clone())
    }

    /// The files the image ends up with.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Where in the archive's file large things lie that stay the same from one image to the next: layers of at least
    /// `least` bytes, largest first, then files of that size in layers that are not packed, if `files` are wanted.
    pub(crate) fn lasting(&self, least: u64, files: bool) -> Vec<Range<u64>> {
        let large = |ranges: &mut Vec<Range<u64>>| {
            ranges.retain(|range| range.end - range.start >= least);
            ranges.sort_by_key(|range| (Reverse(range.end - range.start), range.start));
            ranges.dedup();
        };
        let mut layers: Vec<_> = self.layers.iter().map(|blob| blob.region.range()).collect();
        large(&mut layers);
        let mut inside = Vec::new();
        for (_, node) in self.tree.nodes().filter(|_| files) {
            let Node::File(file) = node else { continue };
            let blob = &self.layers[file.layer];
            if blob.digest == Some(blob.diff_id) {
                let start = blob.region.range().start + file.offset;
                inside.push(start..start + file.size);
            }
        }
        large(&mut inside);
        layers.extend(inside);
        layers
    }

    /// The content of the regular file at `path` (symbolic links are followed inside the image), at most
    /// `limit` bytes; `None` if there is no such file.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.tree.resolve(path) else { return Ok(None) };
        if file.size > limit {
            return Err(Error::Limit {
                what: format!("{path} in the image"),
                limit: format!("{limit} bytes"),
            });
        }
        let mut stream = layer::stream(file.layer, &self.layers[file.layer])?;
        let mut content = Vec::new();
        (stream.skip(file.offset))
            .and_then(|_| stream.take(file.size).read_to_end(&mut content))
            .map_err(|e| changed(path, e))?;
        if Sha256::digest(&content)[..] != file.sha256 {
            return Err(changed(path, "other bytes"));
        }
        Ok(Some(content))
    }

    /// Copies the content of `files` to `out`, one after the other and each once, in the order of the layers. Each is
    /// hashed again on its way. Says at which offset of `out` the content from each [`File::place`] begins.
    pub(crate) fn copy_files<'a>(
        &self,
        files: impl Iterator<Item = &'a File>,
        mut out: impl Write,
    ) -> Result<BTreeMap<(usize, u64), u64>> {
        let wanted: BTreeMap<(usize, u64), &File> = files.map(|file| (file.place(), file)).collect();
        let mut places = BTreeMap::new();
        let mut current: Option<(usize, layer::Stream, u64)> = None;
        let mut written = 0;
        for ((layer, offset), file) in wanted {
            let (stream, position) = match &mut current {
                Some((open, stream, position)) if *open == layer => (stream, position),
                _ => {
                    let stream = layer::stream(layer, &self.layers[layer])?;
                    let (_, stream, position) = current.insert((layer, stream, 0));
                    (stream, position)
                }
            };
            let part = layer::name(layer);
            stream.skip(offset - *position).map_err(|e| changed(&part, e))?;
            *position = offset + file.size;
            let mut content = Hashing::new(stream.by_ref().take(file.size));
            let copied = io::copy(&mut content, &mut out)
                .map_err(Error::io("copy", Path::new("files of the image")))?;
            if copied != file.size || content.finish() != file.sha256 {
                return Err(changed(&part, "other bytes"));
            }
            places.insert((layer, offset), written);
            written += copied;
        }
        out.flush().map_err(Error::io("copy", Path::new("files of the image")))?;
        Ok(places)
    }

    /// Writes the image's files into `dest`, which is made, or must be an empty directory. Each file is
    /// hashed again on its way. Only for images of nothing but plain files and directories, such as the
    /// native builder makes: links and special files would act outside `dest`, and are refused.
    pub fn extract(&self, dest: &Path) -> Result<()> {
        self.tree.require_plain()?;
        empty_directory(dest)?;
        let extracted = self.extract_into(dest);
        if extracted.is_err() {
            clear(dest);
        }
        extracted
    }

    fn extract_into(&self, dest: &Path) -> Result<()> {
        // Layer by layer, in the order of the stream; several names may share one content.
        let mut wanted: BTreeMap<(usize, u64), Vec<(String, &File)>> = BTreeMap::new();
        let unpacked = self.layers.iter().fold(COPIES_FREE, |sum, blob| sum.saturating_add(blob.unpacked));
        let mut bytes = 0u64;
        for (path, node) in self.tree.nodes() {
            match node {
                Node::File(file) => {
                    // Each hard link becomes a file of its own.
                    bytes = bytes.saturating_add(file.size);
                    if bytes > unpacked {
                        let what = "the image's files, each hard link a copy,".into();
                        return Err(Error::Limit { what, limit: format!("{unpacked} bytes") });
                    }
                    wanted.entry(file.place()).or_default().push((path, file));
                }
                _ => {
                    let path = dest.join(path);
                    fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
                }
            }
        }
        let mut current = None;
        for ((layer, offset), names) in wanted {
            let (stream, position) = match &mut current {
                Some((open, stream, position)) if *open == layer => (stream, position),
                _ => {
                    let stream = layer::stream(layer, &self.layers[layer])?;
                    let (_, stream, position) = current.insert((layer, stream, 0));
                    (stream, position)
                }
            };
            let (first, file) = (&names[0].0, names[0].1);
            stream.skip(offset - *position).map_err(|e| changed(first, e))?;
            *position = offset + file.size;
            let target = dest.join(first);
            let mut content = Hashing::new(stream.by_ref().take(file.size));
            write_file(&target, file.mode & 0o100 != 0, &mut content)?;
            if content.finish() != file.sha256 {
                return Err(changed(first, "other bytes"));
            }
            for (other, _) in &names[1..] {
                let source = fs::File::open(&target).map_err(Error::io("read", &target))?;
                write_file(&dest.join(other), file.mode & 0o100 != 0, source)?;
            }
        }
        Ok(())
    }
}

fn changed(path: &str, found: impl std::fmt::Display) -> Error {
    Error::Image {
        part: path.into(),
        expected: "the bytes that were checked before".into(),
        found: found.to_string(),
    }
}

/// Most layers that are read at once: each takes buffers.
const READERS: usize = 8;

/// Reads all layers, several at a time: hashing is what takes the time. A layer that occurs again is read once: the
/// second part says which of the layers each blob is.
fn read_layers(blobs: &[layout::Blob]) -> Result<(Vec<layer::Layer>, Vec<usize>, layer::Limits)> {
    let mut distinct: Vec<(usize, &layout::Blob)> = Vec::new();
    let mut known = BTreeMap::new();
    let mut order = Vec::new();
    for (index, blob) in blobs.iter().enumerate() {
        let range = blob.region.range();
        let place = *known.entry((range.start, range.end, blob.diff_id, blob.digest)).or_insert_with(|| {
            distinct.push((index, blob));
            distinct.len() - 1
        });
        order.push(place);
    }
    let packed = distinct.iter().fold(0u64, |sum, (_, blob)| sum.saturating_add(blob.region.len()));
    let limits = layer::Limits::new(packed);
    let threads =
        std::thread::available_parallelism().map_or(1, |n| n.get()).min(READERS).min(distinct.len());
    let queue = Mutex::new(distinct.iter().enumerate());
    let layers = Mutex::new(BTreeMap::new());
    let refused = Mutex::new(None);
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((place, &(index, blob))) = next.filter(|_| !limits.stop.load(Ordering::Relaxed)) else {
                return;
            };
            match layer::read(index, blob, &limits) {
                Ok(layer) => {
                    layers.lock().unwrap_or_else(PoisonError::into_inner).insert(place, layer);
                }
                // The others stop now; what they say of it is not why the image is refused.
                Err(error) if !limits.stop.swap(true, Ordering::Relaxed) => {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                Err(_) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    if let Some(error) = refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let layers: Vec<_> = layers.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    // Each time that one occurs, its entries are gone through again.
    for (index, &layer) in order.iter().enumerate() {
        if distinct[layer].0 != index {
            limits.budget.charge(layers[layer].paths.cost(), "what repeated layers of the image change")?;
        }
    }
    Ok((layers, order, limits))
}

#[cfg(test)]
mod tests;
