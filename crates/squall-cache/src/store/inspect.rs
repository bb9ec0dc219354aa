//! What is stored under a key, for a person who asks why.

use http::StatusCode;

use super::index::Slot;
use super::marks::Judged;
use super::{Shared, State};
use crate::{Entry, Head, Key, KeyHash, Sequence};

/// A stored response without its body.
#[derive(Debug, Clone)]
pub struct Stored {
    pub key: Key,
    pub head: Head,
    pub body_bytes: u64,
    /// Only ranges of the body are there.
    pub partial: bool,
    pub sequence: Sequence,
    /// What purges say of it.
    pub state: State,
    pub in_memory: bool,
    /// What its record on disk takes.
    pub disk_bytes: Option<u64>,
    pub waits_for_disk: bool,
}

impl Shared {
    pub(super) fn inspect(&self, key: &KeyHash) -> Vec<Stored> {
        let slots: Vec<Slot> = self.index.shard(key).variants(key).cloned().collect();
        slots.iter().filter_map(|slot| self.stored(slot)).collect()
    }

    fn stored(&self, slot: &Slot) -> Option<Stored> {
        let pending = || self.disk.as_ref().filter(|_| slot.pending)?.pending(slot.serial);
        let in_memory = self.memory.peek(slot);
        let there = in_memory.clone().or_else(pending);
        let (entry, body_bytes) = match (&there, slot.place) {
            (Some(resident), _) => (Entry::clone(&resident.entry), resident.entry.body_bytes()),
            (None, Some(place)) => self.disk.as_ref()?.read_head(place).ok().flatten()?,
            (None, None) => return None,
        };
        let app = self.marks.app(&entry.key.space.app);
        Some(Stored {
            state: app.judge(&entry, &Judged::default()),
            key: entry.key,
            // What is whole has the status of a whole response.
            partial: entry.head.status == StatusCode::PARTIAL_CONTENT,
            head: entry.head,
            body_bytes,
            sequence: entry.sequence,
            in_memory: in_memory.is_some(),
            disk_bytes: slot.place.map(|place| u64::from(place.bytes)),
            waits_for_disk: slot.pending,
        })
    }
}
