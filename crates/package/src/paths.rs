//! Paths of an archive or an image as a tree of components: memory and time grow with the components, not with the
//! length of each path times its depth.
//!
//! [`Budget`] bounds what such trees may take, in proportion to the bytes that they were read from.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// A node of a tree.
pub(crate) type Id = u32;

/// The root of every tree. It has no name.
pub(crate) const ROOT: Id = 0;

/// Bytes that a node takes besides its name: itself, and its place in its directory. Generous, so that what a budget
/// allows is what is really taken.
const NODE: u64 = 320;

/// Bytes that the names and nodes of an image may take: this much in any case, so much for each byte of the packed
/// layers, and never more than the last. Ordinary layers take less than one byte for each.
const METADATA_FREE: u64 = 4 << 20;
const METADATA_RATIO: u64 = 12;
const METADATA_LIMIT: u64 = 1 << 30;

/// A bound on memory, shared by all that count against it.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// What may be kept about the files of layers of `packed` bytes.
    pub(crate) fn for_layers(packed: u64) -> Self {
        let limit = METADATA_FREE.saturating_add(packed.saturating_mul(METADATA_RATIO)).min(METADATA_LIMIT);
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// Allows for another layer of `packed` bytes.
    pub(crate) fn grow(&mut self, packed: u64) {
        self.limit = self.limit.saturating_add(packed.saturating_mul(METADATA_RATIO)).min(METADATA_LIMIT);
    }

    /// The same bound again, of which nothing is used.
    pub(crate) fn fresh(&self) -> Self {
        Budget { limit: self.limit, used: AtomicU64::new(0) }
    }

    /// Takes `bytes` for `what`.
    pub(crate) fn charge(&self, bytes: u64, what: &str) -> Result<()> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            return Err(Error::Limit {
                what: what.into(),
                limit: format!(
                    "{} bytes of memory ({METADATA_FREE}, and {METADATA_RATIO} for each byte of the packed layers)",
                    self.limit
                ),
            });
        }
        Ok(())
    }

    /// Gives `bytes` back.
    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Slot<T> {
    name: Arc<str>,
    parent: Id,
    value: T,
    children: BTreeMap<Arc<str>, Id>,
}

impl<T: Default> Slot<T> {
    fn new(name: Arc<str>, parent: Id) -> Self {
        Slot { name, parent, value: T::default(), children: BTreeMap::new() }
    }
}

/// Values by path.
#[derive(Debug)]
pub(crate) struct Paths<T> {
    slots: Vec<Slot<T>>,
    free: Vec<Id>,
    cost: u64,
}

impl<T: Default> Default for Paths<T> {
    fn default() -> Self {
        Paths { slots: vec![Slot::new("".into(), ROOT)], free: Vec::new(), cost: NODE }
    }
}

impl<T: Default> Paths<T> {
    /// Bytes that all nodes take, and what [`Paths::note`] added.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// Counts `bytes` that a value keeps beside itself.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.cost += bytes as u64;
    }

    /// How many nodes there are, without the root.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len() - 1
    }

    pub(crate) fn value(&self, id: Id) -> &T {
        &self.slots[id as usize].value
    }

    pub(crate) fn value_mut(&mut self, id: Id) -> &mut T {
        &mut self.slots[id as usize].value
    }

    /// The directory around a node; the root's is itself.
    pub(crate) fn parent(&self, id: Id) -> Id {
        self.slots[id as usize].parent
    }

    pub(crate) fn child(&self, id: Id, name: &str) -> Option<Id> {
        self.slots[id as usize].children.get(name).copied()
    }

    pub(crate) fn children(&self, id: Id) -> impl Iterator<Item = (&str, Id)> {
        self.slots[id as usize].children.iter().map(|(name, &id)| (&**name, id))
    }

    pub(crate) fn has_children(&self, id: Id) -> bool {
        !self.slots[id as usize].children.is_empty()
    }

    /// What stands at exactly `path`.
    pub(crate) fn find(&self, path: &str) -> Option<Id> {
        path.split('/').try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// Adds `name`, which is not there yet, with the default value.
    pub(crate) fn add(&mut self, parent: Id, name: &str) -> Id {
        let name: Arc<str> = name.into();
        self.cost += NODE + name.len() as u64;
        let slot = Slot::new(name.clone(), parent);
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                // Budgets and limits on entries end this long before.
                (self.slots.len() - 1) as Id
            }
        };
        self.slots[parent as usize].children.insert(name, id);
        id
    }

    /// Removes a node (but the root) and all below it.
    pub(crate) fn remove(&mut self, id: Id) {
        self.clear(id);
        let slot = std::mem::replace(&mut self.slots[id as usize], Slot::new("".into(), ROOT));
        self.slots[slot.parent as usize].children.remove(&slot.name);
        self.cost = self.cost.saturating_sub(NODE + slot.name.len() as u64);
        self.free.push(id);
    }

    /// Removes all that is below a node.
    pub(crate) fn clear(&mut self, id: Id) {
        let take = |slot: &mut Slot<T>| std::mem::take(&mut slot.children).into_values();
        let mut left: Vec<Id> = take(&mut self.slots[id as usize]).collect();
        while let Some(id) = left.pop() {
            let mut slot = std::mem::replace(&mut self.slots[id as usize], Slot::new("".into(), ROOT));
            left.extend(take(&mut slot));
            self.cost = self.cost.saturating_sub(NODE + slot.name.len() as u64);
            self.free.push(id);
        }
    }

    /// The path of a node.
    pub(crate) fn path(&self, mut id: Id) -> String {
        let mut names = Vec::new();
        while id != ROOT {
            names.push(&*self.slots[id as usize].name);
            id = self.slots[id as usize].parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Everything below a node, each directory before what is in it, names in order. Paths begin at the root.
    pub(crate) fn below(&self, id: Id) -> Below<'_, T> {
        Below { paths: self, path: self.path(id), open: vec![self.slots[id as usize].children.iter()] }
    }
}

/// See [`Paths::below`].
pub(crate) struct Below<'a, T> {
    paths: &'a Paths<T>,
    /// The path of the directory that is open.
    path: String,
    open: Vec<btree_map::Iter<'a, Arc<str>, Id>>,
}

impl<'a, T> Iterator for Below<'a, T> {
    type Item = (String, Id, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.open.last_mut()?.next() {
                None => {
                    self.open.pop();
                    self.path.truncate(self.path.rfind('/').unwrap_or(0));
                }
                Some((name, &id)) => {
                    let slot = &self.paths.slots[id as usize];
                    let mut path = String::with_capacity(self.path.len() + 1 + name.len());
                    path.push_str(&self.path);
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(name);
                    if !slot.children.is_empty() {
                        self.path.clone_from(&path);
                        self.open.push(slot.children.iter());
                    }
                    return Some((path, id, &slot.value));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(paths: &mut Paths<u8>, path: &str, value: u8) {
        let mut at = ROOT;
        for name in path.split('/') {
            at = paths.child(at, name).unwrap_or_else(|| paths.add(at, name));
        }
        *paths.value_mut(at) = value;
    }

    fn listing(paths: &Paths<u8>) -> Vec<(String, u8)> {
        paths.below(ROOT).map(|(path, _, value)| (path, *value)).collect()
    }

    #[test]
    fn what_is_put_is_found_and_what_is_removed_is_gone() {
        let mut paths = Paths::default();
        let empty = paths.cost();
        for (path, value) in [("a/b/c", 1), ("a-b", 2), ("a/d", 3), ("x/y/z", 4)] {
            put(&mut paths, path, value);
        }
        let all: Vec<_> = listing(&paths).into_iter().map(|(path, _)| path).collect();
        assert_eq!(all, ["a", "a/b", "a/b/c", "a/d", "a-b", "x", "x/y", "x/y/z"]);
        assert_eq!(paths.len(), 8);
        assert_eq!(paths.path(paths.find("a/b/c").unwrap()), "a/b/c");
        assert_eq!(paths.find("a/b/d"), None);
        assert_eq!(paths.find(""), None);
        let a = paths.find("a").unwrap();
        assert_eq!(paths.below(a).map(|(path, ..)| path).collect::<Vec<_>>(), ["a/b", "a/b/c", "a/d"]);
        paths.remove(a);
        assert_eq!(paths.find("a/b/c"), None);
        put(&mut paths, "a", 5);
        assert_eq!(listing(&paths)[0], ("a".into(), 5));
        assert_eq!(paths.len(), 5);
        paths.clear(ROOT);
        assert_eq!((paths.len(), paths.cost()), (0, empty));
    }

    #[test]
    fn a_budget_is_used_up_once() {
        let budget = Budget::for_layers(1 << 20);
        let all = METADATA_FREE + (METADATA_RATIO << 20);
        budget.charge(all, "names").unwrap();
        assert!(matches!(budget.charge(1, "names"), Err(Error::Limit { .. })));
        budget.release(all + 1);
        budget.charge(all, "names").unwrap();
        budget.fresh().charge(all, "names").unwrap();
        assert!(Budget::for_layers(u64::MAX).charge(METADATA_LIMIT + 1, "names").is_err());
    }
}
