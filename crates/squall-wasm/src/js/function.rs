//! A JavaScript function that is ready to be called.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arc_swap::ArcSwapOption;
use squall_js::Writer;
use squall_js::recording::Recording;
use squall_types::bindings::{Bindings, CallDepth};
use squall_types::cache::FunctionCaches;
use squall_types::invoke::Scheduled;
use squall_types::log::LogSink;
use squall_types::outbound::{Outbound, OutboundPolicy};
use squall_types::shard::{Local, Spread};
use squall_types::state::{Environment, FunctionSpec};
use squall_types::trace::TraceContext;
use squall_types::usage::Meter;
use squall_types::{Body, ErrorCode, InvokeError};
use tokio::sync::oneshot;

use super::JsEngine;
use super::host::{Answer, Host, Request, Stacks, World};
use super::image::Snapshot;
use super::instance::{Failure, Instance};
use super::shared::SharedJs;
use super::tape::{Divergence, RecordingSink, Tape};
use crate::failure::{Circumstances, explain};
use crate::output::{GuestLog, LogOwner};

pub(crate) struct JsFunction {
    pub(crate) function: Arc<FunctionSpec>,
    pub(crate) js: Arc<JsEngine>,
    pub(crate) snapshot: Snapshot,
    /// Without its environment, which may change.
    world: World,
    /// The newest environment that was asked for, as the program receives it.
    environment: ArcSwapOption<(Arc<Environment>, Spread<World>)>,
    log_owner: Spread<LogOwner>,
    pub(crate) shared: Option<SharedJs>,
    pub(crate) recordings: Option<Arc<dyn RecordingSink>>,
}

/// What functions have in common.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) js: Arc<JsEngine>,
    pub(crate) outbound: Arc<dyn Outbound>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) stacks: Arc<dyn Stacks>,
    pub(crate) bindings: Arc<dyn Bindings>,
    pub(crate) caches: Arc<dyn FunctionCaches>,
    pub(crate) recordings: Option<Arc<dyn RecordingSink>>,
}

impl JsFunction {
    /// Reads a function's snapshot. # Errors
    /// Fails when it is not there or damaged, or when the engine is not compiled yet.
    pub(crate) fn load(
        function: Arc<FunctionSpec>,
        snapshot: &Path,
        policy: Arc<OutboundPolicy>,
        surroundings: Surroundings,
    ) -> Result<Arc<Self>, InvokeError> {
        surroundings.js.ready()?;
        let snapshot = Snapshot::read(snapshot).map_err(|error| {
            let message = format!("the function's snapshot can not be read: {error}");
            InvokeError::new(ErrorCode::ArtifactUnavailable, message).retry_after_s(5)
        })?;
        let Surroundings { js, outbound, logs, stacks, bindings, caches, recordings } =
            surroundings;
        let world = World {
            function: function.clone(),
            env: Vec::new(),
            outbound,
            policy,
            logs,
            stacks,
            bindings,
            caches,
        };
        let log_owner = LogOwner { function: function.clone(), sink: world.logs.clone() };
        let shared = (function.mode == squall_types::manifest::InstanceMode::Shared)
            .then(|| SharedJs::new(function.shared.clone()));
        Ok(Arc::new(Self {
            function,
            js,
            snapshot,
            world,
            environment: ArcSwapOption::empty(),
            log_owner: Spread::new(log_owner),
            shared,
            recordings,
        }))
    }

    /// Hands on what was recorded of an instance, if anything was.
    pub(crate) fn keep_recording(&self, instance: &mut Instance) {
        if let (Some(sink), Tape::Recording(entries)) =
            (&self.recordings, std::mem::take(&mut instance.store.data_mut().tape))
        {
            let (engine, snapshot) = (self.js.key().to_owned(), self.snapshot.identity());
            sink.recorded(&self.function, Recording { engine, snapshot, entries });
        }
    }

    /// Runs a recorded instance of this function once more. # Errors
    /// Fails where the program does something else than what was recorded.
    pub(crate) async fn replay(&self, recording: Recording) -> Result<(), Divergence> {
        let at_start = |what: &str| Divergence { at: 0, what: what.to_owned() };
        if recording.engine != self.js.key() {
            return Err(at_start("it was made with another engine"));
        }
        if recording.snapshot != self.snapshot.identity() {
            return Err(at_start("it was made with other code"));
        }
        let taken = self.js.take(&self.snapshot, Arc::new(self.world.clone()).into()).await;
        let mut instance = taken.map_err(|error| at_start(&error.message))?;
        instance.arm(&Arc::default(), u64::MAX);
        match instance.replay(recording.entries).await {
            Ok(()) => {
                self.js.give_back(instance);
                Ok(())
            }
            Err(Failure::Trap(error)) => Err(error
                .downcast::<Divergence>()
                .unwrap_or_else(|error| at_start(&format!("the program failed: {error:#}")))),
            Err(failure) => Err(at_start(&format!("the program failed: {failure:?}"))),
        }
    }

    pub(crate) fn environment_changed(&self) {
        self.environment.store(None);
        if let Some(shared) = &self.shared {
            shared.retire_all();
        }
    }

    pub(crate) fn world(&self, environment: &Arc<Environment>) -> Local<World> {
        if let Some(known) = &*self.environment.load()
            && Arc::ptr_eq(&known.0, environment)
        {
            return known.1.own();
        }
        let env = encode_env(&self.function, environment);
        let world = Spread::new(World { env, ..self.world.clone() });
        let own = world.own();
        self.environment.store(Some(Arc::new((environment.clone(), world))));
        own
    }

    pub(crate) fn log(&self, trace: TraceContext) -> Arc<GuestLog> {
        GuestLog::new(self.log_owner.own(), trace)
    }

    /// Tells the owner why a request failed.
    pub(crate) fn log_failure(&self, log: &Arc<GuestLog>, failure: &InvokeError) {
        log.exception(failure.code, failure.message.clone(), &self.world.mapping());
    }
}

/// The answer to `op::ENV`. Secrets go over variables of the same name.
fn encode_env(function: &FunctionSpec, environment: &Environment) -> Vec<u8> {
    let mut merged = function.variables.clone();
    merged.extend(environment.secrets.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out };
    // A secret may have been set after the deployment, under the name of a binding.
    let bindings = function.bindings.iter().filter(|(name, _)| !merged.contains_key(*name));
    let bindings: Vec<_> = bindings.collect();
    writer.array(merged.len() + bindings.len());
    for (name, value) in &merged {
        writer.array(3);
        writer.str("text");
        writer.str(name);
        writer.str(value);
    }
    for (name, binding) in bindings {
        writer.array(3);
        writer.str(binding.kind());
        writer.str(name);
        writer.null();
    }
    out
}

/// A request as it is handed to an instance.
pub(crate) struct Arrival {
    pub(crate) request: http::Request<Body>,
    pub(crate) trace: TraceContext,
    pub(crate) meter: Arc<Meter>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

impl Arrival {
    /// Makes the host know the request and writes the event that tells the program.
    pub(crate) fn admit(
        self,
        function: &JsFunction,
        host: &mut Host,
        id: u32,
    ) -> impl FnOnce(&mut Writer<'_>) + use<> {
        let Arrival { request, trace, meter, answer } = self;
        let (mut head, body) = request.into_parts();
        let scheduled = head.extensions.remove::<Scheduled>();
        let depth = head.extensions.get::<CallDepth>().copied().unwrap_or_default();
        let size = http_body::Body::size_hint(&body).exact();
        let body = (!http_body::Body::is_end_stream(&body)).then(|| host.bodies.insert(id, body));
        host.requests.insert(
            id,
            Request {
                answer: Some(answer),
                body: None,
                trace,
                meter,
                log: function.log(trace),
                outbound_left: Arc::new(AtomicU32::new(function.function.limits.outbound_requests)),
                depth,
                is_scheduled: scheduled.is_some(),
                client_left: false,
                heeds_client: false,
            },
        );
        move |writer| {
            if let Some(scheduled) = scheduled {
                writer.array(4);
                writer.str("scheduled");
                writer.int(id as i32);
                writer.str(&scheduled.cron);
                writer.float(scheduled.time_ms as f64);
                return;
            }
            writer.array(6);
            writer.str("fetch");
            writer.int(id as i32);
            writer.str(head.method.as_str());
            write_uri(writer, &head.uri);
            writer.array(head.headers.len() * 2);
            for (name, value) in &head.headers {
                writer.str(name.as_str());
                writer.latin1(value.as_bytes());
            }
            match body {
                None => writer.null(),
                Some(handle) => {
                    writer.array(2);
                    writer.int(handle as i32);
                    match size.and_then(|size| i32::try_from(size).ok()) {
                        Some(size) => writer.int(size),
                        None => writer.int(-1),
                    }
                }
            }
        }
    }
}

fn write_uri(writer: &mut Writer<'_>, uri: &http::Uri) {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    let _ = write!(text, "{uri}");
    writer.str(&text);
}

impl Failure {
    /// What callers and owners learn of it.
    pub(crate) fn explain(self, function: &FunctionSpec, host: &Host) -> InvokeError {
        match self {
            Failure::Exception(exception) => {
                InvokeError::new(ErrorCode::UncaughtException, exception.full())
            }
            Failure::Interrupted => {
                let limit_ms = function.limits.cpu_time_ms;
                InvokeError::new(
                    ErrorCode::CpuTimeExceeded,
                    format!(
                        "the function reached its CPU time limit of {limit_ms} ms (limits.cpu_time_ms)"
                    ),
                )
            }
            Failure::OutOfMemory => InvokeError::new(
                ErrorCode::MemoryExceeded,
                format!(
                    "the function needed more than {} bytes of memory (limits.memory_bytes)",
                    host.limiter.limit_bytes
                ),
            ),
            Failure::Stuck => InvokeError::new(
                ErrorCode::NoResponse,
                "the handler waits for something that can never happen: its promise is pending, and no timer, fetch or read is under way that could settle it",
            ),
            Failure::Trap(error) => explain(
                &error,
                Circumstances {
                    memory_refused: host.limiter.refused,
                    memory_limit_bytes: host.limiter.limit_bytes,
                },
            ),
        }
    }
}
