//! Threads that must not wait for the scheduler.

/// Asks the scheduler for short slices for the calling thread (`sched_setattr(2)`, since
/// Linux 6.12): a thread that needs the CPU for microseconds then preempts one that
/// computes, at the moment when it wakes. Without it a tick is late by as much as the
/// scheduler's slice, one to three milliseconds, wherever every CPU is busy. Threads that
/// carry the load do without: they would preempt each other, which costs throughput.
pub fn wake_promptly() {
    #[cfg(target_os = "linux")]
    {
        const SHORTEST_SLICE_NS: u64 = 100_000;
        // SAFETY: all fields are numbers, and 0 asks for nothing.
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_runtime = SHORTEST_SLICE_NS;
        // SAFETY: asks about the calling thread and touches no memory.
        attributes.sched_nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // SAFETY: the structure lives and is as large as it says; 0 is the calling thread.
        // An older kernel refuses or ignores it, and threads wake as they can.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}
