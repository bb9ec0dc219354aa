//! Whether a response may be stored (RFC 9111, section 3), and for how long it is fresh.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use squall_types::gateway::{Cache, SetCookie};

use super::Asked;
use super::directives::{CDN_CACHE_CONTROL, Directives, Fields};
use super::list;
use super::time::parse_date;
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
    if said.private.as_ref().is_some_and(|fields| fields.0.is_empty()) {
        return Err(NotStored::Private);
    }
    if code == 206 && super::ranges::content_range(headers).is_none() {
        return Err(NotStored::InvalidRange);
    }
    // Section 3.5.
    let shared = said.public || said.must_revalidate || said.s_maxage.is_some();
    if asked.authorized && !shared {
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
    let explicit = freshness.lifetime_s > 0 || freshness.stale_while_revalidate_s > 0;
    // It could only answer after its origin did: worth its place when that can be short.
    if !explicit && !(validates && (is_storable_by_default(code) || said.public)) {
        return Err(NotStored::NotFresh);
    }
    let mut kept = headers.clone();
    for name in &removed {
        kept.remove(name);
    }
    if rules.set_cookie == SetCookie::Strip {
        kept.remove(header::SET_COOKIE);
    }
    let tags = tags(&kept);
    kept.remove(CACHE_TAG);
    kept.remove(SURROGATE_KEY);
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

/// Fields that are not stored: those of the connection (section 3.1), and those that
/// `private` and `no-cache` name.
fn removed_fields(headers: &HeaderMap, said: &Directives) -> Vec<HeaderName> {
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
        "age",
    ]
    .map(HeaderName::from_static)
    .to_vec();
    let named = list::members(headers, header::CONNECTION);
    removed.extend(named.filter_map(|name| HeaderName::try_from(name).ok()));
    for fields in [&said.private, &said.no_cache].into_iter().flatten() {
        let Fields(names) = fields;
        removed.extend(names.iter().cloned());
    }
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
    let lifetime_s = lifetime_s.unwrap_or(0).min(u64::from(rules.max_ttl_s.unwrap_or(u32::MAX)));
    let (initial_age_s, age_is_valid) = initial_age(headers, date_s, times);
    Freshness {
        lifetime_s: if age_is_valid { lifetime_s.min(u64::from(u32::MAX)) as u32 } else { 0 },
        initial_age_s,
        stale_while_revalidate_s: said
            .stale_while_revalidate
            .or(rules.stale_while_revalidate_s)
            .unwrap_or(0),
        stale_if_error_s: said.stale_if_error.or(rules.stale_if_error_s).unwrap_or(0),
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

/// RFC 9111, section 4.2.3. What `Age` says in another way than it should makes the
/// response stale.
fn initial_age(headers: &HeaderMap, date_s: Option<u64>, times: Times) -> (u32, bool) {
    let received_s = times.received_at_ms / 1_000;
    let apparent_s = date_s.map_or(0, |date_s| received_s.saturating_sub(date_s));
    let delay_s = times.received_at_ms.saturating_sub(times.requested_at_ms) / 1_000;
    let mut lines = headers.get_all(header::AGE).iter();
    let said = match (lines.next(), lines.next()) {
        (None, _) => Some(0),
        (Some(line), None) => {
            let digits = line
                .to_str()
                .ok()
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.map(|digits| digits.parse::<u64>().unwrap_or(u64::from(u32::MAX)))
        }
        (Some(_), Some(_)) => None,
    };
    let corrected_s = said.unwrap_or(0).saturating_add(delay_s);
    (apparent_s.max(corrected_s).min(u64::from(u32::MAX)) as u32, said.is_some())
}

/// A date that is given once and can be read.
fn single_date(headers: &HeaderMap, name: HeaderName, now_s: u64) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?.to_str().ok()?;
    lines.next().is_none().then(|| parse_date(line, now_s))?
}

/// Fields that are said to caches, and not sent on by them.
pub fn is_for_caches(name: &HeaderName) -> bool {
    *name == CACHE_TAG || *name == SURROGATE_KEY
}

/// Names to purge by: `Cache-Tag` has commas between them, `Surrogate-Key` has spaces.
fn tags(headers: &HeaderMap) -> Box<[Box<str>]> {
    let commas = list::members(headers, CACHE_TAG);
    let lines = headers.get_all(SURROGATE_KEY).iter().filter_map(|line| line.to_str().ok());
    let spaces = lines.flat_map(str::split_ascii_whitespace);
    let mut tags: Vec<Box<str>> = commas.chain(spaces).take(TAGS_MAX).map(Box::from).collect();
    tags.sort();
    tags.dedup();
    tags.into()
}

/// Whether a response's targeted field stands in place of the others.
pub(super) fn said_by(headers: &HeaderMap) -> (Directives, bool) {
    match headers.contains_key(CDN_CACHE_CONTROL).then(|| Directives::targeted(headers)).flatten() {
        Some(targeted) => (targeted, true),
        None => (Directives::read(headers), false),
    }
}
