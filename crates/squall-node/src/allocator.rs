//! What a process holds of memory beyond what it uses. That it has no huge pages is a feature
//! of the allocator that is chosen in Cargo.toml: with them every buffer of an idle connection
//! is resident whole, touched or not, and no request is faster for it.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h, for which the crate has no name.
const PURGE_DELAY: mi_option_t = 15;
/// Ten times that for what the threads have given back. A buffer of log or usage records is
/// filled on one thread and freed on another many times a second, and faults in anew when its
/// pages went to the system in between: a few in a hundred of a busy node's CPU time. This
/// long costs it 2 MiB; the allocator's own second would be 20 to 30.
const PURGE_DELAY_MS: c_long = 50;

/// Gives memory back to the system soon.
pub(crate) fn hold_little() {
    // SAFETY: an option is an atomic number, and may be set at any time.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}
