//! The upstream side of the gateway: from a route to a service behind it, and back.
//!
//! A pool belongs to an app, a name and a configuration, and lives as long as a route
//! names it: a new snapshot finds it again, with its connections and what it has learned,
//! unless that configuration changed. Nothing here decides which addresses may be
//! reached: that is the dialler's (`squall_types::dial`).

mod forward;

mod balance;
mod circuit;
mod discovery;
mod flight;
mod forwarded;
mod health;
mod http1;
mod http2;
mod metrics;
mod pool;
mod replay;
mod report;
mod response;
mod target;
pub(crate) mod upgrade;
mod websocket;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use squall_types::AppName;
use squall_types::dial::Dial;
use squall_types::gateway::Upstream;
use squall_types::log::LogSink;
use tokio::runtime::Handle;

pub(crate) use forward::Context;
pub(crate) use forwarded::Forwarded;
pub(crate) use pool::UpstreamPool;
pub(crate) use replay::ReplayBody;

/// Of each app and name, one for each configuration that a live revision has.
type Pools = HashMap<(AppName, String), Vec<Weak<UpstreamPool>>>;

/// The upstreams of a node.
pub(crate) struct Upstreams {
    dial: Arc<dyn Dial>,
    logs: Arc<dyn LogSink>,
    pools: Mutex<Pools>,
    /// Where names are resolved and targets checked.
    runtime: OnceLock<Handle>,
}

impl Upstreams {
    pub(crate) fn new(dial: Arc<dyn Dial>, logs: Arc<dyn LogSink>) -> Self {
        let runtime = OnceLock::new();
        if let Ok(handle) = Handle::try_current() {
            let _ = runtime.set(handle);
        }
        Self { dial, logs, pools: Mutex::default(), runtime }
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime for background work, when the gateway was made outside of one.
    pub(crate) fn run_on(&self, runtime: &Handle) {
        if self.runtime.set(runtime.clone()).is_ok() {
            for pool in self.live() {
                pool.start(runtime);
            }
        }
    }

    /// The pool of an upstream with these settings: the one that there is, or a new one.
    pub(crate) fn compile(
        &self,
        app: &AppName,
        name: &str,
        settings: &Upstream,
    ) -> Arc<UpstreamPool> {
        let mut pools = self.lock();
        pools.retain(|_, known| {
            known.retain(|pool| pool.strong_count() > 0);
            !known.is_empty()
        });
        let known = pools.entry((app.clone(), name.to_owned())).or_default();
        let mut alive = known.iter().filter_map(Weak::upgrade);
        if let Some(same) = alive.find(|pool| pool.settings == *settings) {
            return same;
        }
        let (dial, logs) = (self.dial.clone(), self.logs.clone());
        let pool = UpstreamPool::new(app.clone(), name, settings, dial, logs);
        let pool = Arc::new(pool);
        known.push(Arc::downgrade(&pool));
        if let Some(runtime) = self.runtime.get() {
            pool.start(runtime);
        }
        pool
    }

    /// By app and name.
    pub(crate) fn live(&self) -> Vec<Arc<UpstreamPool>> {
        let mut live: Vec<_> = self.lock().values().flatten().filter_map(Weak::upgrade).collect();
        live.sort_by(|a, b| (&a.app, &*a.name).cmp(&(&b.app, &*b.name)));
        live
    }

    /// Takes note of which pools revisions with traffic lead to. The others are still served to
    /// who asks for an earlier revision, and not checked.
    pub(crate) fn note_current(&self, is_current: impl Fn(&UpstreamPool) -> bool) {
        for pool in self.live() {
            pool.set_current(is_current(&pool));
        }
    }

    /// Prometheus text.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        metrics::write(&self.live(), out);
    }
}

#[cfg(test)]
mod tests;
