//! What was found out at some cost, by a hash of what it was found out about: verified
//! tokens and passwords. Bounded, and one part for each thread.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use squall_types::shard::{Padded, SHARDS, own_shard};

/// Never the credential itself, nor anything that tells about it.
pub(super) type Digest = [u8; 32];

pub(super) struct Remembered<V> {
    /// Entries of one generation of one thread.
    capacity: usize,
    shards: Box<[Padded<Mutex<Generations<V>>>]>,
}

/// New entries go to the young. When they are full, the old are forgotten and the young
/// become the old: what is used meanwhile is carried over, and nobody has to keep order.
struct Generations<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
}

impl<V: Clone> Remembered<V> {
    pub(super) fn new(capacity: usize) -> Self {
        let empty =
            || Padded(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }));
        Self { capacity, shards: (0..SHARDS).map(|_| empty()).collect() }
    }

    /// The entry, if it still holds; one that does not is forgotten.
    pub(super) fn get(&self, digest: &Digest, holds: impl Fn(&V) -> bool) -> Option<V> {
        let mut own = self.own().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = own.young.get(digest) {
            if holds(found) {
                return Some(found.clone());
            }
            own.young.remove(digest);
            return None;
        }
        let found = own.old.remove(digest).filter(|found| holds(found))?;
        self.put(&mut own, *digest, found.clone());
        Some(found)
    }

    pub(super) fn insert(&self, digest: Digest, value: V) {
        let mut own = self.own().lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut own, digest, value);
    }

    fn own(&self) -> &Mutex<Generations<V>> {
        &self.shards[own_shard()].0
    }

    fn put(&self, own: &mut Generations<V>, digest: Digest, value: V) {
        if own.young.len() >= self.capacity && !own.young.contains_key(&digest) {
            own.old = std::mem::take(&mut own.young);
        }
        own.young.insert(digest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> Digest {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let cache = Remembered::new(10);
        for number in 0..1_000 {
            cache.insert(digest(number), number);
            assert_eq!(cache.get(&digest(0), |_| true), Some(0), "after {number}");
            assert_eq!(cache.get(&digest(number), |_| true), Some(number));
        }
        let kept = (0..1_000).filter(|number| cache.get(&digest(*number), |_| true).is_some());
        assert!(kept.count() <= 20);
    }

    #[test]
    fn what_holds_no_more_is_forgotten() {
        let cache = Remembered::new(10);
        cache.insert(digest(1), 1);
        assert_eq!(cache.get(&digest(1), |_| false), None);
        assert_eq!(cache.get(&digest(1), |_| true), None);
        assert_eq!(cache.get(&digest(2), |_| true), None);
    }
}
