//! What keeps a caller on one side of a split.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway;
use squall_types::trace::random;

use crate::cookie;

/// Compiled from the manifest.
pub(crate) enum Sticky {
    Cookie(Box<str>),
    Header(HeaderName),
}

/// Where a caller falls, and the cookie that will bring it there again.
pub(crate) struct Point {
    pub(crate) at: u32,
    pub(crate) set_cookie: Option<HeaderValue>,
}

impl Point {
    pub(crate) fn anywhere() -> Self {
        Self { at: u32::from_le_bytes(random()), set_cookie: None }
    }
}

impl Sticky {
    pub(crate) fn new(sticky: &gateway::Sticky) -> Option<Self> {
        match sticky {
            gateway::Sticky::Cookie(name) => Some(Self::Cookie(name.as_str().into())),
            gateway::Sticky::Header(name) => HeaderName::try_from(name).ok().map(Self::Header),
        }
    }

    pub(crate) fn point(&self, headers: &HeaderMap) -> Point {
        match self {
            Self::Header(name) => headers.get(name).map_or_else(Point::anywhere, |value| Point {
                at: hash(value.as_bytes()),
                set_cookie: None,
            }),
            Self::Cookie(name) => match cookie::values(headers, name).find(|one| !one.is_empty()) {
                Some(value) => Point { at: hash(value), set_cookie: None },
                None => Self::first_visit(name),
            },
        }
    }

    fn first_visit(name: &str) -> Point {
        let mut value = String::with_capacity(32);
        for byte in random::<16>() {
            // Writing to a string does not fail.
            let _ = write!(value, "{byte:02x}");
        }
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
        Point { at: hash(value.as_bytes()), set_cookie: HeaderValue::try_from(cookie).ok() }
    }
}

/// The same on every node and after every restart.
fn hash(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = *blake3::hash(bytes).as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_cookie_brings_a_caller_back_to_its_side() {
        let sticky = Sticky::Cookie("side".into());
        let first = sticky.point(&HeaderMap::new());
        let set = first.set_cookie.unwrap();
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_bytes("a=Zoë; sides=x".as_bytes()).unwrap());
        headers.append(header::COOKIE, HeaderValue::try_from(format!("c=d; {pair}")).unwrap());
        let second = sticky.point(&headers);
        assert_eq!((second.at, second.set_cookie.is_none()), (first.at, true));
    }

    #[test]
    fn a_header_decides_alone() {
        let sticky = Sticky::Header(HeaderName::from_static("x-user"));
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("anna"));
        assert_eq!(sticky.point(&headers).at, sticky.point(&headers).at);
        assert!(sticky.point(&HeaderMap::new()).set_cookie.is_none());
    }
}
