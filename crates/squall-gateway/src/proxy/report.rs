//! How upstreams are now, for those who look after them.

use std::sync::atomic::{AtomicU64, Ordering};

use squall_types::gateway::{TargetHealth, TargetReport, UpstreamReport, UpstreamsReport};
use squall_types::{AppName, RevisionId};

use super::Upstreams;
use super::metrics::FAILURES;
use super::pool::{Resolution, UpstreamPool};
use super::target::Target;

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Upstreams {
    pub(crate) fn report(
        &self,
        app: Option<&AppName>,
        revisions: impl Fn(&UpstreamPool) -> Vec<RevisionId>,
    ) -> UpstreamsReport {
        let live = self.live();
        let wanted = live.iter().filter(|pool| app.is_none_or(|app| pool.app == *app));
        UpstreamsReport { items: wanted.map(|pool| of_pool(pool, revisions(pool))).collect() }
    }
}

fn of_pool(pool: &UpstreamPool, revisions: Vec<RevisionId>) -> UpstreamReport {
    let now_ms = pool.now_ms();
    let counters = &pool.counters;
    let targets = pool.targets();
    let unresolved = match &*pool.resolution.borrow() {
        Resolution::Failed(failure) if targets.is_empty() => Some(failure.message.clone()),
        _ => None,
    };
    UpstreamReport {
        app: pool.app.clone(),
        upstream: pool.name.to_string(),
        revisions,
        circuit: pool.circuit_state(),
        unresolved,
        tunnels: counters.tunnels.load(Ordering::Relaxed).into(),
        retries: read(&counters.retries),
        refused: read(&counters.refused),
        targets: targets.iter().map(|target| of_target(target, now_ms)).collect(),
    }
}

fn of_target(target: &Target, now_ms: u64) -> TargetReport {
    let counters = &target.counters;
    let ejected_for_ms = target.health.ejected_for_ms(now_ms);
    let health = match ejected_for_ms {
        _ if !target.health.passes_checks() => TargetHealth::Down,
        Some(_) => TargetHealth::Ejected,
        None => TargetHealth::Up,
    };
    let classes = target.answered().into_iter().enumerate();
    let responses = classes.map(|(class, count)| (format!("{}xx", class + 1), count));
    let failures =
        FAILURES.iter().map(|(reason, counter)| ((*reason).to_owned(), read(counter(counters))));
    TargetReport {
        target: target.label.clone(),
        weight: target.weight(),
        health,
        ejected_for_ms,
        in_flight: target.in_flight().into(),
        idle_connections: target.waiting() as u64,
        connections_opened: read(&counters.connections),
        connections_reused: target.reused(),
        responses: responses.filter(|(_, count)| *count > 0).collect(),
        failures: failures.filter(|(_, count)| *count > 0).collect(),
        ejections: read(&counters.ejections),
        checks_failed: read(&counters.checks_failed),
    }
}
