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

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use squall_cache::store::Store;

pub(crate) use answer::answer;
pub(crate) use metrics::CacheCounters;
pub(crate) use plan::CachePlan;

use flight::Flights;
use unstored::Unstored;

/// The largest body that is stored where nothing else is configured. It is in memory while
/// it comes.
const OBJECT_MAX_BYTES: u64 = 32 << 20;

/// The cache of a node.
pub(crate) struct EdgeCache {
    store: Arc<Store>,
    flights: Arc<Flights>,
    unstored: Unstored,
    object_max_bytes: u64,
}

impl EdgeCache {
    /// `object_max_bytes` is for routes that do not say it themselves.
    pub(crate) fn new(store: Arc<Store>, object_max_bytes: Option<u64>) -> Self {
        Self {
            store,
            flights: Arc::default(),
            unstored: Unstored::default(),
            object_max_bytes: object_max_bytes.unwrap_or(OBJECT_MAX_BYTES),
        }
    }
}

/// Milliseconds of Unix time.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
