//! The responses that are in memory. Which of them stay is decided by `quick_cache`: new ones
//! have to be asked for again before they displace what is asked for often (S3-FIFO).

use std::hash::{BuildHasher, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::index::{Dropped, MemoryKey, Serial, Slot};
use super::marks::{AppMarks, Judged};
use crate::{Entry, KeyHash};

/// A response in memory.
pub(super) struct Resident {
    pub(super) entry: Arc<Entry>,
    pub(super) key: KeyHash,
    pub(super) serial: Serial,
    memory_key: MemoryKey,
    pub(super) app: Arc<AppMarks>,
    pub(super) judged: Judged,
    weight: u64,
}

impl Resident {
    pub(super) fn new(
        entry: Entry,
        key: KeyHash,
        serial: Serial,
        memory_key: MemoryKey,
        app: Arc<AppMarks>,
    ) -> Resident {
        let weight = weight_of(&entry);
        let (entry, judged) = (Arc::new(entry), Judged::default());
        Resident { entry, key, serial, memory_key, app, judged, weight }
    }

    /// What it takes of the budget, in bytes.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }
}

/// The shards of `quick_cache` have budgets of their own, and what is larger than such a
/// budget is not taken: this is the quarter that one response may take.
const SHARDS: usize = 4;
/// An assumption that decides how many keys are remembered that left: within a hundredfold.
const USUAL_BYTES: u64 = 8 << 10;

pub(super) struct Memory {
    cache: Cache<MemoryKey, Arc<Resident>, ByWeight, Uniform, Evictions>,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Memory {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .weight_capacity(bytes)
            .estimated_items_capacity((bytes / USUAL_BYTES).max(1024) as usize)
            .build()
            .expect("both capacities are set");
        let cache = Cache::with_options(options, ByWeight, Uniform, Evictions);
        Memory { cache }
    }

    /// What a slot has in memory.
    pub(super) fn get(&self, slot: &Slot) -> Option<Arc<Resident>> {
        let resident = self.cache.get(&slot.memory_key())?;
        (resident.serial == slot.serial).then_some(resident)
    }

    /// Like `get`, without counting as a use.
    pub(super) fn peek(&self, slot: &Slot) -> Option<Arc<Resident>> {
        let resident = self.cache.peek(&slot.memory_key())?;
        (resident.serial == slot.serial).then_some(resident)
    }

    /// Takes a response; what had to go for it is added to `evicted`, maybe the response itself.
    pub(super) fn insert(&self, resident: Arc<Resident>, evicted: &mut Evicted) {
        self.cache.insert_with_lifecycle(resident.memory_key, resident, evicted);
    }

    pub(super) fn remove(&self, dropped: &Dropped) {
        let same = |resident: &Arc<Resident>| resident.serial == dropped.serial;
        self.cache.remove_if(&dropped.memory_key, same);
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

fn weight_of(entry: &Entry) -> u64 {
    let head = &entry.head;
    // A map of headers has a bucket for each value, with its hash and links, and is at most
    // as large again while it grows.
    let bucket = size_of::<HeaderName>() + size_of::<HeaderValue>() + 32;
    let headers: usize = head
        .headers
        .iter()
        .map(|(name, value)| bucket + name.as_str().len() + value.len())
        .sum::<usize>()
        + head.headers.capacity() * 4;
    let tags: usize = head.tags.iter().map(|tag| size_of::<Box<str>>() + tag.len()).sum();
    let key = entry.key.url.len() + entry.key.extra.len() + entry.key.space.part.len();
    let vary = head.vary.len() * size_of::<HeaderName>();
    let fixed = size_of::<Entry>() + size_of::<Resident>() + 64;
    entry.body_bytes() + (headers + tags + key + vary + fixed) as u64
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<MemoryKey, Arc<Resident>> for ByWeight {
    fn weight(&self, _: &MemoryKey, resident: &Arc<Resident>) -> u64 {
        resident.weight
    }
}

/// Gathers what is evicted; it is looked after when no lock is held.
pub(super) type Evicted = Vec<Arc<Resident>>;

#[derive(Clone)]
struct Evictions;

impl Lifecycle<MemoryKey, Arc<Resident>> for Evictions {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, _: MemoryKey, resident: Arc<Resident>) {
        evicted.push(resident);
    }
}

/// Hashes numbers that are random already.
#[derive(Clone)]
struct Uniform;

impl BuildHasher for Uniform {
    type Hasher = UniformHasher;

    fn build_hasher(&self) -> UniformHasher {
        UniformHasher(0)
    }
}

struct UniformHasher(u64);

impl Hasher for UniformHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
