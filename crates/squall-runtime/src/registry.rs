//! What the runtime keeps for each function: its permits and, while it is warm, its
//! mapped code. Found by the address of the function's spec, which the snapshot keeps.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use squall_types::InvokeError;
use squall_types::shard::{Local, Spread};
use squall_types::state::{Environment, FunctionSpec, Snapshot};

use crate::admission::Admission;
use crate::executor::LoadedFunction;

/// The CPU time that a function is expected to use before it has run.
const UNKNOWN: Duration = Duration::from_millis(1);

/// One function on this node.
pub(crate) struct Slot {
    pub(crate) function: Arc<FunctionSpec>,
    pub(crate) admission: Arc<Admission>,
    loaded: ArcSwapOption<Loaded>,
    loading: tokio::sync::Mutex<()>,
    last_used_ms: AtomicU64,
    /// CPU time until the response began, as it was lately.
    lately_ns: AtomicU64,
    /// Complaints about a full queue that were not logged, and when one last was.
    pub(crate) quiet: Mutex<(u64, Option<Instant>)>,
}

/// `ArcSwapOption` wants a sized type.
struct Loaded(Spread<dyn LoadedFunction>);

impl Slot {
    fn new(function: Arc<FunctionSpec>) -> Arc<Spread<Self>> {
        let limits = &function.limits;
        let slot = Self {
            admission: Admission::new(limits.concurrency, limits.queue),
            function,
            loaded: ArcSwapOption::empty(),
            loading: tokio::sync::Mutex::default(),
            last_used_ms: AtomicU64::new(0),
            lately_ns: AtomicU64::new(UNKNOWN.as_nanos() as u64),
            quiet: Mutex::default(),
        };
        Arc::new(Spread::new(slot))
    }

    pub(crate) fn touch(&self, now_ms: u64) {
        self.last_used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The CPU time that the next invocation may use until its response begins.
    pub(crate) fn expected_ns(&self) -> u64 {
        self.lately_ns.load(Ordering::Relaxed)
    }

    /// One invocation used so much. Cores may overwrite what another has learned.
    pub(crate) fn used(&self, cpu_ns: u64) {
        let lately = self.lately_ns.load(Ordering::Relaxed);
        self.lately_ns.store(lately - lately / 8 + cpu_ns / 8, Ordering::Relaxed);
    }

    pub(crate) fn loaded(&self) -> Option<Local<dyn LoadedFunction>> {
        self.loaded.load().as_ref().map(|loaded| loaded.0.own())
    }

    /// The mapped function, mapping it first where needed. `load` blocks and runs on
    /// the blocking pool; concurrent callers wait for the one that loads.
    pub(crate) async fn load<F>(&self, load: F) -> Result<Local<dyn LoadedFunction>, InvokeError>
    where
        F: FnOnce() -> Result<Arc<dyn LoadedFunction>, InvokeError> + Send + 'static,
    {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(loaded) = self.loaded() {
            return Ok(loaded);
        }
        let loaded = match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded?,
            Err(panic) => {
                return Err(InvokeError::new(
                    squall_types::ErrorCode::Internal,
                    format!("loading the function panicked: {panic}"),
                ));
            }
        };
        let loaded = Spread::from(loaded);
        let own = loaded.own();
        self.loaded.store(Some(Arc::new(Loaded(loaded))));
        Ok(own)
    }

    fn unload(&self) -> bool {
        self.loaded.swap(None).is_some()
    }
}

/// A pointer is spread well enough by one multiplication.
#[derive(Default)]
struct PointerHasher(u64);

impl Hasher for PointerHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only addresses are hashed here")
    }
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

type Slots = HashMap<usize, Arc<Spread<Slot>>, BuildHasherDefault<PointerHasher>>;

#[derive(Default)]
pub(crate) struct Registry {
    slots: ArcSwap<Slots>,
    /// The environments of the last snapshot, by app.
    environments: Mutex<HashMap<String, Arc<Environment>>>,
    /// Serialises writers of `slots`.
    writing: Mutex<()>,
    /// Something may be loaded: the sweeper has a reason to look.
    dirty: AtomicBool,
}

fn address(function: &Arc<FunctionSpec>) -> usize {
    Arc::as_ptr(function) as usize
}

impl Registry {
    pub(crate) fn slot(&self, function: &Arc<FunctionSpec>) -> Local<Slot> {
        if let Some(slot) = self.slots.load().get(&address(function)) {
            return slot.own();
        }
        // A request that began under an earlier snapshot reaches a function that the
        // newest no longer has. It keeps a slot until the sweeper finds it idle.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = Slots::clone(&self.slots.load());
        let slot =
            slots.entry(address(function)).or_insert_with(|| Slot::new(function.clone())).clone();
        self.slots.store(Arc::new(slots));
        slot.own()
    }

    /// Follows a snapshot: new functions get a slot, those gone are unloaded, shared
    /// instances of apps whose secrets changed are retired.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.slots.load_full();
        let mut slots = Slots::default();
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        let mut environments_now = HashMap::with_capacity(snapshot.apps.len());
        for app in &snapshot.apps {
            let changed = environments
                .get(app.name.as_str())
                .is_some_and(|earlier| !Arc::ptr_eq(earlier, &app.environment));
            environments_now.insert(app.name.to_string(), app.environment.clone());
            let live = app.traffic.iter().map(|share| &share.revision);
            for function in live.chain(&app.revisions).flat_map(|revision| &revision.functions) {
                // A live revision is among those with a preview too.
                let Entry::Vacant(entry) = slots.entry(address(function)) else { continue };
                let kept = before.get(&address(function)).cloned();
                let slot = entry.insert(kept.unwrap_or_else(|| Slot::new(function.clone())));
                if changed && let Some(loaded) = slot.loaded() {
                    loaded.environment_changed();
                }
            }
        }
        *environments = environments_now;
        for (key, slot) in before.iter() {
            if !slots.contains_key(key) {
                slot.unload();
            }
        }
        self.slots.store(Arc::new(slots));
    }

    pub(crate) fn mark_loaded(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Unmaps functions that have not been called since `before_ms`, then the least
    /// recently called beyond `max_loaded`. Returns how many were unmapped.
    pub(crate) fn sweep(&self, before_ms: u64, max_loaded: usize) -> usize {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return 0;
        }
        let slots = self.slots.load_full();
        let mut unloaded = 0;
        let mut loaded: Vec<(u64, &Slot)> = Vec::new();
        for slot in slots.values() {
            if slot.loaded.load().is_none() {
                continue;
            }
            let last_used_ms = slot.last_used_ms.load(Ordering::Relaxed);
            if last_used_ms < before_ms && slot.admission.running() == 0 {
                unloaded += usize::from(slot.unload());
            } else {
                loaded.push((last_used_ms, slot));
            }
        }
        if loaded.len() > max_loaded {
            let excess = loaded.len() - max_loaded;
            loaded.select_nth_unstable_by_key(excess - 1, |(last_used_ms, _)| *last_used_ms);
            for (_, slot) in loaded.drain(..excess) {
                unloaded += usize::from(slot.unload());
            }
        }
        if !loaded.is_empty() {
            self.mark_loaded();
        }
        unloaded
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&Slot)) {
        for slot in self.slots.load().values() {
            visit(slot);
        }
    }

    pub(crate) fn count_loaded(&self) -> usize {
        self.slots.load().values().filter(|slot| slot.loaded.load().is_some()).count()
    }
}
