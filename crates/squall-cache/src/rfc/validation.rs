//! Asking an origin whether a stored response is still good (RFC 9111, section 4.3).

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway::Cache;

use super::Asked;
use super::ranges::content_range;
use super::storing::{
    NotStored, Times, date, freshness, is_readable, removed_fields, said_by, take_tags,
};
use super::vary::names_of_vary;
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
    let same = |name: &HeaderName| {
        let new = of_304.get(name)?;
        let is_weak = new.as_bytes().starts_with(b"W/");
        Some(stored.headers.get(name).is_some_and(|stored| match is_weak {
            true => weakly_equal(stored, new),
            // A strong validator is one of a response that has the same.
            false => stored == new,
        }))
    };
    same(&header::ETAG).or_else(|| same(&header::LAST_MODIFIED)).unwrap_or(true)
}

/// RFC 9110, section 8.8.3.2.
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
    let stays_as_it_is = |name: &HeaderName| {
        OF_THE_BODY.contains(name)
            || connection.contains(name)
            || (*name == header::ETAG && stored.headers.contains_key(name))
            || NEVER_TAKEN.iter().any(|never| name == never)
    };
    for name in of_304.keys().filter(|name| !stays_as_it_is(name)) {
        head.headers.remove(name);
        for value in of_304.get_all(name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    // It is of now, also when it does not say so.
    if !of_304.contains_key(header::DATE) {
        head.headers.remove(header::DATE);
        date(&mut head.headers, received_at_ms);
    }
    let tags = take_tags(&mut head.headers);
    if !tags.is_empty() {
        head.tags = tags;
    }
    // What it says of caching now is what the update left, but for its age, which is new.
    let mut said_in = head.headers.clone();
    said_in.remove(header::AGE);
    for age in of_304.get_all(header::AGE) {
        said_in.append(header::AGE, age.clone());
    }
    let (said, is_targeted) = said_by(&said_in);
    for name in removed_fields(&head.headers, &said) {
        head.headers.remove(name);
    }
    let times = Times { requested_at_ms, received_at_ms };
    head.freshness = freshness(head.status.as_u16(), &said_in, &said, is_targeted, times, rules);
    head.requested_at_ms = requested_at_ms;
    head.received_at_ms = received_at_ms;
    head
}

/// A cookie is for the caller for whom the origin was asked, whatever becomes of those of
/// whole responses.
const NEVER_TAKEN: [&str; 3] = ["age", "cache-status", "set-cookie"];

/// Whether a stored head may be replaced by its update. Otherwise that is for the caller
/// alone for whom the origin was asked, and nothing of it may stay stored.
/// # Errors
/// Says what is against it.
pub fn stays(stored: &Head, updated: &Head, asked: &Asked) -> Result<(), NotStored> {
    if !is_readable(&updated.headers) {
        return Err(NotStored::Unreadable);
    }
    let (said, _) = said_by(&updated.headers);
    if asked.forbids_storing() {
        return Err(NotStored::RequestForbids);
    }
    if said.no_store && !said.must_understand {
        return Err(NotStored::NoStore);
    }
    if said.is_private() {
        return Err(NotStored::Private);
    }
    // The stored one may be of an authorized request, too, if it said that it is for others.
    let authorized = asked.authorized || said_by(&stored.headers).0.is_for_others();
    if authorized && !said.is_for_others() {
        return Err(NotStored::Authorized);
    }
    // What its request had for other names is not known any more.
    match names_of_vary(&updated.headers) {
        None => Err(NotStored::VariesByEverything),
        Some(names) if names != updated.vary => Err(NotStored::VariesOtherwise),
        Some(_) => Ok(()),
    }
}

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
    // What it does not say is not different.
    let differs = |name: HeaderName| {
        headers.get(&name).is_some_and(|new| stored.headers.get(&name) != Some(new))
    };
    let part = content_range(&stored.headers).filter(|_| stored.status.as_u16() == 206);
    let length = part.map(|(_, _, length)| HeaderValue::from(length));
    let length = length.as_ref().or(stored.headers.get(header::CONTENT_LENGTH));
    let new_length = headers.get(header::CONTENT_LENGTH);
    let length_differs = length.is_some() && new_length.is_some() && length != new_length;
    let outdated = (status != stored.status && part.is_none())
        || length_differs
        || differs(header::ETAG)
        || differs(header::LAST_MODIFIED);
    (!outdated).then(|| updated(stored, headers, requested_at_ms, received_at_ms, rules))
}
