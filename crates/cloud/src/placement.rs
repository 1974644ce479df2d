//! Which waiting app gets a place, as a pure function: in the order they came, by free enclave memory and cores.
//!
//! The order is strict: nobody overtakes, so that a large app is not kept out for ever by small ones. An app that
//! could never fit holds up nobody.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// An amount of what apps occupy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Enclave memory in MB.
    pub memory_mb: u64,
    /// Processor cores.
    pub cores: u64,
}

impl Room {
    /// Whether so much fits in.
    pub fn holds(self, ask: Room) -> bool {
        ask.memory_mb <= self.memory_mb && ask.cores <= self.cores
    }

    fn less(self, taken: Room) -> Room {
        Room {
            memory_mb: self.memory_mb.saturating_sub(taken.memory_mb),
            cores: self.cores.saturating_sub(taken.cores),
        }
    }
}

/// What becomes of one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has a place, and this port.
    Here(u16),
    /// It waits, behind so many others.
    Behind(u64),
    /// It is larger than the whole machine.
    Never,
}

/// Decides for all of `queue`, in its order. `free` is what is left of `whole`; `held` are the ports in use.
pub fn place(
    whole: Room,
    free: Room,
    ports: RangeInclusive<u16>,
    held: &BTreeSet<u16>,
    queue: &[Room],
) -> Vec<Place> {
    let mut free = free;
    let mut ports = ports.filter(|port| !held.contains(port));
    let mut waiting = 0;
    queue
        .iter()
        .map(|&ask| {
            if !whole.holds(ask) {
                return Place::Never;
            }
            if waiting == 0
                && free.holds(ask)
                && let Some(port) = ports.next()
            {
                free = free.less(ask);
                return Place::Here(port);
            }
            waiting += 1;
            Place::Behind(waiting - 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(memory_mb: u64, cores: u64) -> Room {
        Room { memory_mb, cores }
    }

    #[test]
    fn nobody_overtakes_and_the_impossible_is_passed_by() {
        let whole = room(8, 8);
        let queue = [room(4, 1), room(9, 1), room(5, 1), room(1, 1)];
        let found = place(whole, whole, 20..=29, &BTreeSet::from([20]), &queue);
        assert_eq!(found, [Place::Here(21), Place::Never, Place::Behind(0), Place::Behind(1)]);
    }

    /// All queues of up to four out of these, on machines of several sizes, more or less occupied.
    #[test]
    fn never_more_than_there_is_and_nobody_overtakes() {
        let asks = [room(1, 1), room(1, 3), room(3, 1), room(5, 5)];
        for (length, pattern) in
            (0..=4u32).flat_map(|length| (0..4usize.pow(length)).map(move |n| (length, n)))
        {
            let queue: Vec<Room> = (0..length).map(|place| asks[pattern / 4usize.pow(place) % 4]).collect();
            for size in 0..=6u64 {
                for (used, held) in
                    [(0, vec![]), (1, vec![21]), (3, vec![20, 21, 22]), (9, vec![20, 21, 22, 23])]
                {
                    let whole = room(size, size);
                    let free = whole.less(room(used, used));
                    let held = BTreeSet::from_iter(held);
                    check(whole, free, &held, &queue);
                }
            }
        }
    }

    fn check(whole: Room, free: Room, held: &BTreeSet<u16>, queue: &[Room]) {
        let found = place(whole, free, 20..=23, held, queue);
        assert_eq!(found.len(), queue.len());
        let (mut ports, mut taken, mut behind) = (held.clone(), Room::default(), 0);
        for (place, ask) in found.iter().zip(queue) {
            match place {
                Place::Here(port) => {
                    assert!(ports.insert(*port) && (20..=23).contains(port));
                    assert_eq!(behind, 0, "overtaken");
                    taken = room(taken.memory_mb + ask.memory_mb, taken.cores + ask.cores);
                }
                Place::Behind(others) => {
                    assert_eq!(*others, behind);
                    assert!(whole.holds(*ask));
                    let left = free.less(taken);
                    assert!(behind > 0 || !left.holds(*ask) || ports.len() == 4, "there was room");
                    behind += 1;
                }
                Place::Never => assert!(!whole.holds(*ask)),
            }
        }
        assert!(free.holds(taken));
    }
}
