//! Time that passes: busy, idle, and without end.

use std::hint::black_box;

use wasip2::clocks::monotonic_clock;

/// Burns CPU until `ms` milliseconds of the monotonic clock have passed.
pub(crate) fn spin(ms: u64) {
    let end = monotonic_clock::now() + ms * 1_000_000;
    let mut state = 1_u64;
    while monotonic_clock::now() < end {
        // Long enough that the guest computes rather than asks for the time.
        for _ in 0..2_000 {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

pub(crate) fn never_end() -> ! {
    let mut state = 1_u64;
    loop {
        state = black_box(state.wrapping_add(1));
    }
}

/// Waits on a timer of the host, which may do other things meanwhile.
pub(crate) fn sleep(ms: u64) {
    monotonic_clock::subscribe_duration(ms * 1_000_000).block();
}
