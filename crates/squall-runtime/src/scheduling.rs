//! How the kernel treats the threads that serve requests.
//!
//! A request core that waits for a CPU makes all of its requests wait. Two things make
//! that rarer and shorter. Each core keeps to a CPU of its own, so that two of them are
//! never queued on one while another is free. And they ask for short turns: since Linux 6.12
//! a thread that wakes and wants less is let before one that goes on for the usual three
//! milliseconds (`sched_attr::sched_runtime` of `SCHED_OTHER`, see sched_setattr(2) and
//! Documentation/scheduler/sched-eevdf.rst). Neither needs a privilege, and neither costs
//! throughput. Where the kernel refuses, everything works as it did without.

use std::io;
use std::mem;

/// The turn that a request core asks for: about as long as a few requests. The kernel takes
/// nothing shorter.
const TURN_NS: u64 = 100_000;

/// Makes the calling thread one that asks for short turns: it gets the CPU soon after it
/// wakes, and gives little of its share away when it yields. For threads that often need the
/// CPU for microseconds. Without it they are late by as much as the usual turn, one to three
/// milliseconds, wherever every CPU is busy.
pub fn wake_promptly() {
    report("ask for short turns", take_turns_of(TURN_NS));
}

/// The CPUs that this process may use. Where there are as many cores as these, each core
/// keeps to the one of its place.
pub fn own_cpus() -> Vec<usize> {
    Cpus::of_process().0
}

/// Lets the calling thread run on no other CPU.
///
/// # Errors
/// Fails where the process may not use it.
pub fn keep_to_cpu(cpu: usize) -> io::Result<()> {
    keep_to(&[cpu])
}

/// The part of `struct sched_attr` that every kernel knows.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// The CPUs that this process may use.
#[derive(Clone)]
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    pub(crate) fn of_process() -> Self {
        // SAFETY: a set of CPUs is plain bits, and the call writes one of its own size.
        let set = unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            match libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) {
                0 => set,
                _ => return Self(Vec::new()),
            }
        };
        let known = 0..8 * mem::size_of_val(&set);
        // SAFETY: `cpu` is within the set.
        Self(known.filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
    }

    /// Makes the calling thread one of `cores` request cores.
    pub(crate) fn be_core(&self, index: usize, cores: usize) {
        // With another number of cores the kernel knows better where they should run.
        let own = self.0.get(index).filter(|_| cores == self.0.len());
        if let Some(cpu) = own {
            report("keep a core on its CPU", keep_to(&[*cpu]));
        }
        wake_promptly();
    }

    /// Takes back what the calling thread inherited from a core.
    pub(crate) fn be_free(&self) {
        report("let a thread run on every CPU", keep_to(&self.0));
        report("ask for usual turns", take_turns_of(0));
    }
}

fn report(what: &str, done: io::Result<()>) {
    if let Err(error) = done {
        tracing::debug!("the kernel does not let us {what}: {error}");
    }
}

fn keep_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: as in `of_process`; the CPUs came from such a set.
    let done = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// 0 for the usual ones.
fn take_turns_of(runtime_ns: u64) -> io::Result<()> {
    // SAFETY: a call without pointers. The attributes hold the niceness too, and it stays.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = SchedAttr {
        size: mem::size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        nice,
        runtime_ns,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads `size` bytes of the attributes; 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn cores_have_a_cpu_each_and_what_they_start_has_all() {
        let all = Cpus::of_process();
        let count = all.0.len();
        assert!(count > 0);
        for index in 0..count {
            let cpus = all.clone();
            let (core, free) = on_a_thread(move || {
                cpus.be_core(index, count);
                let core = Cpus::of_process().0;
                cpus.be_free();
                (core, Cpus::of_process().0)
            });
            assert_eq!((core, free), (vec![all.0[index]], all.0.clone()));
        }
    }

    #[test]
    fn another_number_of_cores_is_not_tied_to_cpus() {
        let all = Cpus::of_process();
        let cpus = all.clone();
        let seen = on_a_thread(move || {
            cpus.be_core(0, cpus.0.len() + 1);
            Cpus::of_process().0
        });
        assert_eq!(seen, all.0);
    }
}
