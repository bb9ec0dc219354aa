//! Operations that only compute: URLs, encodings, compression, cryptography. `squall_js`
//! performs them; here is where, and who is charged.

use std::sync::{Arc, LazyLock};

use squall_js::Value;
use squall_js::ops::{self, Written};
use squall_types::usage::Meter;
use tokio::sync::Semaphore;

use super::host::{Denied, Host, Refusal, values};
use super::operations::{OperationFuture, Outcome, random};
use crate::cpu_clock::thread_cpu_ns;

/// Long computations at once on this node; more wait for their turn.
static THREADS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));

/// What came of a computation.
pub(crate) enum Computed {
    Value(Result<Value, Refusal>),
    /// The stream goes back to where it was taken from.
    Written(Written),
}

/// At once, on the request's core. # Errors
/// Refuses what would keep the core for long: the program has to start that.
pub(crate) fn perform(host: &mut Host, operation: u32, message: &[u8]) -> Result<Value, Denied> {
    // At load there is no core to hold up.
    if host.load.is_none() && !ops::may_be_called(operation, message.len()) {
        let what = format!("operation {operation} takes too long to wait for: it is started");
        return Err(Refusal::new("NotSupportedError", what).into());
    }
    Ok(at_once(host, operation, values(message)?)?)
}

/// Started: here when it is short, else on a thread for long computations.
pub(crate) fn begin(
    host: &mut Host,
    operation: u32,
    message: &[u8],
) -> Result<OperationFuture, Denied> {
    let arguments = values(message)?;
    if !ops::is_for_another_thread(operation, message.len()) {
        let value = at_once(host, operation, arguments);
        return Ok(Box::pin(std::future::ready(Outcome::Value(value))));
    }
    let meter = host.requests.get(&host.current).map(|request| request.meter.clone());
    if !ops::is_of_streams(operation) {
        let work = move || Computed::Value(alone(operation, arguments));
        return Ok(Box::pin(elsewhere(meter, work)));
    }
    let write = host.streams.begin_write(operation, arguments)?;
    Ok(Box::pin(elsewhere(meter, move || Computed::Written(write.run()))))
}

fn at_once(host: &mut Host, operation: u32, arguments: Vec<Value>) -> Result<Value, Refusal> {
    if ops::is_of_streams(operation) {
        return host.streams.perform(host.current, operation, arguments);
    }
    alone(operation, arguments)
}

/// What needs nothing of the instance.
fn alone(operation: u32, arguments: Vec<Value>) -> Result<Value, Refusal> {
    let mut failed = Ok(());
    let mut chance = |bytes: &mut [u8]| {
        if let Err(error) = random(bytes) {
            failed = Err(error);
        }
    };
    let value = ops::perform(operation, arguments, &mut chance);
    failed?;
    value
}

async fn elsewhere(
    meter: Option<Arc<Meter>>,
    work: impl FnOnce() -> Computed + Send + 'static,
) -> Outcome {
    let failed = |what: String| Outcome::Value(Err(Refusal::new("OperationError", what)));
    let permit = match THREADS.acquire().await {
        Ok(permit) => permit,
        Err(closed) => return failed(closed.to_string()),
    };
    let metered = move || {
        let began_ns = thread_cpu_ns();
        let computed = work();
        let cpu_ns = thread_cpu_ns().saturating_sub(began_ns);
        if let Some(meter) = meter {
            meter.add_cpu_ns(cpu_ns);
        }
        drop(permit);
        Outcome::Computed(computed, cpu_ns)
    };
    let joined = tokio::task::spawn_blocking(metered).await;
    joined.unwrap_or_else(|stopped| failed(format!("the computation stopped: {stopped}")))
}
