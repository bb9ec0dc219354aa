//! Invocation and admission: the one implementation of `Invoke`.

pub mod cores;
pub mod executor;
