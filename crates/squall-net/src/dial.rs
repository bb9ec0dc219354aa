//! Connections for those who speak for themselves: the same resolver, the same judgement
//! of addresses and the same roots as for requests, and nothing above TLS.

use std::net::SocketAddr;

use squall_types::dial::{Dial, Dialed, Endpoint, OpenFuture, ResolveFuture};
use squall_types::outbound::{OutboundError, OutboundErrorKind};

use crate::client::GuardedClient;
use crate::connect::connect_to_one;
use crate::host::Host;
use crate::tls::Trust;

const ASKER: &str = "the upstream";

fn parse(host: &str) -> Result<Host, OutboundError> {
    Host::parse(host)
        .map_err(|why| OutboundError::new(OutboundErrorKind::InvalidRequest, why.to_string()))
}

impl Dial for GuardedClient {
    fn resolve(&self, endpoint: &Endpoint) -> ResolveFuture {
        let (inner, endpoint) = (self.inner.clone(), endpoint.clone());
        Box::pin(async move {
            let host = parse(&endpoint.host)?;
            let connector = &inner.connector;
            connector.all_addresses(&host, endpoint.port, endpoint.allow_private, ASKER).await
        })
    }

    fn open(&self, endpoint: &Endpoint, address: SocketAddr) -> OpenFuture {
        let (inner, endpoint) = (self.inner.clone(), endpoint.clone());
        Box::pin(async move {
            let host = parse(&endpoint.host)?;
            inner.connector.check(&host, address, endpoint.allow_private, ASKER)?;
            let stream = connect_to_one(address, &host).await?;
            let Some(tls) = &endpoint.tls else { return Ok(Dialed::Tcp(stream)) };
            let name = match &tls.server_name {
                Some(name) => parse(name)?,
                None => host,
            };
            let trust = if tls.insecure { Trust::Anybody } else { Trust::Roots };
            let stream = inner.connector.handshake(stream, &name, tls.offer, trust).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(Dialed::Tls { stream: Box::new(stream), http2 })
        })
    }
}
