//! What is made of JavaScript ahead of its first request: the engine, once for a node, and
//! a snapshot of each function after its top-level code ran. Runs in a child process; see
//! the node's builder.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use squall_js::Writer;
use squall_types::ErrorCode;
use squall_types::build::{BuildError, BuildOutput};
use squall_types::log::Level;
use squall_types::state::HandlerWorld;
use wasmtime::{Engine, ExternType, InstancePre, Module, Mutability, Store};

use super::JsEngine;
use super::host::{Exception, Host, Load};
use super::image::{Places, Snapshot, encode_base};
use super::instance::{Failure, Instance, encode_source, said_by};
use crate::build::write;
use crate::call::CpuWatch;

/// CPU time that top-level code may take.
const LOAD_CPU_MS: u64 = 10_000;
/// Wall time of it: nothing that it can wait for takes long.
const LOAD_WALL: Duration = Duration::from_secs(30);
/// Memory that top-level code may use.
const LOAD_MEMORY_BYTES: u64 = 128 << 20;
/// Bytes that the engine's input buffer has at first.
const INPUT_CAPACITY: u32 = 2048;

/// What the web layer is called in stack traces.
const WEB_LAYER_NAME: &str = "squall:web";
/// What the name of a function's module is in stack traces.
pub const MODULE_NAME: &str = "bundle.js";

/// The two files that the engine becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFiles {
    pub compiled: PathBuf,
    pub base: PathBuf,
}

impl EngineFiles {
    pub fn in_folder(folder: &Path) -> Self {
        Self { compiled: folder.join("engine.cwasm"), base: folder.join("base.image") }
    }

    /// The base is written last.
    pub fn exist(&self) -> bool {
        self.base.exists() && self.compiled.exists()
    }
}

/// Top-level code to run.
pub struct SnapshotJob<'a> {
    /// The module's text.
    pub source: &'a str,
    /// Names and values.
    pub variables: Vec<(String, String)>,
    /// Names and kinds.
    pub bindings: Vec<(String, String)>,
    pub secret_names: Vec<String>,
}

/// Why there is no snapshot.
#[derive(Debug)]
pub enum LoadError {
    /// The code threw, or does not parse. Positions are those in the module.
    Exception {
        title: String,
        stack: String,
    },
    Other(BuildError),
}

impl From<BuildError> for LoadError {
    fn from(error: BuildError) -> Self {
        LoadError::Other(error)
    }
}

fn broken(what: impl std::fmt::Display) -> BuildError {
    BuildError {
        code: ErrorCode::BuildFailed,
        message: format!("the JavaScript engine is not usable: {what:#}"),
    }
}

fn unwritten(error: &std::io::Error) -> BuildError {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageFailed };
    BuildError { code, message: format!("what was built can not be written: {error}") }
}

/// Compiles the engine, and writes its memory with the web layer in it. # Errors
/// Only a defect, or a disk that takes nothing, makes it fail.
pub fn make_engine(files: &EngineFiles) -> Result<(), BuildError> {
    let engine = Engine::new(&super::config()).map_err(broken)?;
    let module = Module::new(&engine, squall_js::ENGINE).map_err(broken)?;
    check_exports(&module)?;
    let (places, memory) = block_on(boot(&engine, &module))?;
    let compiled = module.serialize().map_err(broken)?;
    write(&files.compiled, &compiled).map_err(|error| unwritten(&error))?;
    write(&files.base, &encode_base(&places, &memory)).map_err(|error| unwritten(&error))
}

/// An instance is made new by its memory and its stack pointer: nothing else may change.
fn check_exports(module: &Module) -> Result<(), BuildError> {
    for export in module.exports() {
        let changes = match export.ty() {
            ExternType::Global(global) => global.mutability() == Mutability::Var,
            ExternType::Table(_) | ExternType::Tag(_) => true,
            ExternType::Func(_) | ExternType::Memory(_) => false,
        };
        if changes && export.name() != "__stack_pointer" {
            return Err(broken(format!("its export {} may change", export.name())));
        }
    }
    Ok(())
}

/// The web layer is compiled in one instance and runs in another, so that the memory that
/// every function is based on holds nothing of the compilation.
async fn boot(engine: &Engine, module: &Module) -> Result<(Places, Vec<u8>), BuildError> {
    let linker = super::host::linker(engine).map_err(broken)?;
    let pre = linker.instantiate_pre(module).map_err(broken)?;
    let mut compiling = Raw::new(&pre).await.map_err(broken)?;
    let source = encode_source(WEB_LAYER_NAME, squall_js::WEB_LAYER, false);
    let bytecode = compiling.run("squall_compile", &source).await?.to_vec();
    drop(compiling);

    let mut booting = Raw::new(&pre).await.map_err(broken)?;
    booting.run("squall_boot", &bytecode).await?;
    booting.call::<(), i32>("squall_prepare", ()).await?;
    let input = booting.call::<u32, u32>("squall_buffer", 1).await?;
    let large = booting.call::<u32, u32>("squall_buffer", INPUT_CAPACITY - 1).await?;
    let memory = booting.memory.data(&booting.store).to_vec();
    let places = Places {
        input,
        input_capacity: if input == large { INPUT_CAPACITY } else { 2 },
        interrupt: booting.call("squall_interrupt_flag", ()).await?,
        failure: booting.failure,
        stack_pointer: booting.stack_pointer,
        memory_bytes: u32::try_from(memory.len()).map_err(broken)?,
    };
    Ok((places, memory))
}

/// An instance of the engine before there is a base image.
struct Raw {
    store: Store<Host>,
    exports: wasmtime::Instance,
    memory: wasmtime::Memory,
    failure: u32,
    stack_pointer: u32,
}

impl Raw {
    async fn new(pre: &InstancePre<Host>) -> wasmtime::Result<Self> {
        let missing = |what: &str| wasmtime::Error::msg(format!("it exports no {what}"));
        let mut host = Host::new();
        host.load = Some(Load::default());
        let mut store = Store::new(pre.module().engine(), host);
        store.set_epoch_deadline(u64::MAX / 2);
        let exports = pre.instantiate_async(&mut store).await?;
        let memory = exports.get_memory(&mut store, "memory").ok_or_else(|| missing("memory"))?;
        store.data_mut().memory = Some(memory);
        let pointer = exports.get_global(&mut store, "__stack_pointer");
        let pointer = pointer.ok_or_else(|| missing("stack pointer"))?;
        let stack_pointer = pointer.get(&mut store).unwrap_i32() as u32;
        let mut raw = Self { store, exports, memory, failure: 0, stack_pointer };
        let start = raw.exports.get_typed_func::<(), ()>(&mut raw.store, "_initialize")?;
        start.call_async(&mut raw.store, ()).await?;
        let place = raw.exports.get_typed_func::<(), u32>(&mut raw.store, "squall_out")?;
        raw.failure = place.call_async(&mut raw.store, ()).await?;
        Ok(raw)
    }

    async fn call<P, R>(&mut self, name: &str, parameters: P) -> Result<R, BuildError>
    where
        P: wasmtime::WasmParams + Sync,
        R: wasmtime::WasmResults + Sync,
    {
        let function = self.exports.get_typed_func::<P, R>(&mut self.store, name);
        let called = function.map_err(broken)?.call_async(&mut self.store, parameters).await;
        called.map_err(broken)
    }

    /// Hands `message` to an export; returns what the engine has for the host after that.
    async fn run(&mut self, name: &str, message: &[u8]) -> Result<&[u8], BuildError> {
        let length = u32::try_from(message.len()).map_err(broken)?;
        let at = self.call::<u32, u32>("squall_buffer", length).await?;
        self.memory.write(&mut self.store, at as usize, message).map_err(broken)?;
        let result = self.call::<u32, i32>(name, length).await?;
        let said = said_by(self.memory.data(&self.store), self.failure).unwrap_or_default();
        if result != 0 {
            let exception = Exception::decode(said);
            return Err(broken(format!("{name}: {} {}", exception.title(), exception.stack)));
        }
        Ok(said)
    }
}

/// Runs the top-level code of a module and writes what it changed. # Errors
/// Says what is wrong with the code, with its position, or that the disk took nothing.
pub fn make_snapshot(
    job: &SnapshotJob<'_>,
    files: &EngineFiles,
    output: &Path,
) -> Result<BuildOutput, LoadError> {
    let began = Instant::now();
    let js = JsEngine::new().map_err(broken)?;
    js.open(&files.compiled, &files.base).map_err(broken)?;
    let loaded = {
        let _ticking = Ticking::start(js.engine().clone());
        block_on(load(&js, job))
    };
    let (snapshot, log) = loaded?;
    let encoded = snapshot.encode();
    write(output, &encoded).map_err(|error| unwritten(&error))?;
    let warnings = log
        .into_iter()
        .map(|(level, text)| if level >= Level::Warn { text } else { format!("console: {text}") });
    Ok(BuildOutput {
        world: HandlerWorld::JavaScript,
        artifact_bytes: encoded.len() as u64,
        compile_ms: began.elapsed().as_millis() as u64,
        warnings: warnings.collect(),
    })
}

type Loaded = (Snapshot, Vec<(Level, String)>);

async fn load(js: &JsEngine, job: &SnapshotJob<'_>) -> Result<Loaded, LoadError> {
    let ready = js.ready().map_err(|error| broken(error.message))?;
    let made = Instance::new(&ready.pre, &ready.base, ready.places).await;
    let mut instance = made.map_err(broken)?;
    let host = instance.store.data_mut();
    host.load = Some(Load { env: encode_env(job), log: Vec::new() });
    host.limiter.limit_bytes = LOAD_MEMORY_BYTES;
    let watch = Arc::new(CpuWatch::default());
    instance.arm(&watch, LOAD_CPU_MS);
    let bytecode = compile(js, job.source).await?;
    let mut running = Box::pin(instance.load(&bytecode));
    let watched = poll_fn(|cx| watch.poll(|| running.as_mut().poll(cx)).0);
    let result = tokio::time::timeout(LOAD_WALL, watched).await;
    drop(running);
    match result {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => return Err(explain(failure)),
        Err(_) => return Err(explain(Failure::Interrupted)),
    }
    let memory = instance.seal().await.map_err(explain)?;
    let snapshot = Snapshot::difference(&ready.base, memory);
    let log = instance.store.data_mut().load.take().unwrap_or_default().log;
    Ok((snapshot, log))
}

/// In an instance of its own, so that the snapshot holds nothing of the compilation.
async fn compile(js: &JsEngine, source: &str) -> Result<Vec<u8>, LoadError> {
    let ready = js.ready().map_err(|error| broken(error.message))?;
    let made = Instance::new(&ready.pre, &ready.base, ready.places).await;
    let mut instance = made.map_err(broken)?;
    instance.store.data_mut().limiter.limit_bytes = LOAD_MEMORY_BYTES;
    let source = encode_source(MODULE_NAME, source, true);
    let mut compiling = Box::pin(instance.compile(&source));
    let compiled = tokio::time::timeout(LOAD_WALL, &mut compiling).await;
    compiled.unwrap_or(Err(Failure::Interrupted)).map_err(explain)
}

fn explain(failure: Failure) -> LoadError {
    let top_level =
        |message: String| LoadError::Other(BuildError { code: ErrorCode::TopLevelFailed, message });
    match failure {
        Failure::Exception(exception) => {
            LoadError::Exception { title: exception.title(), stack: exception.stack }
        }
        Failure::Interrupted => top_level(format!(
            "top-level code ran for more than {} s and was stopped; it runs once, at deploy, and should only define things. Look for a loop outside of the handlers",
            LOAD_CPU_MS / 1000
        )),
        Failure::OutOfMemory => top_level(format!(
            "top-level code needed more than {} MiB of memory",
            LOAD_MEMORY_BYTES >> 20
        )),
        Failure::Stuck => top_level(
            "a top-level await never settles: nothing is under way that could settle it".into(),
        ),
        Failure::Trap(error) => top_level(format!("top-level code failed: {error:#}")),
    }
}

/// Variables and bindings, and secrets by their names: top-level code may not read those.
fn encode_env(job: &SnapshotJob<'_>) -> Vec<u8> {
    let variables = job.variables.iter().filter(|(name, _)| !job.secret_names.contains(name));
    let variables: Vec<_> = variables.collect();
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out };
    writer.array(variables.len() + job.secret_names.len() + job.bindings.len());
    let mut entry = |kind: &str, name: &str, value: Option<&str>| {
        writer.array(3);
        writer.str(kind);
        writer.str(name);
        match value {
            Some(value) => writer.str(value),
            None => writer.null(),
        }
    };
    variables.iter().for_each(|(name, value)| entry("text", name, Some(value)));
    job.secret_names.iter().for_each(|name| entry("secret", name, None));
    job.bindings.iter().for_each(|(name, kind)| entry(kind, name, None));
    out
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without I/O needs nothing that could be missing").block_on(future)
}

/// Ticks the epochs of one engine from a thread.
struct Ticking(Arc<AtomicBool>);

impl Ticking {
    fn start(engine: Engine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(crate::engine::EPOCH_TICK * 10);
                engine.increment_epoch();
            }
        });
        Self(stop)
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
