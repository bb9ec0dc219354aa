//! Purges race with fetches and lookups: no lookup that begins after a purge has returned
//! finds what it covers, also not what a fetch brings that began before.
//! `SQUALL_CACHE_RACES` sets the number of purges.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::store::DiskSettings;

/// Far longer than the threads take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// An origin whose content changes, and what was purged of it.
#[derive(Default)]
struct Origin {
    version: AtomicU64,
    /// Versions before this must not be found.
    hard_floor: AtomicU64,
    /// Versions before this must be found stale.
    soft_floor: AtomicU64,
    found: AtomicU64,
    ended: AtomicBool,
}

/// Ends the race, also when something wrong was found.
struct Ends<'a>(&'a Origin);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Origin {
    fn fetch(&self, store: &Store) {
        while !self.ended.load(Ordering::Relaxed) {
            let sequence = store.sequence();
            let version = self.version.load(Ordering::SeqCst);
            // Sometimes the answer takes longer than a purge.
            if version.is_multiple_of(7) {
                std::thread::yield_now();
            }
            store.put(tagged(&["red"], entry("/raced", version, sequence)));
        }
    }

    fn look_up(&self, store: &Store) {
        let _ends = Ends(self);
        while !self.ended.load(Ordering::Relaxed) {
            self.check(store);
        }
    }

    fn check(&self, store: &Store) {
        let hard = self.hard_floor.load(Ordering::SeqCst);
        let soft = self.soft_floor.load(Ordering::SeqCst);
        let hit = match store.find(&key("/raced").hash(), |_| 0) {
            Found::Memory(hit) => hit,
            Found::OnDisk(ticket) => match store.load_blocking(ticket) {
                Some(hit) => hit,
                None => return,
            },
            Found::Nothing => return,
        };
        let version = hit.entry.head.received_at_ms;
        assert!(version >= hard, "{version} was found after {hard} was purged");
        assert!(version >= soft || hit.soft_purged, "{version} was fresh after {soft} was purged");
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    fn purge(&self, store: &Store, rounds: u64) {
        let _ends = Ends(self);
        // There is no race before all of them have begun.
        let begun = Instant::now();
        while self.found.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < PATIENCE, "nothing is found though nothing is purged");
            std::thread::yield_now();
        }
        for round in 0..rounds {
            let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
            let soft = round % 5 == 4;
            let what = match round % 4 {
                0 => Covered::Url("https://example.com/raced".into()),
                1 => Covered::Prefix("https://example.com/ra".into()),
                2 => Covered::Tag("red".into()),
                _ => Covered::All,
            };
            store.purge(&purge(what, soft)).unwrap();
            let floor = if soft { &self.soft_floor } else { &self.hard_floor };
            floor.fetch_max(version, Ordering::SeqCst);
            self.check(store);
        }
    }
}

fn race(disk: Option<PathBuf>, memory_bytes: u64, rounds: u64) {
    let disk = disk.map(|dir| DiskSettings { dir, bytes: 16 << 20 });
    // Few marks, so that floors rise as well.
    let settings = Settings { memory_bytes, disk, marks_max: 8, ..Settings::default() };
    let store = Store::open(settings).unwrap();
    let origin = Origin::default();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| origin.fetch(&store));
        }
        threads.spawn(|| origin.look_up(&store));
        threads.spawn(|| origin.purge(&store, rounds));
    });
}

fn rounds(usual: u64) -> u64 {
    std::env::var("SQUALL_CACHE_RACES").map_or(usual, |rounds| rounds.parse().unwrap())
}

#[test]
fn purges_hold_for_memory() {
    race(None, 1 << 20, rounds(10_000));
}

#[test]
fn purges_hold_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    race(Some(dir.path().into()), 1 << 20, rounds(300));
}

#[test]
fn purges_hold_where_memory_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    race(Some(dir.path().into()), 1, rounds(300));
}

#[test]
fn purges_that_come_together_are_all_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Some(DiskSettings { dir: dir.path().into(), bytes: 16 << 20 });
    let settings = Settings { disk, ..Settings::default() };
    let store = Store::open(settings.clone()).unwrap();
    let url = |thread: u64, round: u64| format!("/{thread}/{round}");
    for (thread, round) in (0..8).flat_map(|thread| (0..20).map(move |round| (thread, round))) {
        store.put(entry(&url(thread, round), 1, store.sequence()));
    }
    store.put(entry("/kept", 1, store.sequence()));
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let store = &store;
            threads.spawn(move || {
                for round in 0..20 {
                    let purged = format!("https://example.com{}", url(thread, round));
                    store.purge(&purge(Covered::Url(purged.into()), false)).unwrap();
                }
            });
        }
    });
    drop(store);
    let store = Store::open(settings).unwrap();
    let is_found = |url: &str| match store.find(&key(url).hash(), |_| 0) {
        Found::OnDisk(ticket) => store.load_blocking(ticket).is_some(),
        _ => false,
    };
    assert!(is_found("/kept"));
    for (thread, round) in (0..8).flat_map(|thread| (0..20).map(move |round| (thread, round))) {
        assert!(!is_found(&url(thread, round)));
    }
}
