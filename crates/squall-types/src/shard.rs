//! One place for each thread, where threads would wait for each other at a shared one.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

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

/// A shared value whose owners each thread counts for itself.
///
/// Every clone and every drop of an `Arc` writes its count, and a count that several cores
/// write moves between their caches each time, which costs more than most of what a request
/// does with the value. Here a thread has an `Arc` of its own that holds the shared one.
pub struct Spread<T: ?Sized> {
    value: Arc<T>,
    /// Made for the first that asks: of what a node holds, most is seldom used.
    own: OnceLock<Box<[OnceLock<Local<T>>; SHARDS]>>,
}

impl<T> Spread<T> {
    pub fn new(value: T) -> Self {
        Arc::new(value).into()
    }
}

impl<T: ?Sized> Spread<T> {
    /// The calling thread's reference. It keeps the value alive, wherever it goes.
    pub fn own(&self) -> Local<T> {
        let all = self.own.get_or_init(|| Box::new([const { OnceLock::new() }; SHARDS]));
        all[own_shard()].get_or_init(|| Local::from(self.value.clone())).clone()
    }

    pub fn shared(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T: ?Sized> From<Arc<T>> for Spread<T> {
    fn from(value: Arc<T>) -> Self {
        Self { value, own: OnceLock::new() }
    }
}

impl<T: ?Sized> Deref for Spread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Spread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A reference whose clones are counted apart from those of other threads.
pub struct Local<T: ?Sized>(Arc<Arc<T>>);

impl<T: ?Sized> Local<T> {
    pub fn shared(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: ?Sized> From<Arc<T>> for Local<T> {
    fn from(value: Arc<T>) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: ?Sized> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_its_last_reference_on_any_thread() {
        let value = Arc::new(String::from("here"));
        let spread = Spread::from(value.clone());
        let (here, again) = (spread.own(), spread.own());
        assert!(Arc::ptr_eq(here.shared(), &value));
        assert_eq!(Arc::strong_count(&value), 3, "one for this thread, however often");
        let there = std::thread::scope(|scope| scope.spawn(|| spread.own()).join().unwrap());
        drop(spread);
        drop((here, again));
        assert_eq!((&**there, Arc::strong_count(&value)), ("here", 2));
        drop(there);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
