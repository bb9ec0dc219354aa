//! Buffers that many threads fill and one thread empties.
//!
//! A thread keeps to one shard, so its lock is free but for the instant in which the
//! emptying thread exchanges the buffer for another one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use squall_types::shard::{Padded, SHARDS, own_shard};

use crate::lock;

/// A buffer that was mostly empty is given back when it has room for more items than this.
const KEEP_CAPACITY: usize = 1024;

/// What one thread fills.
pub(crate) trait Buffer: Default {
    fn is_empty(&self) -> bool;
    /// Empties it for another use.
    fn clear(&mut self);
}

impl<T> Buffer for Vec<T> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn clear(&mut self) {
        clear(self, KEEP_CAPACITY);
    }
}

/// Empties `items`, and gives room for more than `keep` back when most of it was not used.
pub(crate) fn clear<T>(items: &mut Vec<T>, keep: usize) {
    let is_too_large = items.capacity() > keep && items.len() < items.capacity() / 8;
    items.clear();
    if is_too_large {
        *items = Vec::new();
    }
}

/// Buffers, one for each thread that fills them.
#[derive(Default)]
pub(crate) struct Shards<B>([Padded<Mutex<B>>; SHARDS]);

impl<B: Buffer> Shards<B> {
    /// The calling thread's.
    pub(crate) fn own(&self) -> MutexGuard<'_, B> {
        lock(&self.0[own_shard()].0)
    }

    /// Hands each buffer that is not empty to `take`. They are exchanged with `spare`, so
    /// that no lock is held while their contents are moved.
    pub(crate) fn drain(&self, spare: &mut B, mut take: impl FnMut(&mut B)) {
        for shard in &self.0 {
            {
                let mut buffer = lock(&shard.0);
                if buffer.is_empty() {
                    continue;
                }
                std::mem::swap(&mut *buffer, spare);
            }
            take(spare);
            spare.clear();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|shard| lock(&shard.0).is_empty())
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
    /// last look at the shard, so a relaxed load is enough to miss nothing; the same is
    /// true of whatever else the sleeper looks at under a lock.
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

    /// Waits until it is woken. `is_empty` looks once more whether there is nothing to do.
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
