//! Who is calling: the peer of the socket, unless that is a proxy that we trust.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The two ends as they were before trusted proxies came between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) https: bool,
}

/// Walks `X-Forwarded-For` from its end for as long as the speaker is trusted. A client
/// can write anything in front; it can not write behind what a proxy appends.
/// `tls` says how the peer itself came.
pub(crate) fn find(peer: IpAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let peer = peer.to_canonical();
    let trusts = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = Client { address: peer, https: tls };
    if trusted.is_empty() || !trusts(&peer) {
        return client;
    }
    let proto = headers.get_all("x-forwarded-proto").iter().next_back();
    if let Some(proto) = proto {
        let last = proto.to_str().ok().and_then(|proto| proto.rsplit(',').next());
        client.https = last.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
    }
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(line) = line.to_str() else { return client };
        for hop in line.rsplit(',') {
            let Some(address) = parse(hop.trim()) else { return client };
            client.address = address;
            if !trusts(&address) {
                return client;
            }
        }
    }
    client
}

/// An address with or without a port, IPv6 with or without brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<std::net::SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let found = find(peer.parse().unwrap(), false, &headers, &trusted);
        assert_eq!(found.address, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check("8.8.8.8", &["1.1.1.1"], "8.8.8.8");
        check("10.0.0.1", &["1.1.1.1"], "1.1.1.1");
        check("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1");
        check("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"], "1.1.1.1");
        check("10.0.0.1", &["1.1.1.1:1234"], "1.1.1.1");
        check("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1");
        check("10.0.0.1", &["1.1.1.1, nonsense"], "10.0.0.1");
        check("10.0.0.1", &[], "10.0.0.1");
    }
}
