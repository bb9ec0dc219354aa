//! Work that shares a CPU with threads that serve requests.
//!
//! The kernel decides who runs when a thread wakes and when a turn ends. A request core that
//! wakes while this thread has just begun may not be let before it, and would then wait until
//! the whole batch is done. So batches are worked off in small pieces, with a chance for
//! others after each.

/// Entries of one piece: 20 to 40 µs of work.
const PIECE: usize = 64;

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
}
