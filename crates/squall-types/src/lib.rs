//! The vocabulary and the contracts of Squall.
//!
//! Every other crate speaks through the types here; siblings never import each
//! other. This crate holds no I/O, no clock and no engine: only names, plain data
//! and the traits that separate who asks from who does.

pub mod address;
pub mod bindings;
pub mod invoke;
pub mod usage;

pub mod body;
pub mod build;
pub mod cache;
pub mod calendar;
pub mod clients;
pub mod dial;
pub mod error;
pub mod gateway;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod name;
pub mod node;
pub mod outbound;
pub mod rate;
pub mod shard;
pub mod state;
pub mod trace;

pub use body::{Body, BodyError};
pub use error::ErrorCode;
pub use invoke::{Invocation, Invoke, InvokeError, Trigger};
pub use limits::Limits;
pub use name::{AppName, FunctionName, RevisionId};
