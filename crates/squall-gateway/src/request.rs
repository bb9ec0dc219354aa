//! The life of a request.
//!
//! `serve` is the wrapper: it knows when a request began, turns a rejection into a
//! response and makes sure that the end is counted. `read`, `admit` and `answer` go from top
//! to bottom as the page in ARCHITECTURE.md says, and leave with `?` where a request ends
//! early.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use squall_types::gateway::Protocol;
use squall_types::trace::{TraceContext, random};
use squall_types::{Body, ErrorCode};

use crate::Door;
use crate::cache;
use crate::client::{self, Client};
use crate::connection::Connection;
use crate::guard;
use crate::origin::{Account, OriginRequest};
use crate::policy::identity::Identity;
use crate::policy::limits::{Arrival, Caller};
use crate::policy::{self, Reply};
use crate::proxy::upgrade::{self, Upgrade};
use crate::rejection::Rejection;
use crate::response::{OutgoingBody, RequestEnd};
use crate::routing::sticky::Point;
use crate::routing::{Asked, Backend, Fixed, Match, Route, Target};
use crate::transform::Redirection;
use crate::turn;
use crate::upload::{self, Upload};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves one request of a connection. All that needs no waiting is done before there is a
/// future, which is moved to its place on the connection as a whole.
pub(crate) fn serve(
    connection: Arc<Connection>,
    mut request: Request<Upload>,
) -> impl Future<Output = Result<Response<OutgoingBody>, Infallible>> {
    let door = connection.door();
    let number = connection.next_request();
    let headers = request.headers();
    let client = client::find(
        connection.peer(),
        connection.is_tls(),
        headers,
        &door.options.trusted_proxies,
    );
    let mut end = begin(&connection, client.address, &mut request);
    let accept = request.headers().get(header::ACCEPT).cloned();
    let reading = match connection.is_refused(number) {
        true => {
            door.counters.refused_framing.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            end.host = guard::host_of(request.version(), request.uri(), request.headers());
            let why = "the request's framing can be read in two ways";
            Err(Rejection::new(ErrorCode::MalformedRequest, why).closing())
        }
        false => read(&connection, client, &mut end, request),
    };
    async move {
        let result = match reading {
            Ok(Reading::Routed(request)) => answer(&connection, request, &mut end).await,
            Ok(Reading::Answered(response)) => Ok(response),
            Err(rejection) => Err(rejection),
        };
        turn::served(end.account.meter.as_ref().map_or(0, |meter| meter.cpu_ns()));
        let response = result.unwrap_or_else(|rejection| refused(rejection, accept, &mut end));
        Ok(send(&connection, response, end))
    }
}

/// The response to a request that was not let through, or failed behind.
fn refused(
    rejection: Rejection,
    accept: Option<HeaderValue>,
    end: &mut RequestEnd,
) -> Response<Body> {
    end.account.code = Some(rejection.code);
    if let Some(meter) = &end.account.meter {
        meter.fail(rejection.code);
    }
    let asked = accept.map(|accept| (header::ACCEPT, accept));
    rejection.into_response(&HeaderMap::from_iter(asked))
}

/// What is done to every response.
fn send(
    connection: &Connection,
    mut response: Response<Body>,
    mut end: Box<RequestEnd>,
) -> Response<OutgoingBody> {
    if let Some(matched) = &end.matched {
        let (method, reply) = (&end.method, &mut end.reply);
        policy::finish(&matched.route, method, reply, &connection.door().encoders, &mut response);
    }
    end.status = response.status().as_u16();
    if let Some(meter) = &end.account.meter {
        meter.set_status(end.status);
    }
    let request_id = HeaderValue::from_bytes(end.account.trace.trace_id_hex().as_bytes());
    if let Ok(id) = request_id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(upload) = &end.upload {
        upload.answered();
    }
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && let Some(tunnel) = end.tunnel.take() {
        connection.becomes_tunnel();
        // Whoever opened the tunnel waits for it.
        let _ = tunnel.send(end);
        return response.map(|_| OutgoingBody::of_switch());
    }
    if connection.is_closing() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110, section 8.6: there is none to speak of.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let head_only = end.method == Method::HEAD;
    let bodyless =
        head_only || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if head_only && !response.headers().contains_key(header::CONTENT_LENGTH) {
        let size = http_body::Body::size_hint(response.body()).exact();
        if let Some(size) = size.filter(|size| *size > 0) {
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
        }
    }
    if end.version == Version::HTTP_10
        && !bodyless
        && !response.headers().contains_key(header::CONTENT_LENGTH)
        && http_body::Body::size_hint(response.body()).exact().is_none()
    {
        // The end of the connection is that of the body.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let promised_bytes = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok());
    response.map(|body| OutgoingBody::new(body, end, promised_bytes, bodyless))
}

/// From here on the request is counted, whatever becomes of it.
fn begin(
    connection: &Arc<Connection>,
    client: IpAddr,
    request: &mut Request<Upload>,
) -> Box<RequestEnd> {
    let parent = continued(request.headers_mut());
    let trace = match parent {
        Some(parent) => parent.child(random()),
        None => TraceContext::from_random(random()),
    };
    Box::new(RequestEnd {
        connection: connection.clone(),
        account: Account::new(SystemTime::now(), Instant::now(), trace),
        method: request.method().clone(),
        host: String::new(),
        path: request.uri().path().to_owned(),
        version: request.version(),
        client,
        user_agent: request.headers().get(header::USER_AGENT).cloned(),
        app: None,
        matched: None,
        reply: Reply::default(),
        tunnel: None,
        upload: None,
        status: 499,
        bytes_out: 0,
    })
}

/// The trace that a request belongs to. What is no trace leaves nothing of itself, as W3C Trace
/// Context has it (section 4.2 and 3.3.1).
fn continued(headers: &mut HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let first = given.next()?;
    let parent = TraceContext::parse(first.as_bytes()).filter(|_| given.next().is_none());
    if parent.is_none() {
        headers.remove(TRACESTATE);
    }
    parent
}

/// What a first look at a request leads to.
enum Reading {
    Answered(Response<Body>),
    /// It has found its route. Behind a pointer: it is handed on several times.
    Routed(Box<OriginRequest>),
}

async fn answer(
    connection: &Connection,
    mut request: Box<OriginRequest>,
    end: &mut RequestEnd,
) -> Result<Response<Body>, Rejection> {
    let candidate = request.matched.candidate.clone();
    let route = &candidate.route;

    if route.policies.choose_callers() {
        // Boxed, since many routes let everybody in.
        Box::pin(admit(connection.door(), route, &mut request, end)).await?;
    }

    match &route.target {
        Target::Redirect(redirect) => Ok(redirected(&request, redirect)),
        Target::Response(fixed) => Ok(respond(fixed)),
        Target::Backend(backend) => call(connection, request, end, route, backend).await,
        Target::Split(split) => {
            let point = match &split.sticky {
                Some(sticky) => sticky.point(&request.head.headers, &end.reply.set_cookies),
                None => Point::anywhere(),
            };
            end.reply.set_cookies.extend(point.set_cookie);
            match split.choose(point.at) {
                Some(backend) => call(connection, request, end, route, backend).await,
                None => Err(Rejection::new(ErrorCode::NoRoute, "the route's split has no side")),
            }
        }
    }
}

/// Checks the request and finds its route, and does what the route asks of everybody alike.
fn read(
    connection: &Connection,
    client: Client,
    end: &mut RequestEnd,
    request: Request<Upload>,
) -> Result<Reading, Rejection> {
    let door = connection.door();
    let (mut head, body) = request.into_parts();
    if head.version == Version::HTTP_2 {
        guard::join_cookies(&mut head.headers);
    }
    if head.headers.len() > door.options.limits.headers_max {
        let why = format!("there are more than {} headers", door.options.limits.headers_max);
        return Err(Rejection::new(ErrorCode::HeadTooLarge, why).closing());
    }
    let target = guard::check(&head.method, head.version, &head.uri, &head.headers);
    let target = target.map_err(|rejection| {
        end.host = guard::host_of(head.version, &head.uri, &head.headers);
        rejection.closing()
    })?;
    guard::check_underscores(door.options.underscore_headers, &mut head.headers)
        .map_err(Rejection::closing)?;
    target.host().clone_into(&mut end.host);
    target.path().clone_into(&mut end.path);
    if !connection.is_for(target.host()) {
        let why = format!("the certificate of this connection is not for {}", target.host());
        return Err(Rejection::new(ErrorCode::MisdirectedRequest, why));
    }

    if door.options.fixed_response_path.as_deref() == Some(target.path()) {
        return Ok(Reading::Answered(fixed_response()));
    }

    let matched = find_route(door, end, &target, &head)?;
    end.take_route(&matched);
    let policies = &matched.route().policies;
    end.reply.https = client.https;
    policies.read(&head.headers, &mut end.reply);
    if let Some(addresses) = &policies.addresses {
        addresses.check(client.address)?;
    }
    if let Some(allowed) = policies.preflight(&head, &mut end.reply) {
        return Ok(Reading::Answered(allowed));
    }
    if let Some(elsewhere) = policies.https.check(client.https, &target, door.options.https_port)? {
        return Ok(Reading::Answered(elsewhere));
    }
    policy::size::check(&policies.limits, &head, &target, body.length())?;

    let rate_min = policies.body_rate_min_bytes_per_s;
    let body =
        end.guard_body(body, rate_min.or_else(|| is_call_of_grpc(&head, &matched).then_some(0)));
    let body = policy::size::limit(body, policies.limits.body_bytes);
    let (door, upgrade) = (door.clone(), None);
    let request = OriginRequest { door, client, target, matched, head, body, upgrade };
    Ok(Reading::Routed(Box::new(request)))
}

/// Whether it is for an upstream and of gRPC, whose calls may rest: the upstream knows for how long.
fn is_call_of_grpc(head: &http::request::Parts, matched: &Match) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    head.version == Version::HTTP_2
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
        && matches!(matched.route().target, Target::Backend(Backend::Upstream(..)))
}

/// Asks those who choose callers: limits by address, authentication, all other limits.
async fn admit(
    door: &Door,
    route: &Route,
    request: &mut OriginRequest,
    end: &mut RequestEnd,
) -> Result<(), Rejection> {
    let OriginRequest { client, target, matched, head, .. } = request;
    let address = client.address;
    let allowance = &route.policies.allowance;
    let arrival = Arrival { accepted: end.account.accepted, at: end.account.at };
    let told = &mut end.reply.allowance;
    let anybody = Caller { address, headers: &head.headers, identity: None };
    allowance.admit_anybody(&door.limits, &anybody, arrival, told).await?;
    if let Some(authenticator) = &route.policies.authenticator {
        let (headers, target) = (&mut head.headers, &mut target.path_and_query);
        end.account.identity =
            authenticator.authenticate(headers, target, &matched.app().clients).await?;
    }
    let identity = end.account.identity.as_ref();
    let limit_key = identity.map(Identity::limit_key);
    let caller = Caller { address, headers: &head.headers, identity: limit_key };
    let known = identity.and_then(Identity::client);
    end.account.held = allowance.admit(&door.limits, &caller, known, arrival, told).await?;
    Ok(())
}

/// The app and revision of the host, and their route for the rest.
fn find_route(
    door: &Door,
    end: &mut RequestEnd,
    target: &guard::Target,
    head: &http::request::Parts,
) -> Result<Match, Rejection> {
    let mut chosen = door.routes.load().choose(target.host(), &head.headers)?;
    end.reply.set_cookies.extend(chosen.set_cookie.take());
    // A preflight asks on behalf of another method, whose route knows the answer.
    if let Some(method) = policy::preflight_for(head) {
        let found = chosen.find(target.host(), &asked(&method, target, head)).ok();
        // Whoever asks for a method that there is not, is told no as everybody else is.
        let found = found.or_else(|| chosen.of_path(target.host(), target.path()));
        if let Some(candidate) = found.filter(|found| found.route.policies.cors.is_some()) {
            return Ok(chosen.with(candidate));
        }
    }
    let candidate = chosen.find(target.host(), &asked(&head.method, target, head))?;
    Ok(chosen.with(candidate))
}

fn asked<'a>(
    method: &'a Method,
    target: &'a guard::Target,
    head: &'a http::request::Parts,
) -> Asked<'a> {
    let query = target.path_and_query.query();
    Asked { method, path: target.path(), query, headers: &head.headers }
}

fn redirected(request: &OriginRequest, redirect: &Redirection) -> Response<Body> {
    let OriginRequest { door, client, target, matched, .. } = request;
    let scheme = if client.https { "https" } else { "http" };
    let (by, wanted) = (&matched.candidate.by, &target.path_and_query);
    let port = door.options.https_port;
    let location = redirect.location(scheme, &target.authority, port, by, wanted);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirect.status;
    // Of checked parts: it can be sent.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Calls what is behind the route.
async fn call(
    connection: &Connection,
    mut request: Box<OriginRequest>,
    end: &mut RequestEnd,
    route: &Route,
    backend: &Backend,
) -> Result<Response<Body>, Rejection> {
    if let Backend::Upstream(pool, _) = backend
        // HTTP/2 knows nothing of it, and it may be ignored (RFC 9110, section 7.8).
        && pool.settings.protocol != Protocol::Http2
        && let Some(wanted) = upgrade::wanted(&mut request.head)
        && http_body::Body::is_end_stream(&request.body)
    {
        let draining = connection.door().connections.draining();
        request.upgrade = Some(Upgrade::new(wanted, draining, end.promise_to_tunnel()));
    }
    if awaits_body(&request, route, backend) {
        let until = Instant::now() + connection.door().options.limits.head_timeout;
        // Boxed, since most requests have no body that is still to come.
        let begun = Box::pin(upload::begun(std::mem::take(&mut request.body), until)).await;
        request.body =
            begun.map_err(|error| Rejection::new(error.code, error.message).closing())?;
        end.account.called = Instant::now();
    }
    match &route.policies.cache {
        Some(plan) => cache::answer(request, &mut end.account, backend, plan).await,
        None => request.send(&mut end.account, backend).await,
    }
}

/// Whether the beginning of the body is waited for before `backend` is called. Where no length is
/// announced, the client may want an answer before it sends more.
fn awaits_body(request: &OriginRequest, route: &Route, backend: &Backend) -> bool {
    if request.body.as_full().is_some() || !route.policies.request_buffering {
        return false;
    }
    let length = http_body::Body::size_hint(&request.body).exact();
    let expects = request.head.headers.contains_key(header::EXPECT);
    length.is_some_and(|length| match backend {
        // It refuses what is too large, and asks for what waits to be asked for.
        Backend::Function(function) => length <= function.limits.request_body_bytes && !expects,
        // With HTTP/2 nobody asks: the upstream may say no before the client has waited enough.
        Backend::Upstream(..) => !(expects && request.head.version == Version::HTTP_2),
        Backend::Assets => false,
    })
}

fn respond(fixed: &Fixed) -> Response<Body> {
    let mut response = Response::new(Body::full(fixed.body.clone()));
    *response.status_mut() = fixed.status;
    *response.headers_mut() = fixed.headers.clone();
    response
}

fn fixed_response() -> Response<Body> {
    let mut response = Response::new(Body::from("{\"hello\":\"world\"}"));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request's is moved to its place on the connection as a whole. What is seldom gone
    /// through has to be boxed, or all requests pay for it.
    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 2 << 10, "{} bytes", size(serve));
    }
}
