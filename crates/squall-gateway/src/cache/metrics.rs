//! What the cache counts for each route.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use squall_types::cache::CacheRouteReport;
use squall_types::metrics::write_head;
use squall_types::shard::{Padded, SHARDS, own_shard};

use crate::route_metrics;

/// How a request came to its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    StaleHit,
    Revalidated,
    Collapsed,
    Miss,
    Bypass,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::StaleHit => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

#[derive(Default)]
pub(crate) struct CacheCounters {
    shards: [Padded<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    outcomes: [AtomicU64; 6],
    bytes_saved: AtomicU64,
    hit_age_s: AtomicU64,
}

impl CacheCounters {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.own().outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A stored body was sent, this old.
    pub(crate) fn saved(&self, bytes: u64, age_s: u64) {
        let own = self.own();
        own.bytes_saved.fetch_add(bytes, Ordering::Relaxed);
        own.hit_age_s.fetch_add(age_s, Ordering::Relaxed);
    }

    fn own(&self) -> &Shard {
        &self.shards[own_shard()].0
    }

    pub(crate) fn report(&self, app: &str, route: &str) -> CacheRouteReport {
        let mut outcomes = [0; 6];
        let (mut bytes_saved, mut hit_age_s) = (0, 0);
        for Padded(shard) in &self.shards {
            for (sum, own) in outcomes.iter_mut().zip(&shard.outcomes) {
                *sum += own.load(Ordering::Relaxed);
            }
            bytes_saved += shard.bytes_saved.load(Ordering::Relaxed);
            hit_age_s += shard.hit_age_s.load(Ordering::Relaxed);
        }
        let of = |outcome: Outcome| outcomes[outcome as usize];
        CacheRouteReport {
            app: app.to_owned(),
            route: route.to_owned(),
            hits: of(Outcome::Hit) + of(Outcome::StaleHit),
            stale_hits: of(Outcome::StaleHit),
            revalidated: of(Outcome::Revalidated),
            collapsed: of(Outcome::Collapsed),
            misses: of(Outcome::Miss),
            bypassed: of(Outcome::Bypass),
            bytes_saved,
            hit_age_s,
        }
    }
}

/// Prometheus text of all routes that have a cache.
pub(crate) fn write(reports: &[CacheRouteReport], out: &mut String) {
    let labels =
        |report: &CacheRouteReport| route_metrics::labels(&report.app, "route", &report.route);
    let name = "squall_cache_requests_total";
    write_head(out, name, "counter", "Requests of a route that has a cache, by what it did.");
    for report in reports {
        let labels = labels(report);
        for (outcome, count) in [
            ("hit", report.hits - report.stale_hits),
            ("stale", report.stale_hits),
            ("revalidated", report.revalidated),
            ("collapsed", report.collapsed),
            ("miss", report.misses),
            ("bypass", report.bypassed),
        ] {
            let _ = writeln!(out, "{name}{{{labels},outcome=\"{outcome}\"}} {count}");
        }
    }
    type Value = fn(&CacheRouteReport) -> u64;
    let families: [(&str, &str, Value); 2] = [
        (
            "squall_cache_saved_bytes_total",
            "Bytes of bodies that no origin had to send.",
            |report| report.bytes_saved,
        ),
        ("squall_cache_hit_age_seconds_total", "Sum over hits of how old they were.", |report| {
            report.hit_age_s
        }),
    ];
    for (name, what, value) in families {
        write_head(out, name, "counter", what);
        for report in reports {
            let _ = writeln!(out, "{name}{{{}}} {}", labels(report), value(report));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_place() {
        let counters = CacheCounters::default();
        let all = [
            Outcome::Hit,
            Outcome::StaleHit,
            Outcome::Revalidated,
            Outcome::Collapsed,
            Outcome::Miss,
            Outcome::Bypass,
        ];
        for (times, outcome) in all.into_iter().enumerate() {
            (0..=times).for_each(|_| counters.count(outcome));
        }
        counters.saved(10, 3);
        let expected = CacheRouteReport {
            app: "a".into(),
            route: "r".into(),
            hits: 3,
            stale_hits: 2,
            revalidated: 3,
            collapsed: 4,
            misses: 5,
            bypassed: 6,
            bytes_saved: 10,
            hit_age_s: 3,
        };
        assert_eq!(counters.report("a", "r"), expected);
        // Routes may be named by anything.
        let mut metrics = String::new();
        write(&[counters.report("a", "b\"c\\d")], &mut metrics);
        let hits = r#"squall_cache_requests_total{app="a",route="b\"c\\d",outcome="hit"} 1"#;
        assert!(metrics.contains(hits), "{metrics}");
    }
}
