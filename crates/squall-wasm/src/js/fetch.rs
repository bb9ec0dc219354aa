//! `fetch`: outbound requests of a program, redirects included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use squall_js::{Item, Reader, Value};
use squall_types::bindings::{Binding, BoundRequest, CallDepth};
use squall_types::log::Level;
use squall_types::outbound::{OutboundErrorKind, OutboundTimeouts};
use squall_types::shard::Local;
use squall_types::{Body, ErrorCode};

use super::bodies::written_body;
use super::host::{Denied, Host, Refusal, Request, World};
use super::operations::{OperationFuture, Outcome};
use super::respond::read_headers;
use crate::output::GuestLog;

/// As the Fetch standard has it.
const REDIRECTS_MAX: u32 = 20;

/// A response whose head has come.
pub(crate) struct Fetched {
    pub(crate) response: http::Response<Body>,
    /// After redirects.
    pub(crate) url: String,
    pub(crate) redirected: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnRedirect {
    Follow,
    Error,
    Manual,
}

/// What goes out, in a form that a redirect can repeat where the standard lets it.
struct Outgoing {
    method: Method,
    url: String,
    headers: HeaderMap,
    /// What a redirect can send again; `None` for a stream.
    content: Option<Bytes>,
}

/// `(method, url, headers, body, redirect, binding)`
pub(crate) fn begin(
    host: &mut Host,
    number: u32,
    arguments: &mut Reader<'_>,
) -> Result<OperationFuture, Denied> {
    let method = Method::from_bytes(arguments.str()?.as_bytes())
        .map_err(|_| Refusal::type_error("no method of HTTP"))?;
    let url = arguments.str()?.to_owned();
    let headers = read_headers(arguments)?;
    let mut content = Some(Bytes::new());
    let mut writer = None;
    let body = match arguments.item()? {
        Item::Null => Body::empty(),
        Item::Str(text) => {
            content = Some(Bytes::copy_from_slice(text.as_bytes()));
            Body::empty()
        }
        Item::Bytes(bytes) => {
            content = Some(Bytes::copy_from_slice(bytes));
            Body::empty()
        }
        Item::Array(1) => {
            content = None;
            host.bodies.take(arguments.int()? as u32)?
        }
        Item::Bool(true) => {
            content = None;
            let (writes, body) = written_body();
            writer = Some(writes);
            body
        }
        _ => return Err(Refusal::type_error("a body of an unknown kind").into()),
    };
    let on_redirect = match arguments.str()? {
        "error" => OnRedirect::Error,
        "manual" => OnRedirect::Manual,
        _ => OnRedirect::Follow,
    };
    let named = match arguments.item()? {
        Item::Str(name) => Some(name.to_owned()),
        _ => None,
    };
    let Some(world) = host.world.clone() else {
        return Err(Refusal::type_error("fetch can not be used at top level").into());
    };
    let Some(request) = host.requests.get(&host.current) else {
        return Err(Refusal::type_error("fetch needs a request that it belongs to").into());
    };
    let binding = match named {
        Some(name) => {
            let found = world.function.bindings.get(&name).cloned();
            let absent = || Refusal::type_error(format!("there is no binding {name}"));
            Some((found.ok_or_else(absent)?, name))
        }
        None => None,
    };
    let sender = Sender::new(world, request, binding);
    if let Some(writer) = writer {
        host.sending.insert(number, (host.current, writer));
    }
    let outgoing = Outgoing { method, url, headers, content };
    Ok(Box::pin(async move {
        match sender.follow(outgoing, body, on_redirect).await {
            Ok(fetched) => Outcome::Fetched(Box::new(fetched)),
            Err(refusal) => Outcome::Value(Err(refusal)),
        }
    }))
}

/// `(operation, bytes)`
pub(crate) fn write(
    host: &mut Host,
    arguments: &mut Reader<'_>,
) -> Result<OperationFuture, Denied> {
    let operation = arguments.int()? as u32;
    let piece = Bytes::copy_from_slice(arguments.bytes()?);
    let writer = host.sending.get(&operation).map(|(_, writer)| writer.clone());
    let writer = writer.ok_or_else(|| Refusal::type_error("the request has ended already"))?;
    Ok(Box::pin(async move { Outcome::Value(writer.write(piece).await.map(|()| Value::Null)) }))
}

/// `(operation, failed)`
pub(crate) fn end_body(host: &mut Host, arguments: &mut Reader<'_>) -> Result<(), Denied> {
    let operation = arguments.int()? as u32;
    let failed = arguments.item()?;
    if let (Some((_, writer)), Item::Str(message)) = (host.sending.remove(&operation), failed) {
        writer.fail(message);
    }
    Ok(())
}

/// What a request may still ask of others: the network, bindings and caches.
pub(crate) struct Allowance {
    left: Arc<AtomicU32>,
    log: Arc<GuestLog>,
    limit: u32,
}

impl Allowance {
    pub(crate) fn of(world: &Local<World>, request: &Request) -> Self {
        Self {
            left: request.outbound_left.clone(),
            log: request.log.clone(),
            limit: world.function.limits.outbound_requests,
        }
    }

    /// # Errors
    /// Fails when nothing is left of it.
    pub(crate) fn take_one(&self) -> Result<(), Refusal> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_ok() {
            return Ok(());
        }
        let message = format!(
            "this request wanted more than {} outbound requests (limits.outbound_requests)",
            self.limit
        );
        let code = ErrorCode::OutboundLimitReached;
        self.log.platform(Level::Warn, Some(code), message.clone());
        Err(Refusal::new("Error", message))
    }
}

/// Sends in the name of one request.
struct Sender {
    world: Local<World>,
    trace: squall_types::trace::TraceContext,
    allowance: Allowance,
    log: Arc<GuestLog>,
    depth: CallDepth,
    /// Where it goes instead of the network, and the program's name for that.
    binding: Option<(Binding, String)>,
}

impl Sender {
    fn new(world: Local<World>, request: &Request, binding: Option<(Binding, String)>) -> Self {
        Self {
            depth: request.depth,
            allowance: Allowance::of(&world, request),
            binding,
            world,
            trace: request.trace,
            log: request.log.clone(),
        }
    }

    async fn follow(
        &self,
        mut outgoing: Outgoing,
        first_body: Body,
        on_redirect: OnRedirect,
    ) -> Result<Fetched, Refusal> {
        let mut stream = Some(first_body);
        for redirects in 0..=REDIRECTS_MAX {
            let body = match &outgoing.content {
                Some(content) => Body::full(content.clone()),
                None => stream.take().unwrap_or_default(),
            };
            let response = self.send(&outgoing, body).await?;
            let Some(target) = location(&response) else {
                return Ok(Fetched { response, url: outgoing.url, redirected: redirects > 0 });
            };
            match on_redirect {
                OnRedirect::Manual => {
                    return Ok(Fetched { response, url: outgoing.url, redirected: redirects > 0 });
                }
                OnRedirect::Error => {
                    return Err(Refusal::type_error(format!(
                        "{} answered with a redirect, and the request's redirect is \"error\"",
                        outgoing.url
                    )));
                }
                OnRedirect::Follow => {
                    let target = resolve(&outgoing.url, &target)?;
                    outgoing.redirect(response.status(), &target)?;
                }
            }
        }
        Err(Refusal::type_error(format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn send(&self, outgoing: &Outgoing, body: Body) -> Result<http::Response<Body>, Refusal> {
        self.allowance.take_one()?;
        let without_fragment = outgoing.url.split('#').next().unwrap_or_default();
        let uri: Uri = without_fragment
            .parse()
            .map_err(|_| Refusal::type_error(format!("{without_fragment} can not be fetched")))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = outgoing.headers.clone();
        if let Some((binding, name)) = &self.binding {
            return self.send_to_binding(binding.clone(), name, request).await;
        }
        // https://fetch.spec.whatwg.org/#http-network-or-cache-fetch
        let defaults = [(header::ACCEPT, "*/*"), (header::USER_AGENT, "Squall")];
        for (name, value) in defaults {
            let value = http::HeaderValue::from_static(value);
            request.headers_mut().entry(name).or_insert(value);
        }
        if !request.headers().contains_key("traceparent") {
            let child = self.trace.child(squall_types::trace::random());
            if let Ok(value) = http::HeaderValue::from_bytes(&child.header()) {
                request.headers_mut().insert("traceparent", value);
            }
        }
        let policy = self.world.policy.clone();
        let sent = self.world.outbound.send(request, policy, OutboundTimeouts::default()).await;
        sent.map_err(|error| {
            let code = match error.kind {
                OutboundErrorKind::Denied => ErrorCode::OutboundDenied,
                _ => ErrorCode::OutboundFailed,
            };
            self.log.platform(Level::Warn, Some(code), error.message.clone());
            Refusal::type_error(format!("fetch failed: {}", error.message))
        })
    }
}

impl Sender {
    async fn send_to_binding(
        &self,
        binding: Binding,
        name: &str,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Refusal> {
        let bound = BoundRequest {
            from: self.world.function.clone(),
            binding,
            request,
            trace: self.trace,
            depth: self.depth,
        };
        let sent = self.world.bindings.fetch(bound).await;
        sent.map_err(|error| {
            self.log.platform(Level::Warn, Some(error.code), format!("env.{name}: {error}"));
            // What the callee threw is told to its own log.
            let said = format!("env.{name}.fetch failed: {} {}", error.code, error.code.title());
            Refusal::new("Error", said)
        })
    }
}

/// Where a response redirects to, if it does, as it says itself.
fn location(response: &http::Response<Body>) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = response.headers().get(header::LOCATION)?;
    Some(String::from_utf8_lossy(target.as_bytes()).into_owned())
}

/// The URL that a redirect leads to. # Errors
/// Refuses what is no URL of HTTP.
fn resolve(base: &str, location: &str) -> Result<String, Refusal> {
    let refuse = || {
        Refusal::type_error(format!("{base} redirects to {location:?}, which can not be fetched"))
    };
    let base_url = url::Url::parse(base).map_err(|_| refuse())?;
    let mut target = base_url.join(location).map_err(|_| refuse())?;
    if target.fragment().is_none() {
        target.set_fragment(base_url.fragment());
    }
    let is_http = matches!(target.scheme(), "http" | "https");
    if is_http { Ok(target.into()) } else { Err(refuse()) }
}

impl Outgoing {
    /// <https://fetch.spec.whatwg.org/#http-redirect-fetch>
    fn redirect(&mut self, status: StatusCode, target: &str) -> Result<(), Refusal> {
        let becomes_get = match status.as_u16() {
            303 => !matches!(self.method, Method::GET | Method::HEAD),
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.content = Some(Bytes::new());
            for name in [
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LENGTH,
                header::CONTENT_LOCATION,
                header::CONTENT_TYPE,
            ] {
                self.headers.remove(name);
            }
        } else if self.content.is_none() {
            return Err(Refusal::type_error(format!(
                "{} answered with a redirect, and the request's body was a stream that can not be sent again",
                self.url
            )));
        }
        let origin = |url: &str| url::Url::parse(url).map(|url| url.origin());
        if origin(&self.url) != origin(target) {
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                self.headers.remove(name);
            }
        }
        self.url = target.to_owned();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(method: Method, content: Option<&'static str>) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "secret".parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        let content = content.map(|text| Bytes::from_static(text.as_bytes()));
        Outgoing { method, url: "https://a.example/x".into(), headers, content }
    }

    #[test]
    fn a_redirect_repeats_what_may_be_repeated() {
        let see_other = |method: Method, status: u16| {
            let mut request = outgoing(method, Some("body"));
            request.redirect(StatusCode::from_u16(status).unwrap(), "https://a.example/y").unwrap();
            (request.method, request.content.unwrap(), request.headers.len())
        };
        assert_eq!(see_other(Method::POST, 303), (Method::GET, Bytes::new(), 1));
        assert_eq!(see_other(Method::POST, 301), (Method::GET, Bytes::new(), 1));
        assert_eq!(see_other(Method::PUT, 302), (Method::PUT, "body".into(), 2));
        assert_eq!(see_other(Method::POST, 307), (Method::POST, "body".into(), 2));
        let refused = outgoing(Method::POST, None)
            .redirect(StatusCode::PERMANENT_REDIRECT, "https://a.example/y");
        assert!(refused.unwrap_err().message.contains("stream"));
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let mut request = outgoing(Method::GET, Some(""));
        request.redirect(StatusCode::FOUND, "https://a.example:443/y").unwrap();
        assert!(request.headers.contains_key(header::AUTHORIZATION));
        request.redirect(StatusCode::FOUND, "http://a.example/y").unwrap();
        assert!(!request.headers.contains_key(header::AUTHORIZATION));
    }

    #[test]
    fn a_location_is_relative_to_where_it_came_from() {
        let to = |target: &str, status: u16| {
            let response = http::Response::builder().status(status);
            let response = response.header("location", target.as_bytes()).body(Body::empty());
            let target = location(&response.unwrap())?;
            Some(resolve("https://a.example/x/y#part", &target).map_err(|error| error.name))
        };
        let leads = |url: &str| Some(Ok(url.to_owned()));
        assert_eq!(to("../z", 302), leads("https://a.example/z#part"));
        assert_eq!(to("//b.example", 308), leads("https://b.example/#part"));
        assert_eq!(to("/z#other", 301), leads("https://a.example/z#other"));
        assert_eq!(to("/\u{e9}", 301), leads("https://a.example/%C3%A9#part"));
        assert_eq!(to("/z", 304), None);
        assert_eq!(to("file:///etc/passwd", 302), Some(Err("TypeError")));
        assert_eq!(to("http://[", 302), Some(Err("TypeError")));
    }
}
