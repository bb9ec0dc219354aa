//! Hosts of URIs and the patterns that allow them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host after normalisation: two forms of the same host are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Lower case, without the root's trailing dot.
    Name(String),
    Address(IpAddr),
}

/// Why a host or pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host:?} {reason}")]
pub struct HostError {
    pub host: String,
    pub reason: &'static str,
}

impl Host {
    /// Reads the host of a URI: a name, an IPv4 address in any form that the URL standard
    /// knows (`127.1`, `0x7f000001`, `017700000001`), or an IPv6 address in brackets.
    ///
    /// # Errors
    /// Refuses percent-encoding, user info, zone identifiers, empty labels and what ends
    /// in a number but is no IPv4 address (URL standard, section 3.5).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let refuse = |reason| Err(HostError { host: text.to_owned(), reason });
        if let Some(inner) = text.strip_prefix('[') {
            return match inner.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
                Some(Ok(address)) => Ok(Self::Address(address.into())),
                _ => refuse("is not an IPv6 address in brackets"),
            };
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return refuse("is empty");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.bytes().all(plain) {
            return refuse("is not a host name of letters, digits, dashes and dots");
        }
        if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return refuse("has an empty or overlong label");
        }
        if ends_in_number(name) {
            return match parse_ipv4(name) {
                Some(address) => Ok(Self::Address(address.into())),
                None => refuse("ends in a number but is not an IPv4 address"),
            };
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }

    /// The host of an `http` or `https` URI.
    pub fn of(uri: &http::Uri) -> Result<Self, HostError> {
        let refuse = |reason| HostError { host: uri.to_string(), reason };
        let authority = uri.authority().ok_or_else(|| refuse("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("has user info before the host; send it in a header"));
        }
        Self::parse(authority.host())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// URL standard, "ends in a number checker".
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|byte| byte.is_ascii_digit()) || parse_number(last).is_some()
}

/// URL standard, "IPv4 parser": one to four parts, decimal, octal or hexadecimal, the
/// last one filling the remaining bytes.
fn parse_ipv4(name: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = name.split('.').map(parse_number).collect::<Option<_>>()?;
    let (last, heads) = parts.split_last()?;
    if heads.len() > 3 || heads.iter().any(|part| *part > 255) {
        return None;
    }
    if *last >= 1 << (8 * (4 - heads.len())) {
        return None;
    }
    let mut address = *last;
    for (place, part) in heads.iter().enumerate() {
        address |= part << (8 * (3 - place));
    }
    u32::try_from(address).ok().map(Ipv4Addr::from)
}

/// URL standard, "IPv4 number parser". A bare `0x` is zero.
fn parse_number(part: &str) -> Option<u64> {
    let (digits, radix) = match part.as_bytes() {
        [] => return None,
        [b'0', b'x' | b'X', ..] => (&part[2..], 16),
        [b'0', _, ..] => (&part[1..], 8),
        _ => (part, 10),
    };
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        return None;
    }
    // More than 64 bits is out of range whatever the exact value.
    Some(u64::from_str_radix(digits, radix).unwrap_or(u64::MAX))
}

/// One entry of `allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: Match,
    /// `None` means the scheme's own port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Match {
    /// `*`: every host on every port, for features whose user names the whole URL.
    Any,
    Exact(Host),
    /// `*.example.com`: one or more labels before it.
    Below(String),
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com`, `192.0.2.1`, `[2001:db8::1]` or
    /// `2001:db8::1`, each with an optional `:port` (with brackets for IPv6), or `*`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let refuse = |reason| HostError { host: text.to_owned(), reason };
        if text == "*" {
            return Ok(Self { host: Match::Any, port: None });
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Match::Exact(Host::Address(address.into())), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
                (host, Some(port.ok_or_else(|| refuse("has no valid port"))?))
            }
            _ => (text, None),
        };
        let host = match host.strip_prefix("*.") {
            None => Match::Exact(Host::parse(host)?),
            Some(rest) => match Host::parse(rest)? {
                Host::Name(name) => Match::Below(name),
                Host::Address(_) => return Err(refuse("has a wildcard before an address")),
            },
        };
        Ok(Self { host, port })
    }

    /// Whether it allows `host` on `port`, where `default_port` is the scheme's.
    pub fn matches(&self, host: &Host, port: u16, default_port: u16) -> bool {
        let host_matches = match (&self.host, host) {
            (Match::Any, _) => return true,
            (Match::Exact(wanted), host) => wanted == host,
            (Match::Below(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            (Match::Below(_), Host::Address(_)) => false,
        };
        host_matches && port == self.port.unwrap_or(default_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_host(text: &str, want: Option<&str>) {
        let host = Host::parse(text).ok().map(|host| host.to_string());
        assert_eq!(host.as_deref(), want, "{text:?}");
    }

    #[test]
    fn hosts_are_normalised_or_refused() {
        check_host("Example.COM", Some("example.com"));
        check_host("example.com.", Some("example.com"));
        check_host("a_b.example", Some("a_b.example"));
        check_host("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
        for form in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0X7F.1",
            "017700000001",
            "0177.0.0.01",
            "0177.0x0.0.1",
            "127.0x000001",
        ] {
            check_host(form, Some("127.0.0.1"));
        }
        check_host("0", Some("0.0.0.0"));
        check_host("0x", Some("0.0.0.0"));
        check_host("0xffffffff", Some("255.255.255.255"));
        check_host("[::1]", Some("[::1]"));
        check_host("[0:0:0:0:0:ffff:7f00:1]", Some("[::ffff:127.0.0.1]"));
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a%2eb",
            "user@host",
            "[::1",
            "::1",
            "[fe80::1%1]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "256.0.0.1",
            "1.2.3.4.5",
            "0x100000000",
            "4294967296",
            "09.1.1.1",
            "a.1",
            "1.2.3.08",
            "foo.0x4",
            "b\u{fc}cher",
            "a/b",
        ] {
            check_host(bad, None);
        }
    }

    #[track_caller]
    fn check(pattern: &str, uri: &str, want: bool) {
        let uri: http::Uri = uri.parse().unwrap();
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let pattern = HostPattern::parse(pattern).unwrap();
        let matches = pattern.matches(&Host::of(&uri).unwrap(), port, default_port);
        assert_eq!(matches, want, "{pattern:?} {uri}");
    }

    #[test]
    fn patterns_allow_what_they_say() {
        check("api.example.com", "https://api.example.com/x", true);
        check("api.example.com", "http://API.Example.com./x", true);
        check("API.example.com", "http://api.example.com/x", true);
        check("api.example.com", "https://api.example.com:443/", true);
        check("api.example.com", "https://api.example.com:8443/", false);
        check("api.example.com", "http://api.example.com:443/", false);
        check("api.example.com", "https://example.com/", false);
        check("api.example.com", "https://api.example.com.evil.test/", false);
        check("api.example.com:8443", "https://api.example.com:8443/", true);
        check("api.example.com:8443", "https://api.example.com/", false);
        check("api.example.com:443", "https://api.example.com/", true);
        check("*.example.com", "https://a.example.com/", true);
        check("*.example.com", "https://a.b.example.com/", true);
        check("*.example.com", "https://example.com/", false);
        check("*.example.com", "https://evilexample.com/", false);
        check("*.example.com:8080", "http://a.example.com:8080/", true);
        check("127.0.0.1", "http://0x7f.1/", true);
        check("0x7f.1", "http://127.0.0.1/", true);
        check("127.0.0.1:3000", "http://2130706433:3000/", true);
        check("[::1]:3000", "http://[0:0::1]:3000/", true);
        check("::1", "http://[::1]/", true);
        check("*", "http://anything.test:1234/", true);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for bad in [
            "",
            "https://a.test",
            "a.test/x",
            "a.test:",
            "a.test:0",
            "a.test:99999",
            "*a.test",
            "a.*.test",
            "*.",
            "*.1.2.3.4",
            "**.a",
            "u@a.test",
            "a.test:+80",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn user_info_is_refused() {
        let uri: http::Uri = "http://allowed.test@evil.test/".parse().unwrap();
        assert!(Host::of(&uri).is_err());
    }

    proptest! {
        #[test]
        fn every_host_is_refused_or_stable(text in "[a-z0-9.x\\[\\]:%@-]{0,20}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn every_form_of_an_ipv4_address_is_the_address(number: u32) {
            let [a, b, c, d] = number.to_be_bytes();
            for form in [
                format!("{number}"), format!("{number:#x}"), format!("0{number:o}"),
                format!("{a}.{b}.{c}.{d}"), format!("0{a:o}.{b:#x}.{}", u32::from(c) << 8 | u32::from(d)),
            ] {
                prop_assert_eq!(Host::parse(&form), Ok(Host::Address(Ipv4Addr::from(number).into())));
            }
        }
    }
}
