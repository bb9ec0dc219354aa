//! Requests of functions to their bindings: to the assets of their own revision, and to
//! other functions. No socket, no parsing; the callee is admitted, limited and metered as
//! for any other caller.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::bindings::{Binding, Bindings, BoundRequest, CallDepth};
use squall_types::invoke::InvokeFuture;
use squall_types::shard::Local;
use squall_types::state::{Environment, FunctionSpec};
use squall_types::trace::random;
use squall_types::usage::Meter;
use squall_types::{
    AppName, Body, BodyError, ErrorCode, FunctionName, Invocation, InvokeError, Trigger,
};

use crate::request::{REQUEST_ID, TRACEPARENT};
use crate::routing::{Compiled, function_named};
use crate::{Door, Gateway, assets, guard};

impl Bindings for Gateway {
    fn fetch(&self, request: BoundRequest) -> InvokeFuture {
        let door = self.0.clone();
        Box::pin(async move {
            match &request.binding {
                Binding::Assets => fetch_asset(&door, request).await,
                Binding::Service { app, function } => {
                    let (app, function) = (app.clone(), function.clone());
                    call(&door, app.as_ref(), &function, request).await
                }
            }
        })
    }
}

/// Whatever a client would get of the assets alone, refusals included.
async fn fetch_asset(door: &Door, bound: BoundRequest) -> Result<Response<Body>, InvokeError> {
    let (compiled, _) = own_revision(door, &bound.from)?;
    let revision = &compiled.revision;
    let (head, _) = bound.request.into_parts();
    let Some(settings) = &revision.manifest.assets else {
        return Err(InvokeError::new(ErrorCode::NoRoute, "the app has no assets"));
    };
    let found = assets::find(revision, settings, &head, head.uri.path())
        .or_else(|| assets::find_missing(revision, settings, &head));
    let served = match found {
        Some(file) => assets::serve(door, file, &head).await,
        None => {
            let what = format!("the app has no file for {}", head.uri.path());
            Err(crate::rejection::Rejection::new(ErrorCode::NoRoute, what))
        }
    };
    Ok(served.unwrap_or_else(|rejection| rejection.into_response(&head.headers)))
}

async fn call(
    door: &Door,
    app: Option<&AppName>,
    name: &FunctionName,
    bound: BoundRequest,
) -> Result<Response<Body>, InvokeError> {
    if bound.depth >= CallDepth::MAX {
        return Err(InvokeError::new(
            ErrorCode::ServiceLoop,
            format!("{} functions have called each other to come here", CallDepth::MAX.0),
        ));
    }
    let (compiled, environment) = match app {
        // The same revision: a deployment never mixes two of them.
        None => own_revision(door, &bound.from)?,
        Some(app) => {
            let found = door.routes.load().of_app(app);
            found.ok_or_else(|| unknown(app, name))?
        }
    };
    let function = function_named(&compiled.revision, name).cloned();
    let function = function.ok_or_else(|| unknown(&compiled.revision.app, name))?;
    let function = Local::from(function);

    let trace = bound.trace.child(random());
    let meter = Meter::start(
        door.usage.own(),
        function.clone(),
        Trigger::Service,
        &trace,
        SystemTime::now(),
        Instant::now(),
    );
    let request = prepare(bound, trace);
    let length = http_body::Body::size_hint(request.body()).exact();
    let invoked = if length.is_some_and(|length| length > function.limits.request_body_bytes) {
        let message = format!("the body is larger than {name} takes (limits.request_body_bytes)");
        Err(InvokeError::new(ErrorCode::RequestBodyTooLarge, message))
    } else {
        let trigger = Trigger::Service;
        let meter = meter.clone();
        let invocation = Invocation { function, environment, trigger, request, trace, meter };
        door.contracts.invoke.invoke(invocation).await
    };
    match invoked {
        Ok(mut response) => {
            guard::strip_hop_by_hop(response.headers_mut());
            meter.set_status(response.status().as_u16());
            Ok(response.map(|body| metered(body, meter)))
        }
        Err(error) => {
            meter.fail(error.code);
            meter.set_status(error.code.status());
            meter.finish();
            Err(error)
        }
    }
}

fn prepare(bound: BoundRequest, trace: squall_types::trace::TraceContext) -> Request<Body> {
    let mut request = bound.request;
    let headers = request.headers_mut();
    guard::strip_hop_by_hop(headers);
    if let Ok(parent) = HeaderValue::from_bytes(&trace.header()) {
        headers.insert(TRACEPARENT, parent);
    }
    if let Ok(id) = HeaderValue::from_bytes(trace.trace_id_hex().as_bytes()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    request.extensions_mut().insert(CallDepth(bound.depth.0 + 1));
    request
}

fn unknown(app: &AppName, name: &FunctionName) -> InvokeError {
    let message = format!("the app {app} has no live function {name}");
    InvokeError::new(ErrorCode::UnknownFunction, message)
}

fn own_revision(
    door: &Door,
    from: &FunctionSpec,
) -> Result<(Local<Compiled>, Local<Environment>), InvokeError> {
    door.routes.load().of_revision(&from.key.app, &from.key.revision).ok_or_else(|| {
        let message = format!("revision {} of {} is gone", from.key.revision, from.key.app);
        InvokeError::new(ErrorCode::UnknownRevision, message)
    })
}

/// Counts the body and notices its end.
fn metered(body: Body, meter: Arc<Meter>) -> Body {
    if let Some(whole) = body.as_full() {
        meter.add_bytes_out(whole.len() as u64);
        meter.finish();
        return body;
    }
    if body.is_end_stream() {
        meter.finish();
        return body;
    }
    Body::stream(Metered { body, meter })
}

struct Metered {
    body: Body,
    meter: Arc<Meter>,
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.meter.add_bytes_out(frame.data_ref().map_or(0, |data| data.len() as u64));
                if self.body.is_end_stream() {
                    self.meter.finish();
                }
            }
            Poll::Ready(Some(Err(error))) => self.meter.fail(error.code),
            Poll::Ready(None) => self.meter.finish(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
