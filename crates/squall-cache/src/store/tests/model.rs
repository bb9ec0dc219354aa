//! Random operations on the store and on a plain list of what was put and purged: they find
//! the same.

use proptest::prelude::*;

use super::*;
use crate::KeyHash;
use crate::store::DiskSettings;

const URLS: [&str; 4] = ["/a", "/a/b", "/a/b?c", "/d"];
const TAGS: [&str; 2] = ["red", "blue"];

#[derive(Debug, Clone)]
enum Step {
    /// A request goes out.
    Fetch,
    /// The response of one that went out.
    Put {
        fetch: usize,
        url: usize,
        variant: u64,
        varies: bool,
        tags: usize,
    },
    Remove(usize),
    Purge {
        what: usize,
        which: usize,
        soft: bool,
    },
    Flush,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Fetch),
        6 => (0..4usize, 0..4usize, 0..3u64, any::<bool>(), 0..4usize).prop_map(
            |(fetch, url, variant, varies, tags)| Step::Put { fetch, url, variant, varies, tags }
        ),
        1 => (0..4usize).prop_map(Step::Remove),
        2 => (0..4usize, 0..4usize, any::<bool>())
            .prop_map(|(what, which, soft)| Step::Purge { what, which, soft }),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

fn covered(what: usize, which: usize) -> Covered {
    let url = format!("https://example.com{}", URLS[which]).into();
    match what {
        0 => Covered::All,
        1 => Covered::Url(url),
        2 => Covered::Prefix(url),
        _ => Covered::Tag(TAGS[which % 2].into()),
    }
}

/// What was put, in order, and what covers it.
#[derive(Default)]
struct Model {
    stored: Vec<Entry>,
    marks: Vec<(Sequence, Covered, bool)>,
    removals: Vec<(Sequence, KeyHash)>,
}

impl Model {
    fn is_covered(&self, entry: &Entry, soft: bool) -> bool {
        self.marks.iter().any(|(at, what, is_soft)| {
            let covers = match what {
                Covered::All => true,
                Covered::Url(url) => entry.key.url == *url,
                Covered::Prefix(prefix) => entry.key.url.starts_with(&**prefix),
                Covered::Tag(tag) => entry.head.tags.contains(tag),
            };
            covers && *is_soft == soft && *at > entry.sequence
        })
    }

    fn put(&mut self, entry: &Entry) {
        let key = entry.key.hash();
        let removed =
            self.removals.iter().any(|(at, removed)| *removed == key && *at > entry.sequence);
        if removed || self.is_covered(entry, false) {
            return;
        }
        let same = |stored: &Entry| {
            stored.key == entry.key
                && stored.head.vary == entry.head.vary
                && stored.head.variant == entry.head.variant
        };
        self.stored.retain(|stored| !same(stored));
        self.stored.push(entry.clone());
    }

    /// Version, and whether it is stale.
    fn find(&self, url: &str, variant: u64) -> Option<(u64, bool)> {
        let selected = |entry: &&Entry| {
            let of_request = if entry.head.vary.is_empty() { 0 } else { variant };
            entry.key == key(url)
                && entry.head.variant == of_request
                && !self.is_covered(entry, false)
        };
        let found = self.stored.iter().filter(selected).max_by_key(|e| e.head.received_at_ms)?;
        Some((found.head.received_at_ms, self.is_covered(found, true)))
    }
}

fn find(store: &Store, url: &str, variant: u64) -> Option<(u64, bool)> {
    // What is on disk is known to be purged once it was read: then the next one is looked for.
    for _ in 0..20 {
        let of_request = |names: &[HeaderName]| if names.is_empty() { 0 } else { variant };
        let hit = match store.find(&key(url).hash(), of_request) {
            Found::Memory(hit) => Some(hit),
            Found::OnDisk(ticket) => store.load_blocking(ticket),
            Found::Nothing => return None,
        };
        if let Some(hit) = hit {
            assert_eq!(body(&hit), format!("{url} {}", hit.entry.head.received_at_ms));
            return Some((hit.entry.head.received_at_ms, hit.soft_purged));
        }
    }
    panic!("it is found and never loaded");
}

fn run(steps: &[Step], on_disk: bool) {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskSettings { dir: dir.path().into(), bytes: 64 << 20 };
    let settings = Settings { disk: on_disk.then_some(disk), ..Settings::default() };
    let mut store = Store::open(settings.clone()).unwrap();
    let mut model = Model::default();
    let mut fetches = vec![store.sequence()];
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Fetch => fetches.push(store.sequence()),
            Step::Put { fetch, url, variant, varies, tags } => {
                let sequence = fetches[fetches.len().saturating_sub(fetch + 1)];
                let tags: Vec<&str> =
                    (0..2).filter(|tag| tags >> tag & 1 == 1).map(|tag| TAGS[tag]).collect();
                let entry = tagged(&tags, entry(URLS[*url], number as u64, sequence));
                let names: &[&str] = if *varies { &["accept"] } else { &[] };
                let entry = varying(names, if *varies { *variant } else { 0 }, entry);
                store.put(entry.clone());
                model.put(&entry);
            }
            Step::Remove(url) => {
                let hash = key(URLS[*url]).hash();
                store.remove(&hash);
                model.stored.retain(|entry| entry.key.hash() != hash);
                model.removals.push((store.sequence(), hash));
            }
            Step::Purge { what, which, soft } => {
                let what = covered(*what, *which);
                store.purge(&purge(what.clone(), *soft)).unwrap();
                model.marks.push((store.sequence(), what, *soft));
            }
            Step::Flush => store.flush(),
            Step::Restart if on_disk => {
                drop(store);
                store = Store::open(settings.clone()).unwrap();
                // Nothing is on its way any more, and nobody asks what was removed.
                model.removals.clear();
                fetches = vec![store.sequence()];
            }
            Step::Restart => {}
        }
        for url in URLS {
            for variant in 0..3 {
                let (found, expected) = (find(&store, url, variant), model.find(url, variant));
                assert_eq!(found, expected, "{url} {variant} after step {number}, {step:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_does_what_a_list_does(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, false);
    }
}

proptest! {
    // Purges wait for the disk.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_does_what_a_list_does(steps in prop::collection::vec(step(), 1..50)) {
        run(&steps, true);
    }
}
