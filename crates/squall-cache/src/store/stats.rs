//! What the store counts.

use std::sync::atomic::{AtomicU64, Ordering};

use squall_types::metrics::{write_head, write_metric};

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) puts: AtomicU64,
    pub(super) puts_refused: AtomicU64,
    pub(super) removals: AtomicU64,
    pub(super) purges: AtomicU64,
    pub(super) memory_evictions: AtomicU64,
    pub(super) disk_evictions: AtomicU64,
    pub(super) disk_second_chances: AtomicU64,
    pub(super) disk_writes: AtomicU64,
    pub(super) disk_writes_dropped: AtomicU64,
    pub(super) disk_failures: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) loads_in_vain: AtomicU64,
    pub(super) damaged: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is stored, and what happened since the store was opened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Responses in memory, and what their bodies and heads take.
    pub memory_entries: u64,
    pub memory_bytes: u64,
    /// Responses on disk, and what the files take, with what is dead in them.
    pub disk_entries: u64,
    pub disk_bytes: u64,
    /// Whether responses are written to disk: off without a folder, and while it fails.
    pub disk_on: bool,
    /// What finding responses takes, in memory beside the budget.
    pub index_entries: u64,
    pub index_bytes: u64,
    /// Responses taken, and those that were purged or removed while they were on their way.
    pub puts: u64,
    pub puts_refused: u64,
    /// Keys removed.
    pub removals: u64,
    pub purges: u64,
    /// Responses that made room in memory; with a disk they are there still.
    pub memory_evictions: u64,
    /// Responses that went with the oldest segment, and those that were kept as they had been
    /// asked for.
    pub disk_evictions: u64,
    pub disk_second_chances: u64,
    pub disk_writes: u64,
    /// Not written, because too much waited or the disk failed.
    pub disk_writes_dropped: u64,
    pub disk_failures: u64,
    /// Reads from disk, those that brought nothing, and records found damaged.
    pub loads: u64,
    pub loads_in_vain: u64,
    pub damaged: u64,
}

impl Counters {
    pub(super) fn fill(&self, stats: &mut Stats) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.puts = of(&self.puts);
        stats.puts_refused = of(&self.puts_refused);
        stats.removals = of(&self.removals);
        stats.purges = of(&self.purges);
        stats.memory_evictions = of(&self.memory_evictions);
        stats.disk_evictions = of(&self.disk_evictions);
        stats.disk_second_chances = of(&self.disk_second_chances);
        stats.disk_writes = of(&self.disk_writes);
        stats.disk_writes_dropped = of(&self.disk_writes_dropped);
        stats.disk_failures = of(&self.disk_failures);
        stats.loads = of(&self.loads);
        stats.loads_in_vain = of(&self.loads_in_vain);
        stats.damaged = of(&self.damaged);
    }
}

impl Stats {
    /// In the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        let tiers = |out: &mut String, name: &str, kind: &str, help: &str, values: [u64; 2]| {
            write_head(out, name, kind, help);
            for (tier, value) in ["memory", "disk"].into_iter().zip(values) {
                out.push_str(&format!("{name}{{tier=\"{tier}\"}} {value}\n"));
            }
        };
        tiers(
            out,
            "squall_cache_entries",
            "gauge",
            "Stored responses.",
            [self.memory_entries, self.disk_entries],
        );
        tiers(
            out,
            "squall_cache_bytes",
            "gauge",
            "What stored responses take: bodies and heads in memory, files on disk.",
            [self.memory_bytes, self.disk_bytes],
        );
        tiers(
            out,
            "squall_cache_evictions_total",
            "counter",
            "Stored responses that made room for others.",
            [self.memory_evictions, self.disk_evictions],
        );
        let mut gauge = |name: &str, help: &str, value: u64| {
            write_metric(out, name, "gauge", help, value);
        };
        gauge(
            "squall_cache_index_bytes",
            "Memory that finding stored responses takes, beside the budget.",
            self.index_bytes,
        );
        gauge(
            "squall_cache_disk_on",
            "Whether responses are written to disk: 0 without a folder and while it fails.",
            u64::from(self.disk_on),
        );
        let counters: [(&str, &str, u64); 10] = [
            ("puts", "Responses that were stored.", self.puts),
            (
                "puts_refused",
                "Responses not stored: purged or removed while on their way.",
                self.puts_refused,
            ),
            ("removals", "Keys whose responses were removed.", self.removals),
            ("purges", "Purges.", self.purges),
            ("disk_writes", "Responses written to disk.", self.disk_writes),
            (
                "disk_writes_dropped",
                "Responses not written to disk: too many waited, or it failed.",
                self.disk_writes_dropped,
            ),
            (
                "disk_second_chances",
                "Responses kept on disk when their segment went, as they had been asked for.",
                self.disk_second_chances,
            ),
            ("disk_failures", "Writes to disk that failed.", self.disk_failures),
            ("loads", "Responses read from disk.", self.loads),
            ("damaged", "Records on disk that were torn or damaged.", self.damaged),
        ];
        for (name, help, value) in counters {
            let name = format!("squall_cache_{name}_total");
            write_metric(out, &name, "counter", help, value);
        }
    }
}
