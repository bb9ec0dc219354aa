//! Log lines and where they go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::shard::Local;
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

/// What the platform tells the owner of an app of something other than a function, such as
/// an upstream.
#[derive(Debug, Clone)]
pub struct AppLine {
    pub at: SystemTime,
    pub app: crate::AppName,
    pub level: Level,
    pub message: String,
    pub code: Option<ErrorCode>,
}

/// What is known of a request when it has ended; the access log is made of these.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    pub at: SystemTime,
    /// `None` when no function was reached (assets, rejections).
    pub function: Option<&'a FunctionSpec>,
    /// The app, where one matched.
    pub app: Option<&'a crate::AppName>,
    /// The route that won, where one did.
    pub route: Option<&'a str>,
    pub method: &'a http::Method,
    pub host: &'a str,
    pub path: &'a str,
    /// 499 when the client went away first.
    pub status: u16,
    pub code: Option<ErrorCode>,
    pub duration_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub client: std::net::IpAddr,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: http::Version,
    /// `None` without TLS.
    pub tls: Option<TlsVersion>,
    /// Who that is, where a policy asked.
    pub caller: Option<Caller<'a>>,
    /// Where the request was sent, when the route leads to an upstream.
    pub upstream: Option<&'a UpstreamCall>,
    /// What the cache of the route did: `hit`, `stale`, `revalidated`, `collapsed`, `miss` or
    /// `bypass`.
    pub cache: Option<&'static str>,
    pub user_agent: Option<&'a http::HeaderValue>,
    pub trace: TraceContext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    V12,
    V13,
}

impl TlsVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            TlsVersion::V12 => "1.2",
            TlsVersion::V13 => "1.3",
        }
    }
}

/// A caller whose identity was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The `[identity]` table that knows it.
    pub source: &'a str,
    /// The id of an API client, the subject of a token, or the name of a user.
    pub name: &'a str,
    /// The part of an API key that is no secret. Never the key.
    pub key_prefix: Option<&'a str>,
}

/// What became of a request at an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamCall {
    pub name: Local<str>,
    /// Of the last target that was tried; `None` when there was none to try.
    pub address: Option<SocketAddr>,
    /// From the first try to the head of the response, or to giving up.
    pub duration_us: u64,
    pub tries: u32,
}

impl UpstreamCall {
    /// Nothing was tried yet.
    pub fn to(name: Local<str>) -> Self {
        Self { name, address: None, duration_us: 0, tries: 0 }
    }
}

/// Takes lines without blocking; when it can not keep up it drops and counts.
pub trait LogSink: Send + Sync + 'static {
    fn line(&self, line: LogLine);
    fn app_line(&self, line: AppLine);
    fn access(&self, record: &AccessRecord<'_>);
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
    /// Empty, and left out, where there is no trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub span_id: String,
    /// Of an access record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    #[serde(flatten)]
    pub access: AccessFields,
}

/// What an access record says beside what every entry has. A log line has none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AccessFields {
    /// The route that won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// As they were sent, compressed where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `1.2` or `1.3`, with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// The `[identity]` table that knows the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The API client, the subject of the token, or the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The part of the caller's API key that is no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Of the upstream's target that was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_address: Option<String>,
    /// From the first try to the head of the upstream's response, or to giving up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_tries: Option<u32>,
    /// What the cache of the route did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
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
