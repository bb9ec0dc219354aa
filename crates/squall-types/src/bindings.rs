//! What a function reaches by a name in its environment, in process and without a socket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::invoke::InvokeFuture;
use crate::state::FunctionSpec;
use crate::trace::TraceContext;
use crate::{AppName, Body, FunctionName};

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// The static assets of the function's own revision.
    Assets,
    /// Another function: of the same revision, or with an app of whatever that app serves.
    Service { app: Option<AppName>, function: FunctionName },
}

impl Binding {
    /// Parses `function` or `app/function`. # Errors
    /// Says what is wrong with the name.
    pub fn parse_service(text: &str) -> Result<Self, String> {
        let (app, function) = match text.split_once('/') {
            Some((app, function)) => (Some(app), function),
            None => (None, text),
        };
        let app = app.map(AppName::parse).transpose().map_err(|error| error.to_string())?;
        let function = FunctionName::parse(function).map_err(|error| error.to_string())?;
        Ok(Binding::Service { app, function })
    }

    /// The word for its kind, as programs' hosts speak of it.
    pub fn kind(&self) -> &'static str {
        match self {
            Binding::Assets => "assets",
            Binding::Service { .. } => "service",
        }
    }
}

/// How many functions have called each other to come to a request; 0 when a client did.
/// Travels as an extension of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDepth(pub u8);

impl CallDepth {
    /// Functions that call each other in a circle end here.
    pub const MAX: CallDepth = CallDepth(16);
}

/// A request that a function sends to a binding of its own.
pub struct BoundRequest {
    pub from: Arc<FunctionSpec>,
    pub binding: Binding,
    /// With an absolute URI and end-to-end headers only.
    pub request: http::Request<Body>,
    /// The span of the invocation that sends it.
    pub trace: TraceContext,
    /// That of the invocation that sends it.
    pub depth: CallDepth,
}

/// Answers requests to bindings. Dropping the future, or the body of the response before
/// its end, cancels what was called.
pub trait Bindings: Send + Sync + 'static {
    fn fetch(&self, request: BoundRequest) -> InvokeFuture;
}
