//! CPU time of the calling thread, mostly without asking the kernel.
//!
//! The kernel's own clock of it is a system call of most of a microsecond, and a request
//! needs several readings. But while a thread keeps its CPU, its CPU time grows as fast as
//! the monotonic clock, which is read without a system call. So the kernel is asked when
//! the thread has lost its CPU since it was asked last, and at least once in `TRUSTED_NS`:
//! what the kernel does not count as the thread's, such as the time of interrupts, is put
//! right then.
//!
//! Whether a thread has lost its CPU is told by the kernel through restartable sequences.
//! A thread names a sequence of instructions that must not be interrupted (`rseq_cs`); the
//! kernel takes the name away whenever it interrupts the thread outside of it (rseq(2)).
//! The sequence that is named here is empty, so every interruption is outside.

use std::cell::Cell;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

/// How long the monotonic clock stands in for the kernel's account.
const TRUSTED_NS: u64 = 1_000_000;

/// CPU time of the calling thread. It never goes back.
pub(crate) fn thread_cpu_ns() -> u64 {
    let Some(mark) = Mark::of_thread() else { return clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) };
    READING.with(|reading| {
        let mut known = reading.get();
        let now_ns = clock_ns(libc::CLOCK_MONOTONIC);
        let since_ns = now_ns - known.at_ns;
        let cpu_ns = if mark.stands() && since_ns < TRUSTED_NS {
            known.cpu_ns + since_ns
        } else {
            // Before the clocks are read: who is interrupted between them asks again.
            mark.set();
            known.cpu_ns = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
            known.at_ns = clock_ns(libc::CLOCK_MONOTONIC);
            known.cpu_ns
        };
        known.last_ns = known.last_ns.max(cpu_ns);
        reading.set(known);
        known.last_ns
    })
}

/// What the kernel said last, and when.
#[derive(Clone, Copy)]
struct Reading {
    cpu_ns: u64,
    at_ns: u64,
    /// What was answered last.
    last_ns: u64,
}

thread_local! {
    static READING: Cell<Reading> =
        const { Cell::new(Reading { cpu_ns: 0, at_ns: 0, last_ns: 0 }) };
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both clocks exist on every supported system and `time` is writable.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `struct rseq_cs` of linux/rseq.h.
#[repr(C, align(32))]
struct Sequence {
    version: u32,
    flags: u32,
    start: *const u8,
    bytes: u64,
    /// Where the kernel would go on; the word before it must be the signature.
    abort: *const u8,
}

// SAFETY: its pointers are addresses that nobody reads or writes through.
unsafe impl Sync for Sequence {}

/// `RSEQ_SIG` of the C library, with which it registers its threads.
#[cfg(target_arch = "x86_64")]
static SIGNATURE: [u32; 2] = [0x5305_3053, 0];

/// No instruction belongs to it.
#[cfg(target_arch = "x86_64")]
static EMPTY: Sequence = Sequence {
    version: 0,
    flags: 0,
    start: (&raw const SIGNATURE).cast(),
    bytes: 0,
    abort: (&raw const SIGNATURE[1]).cast(),
};

/// Where the kernel reads the name of a thread's sequence, and takes it away.
struct Mark(*mut *const Sequence);

#[cfg(target_arch = "x86_64")]
impl Mark {
    /// `None` where the kernel or the C library does not offer it.
    fn of_thread() -> Option<Self> {
        static OFFSET: OnceLock<Option<isize>> = OnceLock::new();
        let offset =
            *OFFSET.get_or_init(|| Self::offset().filter(|offset| tells_switches(*offset)));
        offset.map(Self::at)
    }

    /// From a thread's own address to its area, as the C library says (since glibc 2.35).
    fn offset() -> Option<isize> {
        // SAFETY: looks names up in what is linked; both are constants of these types.
        let (offset, bytes) = unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr());
            let bytes = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr());
            (offset.cast::<isize>().as_ref(), bytes.cast::<u32>().as_ref())
        };
        // The size is 0 when the threads could not be registered.
        offset.copied().filter(|_| bytes.is_some_and(|bytes| *bytes > 0))
    }

    fn at(offset: isize) -> Self {
        /// Of the name in `struct rseq`.
        const NAME: isize = 8;
        let own: *mut u8;
        // SAFETY: the first word at `fs` is its own address, by the ABI of threads.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) own, options(nostack, preserves_flags, readonly));
        }
        Self(own.wrapping_offset(offset + NAME).cast())
    }

    fn stands(&self) -> bool {
        // SAFETY: the area is the thread's own and lives as long as it does.
        unsafe { ptr::eq(self.0.read_volatile(), &raw const EMPTY) }
    }

    fn set(&self) {
        // SAFETY: as above; the sequence is static, valid and signed, and nobody else in
        // this process names one.
        unsafe { self.0.write_volatile(&raw const EMPTY) };
    }
}

/// Whether the kernel takes the name away from a thread that sleeps: the rule is that it
/// may, and it is the one thing that we need.
#[cfg(target_arch = "x86_64")]
fn tells_switches(offset: isize) -> bool {
    let mark = Mark::at(offset);
    mark.set();
    std::thread::sleep(Duration::from_micros(1));
    !mark.stands()
}

#[cfg(not(target_arch = "x86_64"))]
impl Mark {
    fn of_thread() -> Option<Self> {
        None
    }

    fn stands(&self) -> bool {
        false
    }

    fn set(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_ns() -> u64 {
        clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    fn work(iterations: u64) -> u64 {
        (0..iterations).fold(1, |sum, at| std::hint::black_box(sum ^ at.wrapping_mul(sum)))
    }

    #[test]
    fn it_is_what_the_kernel_says_whatever_happens_between() {
        let mut last_ns = 0;
        for round in 0..200 {
            work(20_000);
            match round % 4 {
                0 => std::thread::sleep(Duration::from_micros(300)),
                1 => std::thread::yield_now(),
                _ => {}
            }
            let before_ns = kernel_ns();
            let read_ns = thread_cpu_ns();
            let after_ns = kernel_ns();
            // What an interrupt takes may be counted until the kernel is asked again.
            let room_ns = TRUSTED_NS;
            assert!(read_ns + room_ns >= before_ns, "{read_ns} is before {before_ns}");
            assert!(read_ns <= after_ns + room_ns, "{read_ns} is behind {after_ns}");
            assert!(read_ns >= last_ns, "it went back");
            last_ns = read_ns;
        }
    }

    #[test]
    fn sleeping_is_not_counted() {
        let began_ns = thread_cpu_ns();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            thread_cpu_ns();
        }
        let took_ns = thread_cpu_ns() - began_ns;
        assert!(took_ns < 20_000_000, "{took_ns} ns of CPU time in 40 ms of sleep");
    }
}
