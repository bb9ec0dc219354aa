//! The host's side of a JavaScript instance: what an operation finds, and what the engine
//! imports.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Instant, SystemTime};

use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
pub(crate) use squall_js::ops::Refusal;
use squall_js::ops::Streams;
use squall_js::recording::Entry;
use squall_js::{DecodeError, Reader, Value};
use squall_types::bindings::{Bindings, CallDepth};
use squall_types::cache::FunctionCaches;
use squall_types::log::{Level, LogSink};
use squall_types::outbound::{Outbound, OutboundPolicy};
use squall_types::shard::Local;
use squall_types::state::FunctionSpec;
use squall_types::trace::TraceContext;
use squall_types::usage::Meter;
use squall_types::{Body, ErrorCode, InvokeError};
use tokio::sync::oneshot;
use wasmtime::{Caller, Linker};

use super::bodies::{Bodies, BodyWriter};
use super::operations::{self, Completion};
use super::tape::Tape;
use crate::host::MemoryLimiter;
use crate::output::{GuestLog, Mapping};

/// Why an operation was not performed.
#[derive(Debug)]
pub(crate) enum Denied {
    Refused(Refusal),
    /// The engine sent bytes that are no message: a defect, or memory that was damaged.
    Broken(DecodeError),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

impl From<DecodeError> for Denied {
    fn from(error: DecodeError) -> Self {
        Denied::Broken(error)
    }
}

/// How a request is answered, once.
pub(crate) type Answer = Result<http::Response<Body>, InvokeError>;

/// A request that an instance serves.
pub(crate) struct Request {
    /// `None` when it has been answered.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
    /// Writes the response's body while the program does.
    pub(crate) body: Option<BodyWriter>,
    pub(crate) trace: TraceContext,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: Arc<GuestLog>,
    /// Outbound requests that it may still make.
    pub(crate) outbound_left: Arc<AtomicU32>,
    pub(crate) depth: CallDepth,
    /// It is no HTTP request: what it is answered with is that it has ended.
    pub(crate) is_scheduled: bool,
    /// Whoever asked is gone: what is left undone surprises nobody.
    pub(crate) client_left: bool,
    /// The program has its signal, and may wait for nothing else.
    pub(crate) heeds_client: bool,
}

/// What an instance knows of the function that it belongs to for now.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) function: Arc<FunctionSpec>,
    /// The answer to `op::ENV`.
    pub(crate) env: Vec<u8>,
    pub(crate) outbound: Arc<dyn Outbound>,
    pub(crate) policy: Arc<OutboundPolicy>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) stacks: Arc<dyn Stacks>,
    pub(crate) bindings: Arc<dyn Bindings>,
    pub(crate) caches: Arc<dyn FunctionCaches>,
}

impl World {
    /// Puts positions of the bundle at their places in the sources.
    pub(crate) fn mapping(&self) -> Mapping {
        let (stacks, function) = (self.stacks.clone(), self.function.clone());
        Arc::new(move |text| stacks.map(&function, text))
    }
}

/// Finds the places of a bundle in the sources that it was made of.
pub trait Stacks: Send + Sync + 'static {
    /// `stack` with its positions in the sources, as far as they are known. May read from
    /// disk.
    fn map(&self, function: &FunctionSpec, stack: &str) -> String;
}

/// Top-level code on its way to a snapshot.
#[derive(Default)]
pub(crate) struct Load {
    /// The answer to `op::ENV`: variables, and secrets by name alone.
    pub(crate) env: Vec<u8>,
    /// What it wrote to the console: level and text.
    pub(crate) log: Vec<(Level, String)>,
}

/// Host memory that the compressions and decoders of an instance may take.
const STREAM_BYTES_MAX: usize = 64 << 20;

/// The data of a store.
pub(crate) struct Host {
    pub(crate) memory: Option<wasmtime::Memory>,
    pub(crate) limiter: MemoryLimiter,
    /// `None` while an instance waits for a function, and at load.
    pub(crate) world: Option<Local<World>>,
    /// Only at load.
    pub(crate) load: Option<Load>,
    pub(crate) requests: HashMap<u32, Request>,
    /// The request that this turn belongs to; 0 is none.
    pub(crate) current: u32,
    /// The log of the request that ended in this turn: its program may not be done yet.
    pub(crate) ended: Option<(u32, Arc<GuestLog>)>,
    pub(crate) tape: Tape,
    pub(crate) bodies: Bodies,
    pub(crate) streams: Streams,
    /// Bodies that the program writes, of fetches and for caches, by the number of the operation; with the
    /// request that each belongs to.
    pub(crate) sending: HashMap<u32, (u32, BodyWriter)>,
    pub(crate) operations: FuturesUnordered<Abortable<BoxFuture<'static, Completion>>>,
    under_way: HashMap<u32, AbortHandle>,
    last_operation: u32,
    began: Instant,
    /// The wall clock stands still within a turn.
    wall_clock_ms: Option<f64>,
    reply: Vec<u8>,
    /// A reply that did not fit where the engine had room for it.
    waiting: Vec<u8>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            memory: None,
            limiter: MemoryLimiter::new(u64::MAX),
            world: None,
            load: None,
            requests: HashMap::new(),
            current: 0,
            ended: None,
            tape: Tape::Off,
            bodies: Bodies::default(),
            streams: Streams::new(STREAM_BYTES_MAX),
            sending: HashMap::new(),
            operations: FuturesUnordered::new(),
            under_way: HashMap::new(),
            last_operation: 0,
            began: Instant::now(),
            wall_clock_ms: None,
            reply: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// A program begins: nothing of the one before is left.
    pub(crate) fn begin(&mut self, world: Local<World>, memory_bytes: u64) {
        self.clear();
        // The engine itself takes the first part of every memory; a limit below that is
        // one that no function could meet.
        let limit_bytes = world.function.limits.memory_bytes.max(memory_bytes);
        self.limiter = MemoryLimiter::new(limit_bytes);
        self.limiter.used_bytes = memory_bytes;
        self.world = Some(world);
        self.began = Instant::now();
    }

    /// Lets go of everything that belonged to a program.
    pub(crate) fn clear(&mut self) {
        self.world = None;
        self.requests.clear();
        self.current = 0;
        self.ended = None;
        self.tape = Tape::Off;
        self.bodies.clear();
        if self.streams.count() > 0 {
            self.streams = Streams::new(STREAM_BYTES_MAX);
        }
        self.sending.clear();
        if !self.operations.is_empty() {
            self.operations = FuturesUnordered::new();
        }
        self.under_way.clear();
        self.last_operation = 0;
    }

    pub(crate) fn begin_turn(&mut self, request: u32) {
        self.current = request;
        self.ended = None;
        self.wall_clock_ms = None;
    }

    /// The log that this turn writes to.
    pub(crate) fn log(&self) -> Option<&Arc<GuestLog>> {
        let ended = self.ended.as_ref().filter(|(request, _)| *request == self.current);
        let current = self.requests.get(&self.current).map(|request| &request.log);
        current.or(ended.map(|(_, log)| log))
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_clock_ms(&mut self) -> f64 {
        *self.wall_clock_ms.get_or_insert_with(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_secs_f64() * 1000.0
        })
    }

    /// Milliseconds since the program began.
    pub(crate) fn monotonic_ms(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    /// The operation's completion is about to be delivered.
    pub(crate) fn completed(&mut self, operation: u32) {
        self.under_way.remove(&operation);
    }

    fn start(&mut self, operation: u32, message: &[u8]) -> Result<u32, DecodeError> {
        self.last_operation += 1;
        let number = self.last_operation;
        let begun = operations::begin(self, number, operation, message);
        let future = match begun {
            Ok(future) => future,
            Err(Denied::Broken(error)) => return Err(error),
            // What was started is refused by its completion.
            Err(Denied::Refused(refusal)) => operations::refused(refusal),
        };
        let request = self.current;
        let numbered: BoxFuture<'static, Completion> =
            Box::pin(
                async move { Completion { operation: number, request, outcome: future.await } },
            );
        let (handle, registration) = AbortHandle::new_pair();
        self.under_way.insert(number, handle);
        self.operations.push(Abortable::new(numbered, registration));
        Ok(number)
    }

    fn cancel(&mut self, operation: u32) {
        if let Some(handle) = self.under_way.remove(&operation) {
            handle.abort();
        }
        self.sending.remove(&operation);
    }
}

/// An exception that nobody caught, as the engine tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) stack: String,
}

impl Exception {
    /// From `[name, message, stack]`.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut parts = match Value::decode(bytes) {
            Ok(Value::Array(parts)) => parts.into_iter(),
            _ => Vec::new().into_iter(),
        };
        let mut text = || match parts.next() {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        Self { name: text(), message: text(), stack: text() }
    }

    /// `TypeError: x is not a function`
    pub(crate) fn title(&self) -> String {
        match (self.name.as_str(), self.message.as_str()) {
            ("", message) => message.to_owned(),
            (name, "") => name.to_owned(),
            (name, message) => format!("{name}: {message}"),
        }
    }

    /// The title and, below it, the stack.
    pub(crate) fn full(&self) -> String {
        match self.stack.trim_end() {
            "" => self.title(),
            stack => format!("{}\n{stack}", self.title()),
        }
    }
}

impl Request {
    /// The program failed this request: its log says where, its caller only that. With
    /// `pass_through` the caller gets a static asset, where there is one.
    pub(crate) fn fail(
        &mut self,
        world: &Local<World>,
        code: ErrorCode,
        exception: Exception,
        pass_through: bool,
    ) {
        let title = exception.title();
        self.meter.fail(code);
        self.log.exception(code, exception.full(), &world.mapping());
        if let Some(answer) = self.answer.take() {
            let mut failure = InvokeError::new(code, title);
            failure.pass_through = pass_through;
            // Nobody listens any more when the client has left.
            let _ = answer.send(Err(failure));
        } else if let Some(body) = self.body.take() {
            body.fail(&title);
        }
    }
}

/// What the engine imports, all of it in the module `squall`.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("squall", "call", import_call)?;
    linker.func_wrap("squall", "take", import_take)?;
    linker.func_wrap("squall", "start", import_start)?;
    linker.func_wrap("squall", "cancel", import_cancel)?;
    Ok(linker)
}

/// The memory of an instance, and its host's side.
fn inside<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<(&'a mut [u8], &'a mut Host)> {
    let memory = caller.data().memory;
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("an instance without memory"))?;
    Ok(memory.data_and_store_mut(caller))
}

fn message(memory: &[u8], at: u32, length: u32) -> wasmtime::Result<&[u8]> {
    memory
        .get(at as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or_else(|| wasmtime::Error::msg("a message lies outside of the memory"))
}

/// The length of the reply, below zero when it is a refusal. A reply that is longer than
/// `capacity` waits for `take`.
fn import_call(
    mut caller: Caller<'_, Host>,
    operation: u32,
    at: u32,
    length: u32,
    out: u32,
    capacity: u32,
) -> wasmtime::Result<i32> {
    let (memory, host) = inside(&mut caller)?;
    let arguments = message(memory, at, length)?;
    let mut reply = std::mem::take(&mut host.reply);
    reply.clear();
    let refused =
        if let Some((refused, recorded)) = host.tape.reply_to_call(operation, arguments)? {
            reply.extend_from_slice(recorded);
            refused
        } else {
            match operations::perform(host, operation, arguments, &mut reply) {
                Ok(()) => false,
                Err(Denied::Refused(refusal)) => {
                    reply.clear();
                    refusal.write(&mut reply);
                    true
                }
                Err(Denied::Broken(error)) => return Err(broken(operation, error)),
            }
        };
    host.tape.record(|| Entry::Call {
        op: operation,
        arguments: arguments.to_vec(),
        refused,
        reply: reply.clone(),
    });
    let length = i32::try_from(reply.len())
        .map_err(|_| wasmtime::Error::msg("a reply larger than a memory"))?;
    if reply.len() <= capacity as usize {
        write(memory, out, &reply)?;
        host.reply = reply;
    } else {
        host.waiting = reply;
    }
    Ok(if refused { -length } else { length })
}

fn import_take(mut caller: Caller<'_, Host>, out: u32) -> wasmtime::Result<()> {
    let (memory, host) = inside(&mut caller)?;
    let reply = std::mem::take(&mut host.waiting);
    write(memory, out, &reply)
}

fn import_start(
    mut caller: Caller<'_, Host>,
    operation: u32,
    at: u32,
    length: u32,
) -> wasmtime::Result<u32> {
    let (memory, host) = inside(&mut caller)?;
    let arguments = message(memory, at, length)?;
    if let Some(number) = host.tape.number_of_start(operation, arguments)? {
        return Ok(number);
    }
    let number = host.start(operation, arguments).map_err(|error| broken(operation, error))?;
    host.tape.record(|| Entry::Start {
        op: operation,
        arguments: arguments.to_vec(),
        operation: number,
    });
    Ok(number)
}

fn import_cancel(mut caller: Caller<'_, Host>, operation: u32) -> wasmtime::Result<()> {
    let host = caller.data_mut();
    if !host.tape.expects_cancel(operation)? {
        host.cancel(operation);
        host.tape.record(|| Entry::Cancel { operation });
    }
    Ok(())
}

fn write(memory: &mut [u8], at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    let room = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
    match room {
        Some(room) => room.copy_from_slice(bytes),
        None => return Err(wasmtime::Error::msg("a reply would lie outside of the memory")),
    }
    Ok(())
}

fn broken(operation: u32, error: DecodeError) -> wasmtime::Error {
    wasmtime::Error::msg(format!("operation {operation}: {error}"))
}

/// The arguments of an operation as values, for those that are rare.
pub(crate) fn values(message: &[u8]) -> Result<Vec<Value>, DecodeError> {
    match Value::decode(message)? {
        Value::Array(values) => Ok(values),
        _ => Err(DecodeError::Kind("an array")),
    }
}

/// A reader of the arguments, for those that are not.
pub(crate) fn reader(message: &[u8]) -> Result<Reader<'_>, DecodeError> {
    Reader::arguments(message)
}
