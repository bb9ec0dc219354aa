//! What is stored under a key, for a person who asks why.

use super::index::Slot;
use super::memory::Resident;
use super::{Shared, State};
use crate::{Entry, Head, Key, KeyHash, Sequence};

/// A stored response without its body.
#[derive(Debug, Clone)]
pub struct Stored {
    pub key: Key,
    pub head: Head,
    pub body_bytes: u64,
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
        let resident = self.memory.peek(slot)?;
        let Resident { entry, app, judged, .. } = &*resident;
        let Entry { key, head, sequence, .. } = &**entry;
        Some(Stored {
            key: key.clone(),
            head: head.clone(),
            body_bytes: entry.body_bytes(),
            sequence: *sequence,
            state: app.judge(entry, judged),
            in_memory: true,
            disk_bytes: slot.place.map(|place| u64::from(place.bytes)),
            waits_for_disk: slot.pending,
        })
    }
}
