//! A process that writes and reads is killed at random moments, and its files are damaged:
//! whatever is found afterwards is right in every byte, and nothing is found that was purged
//! or removed. `SQUALL_CACHE_CRASH_ROUNDS` sets the number of rounds.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::store::DiskSettings;

const THREADS: u64 = 3;
const URLS: u64 = 200;
const DIR: &str = "SQUALL_CACHE_CRASH_CHILD";
const ROUND: &str = "SQUALL_CACHE_CRASH_ROUND";

/// Random enough, and the same again for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn open(dir: &Path) -> Store {
    let disk = Some(DiskSettings { dir: dir.to_owned(), bytes: 8 << 20 });
    Store::open(Settings { memory_bytes: 512 << 10, disk, ..Settings::default() }).unwrap()
}

fn key_of(thread: u64, url: u64) -> Key {
    let space = Space { app: app(&format!("app{thread}")), part: "".into() };
    Key { space, url: format!("https://example.com/{url}").into(), extra: "".into() }
}

/// The body of a version, of which every byte follows from it.
fn body_of(key: &Key, version: u64) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.hash().0).update(&version.to_le_bytes());
    let mut bytes = hasher.finalize_xof();
    let mut length = [0; 2];
    bytes.fill(&mut length);
    let length = match u16::from_le_bytes(length) as usize {
        // Some are larger than what is written together.
        length if length % 61 == 0 => 300 << 10,
        length => length / 4,
    };
    let mut body = vec![0; length];
    bytes.fill(&mut body);
    body.into()
}

fn versioned(key: Key, version: u64, sequence: Sequence) -> Entry {
    let body = StoredBody::Whole(body_of(&key, version));
    let entry = tagged(&["all"], entry("/", version, sequence));
    Entry { key, body, ..entry }
}

/// The version that is found. Every byte is what it has to be.
fn found(store: &Store, key: &Key) -> Option<u64> {
    let hit = match store.find(&key.hash(), |_| 0) {
        Found::Memory(hit) => hit,
        Found::OnDisk(ticket) => store.load_blocking(ticket)?,
        Found::Nothing => return None,
    };
    let version = hit.entry.head.received_at_ms;
    let StoredBody::Whole(body) = &hit.entry.body else { panic!("parts of {key:?}") };
    assert!(*body == body_of(key, version), "wrong bytes: {key:?} {version}");
    assert_eq!(hit.entry.key, *key);
    Some(version)
}

/// The process that is killed. Says which versions must not be found any more.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = open(Path::new(&dir));
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let store = &store;
            threads.spawn(move || work(store, thread, round << 32));
        }
    });
}

/// Ends the process when a thread of it finds something wrong.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn work(store: &Store, thread: u64, mut version: u64) {
    let _ends = EndsTheProcess;
    let mut random = Random(version * 7919 + thread + 1);
    let mut gone = HashMap::new();
    let mut newest = HashMap::new();
    loop {
        let url = random.below(URLS);
        let key = key_of(thread, url);
        let mut dead = Vec::new();
        match random.below(100) {
            0..40 => {
                version += 1;
                store.put(versioned(key, version, store.sequence()));
                newest.insert(url, version);
            }
            40..97 => {
                let found = found(store, &key);
                let gone = gone.get(&url).copied().unwrap_or(0);
                assert!(found.is_none_or(|found| found > gone), "{key:?} {found:?} {gone}");
            }
            97 => {
                store.remove(&key.hash());
                store.flush();
                dead.push(url);
            }
            _ => {
                let (what, covers) = match random.below(20) {
                    0 => (Covered::All, 0..URLS),
                    1 => (Covered::Tag("all".into()), 0..URLS),
                    2 => (Covered::Prefix("https://example.com/".into()), 0..URLS),
                    _ => (Covered::Url(key.url.clone()), url..url + 1),
                };
                store.purge(&Purge { app: key.space.app.clone(), what, soft: false }).unwrap();
                dead.extend(covers);
            }
        }
        let mut lines = String::new();
        for url in dead {
            let Some(version) = newest.get(&url) else { continue };
            gone.insert(url, *version);
            lines.push_str(&format!("gone {thread} {url} {version}\n"));
        }
        // One write for each line or more: what the parent reads is whole.
        print!("{lines}");
        std::io::stdout().flush().unwrap();
    }
}

fn damage(dir: &Path, random: &mut Random) {
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    let file = &files[random.below(files.len() as u64) as usize];
    let file = File::options().read(true).write(true).open(file).unwrap();
    let length = file.metadata().unwrap().len();
    let at = random.below(length + 1);
    match random.below(4) {
        0 => file.set_len(at).unwrap(),
        1 => file.set_len(length + at).unwrap(),
        2 => file.write_all_at(&vec![0; random.below(5000) as usize], at).unwrap(),
        _ => {
            for _ in 0..1 + random.below(20) {
                let at = random.below(length.max(1));
                let mut byte = [0];
                let _ = file.read_exact_at(&mut byte, at);
                file.write_all_at(&[byte[0] ^ 1 << random.below(8)], at).unwrap();
            }
        }
    }
}

#[test]
fn nothing_wrong_is_found_after_a_kill() {
    let rounds = std::env::var("SQUALL_CACHE_CRASH_ROUNDS");
    let rounds: u64 = rounds.map_or(4, |rounds| rounds.parse().unwrap());
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed) | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let dir = dir.path().join("cache");
    let mut gone: HashMap<(u64, u64), u64> = HashMap::new();
    let mut checked = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child", "--nocapture", "--test-threads=1"])
            .env(DIR, &dir)
            .env(ROUND, (round + 1).to_string())
            .stdout(File::create(&said).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(50 + random.below(500)));
        child.kill().unwrap();
        let killed = child.wait().unwrap().signal() == Some(9);
        assert!(killed, "round {round}: the child ended by itself");
        for line in std::fs::read_to_string(&said).unwrap().lines() {
            let Some(line) = line.strip_prefix("gone ") else { continue };
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            if let [thread, url, version] = numbers[..] {
                gone.insert((thread, url), version);
            }
        }
        if !dir.exists() {
            continue;
        }
        // As it was left, then damaged; the next child goes on with it.
        for damaged in [false, true] {
            if damaged && random.below(2) == 0 {
                damage(&dir, &mut random);
            }
            let store = open(&dir);
            for (thread, url) in
                (0..THREADS).flat_map(|thread| (0..URLS).map(move |url| (thread, url)))
            {
                let Some(version) = found(&store, &key_of(thread, url)) else { continue };
                let gone = gone.get(&(thread, url)).copied().unwrap_or(0);
                assert!(
                    version > gone,
                    "round {round}: /{url} of {thread}: {version}, gone {gone}"
                );
                checked += 1;
            }
        }
    }
    println!("{checked} responses were found and right");
    assert!(checked > rounds, "hardly anything was found");
}
