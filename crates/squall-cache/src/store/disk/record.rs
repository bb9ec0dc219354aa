//! A response on disk: a fixed part, key and head, body.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `LIVE`, or zeros once it is removed; the only bytes that ever change |
//! | 4 | a mark of the form |
//! | 4, 4 | bytes of key and head, bytes of the body |
//! | 16 | BLAKE3 of the body |
//! | 16 | BLAKE3 of the salt of the segment, the offset in it, the above without the first four bytes, key and head |
//!
//! Whatever is torn, damaged or at another place has the wrong sums. The body has its own, so
//! that a start and an inspection can check a head without reading the body.

use bytes::Bytes;

use crate::store::coding;
use crate::{Entry, StoredBody};

pub(super) const FIXED_BYTES: usize = 48;
/// Records begin at multiples.
pub(super) const ALIGNMENT: u64 = 8;
/// At the beginning of a record that was removed.
pub(super) const REMOVED: [u8; 4] = [0; 4];

const LIVE: [u8; 4] = *b"LIVE";
const FORM: [u8; 4] = *b"SQR1";

/// Different for every segment.
pub(super) type Salt = [u8; 16];
type Sum = [u8; 16];

/// A record without its body.
#[derive(Debug, Clone)]
pub(in crate::store) struct RecordHead {
    pub(super) live: bool,
    pub(super) body_bytes: u32,
    body_sum: Sum,
    pub(super) meta: Bytes,
}

pub(super) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

impl RecordHead {
    /// None if the entry is larger than a record can be.
    pub(super) fn of(entry: &Entry) -> Option<RecordHead> {
        let meta = Bytes::from(coding::encode(entry));
        let body_bytes = u32::try_from(entry.body_bytes()).ok()?;
        let head = RecordHead { live: true, body_bytes, body_sum: sum_of(&entry.body), meta };
        u32::try_from(head.bytes()).ok()?;
        Some(head)
    }

    /// Of the whole record.
    pub(super) fn bytes(&self) -> u64 {
        (FIXED_BYTES + self.meta.len()) as u64 + u64::from(self.body_bytes)
    }

    /// Appends everything but the body.
    pub(super) fn write(&self, salt: &Salt, offset: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&LIVE);
        out.extend_from_slice(&FORM);
        out.extend_from_slice(&(self.meta.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.body_sum);
        let sum = head_sum(salt, offset, &out[begin + 4..], &self.meta);
        out.extend_from_slice(&sum);
        out.extend_from_slice(&self.meta);
    }

    /// The bytes of key and head of the record whose fixed part this is.
    pub(super) fn meta_bytes(fixed: &[u8; FIXED_BYTES]) -> Option<usize> {
        let form = fixed[4..8] == FORM;
        form.then(|| u32_at(fixed, 8) as usize)
    }

    /// Reads the beginning of a record. None if it is none, or damaged.
    pub(super) fn read(salt: &Salt, offset: u64, mut record: Bytes) -> Option<RecordHead> {
        let fixed: [u8; FIXED_BYTES] = *record.first_chunk()?;
        let meta_bytes = RecordHead::meta_bytes(&fixed)?;
        let _ = record.split_to(FIXED_BYTES);
        if meta_bytes > record.len() {
            return None;
        }
        let meta = record.split_to(meta_bytes);
        let sum = head_sum(salt, offset, &fixed[4..32], &meta);
        if sum != fixed[32..48] {
            return None;
        }
        let mut body_sum = Sum::default();
        body_sum.copy_from_slice(&fixed[16..32]);
        let live = fixed[..4] == LIVE;
        Some(RecordHead { live, body_bytes: u32_at(&fixed, 12), body_sum, meta })
    }

    /// The entry with a body, if that is the right one.
    pub(in crate::store) fn entry(&self, body: Bytes) -> Option<Entry> {
        let right =
            body.len() == self.body_bytes as usize && short(blake3::hash(&body)) == self.body_sum;
        if right { coding::decode(self.meta.clone(), Some(body)) } else { None }
    }

    /// The entry without its body.
    pub(super) fn entry_without_body(&self) -> Option<Entry> {
        coding::decode(self.meta.clone(), None)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn short(hash: blake3::Hash) -> Sum {
    let mut sum = Sum::default();
    sum.copy_from_slice(&hash.as_bytes()[..16]);
    sum
}

fn head_sum(salt: &Salt, offset: u64, fixed: &[u8], meta: &[u8]) -> Sum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt).update(&offset.to_le_bytes()).update(fixed).update(meta);
    short(hasher.finalize())
}

fn sum_of(body: &StoredBody) -> Sum {
    let mut hasher = blake3::Hasher::new();
    for piece in coding::pieces(body) {
        hasher.update(piece);
    }
    short(hasher.finalize())
}
