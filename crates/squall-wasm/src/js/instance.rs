//! One instance of the engine: its exports, its turns, and making it new again.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use squall_js::Writer;
use squall_js::recording::Entry;
use squall_types::shard::Local;
use wasmtime::{Global, InstancePre, Store, TypedFunc, Val};

use super::compute::Computed;
use super::fetch::Fetched;
use super::host::{Exception, Host, World};
use super::image::{BaseImage, Places, Snapshot};
use super::memory::{Memory, PrivatePages};
use super::operations::{Completion, Outcome};
use super::tape::Tape;
use crate::call::CpuWatch;
use crate::failure::CpuTimeUp;
use crate::host::MemoryLimiter;

/// Why a program can not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An exception that the engine gave to nobody.
    Exception(Exception),
    /// The host ended it: its CPU time was up.
    Interrupted,
    OutOfMemory,
    /// Nothing is under way any more, and somebody waits.
    Stuck,
    Trap(wasmtime::Error),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Failure::Trap(error)
    }
}

/// What the engine's exports return; see `guest/glue/engine.h`.
const DONE: i32 = 0;
const EXCEPTION: i32 = 1;
const INTERRUPTED: i32 = 2;
const PENDING: i32 = 3;

/// An instance whose memory has grown beyond this is not used again.
const REUSABLE_BYTES: usize = 64 << 20;

/// CPU time that an interrupted program gets to react in.
const INTERRUPT_GRACE_NS: u64 = 100_000_000;

pub(crate) struct Instance {
    pub(crate) store: Store<Host>,
    exports: wasmtime::Instance,
    memory: wasmtime::Memory,
    stack_pointer: Global,
    buffer: TypedFunc<u32, u32>,
    event: TypedFunc<u32, i32>,
    complete: TypedFunc<(u32, u32, u32), i32>,
    places: Places,
    /// The input buffer that the program has now.
    input: u32,
    input_capacity: u32,
    message: Vec<u8>,
    private: PrivatePages,
}

impl Instance {
    /// An instance whose memory is the base image.
    pub(crate) async fn new(
        pre: &InstancePre<Host>,
        base: &BaseImage,
        places: Places,
    ) -> wasmtime::Result<Self> {
        let mut store = Store::new(pre.module().engine(), Host::new());
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1_000_000);
        let instance = pre.instantiate_async(&mut store).await?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("the engine exports no memory"))?;
        let stack_pointer = instance
            .get_global(&mut store, "__stack_pointer")
            .ok_or_else(|| wasmtime::Error::msg("the engine exports no stack pointer"))?;
        grow(&mut store, memory, places.memory_bytes as usize)?;
        Memory::new(memory.data_mut(&mut store)).attach(base)?;
        store.data_mut().memory = Some(memory);
        Ok(Self {
            buffer: instance.get_typed_func(&mut store, "squall_buffer")?,
            event: instance.get_typed_func(&mut store, "squall_event")?,
            complete: instance.get_typed_func(&mut store, "squall_complete")?,
            exports: instance,
            store,
            memory,
            stack_pointer,
            places,
            input: places.input,
            input_capacity: places.input_capacity,
            message: Vec::new(),
            private: PrivatePages::default(),
        })
    }

    /// Makes it an instance of a function that has served nothing yet. Returns how many
    /// pages the last program had made private. # Errors
    /// An instance that failed to become new must not be used.
    pub(crate) fn renew(
        &mut self,
        base: &BaseImage,
        snapshot: &Snapshot,
        world: Local<World>,
    ) -> io::Result<usize> {
        // A memory that an earlier program grew stays as large: whoever asks for more gets
        // what lies behind it. What counts towards the limit is what this program asks for.
        self.store.data_mut().limiter = MemoryLimiter::new(u64::MAX);
        grow(&mut self.store, self.memory, snapshot.memory_bytes()).map_err(io::Error::other)?;
        let mut memory = Memory::new(self.memory.data_mut(&mut self.store));
        let pages = memory.restore(base, snapshot, &mut self.private)?;
        self.stack_pointer
            .set(&mut self.store, Val::I32(self.places.stack_pointer as i32))
            .map_err(io::Error::other)?;
        self.input = self.places.input;
        self.input_capacity = self.places.input_capacity;
        self.store.data_mut().begin(world, snapshot.memory_bytes() as u64);
        Ok(pages)
    }

    /// Has the program yield at each tick, interrupts it when its account holds more than
    /// `limit_ms`, and traps it when it does not react to that.
    pub(crate) fn arm(&mut self, watch: &Arc<CpuWatch>, limit_ms: u64) {
        let watch = watch.clone();
        let limit_ns = limit_ms.saturating_mul(1_000_000);
        let interrupt = self.places.interrupt as usize;
        let memory = self.memory;
        self.store.set_epoch_deadline(1);
        self.store.epoch_deadline_callback(move |mut store| {
            let used_ns = watch.used_now_ns();
            if used_ns > limit_ns {
                if used_ns > limit_ns.saturating_add(INTERRUPT_GRACE_NS) {
                    return Err(CpuTimeUp { limit_ms }.into());
                }
                memory.data_mut(&mut store)[interrupt] = 1;
            }
            Ok(watch.end_turn())
        });
    }

    /// It will serve many requests, and collects garbage when so many more bytes are
    /// allocated than now.
    pub(crate) async fn serve_many(&mut self, collect_after_bytes: u32) -> Result<(), Failure> {
        let name = "squall_serve_many";
        let serve_many = self.exports.get_typed_func::<u32, ()>(&mut self.store, name)?;
        Ok(serve_many.call_async(&mut self.store, collect_after_bytes).await?)
    }

    /// The interrupted program may run again, for another request.
    pub(crate) fn end_interrupt(&mut self) {
        let interrupt = self.places.interrupt as usize;
        self.memory.data_mut(&mut self.store)[interrupt] = 0;
    }

    /// Tells a request that its client has left.
    pub(crate) async fn abort(&mut self, request: u32) -> Result<(), Failure> {
        if let Some(known) = self.store.data_mut().requests.get_mut(&request) {
            known.client_left = true;
        }
        self.tell(request, "abort").await
    }

    /// Delivers an event that says nothing but whom it is for.
    pub(crate) async fn tell(&mut self, request: u32, what: &str) -> Result<(), Failure> {
        self.event(request, |writer| {
            writer.array(2);
            writer.str(what);
            writer.int(request as i32);
        })
        .await
    }

    /// Whether it may become new again after it served.
    pub(crate) fn is_reusable(&self) -> bool {
        self.memory.data_size(&self.store) <= REUSABLE_BYTES
    }

    /// Memory that the program has asked for.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.used_bytes
    }

    /// Delivers an event that belongs to `request`, and runs what it sets off.
    pub(crate) async fn event(
        &mut self,
        request: u32,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Failure> {
        self.store.data_mut().begin_turn(request);
        self.message.clear();
        write(&mut Writer { out: &mut self.message });
        let message = &self.message;
        self.store.data_mut().tape.record(|| Entry::Event { request, message: message.clone() });
        self.deliver_event().await
    }

    async fn deliver_event(&mut self) -> Result<(), Failure> {
        let length = self.put_message().await?;
        let result = self.event.call_async(&mut self.store, length).await?;
        self.outcome(result)
    }

    /// The bytecode of a module, from `encode_source`. The instance must be as it was made, and
    /// is good for nothing else afterwards.
    pub(crate) async fn compile(&mut self, source: &[u8]) -> Result<Vec<u8>, Failure> {
        let compile = self.exports.get_typed_func::<u32, i32>(&mut self.store, "squall_compile")?;
        self.message.clear();
        self.message.extend_from_slice(source);
        let length = self.put_message().await?;
        let result = compile.call_async(&mut self.store, length).await?;
        self.outcome(result)?;
        let said = said_by(self.memory.data(&self.store), self.places.failure);
        Ok(said.unwrap_or_default().to_vec())
    }

    /// Runs the top-level code of a module that was compiled. The instance must be as it was
    /// made.
    pub(crate) async fn load(&mut self, bytecode: &[u8]) -> Result<(), Failure> {
        let load = self.exports.get_typed_func::<u32, i32>(&mut self.store, "squall_load")?;
        self.message.clear();
        self.message.extend_from_slice(bytecode);
        let length = self.put_message().await?;
        let mut result = load.call_async(&mut self.store, length).await?;
        while result == PENDING {
            let completion = self.next().await.ok_or(Failure::Stuck)?;
            self.complete(completion).await?;
            result = load.call_async(&mut self.store, 0).await?;
        }
        self.outcome(result)
    }

    /// The memory as a snapshot wants it; nothing may run here any more. # Errors
    /// Fails when something else than the memory is not as it was at first.
    pub(crate) async fn seal(&mut self) -> Result<&[u8], Failure> {
        let prepare = self.exports.get_typed_func::<(), i32>(&mut self.store, "squall_prepare")?;
        let result = prepare.call_async(&mut self.store, ()).await?;
        self.outcome(result)?;
        let pointer = self.stack_pointer.get(&mut self.store).unwrap_i32() as u32;
        if pointer != self.places.stack_pointer {
            return Err(Failure::Trap(wasmtime::Error::msg("the stack pointer did not come back")));
        }
        Ok(self.memory.data(&self.store))
    }

    /// Waits for something that is under way and delivers it. `None` when nothing is.
    pub(crate) async fn next(&mut self) -> Option<Completion> {
        loop {
            // What was cancelled is passed over.
            if let Ok(completion) = self.store.data_mut().operations.next().await? {
                return Some(completion);
            }
        }
    }

    pub(crate) async fn complete(&mut self, completion: Completion) -> Result<(), Failure> {
        let Completion { operation, request, outcome } = completion;
        let host = self.store.data_mut();
        host.completed(operation);
        host.begin_turn(request);
        self.message.clear();
        let refused = write_outcome(host, outcome, &mut self.message);
        let message = &self.message;
        host.tape.record(|| Entry::Completion {
            request,
            operation,
            refused,
            message: message.clone(),
        });
        self.deliver_completion(operation, refused).await
    }

    async fn deliver_completion(&mut self, operation: u32, refused: bool) -> Result<(), Failure> {
        let length = self.put_message().await?;
        let arguments = (operation, u32::from(refused), length);
        let result = self.complete.call_async(&mut self.store, arguments).await?;
        self.outcome(result)
    }

    /// Runs what was recorded of an instance once more: the world is the recording, and
    /// whatever the program does is compared with it. The instance must be as it was made.
    pub(crate) async fn replay(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        self.store.data_mut().tape = Tape::Replaying { entries, at: 0 };
        loop {
            let next = self.store.data_mut().tape.next_of_the_host();
            let next = next.map_err(|divergence| Failure::Trap(divergence.into()))?;
            match next {
                Some(Entry::Event { request, message }) => {
                    self.store.data_mut().begin_turn(request);
                    self.message = message;
                    self.deliver_event().await?;
                }
                Some(Entry::Completion { request, operation, refused, message }) => {
                    self.store.data_mut().begin_turn(request);
                    self.message = message;
                    self.deliver_completion(operation, refused).await?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Writes the message to where the engine reads it; returns its length.
    async fn put_message(&mut self) -> Result<u32, Failure> {
        let length = u32::try_from(self.message.len()).map_err(|_| Failure::OutOfMemory)?;
        // The engine puts a zero behind a message.
        if length >= self.input_capacity {
            self.input = self.buffer.call_async(&mut self.store, length).await?;
            if self.input == 0 {
                return Err(Failure::OutOfMemory);
            }
            self.input_capacity = length + 1;
        }
        self.memory
            .write(&mut self.store, self.input as usize, &self.message)
            .map_err(|error| Failure::Trap(error.into()))?;
        Ok(length)
    }

    fn outcome(&mut self, result: i32) -> Result<(), Failure> {
        match result {
            DONE => Ok(()),
            EXCEPTION | PENDING => Err(Failure::Exception(self.exception())),
            INTERRUPTED => Err(Failure::Interrupted),
            _ => Err(Failure::OutOfMemory),
        }
    }

    /// What the engine says about its last failure.
    fn exception(&self) -> Exception {
        let said = said_by(self.memory.data(&self.store), self.places.failure);
        Exception::decode(said.unwrap_or_default())
    }
}

/// What the engine has for the host, whose place and length are at `at`.
pub(crate) fn said_by(memory: &[u8], at: u32) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = memory.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let at = at as usize;
    memory.get(word(at)?..)?.get(..word(at + 4)?)
}

/// The message that `squall_compile` takes.
pub(crate) fn encode_source(name: &str, source: &str, is_module: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(source.len() + name.len() + 32);
    let mut writer = Writer { out: &mut message };
    writer.array(3);
    writer.str(name);
    writer.str(source);
    writer.bool(is_module);
    message
}

fn grow(store: &mut Store<Host>, memory: wasmtime::Memory, bytes: usize) -> wasmtime::Result<()> {
    let missing = bytes.saturating_sub(memory.data_size(&*store));
    if missing > 0 {
        memory.grow(store, missing.div_ceil(64 << 10) as u64)?;
    }
    Ok(())
}

/// Writes what a program learns of an operation; returns whether it is a refusal.
fn write_outcome(host: &mut Host, outcome: Outcome, message: &mut Vec<u8>) -> bool {
    let result = match outcome {
        Outcome::Fetched(fetched) => {
            write_fetched(host, *fetched, message);
            return false;
        }
        Outcome::Value(result) | Outcome::Computed(Computed::Value(result), _) => result,
        Outcome::Computed(Computed::Written(written), _) => host.streams.end_write(written),
    };
    match result {
        Ok(value) => {
            value.encode(message);
            false
        }
        Err(refusal) => {
            refusal.write(message);
            true
        }
    }
}

fn write_fetched(host: &mut Host, fetched: Fetched, message: &mut Vec<u8>) {
    let (head, body) = fetched.response.into_parts();
    let mut writer = Writer { out: message };
    writer.array(6);
    writer.int(head.status.as_u16().into());
    match head.extensions.get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => writer.latin1(reason.as_bytes()),
        None => writer.str(head.status.canonical_reason().unwrap_or_default()),
    }
    writer.array(head.headers.len() * 2);
    for (name, value) in &head.headers {
        writer.str(name.as_str());
        writer.latin1(value.as_bytes());
    }
    if http_body::Body::is_end_stream(&body) {
        writer.null();
    } else {
        writer.int(host.bodies.insert(host.current, body) as i32);
    }
    writer.str(&fetched.url);
    writer.bool(fetched.redirected);
}
