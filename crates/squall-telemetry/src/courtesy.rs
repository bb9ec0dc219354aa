//! Work that shares a CPU with threads that serve requests.
//!
//! The kernel decides who runs when a thread wakes and when a turn ends. A request core that
//! wakes while this thread has just begun may not be let before it, and would then wait until
//! the whole batch is done. So batches are worked off in small pieces, with a chance for
//! others after each.

use std::time::Duration;

/// Entries that should come together in a pause: enough to be worth waking for, and few enough
/// to be in the cache still.
const BATCH: u32 = 256;

/// How long to wait for the next batch.
pub(crate) struct Pace {
    pause: Duration,
    shortest: Duration,
    longest: Duration,
}

impl Pace {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { pause: longest, shortest: shortest.min(longest), longest }
    }

    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// `count` entries came in the last pause: the next is as long as one batch takes.
    pub(crate) fn follow(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        self.pause = (self.pause * BATCH / count).clamp(self.shortest, self.longest);
    }
}

/// Counts steps of a batch, and yields the CPU after each piece.
pub(crate) struct Courtesy {
    piece: usize,
    steps: usize,
}

impl Courtesy {
    /// A piece of so many steps should be 20 to 40 µs of work.
    pub(crate) fn every(piece: usize) -> Self {
        Self { piece, steps: 0 }
    }

    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(self.piece) {
            std::thread::yield_now();
        }
    }
}
