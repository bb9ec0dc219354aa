//! An instance for one request, made new for it.

use std::sync::Arc;

use squall_runtime::executor::Call;
use squall_types::log::Level;
use squall_types::shard::Local;
use squall_types::{Body, InvokeError};
use tokio::sync::oneshot;

use super::function::{Arrival, JsFunction};
use super::instance::{Failure, Instance};
use super::tape::Tape;
use crate::call::{CpuWatch, Guest, respond};

/// The only request of its instance.
const REQUEST: u32 = 1;

pub(crate) async fn serve(
    function: Local<JsFunction>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    let Call { environment, request, trace, meter, deadline, ticket, admitted, .. } = call;
    let (answer, answered) = oneshot::channel();
    let (client_left, left) = oneshot::channel();
    let watch = Arc::new(CpuWatch::default());
    let clock = function.js.clock().run();
    let guest = {
        let (watch, meter) = (watch.clone(), meter.clone());
        async move {
            let world = function.world(environment.shared());
            let mut instance = function.js.take(&function.snapshot, world).await?;
            instance.arm(&watch, function.function.limits.cpu_time_ms);
            if function.recordings.is_some() {
                instance.store.data_mut().tape = Tape::Recording(Vec::new());
            }
            let arrival = Arrival { request, trace, meter: meter.clone(), answer };
            let result = run(&function, &mut instance, &watch, arrival, left).await;
            meter.observe_memory_bytes(instance.memory_bytes());
            function.keep_recording(&mut instance);
            let Err(failure) = result else {
                function.js.give_back(instance);
                return Ok(());
            };
            let failure = failure.explain(&function.function, instance.store.data());
            meter.fail(failure.code);
            function.log_failure(&function.log(trace), &failure);
            Err(failure)
        }
    };
    let guest = Guest::new(Box::pin(guest), watch, meter, ticket, admitted, clock)
        .that_outlives_its_client(client_left, deadline);
    respond(guest, answered, deadline).await
}

/// Until the request has ended: its response and everything that it waits for.
async fn run(
    function: &JsFunction,
    instance: &mut Instance,
    watch: &CpuWatch,
    arrival: Arrival,
    mut client_left: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let event = arrival.admit(function, instance.store.data_mut(), REQUEST);
    instance.event(REQUEST, event).await?;
    let mut listening = true;
    while !instance.store.data().requests.is_empty() {
        let completion = tokio::select! {
            biased;
            left = &mut client_left, if listening => {
                listening = false;
                if left.is_ok() {
                    instance.abort(REQUEST).await?;
                }
                continue;
            }
            completion = instance.next() => completion,
        };
        match completion {
            Some(completion) => {
                watch.add(completion.cpu_ns_elsewhere());
                instance.complete(completion).await?;
            }
            None if listening && heeds_client(instance) => {
                listening = false;
                if (&mut client_left).await.is_ok() {
                    instance.abort(REQUEST).await?;
                }
            }
            None => return stuck(instance),
        }
    }
    Ok(())
}

/// Whether the program may be waiting for its client to go, which ends at the deadline.
fn heeds_client(instance: &Instance) -> bool {
    instance.store.data().requests.get(&REQUEST).is_some_and(|request| request.heeds_client)
}

/// Nothing is under way. Whoever waits for a response waits in vain; a promise of
/// `waitUntil` that nobody can settle harms nobody.
fn stuck(instance: &mut Instance) -> Result<(), Failure> {
    let Some(request) = instance.store.data_mut().requests.get_mut(&REQUEST) else { return Ok(()) };
    if request.answer.is_some() || request.body.is_some() {
        return Err(Failure::Stuck);
    }
    request.log.platform(
        Level::Warn,
        None,
        "a promise of waitUntil can never settle: nothing is under way that could settle it".into(),
    );
    Ok(())
}
