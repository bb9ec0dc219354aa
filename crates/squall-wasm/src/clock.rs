//! The epoch clock: a thread that ticks while guests run and sleeps while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use squall_types::shard::{Local, Padded, SHARDS, Spread, own_shard};
use wasmtime::EngineWeak;

use crate::engine::EPOCH_TICK;

/// Ticks without a guest until the thread goes to sleep.
const QUIET_TICKS: u32 = 50;

pub(crate) struct EpochClock {
    /// Guests that run, by the thread that started them.
    running: [Padded<AtomicUsize>; SHARDS],
    asleep: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

impl EpochClock {
    /// The thread ends when the engines are gone.
    pub(crate) fn start(engines: Vec<EngineWeak>) -> std::io::Result<Clock> {
        let clock = Arc::new(Self {
            running: Default::default(),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let ticking = clock.clone();
        let thread = std::thread::Builder::new().name("squall-epoch".into()).spawn(move || {
            squall_runtime::wake_promptly();
            ticking.tick_while_needed(&engines);
        })?;
        let _ = clock.thread.set(thread.thread().clone());
        Ok(Clock(Arc::new(clock.into())))
    }

    fn tick_while_needed(&self, engines: &[EngineWeak]) {
        let mut quiet = 0;
        loop {
            std::thread::sleep(EPOCH_TICK);
            for engine in engines {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
            if self.is_needed() {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet < QUIET_TICKS {
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            // A guest that started between the check and the store sees the flag or is
            // seen here. The timeout notices engines that are gone.
            while !self.is_needed() && self.asleep.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_secs(60));
                if engines.iter().any(|engine| engine.upgrade().is_none()) {
                    return;
                }
            }
            self.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    fn is_needed(&self) -> bool {
        self.running.iter().any(|running| running.0.load(Ordering::SeqCst) > 0)
    }

    fn begin(&self, shard: usize) {
        self.running[shard].0.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// A handle of the clock.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Spread<EpochClock>>);

impl Clock {
    /// Keeps the clock ticking until the returned guard is dropped.
    pub(crate) fn run(&self) -> Running {
        let shard = own_shard();
        self.0.begin(shard);
        Running { clock: self.0.own(), shard }
    }
}

pub(crate) struct Running {
    clock: Local<EpochClock>,
    shard: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clock.running[self.shard].0.fetch_sub(1, Ordering::Relaxed);
    }
}
