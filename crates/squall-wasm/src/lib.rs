//! The executor for WebAssembly components and for JavaScript, whose engine is a
//! WebAssembly module too; and the only user of Wasmtime.
//!
//! Holds what is particular to Wasm: engines and their pools, the host side of WASI and
//! `wasi:http`, running a guest under its limits, and compiling. It knows nothing of
//! apps, routes or connections, and it admits nobody: permits are the runtime's.

pub mod executor;

pub mod engine;

pub mod js;

mod call;
mod per_request;
mod shared;

mod clock;
mod cpu_clock;
mod failure;
mod host;
mod output;

pub mod build;

#[cfg(test)]
mod tests;
