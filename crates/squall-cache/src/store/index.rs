//! Which responses are stored, and where: a slot for each, whether its body is in memory or on disk.
//!
//! A million slots have to fit into little memory, so a slot is a plain record in chunks that
//! never move, and a table of slot numbers finds the first of a key. Nothing here reads or writes.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use http::HeaderName;

use super::marks::AppId;
use crate::{KeyHash, Sequence};

/// A number that no other stored response of this process has had: what was found by it a
/// moment ago is still the same if the slot still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Serial(pub(super) u64);

/// Where a record is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) segment: NonZeroU32,
    pub(super) offset: u32,
    /// Of the whole record.
    pub(super) bytes: u32,
}

/// The names of a `Vary`, shared between the slots that have the same.
pub(super) type VaryNames = Arc<Vary>;

#[derive(Debug)]
pub(super) struct Vary {
    names: Box<[HeaderName]>,
    /// No other names have it.
    number: u64,
}

/// What a response has in memory is found by. Random; the same for the response that replaces
/// it, which is as well regarded then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MemoryKey(u64);

/// A stored response.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) key: KeyHash,
    pub(super) serial: Serial,
    pub(super) variant: u64,
    pub(super) sequence: Sequence,
    pub(super) received_at_ms: u64,
    /// None without any, which most have.
    pub(super) vary: Option<VaryNames>,
    pub(super) app: AppId,
    pub(super) place: Option<Place>,
    /// It waits to be written to disk.
    pub(super) pending: bool,
    /// It was asked for since it was written: it gets a second chance when its segment goes.
    pub(super) hit: bool,
    pub(super) links: Links,
}

/// Slots that belong together, by their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    /// The next slot of the same key, or of the free ones.
    next: u32,
    /// The slots of the same URL, whatever their keys.
    url_before: u32,
    url_next: u32,
}

/// What a slot held that is no more; its record and what is in memory have to go as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropped {
    pub(super) serial: Serial,
    pub(super) memory_key: MemoryKey,
    pub(super) place: Option<Place>,
}

/// No slot.
const NONE: u32 = u32::MAX;
/// Shards have locks of their own. A power of two, at most 256.
const SHARDS: usize = 64;
const CHUNK: usize = 256;
/// So many removals of keys are remembered in a shard one by one.
const REMOVALS_MAX: usize = 64;
/// The table of `Vary` names is swept when it has grown by so many.
const VARY_SWEEP: usize = 1024;

pub(super) struct Index {
    shards: Box<[Mutex<Shard>]>,
    varies: Mutex<Varies>,
}

#[derive(Default)]
struct Varies {
    known: HashMap<Box<[HeaderName]>, VaryNames>,
    sweep_at: usize,
    last_number: u64,
}

/// A part of the index. Holding it keeps the responses of its keys as they are.
pub(super) struct Shard {
    /// The first slot of each key, and of each URL.
    firsts: HashTable<u32>,
    url_firsts: HashTable<u32>,
    chunks: Vec<Vec<Slot>>,
    free: u32,
    live: usize,
    /// What was removed, and when. What was asked for before is not stored.
    removals: VecDeque<(Removed, Sequence)>,
    /// What was asked for before this may have been removed and forgotten.
    removals_floor: Sequence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removed {
    Key(KeyHash),
    /// Every key of the URL of this one.
    Url(KeyHash),
}

/// Why a response was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RemovedSince;

impl Index {
    pub(super) fn new() -> Index {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Index { shards, varies: Mutex::default() }
    }

    /// Waits for the shard of a key. Whoever holds one takes no other.
    pub(super) fn shard(&self, key: &KeyHash) -> MutexGuard<'_, Shard> {
        // The keys of a URL are in one shard.
        lock(&self.shards[usize::from(key.url()[0]) % SHARDS])
    }

    /// The shared form of the names of a `Vary`.
    pub(super) fn vary(&self, names: &[HeaderName]) -> Option<VaryNames> {
        if names.is_empty() {
            return None;
        }
        let mut varies = self.varies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = varies.known.get(names) {
            return Some(known.clone());
        }
        if varies.known.len() >= varies.sweep_at {
            varies.known.retain(|_, names| Arc::strong_count(names) > 1);
            varies.sweep_at = varies.known.len() + VARY_SWEEP;
        }
        varies.last_number += 1;
        let vary = Arc::new(Vary { names: names.into(), number: varies.last_number });
        varies.known.insert(names.into(), vary.clone());
        Some(vary)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live).sum()
    }

    /// Shows every slot. The lock is let go from chunk to chunk, so what changes meanwhile
    /// may be seen or not.
    pub(super) fn scan(&self, mut see: impl FnMut(&Slot)) {
        for shard in &self.shards {
            let mut at = 0;
            loop {
                let shard = lock(shard);
                let Some(chunk) = shard.chunks.get(at) else { break };
                chunk.iter().filter(|slot| slot.serial != FREE).for_each(&mut see);
                at += 1;
            }
        }
    }

    /// About what it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let of = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            let slots = shard.chunks.len() * CHUNK * size_of::<Slot>();
            // A table has a control byte for each number, and a power of two of both.
            let table = |table: &HashTable<u32>| (table.capacity() * 8 / 7).next_power_of_two() * 5;
            (slots + table(&shard.firsts) + table(&shard.url_firsts)) as u64
        };
        self.shards.iter().map(of).sum()
    }
}

/// The serial of a slot that is free.
const FREE: Serial = Serial(0);

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A caller's closure that panicked has left nothing half done.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For the table of keys. The other half of the hash is for memory.
fn hash_of_key(key: &KeyHash) -> u64 {
    let [_, _, _, _, _, _, _, _, rest @ ..] = key.0;
    u64::from_le_bytes(*rest.first_chunk().expect("sixteen bytes have eight"))
}

fn hash_of_url(key: &KeyHash) -> u64 {
    u64::from_le_bytes(key.url())
}

impl Removed {
    fn covers(&self, key: &KeyHash) -> bool {
        match self {
            Self::Key(removed) => removed == key,
            Self::Url(removed) => removed.url() == key.url(),
        }
    }
}

impl Slot {
    pub(super) fn new(key: KeyHash, serial: Serial, app: AppId) -> Slot {
        Slot {
            key,
            serial,
            variant: 0,
            sequence: Sequence(0),
            received_at_ms: 0,
            vary: None,
            app,
            place: None,
            pending: false,
            hit: false,
            links: Links { next: NONE, url_before: NONE, url_next: NONE },
        }
    }

    pub(super) fn vary_names(&self) -> &[HeaderName] {
        self.vary.as_ref().map_or(&[], |vary| &vary.names)
    }

    pub(super) fn memory_key(&self) -> MemoryKey {
        let low = *self.key.0.first_chunk().expect("a hash has more than eight bytes");
        let vary = self.vary.as_ref().map_or(0, |vary| vary.number);
        // Odd numbers of random bits: the hash of a key is random, variants may be small.
        let variant = self.variant.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let vary = vary.wrapping_mul(0xd1b5_4a32_d192_ed03);
        MemoryKey(u64::from_le_bytes(low) ^ variant ^ vary)
    }

    fn dropped(&self) -> Dropped {
        Dropped { serial: self.serial, memory_key: self.memory_key(), place: self.place }
    }
}

impl Shard {
    fn new() -> Shard {
        Shard {
            firsts: HashTable::new(),
            url_firsts: HashTable::new(),
            chunks: Vec::new(),
            free: NONE,
            live: 0,
            removals: VecDeque::new(),
            removals_floor: Sequence(0),
        }
    }

    fn slot(&self, number: u32) -> &Slot {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn slot_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn first(&self, key: &KeyHash) -> u32 {
        let same = |number: &u32| self.slot(*number).key == *key;
        self.firsts.find(hash_of_key(key), same).copied().unwrap_or(NONE)
    }

    /// The slots of a key.
    pub(super) fn variants(&self, key: &KeyHash) -> impl Iterator<Item = &Slot> {
        self.numbers(key).map(|number| self.slot(number))
    }

    fn numbers(&self, key: &KeyHash) -> impl Iterator<Item = u32> {
        let there = |number: u32| (number != NONE).then_some(number);
        std::iter::successors(there(self.first(key)), move |number| {
            there(self.slot(*number).links.next)
        })
    }

    /// The most recent response of a key that a request selects (RFC 9111, section 4.1).
    pub(super) fn newest_match(
        &mut self,
        key: &KeyHash,
        mut variant_of: impl FnMut(&[HeaderName]) -> u64,
    ) -> Option<&mut Slot> {
        let mut newest: Option<(u32, &Slot)> = None;
        // Neighbours nearly always vary by the same names.
        let mut last: Option<(&[HeaderName], u64)> = None;
        for number in self.numbers(key) {
            let slot = self.slot(number);
            if newest.is_some_and(|(_, newest)| newest.received_at_ms >= slot.received_at_ms) {
                continue;
            }
            let names = slot.vary_names();
            let variant = match last {
                Some((same, variant)) if same == names => variant,
                _ => variant_of(names),
            };
            last = Some((names, variant));
            if variant == slot.variant {
                newest = Some((number, slot));
            }
        }
        let (number, _) = newest?;
        Some(self.slot_mut(number))
    }

    pub(super) fn find(&mut self, key: &KeyHash, serial: Serial) -> Option<&mut Slot> {
        let number = self.numbers(key).find(|number| self.slot(*number).serial == serial)?;
        Some(self.slot_mut(number))
    }

    /// Takes a response, in place of the one for the same requests. Says what went for it,
    /// also where a key has more than `variants_max` now.
    pub(super) fn insert(
        &mut self,
        slot: Slot,
        variants_max: usize,
        mut dropped: impl FnMut(Dropped),
    ) -> Result<(), RemovedSince> {
        let key = slot.key;
        if self.removed_since(&key, slot.sequence) {
            return Err(RemovedSince);
        }
        let same = self.numbers(&key).find(|number| {
            let there = self.slot(*number);
            there.variant == slot.variant && there.vary_names() == slot.vary_names()
        });
        if let Some(number) = same {
            let there = self.slot_mut(number);
            dropped(there.dropped());
            *there = Slot { links: there.links, ..slot };
            return Ok(());
        }
        if self.numbers(&key).count() >= variants_max.max(1) {
            let oldest = self.variants(&key).min_by_key(|slot| (slot.received_at_ms, slot.serial));
            if let Some(oldest) = oldest.map(Slot::dropped) {
                self.remove(&key, oldest.serial);
                dropped(oldest);
            }
        }
        let next = self.first(&key);
        let number = self.place(slot);
        self.slot_mut(number).links.next = next;
        self.firsts_of_keys().set(&key, next, number);
        self.join_url(number);
        Ok(())
    }

    /// Removes one response.
    pub(super) fn remove(&mut self, key: &KeyHash, serial: Serial) -> Option<Dropped> {
        let mut before = NONE;
        let mut number = self.first(key);
        while number != NONE && self.slot(number).serial != serial {
            (before, number) = (number, self.slot(number).links.next);
        }
        if number == NONE {
            return None;
        }
        let dropped = self.slot(number).dropped();
        let next = self.slot(number).links.next;
        if before == NONE {
            self.firsts_of_keys().set(key, number, next);
        } else {
            self.slot_mut(before).links.next = next;
        }
        self.leave_url(number);
        self.release(number);
        Some(dropped)
    }

    /// Removes all responses of the URL of a key, and refuses those that were asked for
    /// before.
    pub(super) fn remove_url(&mut self, key: &KeyHash, at: Sequence) -> Vec<Dropped> {
        self.note_removal(Removed::Url(*key), at);
        let same = |number: &u32| self.slot(*number).key.url() == key.url();
        let mut number = *self.url_firsts.find(hash_of_url(key), same).unwrap_or(&NONE);
        let mut dropped = Vec::new();
        while number != NONE {
            let Slot { key, serial, links, .. } = *self.slot(number);
            dropped.extend(self.remove(&key, serial));
            number = links.url_next;
        }
        dropped
    }

    /// Removes all responses of a key, and refuses those that were asked for before.
    pub(super) fn remove_key(&mut self, key: &KeyHash, at: Sequence) -> Vec<Dropped> {
        self.note_removal(Removed::Key(*key), at);
        self.remove_all(key)
    }

    fn note_removal(&mut self, removed: Removed, at: Sequence) {
        if self.removals.len() == REMOVALS_MAX
            && let Some((_, forgotten)) = self.removals.pop_front()
        {
            self.removals_floor = self.removals_floor.max(forgotten);
        }
        self.removals.push_back((removed, at));
    }

    fn remove_all(&mut self, key: &KeyHash) -> Vec<Dropped> {
        let dropped: Vec<Dropped> = self.variants(key).map(Slot::dropped).collect();
        for gone in &dropped {
            self.remove(key, gone.serial);
        }
        dropped
    }

    fn removed_since(&self, key: &KeyHash, sequence: Sequence) -> bool {
        sequence < self.removals_floor
            || self.removals.iter().any(|(removed, at)| *at > sequence && removed.covers(key))
    }

    fn place(&mut self, slot: Slot) -> u32 {
        self.live += 1;
        if self.free != NONE {
            let number = self.free;
            self.free = self.slot(number).links.next;
            *self.slot_mut(number) = slot;
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let chunk = &mut self.chunks[chunks - 1];
        chunk.push(slot);
        ((chunks - 1) * CHUNK + chunk.len() - 1) as u32
    }

    fn release(&mut self, number: u32) {
        self.live -= 1;
        let mut free = Slot::new(KeyHash([0; 24]), FREE, AppId(0));
        free.links.next = self.free;
        *self.slot_mut(number) = free;
        self.free = number;
    }

    fn firsts_of_keys(&mut self) -> Firsts<'_> {
        Firsts { table: &mut self.firsts, chunks: &self.chunks, hash_of: hash_of_key }
    }

    fn firsts_of_urls(&mut self) -> Firsts<'_> {
        Firsts { table: &mut self.url_firsts, chunks: &self.chunks, hash_of: hash_of_url }
    }

    /// Makes a slot the first of its URL.
    fn join_url(&mut self, number: u32) {
        let key = self.slot(number).key;
        let same = |other: &u32| self.slot(*other).key.url() == key.url();
        let next = *self.url_firsts.find(hash_of_url(&key), same).unwrap_or(&NONE);
        let links = &mut self.slot_mut(number).links;
        (links.url_before, links.url_next) = (NONE, next);
        if next != NONE {
            self.slot_mut(next).links.url_before = number;
        }
        self.firsts_of_urls().set(&key, next, number);
    }

    fn leave_url(&mut self, number: u32) {
        let Slot { key, links: Links { url_before, url_next, .. }, .. } = *self.slot(number);
        if url_before == NONE {
            self.firsts_of_urls().set(&key, number, url_next);
        } else {
            self.slot_mut(url_before).links.url_next = url_next;
        }
        if url_next != NONE {
            self.slot_mut(url_next).links.url_before = url_before;
        }
    }
}

/// A table of first slots.
struct Firsts<'a> {
    table: &'a mut HashTable<u32>,
    chunks: &'a [Vec<Slot>],
    hash_of: fn(&KeyHash) -> u64,
}

impl Firsts<'_> {
    /// Makes another slot the first, or none.
    fn set(self, key: &KeyHash, was: u32, number: u32) {
        let Firsts { table, chunks, hash_of } = self;
        let hash = hash_of(key);
        match table.find_entry(hash, |first| *first == was) {
            Ok(mut entry) if number != NONE => *entry.get_mut() = number,
            Ok(entry) => {
                entry.remove();
            }
            Err(_) if number == NONE => {}
            Err(_) => {
                let hash_of = |number: &u32| {
                    hash_of(&chunks[*number as usize / CHUNK][*number as usize % CHUNK].key)
                };
                table.insert_unique(hash, number, hash_of);
            }
        }
    }
}
