//! Buffers that many threads fill and one thread empties.
//!
//! A thread keeps to one shard, so its lock is free but for the instant in which the
//! emptying thread exchanges the vector for another one.

use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use squall_types::shard::{Padded, SHARDS, own_shard};

use crate::lock;

/// A buffer that was mostly empty is given back when it holds more places than this.
const KEEP_CAPACITY: usize = 1024;

struct Buffer<T> {
    items: Vec<T>,
    bytes: usize,
    refused: u64,
}

/// Bounded buffers of `T`, one for each thread that fills them.
pub(crate) struct Shards<T> {
    shards: [Padded<Mutex<Buffer<T>>>; SHARDS],
    max_items: usize,
    max_bytes: usize,
}

impl<T> Shards<T> {
    /// Bounds are for each shard.
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        let shards = std::array::from_fn(|_| {
            Padded(Mutex::new(Buffer { items: Vec::new(), bytes: 0, refused: 0 }))
        });
        Self { shards, max_items, max_bytes }
    }

    /// Adds an item that holds about `bytes` on the heap, or gives it back when the
    /// shard is full.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut buffer = lock(&self.shards[own_shard()].0);
        if buffer.items.len() >= self.max_items || buffer.bytes + bytes > self.max_bytes {
            return Err(item);
        }
        buffer.bytes += bytes;
        buffer.items.push(item);
        Ok(())
    }

    /// Counts an item that found no place.
    pub(crate) fn refuse(&self) {
        lock(&self.shards[own_shard()].0).refused += 1;
    }

    /// Hands the items of each shard to `take`, which empties the vector. `spare` is
    /// exchanged with the full vectors, so that no lock is held while items are moved.
    /// Returns how many were refused since the last time.
    pub(crate) fn drain(&self, spare: &mut Vec<T>, mut take: impl FnMut(&mut Vec<T>)) -> u64 {
        let mut refused = 0;
        for shard in &self.shards {
            {
                let mut buffer = lock(&shard.0);
                refused += std::mem::take(&mut buffer.refused);
                if buffer.items.is_empty() {
                    continue;
                }
                std::mem::swap(&mut buffer.items, spare);
                buffer.bytes = 0;
            }
            let used = spare.len();
            take(spare);
            spare.clear();
            if spare.capacity() > KEEP_CAPACITY && used < spare.capacity() / 8 {
                *spare = Vec::new();
            }
        }
        refused
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| {
            let buffer = lock(&shard.0);
            buffer.items.is_empty() && buffer.refused == 0
        })
    }
}

/// Wakes the one thread that empties the shards, at no cost while it is awake.
#[derive(Default)]
pub(crate) struct Alarm {
    awake: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Alarm {
    /// The calling thread is the one to wake.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// To be called after a push. The shard's lock orders the push and the sleeper's
    /// last look at the shard, so a relaxed load is enough to miss nothing.
    pub(crate) fn wake(&self) {
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::AcqRel) {
            self.unpark();
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.unpark();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until something was pushed. `is_empty` looks at the shards once more.
    pub(crate) fn sleep(&self, is_empty: impl Fn() -> bool) {
        self.awake.store(false, Ordering::Release);
        if !is_empty() {
            self.awake.store(true, Ordering::Release);
            return;
        }
        while !self.awake.load(Ordering::Acquire) && !self.stopped() {
            std::thread::park();
        }
    }

    /// Waits for `interval`, or less when stopped.
    pub(crate) fn pause(&self, interval: Duration) {
        let until = std::time::Instant::now() + interval;
        while !self.stopped() {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn unpark(&self) {
        // Before the thread has attached itself it is awake anyway.
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
