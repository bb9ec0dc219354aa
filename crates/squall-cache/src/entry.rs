//! A stored response.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::Key;

/// Orders fetches and purges of a node. A fetch takes the present one before its request
/// goes out; a purge takes a new one, and what was fetched under an earlier one is gone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// A stored response as it is found and sent. Never changed: what a validation updates is
/// a new entry with the same body.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Key,
    pub head: Head,
    pub body: StoredBody,
    /// Taken before the request was sent whose response this is.
    pub sequence: Sequence,
}

/// What is known of a stored response besides its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub status: StatusCode,
    /// Of the response, without what belongs to its connection and what must not be kept.
    pub headers: HeaderMap,
    /// When its request was sent, and when its head came; milliseconds of Unix time.
    pub requested_at_ms: u64,
    pub received_at_ms: u64,
    pub freshness: Freshness,
    /// The names that `Vary` gave, in lower case, sorted, each once. A response that varies
    /// by everything is not stored.
    pub vary: Box<[HeaderName]>,
    /// What the request had for those names, normalised; one of `variant`'s results.
    pub variant: u64,
    /// Of `Cache-Tag` and `Surrogate-Key`.
    pub tags: Box<[Box<str>]>,
}

/// For how long a stored response may be used, and how: read from its head once, when it
/// is stored or validated. Seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// RFC 9111, section 4.2.1.
    pub lifetime_s: u32,
    /// How old it was when it came: `corrected_initial_age` of section 4.2.3.
    pub initial_age_s: u32,
    /// RFC 5861.
    pub stale_while_revalidate_s: u32,
    /// The same; the largest number for however long.
    pub stale_if_error_s: u32,
    /// Never used stale: `must-revalidate`, `proxy-revalidate`, `s-maxage`.
    pub must_revalidate: bool,
    /// Never used without validation, also while fresh: `no-cache`.
    pub no_cache: bool,
}

#[derive(Debug, Clone)]
pub enum StoredBody {
    Whole(Bytes),
    /// Some ranges of it (RFC 9111, section 3.3).
    Parts(Parts),
}

/// Ranges of a body that is not here whole.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Of the whole body.
    pub length: u64,
    /// First byte and bytes of each; sorted, without overlaps, neighbours joined.
    pub ranges: Vec<(u64, Bytes)>,
}

impl Entry {
    /// What its body takes, in bytes.
    pub fn body_bytes(&self) -> u64 {
        match &self.body {
            StoredBody::Whole(body) => body.len() as u64,
            StoredBody::Parts(parts) => {
                parts.ranges.iter().map(|(_, part)| part.len() as u64).sum()
            }
        }
    }
}
