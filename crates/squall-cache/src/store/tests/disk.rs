//! The disk through the store: what is written is found again, whatever happened to it.

use std::path::Path;

use super::*;
use crate::Parts;
use crate::store::DiskSettings;

fn settings(dir: &Path) -> Settings {
    let disk = Some(DiskSettings { dir: dir.to_owned(), bytes: 4 << 20 });
    Settings { memory_bytes: 256 << 10, disk, ..Settings::default() }
}

fn open(dir: &Path) -> Store {
    Store::open(settings(dir)).unwrap()
}

fn padded_entry(url: &str, version: u64, bytes: usize, sequence: Sequence) -> Entry {
    let mut text = format!("{url} {version} ").into_bytes();
    text.resize(bytes.max(text.len()), b'.');
    Entry { body: StoredBody::Whole(text.into()), ..entry(url, version, sequence) }
}

/// What a request finds, wherever it is.
fn find(store: &Store, url: &str) -> Option<Hit> {
    match store.find(&key(url).hash(), |_| 0) {
        Found::Memory(hit) => Some(hit),
        Found::OnDisk(ticket) => store.load_blocking(ticket),
        Found::Nothing => None,
    }
}

fn version(store: &Store, url: &str) -> Option<u64> {
    let hit = find(store, url)?;
    let body = body(&hit);
    let mut words = body.split(' ');
    assert_eq!(words.next(), Some(url));
    Some(words.next()?.parse().unwrap())
}

fn files(dir: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files
}

#[test]
fn everything_of_an_entry_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first =
        varying(&["accept", "x-own"], 7, tagged(&["red", "blue"], entry("/a", 1, Sequence(3))));
    first.key.extra = "cookie:a\n".into();
    first.key.space.part = "revision".into();
    first.head.headers.append("set-x", HeaderValue::from_bytes(b"\xff\x80 latin").unwrap());
    first.head.headers.append("set-x", HeaderValue::from_static("second"));
    first.head.freshness = Freshness {
        lifetime_s: 1,
        initial_age_s: 2,
        stale_while_revalidate_s: 3,
        stale_if_error_s: 4,
        must_revalidate: true,
        no_cache: true,
    };
    let ranges = vec![(10, Bytes::from("abc")), (90, Bytes::from("defg"))];
    let mut second = entry("/parts", 1, Sequence(4));
    second.body = StoredBody::Parts(Parts { length: 100, ranges });
    let store = open(dir.path());
    for entry in [&first, &second] {
        store.put(entry.clone());
    }
    drop(store);
    for _ in 0..2 {
        let store = open(dir.path());
        let Found::OnDisk(ticket) = store.find(&first.key.hash(), |_| 7) else { panic!() };
        let found = store.load_blocking(ticket).unwrap();
        assert_eq!(found.entry.key, first.key);
        assert_eq!(found.entry.head, first.head);
        assert_eq!(found.entry.sequence, first.sequence);
        assert_eq!(body(&found), "/a 1");
        let found = find(&store, "/parts").unwrap();
        let StoredBody::Parts(parts) = &found.entry.body else { panic!() };
        assert_eq!(parts.length, 100);
        assert_eq!(parts.ranges, [(10, Bytes::from("abc")), (90, Bytes::from("defg"))]);
        // Loaded once, then in memory.
        assert!(matches!(store.find(&first.key.hash(), |_| 7), Found::Memory(_)));
        assert!(store.sequence() > Sequence(4));
    }
}

#[test]
fn what_was_replaced_removed_or_purged_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let urls = ["/kept", "/removed", "/purged", "/tagged", "/softly", "/replaced"];
    for url in urls {
        store.put(tagged(&[url], entry(url, 1, store.sequence())));
    }
    store.flush();
    store.put(entry("/replaced", 2, store.sequence()));
    store.remove(&key("/removed").hash());
    store.purge(&purge(Covered::Url("https://example.com/purged".into()), false)).unwrap();
    store.purge(&purge(Covered::Tag("/tagged".into()), false)).unwrap();
    store.purge(&purge(Covered::Tag("/softly".into()), true)).unwrap();
    let check = |store: &Store| {
        let versions: Vec<_> = urls.iter().map(|url| version(store, url)).collect();
        assert_eq!(versions, [Some(1), None, None, None, Some(1), Some(2)]);
        assert!(find(store, "/softly").unwrap().soft_purged);
        assert!(!find(store, "/kept").unwrap().soft_purged);
    };
    check(&store);
    drop(store);
    let store = open(dir.path());
    check(&store);
    store.purge(&purge(Covered::All, false)).unwrap();
    assert!(urls.iter().all(|url| version(&store, url).is_none()));
    store.flush();
    assert_eq!(store.stats().disk_entries, 0);
    // The segment that is written to is left, the others had nothing any more.
    assert!(files(dir.path(), ".segment").len() <= 1);
    drop(store);
    let store = open(dir.path());
    assert!(urls.iter().all(|url| version(&store, url).is_none()));
}

#[test]
fn both_budgets_are_kept_and_what_is_asked_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..4000 {
        store.put(padded_entry(&format!("/{number}"), 1, 4000, store.sequence()));
        if number % 50 == 0 {
            store.flush();
            // More than memory holds, so that the disk is asked as well.
            for asked in (0..number.min(150)).step_by(3) {
                assert_eq!(version(&store, &format!("/{asked}")), Some(1), "{asked} of {number}");
            }
        }
    }
    store.flush();
    let stats = store.stats();
    let of_files = files(dir.path(), "").into_iter().map(|file| file.metadata().unwrap().len());
    let of_segments: u64 = of_files.sum::<u64>() - (1 << 20);
    assert!(of_segments <= 4 << 20, "{of_segments}");
    assert!(stats.disk_bytes > 3 << 20 && stats.disk_bytes <= 4 << 20, "{stats:?}");
    assert!(stats.memory_bytes <= 256 << 10, "{stats:?}");
    assert!(stats.disk_entries > 700 && stats.disk_second_chances > 100, "{stats:?}");
    assert!(stats.index_entries >= stats.disk_entries, "{stats:?}");
    assert!(stats.index_entries <= stats.disk_entries + stats.memory_entries, "{stats:?}");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.stats().disk_entries, stats.disk_entries);
    for asked in (0..150).step_by(3) {
        assert_eq!(version(&store, &format!("/{asked}")), Some(1), "{asked}");
    }
    drop(store);
    // A smaller budget is kept from the start.
    let smaller = DiskSettings { dir: dir.path().to_owned(), bytes: 2 << 20 };
    let store = Store::open(Settings { disk: Some(smaller), ..settings(dir.path()) }).unwrap();
    store.flush();
    assert!(store.stats().disk_bytes <= 2 << 20);
}

#[test]
fn large_responses_are_found_at_once_and_written_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Too large for memory, and then also for the disk.
    store.put(padded_entry("/large", 1, 400 << 10, store.sequence()));
    assert_eq!(version(&store, "/large"), Some(1));
    store.put(padded_entry("/small", 1, 10, store.sequence()));
    store.put(padded_entry("/larger", 1, 600 << 10, store.sequence()));
    store.flush();
    assert_eq!(version(&store, "/large"), Some(1));
    assert_eq!(version(&store, "/small"), Some(1));
    assert_eq!(version(&store, "/larger"), None);
    assert_eq!(find(&store, "/large").unwrap().entry.body_bytes(), 400 << 10);
    drop(store);
    assert_eq!(version(&open(dir.path()), "/large"), Some(1));
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let store = open(&dir);
    store.put(entry("/a", 1, store.sequence()));
    store.flush();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let all = files(&dir, "");
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(|file| mode(file) == 0o600));
    // One process at a time.
    let error = Store::open(settings(&dir)).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn foreign_files_and_other_versions_are_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(entry("/a", 1, store.sequence()));
    drop(store);
    let segment = files(dir.path(), ".segment").remove(0);
    std::fs::write(dir.path().join("0000000007.segment"), "no segment").unwrap();
    std::fs::write(dir.path().join("0000000008.segment"), "").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "a person's").unwrap();
    // The same file under another number.
    std::fs::copy(&segment, dir.path().join("0000000009.segment")).unwrap();
    assert_eq!(version(&open(dir.path()), "/a"), Some(1));
    assert_eq!(files(dir.path(), ".segment").len(), 1);
    assert_eq!(files(dir.path(), ".txt").len(), 1);
    // Another version of the form.
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[11] += 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(version(&open(dir.path()), "/a"), None);
}

#[test]
fn without_a_whole_journal_nothing_is_answered() {
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(1 << 19),
        |bytes| bytes[11] += 1,
        |bytes| bytes[80] ^= 1,
        |bytes| *bytes.last_mut().unwrap() = 1,
        |bytes| bytes.push(0),
    ];
    for damage in damages {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.put(entry("/a", 1, store.sequence()));
        store.purge(&purge(Covered::Url("https://example.com/b".into()), false)).unwrap();
        drop(store);
        let journal = dir.path().join("purges");
        let mut bytes = std::fs::read(&journal).unwrap();
        damage(&mut bytes);
        std::fs::write(&journal, bytes).unwrap();
        let store = open(dir.path());
        assert_eq!(version(&store, "/a"), None);
        store.put(entry("/a", 2, store.sequence()));
        drop(store);
        assert_eq!(version(&open(dir.path()), "/a"), Some(2));
    }
}

#[test]
fn a_failing_disk_fails_no_request() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("cache");
    let store = open(&dir);
    store.put(entry("/before", 1, store.sequence()));
    store.flush();
    assert!(store.stats().disk_on);
    // New segments can not be made any more.
    let away = parent.path().join("away");
    std::fs::rename(&dir, &away).unwrap();
    for number in 0..300 {
        store.put(padded_entry(&format!("/{number}"), 1, 4000, store.sequence()));
        store.flush();
    }
    let stats = store.stats();
    assert!(!stats.disk_on && stats.disk_writes_dropped > 0 && stats.disk_failures == 1);
    assert_eq!(version(&store, "/before"), Some(1));
    assert_eq!(version(&store, "/299"), Some(1));
    // The purge holds, and says that it may not be for ever.
    let long = "x".repeat(2 << 20);
    assert!(store.purge(&purge(Covered::Tag(long.into()), false)).is_err());
    assert!(store.purge(&purge(Covered::All, false)).is_err());
    assert_eq!(version(&store, "/before"), None);
    std::fs::rename(&away, &dir).unwrap();
    store.purge(&purge(Covered::All, false)).unwrap();
    let begun = std::time::Instant::now();
    while !store.stats().disk_on {
        assert!(begun.elapsed().as_secs() < 60, "the disk is not tried again");
        store.put(entry("/after", 1, store.sequence()));
        store.flush();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(store);
    let store = open(&dir);
    assert_eq!(version(&store, "/after"), Some(1));
    assert_eq!(version(&store, "/before"), None);
}

#[test]
fn inspection_tells_where_everything_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(varying(&["accept"], 1, entry("/a", 1, store.sequence())));
    store.flush();
    store.put(varying(&["accept"], 2, entry("/a", 2, store.sequence())));
    drop(store);
    let store = open(dir.path());
    let Found::OnDisk(ticket) = store.find(&key("/a").hash(), |_| 2) else { panic!() };
    store.load_blocking(ticket).unwrap();
    store.purge(&purge(Covered::All, true)).unwrap();
    let mut stored = store.inspect(&key("/a").hash());
    stored.sort_by_key(|stored| stored.head.variant);
    let facts: Vec<_> = stored
        .iter()
        .map(|stored| (stored.head.variant, stored.body_bytes, stored.in_memory, stored.state))
        .collect();
    let soft = crate::store::State::SoftPurged;
    assert_eq!(facts, [(1, 4, false, soft), (2, 4, true, soft)]);
    assert!(stored.iter().all(|stored| stored.disk_bytes > Some(100) && !stored.waits_for_disk));
    assert!(store.inspect(&key("/b").hash()).is_empty());
}

#[test]
fn loading_does_not_hold_up_a_core_and_goes_on_when_writing_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(entry("/a", 1, store.sequence()));
    drop(store);
    let store = open(dir.path());
    store.close();
    store.put(entry("/b", 1, store.sequence()));
    store.remove(&key("/c").hash());
    // Nobody writes any more, and nobody waits for it.
    store.flush();
    assert_eq!(version(&store, "/b"), Some(1));
    let Found::OnDisk(ticket) = store.find(&key("/a").hash(), |_| 0) else { panic!() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hit = runtime.block_on(store.load(ticket)).unwrap();
    assert_eq!(body(&hit), "/a 1");
    store.purge(&purge(Covered::All, false)).unwrap();
    assert!(runtime.block_on(store.load(ticket)).is_none());
}
