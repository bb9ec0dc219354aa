//! Signals of faults that somebody sent.
//!
//! Wasmtime and the standard library handle SIGSEGV and its like by returning to the
//! instruction that faulted, which faults again and ends the process. A signal that was
//! sent with kill has no such instruction: it would be swallowed. Here it ends the
//! process as its sender meant.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

const FAULTS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

static EARLIER: [OnceLock<libc::sigaction>; FAULTS.len()] = [const { OnceLock::new() }; 4];

/// Call it before any engine is made: engines pass on what is not theirs.
pub(crate) fn die_of_sent_faults() {
    for (signal, earlier) in FAULTS.iter().zip(&EARLIER) {
        // SAFETY: the action is fully set before it is installed, and the handler only
        // makes async-signal-safe calls.
        unsafe {
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(*signal, std::ptr::null(), before.as_mut_ptr()) != 0 {
                continue;
            }
            let _ = earlier.set(before.assume_init());
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = on_fault as Handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(*signal, &raw const action, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let at = FAULTS.iter().position(|fault| *fault == signal);
    let earlier = at.and_then(|at| EARLIER[at].get());
    // SAFETY: the kernel passes a valid `info`; the earlier handler was installed by the
    // standard library for this very signature.
    unsafe {
        let sent = !info.is_null() && (*info).si_code <= 0;
        if !sent
            && let Some(earlier) = earlier
            && earlier.sa_flags & libc::SA_SIGINFO != 0
            && earlier.sa_sigaction > libc::SIG_IGN
        {
            let earlier: Handler = std::mem::transmute(earlier.sa_sigaction);
            earlier(signal, info, context);
            return;
        }
        libc::signal(signal, libc::SIG_DFL);
        if sent {
            libc::raise(signal);
        }
    }
}
