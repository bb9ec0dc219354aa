//! What upstreams do, in the Prometheus text format.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use squall_types::metrics::write_head;

use super::pool::UpstreamPool;
use super::target::{Counters, Target};
use crate::route_metrics::labels;

/// One row for each target of each pool.
type OfTarget = (&'static str, &'static str, &'static str, fn(&Target, u64) -> u64);
type OfPool = (&'static str, &'static str, &'static str, fn(&UpstreamPool) -> u64);

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const OF_TARGETS: [OfTarget; 7] = [
    ("in_flight", "gauge", "Requests that are at a target now.", |target, _| {
        u64::from(target.in_flight())
    }),
    ("connections_total", "counter", "Connections opened.", |target, _| {
        read(&target.counters.connections)
    }),
    ("reused_total", "counter", "Tries on a connection that was open.", |target, _| {
        target.reused()
    }),
    ("idle_connections", "gauge", "Connections that wait for a request.", |target, _| {
        target.waiting() as u64
    }),
    (
        "ejections_total",
        "counter",
        "Times that a target was taken out after failures.",
        |target, _| read(&target.counters.ejections),
    ),
    ("checks_failed_total", "counter", "Health checks that a target failed.", |target, _| {
        read(&target.counters.checks_failed)
    }),
    ("up", "gauge", "Whether a target passes its checks and is not ejected.", |target, now_ms| {
        u64::from(target.health.passes_checks() && !target.health.is_ejected(now_ms))
    }),
];

const OF_POOLS: [OfPool; 8] = [
    ("retries_total", "counter", "Tries beyond the first of a request.", |pool| {
        read(&pool.counters.retries)
    }),
    ("retries_over_budget_total", "counter", "Retries for which there was no budget.", |pool| {
        read(&pool.counters.retries_over_budget)
    }),
    ("refused_total", "counter", "Requests refused by the circuit breaker.", |pool| {
        read(&pool.counters.refused)
    }),
    ("circuit_opened_total", "counter", "Times that the circuit breaker opened.", |pool| {
        read(&pool.counters.circuit_opened)
    }),
    ("circuit_open", "gauge", "Whether the circuit breaker is open.", |pool| {
        u64::from(pool.is_current() && pool.is_circuit_open())
    }),
    (
        "panics_total",
        "counter",
        "Requests sent to an ejected target for want of another.",
        |pool| read(&pool.counters.panics),
    ),
    ("tunnels", "gauge", "Open WebSockets and other upgraded connections.", |pool| {
        u64::from(pool.counters.tunnels.load(Ordering::Relaxed))
    }),
    ("resolve_failures_total", "counter", "Lookups of a name that failed.", |pool| {
        read(&pool.counters.resolve_failures)
    }),
];

pub(super) type Failure = (&'static str, fn(&Counters) -> &AtomicU64);
pub(super) const FAILURES: [Failure; 4] = [
    ("connect", |counters| &counters.connect_failures),
    ("timeout", |counters| &counters.timeouts),
    ("broken", |counters| &counters.broken),
    ("malformed", |counters| &counters.malformed),
];

/// Several pools may be one upstream by its name: a revision that shares the traffic has other
/// settings, or one that was replaced has requests under way. A series is there once.
struct Series {
    rows: Vec<(String, u64)>,
    places: HashMap<String, usize>,
    /// What two values of a series are together.
    join: fn(u64, u64) -> u64,
}

impl Series {
    fn new(join: fn(u64, u64) -> u64) -> Self {
        Self { rows: Vec::new(), places: HashMap::new(), join }
    }

    fn add(&mut self, labels: String, value: u64) {
        if let Some(place) = self.places.get(&labels) {
            let (_, sum) = &mut self.rows[*place];
            *sum = (self.join)(*sum, value);
            return;
        }
        self.places.insert(labels.clone(), self.rows.len());
        self.rows.push((labels, value));
    }

    fn write(self, name: &str, kind: &str, help: &str, out: &mut String) {
        write_head(out, name, kind, help);
        for (labels, value) in self.rows {
            let _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    }
}

fn sum(one: u64, other: u64) -> u64 {
    one + other
}

pub(super) fn write(pools: &[Arc<UpstreamPool>], out: &mut String) {
    let named = pools.iter().map(|pool| {
        let labels = labels(pool.app.as_str(), "upstream", &pool.name);
        (labels, pool, pool.targets())
    });
    let named: Vec<_> = named.collect();
    let targets = || {
        named.iter().flat_map(|(labels, pool, targets)| {
            targets
                .iter()
                .map(move |target| (format!("{labels},target=\"{}\"", target.label), *pool, target))
        })
    };
    let mut answered = Series::new(sum);
    let mut failed = Series::new(sum);
    for (labels, _, target) in targets() {
        for (class, count) in target.answered().into_iter().enumerate() {
            if count > 0 {
                answered.add(format!("{labels},status=\"{}xx\"", class + 1), count);
            }
        }
        for (reason, counter) in FAILURES {
            failed.add(format!("{labels},reason=\"{reason}\""), read(counter(&target.counters)));
        }
    }
    let help = "Responses of targets, by class of status.";
    answered.write("squall_upstream_requests_total", "counter", help, out);
    let help = "Tries without a whole response, by what went wrong.";
    failed.write("squall_upstream_failures_total", "counter", help, out);
    for (name, kind, help, value) in OF_TARGETS {
        // A target that one of them can not use is down, where it is for those who get traffic.
        let is_up = name == "up";
        let mut series = Series::new(if is_up { u64::min } else { sum });
        for (labels, pool, target) in targets().filter(|(_, pool, _)| pool.is_current() || !is_up) {
            series.add(labels, value(target, pool.now_ms()));
        }
        series.write(&format!("squall_upstream_{name}"), kind, help, out);
    }
    for (name, kind, help, value) in OF_POOLS {
        let mut series = Series::new(if name == "circuit_open" { u64::max } else { sum });
        for (labels, pool, _) in &named {
            series.add(labels.clone(), value(pool));
        }
        series.write(&format!("squall_upstream_{name}"), kind, help, out);
    }
}
