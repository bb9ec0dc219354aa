//! What the door counts.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use squall_types::metrics::{write_head, write_metric};
use squall_types::shard::{Padded, SHARDS, own_shard};

use crate::listener::Connections;

/// Upper bounds of the latency histogram, in microseconds.
pub(crate) const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

#[derive(Default)]
pub(crate) struct Counters {
    ended: [Padded<Ended>; SHARDS],
    pub(crate) accepted: AtomicU64,
    pub(crate) refused_framing: AtomicU64,
    pub(crate) refused_heads: AtomicU64,
    pub(crate) slow_clients: AtomicU64,
    pub(crate) floods: AtomicU64,
    pub(crate) refused_clients: AtomicU64,
    /// Connections that followed their packets to another core.
    pub(crate) moved: AtomicU64,
    /// Connections that hold nothing but their socket.
    pub(crate) resting: AtomicUsize,
}

/// What is counted for every request, by each thread on its own: cores that write to
/// shared cache lines wait for each other.
#[derive(Default)]
struct Ended {
    /// By class of status; the first is for requests whose client left before the head.
    classes: [AtomicU64; 6],
    latency: [AtomicU64; BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// The place of a status among the classes.
pub(crate) fn class_of(status: u16) -> usize {
    if status == 499 { 0 } else { usize::from(status / 100).min(5) }
}

pub(crate) fn class_label(class: usize) -> String {
    if class == 0 { "499".to_owned() } else { format!("{class}xx") }
}

impl Counters {
    pub(crate) fn ended(&self, status: u16, duration_us: u64, bytes_in: u64, bytes_out: u64) {
        let own = &self.ended[own_shard()].0;
        own.classes[class_of(status)].fetch_add(1, Ordering::Relaxed);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < duration_us);
        own.latency[bucket].fetch_add(1, Ordering::Relaxed);
        own.latency_sum_us.fetch_add(duration_us, Ordering::Relaxed);
        if bytes_in > 0 {
            own.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        }
        own.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    pub(crate) fn write(&self, out: &mut String, connections: &Connections) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum = |counter: &dyn Fn(&Ended) -> &AtomicU64| {
            self.ended.iter().map(|shard| read(counter(&shard.0))).sum::<u64>()
        };
        let name = "squall_http_requests_total";
        write_head(out, name, "counter", "Requests that have ended.");
        for class in 0..6 {
            let label = class_label(class);
            let _ = writeln!(
                out,
                "{name}{{status=\"{label}\"}} {}",
                sum(&|shard| &shard.classes[class])
            );
        }
        let name = "squall_http_request_seconds";
        let what = "From the head of a request to the end of its response.";
        write_head(out, name, "histogram", what);
        let mut below = 0;
        for (bucket, bound_us) in BOUNDS_US.iter().enumerate() {
            below += sum(&|shard| &shard.latency[bucket]);
            let bound = *bound_us as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        below += sum(&|shard| &shard.latency[BOUNDS_US.len()]);
        let seconds = sum(&|shard| &shard.latency_sum_us) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {below}\n{name}_sum {seconds}\n{name}_count {below}"
        );
        let rows = [
            ("http_connections", "gauge", "Open connections.", connections.open() as u64),
            (
                "http_connections_resting",
                "gauge",
                "Idle connections that were taken apart.",
                self.resting.load(Ordering::Relaxed) as u64,
            ),
            ("http_connections_total", "counter", "Connections accepted.", read(&self.accepted)),
            (
                "http_framing_refused_total",
                "counter",
                "Requests refused because two parsers could read them differently.",
                read(&self.refused_framing),
            ),
            (
                "http_heads_refused_total",
                "counter",
                "Connections of HTTP/1 ended by what is no head of a request, or too large a one.",
                read(&self.refused_heads),
            ),
            (
                "http_slow_clients_total",
                "counter",
                "Connections given up because the client was too slow.",
                read(&self.slow_clients),
            ),
            (
                "http_floods_total",
                "counter",
                "HTTP/2 connections cut because of floods of empty frames or resets.",
                read(&self.floods),
            ),
            (
                "http_client_connections_refused_total",
                "counter",
                "Connections closed because their client had as many as it may.",
                read(&self.refused_clients),
            ),
            (
                "http_connection_moves_total",
                "counter",
                "Moves of connections to the core of the CPU that their packets arrive at.",
                read(&self.moved),
            ),
            (
                "http_request_bytes_total",
                "counter",
                "Bytes of request bodies.",
                sum(&|shard| &shard.bytes_in),
            ),
            (
                "http_response_bytes_total",
                "counter",
                "Bytes of response bodies.",
                sum(&|shard| &shard.bytes_out),
            ),
        ];
        for (name, kind, what, value) in rows {
            write_metric(out, &format!("squall_{name}"), kind, what, value);
        }
        let name = "squall_http_core_connections";
        write_head(out, name, "gauge", "Open connections, by the core that serves them.");
        for (core, open) in connections.open_by_core().iter().enumerate() {
            let _ = writeln!(out, "{name}{{core=\"{core}\"}} {open}");
        }
    }
}
