//! Measures the store with a million responses on disk: how long a start takes, how long a
//! lookup, what memory it needs, and whether the budgets are kept.
//!
//!     cargo run --release -p squall-cache --example million [FOLDER]
//!
//! The folder is made, needs 2 GB, and is removed again; without one it is in the folder for
//! temporary files. What is measured cold was dropped from the kernel's cache before.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use squall_cache::store::{DiskSettings, Found, Settings, Store};
use squall_cache::{Entry, Freshness, Head, Key, Space, StoredBody};
use squall_types::AppName;

const ENTRIES: u64 = 1_000_000;
const BODY_BYTES: usize = 1024;
const LOADS: u64 = 50_000;
const HITS: u64 = 2_000_000;
const MEMORY_BYTES: u64 = 64 << 20;
const DISK_BYTES: u64 = 3 << 30;
const SMALL_DISK_BYTES: u64 = 1 << 30;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("squall-cache-million-{}", std::process::id())),
        PathBuf::from,
    );
    if let Some(word) = arguments.next() {
        return start(&dir, &word.to_string_lossy());
    }
    let measured = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let store = open(dir, DISK_BYTES)?;
    fill(&store, 0..ENTRIES);
    let took = begun.elapsed();
    println!(
        "written     {ENTRIES} responses of {BODY_BYTES} bytes in {:.1} s, {:.0} a second",
        took.as_secs_f64(),
        ENTRIES as f64 / took.as_secs_f64()
    );
    let stats = store.stats();
    assert_eq!(stats.disk_entries, ENTRIES, "{stats:?}");
    println!("files       {:.0} MB", stats.disk_bytes as f64 / 1e6);
    drop(store);

    drop_from_kernel(dir)?;
    for word in ["cold", "warm"] {
        // In a process of its own, whose memory shows what a start takes.
        let status = Command::new(std::env::current_exe()?).arg(dir).arg(word).status()?;
        if !status.success() {
            return Err(io::Error::other("the process that measures a start failed"));
        }
    }

    let store = open(dir, DISK_BYTES)?;
    hits(&store);
    drop(store);

    let store = open(dir, SMALL_DISK_BYTES)?;
    let mut most = (0, 0);
    for begin in (0..200_000).step_by(2000) {
        fill(&store, ENTRIES + begin..ENTRIES + begin + 2000);
        let stats = store.stats();
        let files = file_bytes(dir)?;
        assert!(stats.memory_bytes <= MEMORY_BYTES && files <= SMALL_DISK_BYTES + (1 << 20));
        most = (most.0.max(stats.memory_bytes), most.1.max(files));
    }
    println!(
        "budgets     at most {:.1} of {:.1} MB in memory, {:.1} of {:.1} MB on disk, while {} made room",
        most.0 as f64 / 1e6,
        MEMORY_BYTES as f64 / 1e6,
        most.1 as f64 / 1e6,
        SMALL_DISK_BYTES as f64 / 1e6,
        store.stats().disk_evictions
    );
    Ok(())
}

fn start(dir: &Path, word: &str) -> io::Result<()> {
    let before = resident_bytes()?;
    let begun = Instant::now();
    let store = open(dir, DISK_BYTES)?;
    println!("start       {:.2} s, {word}", begun.elapsed().as_secs_f64());
    let stats = store.stats();
    assert_eq!(stats.disk_entries, ENTRIES);
    let per_entry = stats.index_bytes / ENTRIES;
    assert!(per_entry <= 200);
    let grown = resident_bytes()?.saturating_sub(before) / ENTRIES;
    println!("memory      {per_entry} bytes an entry; the process grew by {grown}");
    let mut took: Vec<Duration> = (0..LOADS).map(|number| load(&store, number)).collect();
    took.sort_unstable();
    let part = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_micros();
    println!(
        "lookup      {word}, on disk: p50 {} us, p99 {} us, p99.9 {} us, longest {} us",
        part(0.5),
        part(0.99),
        part(0.999),
        part(1.0)
    );
    Ok(())
}

fn open(dir: &Path, bytes: u64) -> io::Result<Store> {
    let disk = Some(DiskSettings { dir: dir.to_owned(), bytes });
    Store::open(Settings { memory_bytes: MEMORY_BYTES, disk, ..Settings::default() })
}

fn key(number: u64) -> Key {
    let app = AppName::parse("shop").expect("the name is good");
    let url = format!("https://shop.example.com/catalogue/{number}?page=1").into();
    Key { space: Space { app, part: "".into() }, url, extra: "".into() }
}

fn fill(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("cache-control", HeaderValue::from_static("public, max-age=600"));
        headers.insert("etag", HeaderValue::from(number));
        let head = Head {
            status: StatusCode::OK,
            headers,
            requested_at_ms: number,
            received_at_ms: number,
            freshness: Freshness::default(),
            vary: Box::default(),
            variant: 0,
            tags: Box::default(),
        };
        let mut body = vec![0; BODY_BYTES];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut body);
        let body = StoredBody::Whole(Bytes::from(body));
        store.put(Entry { key: key(number), head, body, sequence: store.sequence() });
        if number % 1000 == 999 {
            store.flush();
        }
    }
}

/// How long it takes to get a response that was not asked for before.
fn load(store: &Store, number: u64) -> Duration {
    // A step that has no divisor with the number of entries goes everywhere.
    let key = key(number * 514_229 % ENTRIES).hash();
    let begun = Instant::now();
    let hit = match store.find(&key, |_| 0) {
        Found::OnDisk(ticket) => store.load_blocking(ticket),
        Found::Memory(hit) => Some(hit),
        Found::Nothing => None,
    };
    let took = begun.elapsed();
    assert!(hit.is_some_and(|hit| hit.entry.body_bytes() == BODY_BYTES as u64));
    took
}

/// How many lookups in memory two threads do.
fn hits(store: &Store) {
    let keys: Vec<_> = (0..1000).map(|number| key(number).hash()).collect();
    (0..1000).for_each(|number| {
        if let Found::OnDisk(ticket) = store.find(&keys[number], |_| 0) {
            store.load_blocking(ticket);
        }
    });
    let begun = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for number in 0..HITS as usize {
                    assert!(matches!(store.find(&keys[number % 1000], |_| 0), Found::Memory(_)));
                }
            });
        }
    });
    let each = begun.elapsed().as_nanos() as u64 / HITS;
    println!("hit         {each} ns with two threads at once");
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(dir)?.map(|file| file.map(|file| file.path())).collect()
}

fn file_bytes(dir: &Path) -> io::Result<u64> {
    // A file may go between its name and its size.
    let bytes = |file: &PathBuf| file.metadata().map_or(0, |metadata| metadata.len());
    Ok(files(dir)?.iter().map(bytes).sum())
}

fn drop_from_kernel(dir: &Path) -> io::Result<()> {
    for file in files(dir)? {
        let file = File::open(file)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn resident_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.unwrap_or(0) * rustix::param::page_size() as u64)
}
