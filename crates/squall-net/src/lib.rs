//! Everything that goes out: one guard against requests to places that a function must
//! not reach (SSRF), and the HTTP client behind it.
//!
//! A name is resolved once, every answer is checked, and only a checked address is
//! connected to; nothing here resolves a name a second time. The client never follows a
//! redirect by itself.

mod client;
mod dial;

pub mod addresses;
pub mod host;
pub mod resolve;

mod body;
mod connect;
mod headers;
mod pool;
mod redirect;
mod tls;

pub use addresses::is_public;
pub use client::{ClientOptions, GuardedClient};
pub use host::{Host, HostError, HostPattern};
pub use resolve::{Resolve, SystemResolver};
