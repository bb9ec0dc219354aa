//! End to end: the real binary as a real process, its CLI, its admin API and its
//! public listener, with guests that real toolchains made.

mod harness;

mod conformance;
mod crash;
mod deploy;
mod errors;
mod gateway_bodies;
mod gateway_cache;
mod gateway_control;
mod gateway_identity;
mod gateway_limits;
mod gateway_upstreams;
mod isolation;
mod javascript;
mod killed;
mod limits;
mod outbound;
mod slow_clients;
mod templates;
mod tls;
mod upgrade;
mod usage;
