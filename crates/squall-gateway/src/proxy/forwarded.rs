//! What an upstream is told about the caller and the request, in the gateway's own words.

use std::net::IpAddr;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use squall_types::address::AddressText;
use squall_types::trace::TraceContext;

use super::http1::put;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Facts about a request that its own headers can not be trusted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded<'a> {
    pub(crate) client: IpAddr,
    pub(crate) https: bool,
    /// Host and port as the client asked for them, checked.
    pub(crate) authority: &'a str,
    pub(crate) trace: TraceContext,
    /// How the client spoke to us, where `Via` is wanted (RFC 9110, section 7.6.3).
    pub(crate) via: Option<Version>,
}

impl Forwarded<'_> {
    /// Whether the field is one of those that are set here.
    pub(crate) fn sets(name: &HeaderName) -> bool {
        let name = name.as_str();
        match name.as_bytes().first() {
            Some(b'x') => name.starts_with("x-forwarded-") || name == "x-request-id",
            Some(b't') => name == "traceparent",
            Some(b'f') => name == "forwarded",
            _ => false,
        }
    }

    fn proto(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The port that the client spoke to, by the URL that it used.
    fn port(&self) -> &str {
        let default = if self.https { "443" } else { "80" };
        // Colons before a bracket are an IPv6 address's own.
        let ends = |byte: &u8| matches!(byte, b':' | b']');
        match self.authority.as_bytes().iter().rposition(ends) {
            Some(colon) if self.authority.as_bytes()[colon] == b':' => &self.authority[colon + 1..],
            _ => default,
        }
    }

    /// As lines of a head.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let client = AddressText::new(self.client);
        put(out, &[b"x-forwarded-for: ", client.as_bytes(), b"\r\nforwarded: "]);
        self.write_forwarded(&client, out);
        put(
            out,
            &[
                b"\r\nx-forwarded-proto: ",
                self.proto().as_bytes(),
                b"\r\nx-forwarded-host: ",
                self.authority.as_bytes(),
                b"\r\nx-forwarded-port: ",
                self.port().as_bytes(),
                b"\r\nx-request-id: ",
                self.trace.trace_id_hex().as_bytes(),
                b"\r\ntraceparent: ",
                &self.trace.header(),
                b"\r\n",
            ],
        );
        if let Some(via) = self.via {
            put(out, &[b"via: ", via_value(via).as_bytes(), b"\r\n"]);
        }
    }

    /// As RFC 7239 has it. IPv6 and ports need quotes (section 6).
    fn write_forwarded(&self, client: &AddressText, out: &mut BytesMut) {
        let (before, behind): (&[u8], &[u8]) =
            if self.client.is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
        let authority = self.authority.as_bytes();
        let is_plain = !authority.iter().any(|byte| matches!(byte, b':' | b'['));
        let quote: &[u8] = if is_plain { b"" } else { b"\"" };
        put(out, &[before, client.as_bytes(), behind, b";host=", quote, authority, quote]);
        put(out, &[b";proto=", self.proto().as_bytes()]);
    }

    /// The same in a map, for HTTP/2.
    pub(crate) fn insert(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value: &[u8]| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        };
        let client = AddressText::new(self.client);
        set(X_FORWARDED_FOR, client.as_bytes());
        let mut forwarded = BytesMut::new();
        self.write_forwarded(&client, &mut forwarded);
        set(header::FORWARDED, &forwarded);
        set(X_FORWARDED_PROTO, self.proto().as_bytes());
        set(X_FORWARDED_HOST, self.authority.as_bytes());
        set(X_FORWARDED_PORT, self.port().as_bytes());
        set(X_REQUEST_ID, self.trace.trace_id_hex().as_bytes());
        set(TRACEPARENT, &self.trace.header());
        if let Some(via) = self.via {
            // Behind those of the proxies that came before.
            headers.append(header::VIA, HeaderValue::from_static(via_value(via)));
        }
    }
}

fn via_value(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 squall",
        Version::HTTP_2 => "2 squall",
        _ => "1.1 squall",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client: &str, https: bool, authority: &str, expected: &[&str]) {
        let forwarded = Forwarded {
            client: client.parse().unwrap(),
            https,
            authority,
            trace: TraceContext::from_random([7; 24]),
            via: Some(Version::HTTP_11),
        };
        let mut lines = BytesMut::new();
        forwarded.write(&mut lines);
        let text = std::str::from_utf8(&lines).unwrap();
        for line in expected {
            assert!(text.split("\r\n").any(|one| one == *line), "{line} is not in\n{text}");
        }
        let mut headers = HeaderMap::new();
        forwarded.insert(&mut headers);
        for line in text.trim_end().split("\r\n") {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(headers.len(), text.trim_end().split("\r\n").count());
        let set = headers.keys().all(|name| Forwarded::sets(name) || name == header::VIA);
        assert!(set);
    }

    #[test]
    fn what_an_upstream_is_told_is_true_and_the_same_for_both_protocols() {
        check(
            "192.0.2.7",
            false,
            "a.example:8080",
            &[
                "x-forwarded-for: 192.0.2.7",
                "forwarded: for=192.0.2.7;host=\"a.example:8080\";proto=http",
                "x-forwarded-host: a.example:8080",
                "x-forwarded-port: 8080",
                "via: 1.1 squall",
            ],
        );
        check(
            "2001:db8::1",
            true,
            "[2001:db8::2]",
            &[
                "forwarded: for=\"[2001:db8::1]\";host=\"[2001:db8::2]\";proto=https",
                "x-forwarded-port: 443",
                "traceparent: 00-07070707070707070707070707070707-0707070707070707-01",
            ],
        );
        check("192.0.2.7", false, "a.example", &["x-forwarded-port: 80"]);
    }
}
