//! The epoch clock: a thread that ticks while guests run and sleeps while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::EngineWeak;

use crate::engine::EPOCH_TICK;

/// Ticks without a guest until the thread goes to sleep.
const QUIET_TICKS: u32 = 50;

pub(crate) struct EpochClock {
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

impl EpochClock {
    /// The thread ends when the engines are gone.
    pub(crate) fn start(engines: Vec<EngineWeak>) -> std::io::Result<Arc<Self>> {
        let clock = Arc::new(Self {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let ticking = clock.clone();
        let thread = std::thread::Builder::new().name("squall-epoch".into()).spawn(move || {
            squall_runtime::wake_promptly();
            ticking.tick_while_needed(&engines);
        })?;
        let _ = clock.thread.set(thread.thread().clone());
        Ok(clock)
    }

    fn tick_while_needed(&self, engines: &[EngineWeak]) {
        let mut quiet = 0;
        loop {
            std::thread::sleep(EPOCH_TICK);
            for engine in engines {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
            if self.running.load(Ordering::Relaxed) > 0 {
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
            while self.running.load(Ordering::SeqCst) == 0 && self.asleep.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_secs(60));
                if engines.iter().any(|engine| engine.upgrade().is_none()) {
                    return;
                }
            }
            self.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    /// Keeps the clock ticking until the returned guard is dropped.
    pub(crate) fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(self.clone())
    }
}

pub(crate) struct Running(Arc<EpochClock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
