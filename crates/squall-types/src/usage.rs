//! Metering: one record for each invocation, written when the last of it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::clients::ApiClient;
use crate::invoke::Trigger;
use crate::shard::Local;
use crate::state::FunctionSpec;
use crate::trace::TraceContext;
use crate::{AppName, RevisionId};

/// Whose usage something is: what answered, and which API client asked.
#[derive(Debug, Clone)]
pub struct UsageSubject {
    pub target: UsageTarget,
    /// An API client that was known by its key. Other callers are not told apart: users
    /// of an issuer are as many as its names.
    pub client: Option<Arc<ApiClient>>,
}

impl UsageSubject {
    #[must_use]
    pub fn with_client(mut self, client: Option<Arc<ApiClient>>) -> Self {
        self.client = client;
        self
    }
}

/// What answered.
#[derive(Debug, Clone)]
pub enum UsageTarget {
    Function(Local<FunctionSpec>),
    Upstream(Local<UpstreamKey>),
}

/// Which upstream of which revision. One `Arc` of it per compiled revision, so that
/// records of the same upstream are seen to be the same by their address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamKey {
    pub app: AppName,
    pub revision: RevisionId,
    pub upstream: String,
}

impl UsageTarget {
    pub fn app(&self) -> &AppName {
        match self {
            Self::Function(spec) => &spec.key.app,
            Self::Upstream(key) => &key.app,
        }
    }
    pub fn revision(&self) -> &RevisionId {
        match self {
            Self::Function(spec) => &spec.key.revision,
            Self::Upstream(key) => &key.revision,
        }
    }
    /// Tells targets apart for as long as one of them is held.
    pub fn address(&self) -> usize {
        match self {
            Self::Function(spec) => Arc::as_ptr(spec.shared()) as usize,
            Self::Upstream(key) => Arc::as_ptr(key.shared()) as usize,
        }
    }
}

impl From<Local<FunctionSpec>> for UsageSubject {
    fn from(function: Local<FunctionSpec>) -> Self {
        Self { target: UsageTarget::Function(function), client: None }
    }
}

impl From<Local<UpstreamKey>> for UsageSubject {
    fn from(upstream: Local<UpstreamKey>) -> Self {
        Self { target: UsageTarget::Upstream(upstream), client: None }
    }
}

/// What one invocation, or one request to an upstream, used. The bill is a sum over
/// these and nothing else.
#[derive(Debug, Clone)]
pub struct UsageRecord {
    pub subject: UsageSubject,
    pub trigger: Trigger,
    pub started: SystemTime,
    /// From acceptance to the end of the response.
    pub wall_ns: u64,
    /// Thread CPU time around each poll of the guest.
    pub cpu_ns: u64,
    /// The CPU and memory figures are shares of a shared instance's.
    pub estimated: bool,
    /// Peak of all memories and tables of the instance.
    pub memory_bytes: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// HTTP status sent; 499 when the client went away before the head was.
    pub status: u16,
    /// Why it failed, where it did.
    pub code: Option<ErrorCode>,
    /// The compiled code had to be mapped for this invocation.
    pub cold: bool,
    /// The cache answered, and nothing ran. It is counted, but it is no invocation.
    pub cache_hit: bool,
    /// The response did not reach its end: the client left or the guest broke off.
    pub aborted: bool,
    pub trace_id: [u8; 16],
}

/// Takes records without blocking and without losing any while the process lives.
pub trait UsageSink: Send + Sync + 'static {
    fn record(&self, record: UsageRecord);
}

/// Counts what an invocation uses while it runs. The record is written when the last
/// holder lets go, so an abort, a panic or a lost client is counted like any other end.
pub struct Meter {
    sink: Local<dyn UsageSink>,
    /// Until it is recorded.
    subject: Option<UsageSubject>,
    trigger: Trigger,
    trace_id: [u8; 16],
    started: SystemTime,
    accepted: Instant,
    cpu_ns: AtomicU64,
    memory_bytes: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    ended_ns: AtomicU64,
    status: AtomicU16,
    code: AtomicU16,
    estimated: AtomicBool,
    cold: AtomicBool,
    cache_hit: AtomicBool,
    finished: AtomicBool,
}

impl Meter {
    /// Starts counting. `accepted` is when the request's head was complete.
    pub fn start(
        sink: Local<dyn UsageSink>,
        subject: impl Into<UsageSubject>,
        trigger: Trigger,
        trace: &TraceContext,
        started: SystemTime,
        accepted: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            sink,
            subject: Some(subject.into()),
            trigger,
            trace_id: trace.trace_id,
            started,
            accepted,
            cpu_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            ended_ns: AtomicU64::new(0),
            status: AtomicU16::new(499),
            code: AtomicU16::new(0),
            estimated: AtomicBool::new(false),
            cold: AtomicBool::new(false),
            cache_hit: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    pub fn accepted(&self) -> Instant {
        self.accepted
    }
    pub fn add_cpu_ns(&self, cpu_ns: u64) {
        self.cpu_ns.fetch_add(cpu_ns, Ordering::Relaxed);
    }
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
    pub fn observe_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.fetch_max(bytes, Ordering::Relaxed);
    }
    pub fn add_bytes_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }
    pub fn add_bytes_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }
    pub fn mark_cold(&self) {
        self.cold.store(true, Ordering::Relaxed);
    }
    /// The cache answers in place of the target.
    pub fn mark_cache_hit(&self) {
        self.cache_hit.store(true, Ordering::Relaxed);
    }
    /// CPU and memory are shares of an instance that serves several requests.
    pub fn mark_estimated(&self) {
        self.estimated.store(true, Ordering::Relaxed);
    }
    /// The head of the response is on its way with this status.
    pub fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
    /// The first reason stays: what follows a failure is its consequence.
    pub fn fail(&self, code: ErrorCode) {
        let _ = self.code.compare_exchange(0, code as u16, Ordering::Relaxed, Ordering::Relaxed);
    }
    /// Why the invocation failed, where it has.
    pub fn failure(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.code.load(Ordering::Relaxed))
    }
    /// From acceptance to the end of the response, once that was reached.
    pub fn ended_ns(&self) -> Option<u64> {
        let finished = self.finished.load(Ordering::Relaxed);
        finished.then(|| self.ended_ns.load(Ordering::Relaxed))
    }
    /// The response reached its end; wall time stops here even if the guest goes on.
    pub fn finish(&self) {
        if !self.finished.swap(true, Ordering::Relaxed) {
            self.ended_ns.store(elapsed_ns(self.accepted), Ordering::Relaxed);
        }
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(subject) = self.subject.take() else { return };
        let finished = *self.finished.get_mut();
        let wall_ns = if finished { *self.ended_ns.get_mut() } else { elapsed_ns(self.accepted) };
        self.sink.record(UsageRecord {
            subject,
            trigger: self.trigger,
            started: self.started,
            wall_ns,
            cpu_ns: *self.cpu_ns.get_mut(),
            estimated: *self.estimated.get_mut(),
            memory_bytes: *self.memory_bytes.get_mut(),
            bytes_in: *self.bytes_in.get_mut(),
            bytes_out: *self.bytes_out.get_mut(),
            status: *self.status.get_mut(),
            code: ErrorCode::from_number(*self.code.get_mut()),
            cold: *self.cold.get_mut(),
            cache_hit: *self.cache_hit.get_mut(),
            aborted: !finished,
            trace_id: self.trace_id,
        });
    }
}

/// A sum of records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsageTotals {
    pub invocations: u64,
    /// Of `invocations`: those with a 5xx status or an error code.
    pub failed: u64,
    /// Of `invocations`: those whose response did not reach its end.
    pub aborted: u64,
    pub cold: u64,
    pub wall_ns: u64,
    pub cpu_ns: u64,
    /// The part of `cpu_ns` that is an estimate.
    pub cpu_estimated_ns: u64,
    /// Sum over invocations of peak memory times wall time.
    pub memory_byte_ms: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Requests that the cache answered. They are no invocations: only their bytes count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_hits: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl UsageTotals {
    pub fn add(&mut self, record: &UsageRecord) {
        self.bytes_in += record.bytes_in;
        self.bytes_out += record.bytes_out;
        if record.cache_hit {
            self.cache_hits += 1;
            return;
        }
        self.invocations += 1;
        self.failed += u64::from(record.status >= 500 || record.code.is_some());
        self.aborted += u64::from(record.aborted);
        self.cold += u64::from(record.cold);
        self.wall_ns += record.wall_ns;
        self.cpu_ns += record.cpu_ns;
        self.cpu_estimated_ns += if record.estimated { record.cpu_ns } else { 0 };
        let byte_ms = u128::from(record.memory_bytes) * u128::from(record.wall_ns) / 1_000_000;
        self.memory_byte_ms =
            self.memory_byte_ms.saturating_add(u64::try_from(byte_ms).unwrap_or(u64::MAX));
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.invocations == 0 && self.cache_hits == 0
    }

    pub fn merge(&mut self, other: &UsageTotals) {
        self.invocations += other.invocations;
        self.failed += other.failed;
        self.aborted += other.aborted;
        self.cold += other.cold;
        self.wall_ns += other.wall_ns;
        self.cpu_ns += other.cpu_ns;
        self.cpu_estimated_ns += other.cpu_estimated_ns;
        self.memory_byte_ms = self.memory_byte_ms.saturating_add(other.memory_byte_ms);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.cache_hits += other.cache_hits;
    }
}

/// Which usage to sum.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsageFilter {
    pub app: Option<String>,
    /// An API client of an app.
    pub client: Option<String>,
    /// First and last day, `YYYY-MM-DD` in UTC, both included.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// Usage of one function or upstream on one day, by one API client or by all who are
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsageRow {
    /// `YYYY-MM-DD` in UTC, by the start of the invocation.
    pub day: String,
    pub app: String,
    /// What answered: a function or an upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    pub revision: String,
    pub trigger: Trigger,
    /// The API client that asked, where it was known by a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    pub totals: UsageTotals,
}

/// Reads the ledger back.
pub trait UsageStore: Send + Sync + 'static {
    /// Rows by day, app, target, revision, trigger and client. Includes everything recorded before
    /// the call, flushed or not. May read from disk: call it off the request cores.
    fn usage(&self, filter: &UsageFilter) -> std::io::Result<Vec<UsageRow>>;
}
