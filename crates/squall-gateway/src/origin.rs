//! Calls what is behind a route: a function, an upstream, or the app's files.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use squall_types::address::AddressText;
use squall_types::clients::ApiClient;
use squall_types::log::UpstreamCall;
use squall_types::shard::{Local, Spread};
use squall_types::state::{FunctionSpec, HandlerWorld};
use squall_types::trace::TraceContext;
use squall_types::usage::{Meter, UpstreamKey, UsageSubject};
use squall_types::{Body, ErrorCode, Invocation, InvokeError, Trigger};

use crate::cache::Outcome;
use crate::client::Client;
use crate::policy::identity::Identity;
use crate::policy::limits::Held;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::{self, ReplayBody, UpstreamPool};
use crate::rejection::Rejection;
use crate::request::{REQUEST_ID, TRACEPARENT};
use crate::routing::{Backend, Match};
use crate::{Door, assets, guard, transform, vary};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Parameters of the route's path, as a query: `id=42&name=x`.
const PARAMETERS: HeaderName = HeaderName::from_static("x-squall-params");

/// For whom something is called, and what became of it.
pub(crate) struct Account {
    pub(crate) at: SystemTime,
    pub(crate) accepted: Instant,
    /// From when on the time is the target's: later, where its client had to be waited for.
    pub(crate) called: Instant,
    pub(crate) trace: TraceContext,
    /// Who calls, once that is verified.
    pub(crate) identity: Option<Identity>,
    /// What became of the request at an upstream, where the route leads to one.
    pub(crate) upstream: Option<UpstreamCall>,
    /// What the cache did, where the route has one.
    pub(crate) cached: Option<Outcome>,
    /// It is no request of a caller: what was served stale is fetched anew.
    pub(crate) is_refresh: bool,
    /// Given back when this is dropped.
    pub(crate) held: Held,
    pub(crate) function: Option<Local<FunctionSpec>>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) code: Option<ErrorCode>,
}

impl Account {
    pub(crate) fn new(at: SystemTime, accepted: Instant, trace: TraceContext) -> Self {
        Self {
            at,
            accepted,
            called: accepted,
            trace,
            identity: None,
            upstream: None,
            cached: None,
            is_refresh: false,
            held: Held::default(),
            function: None,
            meter: None,
            code: None,
        }
    }

    /// Whose usage the request is, besides that of its target.
    fn api_client(&self) -> Option<Arc<ApiClient>> {
        self.identity.as_ref().and_then(Identity::client).cloned()
    }

    /// The request has come to what answers it: from here on it is usage.
    pub(crate) fn start_meter(&mut self, door: &Door, subject: UsageSubject) -> &Arc<Meter> {
        let meter = Meter::start(
            door.usage.own(),
            subject.with_client(self.api_client()),
            Trigger::Http,
            &self.trace,
            self.at,
            self.called,
        );
        self.held.reached_target();
        self.meter.insert(meter)
    }
}

/// A request that has found its route.
pub(crate) struct OriginRequest {
    pub(crate) door: Local<Door>,
    pub(crate) client: Client,
    pub(crate) target: guard::Target,
    pub(crate) matched: Match,
    pub(crate) head: http::request::Parts,
    pub(crate) body: Body,
    /// What the client wants to switch to.
    pub(crate) upgrade: Option<Upgrade>,
}

impl OriginRequest {
    /// The same again, to be sent apart from its caller's connection.
    pub(crate) fn without_body(&self) -> Box<Self> {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.head.method.clone();
        head.uri = self.head.uri.clone();
        head.version = self.head.version;
        head.headers = self.head.headers.clone();
        Box::new(Self {
            door: self.door.clone(),
            client: self.client,
            target: self.target.clone(),
            matched: self.matched.clone(),
            head,
            body: Body::empty(),
            upgrade: None,
        })
    }

    /// Takes from the head what the target is not to see, and says who calls. It is done once more
    /// when the request is sent, which changes nothing then.
    pub(crate) fn settle(&mut self, account: &Account) {
        guard::strip_request(&mut self.head.headers);
        set_squall_headers(&mut self.head.headers, &self.matched, &self.target, account);
    }

    /// Dropping the future, or the response's body, gives the call up.
    pub(crate) async fn send(
        self: Box<Self>,
        account: &mut Account,
        backend: &Backend,
    ) -> Result<Response<Body>, Rejection> {
        match backend {
            Backend::Function(function) => self.call(account, function.own()).await,
            // It keeps to the timeout itself, and tells what the time went to.
            Backend::Upstream(pool, usage) => self.forward(account, pool, usage).await,
            Backend::Assets => Box::pin(self.serve_file()).await,
        }
    }

    /// Calls a function, for as long as the route gives it.
    async fn call(
        self: Box<Self>,
        account: &mut Account,
        function: Local<FunctionSpec>,
    ) -> Result<Response<Body>, Rejection> {
        let timeout = self.matched.route().policies.response_timeout;
        // Pinned, since it would have a place before and another while it is waited for.
        let called = pin!(self.invoke(account, function));
        match timeout {
            None => called.await,
            Some(longest) => tokio::time::timeout(longest, called).await.unwrap_or_else(|_| {
                let message = format!("no response within {} ms", longest.as_millis());
                Err(Rejection::new(ErrorCode::WallTimeExceeded, message))
            }),
        }
    }

    /// A file of the app, or its page for what is missing.
    async fn serve_file(self: Box<Self>) -> Result<Response<Body>, Rejection> {
        let Self { door, target, matched, head, .. } = *self;
        let revision = &matched.compiled.revision;
        let path = rewritten(&matched, &target);
        let path = path.as_ref().map_or(target.path(), PathAndQuery::path);
        let file = revision.manifest.assets.as_ref().and_then(|assets| {
            assets::find(revision, assets, &head, path)
                .or_else(|| assets::find_missing(revision, assets, &head))
        });
        match file {
            Some(file) => assets::serve(&door, file, &head).await,
            None => Err(Rejection::new(
                ErrorCode::NoRoute,
                format!("the app has no file and no route for {path}"),
            )),
        }
    }

    /// Sends the request to an upstream.
    async fn forward(
        mut self: Box<Self>,
        account: &mut Account,
        pool: &Spread<UpstreamPool>,
        usage: &Spread<UpstreamKey>,
    ) -> Result<Response<Body>, Rejection> {
        if self.head.method == Method::OPTIONS && !spend_forward(&mut self.head.headers) {
            return Ok(Response::new(Body::empty()));
        }
        let meter = account.start_meter(&self.door, usage.own().into());
        let body = ReplayBody::new(std::mem::take(&mut self.body), Some(meter));
        let upgrade = self.upgrade.take();
        let headers = &mut self.head.headers;
        guard::strip_request(headers);
        set_squall_headers(headers, &self.matched, &self.target, account);
        let route = self.matched.route();
        route.request_headers.apply(headers);
        let path = rewritten(&self.matched, &self.target);
        let mut context = proxy::Context {
            forwarded: proxy::Forwarded {
                client: self.client.address,
                https: self.client.https,
                authority: &self.target.authority,
                trace: account.trace,
                via: pool.settings.via.then_some(self.head.version),
            },
            path_and_query: path.as_ref().unwrap_or(&self.target.path_and_query),
            host: route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref()),
            response_timeout: route.policies.response_timeout,
            upgrade,
            call: account.upstream.insert(UpstreamCall::to(pool.name.own())),
        };
        UpstreamPool::forward(&pool.own(), &self.head, &body, &mut context).await
    }

    async fn invoke(
        self: Box<Self>,
        account: &mut Account,
        function: Local<FunctionSpec>,
    ) -> Result<Response<Body>, Rejection> {
        let Self { door, client, target, matched, mut head, body, .. } = *self;
        let revision = &matched.compiled.revision;
        let assets = revision.manifest.assets.as_ref();
        let rewrites = rewritten(&matched, &target);
        let path = rewrites.as_ref().map_or(target.path(), PathAndQuery::path);
        if let Some(assets) = assets.filter(|assets| assets.first)
            && let Some(file) = assets::find(revision, assets, &head, path)
        {
            return Box::pin(assets::serve(&door, file, &head)).await;
        }
        account.function = Some(function.clone());
        let length = http_body::Body::size_hint(&body).exact();
        if length.is_some_and(|length| length > function.limits.request_body_bytes) {
            return Err(Rejection::new(
                ErrorCode::RequestBodyTooLarge,
                "the body is larger than this function takes",
            ));
        }
        let meter = account.start_meter(&door, function.clone().into()).clone();
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
        prepare_head(&mut head, &target, &matched, client, account);
        let invocation = Invocation {
            function,
            environment: matched.environment(),
            trigger: Trigger::Http,
            request: Request::from_parts(head, body),
            trace: account.trace,
            meter: meter.clone(),
        };
        let invoked = door.contracts.invoke.invoke(invocation).await;
        account.code = meter.failure();
        let passes = match &invoked {
            Ok(response) => falls_through && response.status() == StatusCode::NOT_FOUND,
            Err(error) => error.pass_through,
        };
        if passes
            && let Some(kept) = kept
            && let Some(assets) = assets
            && let Some(file) = assets::find(revision, assets, &kept, path)
        {
            return Box::pin(assets::serve(&door, file, &kept)).await;
        }
        let mut response = invoked?;
        check_response(&mut response)?;
        // Another client would have got the app's page in its place.
        if assets.is_some_and(|assets| assets.spa && (assets.first || passes)) {
            vary::add(response.headers_mut(), "accept");
        }
        Ok(response)
    }
}

/// Counts this hop in `Max-Forwards`. False when there is none left (RFC 9110, section 7.6.2).
fn spend_forward(headers: &mut HeaderMap) -> bool {
    let Some(most) = headers.get(header::MAX_FORWARDS) else { return true };
    let Some(left) = most.to_str().ok().and_then(|most| most.parse::<u64>().ok()) else {
        return true;
    };
    if let Some(left) = left.checked_sub(1) {
        headers.insert(header::MAX_FORWARDS, left.into());
    }
    left > 0
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
    account: &Account,
) {
    let route = matched.route();
    let headers = &mut head.headers;
    guard::strip_request(headers);
    // For what follows at once: the map would grow in steps.
    headers.reserve(6);
    if let Ok(address) = HeaderValue::from_bytes(AddressText::new(client.address).as_bytes()) {
        headers.insert(FORWARDED_FOR, address);
    }
    let proto = if client.https { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    let host = route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref());
    let seen = host.unwrap_or(&target.authority);
    // Nearly always the client wrote it just so: then its own value stays.
    let given = headers.get(header::HOST).filter(|given| **given == *target.authority).cloned();
    let is_given = given.is_some() && host.is_none();
    if let Some(asked) = given.or_else(|| HeaderValue::from_str(&target.authority).ok()) {
        headers.insert(FORWARDED_HOST, asked);
    }
    if !is_given && let Ok(host) = HeaderValue::from_str(seen) {
        headers.insert(header::HOST, host);
    }
    if let Ok(parent) = HeaderValue::from_bytes(&account.trace.header()) {
        headers.insert(TRACEPARENT, parent);
    }
    if let Ok(id) = HeaderValue::from_bytes(account.trace.trace_id_hex().as_bytes()) {
        headers.insert(REQUEST_ID, id);
    }
    set_squall_headers(headers, matched, target, account);
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
    account: &Account,
) {
    if matched.route().has_parameters {
        let parameters = matched.candidate.by.parameters(target.path());
        // A path may hold these as they are; a list of pairs can not.
        const JOINTS: &AsciiSet = &CONTROLS.add(b'&').add(b'=').add(b';').add(b'+');
        let pairs = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, JOINTS)));
        let pairs = pairs.collect::<Vec<_>>().join("&");
        if let Ok(pairs) = HeaderValue::try_from(pairs) {
            headers.insert(PARAMETERS, pairs);
        }
    }
    if let Some(identity) = &account.identity {
        identity.set_headers(headers);
    }
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
