//! The host side of a store: what a guest may see and touch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use squall_types::log::{Level, Source};
use squall_types::outbound::{
    Outbound, OutboundError, OutboundErrorKind, OutboundPolicy, OutboundTimeouts,
};
use squall_types::shard::Local;
use squall_types::state::{Environment, FunctionSpec, HandlerWorld};
use squall_types::trace::TraceContext;
use squall_types::{Body, BodyError, ErrorCode};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{
    Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::output::{GuestLog, GuestStream};

/// Resources that a guest may hold at once: streams, bodies, headers.
const RESOURCES_MAX: usize = 10_000;

/// Interfaces that a component may import, without versions. Each is offered in every
/// version of WASI 0.2 and, where it says so, of 0.3.
pub(crate) const OFFERED: &[(&str, &[&str])] = &[
    ("wasi:cli/environment", &["0.2", "0.3"]),
    ("wasi:cli/exit", &["0.2", "0.3"]),
    ("wasi:cli/stdin", &["0.2", "0.3"]),
    ("wasi:cli/stdout", &["0.2", "0.3"]),
    ("wasi:cli/stderr", &["0.2", "0.3"]),
    ("wasi:cli/types", &["0.3"]),
    ("wasi:cli/terminal-input", &["0.2", "0.3"]),
    ("wasi:cli/terminal-output", &["0.2", "0.3"]),
    ("wasi:cli/terminal-stdin", &["0.2", "0.3"]),
    ("wasi:cli/terminal-stdout", &["0.2", "0.3"]),
    ("wasi:cli/terminal-stderr", &["0.2", "0.3"]),
    ("wasi:clocks/monotonic-clock", &["0.2", "0.3"]),
    ("wasi:clocks/wall-clock", &["0.2"]),
    ("wasi:clocks/system-clock", &["0.3"]),
    ("wasi:clocks/types", &["0.3"]),
    ("wasi:config/store", &["0.2"]),
    ("wasi:filesystem/preopens", &["0.2", "0.3"]),
    ("wasi:filesystem/types", &["0.2", "0.3"]),
    ("wasi:http/client", &["0.3"]),
    ("wasi:http/outgoing-handler", &["0.2"]),
    ("wasi:http/types", &["0.2", "0.3"]),
    ("wasi:io/error", &["0.2"]),
    ("wasi:io/poll", &["0.2"]),
    ("wasi:io/streams", &["0.2"]),
    ("wasi:random/insecure", &["0.2", "0.3"]),
    ("wasi:random/insecure-seed", &["0.2", "0.3"]),
    ("wasi:random/random", &["0.2", "0.3"]),
    ("wasi:sockets/instance-network", &["0.2"]),
    ("wasi:sockets/ip-name-lookup", &["0.2", "0.3"]),
    ("wasi:sockets/network", &["0.2"]),
    ("wasi:sockets/tcp", &["0.2"]),
    ("wasi:sockets/tcp-create-socket", &["0.2"]),
    ("wasi:sockets/types", &["0.3"]),
    ("wasi:sockets/udp", &["0.2"]),
    ("wasi:sockets/udp-create-socket", &["0.2"]),
];

/// Everything of `OFFERED`, linked; to components of 0.2 what is of 0.2. Sockets are there
/// and deny every call; the file system is there and has no directory.
pub(crate) fn linker(engine: &Engine, world: HandlerWorld) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if world == HandlerWorld::Http03 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    wasmtime_wasi_config::add_to_linker(&mut linker, |host: &mut Host| {
        WasiConfig::from(&host.environment.config)
    })?;
    Ok(linker)
}

/// The data of a store.
pub(crate) struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    environment: Local<GuestEnvironment>,
    pub(crate) memory: MemoryLimiter,
    pub(crate) log: Arc<GuestLog>,
}

/// What the environment of an app looks like to its guests; made once for each state of it.
pub(crate) struct GuestEnvironment {
    variables: Vec<(String, String)>,
    config: WasiConfigVariables,
}

impl GuestEnvironment {
    /// Secrets go over variables of the same name.
    pub(crate) fn new(function: &FunctionSpec, environment: &Environment) -> Self {
        let mut merged = function.variables.clone();
        merged.extend(environment.secrets.iter().map(|(k, v)| (k.clone(), v.clone())));
        let config = merged.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        Self { variables: merged.into_iter().collect(), config }
    }
}

/// What of the world a function may ask.
pub(crate) struct Reach {
    pub(crate) outbound: Arc<dyn Outbound>,
    pub(crate) policy: Arc<OutboundPolicy>,
}

impl Host {
    pub(crate) fn new(
        function: &FunctionSpec,
        environment: Local<GuestEnvironment>,
        log: Arc<GuestLog>,
        reach: Local<Reach>,
        trace: TraceContext,
    ) -> Self {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&environment.variables)
            .stdout(GuestStream { log: log.clone(), source: Source::Stdout })
            .stderr(GuestStream { log: log.clone(), source: Source::Stderr })
            .allow_tcp(false)
            .allow_udp(false);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table,
            hooks: Hooks {
                reach,
                left: Arc::new(AtomicU32::new(function.limits.outbound_requests)),
                limit: function.limits.outbound_requests,
                trace,
                log: log.clone(),
            },
            environment,
            memory: MemoryLimiter::new(function.limits.memory_bytes),
            log,
        }
    }

    /// The next request of a shared instance begins.
    pub(crate) fn begin(&mut self, trace: TraceContext) {
        self.log.begin(trace);
        self.hooks.trace = trace;
        // A new counter: requests in flight that an earlier one left behind keep theirs.
        self.hooks.left = Arc::new(AtomicU32::new(self.hooks.limit));
        self.memory.refused = false;
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Bounds all memories and tables of a store together.
pub(crate) struct MemoryLimiter {
    pub(crate) limit_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, used_bytes: 0, refused: false }
    }

    fn grow(&mut self, current: usize, desired: usize, unit_bytes: u64) -> bool {
        let more = (desired.saturating_sub(current) as u64).saturating_mul(unit_bytes);
        let after = self.used_bytes.saturating_add(more);
        if after > self.limit_bytes {
            self.refused = true;
            return false;
        }
        self.used_bytes = after;
        true
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, 1))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, size_of::<usize>() as u64))
    }

    fn instances(&self) -> usize {
        usize::MAX
    }
    fn tables(&self) -> usize {
        usize::MAX
    }
    fn memories(&self) -> usize {
        usize::MAX
    }
}

/// Outbound HTTP, and which headers a guest may not set.
struct Hooks {
    reach: Local<Reach>,
    left: Arc<AtomicU32>,
    limit: u32,
    trace: TraceContext,
    log: Arc<GuestLog>,
}

type Worker = Box<dyn Future<Output = Result<(), HttpError>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Worker), HttpError>;

/// The same as `DEFAULT_FORBIDDEN_HEADERS`, which makes all of its names anew for each header
/// that it is asked about.
fn is_forbidden_header(name: &http::HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "host"
            | "http2-settings"
    )
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        is_forbidden_header(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden_header)
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        fut: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        // Errors of reading the response are the guest's to see, not ours to act on.
        drop(fut);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_err() {
            self.log.platform(
                Level::Warn,
                Some(ErrorCode::OutboundLimitReached),
                format!(
                    "this request wanted more than {} outbound requests (limits.outbound_requests)",
                    self.limit
                ),
            );
            return Box::new(std::future::ready(Err(HttpError::ConnectionLimitReached)));
        }
        if !request.headers().contains_key("traceparent") {
            let child = self.trace.child(squall_types::trace::random());
            if let Ok(value) = http::HeaderValue::from_bytes(&child.header()) {
                request.headers_mut().insert("traceparent", value);
            }
        }
        let defaults = OutboundTimeouts::default();
        let options = options.unwrap_or_default();
        let timeouts = OutboundTimeouts {
            connect: options.connect_timeout.unwrap_or(defaults.connect),
            first_byte: options.first_byte_timeout.unwrap_or(defaults.first_byte),
            between_bytes: options.between_bytes_timeout.unwrap_or(defaults.between_bytes),
        };
        let request = request.map(|body| {
            if body.is_end_stream() {
                return Body::empty();
            }
            Body::stream(body.map_err(|error| {
                BodyError::new(ErrorCode::GuestError, format!("the request's body: {error}"))
            }))
        });
        let reach = self.reach.clone();
        let log = self.log.clone();
        Box::new(async move {
            match reach.outbound.send(request, reach.policy.clone(), timeouts).await {
                Ok(response) => {
                    let response = response.map(|body| ResponseBody(body).boxed_unsync());
                    let nothing: Worker = Box::new(std::future::ready(Ok(())));
                    Ok((response, nothing))
                }
                Err(error) => {
                    let code = match error.kind {
                        OutboundErrorKind::Denied => ErrorCode::OutboundDenied,
                        _ => ErrorCode::OutboundFailed,
                    };
                    log.platform(Level::Warn, Some(code), error.message.clone());
                    Err(translate(&error))
                }
            }
        })
    }
}

/// The response of another host, as a guest reads it.
struct ResponseBody(Body);

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(|_| HttpError::HttpResponseIncomplete)
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

fn translate(error: &OutboundError) -> HttpError {
    match error.kind {
        OutboundErrorKind::Denied => HttpError::HttpRequestDenied,
        OutboundErrorKind::InvalidRequest => HttpError::HttpRequestUriInvalid,
        OutboundErrorKind::DnsTimeout => HttpError::DnsTimeout,
        OutboundErrorKind::DnsFailed => HttpError::DnsError { rcode: None, info_code: None },
        OutboundErrorKind::ConnectionRefused => HttpError::ConnectionRefused,
        OutboundErrorKind::ConnectionTimeout => HttpError::ConnectionTimeout,
        OutboundErrorKind::ConnectionFailed => HttpError::ConnectionTerminated,
        OutboundErrorKind::TlsCertificate => HttpError::TlsCertificateError,
        OutboundErrorKind::TlsProtocol => HttpError::TlsProtocolError,
        OutboundErrorKind::ResponseTimeout => HttpError::HttpResponseTimeout,
        OutboundErrorKind::HttpProtocol => HttpError::HttpProtocolError,
        OutboundErrorKind::RequestBody => HttpError::HttpRequestBodySize(None),
        OutboundErrorKind::TooManyRedirects => HttpError::LoopDetected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_headers_are_those_of_the_runtime() {
        let default = wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;
        assert_eq!(default.len(), 9);
        assert!(default.iter().all(is_forbidden_header));
        for name in ["accept", "content-length", "te", "trailer", "authorization", "host-name"] {
            assert!(!is_forbidden_header(&http::HeaderName::from_static(name)), "{name}");
        }
    }
}
