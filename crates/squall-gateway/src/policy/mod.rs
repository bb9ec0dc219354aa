//! Policies, compiled: one module for each, one field here, one step in `request.rs`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Response};
use squall_types::Body;
use squall_types::gateway::{Policy, RequestLimits};

use crate::routing::{Compiling, Route};

mod access_log;
pub(crate) mod compression;
mod cors;
pub(crate) mod identity;
pub(crate) mod size;

use identity::Authenticator;

/// What a route asks of requests and does to responses.
pub(crate) struct Policies {
    /// As configured, the app's and the route's own together; for `explain`.
    pub(crate) settings: Policy,
    pub(crate) limits: RequestLimits,
    /// Whom it lets in; everybody without it.
    pub(crate) authenticator: Option<Authenticator>,
    /// From the request's head to the response's.
    pub(crate) response_timeout: Option<Duration>,
}

/// What is learned on a request's way in and needed on its response's way out.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) set_cookies: Vec<HeaderValue>,
}

impl Policies {
    /// `own` is the route's; where it says nothing, the app's holds.
    pub(crate) fn compile(_route: &Arc<str>, own: &Policy, compiling: &Compiling<'_>) -> Self {
        let settings = own.over(&compiling.revision.manifest.gateway.policy);
        let limits = settings.limits.clone().unwrap_or_default();
        let timeouts = settings.timeouts.clone().unwrap_or_default();
        let revision = compiling.revision;
        let identity = &revision.manifest.identity;
        let sources = &compiling.door.identity;
        Self {
            limits,
            authenticator: Authenticator::compile(&settings, &revision.app, identity, sources),
            response_timeout: timeouts.response_ms.map(Duration::from_millis),
            settings,
        }
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
pub(crate) fn finish(route: &Route, reply: &mut Reply, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    for cookie in reply.set_cookies.drain(..) {
        headers.append(header::SET_COOKIE, cookie);
    }
    route.response_headers.apply(headers);
}
