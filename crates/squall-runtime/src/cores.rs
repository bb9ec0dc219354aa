//! Request cores: one thread with one current-thread Tokio runtime for each CPU.
//!
//! A connection lives on the core that accepted it. Its invocations usually run there
//! too, which costs nothing. Moving one wakes the other core and later this one, which
//! costs more CPU time than a short function uses; so it moves only when the guests here
//! want so much of it that waiting for them would take longer.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use squall_types::shard::{Local, Spread};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::scheduling::Cpus;

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The index of the request core that runs the caller, if one does.
pub fn current() -> Option<usize> {
    CURRENT.get()
}

/// An invocation moves to a core that nobody wants when so much is wanted of its own.
const WORTH_WAKING: Duration = Duration::from_micros(150);

/// And to one where it has to wait so much less. Of two busy cores now the one and now the
/// other is behind by the requests of a few connections, and moving them gains nothing.
const WORTH_MOVING: Duration = Duration::from_millis(1);

/// What a guest that was interrupted is taken to want still: it has shown that it is no
/// short one.
const INTERRUPTED: Duration = Duration::from_millis(1);

/// What guests want of a core now. Read by every core on every request: a cache line each.
#[repr(align(128))]
#[derive(Default)]
struct Load {
    guests: AtomicUsize,
    cpu_ns: AtomicU64,
}

impl Load {
    fn add(&self, cpu_ns: u64) {
        self.guests.fetch_add(1, Ordering::Relaxed);
        self.cpu_ns.fetch_add(cpu_ns, Ordering::Relaxed);
    }

    fn remove(&self, cpu_ns: u64) {
        self.guests.fetch_sub(1, Ordering::Relaxed);
        self.cpu_ns.fetch_sub(cpu_ns, Ordering::Relaxed);
    }
}

/// The request cores of a node.
pub struct Cores {
    handles: Vec<Handle>,
    loads: Spread<[Load]>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cores {
    /// Starts `count` threads, at least one.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let count = count.max(1);
        let cpus = Cpus::of_process();
        let (stop, _) = watch::channel(false);
        let mut handles = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let inherited = cpus.clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(16)
                .thread_name("squall-blocking")
                .on_thread_start(move || inherited.be_free())
                .build()?;
            handles.push(runtime.handle().clone());
            let mut stopped = stop.subscribe();
            let own = cpus.clone();
            threads.push(std::thread::Builder::new().name(format!("squall-core-{index}")).spawn(
                move || {
                    CURRENT.set(Some(index));
                    own.be_core(index, count);
                    // An error means that the sender is gone, which is a stop as well.
                    let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
                    runtime.shutdown_background();
                },
            )?);
        }
        let loads: Arc<[Load]> = handles.iter().map(|_| Load::default()).collect();
        Ok(Self { handles, loads: loads.into(), stop, threads: Mutex::new(threads) })
    }

    /// One Tokio handle for each core, in order.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Guests that want CPU time now, by core.
    pub fn runnable(&self) -> Vec<usize> {
        self.loads.iter().map(|load| load.guests.load(Ordering::Relaxed)).collect()
    }

    /// Chooses the core for an invocation that arrived on `here` and is expected to use
    /// `cpu_ns`, and counts it there.
    pub(crate) fn place(&self, here: Option<usize>, cpu_ns: u64) -> (usize, Ticket) {
        let wanted_of = |core: usize| self.loads[core].cpu_ns.load(Ordering::Relaxed);
        let core = match here.filter(|core| *core < self.loads.len()) {
            Some(here) if wanted_of(here) < WORTH_WAKING.as_nanos() as u64 => here,
            here => {
                let least = (0..self.loads.len()).min_by_key(|core| wanted_of(*core)).unwrap_or(0);
                let wanted_there = wanted_of(least);
                let worth = if wanted_there == 0 { WORTH_WAKING } else { WORTH_MOVING };
                let stays =
                    |here: &usize| wanted_of(*here) < wanted_there + worth.as_nanos() as u64;
                here.filter(stays).unwrap_or(least)
            }
        };
        (core, Ticket::new(self.loads.own(), core, cpu_ns))
    }

    /// Stops every core; tasks that still run are dropped.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether one invocation wants its core, and how much of it. Counted as wanting it from
/// the start.
pub struct Ticket {
    loads: Local<[Load]>,
    core: usize,
    cpu_ns: u64,
    counted: bool,
}

impl Ticket {
    fn new(loads: Local<[Load]>, core: usize, cpu_ns: u64) -> Self {
        loads[core].add(cpu_ns);
        Self { loads, core, cpu_ns, counted: true }
    }

    /// A ticket of no core, for tests and for calls from outside the request cores.
    pub fn detached() -> Self {
        let none: Arc<[Load]> = Arc::from([]);
        Self { loads: none.into(), core: 0, cpu_ns: 0, counted: false }
    }

    /// The guest is about to run.
    pub fn run(&mut self) {
        if !self.counted
            && let Some(load) = self.loads.get(self.core)
        {
            load.add(self.cpu_ns);
            self.counted = true;
        }
    }

    /// The guest waits for something other than CPU time. One that was interrupted still
    /// wants the core: do not call this then.
    pub fn park(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.loads[self.core].remove(self.cpu_ns);
        }
    }

    /// The guest was interrupted and wants to go on.
    pub fn interrupted(&mut self) {
        let wants_ns = INTERRUPTED.as_nanos() as u64;
        if self.cpu_ns < wants_ns {
            let counted = self.counted;
            self.park();
            self.cpu_ns = wants_ns;
            if counted {
                self.run();
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT_NS: u64 = 20_000;
    const LONG_NS: u64 = 5_000_000;

    fn cores() -> Cores {
        Cores::start(2).unwrap()
    }

    #[test]
    fn short_guests_wait_for_each_other_and_long_ones_move() {
        let cores = cores();
        let mut tickets = Vec::new();
        for _ in 0..7 {
            let (core, ticket) = cores.place(Some(0), SHORT_NS);
            assert_eq!(core, 0);
            tickets.push(ticket);
        }
        assert_eq!(cores.runnable(), [7, 0]);
        drop(tickets);
        assert_eq!(cores.runnable(), [0, 0]);
        let (first, _one) = cores.place(Some(0), LONG_NS);
        let (second, _other) = cores.place(Some(0), LONG_NS);
        let (third, _third) = cores.place(Some(0), LONG_NS);
        assert_eq!([first, second, third], [0, 1, 0], "evenly, and here where it is the same");
        cores.stop();
    }

    #[test]
    fn of_two_busy_cores_neither_gives_the_other_what_is_short() {
        let cores = cores();
        let mut places = Vec::new();
        let mut tickets = Vec::new();
        for _ in 0..16 {
            let (core, ticket) = cores.place(Some(0), 70_000);
            places.push(core);
            tickets.push(ticket);
        }
        // An idle core takes one, a busy one nothing until it is far behind.
        assert_eq!(places, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let (core, _ticket) = cores.place(Some(0), LONG_NS);
        assert_eq!(core, 0);
        let (core, _ticket) = cores.place(Some(0), 70_000);
        assert_eq!(core, 1);
        cores.stop();
    }

    #[test]
    fn a_short_guest_does_not_wait_for_a_long_one() {
        let cores = cores();
        let (_, mut long) = cores.place(Some(1), LONG_NS);
        assert_eq!(cores.place(Some(1), SHORT_NS).0, 0);
        long.park();
        assert_eq!(cores.place(Some(1), SHORT_NS).0, 1, "it wants nothing now");
        long.run();
        assert_eq!(cores.place(Some(1), SHORT_NS).0, 0);
        drop(long);
        assert_eq!(cores.place(Some(1), SHORT_NS).0, 1);
        cores.stop();
    }

    #[test]
    fn who_was_interrupted_counts_as_long() {
        let cores = cores();
        let (_, mut guest) = cores.place(Some(0), SHORT_NS);
        assert_eq!(cores.place(Some(0), SHORT_NS).0, 0);
        guest.interrupted();
        assert_eq!(cores.place(Some(0), SHORT_NS).0, 1);
        guest.park();
        guest.interrupted();
        assert_eq!(cores.runnable(), [0, 0]);
        guest.run();
        guest.interrupted();
        assert_eq!(cores.runnable(), [1, 0]);
        drop(guest);
        assert_eq!(cores.place(Some(0), SHORT_NS).0, 0);
        cores.stop();
    }

    #[test]
    fn what_comes_from_elsewhere_goes_where_least_is_wanted() {
        let cores = cores();
        let (first, _one) = cores.place(None, SHORT_NS);
        let (second, _other) = cores.place(None, SHORT_NS);
        assert_eq!([first, second], [0, 1]);
        cores.stop();
    }
}
