//! Invocation and admission: the one implementation of `Invoke`.
//!
//! Decides whether an invocation may run (permits and a bounded queue), where (which
//! request core), for how long (wall time) and with how much body. How a guest runs is
//! the executor's business; this crate knows no WebAssembly and no HTTP connection.

mod runtime;

mod admission;
mod bodies;
mod registry;

pub mod cores;
pub mod executor;
mod scheduling;
mod turns;

pub use runtime::{Runtime, RuntimeOptions};
pub use scheduling::{keep_to_cpu, own_cpus, wake_promptly};
pub use turns::{YieldTurn, yield_turn};

#[cfg(test)]
mod tests;
