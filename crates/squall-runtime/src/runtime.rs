//! The life of an invocation.

use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use http_body::Body as _;
use squall_types::invoke::{Invocation, Invoke, InvokeError, InvokeFuture};
use squall_types::log::{Level, LogLine, LogSink, Source};
use squall_types::metrics::{write_head, write_metric};
use squall_types::shard::{Local, Spread};
use squall_types::state::{ApplySnapshot, FunctionSpec, Snapshot};
use squall_types::trace::TraceContext;
use squall_types::{Body, ErrorCode};
use tokio::time::Sleep;

use crate::admission::{Admission, Refusal};
use crate::bodies::{RequestBody, ResponseBody};
use crate::cores::{self, Cores};
use crate::executor::{Admitted, Call, Executor, LoadedFunction};
use crate::registry::{Registry, Slot};

/// Settings of the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Invocations at once on this node; below the executor's pool of instances, so
    /// that a full node queues instead of failing.
    pub max_invocations: u32,
    /// Invocations that may wait for a place on the node.
    pub max_waiting: u32,
    /// Time without a call until a function's code is unmapped.
    pub idle_unload: Duration,
    /// Functions whose code stays mapped at once; beyond it the least recently called go.
    pub max_loaded: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            max_invocations: 900,
            max_waiting: 20_000,
            idle_unload: Duration::from_secs(60),
            max_loaded: 2_500,
        }
    }
}

/// Admits and runs invocations.
#[derive(Clone)]
pub struct Runtime(Arc<Spread<Inner>>);

struct Inner {
    options: RuntimeOptions,
    cores: Arc<Cores>,
    executor: Arc<dyn Executor>,
    logs: Arc<dyn LogSink>,
    registry: Registry,
    node: Arc<Admission>,
    started: Instant,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    loads: AtomicU64,
    load_failures: AtomicU64,
    load_us: AtomicU64,
    moved: AtomicU64,
    queue_full: AtomicU64,
    queue_timeout: AtomicU64,
    wall_time: AtomicU64,
}

impl Runtime {
    pub fn new(
        options: RuntimeOptions,
        cores: Arc<Cores>,
        executor: Arc<dyn Executor>,
        logs: Arc<dyn LogSink>,
    ) -> Self {
        let node = Admission::new(options.max_invocations, options.max_waiting);
        let inner = Inner {
            options,
            cores,
            executor,
            logs,
            registry: Registry::default(),
            node,
            started: Instant::now(),
            counters: Counters::default(),
        };
        Self(Arc::new(Spread::new(inner)))
    }

    /// Unmaps idle functions and gives memory back, for ever. Run it on a background
    /// runtime; it wakes four times in an idle period.
    pub async fn sweep_idle(self) {
        let period = (self.0.options.idle_unload / 4).max(Duration::from_millis(100));
        loop {
            tokio::time::sleep(period).await;
            self.0.sweep();
        }
    }

    /// Invocations that run now.
    pub fn running(&self) -> u32 {
        self.0.node.running()
    }

    /// Prometheus text.
    pub fn write_metrics(&self, out: &mut String) {
        let inner: &Inner = &self.0;
        let mut waiting = u64::from(inner.node.waiting());
        inner.registry.each(|slot| waiting += u64::from(slot.admission.waiting()));
        let counters = &inner.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let rows: [(&str, &str, &str, f64); 10] = [
            (
                "invocations_running",
                "gauge",
                "Invocations that run now.",
                inner.node.running().into(),
            ),
            ("invocations_waiting", "gauge", "Invocations that wait for a place.", waiting as f64),
            (
                "functions_loaded",
                "gauge",
                "Functions whose code is mapped.",
                inner.registry.count_loaded() as f64,
            ),
            (
                "function_loads_total",
                "counter",
                "Times a function's code was mapped.",
                count(&counters.loads),
            ),
            (
                "function_load_failures_total",
                "counter",
                "Times mapping a function's code failed.",
                count(&counters.load_failures),
            ),
            (
                "function_load_seconds_total",
                "counter",
                "Time spent mapping code (the cold start's first phase).",
                count(&counters.load_us) / 1e6,
            ),
            (
                "invocations_moved_total",
                "counter",
                "Invocations that ran on another core than their connection's.",
                count(&counters.moved),
            ),
            (
                "queue_full_total",
                "counter",
                "Invocations refused because the queue was full.",
                count(&counters.queue_full),
            ),
            (
                "queue_timeout_total",
                "counter",
                "Invocations refused after waiting too long.",
                count(&counters.queue_timeout),
            ),
            (
                "wall_time_exceeded_total",
                "counter",
                "Invocations ended at their wall time limit.",
                count(&counters.wall_time),
            ),
        ];
        for (name, kind, what, value) in rows {
            write_metric(out, &format!("squall_{name}"), kind, what, value);
        }
        let name = "squall_core_runnable";
        write_head(out, name, "gauge", "Guests that want CPU time now, by core.");
        for (core, runnable) in inner.cores.runnable().iter().enumerate() {
            let _ = writeln!(out, "{name}{{core=\"{core}\"}} {runnable}");
        }
    }
}

impl ApplySnapshot for Runtime {
    fn apply(&self, snapshot: &Arc<Snapshot>) {
        self.0.registry.apply(snapshot);
    }
}

impl Invoke for Runtime {
    fn invoke(&self, invocation: Invocation) -> InvokeFuture {
        let inner = self.0.own();
        Box::pin(async move {
            let meter = invocation.meter.clone();
            let result = Inner::run(inner, invocation).await;
            if let Err(error) = &result {
                meter.fail(error.code);
            }
            result
        })
    }
}

impl Inner {
    async fn run(
        inner: Local<Self>,
        invocation: Invocation,
    ) -> Result<http::Response<Body>, InvokeError> {
        let slot = inner.registry.slot(invocation.function.shared());
        let accepted = invocation.meter.accepted();
        let deadline = accepted + Duration::from_millis(invocation.function.limits.wall_time_ms);
        let admitted = inner.admit(&slot, &invocation.trace, deadline).await?;
        slot.touch(inner.ms_since_start(accepted));
        let loaded = match slot.loaded() {
            Some(loaded) => loaded,
            None => {
                invocation.meter.mark_cold();
                inner.load(&slot).await?
            }
        };

        let Invocation { function, environment, request, trace, meter, .. } = invocation;
        let limits = &function.limits;
        let response_body_bytes = limits.response_body_bytes;
        let request = request.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::stream(RequestBody {
                inner: body,
                meter: meter.clone(),
                remaining_bytes: limits.request_body_bytes,
            })
        });
        let here = cores::current();
        let (core, ticket) = inner.cores.place(here, slot.expected_ns());
        let call = Call {
            function,
            environment,
            request,
            trace,
            meter: meter.clone(),
            deadline,
            ticket,
            admitted: admitted.clone(),
        };
        let running = loaded.call(call);
        let outcome = if here == Some(core) {
            within(deadline, running).await
        } else {
            inner.counters.moved.fetch_add(1, Ordering::Relaxed);
            let moved = inner.cores.handles()[core].spawn(running);
            let mut moved = AbortOnDrop(moved);
            within(deadline, &mut moved.0).await.map(|joined| {
                joined.unwrap_or_else(|stopped| {
                    let code = if stopped.is_cancelled() {
                        ErrorCode::Draining
                    } else {
                        ErrorCode::Internal
                    };
                    Err(InvokeError::new(code, format!("the invocation's task stopped: {stopped}")))
                })
            })
        };
        slot.used(meter.cpu_ns());
        let Some(outcome) = outcome else {
            let message = inner.say_broken_off(&slot.function, &trace, ErrorCode::WallTimeExceeded);
            return Err(InvokeError::new(ErrorCode::WallTimeExceeded, message));
        };
        let response = outcome?;
        // With a body that is here whole there is nothing to wait for here. What the function
        // may still do keeps its place by itself.
        if let Some(bytes) = response.body().as_full() {
            if bytes.len() as u64 <= response_body_bytes {
                return Ok(response);
            }
            let message =
                inner.say_broken_off(&slot.function, &trace, ErrorCode::ResponseBodyTooLarge);
            return Err(InvokeError::new(ErrorCode::ResponseBodyTooLarge, message));
        }
        let owner = slot.function.clone();
        Ok(response.map(|body| {
            Body::stream(ResponseBody {
                inner: body,
                meter,
                remaining_bytes: response_body_bytes,
                deadline,
                timer: None,
                broke_off: Box::new(move |code| {
                    inner.say_broken_off(&owner, &trace, code);
                }),
                admitted: Some(admitted),
            })
        }))
    }

    async fn admit(
        &self,
        slot: &Slot,
        trace: &TraceContext,
        deadline: Instant,
    ) -> Result<Admitted, InvokeError> {
        let limits = &slot.function.limits;
        if let Some(of_function) = slot.admission.acquire_now()
            && let Some(of_node) = self.node.acquire_now()
        {
            return Ok(Admitted::new(of_function, of_node));
        }
        let longest = Duration::from_millis(limits.queue_time_ms);
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = longest.min(left);
        let refused = match slot.admission.acquire(patience).await {
            Ok(of_function) => match self.node.acquire(patience).await {
                Ok(of_node) => return Ok(Admitted::new(of_function, of_node)),
                Err(refusal) => (refusal, "the node", self.options.max_invocations),
            },
            Err(refusal) => (refusal, "the function", limits.concurrency),
        };
        let (refusal, who, limit) = refused;
        let (code, message) = match refusal {
            Refusal::QueueFull => {
                self.counters.queue_full.fetch_add(1, Ordering::Relaxed);
                (
                    ErrorCode::QueueFull,
                    format!("{who} runs {limit} invocations, its limit, and the queue is full"),
                )
            }
            Refusal::Timeout => {
                self.counters.queue_timeout.fetch_add(1, Ordering::Relaxed);
                (
                    ErrorCode::QueueTimeout,
                    format!(
                        "{who} ran {limit} invocations, its limit, for {} ms",
                        patience.as_millis()
                    ),
                )
            }
        };
        self.complain(slot, trace, code, &message);
        Err(InvokeError::new(code, message).retry_after_s(1))
    }

    /// A refusal under overload happens thousands of times a second: one line a second
    /// says it, with how many it stands for.
    fn complain(&self, slot: &Slot, trace: &TraceContext, code: ErrorCode, message: &str) {
        let unsaid = {
            let mut quiet = slot.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            if quiet.1.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
                quiet.0 += 1;
                return;
            }
            quiet.1 = Some(Instant::now());
            std::mem::take(&mut quiet.0)
        };
        let more = if unsaid > 0 { format!(" (and {unsaid} more)") } else { String::new() };
        self.log(
            &slot.function,
            trace,
            code,
            format!("{message}{more}; raise limits.concurrency or limits.queue"),
        );
    }

    async fn load(&self, slot: &Slot) -> Result<Local<dyn LoadedFunction>, InvokeError> {
        let started = Instant::now();
        let (executor, function) = (self.executor.clone(), slot.function.clone());
        let loaded = slot.load(move || executor.load(&function)).await;
        match &loaded {
            Ok(_) => {
                self.counters.loads.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .load_us
                    .fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
                self.registry.mark_loaded();
            }
            Err(_) => {
                self.counters.load_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        loaded
    }

    fn sweep(&self) {
        let idle_ms = self.options.idle_unload.as_millis() as u64;
        let now_ms = self.ms_since_start(Instant::now());
        let unloaded = self.registry.sweep(now_ms.saturating_sub(idle_ms), self.options.max_loaded);
        self.give_memory_back(unloaded > 0);
    }

    /// The allocator keeps what became free until its thread has something to do, which
    /// after a surge of connections may be long. What describes mapped code is scattered
    /// over the heap in small pieces: to get it back, everything has to be looked at.
    fn give_memory_back(&self, look_at_everything: bool) {
        let collect = move || {
            // SAFETY: collecting only releases free memory and may be done at any time.
            unsafe { libmimalloc_sys::mi_collect(look_at_everything) };
        };
        for core in self.cores.handles() {
            core.spawn(async move { collect() });
        }
        collect();
    }

    fn ms_since_start(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }

    fn say_broken_off(
        &self,
        function: &Arc<FunctionSpec>,
        trace: &TraceContext,
        code: ErrorCode,
    ) -> String {
        let limits = &function.limits;
        let message = match code {
            ErrorCode::WallTimeExceeded => {
                self.counters.wall_time.fetch_add(1, Ordering::Relaxed);
                format!(
                    "the invocation reached its wall time limit of {} ms (limits.wall_time_ms)",
                    limits.wall_time_ms
                )
            }
            _ => format!(
                "the response grew beyond {} bytes (limits.response_body_bytes)",
                limits.response_body_bytes
            ),
        };
        self.log(function, trace, code, message.clone());
        message
    }

    fn log(
        &self,
        function: &Arc<FunctionSpec>,
        trace: &TraceContext,
        code: ErrorCode,
        message: String,
    ) {
        self.logs.line(LogLine {
            at: SystemTime::now(),
            function: function.clone(),
            source: Source::Platform,
            level: Level::Error,
            message,
            code: Some(code),
            trace: *trace,
        });
    }
}

/// What `future` gives, or nothing when `deadline` comes first. Most calls end without having
/// waited: the timer is made for the others.
async fn within<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let new = || Box::pin(tokio::time::sleep_until(deadline.into()));
        timer.get_or_insert_with(new).as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A task that ends with its waiter.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
