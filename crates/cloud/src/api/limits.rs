//! How often somebody may ask, and how much at once: token buckets and counted places, in memory alone. A restart fills
//! them, which harms nobody.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Beyond so many, full buckets are thrown away.
const MOST: usize = 10_000;

/// How often: `per_second` in the long run, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In the long run.
    pub per_second: f64,
    /// At once.
    pub burst: f64,
}

/// A bucket for each of those who ask.
pub struct Buckets<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gone * rate.per_second).min(rate.burst);
        self.at = now;
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// All of them full.
    pub fn new(rate: Rate) -> Buckets<K> {
        Buckets { rate, buckets: Mutex::default() }
    }

    /// Takes one out of `who`'s bucket; else how long to wait.
    pub fn take(&self, who: K, now: Instant) -> Result<(), Duration> {
        self.with(who, now, |bucket| {
            if bucket.left >= 1.0 {
                bucket.left -= 1.0;
                return None;
            }
            Some(1.0 - bucket.left)
        })
    }

    /// Whether `who`'s bucket has one left; else how long to wait.
    pub fn look(&self, who: K, now: Instant) -> Result<(), Duration> {
        self.with(who, now, |bucket| (bucket.left < 1.0).then_some(1.0 - bucket.left))
    }

    fn with(
        &self,
        who: K,
        now: Instant,
        act: impl FnOnce(&mut Bucket) -> Option<f64>,
    ) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(&who) {
            let rate = self.rate;
            buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.left < rate.burst
            });
        }
        let bucket = buckets.entry(who).or_insert(Bucket { left: self.rate.burst, at: now });
        bucket.refill(self.rate, now);
        match act(bucket) {
            None => Ok(()),
            Some(missing) => {
                Err(Duration::try_from_secs_f64(missing / self.rate.per_second).unwrap_or(Duration::MAX))
            }
        }
    }
}

/// Places that each of those who come has a number of.
pub struct Places<K: Hash + Eq>(Arc<Mutex<HashMap<K, usize>>>);

#[cfg(test)]
impl<K: Hash + Eq> Places<K> {
    /// How many places somebody has.
    pub(crate) fn held(&self, who: K) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&who).copied().unwrap_or(0)
    }

    /// Whether nobody has a place.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A place; dropping it gives it back.
pub struct Place<K: Hash + Eq> {
    places: Places<K>,
    who: K,
}

impl<K: Hash + Eq> Default for Places<K> {
    fn default() -> Places<K> {
        Places(Arc::default())
    }
}

impl<K: Hash + Eq + Copy> Places<K> {
    /// A place for `who`, unless it has `most` already.
    pub fn enter(&self, who: K, most: usize) -> Option<Place<K>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = places.entry(who).or_default();
        if *held >= most {
            return None;
        }
        *held += 1;
        drop(places);
        Some(Place { places: Places(self.0.clone()), who })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut places = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = places.get_mut(&self.who) {
            *held -= 1;
            if *held == 0 {
                places.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_places_and_gives_them_back() {
        let places = Places::default();
        let held = [places.enter("a", 2), places.enter("a", 2)];
        assert!(held.iter().all(Option::is_some));
        assert!(places.enter("a", 2).is_none());
        assert!(places.enter("b", 2).is_some());
        drop(held);
        assert!(places.enter("a", 2).is_some());
        assert!(places.0.lock().unwrap().is_empty(), "nobody is remembered for nothing");
    }

    #[test]
    fn a_burst_then_a_steady_flow_each_for_oneself() {
        let buckets = Buckets::new(Rate { per_second: 2.0, burst: 3.0 });
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        assert_eq!(buckets.take("a", start), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take("b", start), Ok(()));
        let later = start + Duration::from_millis(500);
        assert_eq!(buckets.look("a", later), Ok(()));
        assert_eq!(buckets.take("a", later), Ok(()));
        assert!(buckets.take("a", later).is_err() && buckets.look("a", later).is_err());
    }

    #[test]
    fn the_memory_for_it_is_bounded_by_those_who_ask_at_present() {
        let buckets = Buckets::new(Rate { per_second: 1.0, burst: 1.0 });
        let start = Instant::now();
        for n in 0..MOST {
            buckets.take(n, start).unwrap();
        }
        buckets.take(MOST, start + Duration::from_secs(2)).unwrap();
        assert_eq!(buckets.buckets.lock().unwrap().len(), 1);
    }
}
