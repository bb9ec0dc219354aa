//! The one way to run a function. HTTP, events, cron and `squall invoke` all come
//! through here, so admission, limits and metering are written once, behind it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shard::Local;
use crate::state::{Environment, FunctionSpec};
use crate::trace::TraceContext;
use crate::usage::Meter;
use crate::{Body, ErrorCode};

/// What made an invocation happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Trigger {
    Http = 1,
    /// `squall invoke` and the admin API.
    Manual = 2,
    /// Another function, by a service binding.
    Service = 3,
}

impl Trigger {
    pub const ALL: [Trigger; 3] = [Trigger::Http, Trigger::Manual, Trigger::Service];
}

/// An event that is no HTTP request: the time of a schedule has come. Travels as an
/// extension of an empty request; the response to it is empty too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// As the schedule was written; empty when a person invoked the handler.
    pub cron: String,
    /// The time that it was meant for, in milliseconds since 1970.
    pub time_ms: u64,
}

/// One call of a function.
pub struct Invocation {
    pub function: Local<FunctionSpec>,
    /// Variables and secrets as they are now; a change of them needs no deploy.
    pub environment: Local<Environment>,
    pub trigger: Trigger,
    /// With an absolute URI (scheme, authority, path) and end-to-end headers only.
    pub request: http::Request<Body>,
    /// The span of this request; outbound calls are its children.
    pub trace: TraceContext,
    /// Counts this invocation; the caller keeps a clone until the response has ended.
    pub meter: Arc<Meter>,
}

/// Why there is no response. Callers see the code's title; `message` is for the owner.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code} {}: {message}", code.title())]
pub struct InvokeError {
    pub code: ErrorCode,
    pub message: String,
    /// Seconds after which a caller may try again, where that is known.
    pub retry_after_s: Option<u32>,
    /// The function wishes that a static asset answers in its place, where there is one.
    pub pass_through: bool,
}

impl InvokeError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None, pass_through: false }
    }

    /// Tells the caller when to try again.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

pub type InvokeFuture =
    Pin<Box<dyn Future<Output = Result<http::Response<Body>, InvokeError>> + Send>>;

/// Runs functions. Dropping the future, or the body of the response before its end,
/// cancels the invocation.
pub trait Invoke: Send + Sync + 'static {
    fn invoke(&self, invocation: Invocation) -> InvokeFuture;
}
