//! From a host to an open connection: resolve, check, connect, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use squall_types::Body;
use squall_types::dial::Offer;
use squall_types::outbound::{OutboundError, OutboundErrorKind, OutboundPolicy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::host::Host;
use crate::pool::{Connection, Sender};
use crate::resolve::Resolve;
use crate::tls::{TlsConnectors, Trust};

/// More answers than this help nobody who waits for a connection.
const MAX_ADDRESSES: usize = 8;
/// An address that does not answer leaves time for the next one.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);
const MAX_HEADER_BYTES: usize = 256 << 10;
/// Of all streams of a connection, by RFC 9113, section 6.9.1. What bounds a response is its
/// stream's own: a response that its function does not read must not hold up the others.
const WINDOW_MAX_BYTES: u32 = (1 << 31) - 1;

fn error(kind: OutboundErrorKind, message: String) -> OutboundError {
    OutboundError::new(kind, message)
}

pub(crate) struct Connector {
    resolver: Arc<dyn Resolve>,
    tls: TlsConnectors,
    /// `addresses::is_public`; tests have only loopback addresses to call public.
    is_public: fn(IpAddr) -> bool,
}

impl Connector {
    /// # Errors
    /// Fails when an extra root is not a certificate that can be an anchor of trust.
    pub(crate) fn new(
        resolver: Arc<dyn Resolve>,
        extra_roots: &[CertificateDer<'static>],
        is_public: fn(IpAddr) -> bool,
    ) -> Result<Self, rustls::Error> {
        Ok(Self { resolver, tls: TlsConnectors::new(extra_roots)?, is_public })
    }

    /// Opens a connection to an address that `policy` allows, within `timeout`.
    pub(crate) async fn connect(
        &self,
        host: &Host,
        port: u16,
        https: bool,
        policy: &OutboundPolicy,
        timeout: Duration,
    ) -> Result<Connection, OutboundError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let addresses = tokio::time::timeout_at(deadline, self.addresses(host, port, policy))
            .await
            .map_err(|_| {
                let message = format!("{host} did not resolve within {} ms", timeout.as_millis());
                error(OutboundErrorKind::DnsTimeout, message)
            })??;
        let connecting = async {
            let stream = connect_to(&addresses, host, deadline).await?;
            let address = stream.peer_addr().map_err(|cause| {
                let message = format!("the connection to {host} broke: {cause}");
                error(OutboundErrorKind::ConnectionFailed, message)
            })?;
            let sender = if https {
                self.encrypt(stream, host).await?
            } else {
                speak_http1(stream, host).await?
            };
            Ok(Connection { sender, public: (self.is_public)(address.ip()) })
        };
        tokio::time::timeout_at(deadline, connecting).await.map_err(|_| {
            let message =
                format!("no connection to {host}:{port} within {} ms", timeout.as_millis());
            error(OutboundErrorKind::ConnectionTimeout, message)
        })?
    }

    async fn addresses(
        &self,
        host: &Host,
        port: u16,
        policy: &OutboundPolicy,
    ) -> Result<Vec<SocketAddr>, OutboundError> {
        let mut addresses =
            self.all_addresses(host, port, policy.allow_private, "the function").await?;
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    /// Every address of the host, all of them checked. One that is not allowed spoils the
    /// others: a name that mixes both is an attack or a mistake.
    pub(crate) async fn all_addresses(
        &self,
        host: &Host,
        port: u16,
        allow_private: bool,
        asker: &str,
    ) -> Result<Vec<SocketAddr>, OutboundError> {
        let mut addresses = match host {
            Host::Address(address) => vec![SocketAddr::new(*address, port)],
            Host::Name(name) => self.resolver.resolve(name, port).await.map_err(|cause| {
                error(OutboundErrorKind::DnsFailed, format!("{host} does not resolve: {cause}"))
            })?,
        };
        for address in &mut addresses {
            address.set_port(port);
            address.set_ip(unmapped(address.ip()));
        }
        for address in &addresses {
            self.check(host, *address, allow_private, asker)?;
        }
        if addresses.is_empty() {
            let message = format!("{host} has no address");
            return Err(error(OutboundErrorKind::DnsFailed, message));
        }
        let mut distinct = Vec::new();
        for address in addresses {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        Ok(distinct)
    }

    pub(crate) fn check(
        &self,
        host: &Host,
        address: SocketAddr,
        allow_private: bool,
        asker: &str,
    ) -> Result<(), OutboundError> {
        if allow_private || (self.is_public)(address.ip()) {
            return Ok(());
        }
        // Without the address: a program may read this, which may not look around here.
        let message = format!(
            "{host} is not at a public address; set allow_private = true for {asker} to reach it"
        );
        Err(error(OutboundErrorKind::Denied, message))
    }

    async fn encrypt(&self, stream: TcpStream, host: &Host) -> Result<Sender, OutboundError> {
        let stream = self.handshake(stream, host, Offer::Either, Trust::Roots).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => speak_http2(stream, host).await,
            _ => speak_http1(stream, host).await,
        }
    }

    /// `name` is the one that the certificate must have.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        name: &Host,
        offer: Offer,
        trust: Trust,
    ) -> Result<TlsStream<TcpStream>, OutboundError> {
        let server_name = match name {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(text) => ServerName::try_from(text.clone()).map_err(|_| {
                let message = format!("{name} can not be the name in a certificate");
                error(OutboundErrorKind::TlsProtocol, message)
            })?,
        };
        let connector = self.tls.get(offer, trust);
        connector.connect(server_name, stream).await.map_err(|cause| {
            let certificate = cause
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
            let kind = match certificate {
                true => OutboundErrorKind::TlsCertificate,
                false => OutboundErrorKind::TlsProtocol,
            };
            error(kind, format!("no TLS connection to {name}: {cause}"))
        })
    }
}

/// One attempt at one address.
pub(crate) async fn connect_to_one(
    address: SocketAddr,
    host: &Host,
) -> Result<TcpStream, OutboundError> {
    let stream = TcpStream::connect(address).await.map_err(|cause| {
        let kind = match cause.kind() {
            io::ErrorKind::ConnectionRefused => OutboundErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut => OutboundErrorKind::ConnectionTimeout,
            _ => OutboundErrorKind::ConnectionFailed,
        };
        error(kind, format!("no connection to {host} at {address}: {cause}"))
    })?;
    // A request is written whole; waiting for more only delays it.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The address that a socket really connects to.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

async fn connect_to(
    addresses: &[SocketAddr],
    host: &Host,
    deadline: tokio::time::Instant,
) -> Result<TcpStream, OutboundError> {
    let mut failure = None;
    for (place, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let share = (left / (addresses.len() - place) as u32).max(SHORTEST_ATTEMPT);
        match tokio::time::timeout(share, connect_to_one(*address, host)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => failure = Some(refused),
            Err(_) => {
                let message = format!("{host} at {address} does not answer");
                failure = Some(error(OutboundErrorKind::ConnectionTimeout, message));
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        error(OutboundErrorKind::ConnectionFailed, format!("{host} has no address"))
    }))
}

async fn speak_http1<S>(stream: S, host: &Host) -> Result<Sender, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|cause| protocol(host, &cause))?;
    drive(connection);
    Ok(Sender::Http1(sender))
}

async fn speak_http2<S>(stream: S, host: &Host) -> Result<Sender, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(WINDOW_MAX_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|cause| protocol(host, &cause))?;
    drive(connection);
    Ok(Sender::Http2(sender))
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        // A request that suffers from it reports it.
        if let Err(cause) = connection.await {
            tracing::debug!(error = %cause, "an outbound connection ended");
        }
    });
}

fn protocol(host: &Host, cause: &hyper::Error) -> OutboundError {
    error(OutboundErrorKind::HttpProtocol, format!("{host} does not speak HTTP: {cause}"))
}
