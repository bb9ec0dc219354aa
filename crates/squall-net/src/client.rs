//! The guarded HTTP client, from a request and a policy to a response.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use rustls::pki_types::CertificateDer;
use squall_types::metrics::write_metric;
use squall_types::outbound::{
    Outbound, OutboundError, OutboundErrorKind, OutboundFuture, OutboundPolicy, OutboundTimeouts,
};
use squall_types::{Body, BodyError};
use tokio::runtime::Handle;

use crate::addresses::is_public;
use crate::body::{ResponseBody, Returning};
use crate::connect::Connector;
use crate::headers;
use crate::host::{Host, HostPattern};
use crate::pool::{Connection, Key, Pool, Sender};
use crate::redirect;
use crate::resolve::{Resolve, SystemResolver};

pub struct ClientOptions {
    pub resolver: Arc<dyn Resolve>,
    /// Trusted beside Mozilla's roots: a company's own, or a test's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Connections that wait, for each owner, host and runtime.
    pub max_idle_per_host: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver::default()),
            extra_roots: Vec::new(),
            idle_timeout: Duration::from_secs(30),
            max_idle_per_host: 32,
        }
    }
}

/// Sends requests under policies, and opens connections for others. Clones share everything.
#[derive(Clone)]
pub struct GuardedClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) connector: Connector,
    pool: Arc<Pool>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
    reused: AtomicU64,
}

/// Where a request goes, after the policy was asked.
struct Target {
    host: Host,
    port: u16,
    https: bool,
    default_port: u16,
}

fn error(kind: OutboundErrorKind, message: impl Into<String>) -> OutboundError {
    OutboundError::new(kind, message)
}

impl GuardedClient {
    /// # Errors
    /// Fails when an extra root is not a usable certificate.
    pub fn new(options: ClientOptions) -> Result<Self, rustls::Error> {
        Self::with_judgement(options, is_public)
    }

    fn with_judgement(
        options: ClientOptions,
        is_public: fn(IpAddr) -> bool,
    ) -> Result<Self, rustls::Error> {
        let connector = Connector::new(options.resolver, &options.extra_roots, is_public)?;
        let pool = Pool::new(options.idle_timeout, options.max_idle_per_host);
        Ok(Self { inner: Arc::new(Inner { connector, pool, counters: Counters::default() }) })
    }

    /// Sends a request and follows up to `max_redirects` redirects, each of them under the
    /// same policy and with its addresses checked anew. For Squall's own features; what
    /// functions send gets redirects as responses. Only an empty or whole body can be
    /// sent again; with a streamed one a redirect that keeps the method is returned.
    pub async fn send_following(
        &self,
        request: Request<Body>,
        policy: Arc<OutboundPolicy>,
        timeouts: OutboundTimeouts,
        max_redirects: usize,
    ) -> Result<Response<Body>, OutboundError> {
        let (mut head, mut body) = request.into_parts();
        for hop in 0.. {
            let whole = body.as_full().map(bytes::Bytes::copy_from_slice);
            let mut request = Request::new(body);
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = head.uri.clone();
            *request.headers_mut() = head.headers.clone();
            let response = self.send(request, policy.clone(), timeouts).await?;
            let next =
                redirect::step(response.status(), response.headers(), &head.uri, &head.method);
            let Some(step) = next else { return Ok(response) };
            let step = step.map_err(|reason| error(OutboundErrorKind::Denied, reason))?;
            body = match whole {
                _ if step.drops_body => Body::empty(),
                Some(whole) => Body::full(whole),
                None => return Ok(response),
            };
            if hop == max_redirects {
                let message =
                    format!("more than {max_redirects} redirects, the last to {}", step.uri);
                return Err(error(OutboundErrorKind::TooManyRedirects, message));
            }
            redirect::adapt_headers(&mut head.headers, &head.uri, &step);
            head.method = step.method;
            head.uri = step.uri;
        }
        unreachable!("the loop ends by the number of redirects")
    }

    /// Appends the client's metrics in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        let counters = &self.inner.counters;
        for (name, help, counter) in [
            ("requests", "Outbound requests.", &counters.requests),
            ("denied", "Outbound requests that a policy refused.", &counters.denied),
            ("failed", "Outbound requests that got no response.", &counters.failed),
            ("connections", "Outbound connections opened.", &counters.connections),
            ("reused", "Outbound requests on a connection that was open.", &counters.reused),
        ] {
            let name = format!("squall_outbound_{name}_total");
            write_metric(out, &name, "counter", help, counter.load(Ordering::Relaxed));
        }
    }
}

impl Outbound for GuardedClient {
    fn send(
        &self,
        request: Request<Body>,
        policy: Arc<OutboundPolicy>,
        timeouts: OutboundTimeouts,
    ) -> OutboundFuture {
        let inner = self.inner.clone();
        Box::pin(async move {
            let counters = &inner.counters;
            counters.requests.fetch_add(1, Ordering::Relaxed);
            let outcome = inner.send(request, &policy, timeouts).await;
            match &outcome {
                Err(failure) if failure.kind == OutboundErrorKind::Denied => {
                    counters.denied.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    counters.failed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
            }
            outcome
        })
    }
}

impl Inner {
    async fn send(
        &self,
        mut request: Request<Body>,
        policy: &OutboundPolicy,
        timeouts: OutboundTimeouts,
    ) -> Result<Response<Body>, OutboundError> {
        let target = Target::of(request.uri())?;
        target.check(policy)?;
        headers::prepare_request(&mut request)?;
        let runtime = Handle::current();
        let key = Key {
            runtime: runtime.id(),
            owner: policy.owner.clone(),
            https: target.https,
            host: target.host.clone(),
            port: target.port,
        };
        loop {
            let (mut connection, reused) = match self.pool.take(&key, policy) {
                Some(connection) => (connection, true),
                None => (self.connect(&key, policy, timeouts).await?, false),
            };
            let counter = if reused { &self.counters.reused } else { &self.counters.connections };
            counter.fetch_add(1, Ordering::Relaxed);
            let sending = exchange(&mut connection, request, &target);
            let Ok(sent) = tokio::time::timeout(timeouts.first_byte, sending).await else {
                // Nobody knows whether an HTTP/2 connection that is silent still lives.
                self.pool.forget(&key);
                let message = format!(
                    "{} sent no response within {} ms",
                    target.host,
                    timeouts.first_byte.as_millis()
                );
                return Err(error(OutboundErrorKind::ResponseTimeout, message));
            };
            match sent {
                Ok(response) => {
                    let returning = match connection.sender {
                        Sender::Http1(_) => {
                            let pool = self.pool.clone();
                            Some(Returning { pool, key, connection, runtime })
                        }
                        Sender::Http2(_) => None,
                    };
                    return finish(response, returning, &target, timeouts.between_bytes);
                }
                // The other side closed a waiting connection before anything was sent on
                // it: the request is whole, and a new connection may take it.
                Err(Unsent { request: Some(unsent), .. }) if reused => {
                    if matches!(connection.sender, Sender::Http2(_)) {
                        // It is on its way out (GOAWAY) and would be taken again.
                        self.pool.forget(&key);
                    }
                    request = *unsent;
                }
                Err(Unsent { cause, .. }) => return Err(failure(&target.host, &cause)),
            }
        }
    }

    /// Opens a connection; one that takes several requests goes to the pool at once.
    async fn connect(
        &self,
        key: &Key,
        policy: &OutboundPolicy,
        timeouts: OutboundTimeouts,
    ) -> Result<Connection, OutboundError> {
        let connection = self
            .connector
            .connect(&key.host, key.port, key.https, policy, timeouts.connect)
            .await?;
        if let Sender::Http2(sender) = &connection.sender {
            let sender = Sender::Http2(sender.clone());
            self.pool.put(key.clone(), Connection { sender, public: connection.public });
        }
        Ok(connection)
    }
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, OutboundError> {
        let refuse = |message: String| error(OutboundErrorKind::InvalidRequest, message);
        let (https, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            Some(scheme) => {
                return Err(refuse(format!(
                    "{scheme} is not a scheme to send to; use http or https"
                )));
            }
            None => return Err(refuse(format!("{uri} is not an absolute URL"))),
        };
        let host = Host::of(uri).map_err(|reason| refuse(reason.to_string()))?;
        let port = match uri.port() {
            None => default_port,
            Some(port) if port.as_u16() > 0 => port.as_u16(),
            Some(_) => return Err(refuse(format!("{uri} has port 0"))),
        };
        Ok(Self { host, port, https, default_port })
    }

    fn check(&self, policy: &OutboundPolicy) -> Result<(), OutboundError> {
        let allowed = policy.allowed_hosts.iter().any(|pattern| {
            HostPattern::parse(pattern)
                .is_ok_and(|pattern| pattern.matches(&self.host, self.port, self.default_port))
        });
        if allowed {
            return Ok(());
        }
        let authority = self.authority();
        let message = format!(
            "{authority} is not in allowed_hosts; add \"{authority}\" to the function's allowed_hosts if it is meant to be reached"
        );
        Err(error(OutboundErrorKind::Denied, message))
    }

    /// Host, and port where it is not the scheme's own.
    fn authority(&self) -> String {
        if self.port == self.default_port {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Why an exchange failed, and the request when none of it was sent.
struct Unsent {
    cause: hyper::Error,
    request: Option<Box<Request<Body>>>,
}

async fn exchange(
    connection: &mut Connection,
    mut request: Request<Body>,
    target: &Target,
) -> Result<Response<Incoming>, Unsent> {
    let authority = target.authority();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let original = request.uri().clone();
    let sent = match &mut connection.sender {
        Sender::Http1(sender) => {
            // Origin form; the host goes into the header (RFC 9112, section 3.2.1).
            *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
            *request.version_mut() = Version::HTTP_11;
            if let Ok(authority) = HeaderValue::from_str(&authority) {
                request.headers_mut().insert(HOST, authority);
            }
            sender.try_send_request(request).await
        }
        Sender::Http2(sender) => {
            let scheme = if target.https { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
            *request.uri_mut() = uri.build().unwrap_or_else(|_| original.clone());
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
            sender.try_send_request(request).await
        }
    };
    sent.map_err(|mut failure| {
        let request = failure.take_message().map(|mut request| {
            *request.uri_mut() = original;
            Box::new(request)
        });
        Unsent { cause: failure.into_error(), request }
    })
}

fn finish(
    response: Response<Incoming>,
    returning: Option<Returning>,
    target: &Target,
    between_bytes: Duration,
) -> Result<Response<Body>, OutboundError> {
    let (mut head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let message = format!("{} switched protocols without being asked", target.host);
        return Err(error(OutboundErrorKind::HttpProtocol, message));
    }
    headers::strip_hop_by_hop(&mut head.headers);
    // Of what the connection knows, only the words beside the status are the response's.
    let reason = head.extensions.remove::<ReasonPhrase>();
    head.extensions.clear();
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
    let body = if incoming.is_end_stream() {
        if let Some(returning) = returning {
            returning.finish();
        }
        Body::empty()
    } else {
        Body::stream(ResponseBody::new(incoming, returning, between_bytes))
    };
    Ok(Response::from_parts(head, body))
}

fn failure(host: &Host, cause: &hyper::Error) -> OutboundError {
    let mut source = std::error::Error::source(cause);
    while let Some(inner) = source {
        if let Some(body) = inner.downcast_ref::<BodyError>() {
            let message = format!("the request's body failed: {body}");
            return error(OutboundErrorKind::RequestBody, message);
        }
        source = inner.source();
    }
    let kind = if cause.is_user() {
        OutboundErrorKind::InvalidRequest
    } else if cause.is_closed() || cause.is_canceled() || cause.is_incomplete_message() {
        OutboundErrorKind::ConnectionFailed
    } else {
        OutboundErrorKind::HttpProtocol
    };
    let detail = std::error::Error::source(cause).map(|inner| format!(": {inner}"));
    error(kind, format!("no response from {host}: {cause}{}", detail.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
