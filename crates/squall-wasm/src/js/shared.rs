//! Instances that serve many requests, by choice: what a program keeps in its globals
//! lives on from one request to the next.
//!
//! An instance lives in a task on one core. Requests are sent to it and take turns: one
//! event or one completion at a time, each charged to the request that it belongs to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_runtime::cores::Ticket;
use squall_runtime::executor::{Admitted, Call};
use squall_types::manifest::SharedInstances as Settings;
use squall_types::shard::{Local, Padded, SHARDS, own_shard};
use squall_types::state::Environment;
use squall_types::trace::TraceContext;
use squall_types::usage::Meter;
use squall_types::{Body, BodyError, ErrorCode, InvokeError};
use tokio::sync::{mpsc, oneshot};

use super::function::{Arrival, JsFunction};
use super::instance::{Failure, Instance};
use super::lock;
use crate::call::CpuWatch;
use crate::clock::Running;

/// Garbage in cycles that an instance gathers until it is collected. Less than a core's
/// cache holds: what is allocated then is memory that was used a moment ago.
const COLLECT_AFTER_BYTES: u32 = 512 << 10;

/// The instances of one function that are alive and take requests, by core.
pub(crate) struct SharedJs {
    settings: Settings,
    running: [Padded<Mutex<Vec<Arc<Alive>>>>; SHARDS],
    /// Those that take no more requests too, as long as they serve some.
    alive: Mutex<Vec<Weak<Alive>>>,
}

impl SharedJs {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, running: Default::default(), alive: Mutex::default() }
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.alive).iter().filter(|one| one.strong_count() > 0).count()
    }

    /// Lets everything finish what it serves and serve nothing more.
    pub(crate) fn retire_all(&self) {
        self.running.iter().for_each(|shelf| lock(&shelf.0).clear());
    }

    /// Retires what has been idle for its time, and has requests ended whose time is up.
    pub(crate) fn sweep(&self) {
        let serving: Vec<Arc<Alive>> = {
            let mut alive = lock(&self.alive);
            alive.retain(|one| one.strong_count() > 0);
            alive.iter().filter_map(Weak::upgrade).collect()
        };
        for one in serving.iter().filter(|one| one.active.load(Ordering::SeqCst) > 0) {
            // One that has ended has nothing to look at.
            let _ = one.jobs.send(Job::EndOverdue);
        }
        let idle = Duration::from_millis(self.settings.idle_ms);
        for shelf in &self.running {
            lock(&shelf.0).retain(|one| {
                one.active.load(Ordering::SeqCst) > 0 || lock(&one.last_used).elapsed() < idle
            });
        }
    }
}

/// An instance, seen from the requests that it serves.
struct Alive {
    jobs: mpsc::UnboundedSender<Job>,
    active: AtomicUsize,
    served: AtomicU32,
    last_used: Mutex<Instant>,
    /// It finishes what it serves and takes nothing more.
    retired: AtomicBool,
    lost: OnceLock<InvokeError>,
}

enum Job {
    Serve(Box<Visit>),
    ClientLeft(u32),
    EndOverdue,
}

/// A request on its way into an instance.
struct Visit {
    id: u32,
    arrival: Arrival,
    deadline: Instant,
    place: Place,
    /// Until its first turn is over, the core is wanted for it.
    ticket: Ticket,
    admitted: Admitted,
    clock: Running,
}

/// A request's place in an instance; freed when the request has ended there.
struct Place(Arc<Alive>);

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.0.last_used) = Instant::now();
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) async fn serve(
    function: Local<JsFunction>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    let Call { environment, request, trace, meter, deadline, ticket, admitted, .. } = call;
    // Memory is the instance's, not the request's.
    meter.mark_estimated();
    let (answer, answered) = oneshot::channel();
    let clock = function.js.clock().run();
    let (alive, id) = find_or_start(&function, &environment);
    let place = Place(alive.clone());
    let arrival = Arrival { request, trace, meter, answer };
    let visit = Box::new(Visit { id, arrival, deadline, place, ticket, admitted, clock });
    if alive.jobs.send(Job::Serve(visit)).is_err() {
        return Err(lost(&alive));
    }
    let mut watched = Watched { alive: Some(alive), id };
    let answer = answered.await;
    let alive = watched.alive.take().expect("taken once");
    match answer {
        Ok(Ok(response)) if response.body().as_full().is_some() => Ok(response),
        Ok(Ok(response)) => Ok(response.map(|body| {
            Body::stream(SharedBody {
                body: Some(body),
                watched: Watched { alive: Some(alive), id },
            })
        })),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(lost(&alive)),
    }
}

fn lost(alive: &Alive) -> InvokeError {
    alive.lost.get().cloned().unwrap_or_else(|| {
        InvokeError::new(ErrorCode::InstanceLost, "the shared instance ended before it answered")
    })
}

/// Tells the instance when whoever holds this goes before the end.
struct Watched {
    alive: Option<Arc<Alive>>,
    id: u32,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(alive) = self.alive.take() {
            // An instance that has ended needs no telling.
            let _ = alive.jobs.send(Job::ClientLeft(self.id));
        }
    }
}

/// A place in an instance of this core that has one, or in a new one; and the number of
/// the request there.
fn find_or_start(
    function: &Local<JsFunction>,
    environment: &Local<Environment>,
) -> (Arc<Alive>, u32) {
    let shared = function.shared.as_ref().expect("only called for shared functions");
    let settings = &shared.settings;
    let mut running = lock(&shared.running[own_shard()].0);
    running.retain(|one| !one.jobs.is_closed() && !one.retired.load(Ordering::SeqCst));
    let most = settings.max_concurrent as usize;
    if let Some(at) = running.iter().position(|one| one.active.load(Ordering::SeqCst) < most) {
        let one = running[at].clone();
        one.active.fetch_add(1, Ordering::SeqCst);
        let id = one.served.fetch_add(1, Ordering::Relaxed) + 1;
        if id >= settings.max_requests {
            running.swap_remove(at);
        }
        return (one, id);
    }
    let (jobs, incoming) = mpsc::unbounded_channel();
    let one = Arc::new(Alive {
        jobs,
        active: AtomicUsize::new(1),
        served: AtomicU32::new(1),
        last_used: Mutex::new(Instant::now()),
        retired: AtomicBool::new(false),
        lost: OnceLock::new(),
    });
    lock(&shared.alive).push(Arc::downgrade(&one));
    if settings.max_requests > 1 {
        running.push(one.clone());
    }
    let weak = Arc::downgrade(&one);
    tokio::spawn(live(function.clone(), environment.clone(), incoming, weak));
    (one, 1)
}

/// The life of an instance: until nobody can send it requests any more and all that it
/// serves have ended, or until it is lost.
async fn live(
    function: Local<JsFunction>,
    environment: Local<Environment>,
    mut incoming: mpsc::UnboundedReceiver<Job>,
    alive: Weak<Alive>,
) {
    let watch = Arc::new(CpuWatch::default());
    let mut life = Life {
        function: &function,
        alive: alive.clone(),
        watch: watch.clone(),
        guests: HashMap::new(),
    };
    let result = {
        let taken = async {
            let world = function.world(environment.shared());
            let mut instance = function.js.take(&function.snapshot, world).await?;
            instance.arm(&watch, function.function.limits.cpu_time_ms);
            let result = match instance.serve_many(COLLECT_AFTER_BYTES).await {
                Ok(()) => life.run(&mut instance, &mut incoming).await,
                Err(failure) => Err(failure),
            };
            Ok::<_, InvokeError>((instance, result))
        };
        Metered { future: Box::pin(taken), watch: watch.clone() }.await
    };
    let guests = std::mem::take(&mut life.guests);
    let failure = match result {
        Ok((instance, Ok(()))) => {
            function.js.give_back(instance);
            return;
        }
        Ok((instance, Err(failure))) => failure.explain(&function.function, instance.store.data()),
        Err(failure) => failure,
    };
    let Some(trace) = guests.values().next().map(|guest| guest.trace) else { return };
    function.log_failure(&function.log(trace), &failure);
    // Which of several requests it was is told by its own log; the others learn that they
    // were not at fault.
    let told = if guests.len() == 1 {
        failure
    } else {
        InvokeError::new(ErrorCode::InstanceLost, format!("the shared instance ended: {failure}"))
    };
    for guest in guests.values() {
        guest.meter.fail(told.code);
    }
    if let Some(alive) = alive.upgrade() {
        let _ = alive.lost.set(told);
    }
    incoming.close();
}

/// A request that has a place here.
struct Guest {
    meter: Arc<Meter>,
    trace: TraceContext,
    deadline: Instant,
    cpu_ns: u64,
    _place: Place,
    _admitted: Admitted,
    _clock: Running,
}

struct Life<'a> {
    function: &'a JsFunction,
    alive: Weak<Alive>,
    watch: Arc<CpuWatch>,
    guests: HashMap<u32, Guest>,
}

impl Life<'_> {
    async fn run(
        &mut self,
        instance: &mut Instance,
        incoming: &mut mpsc::UnboundedReceiver<Job>,
    ) -> Result<(), Failure> {
        let mut open = true;
        while open || !self.guests.is_empty() {
            tokio::select! {
                job = incoming.recv(), if open => match job {
                    Some(job) => self.obey(instance, job).await?,
                    None => open = false,
                },
                Some(completion) = instance.next() => {
                    let request = completion.request;
                    if let Some(guest) = self.guests.get_mut(&request) {
                        guest.cpu_ns += completion.cpu_ns_elsewhere();
                    }
                    self.begin(request);
                    let result = instance.complete(completion).await;
                    self.end(instance, request, result).await?;
                }
                // Nobody can send anything, and nothing is under way that could settle what
                // is left.
                else => {
                    for id in self.guests.keys().copied().collect::<Vec<_>>() {
                        self.give_up(instance, id, Failure::Stuck).await?;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn obey(&mut self, instance: &mut Instance, job: Job) -> Result<(), Failure> {
        match job {
            Job::Serve(visit) => {
                let Visit { id, arrival, deadline, place, ticket, admitted, clock } = *visit;
                let guest = Guest {
                    meter: arrival.meter.clone(),
                    trace: arrival.trace,
                    deadline,
                    cpu_ns: 0,
                    _place: place,
                    _admitted: admitted,
                    _clock: clock,
                };
                self.guests.insert(id, guest);
                self.begin(id);
                let event = arrival.admit(self.function, instance.store.data_mut(), id);
                let result = instance.event(id, event).await;
                drop(ticket);
                self.end(instance, id, result).await
            }
            Job::ClientLeft(id) => {
                if !self.guests.contains_key(&id) {
                    return Ok(());
                }
                self.begin(id);
                let result = instance.abort(id).await;
                self.end(instance, id, result).await
            }
            Job::EndOverdue => {
                let now = Instant::now();
                let overdue = self.guests.iter().filter(|(_, guest)| guest.deadline <= now);
                for id in overdue.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.begin(id);
                    let result = instance.tell(id, "expire").await;
                    self.end(instance, id, result).await?;
                    // Whatever the program made of it: this request is over.
                    instance.store.data_mut().requests.remove(&id);
                    self.guests.remove(&id);
                }
                Ok(())
            }
        }
    }

    /// A turn of this request begins: what it used before counts towards its limit.
    fn begin(&self, request: u32) {
        self.watch.restart_from(self.guests.get(&request).map_or(0, |guest| guest.cpu_ns));
    }

    /// Charges a turn, and lets go of what has ended with it. # Errors
    /// Fails when the instance can not go on.
    async fn end(
        &mut self,
        instance: &mut Instance,
        request: u32,
        result: Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(guest) = self.guests.get_mut(&request) {
            let used_ns = self.watch.used_now_ns();
            guest.meter.add_cpu_ns(used_ns.saturating_sub(guest.cpu_ns));
            guest.cpu_ns = used_ns;
            guest.meter.observe_memory_bytes(instance.memory_bytes());
        }
        match result {
            Ok(()) => {}
            // The program was ended in the middle of something: others go on, but nobody
            // should come to it any more.
            Err(failure @ (Failure::Interrupted | Failure::Exception(_))) => {
                if let Some(alive) = self.alive.upgrade() {
                    alive.retired.store(true, Ordering::SeqCst);
                }
                self.give_up(instance, request, failure).await?;
            }
            Err(lost) => return Err(lost),
        }
        let host = instance.store.data();
        if host.requests.len() < self.guests.len() {
            self.guests.retain(|id, _| host.requests.contains_key(id));
        }
        Ok(())
    }

    /// Ends one request with a failure of its own.
    async fn give_up(
        &mut self,
        instance: &mut Instance,
        id: u32,
        failure: Failure,
    ) -> Result<(), Failure> {
        let failure = failure.explain(&self.function.function, instance.store.data());
        if let Some(mut request) = instance.store.data_mut().requests.remove(&id) {
            request.meter.fail(failure.code);
            self.function.log_failure(&request.log, &failure);
            if let Some(body) = request.body.take() {
                body.fail(&failure.message);
            }
            if let Some(answer) = request.answer.take() {
                // Nobody listens any more when the client has left.
                let _ = answer.send(Err(failure));
            }
        }
        instance.end_interrupt();
        self.watch.restart_from(0);
        // What it left in the program is cancelled; it can not fail once more.
        let ended = instance.tell(id, "expire").await;
        self.guests.remove(&id);
        match ended {
            Ok(()) | Err(Failure::Exception(_)) => Ok(()),
            Err(lost) => Err(lost),
        }
    }
}

/// Polls an instance's life under its watch.
struct Metered<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    watch: Arc<CpuWatch>,
}

impl<T> Future for Metered<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let future = this.future.as_mut();
        this.watch.poll(|| future.poll(cx)).0
    }
}

/// A body that an instance is writing; it breaks off when the instance is lost.
struct SharedBody {
    /// `None` after its end.
    body: Option<Body>,
    watched: Watched,
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
        let alive = self.watched.alive.take();
        if let Some(lost) = alive.as_ref().and_then(|alive| alive.lost.get()) {
            return Poll::Ready(Some(Err(BodyError::new(lost.code, lost.message.clone()))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
