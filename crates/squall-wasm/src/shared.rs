//! Instances that serve many requests: by choice, for functions whose start is dear.
//!
//! A component of WASI 0.2 serves one request at a time, so an instance is lent out and
//! handed back. One of WASI 0.3 serves several at once; it lives in a task of its own
//! that requests are sent to. A trap ends the instance: others that it was serving get
//! an error of their own.

use std::pin::Pin;
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_runtime::executor::{Admitted, Call};
use squall_types::log::Level;
use squall_types::manifest::SharedInstances as Settings;
use squall_types::shard::{Local, Padded, SHARDS, own_shard};
use squall_types::state::{Environment, HandlerWorld};
use squall_types::trace::TraceContext;
use squall_types::usage::Meter;
use squall_types::{Body, BodyError, ErrorCode, InvokeError};
use tokio::sync::{mpsc, oneshot};
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::Proxy;

use crate::call::{Answer, CpuWatch, Guest, respond};
use crate::clock::Running;
use crate::executor::Loaded;
use crate::failure::{Circumstances, explain};
use crate::host::Host;
use crate::per_request::{call_proxy, finish, serve_concurrently};

/// The instances of one function that are alive and may serve again.
pub(crate) struct SharedInstances {
    settings: Settings,
    world: HandlerWorld,
    /// Grows when everything that is alive must not serve again.
    generation: AtomicU64,
    /// Of WASI 0.2: those that nobody uses now, where they were last used: their memory
    /// is in that core's cache.
    lendable: [Padded<Mutex<Vec<Lent>>>; SHARDS],
    /// Of those that serve now: how many each thread began with, less what ended there.
    lent: [Padded<AtomicIsize>; SHARDS],
    /// Of WASI 0.3.
    running: Mutex<Vec<Arc<Concurrent>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedInstances {
    pub(crate) fn new(settings: Settings, world: HandlerWorld) -> Self {
        Self {
            settings,
            world,
            generation: AtomicU64::new(0),
            lendable: Default::default(),
            lent: Default::default(),
            running: Mutex::default(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        let lendable: usize = self.lendable.iter().map(|shelf| lock(&shelf.0).len()).sum();
        let lent: isize = self.lent.iter().map(|lent| lent.0.load(Ordering::Relaxed)).sum();
        lendable + usize::try_from(lent).unwrap_or(0) + lock(&self.running).len()
    }

    /// Lets everything finish what it serves and serve nothing more.
    pub(crate) fn retire_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.lendable.iter().for_each(|shelf| lock(&shelf.0).clear());
        lock(&self.running).clear();
    }

    /// An instance that was used on this core, or else on another.
    fn borrow(&self) -> Option<Lent> {
        let own = own_shard();
        (0..SHARDS).find_map(|at| lock(&self.lendable[(own + at) % SHARDS].0).pop())
    }

    fn give_back(&self, one: Lent) {
        lock(&self.lendable[own_shard()].0).push(one);
    }

    /// Retires what has been idle for its time.
    pub(crate) fn sweep(&self) {
        let idle = Duration::from_millis(self.settings.idle_ms);
        for shelf in &self.lendable {
            let gone: Vec<Lent> = {
                let mut lendable = lock(&shelf.0);
                let now = Instant::now();
                let is_new = |one: &mut Lent| now - *one.idle_since.get_or_insert(now) < idle;
                lendable.extract_if(.., |one| !is_new(one)).collect()
            };
            // Stores are taken down outside the lock.
            drop(gone);
        }
        lock(&self.running).retain(|one| {
            one.active.load(Ordering::SeqCst) > 0 || lock(&one.last_used).elapsed() < idle
        });
    }
}

/// An instance of WASI 0.2 that one request has to itself for a while.
struct Lent {
    store: Store<Host>,
    proxy: Proxy,
    watch: Arc<CpuWatch>,
    served: u32,
    generation: u64,
    /// When the sweeper first saw it idle. Requests look at no clock for its sake.
    idle_since: Option<Instant>,
}

/// Serves one request with a shared instance.
pub(crate) async fn serve(
    loaded: Local<Loaded>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    call.meter.mark_estimated();
    let shared = loaded.shared.as_ref().expect("only called for shared functions");
    match shared.world {
        HandlerWorld::Http02 => serve_in_turn(loaded, call).await,
        HandlerWorld::Http03 => serve_together(loaded, call).await,
        HandlerWorld::JavaScript => unreachable!("no component"),
    }
}

async fn serve_in_turn(
    loaded: Local<Loaded>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    let Call { environment, request, trace, meter, deadline, ticket, admitted, .. } = call;
    let shared = loaded.shared.as_ref().expect("only called for shared functions");
    let generation = shared.generation.load(Ordering::SeqCst);
    let idle = shared.borrow();
    let watch = idle.as_ref().map_or_else(Default::default, |one| one.watch.clone());
    watch.restart();
    let (answer, answered) = oneshot::channel();
    let clock = loaded.engines.clock.run();
    let guest = {
        let (loaded, watch, meter) = (loaded.clone(), watch.clone(), meter.clone());
        async move {
            let shared = loaded.shared.as_ref().expect("only called for shared functions");
            let _counted = Counted::new(&shared.lent);
            let mut one = match idle {
                Some(one) => one,
                None => {
                    let mut store = loaded.new_store(environment.shared(), trace);
                    watch.arm(&mut store, loaded.function.limits.cpu_time_ms);
                    let proxy = match loaded.pre.instantiate_async(&mut store).await {
                        Ok(proxy) => proxy,
                        Err(error) => return finish(&mut store, &meter, Err(error)),
                    };
                    Lent { store, proxy, watch, served: 0, generation, idle_since: None }
                }
            };
            one.store.data_mut().begin(trace);
            one.store.set_epoch_deadline(1);
            let result = call_proxy(&mut one.store, &one.proxy, request, answer).await;
            finish(&mut one.store, &meter, result)?;
            one.served += 1;
            one.idle_since = None;
            let current = shared.generation.load(Ordering::SeqCst) == one.generation;
            if current && one.served < shared.settings.max_requests {
                shared.give_back(one);
            }
            Ok(())
        }
    };
    respond(Guest::new(Box::pin(guest), watch, meter, ticket, admitted, clock), answered, deadline)
        .await
}

struct Counted<'a>(&'a [Padded<AtomicIsize>; SHARDS]);

impl<'a> Counted<'a> {
    fn new(counts: &'a [Padded<AtomicIsize>; SHARDS]) -> Self {
        counts[own_shard()].0.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0[own_shard()].0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance of WASI 0.3, seen from the requests that it serves.
struct Concurrent {
    jobs: mpsc::UnboundedSender<Job>,
    active: AtomicUsize,
    served: AtomicU32,
    last_used: Mutex<Instant>,
    life: Arc<Life>,
}

/// What outlives the instance: why it ended, and who shares its CPU time.
#[derive(Default)]
struct Life {
    lost: OnceLock<InvokeError>,
    meters: Mutex<Vec<Arc<Meter>>>,
}

struct Job {
    request: http::Request<Body>,
    trace: TraceContext,
    meter: Arc<Meter>,
    answer: oneshot::Sender<Answer<WasiBody>>,
    _place: Place,
    _admitted: Admitted,
    _clock: Running,
}

/// A request's place in an instance; freed when its response has ended.
struct Place {
    instance: Arc<Concurrent>,
    meter: Arc<Meter>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.instance.life.meters).retain(|meter| !Arc::ptr_eq(meter, &self.meter));
        *lock(&self.instance.last_used) = Instant::now();
        self.instance.active.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve_together(
    loaded: Local<Loaded>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    let Call { environment, request, trace, meter, ticket, admitted, .. } = call;
    // The instance's own task wants a core, and not this one.
    drop(ticket);
    let (answer, answered) = oneshot::channel();
    let clock = loaded.engines.clock.run();
    let instance = find_or_start(&loaded, &environment, trace);
    let life = instance.life.clone();
    lock(&life.meters).push(meter.clone());
    let place = Place { instance: instance.clone(), meter: meter.clone() };
    let job = Job {
        request,
        trace,
        meter: meter.clone(),
        answer,
        _place: place,
        _admitted: admitted,
        _clock: clock,
    };
    let sent = instance.jobs.send(job);
    drop(instance);
    let answer = match sent {
        Ok(()) => answered.await,
        Err(_) => return Err(lost(&life)),
    };
    match answer {
        Ok(Ok(response)) => {
            Ok(response.map(|body| Body::stream(SharedBody { body: Some(body), life })))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(lost(&life)),
    }
}

fn lost(life: &Life) -> InvokeError {
    life.lost.get().cloned().unwrap_or_else(|| {
        InvokeError::new(ErrorCode::InstanceLost, "the shared instance ended before it answered")
    })
}

/// A place in an instance that has one, or in a new one. The place is counted already.
fn find_or_start(
    loaded: &Local<Loaded>,
    environment: &Local<Environment>,
    trace: TraceContext,
) -> Arc<Concurrent> {
    let shared = loaded.shared.as_ref().expect("only called for shared functions");
    let settings = &shared.settings;
    let mut running = lock(&shared.running);
    running.retain(|one| !one.jobs.is_closed());
    let most = settings.max_concurrent as usize;
    if let Some(at) = running.iter().position(|one| one.active.load(Ordering::SeqCst) < most) {
        let one = running[at].clone();
        one.active.fetch_add(1, Ordering::SeqCst);
        if one.served.fetch_add(1, Ordering::Relaxed) + 1 >= settings.max_requests {
            running.swap_remove(at);
        }
        return one;
    }
    let (jobs, incoming) = mpsc::unbounded_channel();
    let life = Arc::new(Life::default());
    let one = Arc::new(Concurrent {
        jobs,
        active: AtomicUsize::new(1),
        served: AtomicU32::new(1),
        last_used: Mutex::new(Instant::now()),
        life: life.clone(),
    });
    if settings.max_requests > 1 {
        running.push(one.clone());
    }
    tokio::spawn(live(loaded.clone(), environment.clone(), trace, incoming, life));
    one
}

/// The life of a concurrent instance: until nobody can send it requests any more, or
/// until it traps.
async fn live(
    loaded: Local<Loaded>,
    environment: Local<Environment>,
    trace: TraceContext,
    incoming: mpsc::UnboundedReceiver<Job>,
    life: Arc<Life>,
) {
    let mut store = loaded.new_store(environment.shared(), trace);
    let watch = Arc::new(CpuWatch::default());
    watch.arm(&mut store, loaded.function.limits.cpu_time_ms);
    let result = Metered {
        future: Box::pin(serve_jobs(&loaded, &mut store, incoming)),
        watch,
        life: life.clone(),
    }
    .await;
    let host = store.data_mut();
    if let Err(error) = result {
        let known = Circumstances {
            memory_refused: host.memory.refused,
            memory_limit_bytes: host.memory.limit_bytes,
        };
        let failure = explain(&error, known);
        let meters = std::mem::take(&mut *lock(&life.meters));
        host.log.flush();
        host.log.platform(Level::Error, Some(failure.code), failure.message.clone());
        // Which of several requests trapped is not known: one alone is told why.
        let told = if meters.len() == 1 {
            failure
        } else {
            InvokeError::new(
                ErrorCode::InstanceLost,
                format!("the shared instance ended: {failure}"),
            )
        };
        for meter in &meters {
            meter.fail(told.code);
        }
        let _ = life.lost.set(told);
    } else {
        host.log.flush();
    }
    // Bodies that are still being read end when the store goes, and look for the reason.
    drop(store);
}

async fn serve_jobs(
    loaded: &Loaded,
    store: &mut Store<Host>,
    mut incoming: mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let proxy = loaded.pre.instantiate_async(&mut *store).await?;
    let Proxy::P3(guest) = &proxy else {
        wasmtime::bail!("a component of WASI 0.2 serves its requests in turn");
    };
    store
        .run_concurrent(async |accessor| {
            let mut running = FuturesUnordered::new();
            let mut open = true;
            while open || !running.is_empty() {
                tokio::select! {
                    job = incoming.recv(), if open => match job {
                        Some(job) => running.push(serve_job(accessor, guest, job)),
                        None => open = false,
                    },
                    Some(served) = running.next(), if !running.is_empty() => served?,
                }
            }
            std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::Result::Ok(())
        })
        .await?
}

async fn serve_job(
    accessor: &Accessor<Host>,
    guest: &wasmtime_wasi_http::p3::bindings::Service,
    job: Job,
) -> wasmtime::Result<()> {
    let Job { request, trace, meter, answer, _place, _admitted, _clock } = job;
    accessor.with(|mut store| store.get().begin(trace));
    let served = serve_concurrently(accessor, guest, request, answer).await;
    accessor.with(|mut store| {
        meter.observe_memory_bytes(store.get().memory.used_bytes);
        store.get().log.flush();
    });
    served
}

/// Polls an instance and shares its CPU time among the requests that it serves.
struct Metered<'a> {
    future: Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>,
    watch: Arc<CpuWatch>,
    life: Arc<Life>,
}

impl Future for Metered<'_> {
    type Output = wasmtime::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let future = this.future.as_mut();
        let (polled, took_ns, yielded) = this.watch.poll(|| future.poll(cx));
        if !yielded {
            // The limit is for a run without a pause: whose run it is is not known.
            this.watch.restart();
        }
        let meters = lock(&this.life.meters);
        if let Some(share_ns) = took_ns.checked_div(meters.len() as u64) {
            for meter in meters.iter() {
                meter.add_cpu_ns(share_ns);
            }
        }
        drop(meters);
        polled
    }
}

/// A body that an instance is writing; it breaks off when the instance is lost.
struct SharedBody {
    body: Option<WasiBody>,
    life: Arc<Life>,
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(other) => other,
        };
        self.body = None;
        if let Some(lost) = self.life.lost.get() {
            return Poll::Ready(Some(Err(BodyError::new(lost.code, lost.message.clone()))));
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| BodyError::new(ErrorCode::InvalidResponse, error.to_string()))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
