//! Whether a response may be stored (RFC 9111, section 3), and for how long it is fresh.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use squall_types::gateway::{Cache, SetCookie};

use super::Asked;
use super::directives::{CDN_CACHE_CONTROL, Directives, Fields};
use super::list;
use super::time::{parse_date, write_date};
use super::vary::{names_of_vary, variant};
use crate::{Freshness, Head};

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// Tags of one response; more are left out.
const TAGS_MAX: usize = 256;
/// A tenth of its age, at most a day (RFC 9111, section 4.2.2).
const HEURISTIC_MAX_S: u64 = 86_400;

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    RequestForbids,
    NoStore,
    Private,
    VariesByEverything,
    Authorized,
    SetCookie,
    StatusNotUnderstood,
    StatusNotStorable,
    NotFresh,
    InvalidRange,
    VariesOtherwise,
    Unreadable,
}

impl NotStored {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestForbids => "the request says no-store",
            Self::NoStore => "the response says no-store",
            Self::Private => "the response says private",
            Self::VariesByEverything => "the response varies by everything",
            Self::Authorized => {
                "the request was authorized, and the response does not say public, s-maxage or must-revalidate"
            }
            Self::SetCookie => "the response sets a cookie",
            Self::StatusNotUnderstood => {
                "the response says must-understand, and its status is not known"
            }
            Self::StatusNotStorable => "the response has a status that is never stored",
            Self::NotFresh => {
                "the response does not say how long it is fresh, and can not be validated"
            }
            Self::InvalidRange => "the response has a range that can not be read",
            Self::Unreadable => "the response says of caching what is no text",
            Self::VariesOtherwise => "the response varies by other fields than when it was stored",
        }
    }
}

/// Statuses that may be stored although nothing is said (RFC 9110, section 15.1).
fn is_storable_by_default(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn is_failure(status: u16) -> bool {
    status >= 400
}

/// Statuses whose meaning for caches is known here (for `must-understand`).
fn is_understood(status: u16) -> bool {
    matches!(
        status,
        200 | 203
            | 204
            | 206
            | 300
            | 301
            | 302
            | 303
            | 307
            | 308
            | 400
            | 401
            | 403
            | 404
            | 405
            | 406
            | 408
            | 409
            | 410
            | 411
            | 413
            | 414
            | 415
            | 429
            | 451
            | 500
            | 501
            | 502
            | 503
            | 504
    )
}

/// The head under which the response to a GET is stored, or why it is not.
/// `request_headers` are the caller's own.
pub fn storable(
    asked: &Asked,
    request_headers: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    requested_at_ms: u64,
    received_at_ms: u64,
    rules: &Cache,
) -> Result<Head, NotStored> {
    if asked.forbids_storing() {
        return Err(NotStored::RequestForbids);
    }
    if !is_readable(headers) {
        return Err(NotStored::Unreadable);
    }
    let (said, is_targeted) = said_by(headers);
    let code = status.as_u16();
    if status.is_informational() || matches!(code, 304 | 412 | 416) {
        return Err(NotStored::StatusNotStorable);
    }
    if said.must_understand && !is_understood(code) {
        return Err(NotStored::StatusNotUnderstood);
    }
    // It may be stored nevertheless when it is understood (section 5.2.2.3).
    if said.no_store && !(said.must_understand && is_understood(code)) {
        return Err(NotStored::NoStore);
    }
    if said.is_private() {
        return Err(NotStored::Private);
    }
    if code == 206 && super::ranges::content_range(headers).is_none() {
        return Err(NotStored::InvalidRange);
    }
    if asked.authorized && !said.is_for_others() {
        return Err(NotStored::Authorized);
    }
    let vary = names_of_vary(headers).ok_or(NotStored::VariesByEverything)?;
    let removed = removed_fields(headers, &said);
    let sets_cookie =
        headers.contains_key(header::SET_COOKIE) && !removed.contains(&header::SET_COOKIE);
    if sets_cookie && rules.set_cookie == SetCookie::Bypass {
        return Err(NotStored::SetCookie);
    }
    let times = Times { requested_at_ms, received_at_ms };
    let freshness = freshness(code, headers, &said, is_targeted, times, rules);
    let validates =
        headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let says_so = said.public || has_explicit_lifetime(headers, &said, is_targeted);
    if !says_so && !is_storable_by_default(code) {
        return Err(NotStored::NotFresh);
    }
    // What says nothing of caches is not meant for them, unless the route takes it so: it
    // must not come out of the store when its origin fails either.
    let says_something = says_so || said.no_cache.is_some() || said.must_revalidate;
    if !says_something && freshness.lifetime_s == 0 && !rules.heuristic {
        return Err(NotStored::NotFresh);
    }
    // What is stale at once can only answer after its origin did: worth its place when that
    // can be short.
    let is_useful = freshness.lifetime_s > 0 || freshness.stale_while_revalidate_s > 0;
    if !is_useful && !validates {
        return Err(NotStored::NotFresh);
    }
    let mut kept = headers.clone();
    for name in &removed {
        kept.remove(name);
    }
    if rules.set_cookie == SetCookie::Strip {
        kept.remove(header::SET_COOKIE);
    }
    let tags = take_tags(&mut kept);
    date(&mut kept, received_at_ms);
    Ok(Head {
        status,
        headers: kept,
        requested_at_ms,
        received_at_ms,
        freshness,
        variant: variant(&vary, request_headers),
        vary,
        tags,
    })
}

/// What is not stored of a response, and meant for the caller for whom the origin was asked:
/// cookies, and the fields that `private` and `no-cache` name.
pub fn give_back(headers: &mut HeaderMap, arrived: &HeaderMap) {
    let (said, _) = said_by(arrived);
    let of_connection = of_connection(arrived);
    let named = [&said.private, &said.no_cache].into_iter().flatten();
    let named = named.flat_map(|Fields(names)| names).filter(|name| !of_connection.contains(name));
    for name in named.chain([&header::SET_COOKIE]) {
        if headers.contains_key(name) {
            continue;
        }
        for value in arrived.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// A line that can not be read may forbid what the others allow.
pub(super) fn is_readable(headers: &HeaderMap) -> bool {
    [header::CACHE_CONTROL, CDN_CACHE_CONTROL, header::CONNECTION]
        .iter()
        .flat_map(|name| headers.get_all(name))
        .all(|line| line.to_str().is_ok())
}

/// When it came, if it does not say when it was made (RFC 9110, section 6.6.1).
pub(super) fn date(headers: &mut HeaderMap, received_at_ms: u64) {
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::try_from(write_date(received_at_ms / 1_000))
    {
        headers.insert(header::DATE, date);
    }
}

/// Whether it says itself for how long it is fresh (section 3).
fn has_explicit_lifetime(headers: &HeaderMap, said: &Directives, is_targeted: bool) -> bool {
    said.s_maxage.is_some()
        || said.max_age.is_some()
        || (!is_targeted && headers.contains_key(header::EXPIRES))
}

/// Fields that are not stored: those of the connection (section 3.1), and those that
/// `private` and `no-cache` name.
pub(super) fn removed_fields(headers: &HeaderMap, said: &Directives) -> Vec<HeaderName> {
    let mut removed = of_connection(headers);
    removed.push(header::AGE);
    for fields in [&said.private, &said.no_cache].into_iter().flatten() {
        let Fields(names) = fields;
        removed.extend(names.iter().cloned());
    }
    removed
}

fn of_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut removed: Vec<HeaderName> = [
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
    ]
    .map(HeaderName::from_static)
    .to_vec();
    let named = list::members(headers, header::CONNECTION);
    removed.extend(named.filter_map(|name| HeaderName::try_from(name).ok()));
    removed
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) requested_at_ms: u64,
    pub(super) received_at_ms: u64,
}

/// RFC 9111, sections 4.2.1 to 4.2.3, and RFC 5861.
pub(super) fn freshness(
    status: u16,
    headers: &HeaderMap,
    said: &Directives,
    is_targeted: bool,
    times: Times,
    rules: &Cache,
) -> Freshness {
    let received_s = times.received_at_ms / 1_000;
    let date_s = single_date(headers, header::DATE, received_s);
    let no_cache_at_all = said.no_cache.as_ref().is_some_and(|fields| fields.0.is_empty());
    let mut lifetime_s = said.s_maxage.or(said.max_age).map(u64::from);
    if lifetime_s.is_none() && !is_targeted && headers.contains_key(header::EXPIRES) {
        let expires_s = single_date(headers, header::EXPIRES, received_s);
        // An invalid date is in the past (section 5.3).
        let from_s = date_s.unwrap_or(received_s);
        lifetime_s = Some(expires_s.unwrap_or(0).saturating_sub(from_s));
    }
    let lifetime_s =
        lifetime_s.or_else(|| unsaid_lifetime(status, headers, said, date_s, received_s, rules));
    let most = rules.max_ttl_s.unwrap_or(u32::MAX);
    let lifetime_s = lifetime_s.unwrap_or(0).min(most.into()) as u32;
    // The route's windows are for what was ever fresh: max-age=0 means what it says.
    let window = |said: Option<u32>, usual: Option<u32>| said.or(usual.filter(|_| lifetime_s > 0));
    Freshness {
        lifetime_s,
        initial_age_s: initial_age(headers, date_s, times),
        stale_while_revalidate_s: window(
            said.stale_while_revalidate,
            rules.stale_while_revalidate_s,
        )
        .unwrap_or(0),
        // The origin of one that says nothing may be gone as well (section 4.2.4). What was
        // never fresh is often for one caller, as he is known by a cookie.
        stale_if_error_s: window(said.stale_if_error, rules.stale_if_error_s)
            .unwrap_or(if lifetime_s > 0 { u32::MAX } else { 0 }),
        must_revalidate: said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some(),
        no_cache: no_cache_at_all,
    }
}

/// What the route's rules give to a response that says nothing.
fn unsaid_lifetime(
    status: u16,
    headers: &HeaderMap,
    said: &Directives,
    date_s: Option<u64>,
    received_s: u64,
    rules: &Cache,
) -> Option<u64> {
    if !is_storable_by_default(status) && !said.public {
        return None;
    }
    let usual = if is_failure(status) { rules.negative_ttl_s } else { rules.default_ttl_s };
    if let Some(usual) = usual {
        return Some(usual.into());
    }
    let modified_s = single_date(headers, header::LAST_MODIFIED, received_s);
    let modified_s = modified_s.filter(|_| rules.heuristic)?;
    let old_s = date_s.unwrap_or(received_s).saturating_sub(modified_s);
    Some((old_s / 10).min(HEURISTIC_MAX_S))
}

/// RFC 9111, section 4.2.3.
fn initial_age(headers: &HeaderMap, date_s: Option<u64>, times: Times) -> u32 {
    let received_s = times.received_at_ms / 1_000;
    let apparent_s = date_s.map_or(0, |date_s| received_s.saturating_sub(date_s));
    let delay_s = times.received_at_ms.saturating_sub(times.requested_at_ms) / 1_000;
    let corrected_s = said_age(headers).unwrap_or(0).saturating_add(delay_s);
    apparent_s.max(corrected_s).min(u64::from(u32::MAX)) as u32
}

/// The first member, whatever follows it; what is no number is ignored (section 5.1).
fn said_age(headers: &HeaderMap) -> Option<u64> {
    let line = headers.get(header::AGE)?.to_str().ok()?;
    let first = line.split([',', ';']).next()?.trim();
    let good = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| first.parse().unwrap_or(u64::from(u32::MAX)))
}

/// A date that is given once and can be read.
pub(super) fn single_date(headers: &HeaderMap, name: HeaderName, now_s: u64) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?.to_str().ok()?;
    lines.next().is_none().then(|| parse_date(line, now_s))?
}

/// Fields that are said to caches, and not sent on by them.
pub fn is_for_caches(name: &HeaderName) -> bool {
    *name == CACHE_TAG || *name == SURROGATE_KEY
}

/// Names to purge by: `Cache-Tag` has commas between them, `Surrogate-Key` has spaces.
/// They are for caches, and not sent on.
pub(super) fn take_tags(headers: &mut HeaderMap) -> Box<[Box<str>]> {
    let commas = list::members(headers, CACHE_TAG);
    let lines = headers.get_all(SURROGATE_KEY).iter().filter_map(|line| line.to_str().ok());
    let spaces = lines.flat_map(str::split_ascii_whitespace);
    let mut tags: Vec<Box<str>> = commas.chain(spaces).take(TAGS_MAX).map(Box::from).collect();
    tags.sort();
    tags.dedup();
    headers.remove(CACHE_TAG);
    headers.remove(SURROGATE_KEY);
    tags.into()
}

/// Whether a response's targeted field stands in place of the others.
pub(super) fn said_by(headers: &HeaderMap) -> (Directives, bool) {
    match headers.contains_key(CDN_CACHE_CONTROL).then(|| Directives::targeted(headers)).flatten() {
        Some(targeted) => (targeted, true),
        None => (Directives::read(headers), false),
    }
}
