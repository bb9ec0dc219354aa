//! One address of an upstream: its connections, what is counted of it, and how it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use squall_types::dial::{Endpoint, EndpointTls, Offer};
use squall_types::gateway::{OutlierEjection, Protocol, Upstream, UpstreamTarget};
use squall_types::shard::{Padded, SHARDS, own_shard};
use tokio::runtime;

use super::http1::Connection;
use super::http2;

/// Times an ejection grows, at most.
const EJECTION_GROWTH_MAX: u32 = 30;

/// A base URL of an upstream.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) endpoint: Endpoint,
    /// The path of the URL, without a slash at its end.
    pub(crate) prefix: String,
    /// Host, and port where it is not the scheme's own.
    pub(crate) authority: String,
    pub(crate) weight: u32,
}

impl Origin {
    /// `target` was checked with the manifest.
    pub(crate) fn new(target: &UpstreamTarget, upstream: &Upstream) -> Option<Self> {
        let uri: http::Uri = target.url().parse().ok()?;
        let https = uri.scheme_str() == Some("https");
        let default_port = if https { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let host = uri.host()?.to_ascii_lowercase();
        let authority = match port == default_port {
            true => host.clone(),
            false => format!("{host}:{port}"),
        };
        let asked = upstream.tls.clone().unwrap_or_default();
        let tls = https.then_some(EndpointTls {
            server_name: asked.server_name,
            insecure: asked.insecure,
            offer: match upstream.protocol {
                Protocol::Auto => Offer::Either,
                Protocol::Http1 => Offer::Http1,
                Protocol::Http2 => Offer::Http2,
            },
        });
        Some(Self {
            endpoint: Endpoint { host, port, allow_private: upstream.allow_private, tls },
            prefix: uri.path().trim_end_matches('/').to_owned(),
            authority,
            weight: target.weight(),
        })
    }

    pub(crate) fn https(&self) -> bool {
        self.endpoint.tls.is_some()
    }
}

pub(crate) struct Target {
    pub(crate) origin: Arc<Origin>,
    pub(crate) address: SocketAddr,
    /// For people and for metrics.
    pub(crate) label: String,
    pub(crate) hash: u64,
    pub(crate) counters: Counters,
    pub(crate) health: Health,
    /// For each core.
    seats: Box<[Padded<Seat>]>,
    /// TLS was asked for without saying what to speak, and HTTP/1.1 was the answer.
    pub(crate) speaks_http1: AtomicBool,
}

/// The connections of one core.
#[derive(Default)]
struct Seat {
    idle: Mutex<Vec<Idle>>,
    http2: http2::Shared,
    traffic: Traffic,
}

/// What every request counts.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Less than nothing, which wraps around, where requests ended that began elsewhere: the
    /// sum of all cores is what it says.
    pub(crate) in_flight: AtomicU32,
    /// By class of status, 1xx to 5xx.
    pub(crate) answered: [AtomicU64; 5],
    pub(crate) reused: AtomicU64,
}

struct Idle {
    connection: Box<Connection>,
    until: Instant,
}

/// What happens now and then.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connect_failures: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) checks_failed: AtomicU64,
}

impl Target {
    pub(crate) fn new(origin: Arc<Origin>, address: SocketAddr) -> Self {
        let label = address.to_string();
        Self {
            // The URL is part of it: two may lead to the same address by different paths.
            hash: super::balance::hash(format!("{} {}", label, origin.prefix).as_bytes()),
            origin,
            address,
            label,
            counters: Counters::default(),
            health: Health::default(),
            seats: (0..SHARDS).map(|_| Padded::default()).collect(),
            speaks_http1: AtomicBool::new(false),
        }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.origin.weight
    }

    fn idle(&self, seat: usize) -> MutexGuard<'_, Vec<Idle>> {
        self.seats[seat].0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn http2(&self) -> &http2::Shared {
        &self.seats[own_shard()].0.http2
    }

    /// Where this core counts.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.seats[own_shard()].0.traffic
    }

    fn all_traffic(&self) -> impl Iterator<Item = &Traffic> {
        self.seats.iter().map(|seat| &seat.0.traffic)
    }

    /// Requests that are here now.
    pub(crate) fn in_flight(&self) -> u32 {
        let counts = self.all_traffic().map(|own| own.in_flight.load(Ordering::Relaxed));
        // Cores count on while they are summed up: an end may be seen before its beginning.
        counts.fold(0, u32::wrapping_add).cast_signed().max(0).cast_unsigned()
    }

    /// Responses by class of status, 1xx to 5xx.
    pub(crate) fn answered(&self) -> [u64; 5] {
        let of = |class: usize| {
            self.all_traffic().map(|own| own.answered[class].load(Ordering::Relaxed)).sum()
        };
        std::array::from_fn(of)
    }

    /// Tries on a connection that was open.
    pub(crate) fn reused(&self) -> u64 {
        self.all_traffic().map(|own| own.reused.load(Ordering::Relaxed)).sum()
    }

    /// The connection of this core that was used last and is still good. `carefully` looks
    /// twice, for a request that can not be sent again.
    pub(crate) fn take_idle(&self, now: Instant, carefully: bool) -> Option<Box<Connection>> {
        let mut idle = self.idle(own_shard());
        if idle.is_empty() {
            return None;
        }
        let runtime = runtime::Handle::current().id();
        loop {
            // Threads beyond the number of seats share them.
            let place = idle.iter().rposition(|one| one.connection.runtime == runtime)?;
            let Idle { mut connection, until } = idle.remove(place);
            let quiet = match carefully {
                true => connection.is_quiet_now(),
                false => connection.is_quiet(),
            };
            if until > now && quiet {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection of this core, at most `most` of them.
    pub(crate) fn put_idle(
        &self,
        mut connection: Box<Connection>,
        most: usize,
        keeps_for: Duration,
    ) {
        // A body that was read elsewhere does not bring its connection along.
        if runtime::Handle::try_current().map(|handle| handle.id()).ok() != Some(connection.runtime)
        {
            return;
        }
        connection.rest();
        let until = Instant::now() + keeps_for;
        let mut idle = self.idle(own_shard());
        if idle.len() >= most {
            if most == 0 {
                return;
            }
            idle.remove(0);
        }
        idle.push(Idle { connection, until });
    }

    /// Closes what has waited too long or was closed from the other side.
    pub(crate) fn sweep(&self, now: Instant, keeps_for: Duration) {
        for (seat, Padded(own)) in self.seats.iter().enumerate() {
            self.idle(seat).retain_mut(|one| one.until > now && one.connection.is_quiet());
            own.http2.sweep(now, keeps_for);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        (0..self.seats.len()).map(|seat| self.idle(seat).len()).sum()
    }

    #[cfg(test)]
    pub(crate) fn for_test(address: &str, weight: u32) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let endpoint = Endpoint {
            host: address.ip().to_string(),
            port: address.port(),
            allow_private: true,
            tls: None,
        };
        let origin =
            Origin { endpoint, prefix: String::new(), authority: address.to_string(), weight };
        Self::new(Arc::new(origin), address)
    }
}

/// Whether a target is fit to be asked.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The active checks say that it is not.
    unhealthy: AtomicBool,
    /// Good or bad answers to checks in a row, whichever the state waits for.
    checks: AtomicU32,
    failures_in_a_row: AtomicU32,
    /// 0 while it is not ejected.
    ejected_until_ms: AtomicU64,
    /// How often in the last time: the next one lasts so many times longer.
    ejections: AtomicU32,
    /// Since when it is used again, or an ejection was last forgotten.
    used_since_ms: AtomicU64,
}

impl Health {
    pub(crate) fn passes_checks(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_for_ms(now_ms).is_some()
    }

    /// For how much longer it is left out.
    pub(crate) fn ejected_for_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        until.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
    }

    pub(crate) fn succeeded(&self) {
        // Read first: most of the time there is nothing to write.
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it has failed often enough to be ejected.
    pub(crate) fn failed(&self, settings: &OutlierEjection) -> bool {
        let failures = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        settings.consecutive_failures != 0 && failures >= settings.consecutive_failures
    }

    /// Takes it out. Returns for how many milliseconds, or `None` when it was out already.
    pub(crate) fn eject(&self, settings: &OutlierEjection, now_ms: u64) -> Option<u64> {
        let before = self.ejected_until_ms.load(Ordering::Relaxed);
        if before > now_ms {
            return None;
        }
        let times = self.ejections.load(Ordering::Relaxed).min(EJECTION_GROWTH_MAX - 1) + 1;
        let lasts_ms = settings.ejection_ms.saturating_mul(u64::from(times));
        let changed = self.ejected_until_ms.compare_exchange(
            before,
            now_ms.saturating_add(lasts_ms),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        // Several requests fail at once; one of them ejects.
        changed.ok()?;
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        Some(lasts_ms)
    }

    /// Called from time to time. Whether an ejection has just ended. In use for as long as a first
    /// ejection lasts, a target has one fewer behind it.
    pub(crate) fn readmit(&self, settings: &OutlierEjection, now_ms: u64) -> bool {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        if until == 0 {
            let since = self.used_since_ms.load(Ordering::Relaxed);
            if self.ejections.load(Ordering::Relaxed) > 0
                && now_ms.saturating_sub(since) >= settings.ejection_ms
            {
                self.ejections.fetch_sub(1, Ordering::Relaxed);
                self.used_since_ms.store(now_ms, Ordering::Relaxed);
            }
            return false;
        }
        let over = until <= now_ms;
        if over {
            self.ejected_until_ms.store(0, Ordering::Relaxed);
            self.used_since_ms.store(now_ms, Ordering::Relaxed);
        }
        over
    }

    /// What checks have said counts no longer: nobody checks it now.
    pub(crate) fn forget_checks(&self) {
        self.unhealthy.store(false, Ordering::Relaxed);
        self.checks.store(0, Ordering::Relaxed);
    }

    /// Takes the result of an active check. `Some` when that changed what it is.
    pub(crate) fn checked(
        &self,
        good: bool,
        healthy_after: u32,
        unhealthy_after: u32,
    ) -> Option<bool> {
        let is_good = self.passes_checks();
        if good == is_good {
            self.checks.store(0, Ordering::Relaxed);
            return None;
        }
        let in_a_row = self.checks.fetch_add(1, Ordering::Relaxed) + 1;
        if in_a_row < if good { healthy_after } else { unhealthy_after } {
            return None;
        }
        self.checks.store(0, Ordering::Relaxed);
        self.unhealthy.store(!good, Ordering::Relaxed);
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_end_and_fade() {
        let settings =
            OutlierEjection { consecutive_failures: 2, ejection_ms: 100, max_ejected_percent: 50 };
        let health = Health::default();
        assert!(!health.failed(&settings));
        health.succeeded();
        assert!(!health.failed(&settings));
        assert!(health.failed(&settings));
        assert_eq!(health.eject(&settings, 1_000), Some(100));
        assert_eq!(health.eject(&settings, 1_050), None);
        assert!(health.is_ejected(1_099) && !health.is_ejected(1_100));
        let readmit = |now_ms| health.readmit(&settings, now_ms);
        assert!(!readmit(1_099));
        assert!(readmit(1_100));
        assert!(!readmit(1_199));
        assert_eq!(health.eject(&settings, 1_199), Some(200));
        assert!(readmit(1_400));
        assert!(!readmit(1_499));
        assert_eq!(health.eject(&settings, 1_499), Some(300));
        assert!(readmit(1_800));
        for calm_ms in [1_900, 1_950, 2_000, 2_099] {
            assert!(!readmit(calm_ms));
        }
        assert_eq!(health.eject(&settings, 2_099), Some(200));
        assert!(readmit(2_300));
        for calm_ms in [2_400, 2_500, 2_600] {
            assert!(!readmit(calm_ms));
        }
        assert_eq!(health.eject(&settings, 5_000), Some(100));
    }

    #[test]
    fn checks_count_in_a_row() {
        let health = Health::default();
        let check = |good| health.checked(good, 2, 3);
        assert_eq!([check(false), check(false), check(true)], [None; 3]);
        assert_eq!([check(false), check(false), check(false)], [None, None, Some(false)]);
        assert!(!health.passes_checks());
        assert_eq!(
            [check(true), check(false), check(true), check(true)],
            [None, None, None, Some(true)]
        );
        assert!(health.passes_checks());
    }

    #[test]
    fn base_urls_are_taken_apart() {
        let upstream: Upstream =
            upstream_of(r#"{"targets":["https://API.example.com/v1/"],"protocol":"http2"}"#);
        let origin = Origin::new(&upstream.targets[0], &upstream).unwrap();
        assert_eq!(origin.prefix, "/v1");
        assert_eq!(origin.authority, "api.example.com");
        assert_eq!(origin.endpoint.port, 443);
        assert_eq!(origin.endpoint.tls.as_ref().unwrap().offer, Offer::Http2);
        let upstream: Upstream = upstream_of(r#"{"targets":["http://[::1]:81"]}"#);
        let origin = Origin::new(&upstream.targets[0], &upstream).unwrap();
        assert_eq!((origin.endpoint.host.as_str(), origin.prefix.as_str()), ("[::1]", ""));
        assert_eq!(origin.authority, "[::1]:81");
        assert!(origin.endpoint.tls.is_none());
    }

    fn upstream_of(json: &str) -> Upstream {
        serde_json::from_str(json).unwrap()
    }
}
