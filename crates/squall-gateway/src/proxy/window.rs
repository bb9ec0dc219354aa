//! Counts of the last moments, without a lock and without cores that wait for each other.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use squall_types::shard::{Padded, SHARDS, own_shard};

const STEPS: u64 = 10;

/// How many requests there were, and how many of them were of the kind that is watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) marked: u64,
}

/// A window that moves in ten steps. A count can be lost in the moment of a step's turn,
/// when two threads share a shard; decisions by percent do not hang on it.
pub(crate) struct Window {
    step_ms: u64,
    shards: Box<[Padded<[Step; STEPS as usize]>]>,
}

#[derive(Debug, Default)]
struct Step {
    number: AtomicU64,
    requests: AtomicU32,
    marked: AtomicU32,
}

impl Window {
    pub(crate) fn new(window_ms: u64) -> Self {
        Self {
            step_ms: (window_ms / STEPS).max(1),
            shards: (0..SHARDS).map(|_| Padded::default()).collect(),
        }
    }

    /// Steps are counted from 1, so that 0 is one that was never used.
    fn number(&self, now_ms: u64) -> u64 {
        now_ms / self.step_ms + 1
    }

    fn step(&self, now_ms: u64) -> &Step {
        let number = self.number(now_ms);
        let step = &self.shards[own_shard()].0[(number % STEPS) as usize];
        if step.number.load(Ordering::Relaxed) != number {
            step.requests.store(0, Ordering::Relaxed);
            step.marked.store(0, Ordering::Relaxed);
            step.number.store(number, Ordering::Relaxed);
        }
        step
    }

    pub(crate) fn count_request(&self, now_ms: u64) {
        self.step(now_ms).requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn mark(&self, now_ms: u64) {
        self.step(now_ms).marked.fetch_add(1, Ordering::Relaxed);
    }

    /// Of the window that ends now, but nothing before `since_ms`.
    pub(crate) fn sums(&self, now_ms: u64, since_ms: u64) -> Sums {
        let last = self.number(now_ms);
        let first = (last + 1).saturating_sub(STEPS).max(self.number(since_ms));
        let mut sums = Sums::default();
        for step in self.shards.iter().flat_map(|shard| &shard.0) {
            if (first..=last).contains(&step.number.load(Ordering::Relaxed)) {
                sums.requests += u64::from(step.requests.load(Ordering::Relaxed));
                sums.marked += u64::from(step.marked.load(Ordering::Relaxed));
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_is_older_than_itself() {
        let window = Window::new(10_000);
        for now_ms in [0, 999, 1_000, 5_000] {
            window.count_request(now_ms);
        }
        window.mark(5_000);
        assert_eq!(window.sums(5_000, 0), Sums { requests: 4, marked: 1 });
        assert_eq!(window.sums(9_999, 0), Sums { requests: 4, marked: 1 });
        assert_eq!(window.sums(10_000, 0), Sums { requests: 2, marked: 1 });
        assert_eq!(window.sums(14_999, 0), Sums { requests: 1, marked: 1 });
        assert_eq!(window.sums(15_000, 0), Sums::default());
        assert_eq!(window.sums(5_000, 2_000), Sums { requests: 1, marked: 1 });
        window.count_request(100_000);
        assert_eq!(window.sums(100_000, 0), Sums { requests: 1, marked: 0 });
    }
}
