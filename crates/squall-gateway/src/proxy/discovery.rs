//! What the names of an upstream mean, looked up again and again.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use squall_types::outbound::{OutboundError, OutboundErrorKind};
use squall_types::shard::Spread;

use super::balance::TargetSet;
use super::pool::{Resolution, UpstreamPool, code_of};
use super::target::{Origin, Target};

/// How often connections and ejections are looked at.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody is asked more often than this, however much fails.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 256;

/// Runs for as long as somebody else holds the pool.
pub(super) async fn keep(pool: Weak<UpstreamPool>) {
    let mut resolved: Option<Instant> = None;
    let mut hurry = false;
    // Until a name means something, it is asked for more often, and then less and less so.
    let mut vain = 0_u32;
    loop {
        let Some(held) = pool.upgrade() else { return };
        let refresh = Duration::from_millis(held.settings.dns_refresh_ms);
        let interval = match (held.is_resolved(), hurry) {
            (_, true) => SHORTEST_INTERVAL,
            (true, false) => refresh,
            (false, false) => {
                let grown = SHORTEST_INTERVAL.saturating_mul(1 << vain.saturating_sub(1));
                grown.min(refresh.max(SHORTEST_INTERVAL))
            }
        };
        if resolved.is_none_or(|last| last.elapsed() >= interval) {
            resolve_all(&held).await;
            vain = if held.is_resolved() { 0 } else { (vain + 1).min(16) };
            (resolved, hurry) = (Some(Instant::now()), false);
        }
        held.tidy();
        let soon = held.resolve_soon.clone();
        drop(held);
        hurry |= tokio::time::timeout(TIDY_INTERVAL, soon.notified()).await.is_ok();
    }
}

/// Looks up every name, all at once: one that takes long holds up no other. One that does not
/// resolve keeps the addresses that it had.
async fn resolve_all(pool: &UpstreamPool) {
    let lookups =
        pool.origins.iter().map(|origin| async move { (origin, look_up(pool, origin).await) });
    let mut lookups: FuturesUnordered<_> = lookups.collect();
    let mut failure = None;
    while let Some((origin, found)) = lookups.next().await {
        match found {
            Ok(addresses) => learn(pool, origin, &addresses),
            Err(error) => {
                pool.counters.resolve_failures.fetch_add(1, Ordering::Relaxed);
                failure = Some(error);
            }
        }
    }
    if !pool.set.load().targets.is_empty() {
        pool.resolution.send_replace(Resolution::Done);
    } else if let Some(failure) = failure {
        let known = matches!(&*pool.resolution.borrow(),
            Resolution::Failed(before) if before.message == failure.message);
        if !known {
            pool.log(code_of(&failure), &failure.message);
        }
        pool.resolution.send_replace(Resolution::Failed(failure));
    }
}

async fn look_up(pool: &UpstreamPool, origin: &Origin) -> Result<Vec<SocketAddr>, OutboundError> {
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, pool.dial.resolve(&origin.endpoint));
    lookup.await.unwrap_or_else(|_| {
        let message = format!("{} did not resolve in time", origin.endpoint.host);
        Err(OutboundError::new(OutboundErrorKind::DnsTimeout, message))
    })
}

/// Takes over what the name of `origin` means now, beside what is known of the others.
fn learn(pool: &UpstreamPool, origin: &Arc<Origin>, addresses: &[SocketAddr]) {
    let before = pool.set.load_full();
    let mut targets = Vec::new();
    for one in &pool.origins {
        if Arc::ptr_eq(one, origin) {
            let addresses = addresses.iter().take(ADDRESSES_MAX);
            targets.extend(addresses.map(|address| keep_or_add(&before, origin, *address)));
        } else {
            let had = before.targets.iter().filter(|target| Arc::ptr_eq(&target.origin, one));
            targets.extend(had.map(|target| target.shared().clone()));
        }
    }
    let same = targets.len() == before.targets.len()
        && targets.iter().zip(&before.targets).all(|(new, old)| Arc::ptr_eq(new, old.shared()));
    // A set of nothing would be of no use to anybody.
    if targets.is_empty() || same {
        return;
    }
    pool.set.store(Arc::new(TargetSet::new(targets, pool.settings.balance)));
    pool.has_targets.store(true, Ordering::Release);
    // Requests go to what there is, while other names are still looked up.
    pool.resolution.send_replace(Resolution::Done);
}

/// A target that stays keeps its connections and what is known of it.
fn keep_or_add(before: &TargetSet, origin: &Arc<Origin>, address: SocketAddr) -> Arc<Target> {
    let same =
        |target: &&Arc<Target>| Arc::ptr_eq(&target.origin, origin) && target.address == address;
    let kept = before.targets.iter().map(Spread::shared).find(same).cloned();
    kept.unwrap_or_else(|| Arc::new(Target::new(origin.clone(), address)))
}
