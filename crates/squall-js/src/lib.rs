//! What JavaScript functions need of their host, without an engine that runs them: the
//! built guest, the numbers of its operations, those operations that only compute, and the
//! values that cross between the two.
//!
//! The guest's side is in `guest/`: QuickJS-ng with our glue (`guest/glue`) and the web
//! platform in TypeScript (`guest/web`).

pub mod op;
pub mod ops;
pub mod recording;

mod value;

pub use value::{DecodeError, Item, Reader, Value, Writer};

/// The JavaScript engine, a core WebAssembly module. Built by `guest/build-engine.sh`.
pub const ENGINE: &[u8] = include_bytes!("../guest/engine.wasm");

/// The web platform, a script that the engine evaluates once. Built by `guest/web/build.mjs`.
pub const WEB_LAYER: &str = include_str!("../guest/web.js");
