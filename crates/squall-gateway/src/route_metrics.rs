//! What is counted for each route: requests, latency, bytes, rejections.
//!
//! Each thread counts in a place of its own, which it makes with the first request that it
//! sees of a route, so that thousands of idle routes cost next to nothing. Counters belong
//! to an app and a name of a route, not to a configuration: they go on over swaps, and end
//! when no configuration has the route any more.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use squall_types::cache::CacheRouteReport;
use squall_types::gateway::{LatencyBucket, RouteReport, RoutesReport};
use squall_types::metrics::write_head;
use squall_types::shard::{SHARDS, own_shard};
use squall_types::{AppName, ErrorCode};

use crate::cache::CacheCounters;
use crate::metrics::{BOUNDS_US, class_label, class_of};

/// Ten steps for each power of ten from 10 µs to 100 s, so that a quantile is near the
/// truth. The coarse bounds that metrics show are among them.
const FINE_BOUNDS_US: [u64; 71] = {
    const STEPS: [u64; 10] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];
    let mut bounds = [0; 71];
    let mut place = 0;
    let mut scale = 1;
    while place < 70 {
        bounds[place] = STEPS[place % 10] * scale;
        place += 1;
        if place % 10 == 0 {
            scale *= 10;
        }
    }
    bounds[70] = 10 * scale;
    bounds
};

/// The counters of one route.
#[derive(Default)]
pub(crate) struct RouteMetrics {
    /// Of a route that has a cache.
    cache: OnceLock<Arc<CacheCounters>>,
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

/// Two cache lines apart from its neighbours, since those are fetched in pairs.
#[repr(align(128))]
struct Shard {
    started: AtomicU64,
    classes: [AtomicU64; 6],
    latency: [AtomicU64; FINE_BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// In the order of `ErrorCode::ALL`.
    rejections: OnceLock<Box<[AtomicU64]>>,
}

impl Shard {
    fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            classes: Default::default(),
            latency: [const { AtomicU64::new(0) }; FINE_BOUNDS_US.len() + 1],
            latency_sum_us: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            rejections: OnceLock::new(),
        }
    }
}

/// How a request ended.
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) duration_us: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl RouteMetrics {
    fn own(&self) -> &Shard {
        self.shards[own_shard()].get_or_init(|| Box::new(Shard::new()))
    }

    pub(crate) fn cache(&self) -> Arc<CacheCounters> {
        self.cache.get_or_init(Arc::default).clone()
    }

    pub(crate) fn started(&self) {
        self.own().started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, end: &Ended) {
        let own = self.own();
        own.classes[class_of(end.status)].fetch_add(1, Ordering::Relaxed);
        let bucket = FINE_BOUNDS_US.partition_point(|bound| *bound < end.duration_us);
        own.latency[bucket].fetch_add(1, Ordering::Relaxed);
        own.latency_sum_us.fetch_add(end.duration_us, Ordering::Relaxed);
        if end.bytes_in > 0 {
            own.bytes_in.fetch_add(end.bytes_in, Ordering::Relaxed);
        }
        own.bytes_out.fetch_add(end.bytes_out, Ordering::Relaxed);
        if let Some(code) = end.code
            && let Some(place) = ErrorCode::ALL.iter().position(|one| *one == code)
        {
            let none = || ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect();
            own.rejections.get_or_init(none)[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> Sum {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut sum = Sum::default();
        // Ends before starts: a request that ends in between is one in flight, not less
        // than none.
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (all, own) in sum.classes.iter_mut().zip(&shard.classes) {
                *all += read(own);
            }
        }
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            sum.started += read(&shard.started);
            for (all, own) in sum.latency.iter_mut().zip(&shard.latency) {
                *all += read(own);
            }
            sum.latency_sum_us += read(&shard.latency_sum_us);
            sum.bytes_in += read(&shard.bytes_in);
            sum.bytes_out += read(&shard.bytes_out);
            let rejections = shard.rejections.get().into_iter().flatten();
            for (code, own) in ErrorCode::ALL.iter().zip(rejections) {
                let count = read(own);
                if count > 0 {
                    *sum.rejections.entry(*code).or_default() += count;
                }
            }
        }
        sum
    }
}

struct Sum {
    started: u64,
    classes: [u64; 6],
    latency: [u64; FINE_BOUNDS_US.len() + 1],
    latency_sum_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    rejections: BTreeMap<ErrorCode, u64>,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            started: 0,
            classes: [0; 6],
            latency: [0; FINE_BOUNDS_US.len() + 1],
            latency_sum_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            rejections: BTreeMap::new(),
        }
    }
}

impl Sum {
    fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.classes.iter().sum())
    }

    fn buckets(&self) -> Vec<LatencyBucket> {
        let counts = self.latency.iter().enumerate().filter(|(_, count)| **count > 0);
        let bucket = |(place, count): (usize, &u64)| LatencyBucket {
            from_us: place.checked_sub(1).map_or(0, |below| FINE_BOUNDS_US[below]),
            to_us: FINE_BOUNDS_US.get(place).copied(),
            count: *count,
        };
        counts.map(bucket).collect()
    }
}

/// An app and the name of a route.
type RouteKey = (AppName, Arc<str>);

/// The counters of every route that some configuration has.
pub(crate) struct RouteRegistry {
    since: Instant,
    known: Mutex<HashMap<RouteKey, Weak<RouteMetrics>>>,
}

impl Default for RouteRegistry {
    fn default() -> Self {
        Self { since: Instant::now(), known: Mutex::default() }
    }
}

impl RouteRegistry {
    /// The counters of a route: those that it has had, or new ones.
    pub(crate) fn of(&self, app: &AppName, route: &Arc<str>) -> Arc<RouteMetrics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.entry((app.clone(), route.clone())).or_default();
        place.upgrade().unwrap_or_else(|| {
            let metrics = Arc::new(RouteMetrics::default());
            *place = Arc::downgrade(&metrics);
            metrics
        })
    }

    /// Lets go of the names that no configuration has any more.
    pub(crate) fn forget_gone(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, metrics| metrics.strong_count() > 0);
    }

    /// By app and name.
    fn sums(&self, app: Option<&AppName>) -> Vec<(AppName, Arc<str>, Sum)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = known.iter().filter(|((of, _), _)| app.is_none_or(|app| of == app));
        let alive = wanted.filter_map(|((app, route), metrics)| {
            Some((app.clone(), route.clone(), metrics.upgrade()?))
        });
        let alive: Vec<_> = alive.collect();
        drop(known);
        let mut sums: Vec<_> =
            alive.into_iter().map(|(app, route, metrics)| (app, route, metrics.sum())).collect();
        sums.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        sums
    }

    /// What the cache did, of routes that have one.
    pub(crate) fn cache_reports(&self, app: Option<&AppName>) -> Vec<CacheRouteReport> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = known.iter().filter(|((of, _), _)| app.is_none_or(|app| of == app));
        let mut reports: Vec<_> = wanted
            .filter_map(|((app, route), metrics)| {
                Some(metrics.upgrade()?.cache.get()?.report(app.as_str(), route))
            })
            .collect();
        drop(known);
        reports.sort_by(|a, b| (&a.app, &a.route).cmp(&(&b.app, &b.route)));
        reports
    }

    pub(crate) fn report(&self, app: Option<&AppName>) -> RoutesReport {
        let items = self.sums(app).into_iter().map(|(app, route, sum)| RouteReport {
            app,
            route: route.to_string(),
            requests: (0..6)
                .filter(|class| sum.classes[*class] > 0)
                .map(|class| (class_label(class), sum.classes[class]))
                .collect(),
            rejections: sum
                .rejections
                .iter()
                .map(|(code, count)| (code.to_string(), *count))
                .collect(),
            in_flight: sum.in_flight(),
            request_bytes: sum.bytes_in,
            response_bytes: sum.bytes_out,
            latency: sum.buckets(),
            latency_sum_us: sum.latency_sum_us,
        });
        RoutesReport { uptime_us: self.since.elapsed().as_micros() as u64, items: items.collect() }
    }

    /// Prometheus text. A route without requests has no samples.
    pub(crate) fn write(&self, out: &mut String) {
        let sums = self.sums(None);
        let asked = sums.iter().filter(|(_, _, sum)| sum.started > 0);
        let labelled: Vec<(String, &Sum)> =
            asked.map(|(app, route, sum)| (labels(app.as_str(), "route", route), sum)).collect();

        let name = "squall_route_requests_total";
        write_head(out, name, "counter", "Requests of a route that have ended.");
        for (labels, sum) in &labelled {
            for (class, count) in sum.classes.iter().enumerate().filter(|(_, count)| **count > 0) {
                let class = class_label(class);
                let _ = writeln!(out, "{name}{{{labels},status=\"{class}\"}} {count}");
            }
        }
        let name = "squall_route_request_seconds";
        let what = "From the head of a request to the end of its response, by route.";
        write_head(out, name, "histogram", what);
        for (labels, sum) in &labelled {
            write_histogram(out, name, labels, sum);
        }
        let name = "squall_route_rejections_total";
        write_head(out, name, "counter", "Requests of a route that ended with an error code.");
        for (labels, sum) in &labelled {
            for (code, count) in &sum.rejections {
                let _ = writeln!(out, "{name}{{{labels},code=\"{code}\"}} {count}");
            }
        }
        type Value = fn(&Sum) -> u64;
        let (bytes_in, bytes_out): (Value, Value) = (|sum| sum.bytes_in, |sum| sum.bytes_out);
        let families = [
            (
                "in_flight",
                "gauge",
                "Requests whose response has not ended.",
                Sum::in_flight as Value,
            ),
            ("request_bytes_total", "counter", "Bytes of request bodies.", bytes_in),
            ("response_bytes_total", "counter", "Bytes of response bodies.", bytes_out),
        ];
        for (name, kind, what, value) in families {
            let name = format!("squall_route_{name}");
            write_head(out, &name, kind, what);
            for (labels, sum) in &labelled {
                let _ = writeln!(out, "{name}{{{labels}}} {}", value(sum));
            }
        }
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, sum: &Sum) {
    let (mut below, mut place) = (0, 0);
    for bound_us in BOUNDS_US {
        while FINE_BOUNDS_US[place] <= bound_us {
            below += sum.latency[place];
            place += 1;
        }
        let bound = bound_us as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    let all: u64 = sum.latency.iter().sum();
    let seconds = sum.latency_sum_us as f64 / 1e6;
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {all}");
}

/// The app and what of it, `route` or `upstream`. Names are anybody's: what would end a
/// label is escaped as the format says.
pub(crate) fn labels(app: &str, part: &str, name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("app=\"{app}\",{part}=\"{name}\"")
}

#[cfg(test)]
impl RouteRegistry {
    pub(crate) fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::parse(name).unwrap()
    }

    fn end(status: u16, duration_us: u64) -> Ended {
        let code = (status == 429).then_some(ErrorCode::QueueFull);
        Ended { status, code, duration_us, bytes_in: 10, bytes_out: 100 }
    }

    #[test]
    fn bounds_ascend_and_hold_those_that_are_shown() {
        assert!(FINE_BOUNDS_US.is_sorted_by(|a, b| a < b));
        assert!(BOUNDS_US.iter().all(|bound| FINE_BOUNDS_US.contains(bound)));
        assert_eq!((FINE_BOUNDS_US[0], FINE_BOUNDS_US[70]), (10, 100_000_000));
    }

    #[test]
    fn what_threads_count_is_summed() {
        let registry = RouteRegistry::default();
        let metrics = registry.of(&app("shop"), &"orders".into());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let metrics = metrics.clone();
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        metrics.started();
                        metrics.ended(&end(200, 1_000));
                    }
                    metrics.started();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        metrics.ended(&end(429, 11));
        let report = registry.report(None);
        let [route] = report.items.as_slice() else { panic!("{report:?}") };
        assert_eq!(route.requests, [("2xx".to_owned(), 4_000), ("4xx".to_owned(), 1)].into());
        assert_eq!(route.rejections, [("SQ0206".to_owned(), 1)].into());
        assert_eq!((route.in_flight, route.request_bytes), (3, 40_010));
        let expected = [(10, Some(12), 1), (800, Some(1_000), 4_000)];
        let expected =
            expected.map(|(from_us, to_us, count)| LatencyBucket { from_us, to_us, count });
        assert_eq!(route.latency, expected);
    }

    #[test]
    fn counters_live_as_long_as_some_configuration_has_the_route() {
        let registry = RouteRegistry::default();
        let (shop, name) = (app("shop"), Arc::<str>::from("orders"));
        let before = registry.of(&shop, &name);
        before.started();
        let after = registry.of(&shop, &name);
        drop(before);
        registry.forget_gone();
        assert_eq!(registry.report(None).items[0].in_flight, 1);
        assert!(registry.report(Some(&app("blog"))).items.is_empty());
        drop(after);
        registry.forget_gone();
        assert!(registry.report(None).items.is_empty());
        assert_eq!(registry.len(), 0);
        assert_eq!(registry.of(&shop, &name).sum().started, 0);
    }

    #[test]
    fn metrics_are_what_prometheus_reads() {
        let registry = RouteRegistry::default();
        let odd = registry.of(&app("shop"), &"a\"b\\c\nd".into());
        let _silent = registry.of(&app("shop"), &"silent".into());
        for (status, duration_us) in [(200, 90), (200, 3_000), (429, 20_000_000)] {
            odd.started();
            odd.ended(&end(status, duration_us));
        }
        let mut text = String::new();
        registry.write(&mut text);
        let labels = r#"app="shop",route="a\"b\\c\nd""#;
        for line in [
            format!("squall_route_requests_total{{{labels},status=\"2xx\"}} 2"),
            format!("squall_route_requests_total{{{labels},status=\"4xx\"}} 1"),
            format!("squall_route_request_seconds_bucket{{{labels},le=\"0.0001\"}} 1"),
            format!("squall_route_request_seconds_bucket{{{labels},le=\"0.0025\"}} 1"),
            format!("squall_route_request_seconds_bucket{{{labels},le=\"0.005\"}} 2"),
            format!("squall_route_request_seconds_bucket{{{labels},le=\"10\"}} 2"),
            format!("squall_route_request_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("squall_route_request_seconds_count{{{labels}}} 3"),
            format!("squall_route_rejections_total{{{labels},code=\"SQ0206\"}} 1"),
            format!("squall_route_in_flight{{{labels}}} 0"),
            format!("squall_route_response_bytes_total{{{labels}}} 300"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(!text.contains("silent"));
    }
}
