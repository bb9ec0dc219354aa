//! What the names of an upstream mean, looked up again and again.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use squall_types::shard::Spread;

use super::balance::TargetSet;
use super::pool::{Resolution, UpstreamPool, code_of};
use super::target::{Origin, Target};

/// How often connections and ejections are looked at.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a name means something, it is asked for more often.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Nobody is asked more often than this, however much fails.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 256;

/// Runs for as long as somebody else holds the pool.
pub(super) async fn keep(pool: Weak<UpstreamPool>) {
    let mut resolved: Option<Instant> = None;
    let mut hurry = false;
    loop {
        let Some(held) = pool.upgrade() else { return };
        let known = held.is_resolved();
        let interval = match (known, hurry) {
            (false, _) => FIRST_INTERVAL,
            (true, true) => SHORTEST_INTERVAL,
            (true, false) => Duration::from_millis(held.settings.dns_refresh_ms),
        };
        if resolved.is_none_or(|last| last.elapsed() >= interval) {
            resolve_all(&held).await;
            (resolved, hurry) = (Some(Instant::now()), false);
        }
        held.tidy();
        let soon = held.resolve_soon.clone();
        drop(held);
        hurry |= tokio::time::timeout(TIDY_INTERVAL, soon.notified()).await.is_ok();
    }
}

/// Looks up every name. One that does not resolve keeps the addresses that it had.
async fn resolve_all(pool: &UpstreamPool) {
    let before = pool.set.load_full();
    let mut targets = Vec::new();
    let mut failure = None;
    for origin in &pool.origins {
        let had = || before.targets.iter().filter(|target| Arc::ptr_eq(&target.origin, origin));
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, pool.dial.resolve(&origin.endpoint));
        let found = lookup.await.unwrap_or_else(|_| {
            let message = format!("{} did not resolve in time", origin.endpoint.host);
            let kind = squall_types::outbound::OutboundErrorKind::DnsTimeout;
            Err(squall_types::outbound::OutboundError::new(kind, message))
        });
        match found {
            Ok(addresses) => {
                let addresses = addresses.iter().take(ADDRESSES_MAX);
                targets.extend(addresses.map(|address| keep_or_add(&before, origin, *address)));
            }
            Err(error) => {
                pool.counters.resolve_failures.fetch_add(1, Ordering::Relaxed);
                targets.extend(had().map(|target| target.shared().clone()));
                failure = Some(error);
            }
        }
    }
    if targets.is_empty() {
        if let Some(failure) = failure {
            pool.log(code_of(&failure), &failure.message);
            pool.resolution.send_replace(Resolution::Failed(failure));
        }
        return;
    }
    let same = targets.len() == before.targets.len()
        && targets.iter().zip(&before.targets).all(|(new, old)| Arc::ptr_eq(new, old.shared()));
    if !same {
        pool.set.store(Arc::new(TargetSet::new(targets, pool.settings.balance)));
        pool.has_targets.store(true, Ordering::Release);
    }
    pool.resolution.send_replace(Resolution::Done);
}

/// A target that stays keeps its connections and what is known of it.
fn keep_or_add(before: &TargetSet, origin: &Arc<Origin>, address: SocketAddr) -> Arc<Target> {
    let same =
        |target: &&Arc<Target>| Arc::ptr_eq(&target.origin, origin) && target.address == address;
    let kept = before.targets.iter().map(Spread::shared).find(same).cloned();
    kept.unwrap_or_else(|| Arc::new(Target::new(origin.clone(), address)))
}
