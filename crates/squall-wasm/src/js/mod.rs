//! JavaScript functions: the engine, its instances and the functions that they become.
//!
//! All functions run in the same engine, a core module that is compiled once. A function
//! is the pages in which its memory differs from the engine's own after its top-level code
//! ran. So an instance belongs to no function: it is made new, as whatever function the
//! next request is for, by putting its memory back.

mod bodies;
pub mod build;
mod caches;
mod compute;
mod fetch;
mod function;
mod host;
mod image;
mod instance;
mod memory;
mod operations;
mod per_request;
mod respond;
mod shared;
mod tape;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use squall_types::shard::{Local, Padded, SHARDS, own_shard};
use squall_types::{ErrorCode, InvokeError};
use wasmtime::{Config, Engine, InstancePre, Module};

pub(crate) use function::{JsFunction, Surroundings};
pub use host::Stacks;
pub(crate) use per_request::serve as serve_per_request;
pub(crate) use shared::serve as serve_shared;
pub use tape::{Divergence, RecordingSink};

use crate::clock::Clock;
use host::{Host, World};
use image::{BaseImage, Places, Snapshot, read_base};
use instance::Instance;

/// Native stack of a program. QuickJS ends a recursion by its own count, long before.
const NATIVE_STACK_BYTES: usize = 8 << 20;
/// How long an instance waits for its next request.
const IDLE: Duration = Duration::from_secs(10);
/// Instances that wait on one shelf at most.
const SHELF_MAX: usize = 256;

/// Instances and since when each waits.
type Shelf = Mutex<Vec<(Instance, Instant)>>;

/// The engine of all JavaScript functions, and the instances that wait for requests.
pub struct JsEngine {
    engine: Engine,
    key: String,
    ready: OnceLock<Ready>,
    clock: OnceLock<Clock>,
    /// By the core that used them last.
    shelves: [Padded<Shelf>; SHARDS],
    made: AtomicU64,
    renewed: AtomicU64,
    pages: AtomicU64,
}

/// What the build child made, mapped.
struct Ready {
    pre: InstancePre<Host>,
    base: BaseImage,
    places: Places,
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(NATIVE_STACK_BYTES)
        .async_stack_size(NATIVE_STACK_BYTES + (1 << 20))
        .async_stack_zeroing(false)
        .memory_reservation(4 << 30)
        .memory_may_move(false)
        .memory_init_cow(false)
        .with_host_memory(Arc::new(memory::Creator));
    config
}

impl JsEngine {
    /// The clock must tick for `engine()` and be set before anything runs.
    pub(crate) fn new() -> wasmtime::Result<Arc<Self>> {
        let engine = Engine::new(&config())?;
        let guest = blake3::Hasher::new()
            .update(squall_js::ENGINE)
            .update(squall_js::WEB_LAYER.as_bytes())
            .finalize()
            .to_hex();
        let key =
            format!("{}-js-{}", crate::engine::key_of(std::slice::from_ref(&engine)), &guest[..16]);
        Ok(Arc::new(Self {
            engine,
            key,
            ready: OnceLock::new(),
            clock: OnceLock::new(),
            shelves: Default::default(),
            made: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            pages: AtomicU64::new(0),
        }))
    }

    /// Identifies everything that snapshots depend on. Safe as a folder name.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn set_clock(&self, clock: Clock) {
        let _ = self.clock.set(clock);
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.clock.get().expect("set by the engines, which made this one")
    }

    /// Maps what the build child made of the engine. Does nothing the second time.
    ///
    /// # Errors
    /// Fails when the files are damaged or made by another version.
    pub fn open(&self, compiled: &Path, base: &Path) -> Result<(), String> {
        if self.ready.get().is_some() {
            return Ok(());
        }
        let fail = |what: String| format!("the JavaScript engine can not be used: {what}");
        // SAFETY: the file was compiled by this node's build child and lies in its data
        // directory, which nobody else may write to. Wasmtime compares the settings.
        let module = unsafe { Module::deserialize_file(&self.engine, compiled) }
            .map_err(|error| fail(format!("{error:#}")))?;
        let pre = host::linker(&self.engine)
            .and_then(|linker| linker.instantiate_pre(&module))
            .map_err(|error| fail(format!("{error:#}")))?;
        let (places, base) = read_base(base).map_err(|error| fail(error.to_string()))?;
        let _ = self.ready.set(Ready { pre, base, places });
        Ok(())
    }

    pub fn is_open(&self) -> bool {
        self.ready.get().is_some()
    }

    fn ready(&self) -> Result<&Ready, InvokeError> {
        self.ready.get().ok_or_else(|| {
            let message = "the JavaScript engine is still being compiled for this version and CPU";
            InvokeError::new(ErrorCode::ArtifactUnavailable, message).retry_after_s(5)
        })
    }

    /// An instance of a function that has served nothing yet.
    pub(crate) async fn take(
        &self,
        snapshot: &Snapshot,
        world: Local<World>,
    ) -> Result<Instance, InvokeError> {
        let ready = self.ready()?;
        if let Some(mut instance) = self.find()
            && let Ok(pages) = instance.renew(&ready.base, snapshot, world.clone())
        {
            self.renewed.fetch_add(1, Ordering::Relaxed);
            self.pages.fetch_add(pages as u64, Ordering::Relaxed);
            return Ok(instance);
        }
        let no_room = |error: String| {
            let message = format!("no instance for a JavaScript function: {error}");
            InvokeError::new(ErrorCode::NodeAtCapacity, message).retry_after_s(1)
        };
        let made = Instance::new(&ready.pre, &ready.base, ready.places).await;
        let mut instance = made.map_err(|error| no_room(format!("{error:#}")))?;
        self.made.fetch_add(1, Ordering::Relaxed);
        instance.renew(&ready.base, snapshot, world).map_err(|error| no_room(error.to_string()))?;
        Ok(instance)
    }

    /// One that was used on this core, or else on another.
    fn find(&self) -> Option<Instance> {
        let own = own_shard();
        (0..SHARDS).find_map(|at| {
            let mut shelf = lock(&self.shelves[(own + at) % SHARDS].0);
            shelf.pop().map(|(instance, _)| instance)
        })
    }

    /// Keeps an instance whose program has ended by itself.
    pub(crate) fn give_back(&self, mut instance: Instance) {
        instance.store.data_mut().clear();
        if !instance.is_reusable() {
            return;
        }
        let mut shelf = lock(&self.shelves[own_shard()].0);
        if shelf.len() < SHELF_MAX {
            shelf.push((instance, Instant::now()));
        }
    }

    /// Takes down what has waited too long.
    pub(crate) fn sweep(&self) {
        for shelf in &self.shelves {
            let gone: Vec<_> = {
                let mut shelf = lock(&shelf.0);
                let (kept, gone) = shelf.drain(..).partition(|(_, since)| since.elapsed() < IDLE);
                *shelf = kept;
                gone
            };
            // Unmapping is slow: outside the lock.
            drop(gone);
        }
    }

    /// Prometheus text.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        use squall_types::metrics::write_metric;
        let waiting: usize = self.shelves.iter().map(|shelf| lock(&shelf.0).len()).sum();
        let what = "Instances that wait for a request.";
        write_metric(out, "squall_js_instances_idle", "gauge", what, waiting as f64);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let what = "Instances that were made.";
        write_metric(out, "squall_js_instances_made_total", "counter", what, count(&self.made));
        let what = "Times that an instance was made new.";
        write_metric(out, "squall_js_renewals_total", "counter", what, count(&self.renewed));
        let what = "Pages that were private when an instance was made new.";
        write_metric(out, "squall_js_renewed_pages_total", "counter", what, count(&self.pages));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
