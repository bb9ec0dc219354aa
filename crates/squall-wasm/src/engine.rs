//! The engines and what they cost.
//!
//! Instances that live for one request come from an engine without guard pages and
//! without signals: with guards, growing a memory and shrinking it again cost two
//! `mprotect` calls a request, each an interrupt on every other core. Its price is an
//! explicit bounds check for each access. Instances that live for many requests come
//! from an engine with guards, where an access costs nothing.
//!
//! Components of WASI 0.2 have engines of their own, too: the bookkeeping that lets a
//! component of 0.3 serve several requests at once costs every call of a host function.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use squall_types::manifest::InstanceMode;
use squall_types::metrics::write_head;
use squall_types::state::HandlerWorld;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::clock::{Clock, EpochClock};
use crate::js::JsEngine;

/// How long a guest may keep its core before others get a turn.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Largest stack of a guest; the fiber's own is four times that.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Memory images up to this size stay copy-on-write even when they are sparse.
const DENSE_IMAGE_BYTES: u64 = 64 << 20;
/// What an idle slot keeps of its pages, reset by copying instead of unmapping.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;
const TABLE_ELEMENTS: usize = 100_000;

#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Instances at once for each engine.
    pub instance_slots: u32,
    /// The node's cap on the memory of one instance.
    pub memory_bytes_max: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { instance_slots: 1_000, memory_bytes_max: 1 << 30 }
    }
}

/// What an engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) mode: InstanceMode,
    pub(crate) world: HandlerWorld,
}

impl Kind {
    /// In the order of `Engines::engines`.
    pub(crate) const ALL: [Kind; 4] = [
        Kind { mode: InstanceMode::PerRequest, world: HandlerWorld::Http02 },
        Kind { mode: InstanceMode::PerRequest, world: HandlerWorld::Http03 },
        Kind { mode: InstanceMode::Shared, world: HandlerWorld::Http02 },
        Kind { mode: InstanceMode::Shared, world: HandlerWorld::Http03 },
    ];

    pub(crate) fn index(self) -> usize {
        let mode = usize::from(self.mode == InstanceMode::Shared);
        let world = usize::from(self.world == HandlerWorld::Http03);
        mode * 2 + world
    }
}

/// The engines of a node.
pub struct Engines {
    engines: Vec<Engine>,
    keys: [String; 2],
    pub js: Arc<JsEngine>,
    pub(crate) clock: Clock,
}

impl Engines {
    /// Reserves the pools. # Errors
    /// Fails when the address space for them can not be had.
    pub fn new(options: &EngineOptions) -> wasmtime::Result<Arc<Self>> {
        let make = |kind| -> wasmtime::Result<Engine> {
            let mut config = base_config(kind, options);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(kind, options)));
            Engine::new(&config)
        };
        let engines = Kind::ALL.into_iter().map(make).collect::<wasmtime::Result<Vec<_>>>()?;
        let keys = [key_of(&engines[..2]), key_of(&engines[2..])];
        let js = JsEngine::new()?;
        let ticking = engines.iter().chain([js.engine()]).map(Engine::weak);
        let clock = EpochClock::start(ticking.collect())?;
        js.set_clock(clock.clone());
        Ok(Arc::new(Self { engines, keys, js, clock }))
    }

    /// An engine that compiles for the pooled engine of the same kind, without its pool.
    pub(crate) fn for_build(kind: Kind, options: &EngineOptions) -> wasmtime::Result<Engine> {
        Engine::new(&base_config(kind, options))
    }

    /// Identifies everything that compiled code depends on: the compiler's version, its
    /// settings and the CPU. Safe as a folder name.
    pub fn key(&self, mode: InstanceMode) -> &str {
        match mode {
            InstanceMode::PerRequest => &self.keys[0],
            InstanceMode::Shared => &self.keys[1],
        }
    }

    pub(crate) fn engine(&self, kind: Kind) -> &Engine {
        &self.engines[kind.index()]
    }

    /// Instances in use and warm slots, as Prometheus text.
    pub fn write_metrics(&self, out: &mut String) {
        self.js.write_metrics(out);
        use std::fmt::Write as _;
        type Gauge = fn(&wasmtime::PoolingAllocatorMetrics) -> f64;
        let gauges: [(&str, &str, Gauge); 3] = [
            ("instances", "Component instances that are alive.", |m| {
                m.component_instances() as f64
            }),
            ("memories", "Linear memories in use.", |m| m.memories() as f64),
            ("unused_memory_bytes_resident", "Kept by slots that wait.", |m| {
                m.unused_memory_bytes_resident() as f64
            }),
        ];
        for (name, what, value) in gauges {
            write_head(out, &format!("squall_pool_{name}"), "gauge", what);
            for (kind, engine) in Kind::ALL.into_iter().zip(&self.engines) {
                let Some(metrics) = engine.pooling_allocator_metrics() else { continue };
                let value = value(&metrics);
                let mode = match kind.mode {
                    InstanceMode::PerRequest => "per-request",
                    InstanceMode::Shared => "shared",
                };
                let world = match kind.world {
                    HandlerWorld::Http02 => "0.2",
                    HandlerWorld::Http03 => "0.3",
                    HandlerWorld::JavaScript => continue,
                };
                let labels = format!("instances=\"{mode}\",wasi=\"{world}\"");
                let _ = writeln!(out, "squall_pool_{name}{{{labels}}} {value}");
            }
        }
    }
}

fn base_config(kind: Kind, options: &EngineOptions) -> Config {
    let concurrent = kind.world == HandlerWorld::Http03;
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(concurrent)
        .wasm_component_model_async(concurrent)
        .wasm_component_model_async_stackful(concurrent)
        .wasm_component_model_more_async_builtins(concurrent)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(4 * WASM_STACK_BYTES)
        .async_stack_zeroing(false)
        .memory_guaranteed_dense_image_size(DENSE_IMAGE_BYTES);
    match kind.mode {
        InstanceMode::PerRequest => {
            config
                .signals_based_traps(false)
                .memory_guard_size(0)
                .memory_reservation(options.memory_bytes_max);
        }
        InstanceMode::Shared => {
            config.memory_reservation(4 << 30);
        }
    }
    config
}

fn pool(kind: Kind, options: &EngineOptions) -> PoolingAllocationConfig {
    let slots = options.instance_slots;
    // An instance of 0.3 runs several calls at once, each on a stack of its own.
    let stacks = if kind.world == HandlerWorld::Http03 { slots.saturating_mul(2) } else { slots };
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(slots)
        // A component is several core instances: its adapters, and every library that
        // it links at run time. These are only counted, not reserved.
        .total_core_instances(slots.saturating_mul(20))
        .total_memories(slots.saturating_mul(2))
        .total_tables(slots.saturating_mul(6))
        .total_stacks(stacks)
        .max_core_instances_per_component(200)
        .max_memories_per_component(20)
        .max_tables_per_component(60)
        .max_component_instance_size(10 << 20)
        .max_core_instance_size(10 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(options.memory_bytes_max).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(1 << 20)
        .async_stack_keep_resident(0)
        // A slot remembers the image that it was used for; more slots than functions
        // mean that each finds its own again.
        .max_unused_warm_slots(slots)
        .decommit_batch_size(1)
        .pagemap_scan(if pagemap_scan_is_safe() { Enabled::Auto } else { Enabled::No });
    pool
}

/// A page that was swapped out while dirty is not seen by the scan of this Wasmtime
/// version and would keep what an earlier guest wrote: swap must be off.
fn pagemap_scan_is_safe() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() <= 1)
}

/// Lets a BLAKE3 hash take what `Hash` gives.
struct KeyHasher(blake3::Hasher);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}

pub(crate) fn key_of(engines: &[Engine]) -> String {
    let mut hasher = KeyHasher(blake3::Hasher::new());
    for engine in engines {
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    let hex = hasher.0.finalize().to_hex();
    format!("wasmtime48-{}-{}", std::env::consts::ARCH, &hex[..24])
}
