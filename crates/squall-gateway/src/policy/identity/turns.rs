//! Checks that take too long for a request core: few run at once, on threads of their
//! own, and few wait, so that a flood of wrong credentials stays a small flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

const AT_ONCE: usize = 2;
pub(super) const WAITING_MAX: usize = 64;

/// Of all sources of a node together.
pub(super) struct Turns {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), waiting: AtomicUsize::new(0) }
    }
}

impl Turns {
    /// What `check` finds; `None` when too many wait already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return None;
        }
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        drop(waiting);
        // The check goes on when its request is given up, and so does its permit.
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            check()
        });
        checked.await.ok()
    }
}

#[cfg(test)]
impl Turns {
    /// Lets nobody have a turn while it is held.
    pub(super) async fn hold_all(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.permits.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap()
    }
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}
