//! What keeps a caller on one side of a split.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway;
use squall_types::trace::random;

use crate::cookie;

/// Compiled from the manifest.
pub(crate) struct Sticky {
    by: By,
    /// Whose sides they are: the same value falls on others elsewhere, or whoever compares two
    /// revisions would compare the sides of a route with it.
    domain: Box<str>,
}

enum By {
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
    pub(crate) fn new(sticky: &gateway::Sticky, domain: impl Into<Box<str>>) -> Option<Self> {
        let by = match sticky {
            gateway::Sticky::Cookie(name) => By::Cookie(name.as_str().into()),
            gateway::Sticky::Header(name) => By::Header(HeaderName::try_from(name).ok()?),
        };
        Some(Self { by, domain: domain.into() })
    }

    /// `given` are cookies that this request's response sets already.
    pub(crate) fn point(&self, headers: &HeaderMap, given: &[HeaderValue]) -> Point {
        match &self.by {
            By::Header(name) => headers
                .get(name)
                .map_or_else(Point::anywhere, |value| self.at(value.as_bytes(), None)),
            By::Cookie(name) => {
                let mut known = cookie::values(headers, name);
                let known = known.find(|one| !one.is_empty());
                match known.or_else(|| given.iter().find_map(|cookie| value_of(cookie, name))) {
                    Some(value) => self.at(value, None),
                    None => self.first_visit(name),
                }
            }
        }
    }

    fn first_visit(&self, name: &str) -> Point {
        let mut value = String::with_capacity(32);
        for byte in random::<16>() {
            // Writing to a string does not fail.
            let _ = write!(value, "{byte:02x}");
        }
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
        self.at(value.as_bytes(), HeaderValue::try_from(cookie).ok())
    }

    /// The same on every node and after every restart.
    fn at(&self, value: &[u8], set_cookie: Option<HeaderValue>) -> Point {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.domain.as_bytes()).update(&[0]).update(value);
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        Point { at: u32::from_le_bytes([a, b, c, d]), set_cookie }
    }
}

/// Of a cookie as it is set, when it is this one.
fn value_of<'c>(cookie: &'c HeaderValue, name: &str) -> Option<&'c [u8]> {
    let pair = cookie.as_bytes().split(|byte| *byte == b';').next()?;
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_cookie_brings_a_caller_back_to_its_side() {
        let by = gateway::Sticky::Cookie("side".into());
        let sticky = Sticky::new(&by, "a").unwrap();
        let first = sticky.point(&HeaderMap::new(), &[]);
        let set = first.set_cookie.unwrap();
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_bytes("a=Zoë; sides=x".as_bytes()).unwrap());
        headers.append(header::COOKIE, HeaderValue::try_from(format!("c=d; {pair}")).unwrap());
        let second = sticky.point(&headers, &[]);
        assert_eq!((second.at, second.set_cookie.is_none()), (first.at, true));
        // Two splits that go by one cookie set it once.
        let other = Sticky::new(&by, "b").unwrap();
        let (now, later) = (other.point(&HeaderMap::new(), &[set]), other.point(&headers, &[]));
        assert_eq!((now.at, now.set_cookie.is_none()), (later.at, true));
    }

    #[test]
    fn a_header_decides_alone() {
        let by = gateway::Sticky::Header("x-user".into());
        let sticky = Sticky::new(&by, "a").unwrap();
        let of =
            |user: &str| HeaderMap::from_iter([("x-user".parse().unwrap(), user.parse().unwrap())]);
        assert_eq!(sticky.point(&of("anna"), &[]).at, sticky.point(&of("anna"), &[]).at);
        assert!(sticky.point(&HeaderMap::new(), &[]).set_cookie.is_none());
        // The side of one split says nothing about that of another.
        let other = Sticky::new(&by, "b").unwrap();
        let both = (0..400).filter(|user| {
            let headers = of(&user.to_string());
            sticky.point(&headers, &[]).at % 2 == other.point(&headers, &[]).at % 2
        });
        assert!((150..250).contains(&both.count()));
    }
}
