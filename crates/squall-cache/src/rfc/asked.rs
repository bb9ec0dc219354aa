//! A request as a cache sees it, read once.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway::Cache;

use super::directives::Directives;
use super::list;
use super::ranges::{self, RangeSpec};
use super::status::Forwarded;
use super::time::parse_date;

/// Preconditions of which the origin alone can say whether they hold.
const PASSING: [HeaderName; 2] = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

/// Frameworks let these replace what a response is found by: the method, the path, the host.
/// What they made must not be kept for those who ask without them (James Kettle, "Practical
/// Web Cache Poisoning"). `X-Forwarded-For`, `-Proto`
/// and `-Host` are the gateway's own, and not the caller's.
const OVERRIDES: [&str; 20] = [
    "front-end-https",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-url-scheme",
];

fn is_override(name: &str, rules: &Cache) -> bool {
    let is_in_key = || rules.key.headers.iter().any(|in_key| in_key.eq_ignore_ascii_case(name));
    // Nearly all names are told apart by their first letters.
    name.starts_with(['x', 'f']) && OVERRIDES.contains(&name) && !is_in_key()
}

/// What a request asks of a cache.
#[derive(Debug, Clone)]
pub struct Asked {
    passes: Option<Forwarded>,
    head: bool,
    pub(super) directives: Directives,
    /// It bears a credential, or the gateway knows by another one who calls.
    pub(super) authorized: bool,
    pub(super) preconditions: Preconditions,
    /// `Range`, where it is one of bytes that can be read.
    pub(super) range: Option<Vec<RangeSpec>>,
    pub(super) if_range: Option<HeaderValue>,
}

/// RFC 9110, section 13.1, as far as stored responses are concerned.
#[derive(Debug, Clone, Default)]
pub(super) struct Preconditions {
    /// Entity tags as they were sent, or `*`.
    pub(super) if_none_match: Option<Vec<String>>,
    /// Seconds of Unix time.
    pub(super) if_modified_since_s: Option<u64>,
}

impl Asked {
    /// `authenticated`: the gateway verified who calls, by whatever credential.
    pub fn read(method: &Method, headers: &HeaderMap, rules: &Cache, authenticated: bool) -> Self {
        let directives = read_directives(headers);
        let directives = match rules.request_directives {
            true => directives,
            // It makes nobody's request go to the origin, and is no matter of choice
            // (section 5.2.1.5).
            false => Directives { no_store: directives.no_store, ..Directives::default() },
        };
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let passes = if !is_read {
            Some(Forwarded::Method)
        } else if PASSING.iter().any(|name| headers.contains_key(name))
            || headers.keys().any(|name| is_override(name.as_str(), rules))
        {
            Some(Forwarded::Bypass)
        } else {
            None
        };
        let range =
            headers.get(header::RANGE).and_then(|range| ranges::parse(range.to_str().ok()?));
        Self {
            passes,
            head: *method == Method::HEAD,
            directives,
            authorized: authenticated || headers.contains_key(header::AUTHORIZATION),
            preconditions: Preconditions::read(headers),
            // A range of a head is none (RFC 9110, section 14.2).
            range: range.filter(|_| *method == Method::GET),
            if_range: headers.get(header::IF_RANGE).cloned(),
        }
    }

    /// Why the request goes past the cache: nothing is looked up and nothing stored.
    pub fn passes(&self) -> Option<Forwarded> {
        self.passes
    }

    pub fn is_head(&self) -> bool {
        self.head
    }

    pub fn only_if_cached(&self) -> bool {
        self.directives.only_if_cached
    }

    /// It wants the origin's own word, and must not wait for a fetch that began before.
    pub fn insists(&self) -> bool {
        self.directives.no_cache.is_some() || self.directives.max_age == Some(0)
    }

    /// The response to it must not be stored.
    pub fn forbids_storing(&self) -> bool {
        self.directives.no_store
    }

    /// It asks for a part: it is sent on as it is when that is not stored.
    pub fn wants_range(&self) -> bool {
        self.range.is_some()
    }
}

/// Cache-Control, or what an old client says instead (RFC 9111, section 5.4).
fn read_directives(headers: &HeaderMap) -> Directives {
    if headers.contains_key(header::CACHE_CONTROL) {
        return Directives::read(headers);
    }
    let mut directives = Directives::default();
    let mut pragma = list::members(headers, header::PRAGMA);
    if pragma.any(|member| member.eq_ignore_ascii_case("no-cache")) {
        directives.no_cache = Some(Default::default());
    }
    directives
}

impl Preconditions {
    fn read(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::IF_NONE_MATCH) {
            let tags = list::members(headers, header::IF_NONE_MATCH).map(str::to_owned);
            return Self { if_none_match: Some(tags.collect()), if_modified_since_s: None };
        }
        // Only where If-None-Match is not (section 13.1.3).
        let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|date| date.to_str().ok());
        // The century of a date in an old form is that of the present one.
        let since = since.and_then(|date| parse_date(date, 1_795_651_200));
        Self { if_none_match: None, if_modified_since_s: since }
    }
}
