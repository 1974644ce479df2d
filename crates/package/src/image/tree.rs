//! Layers on top of each other: the files an image ends up with.
//!
//! Rules: the OCI image specification, "Applying Changesets". Where engines are known to differ (a path
//! below something that is no directory), the image is refused: a fingerprint must not depend on
//! which engine unpacks.

use std::collections::BTreeMap;

use super::layer::{Change, Layer, name};
use super::layout::wrong;
use crate::Result;

/// How many symbolic links are followed on the way to a file: Linux's own limit.
const LINKS_LIMIT: usize = 40;

/// A regular file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its size, in bytes.
    pub size: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The layer that brought it, from 0, and where in the unpacked layer its content begins.
    pub(super) layer: usize,
    pub(super) offset: u64,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A directory.
    Directory,
    /// A symbolic link, with its target as written.
    Symlink(String),
    /// A device or a FIFO.
    Special,
}

/// The files of an image by path; paths are relative to its root, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl File {
    /// Where the content is: the layer, and the offset in it. Hard links share it.
    pub(crate) fn place(&self) -> (usize, u64) {
        (self.layer, self.offset)
    }
}

impl Tree {
    /// Everything in the image, sorted by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// What stands at exactly this path.
    pub fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Everything below the directory at exactly `path`, sorted.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = format!("{path}/");
        (self.nodes.range(prefix.clone()..))
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// The path of the directory at `path`, symbolic links followed inside the image; `None` if there is none.
    pub fn resolve_directory(&self, path: &str) -> Option<String> {
        match self.walk(path)? {
            (at, Node::Directory) => Some(at),
            _ => None,
        }
    }

    /// The regular file at `path`, symbolic links followed inside the image; `None` if there is none.
    pub fn resolve(&self, path: &str) -> Option<&File> {
        match self.walk(path)? {
            (_, Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Where `path` leads, symbolic links followed inside the image.
    fn walk(&self, path: &str) -> Option<(String, &Node)> {
        let mut left: Vec<String> = path.split('/').rev().map(String::from).collect();
        let mut at: Vec<String> = Vec::new();
        let mut found = None;
        let mut links = 0;
        while let Some(component) = left.pop() {
            match component.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(component),
            }
            match self.nodes.get(&at.join("/"))? {
                Node::Symlink(target) => {
                    links += 1;
                    if links > LINKS_LIMIT {
                        return None;
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    left.extend(target.split('/').rev().map(String::from));
                }
                Node::Directory => {}
                node if left.is_empty() => found = Some(node),
                _ => return None,
            }
        }
        let path = at.join("/");
        let node = found.or_else(|| self.nodes.get(&path))?;
        Some((path, node))
    }

    /// Refuses an image with anything but plain files and directories in it.
    pub(crate) fn require_plain(&self) -> Result<()> {
        for (path, node) in &self.nodes {
            let found = match node {
                Node::Directory => continue,
                Node::File(file) if file.mode & 0o7000 == 0 => continue,
                Node::File(file) => format!("mode {:04o}", file.mode),
                Node::Symlink(_) => "a symbolic link".into(),
                Node::Special => "a device or FIFO".into(),
            };
            return Err(wrong(path, "plain files and directories only", found));
        }
        Ok(())
    }

    /// Puts one more layer on top.
    pub(super) fn apply(&mut self, layer: Layer) -> Result<()> {
        for path in &layer.opaque {
            self.remove_below(path);
        }
        for path in &layer.whiteouts {
            self.nodes.remove(path);
            self.remove_below(path);
        }
        for (path, change) in &layer.entries {
            // Engines go through a layer in order, and would take the file that is about to be replaced.
            if let Change::EarlyLink(target) = change
                && layer.entries.contains_key(target)
                && self.nodes.contains_key(target)
            {
                let found = format!("a hard link from {path} to {target} before {target} is replaced");
                return Err(wrong(&name(layer.index), "hard links behind the files that they name", found));
            }
        }
        let mut links = Vec::new();
        for (path, change) in layer.entries {
            match change {
                Change::Put(node) => self.put(layer.index, path, node)?,
                Change::Link(target) | Change::EarlyLink(target) => links.push((path, target)),
            }
        }
        // A link may stand before what it names, and may name another link.
        while !links.is_empty() {
            let before = links.len();
            let mut waiting = Vec::new();
            for (path, target) in links {
                match self.nodes.get(&target) {
                    Some(node @ (Node::File(_) | Node::Symlink(_) | Node::Special)) => {
                        let node = node.clone();
                        self.put(layer.index, path, node)?;
                    }
                    _ => waiting.push((path, target)),
                }
            }
            if waiting.len() == before {
                let (path, target) = &waiting[0];
                let found = format!("a hard link from {path} to {target}, which is none");
                return Err(wrong(&name(layer.index), "hard links to files of the image", found));
            }
            links = waiting;
        }
        Ok(())
    }

    fn put(&mut self, layer: usize, path: String, node: Node) -> Result<()> {
        for (slash, _) in path.match_indices('/') {
            let above = self.nodes.entry(path[..slash].into()).or_insert(Node::Directory);
            if *above != Node::Directory {
                let found = format!("{path} below something else");
                return Err(wrong(&name(layer), "paths below directories", found));
            }
        }
        if node != Node::Directory {
            self.remove_below(&path);
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Removes everything below `path`, but not `path` itself.
    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            self.nodes.clear();
            return;
        }
        let prefix = format!("{path}/");
        let below: Vec<String> = (self.nodes.range(prefix.clone()..))
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&prefix))
            .cloned()
            .collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }
}
