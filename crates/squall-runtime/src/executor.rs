//! What runs functions: the runtime decides when and on which core, an executor how.

use std::sync::Arc;
use std::time::Instant;

use squall_types::invoke::InvokeFuture;
use squall_types::shard::Local;
use squall_types::state::{Environment, FunctionSpec};
use squall_types::trace::TraceContext;
use squall_types::usage::Meter;
use squall_types::{Body, InvokeError};

use crate::admission::Permit;
use crate::cores::Ticket;

/// One admitted invocation.
pub struct Call {
    pub function: Local<FunctionSpec>,
    pub environment: Local<Environment>,
    /// Its body already enforces the request body limit and counts bytes.
    pub request: http::Request<Body>,
    pub trace: TraceContext,
    pub meter: Arc<Meter>,
    /// When wall time is up. The runtime drops the future then; an executor needs it
    /// only for work that outlives the future (a task of its own).
    pub deadline: Instant,
    /// Tells the runtime whether this invocation wants its core or waits.
    pub ticket: Ticket,
    /// To be kept until the function has done everything for this invocation, what it does
    /// after its response included.
    pub admitted: Admitted,
}

/// What an invocation takes of the concurrency of its function and of the node. Free when the
/// last clone is gone.
#[derive(Clone)]
pub struct Admitted(
    #[expect(dead_code, reason = "dropping it is all there is to do with it")]
    Option<Arc<(Permit, Permit)>>,
);

impl Admitted {
    pub(crate) fn new(of_function: Permit, of_node: Permit) -> Self {
        Self(Some(Arc::new((of_function, of_node))))
    }

    /// Of no function, for tests and for calls from outside of the runtime.
    pub fn detached() -> Self {
        Self(None)
    }
}

/// A kind of sandbox.
pub trait Executor: Send + Sync + 'static {
    /// Makes a function callable: maps its compiled code. Blocking, and called off the
    /// request cores; at most once at a time for one function.
    fn load(&self, function: &Arc<FunctionSpec>) -> Result<Arc<dyn LoadedFunction>, InvokeError>;
}

/// A function that is ready to be called. Dropping it unmaps its code once the
/// invocations that run have ended.
pub trait LoadedFunction: Send + Sync + 'static {
    /// Runs on the core that polls the future. Dropping the future, or the body of the
    /// response before its end, cancels the invocation and frees its instance.
    fn call(&self, call: Call) -> InvokeFuture;
    /// The app's environment changed: instances that have seen the old one must not
    /// serve further requests.
    fn environment_changed(&self) {}
}
