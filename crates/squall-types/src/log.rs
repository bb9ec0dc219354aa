//! Log lines and where they go.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::state::FunctionSpec;
use crate::trace::TraceContext;

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Stdout,
    Stderr,
    /// Squall speaks about the function: a trap, a limit, a refused outbound call.
    Platform,
    /// One line per finished request.
    Access,
}

/// One line of a function's log.
#[derive(Debug, Clone)]
pub struct LogLine {
    pub at: SystemTime,
    pub function: Arc<FunctionSpec>,
    pub source: Source,
    pub level: Level,
    pub message: String,
    pub code: Option<ErrorCode>,
    pub trace: TraceContext,
}

/// What is known of a request when it has ended; the access log is made of these.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    pub at: SystemTime,
    /// `None` when no function was reached (assets, rejections).
    pub function: Option<Arc<FunctionSpec>>,
    /// The app, where one matched.
    pub app: Option<crate::AppName>,
    pub method: http::Method,
    pub host: String,
    pub path: String,
    /// 499 when the client went away first.
    pub status: u16,
    pub code: Option<ErrorCode>,
    pub duration_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub client: std::net::IpAddr,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: http::Version,
    pub user_agent: Option<http::HeaderValue>,
    pub trace: TraceContext,
}

/// Takes lines without blocking; when it can not keep up it drops and counts.
pub trait LogSink: Send + Sync + 'static {
    fn line(&self, line: LogLine);
    fn access(&self, record: AccessRecord);
}

/// A line or an access record as it is stored, filtered and sent to people.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogEntry {
    /// RFC 3339 in UTC, with milliseconds.
    pub at: String,
    pub level: Level,
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub message: String,
    /// `SQ0123`, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub trace_id: String,
    /// Of an access record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
}

/// Which entries are wanted; every field that is given must match.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogFilter {
    pub app: Option<String>,
    pub function: Option<String>,
    /// This level or a graver one.
    pub level: Option<Level>,
    /// `404`, or a class: `5xx`. Matches access records only.
    pub status: Option<String>,
    pub trace_id: Option<String>,
}

/// What a follower of the log receives.
#[derive(Debug, Clone)]
pub enum LogEvent {
    Entry(Arc<LogEntry>),
    /// The follower was too slow: so many entries were not delivered to it.
    Dropped(u64),
}

/// Reads the log back.
pub trait LogStore: Send + Sync + 'static {
    /// The newest `limit` entries that match, oldest first. Survives a restart.
    fn recent(&self, filter: &LogFilter, limit: usize) -> Vec<Arc<LogEntry>>;
    /// Entries from now on. Dropping the receiver ends it.
    fn follow(&self, filter: LogFilter) -> tokio::sync::mpsc::Receiver<LogEvent>;
}
