//! Policies, compiled: one module for each, one field here, one step in `request.rs`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response};
use squall_types::Body;
use squall_types::gateway::{Policy, RequestLimits};

use crate::cache::CachePlan;
use crate::routing::{Compiling, Route};

mod access_log;
pub(crate) mod address;
pub(crate) mod compression;
mod cors;
pub(crate) mod https;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod size;

use access_log::LogSampling;
use address::Addresses;
use compression::{CompressionRules, Encoders, Offer};
use cors::{CorsPermit, CorsRules};
use identity::Authenticator;
use limits::{Fields, RouteLimits};

/// What a route asks of requests and does to responses.
pub(crate) struct Policies {
    /// As configured, the app's and the route's own together; for `explain`.
    pub(crate) settings: Policy,
    pub(crate) https: https::Https,
    pub(crate) limits: RequestLimits,
    /// Whom it lets in; everybody without it.
    pub(crate) authenticator: Option<Authenticator>,
    /// None lets every address in.
    pub(crate) addresses: Option<Addresses>,
    /// Rates, requests at once, and what plans say of both.
    pub(crate) allowance: RouteLimits,
    /// From the call of the target to the response's head.
    pub(crate) response_timeout: Option<Duration>,
    /// The beginning of a body is waited for before the target is called.
    pub(crate) request_buffering: bool,
    pub(crate) cors: Option<CorsRules>,
    pub(crate) cache: Option<CachePlan>,
    compression: Option<CompressionRules>,
    pub(crate) access_log: LogSampling,
    /// In place of the door's own.
    pub(crate) body_rate_min_bytes_per_s: Option<u64>,
}

/// What is learned on a request's way in and needed on its response's way out.
#[derive(Default)]
pub(crate) struct Reply {
    /// The caller came over TLS.
    pub(crate) https: bool,
    pub(crate) set_cookies: Vec<HeaderValue>,
    /// A preflight was answered: it is nobody's response but ours.
    is_preflight: bool,
    cors: Option<CorsPermit>,
    offer: Option<Offer>,
    /// What the caller is told of its limits.
    pub(crate) allowance: Fields,
}

impl Policies {
    /// `own` is the route's; where it says nothing, the app's holds.
    pub(crate) fn compile(route: &Arc<str>, own: &Policy, compiling: &Compiling<'_>) -> Self {
        let settings = own.over(&compiling.revision.manifest.gateway.policy);
        let limits = settings.limits.clone().unwrap_or_default();
        let timeouts = settings.timeouts.clone().unwrap_or_default();
        let Compiling { revision, door, plans } = compiling;
        let (identity, sources) = (&revision.manifest.identity, &door.identity);
        Self {
            https: https::Https::compile(&settings),
            limits,
            authenticator: Authenticator::compile(&settings, &revision.app, identity, sources),
            addresses: settings.addresses.as_ref().and_then(Addresses::compile),
            allowance: RouteLimits::compile(
                route,
                &settings,
                own,
                &revision.manifest,
                plans,
                &door.limits,
            ),
            response_timeout: timeouts.response_ms.map(Duration::from_millis),
            request_buffering: settings.request_buffering.unwrap_or(true),
            cors: settings.cors.as_ref().and_then(CorsRules::compile),
            cache: settings.cache.as_ref().and_then(|rules| {
                let counters = compiling.metrics(route).cache();
                CachePlan::compile(rules, route, counters, compiling)
            }),
            compression: settings.compression.as_ref().and_then(CompressionRules::compile),
            access_log: LogSampling::compile(settings.access_log.as_ref()),
            body_rate_min_bytes_per_s: timeouts.body_rate_min_bytes_per_s,
            settings,
        }
    }

    /// Whether it depends on the caller, or on what others do, who is let in. Plans belong to
    /// callers that an authenticator knows.
    pub(crate) fn choose_callers(&self) -> bool {
        self.authenticator.is_some() || !self.allowance.is_empty()
    }

    /// Reads what the response will depend on, before the head is handed on.
    pub(crate) fn read(&self, asked: &HeaderMap, reply: &mut Reply) {
        reply.cors = self.cors.as_ref().map(|cors| cors.permit(asked));
        reply.offer = self.compression.as_ref().map(|rules| rules.offer(asked));
    }

    /// The answer to a CORS preflight.
    pub(crate) fn preflight(
        &self,
        head: &http::request::Parts,
        reply: &mut Reply,
    ) -> Option<Response<Body>> {
        let response = self.cors.as_ref()?.preflight(&head.method, &head.headers)?;
        reply.is_preflight = true;
        Some(response)
    }
}

/// The method that a CORS preflight asks for.
pub(crate) fn preflight_for(head: &http::request::Parts) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(wanted.as_bytes()).ok()
}

/// What a route does to every response, rejections included.
pub(crate) fn finish(
    route: &Route,
    method: &Method,
    reply: &mut Reply,
    encoders: &Arc<Encoders>,
    response: &mut Response<Body>,
) {
    let headers = response.headers_mut();
    if reply.is_preflight {
        route.policies.https.finish(reply.https, headers);
        return;
    }
    if !reply.set_cookies.is_empty() {
        // A cache that gave it to others would bring all of them to one side.
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    for cookie in reply.set_cookies.drain(..) {
        headers.append(header::SET_COOKIE, cookie);
    }
    reply.allowance.set(headers);
    route.policies.https.finish(reply.https, headers);
    route.response_headers.apply(headers);
    let policies = &route.policies;
    if let (Some(cors), Some(permit)) = (&policies.cors, reply.cors.take()) {
        cors.decorate(permit, headers);
    }
    if let (Some(compression), Some(offer)) = (&policies.compression, reply.offer.take()) {
        compression.apply(offer, method, encoders, response);
    }
}
