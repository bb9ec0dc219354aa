//! Connections that the gateway opens to upstreams, below HTTP.
//!
//! The gateway keeps its own pools and speaks its own HTTP to upstreams, but it does not
//! decide which addresses may be reached: the implementation (squall-net) resolves and
//! checks, and checks again when it connects.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::outbound::OutboundError;

/// What is to be reached, and under which conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address, as in a URL: IPv6 is in brackets.
    pub host: String,
    pub port: u16,
    /// Loopback, private and other addresses that are not public are allowed too.
    pub allow_private: bool,
    /// `None` for a plain connection.
    pub tls: Option<EndpointTls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointTls {
    /// The name that the certificate must have; `host` without it.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure: bool,
    pub offer: Offer,
}

/// What is offered by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    Http1,
    Http2,
    /// The other side chooses.
    Either,
}

/// An open connection.
pub enum Dialed {
    Tcp(TcpStream),
    Tls {
        stream: Box<dyn ByteStream>,
        /// The other side chose HTTP/2.
        http2: bool,
    },
}

/// What goes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

pub type ResolveFuture =
    Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, OutboundError>> + Send>>;
pub type OpenFuture = Pin<Box<dyn Future<Output = Result<Dialed, OutboundError>> + Send>>;

/// Resolves and connects. Both take as long as they take: who calls sets a limit, and
/// gives up by dropping the future. Call it on a Tokio runtime.
pub trait Dial: Send + Sync + 'static {
    /// Every address of the endpoint, without repetitions. Fails as a whole when one of
    /// them is not allowed: a name that mixes both is an attack or a mistake.
    fn resolve(&self, endpoint: &Endpoint) -> ResolveFuture;

    /// Connects to one address of the endpoint, with TLS where it asks for it. The address
    /// is checked here too.
    fn open(&self, endpoint: &Endpoint, address: SocketAddr) -> OpenFuture;
}
