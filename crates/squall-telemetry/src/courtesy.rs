//! Work that shares a CPU with threads that serve requests.
//!
//! The kernel decides who runs when a thread wakes and when a turn ends. A request core that
//! wakes while this thread has just begun may not be let before it, and would then wait until
//! the whole batch is done. So batches are worked off in small pieces, with a chance for
//! others after each.

/// Entries of one piece: 10 to 20 µs of work.
const PIECE: usize = 32;

/// Counts steps of a batch, and yields the CPU after each piece.
#[derive(Default)]
pub(crate) struct Courtesy {
    steps: usize,
}

impl Courtesy {
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(PIECE) {
            std::thread::yield_now();
        }
    }

    /// Drops everything in `items`, which may hold much on the heap.
    pub(crate) fn clear<T>(&mut self, items: &mut Vec<T>) {
        while !items.is_empty() {
            items.truncate(items.len().saturating_sub(PIECE));
            std::thread::yield_now();
        }
    }
}
