//! What a route asks of a request beside its path.

use std::borrow::Cow;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use squall_types::gateway::{ValueMatch, compile_regex};

/// What a request is matched by.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

/// Methods, headers and query parameters of a route.
#[derive(Default)]
pub(crate) struct Conditions {
    /// Empty for every method.
    pub(crate) methods: Vec<Method>,
    pub(crate) headers: Vec<(HeaderName, Wanted)>,
    pub(crate) query: Vec<(Box<str>, Wanted)>,
}

pub(crate) enum Wanted {
    Present,
    Exactly(Box<str>),
    Like(Regex),
}

/// What a route's conditions say of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Takes,
    OtherMethod,
    Header(HeaderName),
    Query(Box<str>),
}

impl Wanted {
    /// The manifest was checked: an expression that does not compile matches nothing.
    pub(crate) fn new(wanted: &ValueMatch) -> Option<Self> {
        match wanted {
            ValueMatch::Exact(any) if any == "*" => Some(Self::Present),
            ValueMatch::Exact(value) => Some(Self::Exactly(value.as_str().into())),
            ValueMatch::Regex(pattern) => compile_regex(&pattern.regex).ok().map(Self::Like),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exactly(wanted) => **wanted == *value,
            Self::Like(regex) => regex.is_match(value),
        }
    }

    fn accepts_header(&self, value: &HeaderValue) -> bool {
        match self {
            Self::Present => true,
            Self::Exactly(wanted) => wanted.as_bytes() == value.as_bytes(),
            Self::Like(regex) => value.to_str().is_ok_and(|value| regex.is_match(value)),
        }
    }
}

impl Conditions {
    pub(crate) fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let headers = self.headers.iter().find(|(name, wanted)| {
            !asked.headers.get(name).is_some_and(|value| wanted.accepts_header(value))
        });
        if let Some((name, _)) = headers {
            return Verdict::Header(name.clone());
        }
        let query = self.query.iter().find(|(name, wanted)| {
            !parameter(asked.query, name).is_some_and(|value| wanted.accepts(&value))
        });
        if let Some((name, _)) = query {
            return Verdict::Query(name.clone());
        }
        // Last: only a request that fits otherwise is told which methods there are.
        let takes = self.methods.is_empty()
            || self.methods.contains(asked.method)
            || *asked.method == Method::HEAD && self.methods.contains(&Method::GET);
        if takes { Verdict::Takes } else { Verdict::OtherMethod }
    }
}

/// The first query parameter of a name, decoded as forms are.
pub(crate) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// `application/x-www-form-urlencoded` (<https://url.spec.whatwg.org/#urlencoded-parsing>).
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
    Cow::Owned(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_found_decoded() {
        let query = Some("a=1&b%5B%5D=x+y&a=2&flag&e=%C3%A9&=empty");
        assert_eq!(parameter(query, "a").as_deref(), Some("1"));
        assert_eq!(parameter(query, "b[]").as_deref(), Some("x y"));
        assert_eq!(parameter(query, "flag").as_deref(), Some(""));
        assert_eq!(parameter(query, "e").as_deref(), Some("é"));
        assert_eq!(parameter(query, "").as_deref(), Some("empty"));
        assert_eq!(parameter(query, "none"), None);
        assert_eq!(parameter(None, "a"), None);
    }
}
