//! What callers ask.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::chance::Chance;
use super::dates;
use super::oracle::Oracle;
use super::origin::RESOURCES;

/// The fields that responses vary by.
pub(super) const CHOICES: [&str; 3] = ["accept-encoding", "accept-language", "x-shape"];

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) resource: usize,
    /// Of each of `CHOICES`.
    pub(super) choices: [Option<&'static str>; 3],
    pub(super) directives: Directives,
    pub(super) range: Option<Vec<Span>>,
    pub(super) if_range: Option<Validator>,
    /// Entity tags as they are sent.
    pub(super) if_none_match: Vec<String>,
    pub(super) if_modified_since_s: Option<u64>,
    pub(super) credentials: bool,
    /// By the gateway, of what no header says.
    pub(super) authenticated: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Directives {
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) min_fresh: Option<u64>,
}

/// A range as it is asked for: the last byte is part of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Span {
    Bytes(u64, Option<u64>),
    Last(u64),
}

#[derive(Debug, Clone)]
pub(super) enum Validator {
    Tag(String),
    Date(u64),
}

impl Request {
    /// `nearly_all_of_parts`: whole responses would leave no parts to put together.
    pub(super) fn any(
        chance: &mut Chance,
        oracle: &Oracle,
        now_s: u64,
        nearly_all_of_parts: bool,
    ) -> Self {
        let method = match chance.below(30) {
            0 => Method::HEAD,
            1 => chance.pick(&[Method::POST, Method::PUT, Method::DELETE, Method::PATCH]),
            _ => Method::GET,
        };
        let resource = chance.below(RESOURCES);
        let choices = [
            chance.pick(&[
                None,
                Some("gzip"),
                Some("gzip, br"),
                Some("BR;q=1.0 ,gzip"),
                Some("br"),
            ]),
            chance.pick(&[None, Some("de"), Some("de, en"), Some("en,  de")]),
            chance.pick(&[None, Some("round"), Some("Round"), Some("round, flat")]),
        ];
        // Mostly the same, so that there is something to hit.
        let choices = if chance.one_in(4) { choices } else { [Some("gzip"), None, Some("round")] };
        let mut request = Self {
            method,
            resource,
            choices,
            directives: Directives::any(chance),
            range: None,
            if_range: None,
            if_none_match: Vec::new(),
            if_modified_since_s: None,
            credentials: chance.one_in(16),
            authenticated: chance.one_in(20),
        };
        if chance.one_in(2) || (nearly_all_of_parts && !chance.one_in(30)) {
            let spans = if chance.one_in(4) { 2 + chance.below(3) } else { 1 };
            request.range = Some((0..spans).map(|_| Span::any(chance)).collect());
            if chance.one_in(4) {
                request.if_range = oracle.some_validator(chance, resource);
            }
        }
        if chance.one_in(5) {
            for _ in 0..=chance.below(2) {
                if let Some(Validator::Tag(tag)) = oracle.some_validator(chance, resource) {
                    request.if_none_match.push(tag);
                }
            }
            if chance.one_in(10) {
                request.if_none_match = vec!["*".to_owned()];
            }
        }
        if chance.one_in(6) {
            request.if_modified_since_s = match oracle.some_validator(chance, resource) {
                Some(Validator::Date(seconds)) => Some(seconds),
                _ => Some(now_s - chance.below(200) as u64),
            };
        }
        request
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        };
        for (name, value) in CHOICES.into_iter().zip(self.choices) {
            let Some(value) = value else { continue };
            // Some send one line for each member.
            match value.split_once(", ") {
                Some((one, other)) if self.resource.is_multiple_of(2) => {
                    add(HeaderName::from_static(name), one);
                    add(HeaderName::from_static(name), other);
                }
                _ => add(HeaderName::from_static(name), value),
            }
        }
        let directives = self.directives.written();
        if !directives.is_empty() {
            add(header::CACHE_CONTROL, &directives);
        }
        if let Some(spans) = &self.range {
            let spans: Vec<String> = spans.iter().map(Span::written).collect();
            add(header::RANGE, &format!("bytes={}", spans.join(", ")));
        }
        match &self.if_range {
            Some(Validator::Tag(tag)) => add(header::IF_RANGE, tag),
            Some(Validator::Date(seconds)) => add(header::IF_RANGE, &dates::written(*seconds)),
            None => {}
        }
        if !self.if_none_match.is_empty() {
            add(header::IF_NONE_MATCH, &self.if_none_match.join(", "));
        }
        if let Some(seconds) = self.if_modified_since_s {
            add(header::IF_MODIFIED_SINCE, &dates::written(seconds));
        }
        if self.credentials {
            add(header::AUTHORIZATION, "Basic eDp5");
        }
        headers
    }

    pub(super) fn is_authorized(&self) -> bool {
        self.credentials || self.authenticated
    }
}

impl Directives {
    fn any(chance: &mut Chance) -> Self {
        let mut directives = Self::default();
        if !chance.one_in(4) {
            return directives;
        }
        match chance.below(7) {
            0 => directives.no_cache = true,
            1 => directives.no_store = true,
            2 => directives.only_if_cached = true,
            3 => directives.max_age = Some(chance.pick(&[0, 1, 5, 30])),
            4 => directives.max_stale = Some(chance.pick(&[1, 10, 100])),
            5 => directives.max_stale = Some(u64::MAX),
            _ => directives.min_fresh = Some(chance.pick(&[1, 5, 30])),
        }
        directives
    }

    fn written(&self) -> String {
        let mut members = Vec::new();
        let mut flag = |is: bool, name: &str| is.then(|| members.push(name.to_owned()));
        flag(self.no_cache, "no-cache");
        flag(self.no_store, "No-Store");
        flag(self.only_if_cached, "only-if-cached");
        flag(self.max_stale == Some(u64::MAX), "max-stale");
        let mut number = |seconds: Option<u64>, name: &str| {
            let seconds = seconds.filter(|seconds| *seconds != u64::MAX);
            members.extend(seconds.map(|seconds| format!("{name}={seconds}")));
        };
        number(self.max_age, "max-age");
        number(self.max_stale, "max-stale");
        number(self.min_fresh, "min-fresh");
        members.join(", ")
    }
}

impl Span {
    fn any(chance: &mut Chance) -> Self {
        // Mostly those that meet each other.
        let edges = [0, 10, 50, 100];
        let first = if chance.one_in(4) { chance.below(120) as u64 } else { chance.pick(&edges) };
        match chance.below(5) {
            0 => Self::Bytes(first, None),
            1 => Self::Last(chance.pick(&[0, 1, 50, 100, 140])),
            2 => Self::Bytes(first, Some(first + chance.below(60) as u64)),
            _ => Self::Bytes(first, Some(first + chance.pick(&[9, 39, 49, 99]))),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Bytes(first, None) => format!("{first}-"),
            Self::Bytes(first, Some(last)) => format!("{first}-{last}"),
            Self::Last(count) => format!("-{count}"),
        }
    }

    /// The bytes of it that are there: from, and to (not part of it).
    pub(super) fn within(self, length: u64) -> Option<(u64, u64)> {
        let (from, to) = match self {
            Self::Bytes(first, last) => (first, last.map_or(length, |last| last + 1)),
            Self::Last(count) => (length.saturating_sub(count), length),
        };
        let to = to.min(length);
        (from < to).then_some((from, to))
    }
}
