//! What is in a segment, as it is written behind its records.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;

use bytes::Bytes;
use http::HeaderName;
use squall_types::AppName;

use crate::store::coding::{Decoder, Encoder, encode_names};
use crate::store::index::Place;
use crate::{KeyHash, Sequence};

#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) apps: Numbered<AppName>,
    pub(super) varies: Numbered<Box<[HeaderName]>>,
    /// `LISTED_BYTES` for each record.
    entries: Vec<u8>,
}

/// What is known of a record without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: KeyHash,
    pub(super) variant: u64,
    pub(super) sequence: Sequence,
    pub(super) received_at_ms: u64,
    pub(super) place: Place,
    /// Numbers in the tables of the list.
    pub(super) app: u32,
    pub(super) vary: u32,
}

const LISTED_BYTES: usize = 64;

/// Things that are written once and named by their numbers.
#[derive(Debug)]
pub(super) struct Numbered<Item> {
    pub(super) items: Vec<Item>,
    numbers: HashMap<Item, u32>,
}

impl<Item> Default for Numbered<Item> {
    fn default() -> Self {
        Numbered { items: Vec::new(), numbers: HashMap::new() }
    }
}

impl<Item: Clone + Eq + Hash> Numbered<Item> {
    pub(super) fn number(&mut self, item: &Item) -> u32 {
        if let Some(number) = self.numbers.get(item) {
            return *number;
        }
        let number = self.items.len() as u32;
        self.items.push(item.clone());
        self.numbers.insert(item.clone(), number);
        number
    }
}

/// By so much a list grows at most for a record.
pub(super) fn listed_bytes_max(app: &AppName, vary: &[HeaderName]) -> u64 {
    let names: usize = vary.iter().map(|name| 4 + name.as_str().len()).sum();
    (LISTED_BYTES + 4 + app.as_str().len() + 4 + names) as u64
}

impl List {
    pub(super) fn add(&mut self, listed: &Listed) {
        let Listed { key, variant, sequence, received_at_ms, place, app, vary } = listed;
        let out = &mut self.entries;
        out.extend_from_slice(&key.0);
        out.extend_from_slice(&variant.to_le_bytes());
        out.extend_from_slice(&sequence.0.to_le_bytes());
        out.extend_from_slice(&received_at_ms.to_le_bytes());
        for number in [place.offset, place.bytes, *app, *vary] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// The records of a segment. Where they name an app or a `Vary` that is not there, the
    /// list was not made by `add`.
    pub(super) fn records(&self, segment: NonZeroU32) -> impl Iterator<Item = Listed> {
        self.entries.as_chunks::<LISTED_BYTES>().0.iter().map(move |listed| {
            let u32_at = |at: usize| {
                u32::from_le_bytes([listed[at], listed[at + 1], listed[at + 2], listed[at + 3]])
            };
            let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
            let mut key = [0; 24];
            key.copy_from_slice(&listed[..24]);
            Listed {
                key: KeyHash(key),
                variant: u64_at(24),
                sequence: Sequence(u64_at(32)),
                received_at_ms: u64_at(40),
                place: Place { segment, offset: u32_at(48), bytes: u32_at(52) },
                app: u32_at(56),
                vary: u32_at(60),
            }
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder(Vec::with_capacity(self.entries.len() + 1024));
        out.number((self.apps.items.len() as u32).to_le_bytes());
        self.apps.items.iter().for_each(|app| out.bytes(app.as_str().as_bytes()));
        out.number((self.varies.items.len() as u32).to_le_bytes());
        self.varies.items.iter().for_each(|names| encode_names(names, &mut out));
        out.0.extend_from_slice(&self.entries);
        out.0
    }

    /// None if it is no list.
    pub(super) fn decode(bytes: Bytes) -> Option<List> {
        let mut from = Decoder(bytes);
        let apps: Vec<AppName> = from.several(Decoder::app)?;
        let varies: Vec<Box<[HeaderName]>> = from.several(|from| from.several(Decoder::name))?;
        let entries = Vec::from(from.0);
        let numbered = |number: u32, items: usize| (number as usize) < items;
        let list = List {
            apps: Numbered { items: apps, numbers: HashMap::new() },
            varies: Numbered { items: varies, numbers: HashMap::new() },
            entries,
        };
        let whole = list.entries.len().is_multiple_of(LISTED_BYTES);
        let known = list.records(NonZeroU32::MIN).all(|listed| {
            numbered(listed.app, list.apps.items.len())
                && numbered(listed.vary, list.varies.items.len())
        });
        (whole && known).then_some(list)
    }
}
