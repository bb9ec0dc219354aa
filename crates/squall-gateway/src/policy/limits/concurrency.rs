//! How many requests of a key are on their way at this moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_types::rate::RateKey;

use super::key::ByKey;

const SHARDS: usize = 64;
/// A map that has become empty gives its memory back when it holds more places than this.
const KEPT_CAPACITY: usize = 64;

/// The permits that are out, on the whole node. A key without any takes no memory.
pub(super) struct Concurrency {
    shards: [Mutex<ByKey<u32>>; SHARDS],
}

/// One request's place; given back when it is dropped.
pub(crate) struct Permit {
    concurrency: Arc<Concurrency>,
    key: RateKey,
}

impl Concurrency {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// None when `most` are out already.
    pub(super) fn take(self: &Arc<Self>, key: RateKey, most: u32) -> Option<Permit> {
        let mut counts = self.counts(key);
        let count = counts.entry(key.0).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Permit { concurrency: self.clone(), key })
    }

    fn counts(&self, key: RateKey) -> MutexGuard<'_, ByKey<u32>> {
        let shard = (key.0 >> 120) as usize % SHARDS;
        // A count is right after every single step.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.concurrency.counts(self.key);
        let Some(count) = counts.get_mut(&self.key.0) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.key.0);
            if counts.is_empty() && counts.capacity() > KEPT_CAPACITY {
                counts.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_by_key_and_leave_nothing_behind() {
        let permits = Arc::new(Concurrency::new());
        let (one, two) = (RateKey(1), RateKey(2 << 120));
        let held: Vec<_> = (0..3).map(|_| permits.take(one, 3).unwrap()).collect();
        assert!(permits.take(one, 3).is_none());
        let other = permits.take(two, 1).unwrap();
        assert_eq!(permits.len(), 2);
        drop(held);
        assert_eq!(permits.len(), 1);
        assert!(permits.take(one, 1).is_some());
        drop(other);
        assert_eq!(permits.len(), 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let permits = Arc::new(Concurrency::new());
        let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(permit) = permits.take(RateKey(9), 2) else { continue };
                        most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
        assert_eq!(permits.len(), 0);
    }
}
