//! A node: config, build, run, drain. The only crate that knows every room; it wires them
//! together and holds none of their logic.
//!
//! Three processes come from here. The supervisor (`up`) owns the listening sockets and
//! outlives the server process (`serve`), which does the work; `build_child` compiles one
//! component and ends.

mod admin;
mod server;
mod steering;
mod supervisor;

mod allocator;
mod config;
mod control_channel;
mod data_dir;
mod error;
mod faults;
mod listeners;
mod node_file;

mod build;
mod cache;
mod javascript;

pub use allocator::Allocator;
pub use config::ServerConfig;
pub use error::UpError;
pub use supervisor::{UpOptions, up};

pub use build::run_child as build_child;

pub use server::serve;

/// The command line explains a manifest and hashes a password without a node.
pub use squall_gateway::{explain_manifest, hash_password};
