//! What a node remembers of its own work: the usage ledger and the logs.
//!
//! Both are written to on every request, so both follow one plan: the caller puts a
//! record, or a line, into the buffer of its own thread and goes on; a thread of this crate
//! sums it up and writes it a moment later. A request core waits for nothing here, and
//! nothing runs at all while nothing happens.

pub mod ledger;
pub mod logs;
pub mod process;

mod courtesy;
mod rfc3339;
mod shards;

pub use ledger::{Ledger, LedgerOptions};
pub use logs::{Logs, LogsOptions};
pub use process::process_metrics;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere must not stop metering or logging: the data behind these locks is
/// valid after every single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
