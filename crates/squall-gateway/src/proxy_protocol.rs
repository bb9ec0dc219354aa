//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, its end included.
const LINE_MAX_BYTES: usize = 107;

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PROXY protocol: {why}"))
}

/// Reads the header that a connection begins with, not a byte more. `None` when the
/// proxy speaks for itself, as in its health checks.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut start = [0; 13];
    stream.read_exact(&mut start).await?;
    if &start[..12] == SIGNATURE {
        return read_version_2(stream, start[12]).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed("the connection does not begin with its header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_MAX_BYTES {
            return Err(malformed("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line)
}

fn parse_line(line: &[u8]) -> io::Result<Option<IpAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| malformed("the line is not ASCII"))?;
    let mut words = line.trim_end().split(' ').skip(1);
    match (words.next(), words.next()) {
        (Some("UNKNOWN"), _) => Ok(None),
        (Some("TCP4" | "TCP6"), Some(source)) => {
            source.parse().map(Some).map_err(|_| malformed("the source is no address"))
        }
        _ => Err(malformed("the line is not understood")),
    }
}

async fn read_version_2(stream: &mut TcpStream, version: u8) -> io::Result<Option<IpAddr>> {
    let family = stream.read_u8().await?;
    let bytes = stream.read_u16().await?;
    if bytes > 4096 {
        return Err(malformed("the header is too long"));
    }
    let mut addresses = vec![0; usize::from(bytes)];
    stream.read_exact(&mut addresses).await?;
    parse_version_2(version, family, &addresses)
}

fn parse_version_2(version: u8, family: u8, addresses: &[u8]) -> io::Result<Option<IpAddr>> {
    match (version, family >> 4) {
        (0x20, _) => Ok(None),
        (0x21, 1) => {
            let source: [u8; 4] = addresses
                .get(..4)
                .and_then(|source| source.try_into().ok())
                .ok_or_else(|| malformed("the address is cut off"))?;
            Ok(Some(IpAddr::V4(Ipv4Addr::from(source))))
        }
        (0x21, 2) => {
            let source: [u8; 16] = addresses
                .get(..16)
                .and_then(|source| source.try_into().ok())
                .ok_or_else(|| malformed("the address is cut off"))?;
            Ok(Some(IpAddr::V6(Ipv6Addr::from(source))))
        }
        (0x21, _) => Ok(None),
        _ => Err(malformed("the version or command is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_name_the_source() {
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";
        assert_eq!(parse_line(line).unwrap(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(parse_line(b"PROXY UNKNOWN\r\n").unwrap(), None);
        assert!(parse_line(b"PROXY TCP4 nonsense\r\n").is_err());
        let four = [192, 0, 2, 7, 192, 0, 2, 1, 0, 0, 0, 0];
        assert_eq!(parse_version_2(0x21, 0x11, &four).unwrap(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(parse_version_2(0x20, 0, &[]).unwrap(), None);
        assert!(parse_version_2(0x21, 0x11, &four[..3]).is_err());
        assert!(parse_version_2(0x31, 0x11, &four).is_err());
    }
}
