//! The cache's place in the life of a request: behind the policies that let it in, before
//! what is behind the route.
//!
//! What may be stored and used is decided in `squall_cache::rfc`, where it is kept in
//! `squall_cache::store`. Here is what needs a request and an origin: who fetches and who
//! waits (`flight`), how a response comes to all of them (`fill`), and what happens behind
//! the caller's back (`background`).

mod admin;
mod answer;
mod background;
mod fetch;
mod fill;
mod flight;
mod functions;
mod metrics;
mod pieces;
mod plan;
mod unstored;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use squall_cache::store::Store;
use squall_types::AppName;
use squall_types::cache::CacheRouteReport;

pub(crate) use answer::answer;
pub(crate) use metrics::{CacheCounters, Outcome};
pub(crate) use plan::CachePlan;

use fill::Filling;
use flight::Flights;
use unstored::Unstored;

/// The largest body that is stored where nothing else is configured. It is in memory while
/// it comes.
const OBJECT_MAX_BYTES: u64 = 32 << 20;

/// For the disk of a server that ends.
const PURGES_WAIT: Duration = Duration::from_secs(10);

/// The cache of a node.
pub(crate) struct EdgeCache {
    store: ArcSwap<Store>,
    /// Another store follows, from a process that ends.
    awaited: AtomicBool,
    /// URLs that were changed meanwhile, which it may still have.
    changed: Mutex<Vec<(AppName, String)>>,
    flights: Arc<Flights>,
    unstored: Unstored,
    object_max_bytes: u64,
    /// What is on its way into the store.
    filling: Arc<Filling>,
    /// Bytes of bodies that functions are putting into caches of theirs.
    gathered_of_functions: Arc<AtomicU64>,
}

impl EdgeCache {
    /// `object_max_bytes` is for routes that do not say it themselves.
    pub(crate) fn new(store: Arc<Store>, object_max_bytes: Option<u64>) -> Self {
        Self {
            store: ArcSwap::new(store),
            awaited: AtomicBool::new(false),
            changed: Mutex::default(),
            flights: Arc::default(),
            unstored: Unstored::default(),
            object_max_bytes: object_max_bytes.unwrap_or(OBJECT_MAX_BYTES),
            filling: Arc::default(),
            gathered_of_functions: Arc::default(),
        }
    }

    /// Prometheus text.
    pub(crate) fn write_metrics(&self, routes: &[CacheRouteReport], out: &mut String) {
        metrics::write(routes, out);
        self.store().stats().write_metrics(out);
    }

    pub(crate) fn await_store(&self) {
        self.awaited.store(true, Ordering::Release);
    }

    pub(crate) fn no_other_store(&self) {
        self.awaited.store(false, Ordering::Release);
    }

    /// Goes on with another store; whoever has the one before ends with it.
    pub(crate) fn set_store(&self, store: Arc<Store>) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for (app, url) in changed.drain(..) {
            store.remove_url(&app, &url);
        }
        self.store.store(store);
        self.no_other_store();
    }

    /// What is stored of a URL is not to be used any more.
    fn remove_url(&self, app: &AppName, url: &str) {
        if self.awaited.load(Ordering::Acquire) {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have come by now: then it is the one that is asked below.
            if self.awaited.load(Ordering::Acquire) {
                changed.push((app.clone(), url.to_owned()));
            }
        }
        self.store().remove_url(app, url);
    }

    /// The store that purges must reach. Waits for the one that follows, at most a few
    /// seconds.
    fn store_of_all(&self) -> Option<Arc<Store>> {
        let until = Instant::now() + PURGES_WAIT;
        while self.awaited.load(Ordering::Acquire) {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(self.store())
    }

    fn store(&self) -> Arc<Store> {
        self.store.load_full()
    }
}

/// Milliseconds of Unix time.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
