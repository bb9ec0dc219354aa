//! What the gateway counted for each route, as `squall gateway top` reads it, and how its
//! upstreams are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AppName, RevisionId};

/// All routes at one moment. The difference of two of them is what happened in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RoutesReport {
    /// Microseconds since the server process started to count. When it is less than
    /// before, the counters began anew.
    pub uptime_us: u64,
    /// By app and route. Routes that were never asked are there with zeros.
    pub items: Vec<RouteReport>,
}

/// Counters of one route, over all revisions of its app that have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RouteReport {
    pub app: AppName,
    /// Its name in the manifest, `route-1`, `function-api` or `assets`.
    pub route: String,
    /// Requests that have ended, by class of status: `2xx`; `499` where the client left
    /// before the response's head.
    pub requests: BTreeMap<String, u64>,
    /// Of `requests`: those that ended with an error code.
    pub rejections: BTreeMap<String, u64>,
    /// Requests whose response has not ended.
    pub in_flight: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// From the head of a request to the end of its response; buckets that are empty are
    /// left out.
    pub latency: Vec<LatencyBucket>,
    pub latency_sum_us: u64,
}

/// How many requests took longer than `from_us` and at most `to_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LatencyBucket {
    pub from_us: u64,
    /// `null` for the last bucket, which has no end.
    pub to_us: Option<u64>,
    pub count: u64,
}

/// Knows what the routes of this node have done.
pub trait ReportRoutes: Send + Sync + 'static {
    /// Of one app, or of all.
    fn routes(&self, app: Option<&AppName>) -> RoutesReport;
}

/// All upstreams at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UpstreamsReport {
    /// By app and name. Revisions that share the traffic may each have settings of their
    /// own for an upstream; it is there for each of them.
    pub items: Vec<UpstreamReport>,
}

/// One upstream of an app. Counters begin when it is first served with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UpstreamReport {
    pub app: AppName,
    pub upstream: String,
    /// Revisions that a request can reach and that have it with these very settings. Empty where
    /// only requests that began earlier still use it.
    pub revisions: Vec<RevisionId>,
    /// `null` without a circuit breaker.
    pub circuit: Option<CircuitState>,
    /// Why there are no targets: what its names mean is not known.
    pub unresolved: Option<String>,
    /// Open WebSockets and other upgraded connections.
    pub tunnels: u64,
    /// Tries beyond the first of a request.
    pub retries: u64,
    /// Requests that the circuit breaker refused.
    pub refused: u64,
    pub targets: Vec<TargetReport>,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TargetReport {
    /// Address and port.
    pub target: String,
    pub weight: u32,
    pub health: TargetHealth,
    /// For how much longer it is left out; `null` while it is not ejected.
    pub ejected_for_ms: Option<u64>,
    /// Requests that are there now.
    pub in_flight: u64,
    /// Connections that wait for a request.
    pub idle_connections: u64,
    pub connections_opened: u64,
    /// Tries on a connection that was open.
    pub connections_reused: u64,
    /// Responses by class of status: `2xx`.
    pub responses: BTreeMap<String, u64>,
    /// Tries without a whole response: `connect`, `timeout`, `broken`, `malformed`.
    pub failures: BTreeMap<String, u64>,
    pub ejections: u64,
    pub checks_failed: u64,
}

/// Whether a target is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealth {
    Up,
    /// Left out for a while after failures in a row.
    Ejected,
    /// It fails its health checks.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    Closed,
    /// Every request is refused.
    Open,
    /// One request is let through, and decides.
    HalfOpen,
}

/// Knows how the upstreams of this node are.
pub trait ReportUpstreams: Send + Sync + 'static {
    /// Of one app, or of all.
    fn upstreams(&self, app: Option<&AppName>) -> UpstreamsReport;
}

/// The time that `part` (0 to 1) of the requests stayed within, straight between the
/// bounds of a bucket. `None` without requests.
pub fn latency_quantile_us(buckets: &[LatencyBucket], part: f64) -> Option<u64> {
    let all: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let mut before = 0;
    let wanted = part * all as f64;
    for bucket in buckets.iter().filter(|bucket| bucket.count > 0) {
        if (before + bucket.count) as f64 >= wanted {
            let within = ((wanted - before as f64) / bucket.count as f64).clamp(0.0, 1.0);
            let width = bucket.to_us.unwrap_or(bucket.from_us) - bucket.from_us;
            return Some(bucket.from_us + (width as f64 * within) as u64);
        }
        before += bucket.count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(from_us: u64, to_us: Option<u64>, count: u64) -> LatencyBucket {
        LatencyBucket { from_us, to_us, count }
    }

    #[test]
    fn quantiles_lie_in_their_buckets() {
        let buckets = [bucket(0, Some(10), 50), bucket(10, Some(20), 0), bucket(20, Some(40), 50)];
        for (part, expected) in [(0.0, 0), (0.25, 5), (0.5, 10), (0.75, 30), (0.99, 39), (1.0, 40)]
        {
            assert_eq!(latency_quantile_us(&buckets, part), Some(expected), "{part}");
        }
        assert_eq!(latency_quantile_us(&[], 0.5), None);
        assert_eq!(latency_quantile_us(&[bucket(10, Some(20), 0)], 0.5), None);
        assert_eq!(latency_quantile_us(&[bucket(100, None, 3)], 0.99), Some(100));
    }
}
