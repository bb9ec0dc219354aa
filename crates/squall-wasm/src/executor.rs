//! The executor: maps compiled functions and hands requests to them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use squall_js::recording::Recording;
use squall_runtime::executor::{Call, Executor, LoadedFunction};
use squall_types::bindings::Bindings;
use squall_types::cache::FunctionCaches;
use squall_types::invoke::InvokeFuture;
use squall_types::log::LogSink;
use squall_types::manifest::InstanceMode;
use squall_types::metrics::{write_head, write_metric};
use squall_types::outbound::{Outbound, OutboundPolicy};
use squall_types::shard::{Local, Spread};
use squall_types::state::{Environment, FunctionSpec, HandlerWorld};
use squall_types::trace::TraceContext;
use squall_types::{ErrorCode, InvokeError};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::handler::ProxyPre;

use crate::engine::{Engines, Kind};
use crate::host::{GuestEnvironment, Host, Reach, linker};
use crate::js::{self, Divergence, JsFunction, RecordingSink, Stacks, Surroundings};
use crate::output::{GuestLog, LogOwner};
use crate::per_request;
use crate::shared::SharedInstances;

/// Where what was built of a function lies.
pub type ArtifactPath = Arc<dyn Fn(&FunctionSpec) -> PathBuf + Send + Sync>;

pub struct WasmOptions {
    pub engines: Arc<Engines>,
    pub artifact_path: ArtifactPath,
    pub logs: Arc<dyn LogSink>,
    pub outbound: Arc<dyn Outbound>,
    pub stacks: Arc<dyn Stacks>,
    pub bindings: Arc<dyn Bindings>,
    pub caches: Arc<dyn FunctionCaches>,
    /// Gets what crossed the boundary of every instance of JavaScript that served one
    /// request. It costs memory and time.
    pub recordings: Option<Arc<dyn RecordingSink>>,
}

/// Runs WebAssembly components and JavaScript.
pub struct WasmExecutor {
    options: WasmOptions,
    /// In the order of `Kind::ALL`.
    linkers: Vec<Linker<Host>>,
    loaded: Mutex<Vec<Weak<Loaded>>>,
    loaded_js: Mutex<Vec<Weak<JsFunction>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    map_us: AtomicU64,
    link_us: AtomicU64,
    maps: AtomicU64,
}

/// A function whose code is mapped.
pub(crate) struct Loaded {
    pub(crate) function: Arc<FunctionSpec>,
    pub(crate) engines: Arc<Engines>,
    pub(crate) pre: ProxyPre<Host>,
    log_owner: Spread<LogOwner>,
    reach: Spread<Reach>,
    /// The newest environment that was asked for, ready for guests.
    environment: ArcSwapOption<(Arc<Environment>, Spread<GuestEnvironment>)>,
    pub(crate) shared: Option<SharedInstances>,
}

impl WasmExecutor {
    /// # Errors
    /// Fails when the host interfaces can not be linked, which is a defect.
    pub fn new(options: WasmOptions) -> wasmtime::Result<Arc<Self>> {
        let link = |kind: Kind| linker(options.engines.engine(kind), kind.world);
        let linkers = Kind::ALL.into_iter().map(link).collect::<wasmtime::Result<Vec<_>>>()?;
        Ok(Arc::new(Self {
            options,
            linkers,
            loaded: Mutex::default(),
            loaded_js: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// Retires shared instances that have been idle too long, for ever.
    pub async fn sweep_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let alive: Vec<Arc<Loaded>> = {
                let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                loaded.retain(|weak| weak.strong_count() > 0);
                loaded.iter().filter_map(Weak::upgrade).collect()
            };
            for function in alive {
                if let Some(shared) = &function.shared {
                    shared.sweep();
                }
            }
            for function in self.alive_js() {
                if let Some(shared) = &function.shared {
                    shared.sweep();
                }
            }
            self.options.engines.js.sweep();
        }
    }

    fn alive_js(&self) -> Vec<Arc<JsFunction>> {
        let mut loaded = self.loaded_js.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|weak| weak.strong_count() > 0);
        loaded.iter().filter_map(Weak::upgrade).collect()
    }

    /// Prometheus text.
    pub fn write_metrics(&self, out: &mut String) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let name = "squall_cold_start_seconds_total";
        write_head(out, name, "counter", "Time spent making functions callable, by phase.");
        for (phase, spent_us) in [("map", &self.counters.map_us), ("link", &self.counters.link_us)]
        {
            let _ = writeln!(out, "{name}{{phase=\"{phase}\"}} {}", read(spent_us) / 1e6);
        }
        let maps = read(&self.counters.maps);
        write_metric(out, "squall_cold_starts_total", "counter", "Functions made callable.", maps);
        let mut instances = 0;
        for function in self
            .loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
        {
            instances += function.shared.as_ref().map_or(0, SharedInstances::count);
        }
        let of_js = |function: &Arc<JsFunction>| function.shared.as_ref().map_or(0, |s| s.count());
        instances += self.alive_js().iter().map(of_js).sum::<usize>();
        let what = "Shared instances that are alive.";
        write_metric(out, "squall_shared_instances", "gauge", what, instances);
        self.options.engines.write_metrics(out);
    }

    fn load_js(&self, function: &Arc<FunctionSpec>) -> Result<Arc<JsFunction>, InvokeError> {
        let began = Instant::now();
        let path = (self.options.artifact_path)(function);
        let surroundings = Surroundings {
            js: self.options.engines.js.clone(),
            outbound: self.options.outbound.clone(),
            logs: self.options.logs.clone(),
            stacks: self.options.stacks.clone(),
            bindings: self.options.bindings.clone(),
            caches: self.options.caches.clone(),
            recordings: self.options.recordings.clone(),
        };
        let loaded = JsFunction::load(function.clone(), &path, policy(function), surroundings)?;
        let spent_us = began.elapsed().as_micros() as u64;
        self.counters.map_us.fetch_add(spent_us, Ordering::Relaxed);
        self.counters.maps.fetch_add(1, Ordering::Relaxed);
        if loaded.shared.is_some() {
            let mut all = self.loaded_js.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Arc::downgrade(&loaded));
        }
        Ok(loaded)
    }

    /// Runs a recorded instance of a JavaScript function once more, without the world.
    ///
    /// # Errors
    /// Fails where the program does something else than what was recorded, and when it can
    /// not be loaded.
    pub async fn replay(
        &self,
        function: &Arc<FunctionSpec>,
        recording: Recording,
    ) -> Result<(), Divergence> {
        let loaded = self.load_js(function);
        let loaded = loaded.map_err(|error| Divergence { at: 0, what: error.message })?;
        loaded.replay(recording).await
    }

    fn map(&self, function: &Arc<FunctionSpec>) -> Result<Arc<Loaded>, InvokeError> {
        let unavailable =
            |what: String| InvokeError::new(ErrorCode::ArtifactUnavailable, what).retry_after_s(5);
        let kind = Kind { mode: function.mode, world: function.world };
        let engine = self.options.engines.engine(kind);
        let path = (self.options.artifact_path)(function);
        let began = Instant::now();
        // SAFETY: the file was compiled by this node's build child and lies in its data
        // directory, which nobody else may write to (checked at start). Its name carries
        // the engine's key, and Wasmtime compares the settings again.
        let component = unsafe { Component::deserialize_file(engine, &path) }.map_err(|error| {
            unavailable(format!("the compiled code can not be mapped: {error:#}"))
        })?;
        let mapped = Instant::now();
        let linker = &self.linkers[kind.index()];
        let link = || -> wasmtime::Result<ProxyPre<Host>> {
            let pre = linker.instantiate_pre(&component)?;
            Ok(match function.world {
                HandlerWorld::Http02 => {
                    ProxyPre::P2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre)?)
                }
                HandlerWorld::Http03 => {
                    ProxyPre::P3(wasmtime_wasi_http::p3::bindings::ServicePre::new(pre)?)
                }
                HandlerWorld::JavaScript => unreachable!("no component"),
            })
        };
        let pre = link()
            .map_err(|error| unavailable(format!("the component can not be linked: {error:#}")))?;
        self.counters.map_us.fetch_add((mapped - began).as_micros() as u64, Ordering::Relaxed);
        self.counters.link_us.fetch_add(mapped.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.counters.maps.fetch_add(1, Ordering::Relaxed);
        let shared = (function.mode == InstanceMode::Shared)
            .then(|| SharedInstances::new(function.shared.clone(), function.world));
        let log_owner = LogOwner { function: function.clone(), sink: self.options.logs.clone() };
        let reach = Reach { outbound: self.options.outbound.clone(), policy: policy(function) };
        let loaded = Arc::new(Loaded {
            function: function.clone(),
            engines: self.options.engines.clone(),
            pre,
            log_owner: Spread::new(log_owner),
            reach: Spread::new(reach),
            environment: ArcSwapOption::empty(),
            shared,
        });
        if loaded.shared.is_some() {
            let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Arc::downgrade(&loaded));
        }
        Ok(loaded)
    }
}

impl Executor for WasmExecutor {
    fn load(&self, function: &Arc<FunctionSpec>) -> Result<Arc<dyn LoadedFunction>, InvokeError> {
        match function.world {
            HandlerWorld::JavaScript => Ok(Arc::new(JavaScript(self.load_js(function)?.into()))),
            HandlerWorld::Http02 | HandlerWorld::Http03 => {
                Ok(Arc::new(Function(self.map(function)?.into())))
            }
        }
    }
}

struct JavaScript(Spread<JsFunction>);

impl LoadedFunction for JavaScript {
    fn call(&self, call: Call) -> InvokeFuture {
        let function = self.0.own();
        if function.shared.is_some() {
            return Box::pin(js::serve_shared(function, call));
        }
        Box::pin(js::serve_per_request(function, call))
    }

    fn environment_changed(&self) {
        self.0.environment_changed();
    }
}

fn policy(function: &FunctionSpec) -> Arc<OutboundPolicy> {
    Arc::new(OutboundPolicy {
        owner: function.key.app.to_string(),
        allowed_hosts: function.allowed_hosts.clone(),
        allow_private: function.allow_private,
    })
}

/// `LoadedFunction` borrows itself and its calls outlive it.
struct Function(Spread<Loaded>);

impl LoadedFunction for Function {
    fn call(&self, call: Call) -> InvokeFuture {
        let loaded = self.0.own();
        if loaded.shared.is_some() {
            return Box::pin(crate::shared::serve(loaded, call));
        }
        Box::pin(per_request::serve(loaded, call))
    }

    fn environment_changed(&self) {
        self.0.environment.store(None);
        if let Some(shared) = &self.0.shared {
            shared.retire_all();
        }
    }
}

impl Loaded {
    /// An empty store for this function, with its limits set.
    pub(crate) fn new_store(
        &self,
        environment: &Arc<Environment>,
        trace: TraceContext,
    ) -> Store<Host> {
        let log = GuestLog::new(self.log_owner.own(), trace);
        let environment = self.prepared(environment);
        let host = Host::new(&self.function, environment, log, self.reach.own(), trace);
        let kind = Kind { mode: self.function.mode, world: self.function.world };
        let mut store = Store::new(self.engines.engine(kind), host);
        store.limiter(|host| &mut host.memory);
        store
    }

    fn prepared(&self, environment: &Arc<Environment>) -> Local<GuestEnvironment> {
        if let Some(prepared) = &*self.environment.load()
            && Arc::ptr_eq(&prepared.0, environment)
        {
            return prepared.1.own();
        }
        let made = Spread::new(GuestEnvironment::new(&self.function, environment));
        let own = made.own();
        self.environment.store(Some(Arc::new((environment.clone(), made))));
        own
    }
}
