//! Layers on top of each other: the files an image ends up with.
//!
//! Rules: the OCI image specification, "Applying Changesets". Where engines are known to differ (a path
//! below something that is no directory), the image is refused: a fingerprint must not depend on
//! which engine unpacks. Time and memory are linear in what the layers hold: paths are walked by component, and each
//! link is followed once.

use std::collections::HashMap;

use super::layer::{Change, Layer, name};
use super::layout::wrong;
use crate::Result;
use crate::paths::{Budget, Id, Paths, ROOT};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A directory.
    #[default]
    Directory,
    /// A symbolic link, with its target as written.
    Symlink(String),
    /// A device or a FIFO.
    Special,
}

/// The files of an image by path; paths are relative to its root, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Tree {
    paths: Paths<Node>,
    /// Where each symbolic link leads, and through how many links in all; `None` where it leads nowhere.
    links: HashMap<Id, Option<(Id, usize)>>,
    /// What may be kept about the files.
    budget: Budget,
}

/// A walk along a path, as far as it has come.
struct Walk<'a> {
    at: Id,
    links: usize,
    left: Option<&'a str>,
}

/// Where a walk ended.
enum End {
    At(Id),
    Nowhere,
    /// At a link of which is not known yet where it leads.
    Link(Id),
}

impl File {
    /// Where the content is: the layer, and the offset in it. Hard links share it.
    pub(crate) fn place(&self) -> (usize, u64) {
        (self.layer, self.offset)
    }
}

impl Tree {
    /// An empty tree that may grow within `budget`.
    pub(super) fn within(budget: Budget) -> Self {
        Tree { budget, ..Tree::default() }
    }

    /// Allows for another layer of `packed` bytes.
    pub(super) fn grow(&mut self, packed: u64) {
        self.budget.grow(packed);
    }

    /// Everything in the image: each directory before what is in it, names in order.
    pub fn nodes(&self) -> impl Iterator<Item = (String, &Node)> {
        self.paths.below(ROOT).map(|(path, _, node)| (path, node))
    }

    /// How many files, directories and links there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is nothing in the image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A bound like the one that this tree had, of which nothing is used: for lists that are made of it.
    pub(crate) fn budget(&self) -> Budget {
        self.budget.fresh()
    }

    /// What stands at exactly this path.
    pub fn node(&self, path: &str) -> Option<&Node> {
        self.paths.find(path).map(|id| self.paths.value(id))
    }

    /// Everything below the directory at exactly `path`, as in [`Tree::nodes`]: paths from the image's root on, what
    /// stands there, and the regular file that this is or leads to.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (String, &Node, Option<&File>)> {
        let below = self.paths.find(path).map(|id| self.paths.below(id));
        below.into_iter().flatten().map(|(path, id, node)| (path, node, self.file(id)))
    }

    /// The regular file that a node is or leads to.
    fn file(&self, id: Id) -> Option<&File> {
        let id = match self.paths.value(id) {
            Node::Symlink(_) => self.links.get(&id).copied().flatten()?.0,
            _ => id,
        };
        match self.paths.value(id) {
            Node::File(file) => Some(file),
            _ => None,
        }
    }

    /// The path of the directory at `path`, symbolic links followed inside the image; `None` if there is none.
    pub fn resolve_directory(&self, path: &str) -> Option<String> {
        let id = self.walk(path).filter(|&id| id != ROOT)?;
        (*self.paths.value(id) == Node::Directory).then(|| self.paths.path(id))
    }

    /// The regular file at `path`, symbolic links followed inside the image; `None` if there is none.
    pub fn resolve(&self, path: &str) -> Option<&File> {
        self.file(self.walk(path)?)
    }

    fn walk(&self, path: &str) -> Option<Id> {
        let mut walk = Walk { at: ROOT, links: 0, left: Some(path) };
        match walk.advance(&self.paths, &self.links) {
            End::At(id) => Some(id),
            _ => None,
        }
    }

    /// Finds out where every symbolic link leads, each once.
    fn follow_links(&mut self) {
        let Tree { paths, links, .. } = self;
        links.clear();
        for (_, link, _) in paths.below(ROOT).filter(|(_, _, node)| matches!(node, Node::Symlink(_))) {
            if links.contains_key(&link) {
                continue;
            }
            // Until it is done it leads nowhere: what comes back to it goes round in circles.
            links.insert(link, None);
            let mut open = vec![(link, Walk::from_link(paths, link))];
            while let Some((id, walk)) = open.last_mut() {
                match walk.advance(paths, links) {
                    End::Link(next) => {
                        links.insert(next, None);
                        open.push((next, Walk::from_link(paths, next)));
                        continue;
                    }
                    End::At(target) => drop(links.insert(*id, Some((target, walk.links)))),
                    End::Nowhere => {}
                }
                open.pop();
            }
        }
    }

    /// Refuses an image with anything but plain files and directories in it.
    pub(crate) fn require_plain(&self) -> Result<()> {
        for (path, node) in self.nodes() {
            let found = match node {
                Node::Directory => continue,
                Node::File(file) if file.mode & 0o7000 == 0 => continue,
                Node::File(file) => format!("mode {:04o}", file.mode),
                Node::Symlink(_) => "a symbolic link".into(),
                Node::Special => "a device or FIFO".into(),
            };
            return Err(wrong(&path, "plain files and directories only", found));
        }
        Ok(())
    }

    /// Puts layers on top, one after the other.
    pub(super) fn apply<'a>(&mut self, layers: impl IntoIterator<Item = &'a Layer>) -> Result<()> {
        for layer in layers {
            self.apply_one(layer)?;
        }
        self.follow_links();
        Ok(())
    }

    fn apply_one(&mut self, layer: &Layer) -> Result<()> {
        let before = self.paths.cost();
        self.refuse_early_links(layer)?;
        self.merge(layer)?;
        self.link(layer)?;
        let after = self.paths.cost();
        self.budget.release(before.saturating_sub(after));
        self.budget.charge(after.saturating_sub(before), "the list of files of the image")
    }

    /// Engines go through a layer in order, and would take the file that is about to be replaced.
    fn refuse_early_links(&self, layer: &Layer) -> Result<()> {
        for &id in &layer.links {
            let Some(Change::Link(link)) = &layer.paths.value(id).change else { continue };
            let replaced = || {
                let own = layer.paths.find(&link.target);
                own.is_some_and(|id| layer.paths.value(id).change.is_some())
                    && self.paths.find(&link.target).is_some()
            };
            if link.early && replaced() {
                let (path, target) = (layer.paths.path(id), &link.target);
                let found = format!("a hard link from {path} to {target} before {target} is replaced");
                return Err(wrong(&name(layer.index), "hard links behind the files that they name", found));
            }
        }
        Ok(())
    }

    /// Everything of a layer but its hard links.
    fn merge(&mut self, layer: &Layer) -> Result<()> {
        let mut open = vec![(ROOT, ROOT)];
        while let Some((from, to)) = open.pop() {
            if layer.paths.value(from).opaque {
                self.paths.clear(to);
            }
            for (component, upper) in layer.paths.children(from) {
                let item = layer.paths.value(upper);
                let mut lower = self.paths.child(to, component);
                if item.whiteout
                    && let Some(id) = lower.take()
                {
                    self.paths.remove(id);
                }
                match &item.change {
                    None | Some(Change::Put(Node::Directory)) => {
                        let is_directory = |id: Id| *self.paths.value(id) == Node::Directory;
                        let id = match lower {
                            Some(id) if is_directory(id) => id,
                            // Where that is a link, some engines would follow it.
                            Some(_) if item.implied => {
                                let found = format!("{} below something else", layer.paths.path(upper));
                                return Err(wrong(&name(layer.index), "paths below directories", found));
                            }
                            Some(id) => {
                                self.set(id, Node::Directory);
                                id
                            }
                            None if item.holds || item.change.is_some() => self.paths.add(to, component),
                            None => continue,
                        };
                        if layer.paths.has_children(upper) || layer.paths.value(upper).opaque {
                            open.push((upper, id));
                        }
                    }
                    Some(Change::Put(node)) => {
                        let id = lower.unwrap_or_else(|| self.paths.add(to, component));
                        self.set(id, node.clone());
                    }
                    Some(Change::Link(_)) => {}
                }
            }
        }
        Ok(())
    }

    /// Makes a node what it is from now on.
    fn set(&mut self, id: Id, node: Node) {
        if node != Node::Directory {
            self.paths.clear(id);
        }
        if let Node::Symlink(target) = &node {
            self.paths.note(target.len());
        }
        *self.paths.value_mut(id) = node;
    }

    /// The hard links of a layer. One may stand before what it names, and may name another one: each is done once.
    fn link(&mut self, layer: &Layer) -> Result<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Open,
            Done,
        }
        let target_of = |id: Id| match &layer.paths.value(id).change {
            Some(Change::Link(link)) => Some(&*link.target),
            _ => None,
        };
        let mut states: HashMap<Id, State> = HashMap::new();
        for &first in &layer.links {
            let mut chain = vec![first];
            let refuse = |id: Id| {
                let (path, target) = (layer.paths.path(id), target_of(id).unwrap_or_default());
                let found = format!("a hard link from {path} to {target}, which is none");
                Err(wrong(&name(layer.index), "hard links to files of the image", found))
            };
            while let Some(&id) = chain.last() {
                if states.get(&id) == Some(&State::Done) {
                    chain.pop();
                    continue;
                }
                let Some(target) = target_of(id) else { break };
                let next = layer.paths.find(target).filter(|&next| target_of(next).is_some());
                match next.map(|next| (next, states.get(&next))) {
                    Some((next, None)) => {
                        states.insert(id, State::Open);
                        chain.push(next);
                        continue;
                    }
                    Some((_, Some(State::Open))) => return refuse(id),
                    Some((_, Some(State::Done))) | None => {}
                }
                let node = match self.node(target) {
                    Some(node @ (Node::File(_) | Node::Symlink(_) | Node::Special)) => node.clone(),
                    _ => return refuse(id),
                };
                let path = layer.paths.path(id);
                let (parent, component) = path.rsplit_once('/').unwrap_or(("", &path));
                let parent = if parent.is_empty() { Some(ROOT) } else { self.paths.find(parent) };
                let Some(parent) = parent else { return refuse(id) };
                let at = self.paths.child(parent, component);
                let at = at.unwrap_or_else(|| self.paths.add(parent, component));
                self.set(at, node);
                states.insert(id, State::Done);
                chain.pop();
            }
        }
        Ok(())
    }
}

impl<'a> Walk<'a> {
    fn from_link(paths: &'a Paths<Node>, link: Id) -> Self {
        let Node::Symlink(target) = paths.value(link) else {
            return Walk { at: link, links: 0, left: None };
        };
        let at = if target.starts_with('/') { ROOT } else { paths.parent(link) };
        Walk { at, links: 1, left: Some(target) }
    }

    /// Goes on until the path ends, leads nowhere, or a link has to be followed first.
    fn advance(&mut self, paths: &Paths<Node>, links: &HashMap<Id, Option<(Id, usize)>>) -> End {
        while let Some(left) = self.left {
            let (component, rest) = match left.split_once('/') {
                Some((component, rest)) => (component, Some(rest)),
                None => (left, None),
            };
            match component {
                "" | "." => {}
                ".." => self.at = paths.parent(self.at),
                component => {
                    let Some(mut id) = paths.child(self.at, component) else { return End::Nowhere };
                    if let Node::Symlink(_) = paths.value(id) {
                        match links.get(&id) {
                            None => return End::Link(id),
                            Some(None) => return End::Nowhere,
                            Some(&Some((target, count))) => {
                                self.links += count;
                                id = target;
                            }
                        }
                        if self.links > LINKS_LIMIT {
                            return End::Nowhere;
                        }
                    }
                    if *paths.value(id) != Node::Directory && rest.is_some() {
                        return End::Nowhere;
                    }
                    self.at = id;
                }
            }
            self.left = rest;
        }
        End::At(self.at)
    }
}
