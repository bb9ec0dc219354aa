//! An instance for one request: made, called, thrown away.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use squall_runtime::executor::Call;
use squall_types::shard::Local;
use squall_types::usage::Meter;
use squall_types::{Body, InvokeError};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView as _};

use crate::call::{Answer, CpuWatch, Guest, answered_with_error, respond};
use crate::executor::Loaded;
use crate::failure::{Circumstances, explain};
use crate::host::Host;

/// Serves one request with an instance of its own.
pub(crate) async fn serve(
    loaded: Local<Loaded>,
    call: Call,
) -> Result<http::Response<Body>, InvokeError> {
    let Call { environment, request, trace, meter, deadline, ticket, admitted, .. } = call;
    let (answer, answered) = oneshot::channel();
    let watch = Arc::new(CpuWatch::default());
    let clock = loaded.engines.clock.run();
    let guest = {
        let (watch, meter) = (watch.clone(), meter.clone());
        async move {
            let mut store = loaded.new_store(environment.shared(), trace);
            watch.arm(&mut store, loaded.function.limits.cpu_time_ms);
            let result = run(&loaded, &mut store, request, answer).await;
            finish(&mut store, &meter, result)
        }
    };
    respond(Guest::new(Box::pin(guest), watch, meter, ticket, admitted, clock), answered, deadline)
        .await
}

async fn run(
    loaded: &Loaded,
    store: &mut Store<Host>,
    request: http::Request<Body>,
    answer: oneshot::Sender<Answer<WasiBody>>,
) -> wasmtime::Result<()> {
    let proxy = loaded.pre.instantiate_async(&mut *store).await?;
    call_proxy(store, &proxy, request, answer).await
}

/// Calls the handler of an instance and stays until the guest has nothing more to do.
pub(crate) async fn call_proxy(
    store: &mut Store<Host>,
    proxy: &Proxy,
    request: http::Request<Body>,
    answer: oneshot::Sender<Answer<WasiBody>>,
) -> wasmtime::Result<()> {
    match proxy {
        Proxy::P2(guest) => {
            let scheme = match request.uri().scheme_str() {
                Some("https") => Scheme::Https,
                _ => Scheme::Http,
            };
            let request = request.map(into_wasi);
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(scheme, request)?;
            let out = http.new_response_outparam_from_callback(move |value| {
                // Nobody listens any more when the request was cancelled.
                let _ = answer.send(value.map_err(|error| answered_with_error(&error.into())));
            })?;
            guest.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
        }
        Proxy::P3(guest) => {
            store
                .run_concurrent(async |accessor| {
                    serve_concurrently(accessor, guest, request, answer).await?;
                    // What the guest began and did not wait for, it may finish.
                    std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    wasmtime::Result::Ok(())
                })
                .await?
        }
    }
}

type Sent = std::pin::Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>>;

/// One request inside the event loop of a 0.3 instance, until its response has been
/// read to the end or given up.
pub(crate) async fn serve_concurrently(
    accessor: &Accessor<Host>,
    guest: &wasmtime_wasi_http::p3::bindings::Service,
    request: http::Request<Body>,
    answer: oneshot::Sender<Answer<WasiBody>>,
) -> wasmtime::Result<()> {
    let (request, sent) = accessor.with(|mut store| {
        let request = request.map(into_wasi);
        let hooks = store.get().http().hooks;
        let (request, sent) = wasmtime_wasi_http::p3::Request::from_http(hooks, request);
        // Boxed, it no longer counts as borrowing the store.
        let sent: Sent = Box::pin(sent);
        (request, sent)
    });
    let response = match guest.handle(accessor, request).await? {
        Ok(response) => response,
        Err(error) => {
            let _ = answer.send(Err(answered_with_error(&error.into())));
            return Ok(());
        }
    };
    let response = accessor.with(|mut store| response.into_http(&mut store, sent))?;
    let (done, read) = oneshot::channel::<std::convert::Infallible>();
    let response = response.map(|body| Watched { body, _done: done }.boxed_unsync());
    let _ = answer.send(Ok(response));
    // The sender never sends: an error means that the body was dropped.
    let _ = read.await;
    Ok(())
}

/// A body that says when it is gone.
struct Watched {
    body: WasiBody,
    _done: oneshot::Sender<std::convert::Infallible>,
}

impl http_body::Body for Watched {
    type Data = bytes::Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, HttpError>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A request's body that fails tells the guest so; the reason is known to the platform.
pub(crate) fn into_wasi(body: Body) -> WasiBody {
    body.map_err(|_| HttpError::HttpProtocolError).boxed_unsync()
}

/// Takes down what the request used and says what went wrong.
pub(crate) fn finish(
    store: &mut Store<Host>,
    meter: &Meter,
    result: wasmtime::Result<()>,
) -> Result<(), InvokeError> {
    let host = store.data_mut();
    meter.observe_memory_bytes(host.memory.used_bytes);
    let result = result.map_err(|error| {
        explain(
            &error,
            Circumstances {
                memory_refused: host.memory.refused,
                memory_limit_bytes: host.memory.limit_bytes,
            },
        )
    });
    host.log.flush();
    if let Err(failure) = &result {
        // The first reason stays in the record; here is where it is known.
        meter.fail(failure.code);
        host.log.platform(
            squall_types::log::Level::Error,
            Some(failure.code),
            failure.message.clone(),
        );
    }
    result
}
