//! The one way out: HTTP requests that functions and features make to other hosts.
//!
//! Whoever sends names the policy it sends under. The implementation (squall-net)
//! resolves, checks every address and connects to the checked one only.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::Body;

/// What a sender may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Whose requests these are, such as an app's name. Connections are pooled per
    /// owner, so that one app never reads from a connection that another wrote to.
    pub owner: String,
    /// `api.example.com`, `*.example.com`, `[2001:db8::1]`, with an optional `:port`;
    /// `*` for any host. Empty allows nothing.
    pub allowed_hosts: Vec<String>,
    /// Loopback, private and other addresses that are not public are allowed too.
    pub allow_private: bool,
}

/// How long each phase of one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundTimeouts {
    /// Name resolution, connecting and the TLS handshake together.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of the response body.
    pub between_bytes: Duration,
}

impl Default for OutboundTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            between_bytes: Duration::from_secs(60),
        }
    }
}

/// What went wrong, in the terms of `wasi:http`'s error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutboundErrorKind {
    /// The host is not in the policy, or resolves to an address that is not allowed.
    Denied,
    /// The request can not be sent: no absolute URI, an unknown scheme, user info.
    InvalidRequest,
    DnsTimeout,
    /// The name does not resolve.
    DnsFailed,
    ConnectionRefused,
    ConnectionTimeout,
    /// The connection broke, or no address could be reached.
    ConnectionFailed,
    TlsCertificate,
    TlsProtocol,
    /// The other side sent no head in time.
    ResponseTimeout,
    /// The other side does not speak HTTP, or broke off.
    HttpProtocol,
    /// The body of the request failed while it was sent.
    RequestBody,
    TooManyRedirects,
}

/// Why there is no response. `message` is for the owner of the function; it may name
/// addresses that a caller should not learn.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct OutboundError {
    pub kind: OutboundErrorKind,
    pub message: String,
}

impl OutboundError {
    pub fn new(kind: OutboundErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

pub type OutboundFuture =
    Pin<Box<dyn Future<Output = Result<http::Response<Body>, OutboundError>> + Send>>;

/// Sends requests. Redirects are returned, not followed. Dropping the future, or the
/// response's body, gives the request up.
pub trait Outbound: Send + Sync + 'static {
    /// `request` has an absolute `http` or `https` URI. Its hop-by-hop headers are
    /// removed and `Host` is set from the URI. Call it on a Tokio runtime.
    fn send(
        &self,
        request: http::Request<Body>,
        policy: Arc<OutboundPolicy>,
        timeouts: OutboundTimeouts,
    ) -> OutboundFuture;
}
