//! The life of a request.
//!
//! `serve` is the wrapper: it knows when a request began, turns a rejection into a
//! response and makes sure that the end is counted. `answer` reads from top to bottom as
//! the page in ARCHITECTURE.md says, and leaves with `?` where a request ends early.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use squall_types::log::UpstreamCall;
use squall_types::state::{FunctionSpec, HandlerWorld};
use squall_types::trace::{TraceContext, random};
use squall_types::usage::{Meter, UpstreamKey, UsageSubject};
use squall_types::{Body, ErrorCode, Invocation, InvokeError, Trigger};

use crate::Door;
use crate::assets;
use crate::client::{self, Client};
use crate::connection::Connection;
use crate::guard;
use crate::policy::identity::Identity;
use crate::policy::limits::{Arrival, Caller, Held};
use crate::policy::{self, Reply};
use crate::proxy::upgrade::{self, Upgrade};
use crate::proxy::{self, UpstreamPool};
use crate::rejection::Rejection;
use crate::response::{OutgoingBody, RequestEnd};
use crate::routing::sticky::Point;
use crate::routing::{Asked, Backend, Fixed, Match, Target};
use crate::transform::{self, Redirection};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Parameters of the route's path, as a query: `id=42&name=x`.
const PARAMETERS: HeaderName = HeaderName::from_static("x-squall-params");

/// Serves one request of a connection.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<OutgoingBody> {
    let door = connection.door();
    let number = connection.next_request();
    let headers = request.headers();
    let client = client::find(
        connection.peer(),
        connection.is_tls(),
        headers,
        &door.options.trusted_proxies,
    );
    let mut end = begin(&connection, client.address, &request);
    let accept = headers.get(header::ACCEPT).cloned();
    let head_only = *request.method() == Method::HEAD;

    let result = match connection.is_refused(number) {
        true => {
            door.counters.refused_framing.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let why = "the request's framing can be read in two ways";
            Err(Rejection::new(ErrorCode::MalformedRequest, why).closing())
        }
        false => answer(&connection, client, &mut end, request).await,
    };

    let mut response = result.unwrap_or_else(|rejection| {
        end.code = Some(rejection.code);
        if let Some(meter) = &end.meter {
            meter.fail(rejection.code);
        }
        let mut asked = HeaderMap::new();
        if let Some(accept) = accept {
            asked.insert(header::ACCEPT, accept);
        }
        rejection.into_response(&asked)
    });
    if let Some(route) = &end.route {
        let (method, reply) = (&end.method, &mut end.reply);
        policy::finish(route, method, reply, &door.encoders, &mut response);
    }
    end.status = response.status().as_u16();
    if let Some(meter) = &end.meter {
        meter.set_status(end.status);
    }
    let request_id = HeaderValue::from_str(end.trace.trace_id_hex().as_str());
    if let Ok(id) = request_id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if connection.is_closing() && !switches {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let bodyless =
        head_only || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if head_only && !response.headers().contains_key(header::CONTENT_LENGTH) {
        let size = http_body::Body::size_hint(response.body()).exact();
        if let Some(size) = size.filter(|size| *size > 0) {
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
        }
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
    request: &Request<Incoming>,
) -> Box<RequestEnd> {
    let parent =
        request.headers().get(TRACEPARENT).and_then(|value| TraceContext::parse(value.as_bytes()));
    let trace = match parent {
        Some(parent) => parent.child(random()),
        None => TraceContext::from_random(random()),
    };
    Box::new(RequestEnd {
        connection: connection.clone(),
        at: SystemTime::now(),
        accepted: Instant::now(),
        method: request.method().clone(),
        host: String::new(),
        path: request.uri().path().to_owned(),
        version: request.version(),
        client,
        user_agent: request.headers().get(header::USER_AGENT).cloned(),
        trace,
        app: None,
        route: None,
        reply: Reply::default(),
        identity: None,
        upstream: None,
        held: Held::default(),
        function: None,
        meter: None,
        status: 499,
        code: None,
        bytes_out: 0,
    })
}

/// A request that has found its route.
struct Exchange<'a> {
    connection: &'a Connection,
    client: Client,
    target: guard::Target,
    matched: Match,
    head: http::request::Parts,
    body: Incoming,
}

async fn answer(
    connection: &Connection,
    client: Client,
    end: &mut RequestEnd,
    request: Request<Incoming>,
) -> Result<Response<Body>, Rejection> {
    let door = connection.door();
    let (mut head, body) = request.into_parts();
    let target = guard::check(&head.method, head.version, &head.uri, &head.headers)
        .map_err(Rejection::closing)?;
    guard::check_underscores(door.options.underscore_headers, &mut head.headers)
        .map_err(Rejection::closing)?;
    target.host().clone_into(&mut end.host);
    target.path().clone_into(&mut end.path);

    if door.options.fixed_response_path.as_deref() == Some(target.path()) {
        return Ok(fixed_response());
    }

    let matched = find_route(door, end, &target, &head)?;
    let route = matched.route().clone();
    end.app = Some(matched.app.name.clone());
    end.take_route(route.clone());
    end.reply.https = client.https;
    let mut exchange = Exchange { connection, client, target, matched, head, body };

    route.policies.read(&exchange.head.headers, &mut end.reply);
    if let Some(addresses) = &route.policies.addresses {
        addresses.check(client.address)?;
    }
    if let Some(allowed) = route.policies.preflight(&exchange.head, &mut end.reply) {
        return Ok(allowed);
    }

    let https_port = door.options.https_port;
    if let Some(elsewhere) =
        route.policies.https.check(client.https, &exchange.target, https_port)?
    {
        return Ok(elsewhere);
    }

    policy::size::check(&route.policies.limits, &exchange.head, &exchange.target, &exchange.body)?;

    let allowance = &route.policies.allowance;
    let arrival = Arrival { accepted: end.accepted, at: end.at };
    let told = &mut end.reply.allowance;
    let anybody =
        Caller { address: client.address, headers: &exchange.head.headers, identity: None };
    allowance.admit_anybody(&door.limits, &anybody, arrival, told).await?;
    if let Some(authenticator) = &route.policies.authenticator {
        let Exchange { target, matched, head, .. } = &mut exchange;
        let (headers, target) = (&mut head.headers, &mut target.path_and_query);
        end.identity = authenticator.authenticate(headers, target, &matched.app.clients).await?;
    }
    let identity = end.identity.as_ref();
    let caller = Caller {
        address: client.address,
        headers: &exchange.head.headers,
        identity: identity.map(Identity::limit_key),
    };
    let known = identity.and_then(Identity::client);
    end.held = allowance.admit(&door.limits, &caller, known, arrival, told).await?;

    match &route.target {
        Target::Redirect(redirect) => Ok(exchange.redirect(redirect)),
        Target::Response(fixed) => Ok(respond(fixed)),
        Target::Assets => exchange.serve_file().await,
        Target::Backend(backend) => exchange.call(end, backend).await,
        Target::Split(split) => {
            let point = match &split.sticky {
                Some(sticky) => sticky.point(&exchange.head.headers),
                None => Point::anywhere(),
            };
            end.reply.set_cookies.extend(point.set_cookie);
            match split.choose(point.at) {
                Some(backend) => exchange.call(end, backend).await,
                None => Err(Rejection::new(ErrorCode::NoRoute, "the route's split has no side")),
            }
        }
    }
}

/// The app and revision of the host, and their route for the rest.
fn find_route(
    door: &Door,
    end: &mut RequestEnd,
    target: &guard::Target,
    head: &http::request::Parts,
) -> Result<Match, Rejection> {
    let chosen = door.routes.load().choose(target.host(), &head.headers)?;
    end.reply.set_cookies.extend(chosen.set_cookie.clone());
    // A preflight asks on behalf of another method, whose route knows the answer.
    if let Some(method) = policy::preflight_for(head)
        && let Ok(matched) = chosen.find(target.host(), &asked(&method, target, head))
        && matched.route().policies.cors.is_some()
    {
        return Ok(matched);
    }
    chosen.find(target.host(), &asked(&head.method, target, head))
}

fn asked<'a>(
    method: &'a Method,
    target: &'a guard::Target,
    head: &'a http::request::Parts,
) -> Asked<'a> {
    let query = target.path_and_query.query();
    Asked { method, path: target.path(), query, headers: &head.headers }
}

impl Exchange<'_> {
    fn redirect(&self, redirect: &Redirection) -> Response<Body> {
        let scheme = if self.client.https { "https" } else { "http" };
        let (by, wanted) = (&self.matched.candidate.by, &self.target.path_and_query);
        let location = redirect.location(scheme, &self.target.authority, by, wanted);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = redirect.status;
        // Of checked parts: it can be sent.
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    /// A file of the app, or its page for what is missing.
    async fn serve_file(self) -> Result<Response<Body>, Rejection> {
        let Self { connection, target, matched, head, .. } = self;
        let revision = &matched.compiled.revision;
        let path = rewritten(&matched, &target);
        let path = path.as_ref().map_or(target.path(), PathAndQuery::path);
        let file = revision.manifest.assets.as_ref().and_then(|assets| {
            assets::find(revision, assets, &head, path)
                .or_else(|| assets::find_missing(revision, assets, &head))
        });
        match file {
            Some(file) => assets::serve(connection.door(), file, &head).await,
            None => Err(Rejection::new(
                ErrorCode::NoRoute,
                format!("the app has no file and no route for {path}"),
            )),
        }
    }

    async fn call(
        self,
        end: &mut RequestEnd,
        backend: &Backend,
    ) -> Result<Response<Body>, Rejection> {
        let timeout = self.matched.route().policies.response_timeout;
        let function = match backend {
            Backend::Function(function) => function.clone(),
            // It keeps to the timeout itself, and tells what the time went to.
            Backend::Upstream(pool, usage) => return self.forward(end, pool, usage).await,
        };
        let called = self.invoke(end, function);
        match timeout {
            None => called.await,
            Some(longest) => tokio::time::timeout(longest, called).await.unwrap_or_else(|_| {
                let message = format!("no response within {} ms", longest.as_millis());
                Err(Rejection::new(ErrorCode::WallTimeExceeded, message))
            }),
        }
    }

    /// Sends the request to an upstream.
    async fn forward(
        self,
        end: &mut RequestEnd,
        pool: &Arc<UpstreamPool>,
        usage: &Arc<UpstreamKey>,
    ) -> Result<Response<Body>, Rejection> {
        let Self { connection, client, target, matched, mut head, body } = self;
        let route = matched.route();
        let most = route.policies.limits.body_bytes;
        let rate = route.policies.body_rate_min_bytes_per_s;
        let body = policy::size::limit(connection.guard_body(body, rate), most);
        start_meter(connection.door(), end, usage.clone().into());
        let body = end.count_in(body);
        let wanted = upgrade::wanted(&mut head);
        let wanted = wanted.filter(|_| http_body::Body::is_end_stream(&body));
        let draining = || connection.door().connections.draining();
        let upgrade = wanted.map(|wanted| {
            Upgrade::new(wanted, draining(), end.connection.clone(), end.held.permits())
        });
        guard::strip_request(&mut head.headers);
        set_squall_headers(&mut head.headers, &matched, &target, end);
        route.request_headers.apply(&mut head.headers);
        let path = rewritten(&matched, &target);
        head.uri = Uri::from(path.unwrap_or_else(|| target.path_and_query.clone()));
        head.extensions.clear();
        let context = proxy::Context {
            forwarded: proxy::Forwarded {
                client: client.address,
                https: client.https,
                authority: &target.authority,
                trace: end.trace,
                via: pool.settings.via.then_some(head.version),
            },
            host: route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref()),
            response_timeout: route.policies.response_timeout,
            upgrade,
            call: end.upstream.insert(Box::new(UpstreamCall::to(pool.name.clone()))),
        };
        pool.forward(Request::from_parts(head, body), context).await
    }

    async fn invoke(
        self,
        end: &mut RequestEnd,
        function: Arc<FunctionSpec>,
    ) -> Result<Response<Body>, Rejection> {
        let Self { connection, client, target, matched, mut head, body } = self;
        let door = connection.door();
        let revision = &matched.compiled.revision;
        let assets = revision.manifest.assets.as_ref();
        if let Some(assets) = assets.filter(|assets| assets.first)
            && let Some(file) = assets::find(revision, assets, &head, target.path())
        {
            return assets::serve(door, file, &head).await;
        }
        end.function = Some(function.clone());
        let contracts = &door.contracts;
        let meter = start_meter(door, end, function.clone().into());

        let policies = &matched.route().policies;
        let body = connection.guard_body(body, policies.body_rate_min_bytes_per_s);
        let body = policy::size::limit(body, policies.limits.body_bytes);
        let length = http_body::Body::size_hint(&body).exact();
        if length.is_some_and(|length| length > function.limits.request_body_bytes) {
            return Err(Rejection::new(
                ErrorCode::RequestBodyTooLarge,
                "the body is larger than this function takes",
            ));
        }
        // JavaScript may ask for the assets when it throws.
        let may_pass = function.fall_through || function.world == HandlerWorld::JavaScript;
        let may_pass =
            may_pass && assets.is_some() && matches!(head.method, Method::GET | Method::HEAD);
        let falls_through = function.fall_through;
        let kept = may_pass.then(|| {
            let mut kept = Request::new(()).into_parts().0;
            kept.method = head.method.clone();
            kept.headers = head.headers.clone();
            kept
        });
        prepare_head(&mut head, &target, &matched, client, end);
        let invocation = Invocation {
            function,
            environment: matched.environment(),
            trigger: Trigger::Http,
            request: Request::from_parts(head, body),
            trace: end.trace,
            meter: meter.clone(),
        };
        let invoked = contracts.invoke.invoke(invocation).await;
        end.code = meter.failure();
        let passes = match &invoked {
            Ok(response) => falls_through && response.status() == StatusCode::NOT_FOUND,
            Err(error) => error.pass_through,
        };
        if passes
            && let Some(kept) = kept
            && let Some(assets) = assets
            && let Some(file) = assets::find(revision, assets, &kept, target.path())
        {
            return assets::serve(door, file, &kept).await;
        }
        let mut response = invoked?;
        check_response(&mut response)?;
        Ok(response)
    }
}

/// The request has come to what answers it: from here on it is usage.
fn start_meter(door: &Door, end: &mut RequestEnd, subject: UsageSubject) -> Arc<Meter> {
    let meter = Meter::start(
        door.contracts.usage.clone(),
        subject.with_client(end.api_client()),
        Trigger::Http,
        &end.trace,
        end.at,
        end.accepted,
    );
    end.meter = Some(meter.clone());
    end.held.reached_target();
    meter
}

/// The path and query that the target sees, where the route changes them.
fn rewritten(matched: &Match, target: &guard::Target) -> Option<PathAndQuery> {
    let route = matched.route();
    let by = &matched.candidate.by;
    transform::rewrite(route.rewrite.as_ref(), &route.request_query, by, &target.path_and_query)
}

/// What a function sees of the head: normalised, changed as the route says, and with our
/// word for who calls.
fn prepare_head(
    head: &mut http::request::Parts,
    target: &guard::Target,
    matched: &Match,
    client: Client,
    end: &RequestEnd,
) {
    let route = matched.route();
    let headers = &mut head.headers;
    guard::strip_request(headers);
    if let Ok(address) = HeaderValue::from_str(&client.address.to_string()) {
        headers.insert(FORWARDED_FOR, address);
    }
    let proto = if client.https { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    let host = route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref());
    let seen = host.unwrap_or(&target.authority);
    if let Ok(asked) = HeaderValue::from_str(&target.authority) {
        headers.insert(FORWARDED_HOST, asked);
    }
    if let Ok(host) = HeaderValue::from_str(seen) {
        headers.insert(header::HOST, host);
    }
    if let Ok(parent) = HeaderValue::from_bytes(&end.trace.header()) {
        headers.insert(TRACEPARENT, parent);
    }
    if let Ok(id) = HeaderValue::from_str(end.trace.trace_id_hex().as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    set_squall_headers(headers, matched, target, end);
    route.request_headers.apply(headers);
    let path = rewritten(matched, target).unwrap_or_else(|| target.path_and_query.clone());
    let uri = Uri::builder().scheme(proto).authority(seen).path_and_query(path);
    // Each part was checked on its own; together they are a URI.
    head.uri = uri.build().expect("a checked authority and a checked path");
    head.extensions.clear();
}

/// What functions and upstreams are told and a caller can not: the parameters of the path,
/// and who is calling.
fn set_squall_headers(
    headers: &mut HeaderMap,
    matched: &Match,
    target: &guard::Target,
    end: &RequestEnd,
) {
    if matched.route().has_parameters {
        let parameters = matched.candidate.by.parameters(target.path());
        let pairs = parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs = pairs.collect::<Vec<_>>().join("&");
        if let Ok(pairs) = HeaderValue::try_from(pairs) {
            headers.insert(PARAMETERS, pairs);
        }
    }
    if let Some(identity) = &end.identity {
        identity.set_headers(headers);
    }
}

fn respond(fixed: &Fixed) -> Response<Body> {
    let mut response = Response::new(Body::full(fixed.body.clone()));
    *response.status_mut() = fixed.status;
    *response.headers_mut() = fixed.headers.clone();
    response
}

/// A response that can not be sent as it is becomes an error before its head goes out.
fn check_response(response: &mut Response<Body>) -> Result<(), Rejection> {
    // The owner's business, as everything that a function did.
    let refuse =
        |message: &str| Err(Rejection::from(InvokeError::new(ErrorCode::InvalidResponse, message)));
    if response.status().is_informational() {
        return refuse("the function answered with an informational status");
    }
    let headers = response.headers_mut();
    guard::strip_hop_by_hop(headers);
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next().cloned();
    if lengths.next().is_some() {
        return refuse("the function gave two lengths for its body");
    }
    if let Some(length) = length {
        let digits = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        let exact = http_body::Body::size_hint(response.body()).exact();
        match (digits, exact) {
            (None, _) => return refuse("the function gave a length that is no number"),
            (Some(said), Some(is)) if said != is && is > 0 => {
                return refuse("the function gave a length that its body does not have");
            }
            _ => {}
        }
    }
    Ok(())
}

fn fixed_response() -> Response<Body> {
    let mut response = Response::new(Body::from("{\"hello\":\"world\"}"));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
