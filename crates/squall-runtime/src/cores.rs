//! Request cores: one thread with one current-thread Tokio runtime for each CPU.
//!
//! A connection lives on the core that accepted it. Its invocations usually run there
//! too, which costs nothing; when that core has guests waiting for CPU time and
//! another has fewer, an invocation moves there.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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

/// Loads are read by every core on every request: a cache line each.
#[repr(align(128))]
#[derive(Default)]
struct Load(AtomicUsize);

/// The request cores of a node.
pub struct Cores {
    handles: Vec<Handle>,
    loads: Arc<[Load]>,
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
        let loads = handles.iter().map(|_| Load::default()).collect();
        Ok(Self { handles, loads, stop, threads: Mutex::new(threads) })
    }

    /// One Tokio handle for each core, in order.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Guests that want CPU time now, by core.
    pub fn runnable(&self) -> Vec<usize> {
        self.loads.iter().map(|load| load.0.load(Ordering::Relaxed)).collect()
    }

    /// Chooses the core for an invocation that arrived on `here` and counts it there.
    pub(crate) fn place(&self, here: Option<usize>) -> (usize, Ticket) {
        let load_of = |core: usize| self.loads[core].0.load(Ordering::Relaxed);
        let here = here.filter(|core| *core < self.loads.len());
        let mut best = here.unwrap_or(0);
        let mut least = load_of(best);
        if least > 0 || here.is_none() {
            for core in 0..self.loads.len() {
                let load = load_of(core);
                if load < least {
                    (best, least) = (core, load);
                }
            }
        }
        (best, Ticket::new(self.loads.clone(), best))
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

/// Whether one invocation wants its core. Counted as wanting it from the start.
pub struct Ticket {
    loads: Arc<[Load]>,
    core: usize,
    counted: bool,
}

impl Ticket {
    fn new(loads: Arc<[Load]>, core: usize) -> Self {
        loads[core].0.fetch_add(1, Ordering::Relaxed);
        Self { loads, core, counted: true }
    }

    /// A ticket of no core, for tests and for calls from outside the request cores.
    pub fn detached() -> Self {
        Self { loads: Arc::from([]), core: 0, counted: false }
    }

    /// The guest is about to run.
    pub fn run(&mut self) {
        if !self.counted
            && let Some(load) = self.loads.get(self.core)
        {
            load.0.fetch_add(1, Ordering::Relaxed);
            self.counted = true;
        }
    }

    /// The guest waits for something other than CPU time. After a mere yield it still
    /// wants the core: do not call this then.
    pub fn park(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.loads[self.core].0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.park();
    }
}
