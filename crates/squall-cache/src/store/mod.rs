//! Where responses are stored: in memory, and on disk behind it.
//!
//! `find` answers at once from memory or says where on disk a response is; `load` fetches it.
//! `put` shows a response at once and has it written to disk later. A purge holds for every
//! lookup that begins after it returned, and it is on disk then. Nothing here knows when a
//! response is fresh, and nothing ever fails a request: what can not be kept is a miss.

mod coding;
mod disk;
mod index;
mod inspect;
mod journal;
mod marks;
mod memory;
mod stats;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use http::HeaderName;
use squall_types::AppName;

use self::disk::{Disk, Opening, Read};
use self::index::{Dropped, Index, MemoryKey, Place, Serial, Slot};
use self::journal::Purged;
use self::marks::{AppMarks, Marks};
use self::memory::{Evicted, Memory, Resident};
use self::stats::{Counters, count};
use crate::{Entry, KeyHash, Sequence};

pub use self::inspect::Stored;
pub use self::stats::Stats;

#[derive(Debug, Clone)]
pub struct Settings {
    /// What bodies and heads in memory may take together. With a disk, responses that wait to
    /// be written may take an eighth of it besides, or 4 MiB.
    pub memory_bytes: u64,
    /// Nothing is kept on disk without.
    pub disk: Option<DiskSettings>,
    /// Larger responses are not written to disk. Memory takes none that is larger than a
    /// quarter of its budget.
    pub entry_bytes_max: u64,
    /// Responses of one key that differ by `Vary`; the oldest goes.
    pub variants_max: usize,
    /// Purges of URLs, prefixes and tags that are told apart for each app. With more, the
    /// oldest purge everything of the app that was stored before them.
    pub marks_max: usize,
}

#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// A folder of its own; made if it is not there.
    pub dir: PathBuf,
    /// What all files in it may take together.
    pub bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            memory_bytes: 256 << 20,
            disk: None,
            entry_bytes_max: 64 << 20,
            variants_max: 64,
            marks_max: 4096,
        }
    }
}

/// What was found for a request.
#[derive(Debug)]
pub enum Found {
    Memory(Hit),
    /// To be loaded. It may turn out to be nothing.
    OnDisk(Ticket),
    Nothing,
}

/// A stored response that may be used. Whether it is fresh is another question.
#[derive(Debug, Clone)]
pub struct Hit {
    pub entry: Arc<Entry>,
    /// A soft purge covers it: it is stale, however fresh it says that it is.
    pub soft_purged: bool,
}

/// A response on disk.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    key: KeyHash,
    serial: Serial,
    memory_key: MemoryKey,
    place: Place,
}

/// What purges say of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Usable,
    /// Stale, however fresh it says that it is.
    SoftPurged,
    /// Not to be used.
    Purged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    pub app: AppName,
    pub what: Covered,
    /// What is covered becomes stale, and may be served while it is validated.
    pub soft: bool,
}

/// What a purge covers, of one app and whatever its part and the `extra` of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered {
    All,
    /// The whole URL of a key, with scheme, host and query.
    Url(Box<str>),
    /// What the URL of a key begins with.
    Prefix(Box<str>),
    /// One of the tags of a response.
    Tag(Box<str>),
}

/// The stored responses of a node.
pub struct Store {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    settings: Settings,
    clock: AtomicU64,
    serials: AtomicU64,
    index: Index,
    memory: Memory,
    marks: Marks,
    counters: Counters,
    disk: Option<Disk>,
}

impl Store {
    /// A store without a disk.
    pub fn in_memory(memory_bytes: u64) -> Store {
        let (index, marks) = (Index::new(), Marks::default());
        let settings = Settings { memory_bytes, ..Settings::default() };
        Store { shared: Shared::new(settings, index, marks, None, 1, 1), writer: Mutex::default() }
    }

    /// Opens what is stored, or begins anew. Fails if the folder can not be used at all, and
    /// with `WouldBlock` if another process uses it.
    pub fn open(settings: Settings) -> io::Result<Store> {
        let index = Index::new();
        let marks = Marks::default();
        let serial = Serial(1);
        let newest = Sequence(0);
        let mut opening =
            Opening { settings: &settings, index: &index, marks: &marks, serial, newest };
        let disk = settings.disk.as_ref().map(|disk| Disk::open(disk, &mut opening)).transpose()?;
        // No sequence is given twice, also not over a restart.
        let (clock, serials) = (opening.newest.0 + 1, opening.serial.0);
        let shared = Shared::new(settings, index, marks, disk, clock, serials);
        let writer = shared.disk.is_some().then(|| {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name("cache-writer".to_owned());
            thread.spawn(move || shared.disk.iter().for_each(|disk| disk::write(&shared, disk)))
        });
        Ok(Store { shared, writer: Mutex::new(writer.transpose()?) })
    }

    /// The most recent response of a key that the request selects. `variant_of` gives what
    /// the request has for names of headers, in the form of `Head::variant`; it is called
    /// with a lock held and must not use the store. Does no I/O and allocates nothing.
    pub fn find(&self, key: &KeyHash, mut variant_of: impl FnMut(&[HeaderName]) -> u64) -> Found {
        loop {
            let mut shard = self.shared.index.shard(key);
            let Some(slot) = shard.newest_match(key, &mut variant_of) else {
                return Found::Nothing;
            };
            slot.hit = true;
            let Some(resident) = self.shared.resident(slot) else {
                return match slot.place {
                    Some(place) => Found::OnDisk(Ticket::of(slot, place)),
                    None => Found::Nothing,
                };
            };
            drop(shard);
            match resident.app.judge(&resident.entry, &resident.judged) {
                State::Usable => return Found::Memory(Hit::of(&resident, false)),
                State::SoftPurged => return Found::Memory(Hit::of(&resident, true)),
                // Another variant that is older may not be covered.
                State::Purged => self.shared.drop_serial(key, resident.serial),
            }
        }
    }

    /// Reads a response from disk, away from the calling thread, and checks every byte.
    /// Nothing if it is gone, damaged or purged.
    pub async fn load(&self, ticket: Ticket) -> Option<Hit> {
        let shared = self.shared.clone();
        // Fails only if reading panicked or the runtime ends.
        tokio::task::spawn_blocking(move || shared.load(ticket)).await.ok().flatten()
    }

    /// Like `load`, on the calling thread.
    pub fn load_blocking(&self, ticket: Ticket) -> Option<Hit> {
        self.shared.load(ticket)
    }

    /// Takes a response, in place of the one that the same requests select. It is found at
    /// once, and on disk a little later. One that was purged or removed since its request
    /// went out is not taken.
    pub fn put(&self, entry: Entry) {
        self.shared.put(entry);
    }

    /// Removes all responses of a key, and refuses those that were asked for before.
    pub fn remove(&self, key: &KeyHash) {
        count(&self.shared.counters.removals);
        let at = marks::next(&self.shared.clock);
        let dropped = self.shared.index.shard(key).remove_key(key, at);
        dropped.iter().for_each(|dropped| self.shared.forget(dropped));
    }

    /// Removes all responses of a URL of an app, whatever their part and `extra`, and refuses
    /// those that were asked for before.
    pub fn remove_url(&self, app: &AppName, url: &str) {
        count(&self.shared.counters.removals);
        let page = KeyHash::of_url(app, url);
        let at = marks::next(&self.shared.clock);
        let dropped = self.shared.index.shard(&page).remove_url(&page, at);
        dropped.iter().for_each(|dropped| self.shared.forget(dropped));
    }

    /// Waits until everything that was put and removed is on disk, or has failed.
    pub fn flush(&self) {
        self.shared.disk.iter().for_each(Disk::flush);
    }

    /// Ends writing to disk, after what waits for it. Reading goes on, and the folder stays
    /// taken until the store is dropped.
    pub fn close(&self) {
        self.shared.disk.iter().for_each(Disk::close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of the writer was told of already.
        writer.map(JoinHandle::join);
    }

    /// To be taken before a request goes out whose response may be put.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.shared.clock.load(Ordering::Acquire))
    }

    /// Purges. When this returns it is on disk, and no lookup that begins later finds what it
    /// covers, also not what was asked for before and comes yet. Waits for the disk.
    ///
    /// If it fails the purge holds, but only until the store is opened again.
    pub fn purge(&self, purge: &Purge) -> io::Result<()> {
        self.shared.purge(purge)
    }

    /// Everything that is stored under a key. Reads heads from disk.
    pub fn inspect(&self, key: &KeyHash) -> Vec<Stored> {
        self.shared.inspect(key)
    }

    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// How often each app was purged since the store was opened.
    pub fn purges_by_app(&self) -> Vec<(AppName, u64)> {
        let all = self.shared.marks.all();
        all.iter().map(|app| (app.app.clone(), app.purges.load(Ordering::Relaxed))).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Ticket {
    fn of(slot: &Slot, place: Place) -> Ticket {
        Ticket { key: slot.key, serial: slot.serial, memory_key: slot.memory_key(), place }
    }
}

impl Hit {
    fn of(resident: &Resident, soft_purged: bool) -> Hit {
        Hit { entry: resident.entry.clone(), soft_purged }
    }
}

impl Shared {
    fn new(
        settings: Settings,
        index: Index,
        marks: Marks,
        disk: Option<Disk>,
        clock: u64,
        serials: u64,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            clock: AtomicU64::new(clock),
            serials: AtomicU64::new(serials),
            index,
            memory: Memory::new(settings.memory_bytes),
            marks,
            counters: Counters::default(),
            disk,
            settings,
        })
    }

    /// What is in memory of a slot, or waits there to be written.
    fn resident(&self, slot: &Slot) -> Option<Arc<Resident>> {
        let pending = || self.disk.as_ref().filter(|_| slot.pending)?.pending(slot.serial);
        self.memory.get(slot).or_else(pending)
    }

    fn load(&self, ticket: Ticket) -> Option<Hit> {
        count(&self.counters.loads);
        let hit = self.read(ticket).and_then(|entry| self.promote(ticket, entry));
        if hit.is_none() {
            count(&self.counters.loads_in_vain);
        }
        hit
    }

    /// Reads an entry and checks every byte. Removes it from the index if it is not good.
    fn read(&self, ticket: Ticket) -> Option<Entry> {
        let Ticket { key, serial, mut place, .. } = ticket;
        loop {
            let read = self.disk.as_ref()?.read(place);
            let now = self.index.shard(&key).find(&key, serial).and_then(|slot| slot.place);
            let damaged = match read {
                Ok(Read::Record(head, body)) => match head.entry(body) {
                    Some(entry) if entry.key.hash() == key => return Some(entry),
                    _ => true,
                },
                Ok(Read::Struck) => false,
                Ok(Read::Damaged) => true,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            match now {
                // It was given a second chance meanwhile.
                Some(now) if now != place => place = now,
                Some(_) => {
                    if damaged {
                        count(&self.counters.damaged);
                    }
                    self.drop_serial(&key, serial);
                    return None;
                }
                None => return None,
            }
        }
    }

    /// Takes what was read from disk into memory, if it may be used.
    fn promote(&self, ticket: Ticket, entry: Entry) -> Option<Hit> {
        let Ticket { key, serial, memory_key, .. } = ticket;
        let app = self.marks.app(&entry.key.space.app);
        let resident = Arc::new(Resident::new(entry, key, serial, memory_key, app));
        let soft_purged = match resident.app.judge(&resident.entry, &resident.judged) {
            State::Usable => false,
            State::SoftPurged => true,
            State::Purged => {
                self.drop_serial(&key, serial);
                return None;
            }
        };
        let mut evicted = Evicted::new();
        let mut shard = self.index.shard(&key);
        // Another may have loaded it, or it was removed: then it was found before that.
        if let Some(slot) = shard.find(&key, serial)
            && self.memory.peek(slot).is_none()
        {
            self.memory.insert(resident.clone(), &mut evicted);
        }
        drop(shard);
        self.settle(evicted);
        Some(Hit::of(&resident, soft_purged))
    }

    fn put(&self, entry: Entry) {
        let key = entry.key.hash();
        let app = self.marks.app(&entry.key.space.app);
        let serial = Serial(self.serials.fetch_add(1, Ordering::Relaxed));
        let slot = Slot {
            variant: entry.head.variant,
            sequence: entry.sequence,
            received_at_ms: entry.head.received_at_ms,
            vary: self.index.vary(&entry.head.vary),
            ..Slot::new(key, serial, app.id)
        };
        let memory_key = slot.memory_key();
        let resident = Arc::new(Resident::new(entry, key, serial, memory_key, app));
        if resident.app.judge(&resident.entry, &resident.judged) == State::Purged {
            return count(&self.counters.puts_refused);
        }
        let mut gone = Vec::new();
        let mut evicted = Evicted::new();
        let mut shard = self.index.shard(&key);
        let taken = shard.insert(slot, self.settings.variants_max, |dropped| gone.push(dropped));
        if taken.is_ok() {
            let pending = self.disk.as_ref().is_some_and(|disk| disk.enqueue(&resident));
            if let Some(slot) = shard.find(&key, serial) {
                slot.pending = pending;
            }
            if self.disk.is_some() && !pending {
                count(&self.counters.disk_writes_dropped);
            }
            self.memory.insert(resident, &mut evicted);
        }
        drop(shard);
        count(if taken.is_ok() { &self.counters.puts } else { &self.counters.puts_refused });
        gone.iter().for_each(|dropped| self.forget(dropped));
        self.settle(evicted);
    }

    /// Removes from the index what left memory and is nowhere else.
    fn settle(&self, evicted: Evicted) {
        for resident in evicted {
            let mut shard = self.index.shard(&resident.key);
            let Some(slot) = shard.find(&resident.key, resident.serial) else { continue };
            count(&self.counters.memory_evictions);
            if slot.place.is_none() && !slot.pending {
                shard.remove(&resident.key, resident.serial);
            }
        }
    }

    fn purge(&self, purge: &Purge) -> io::Result<()> {
        count(&self.counters.purges);
        let app = self.marks.app(&purge.app);
        let mark = app.purge(&purge.what, purge.soft, &self.clock);
        app.trim(self.settings.marks_max, || self.oldest(&app));
        let purged = Purged { app: purge.app.clone(), what: purge.what.clone(), mark };
        let committed =
            self.disk.as_ref().map_or(Ok(()), |disk| disk.journal.commit(purged, &self.marks));
        if purge.what == Covered::All && !purge.soft {
            self.sweep(&app);
        }
        committed
    }

    /// Gives back what responses take that are older than everything their app may have.
    fn sweep(&self, app: &AppMarks) {
        let floor = app.floor();
        let mut dead = Vec::new();
        self.index.scan(|slot| {
            if slot.app == app.id && slot.sequence < floor {
                dead.push((slot.key, slot.serial));
            }
        });
        dead.iter().for_each(|(key, serial)| self.drop_serial(key, *serial));
    }

    /// Removes a response that marks see to: a restart may find it, and not use it.
    fn drop_serial(&self, key: &KeyHash, serial: Serial) {
        let dropped = self.index.shard(key).remove(key, serial);
        let Some(dropped) = dropped else { return };
        self.memory.remove(&dropped);
        if let (Some(disk), Some(place)) = (&self.disk, dropped.place) {
            disk.release(place);
        }
    }

    /// What was in the index is gone for ever, and with it what it stood for.
    fn forget(&self, dropped: &Dropped) {
        self.memory.remove(dropped);
        if let (Some(disk), Some(place)) = (&self.disk, dropped.place) {
            disk.strike(place);
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats {
            memory_entries: self.memory.len() as u64,
            memory_bytes: self.memory.bytes(),
            index_entries: self.index.len() as u64,
            index_bytes: self.index.memory_bytes(),
            disk_entries: self.disk.as_ref().map_or(0, Disk::entries),
            disk_bytes: self.disk.as_ref().map_or(0, Disk::bytes),
            disk_on: self.disk.as_ref().is_some_and(Disk::is_on),
            ..Stats::default()
        };
        self.counters.fill(&mut stats);
        stats
    }

    /// No stored response of an app is older.
    fn oldest(&self, app: &AppMarks) -> Sequence {
        let mut oldest = Sequence(self.clock.load(Ordering::Acquire));
        self.index.scan(|slot| {
            if slot.app == app.id {
                oldest = oldest.min(slot.sequence);
            }
        });
        oldest
    }
}

#[cfg(test)]
mod tests;
