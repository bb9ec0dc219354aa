//! Asking an origin whether a stored response is still good (RFC 9111, section 4.3).

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway::Cache;

use super::storing::{Times, freshness, said_by};
use crate::Head;

const PRECONDITIONS: [HeaderName; 5] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// Makes a caller's request one whose response may be stored whole: without its
/// preconditions and, unless `keep_range`, without its range.
pub fn prepare_fetch(headers: &mut HeaderMap, keep_range: bool) {
    for name in PRECONDITIONS {
        if keep_range && name == header::IF_RANGE {
            continue;
        }
        headers.remove(name);
    }
    if !keep_range {
        headers.remove(header::RANGE);
    }
}

/// Makes it one that asks whether the stored response is still good. False when that has
/// no validator: the response will be a whole one.
pub fn prepare_validation(headers: &mut HeaderMap, stored: &Head) -> bool {
    prepare_fetch(headers, false);
    let mut validates = false;
    for (field, condition) in
        [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
    {
        if let Some(value) = stored.headers.get(field) {
            headers.insert(condition, value.clone());
            validates = true;
        }
    }
    validates
}

/// Whether a 304 is about the stored response (section 4.3.4). One without validators is
/// about what was asked for.
pub fn selects(stored: &Head, of_304: &HeaderMap) -> bool {
    let same = |name: &HeaderName| match (stored.headers.get(name), of_304.get(name)) {
        (Some(stored), Some(new)) => Some(weakly_equal(stored, new)),
        (None, Some(_)) => Some(false),
        (_, None) => None,
    };
    same(&header::ETAG).or_else(|| same(&header::LAST_MODIFIED)).unwrap_or(true)
}

/// RFC 9110, section 8.8.3.2. Dates are compared in the same way.
fn weakly_equal(one: &HeaderValue, other: &HeaderValue) -> bool {
    fn opaque(tag: &HeaderValue) -> &[u8] {
        tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
    }
    opaque(one) == opaque(other)
}

/// Fields that describe the stored body, and are not taken from a message without one
/// (section 3.2).
const OF_THE_BODY: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
];

/// The stored head after its origin said that nothing has changed.
pub fn updated(
    stored: &Head,
    of_304: &HeaderMap,
    requested_at_ms: u64,
    received_at_ms: u64,
    rules: &Cache,
) -> Head {
    let mut head = stored.clone();
    let connection = super::list::members(of_304, header::CONNECTION);
    let connection: Vec<HeaderName> =
        connection.filter_map(|name| HeaderName::try_from(name).ok()).collect();
    let kept = |name: &HeaderName| {
        OF_THE_BODY.contains(name)
            || connection.contains(name)
            || *name == header::ETAG
            || *name == header::VARY
            || NEVER_STORED.iter().any(|never| name == never)
    };
    for name in of_304.keys().filter(|name| !kept(name)) {
        head.headers.remove(name);
        for value in of_304.get_all(name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    // What it says of caching now is what the update left, but for its age, which is new.
    let mut said_in = head.headers.clone();
    said_in.remove(header::AGE);
    for age in of_304.get_all(header::AGE) {
        said_in.append(header::AGE, age.clone());
    }
    let (said, is_targeted) = said_by(&said_in);
    let times = Times { requested_at_ms, received_at_ms };
    head.freshness = freshness(head.status.as_u16(), &said_in, &said, is_targeted, times, rules);
    head.requested_at_ms = requested_at_ms;
    head.received_at_ms = received_at_ms;
    head
}

const NEVER_STORED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "age",
    "cache-status",
];

/// After a 200 to HEAD: the stored head made fresh, when it still describes the same
/// response; none when that is outdated (section 4.3.5).
pub fn freshen_by_head(
    stored: &Head,
    headers: &HeaderMap,
    status: StatusCode,
    requested_at_ms: u64,
    received_at_ms: u64,
    rules: &Cache,
) -> Option<Head> {
    let differs = |name: HeaderName| match (stored.headers.get(&name), headers.get(&name)) {
        (Some(stored), Some(new)) => stored != new,
        _ => false,
    };
    let outdated = status != stored.status
        || [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH].into_iter().any(differs);
    (!outdated).then(|| updated(stored, headers, requested_at_ms, received_at_ms, rules))
}
