//! The edge cache without its surroundings: which responses may be kept, for how long and
//! for whom (RFC 9111 and its companions), and where they are kept.
//!
//! Nothing here calls a function or an upstream, and nothing here knows of routes: the
//! gateway asks, and does what it is told.

mod entry;
mod key;
pub mod rfc;
pub mod store;

pub use entry::{Entry, Freshness, Head, Parts, Sequence, StoredBody};
pub use key::{Key, KeyHash, Space};
