//! From what Wasmtime reports to a stable code and a message for the owner.

use squall_types::{ErrorCode, InvokeError};
use wasmtime::Trap;

/// Raised by the epoch callback when a guest has used its CPU time.
#[derive(Debug)]
pub(crate) struct CpuTimeUp {
    pub(crate) limit_ms: u64,
}

impl std::fmt::Display for CpuTimeUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the guest reached its CPU time limit of {} ms", self.limit_ms)
    }
}

impl std::error::Error for CpuTimeUp {}

/// What the host knows beside the error itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// A growth of memory or table was refused since the request began.
    pub(crate) memory_refused: bool,
    pub(crate) memory_limit_bytes: u64,
}

pub(crate) fn explain(error: &wasmtime::Error, known: Circumstances) -> InvokeError {
    if let Some(up) = error.downcast_ref::<CpuTimeUp>() {
        return InvokeError::new(ErrorCode::CpuTimeExceeded, format!("{up} (limits.cpu_time_ms)"));
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return InvokeError::new(
            ErrorCode::GuestError,
            format!("the guest called exit with status {} before it answered", exit.0),
        );
    }
    if let Some(no_room) = error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>() {
        return InvokeError::new(
            ErrorCode::NodeAtCapacity,
            format!("{no_room}; raise runtime.instance_slots in server.toml"),
        )
        .retry_after_s(1);
    }
    if known.memory_refused {
        return InvokeError::new(
            ErrorCode::MemoryExceeded,
            format!(
                "the guest needed more than {} bytes of memory (limits.memory_bytes) and failed: {}",
                known.memory_limit_bytes,
                root_cause(error)
            ),
        );
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        // The error's own text carries the backtrace, where the component has names.
        return InvokeError::new(ErrorCode::Trapped, format!("{trap}: {}", whole(error)));
    }
    InvokeError::new(ErrorCode::Trapped, whole(error))
}

fn root_cause(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// The chain of causes, cut to what a log line can hold.
fn whole(error: &wasmtime::Error) -> String {
    const LONGEST: usize = 8 << 10;
    let mut text = format!("{error:#}");
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
