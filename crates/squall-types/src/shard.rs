//! One place for each thread, where threads would wait for each other at a shared one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than the request cores of most machines; threads beyond share.
pub const SHARDS: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The calling thread's place, below `SHARDS`.
pub fn own_shard() -> usize {
    let own = OWN.get();
    if own != usize::MAX {
        return own;
    }
    let own = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    OWN.set(own);
    own
}

/// Two cache lines to itself, since neighbours are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);
