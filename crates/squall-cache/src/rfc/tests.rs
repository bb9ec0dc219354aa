//! Tables of what is decided, function by function.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode};
use squall_types::gateway::{Cache, CacheKey, SetCookie};

use super::*;
use crate::{Entry, Head, Key, Sequence, Space, StoredBody};

const NOW_MS: u64 = 1_800_000_000_000;
const DATE: (&str, &str) = ("date", "Fri, 15 Jan 2027 08:00:00 GMT");

type Lines<'a> = &'a [(&'a str, &'a str)];

fn headers(lines: Lines<'_>) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), value.parse().unwrap())
    };
    lines.iter().map(pair).collect()
}

fn asked(lines: Lines<'_>) -> Asked {
    Asked::read(&Method::GET, &headers(lines), &Cache::default(), false)
}

fn stored_by(
    rules: &Cache,
    request: Lines<'_>,
    status: u16,
    response: Lines<'_>,
) -> Result<Head, NotStored> {
    let (request, status) = (headers(request), StatusCode::from_u16(status).unwrap());
    let asked = Asked::read(&Method::GET, &request, rules, false);
    storable(&asked, &request, status, &headers(response), NOW_MS, NOW_MS, rules)
}

fn stored(response: Lines<'_>) -> Head {
    stored_by(&Cache::default(), &[], 200, response).unwrap()
}

fn entry(head: Head, body: &'static str) -> Entry {
    let space = Space { app: "a".parse().unwrap(), part: "".into() };
    let key = Key { space, url: "https://a.example/".into(), extra: "".into() };
    let body = StoredBody::Whole(Bytes::from_static(body.as_bytes()));
    Entry { key, head, body, sequence: Sequence(0) }
}

// --- requests -----------------------------------------------------------------------

#[test]
fn some_requests_go_past_the_cache() {
    let passes = |method: Method, rules: &Cache, lines: Lines<'_>| {
        Asked::read(&method, &headers(lines), rules, false).passes()
    };
    let usual = Cache::default();
    assert_eq!(passes(Method::GET, &usual, &[("if-none-match", "\"a\"")]), None);
    assert_eq!(passes(Method::HEAD, &usual, &[]), None);
    assert_eq!(passes(Method::POST, &usual, &[]), Some(Forwarded::Method));
    assert_eq!(passes(Method::OPTIONS, &usual, &[]), Some(Forwarded::Method));
    for override_of_the_key in ["x-original-url", "X-HTTP-Method-Override", "x-host"] {
        let lines = [(override_of_the_key, "/admin")];
        assert_eq!(passes(Method::GET, &usual, &lines), Some(Forwarded::Bypass), "{lines:?}");
    }
    assert_eq!(passes(Method::GET, &usual, &[("if-match", "*")]), Some(Forwarded::Bypass));
    let key = CacheKey { headers: vec!["X-Host".into()], ..CacheKey::default() };
    let by_host = Cache { key, ..Cache::default() };
    assert_eq!(passes(Method::GET, &by_host, &[("x-host", "b")]), None);
}

#[test]
fn without_request_directives_only_storing_is_forbidden() {
    let deaf = Cache { request_directives: false, ..Cache::default() };
    let lines = [("cache-control", "no-store, no-cache, only-if-cached")];
    let asked = Asked::read(&Method::GET, &headers(&lines), &deaf, false);
    assert!(asked.forbids_storing());
    assert!(!asked.insists() && !asked.only_if_cached());
}

#[test]
fn pragma_counts_without_cache_control() {
    assert!(asked(&[("pragma", "No-Cache")]).insists());
    assert!(!asked(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).insists());
    assert!(asked(&[("cache-control", "max-age=0")]).insists());
}

// --- storing ------------------------------------------------------------------------

#[track_caller]
fn is_stored(request: Lines<'_>, status: u16, response: Lines<'_>, why_not: Option<NotStored>) {
    let found = stored_by(&Cache::default(), request, status, response);
    assert_eq!(found.err(), why_not, "{request:?} {status} {response:?}");
}

#[test]
fn what_may_be_stored() {
    let fresh = ("cache-control", "max-age=60");
    is_stored(&[], 200, &[fresh], None);
    is_stored(&[], 200, &[], Some(NotStored::NotFresh));
    is_stored(&[], 200, &[("etag", "\"a\"")], Some(NotStored::NotFresh));
    is_stored(&[], 200, &[("etag", "\"a\""), ("cache-control", "no-cache")], None);
    is_stored(&[], 302, &[("etag", "\"a\"")], Some(NotStored::NotFresh));
    is_stored(&[], 302, &[fresh], None);
    is_stored(&[], 500, &[("cache-control", "public"), ("etag", "\"a\"")], None);
    is_stored(&[], 304, &[fresh], Some(NotStored::StatusNotStorable));
    is_stored(&[], 200, &[fresh, ("cache-control", "no-store")], Some(NotStored::NoStore));
    is_stored(&[], 200, &[("cache-control", "max-age=9, PRIVATE")], Some(NotStored::Private));
    is_stored(&[], 200, &[fresh, ("vary", "a, *")], Some(NotStored::VariesByEverything));
    is_stored(&[], 200, &[fresh, ("set-cookie", "a=b")], Some(NotStored::SetCookie));
    is_stored(&[("cache-control", "no-store")], 200, &[fresh], Some(NotStored::RequestForbids));
    let targeted = ("cdn-cache-control", "private");
    is_stored(&[], 200, &[fresh, targeted], Some(NotStored::Private));
    is_stored(&[], 200, &[("cache-control", "private"), ("cdn-cache-control", "max-age=9")], None);
    is_stored(&[], 206, &[fresh, ("content-range", "bytes 0-1/2")], None);
    is_stored(&[], 206, &[fresh], Some(NotStored::InvalidRange));
    let understood = ("cache-control", "must-understand, no-store, max-age=60");
    is_stored(&[], 200, &[understood], None);
    is_stored(&[], 599, &[understood], Some(NotStored::StatusNotUnderstood));
}

#[test]
fn what_is_no_text_may_forbid_it() {
    let mut response = headers(&[("cache-control", "max-age=60")]);
    let line = http::HeaderValue::from_bytes(b"no-store, a=\"\xe4\"").unwrap();
    response.append("cache-control", line);
    let rules = Cache::default();
    let found =
        storable(&asked(&[]), &HeaderMap::new(), StatusCode::OK, &response, NOW_MS, NOW_MS, &rules);
    assert_eq!(found.err(), Some(NotStored::Unreadable));
}

#[test]
fn authorized_responses_say_that_they_are_for_others() {
    let who = [("authorization", "Basic eDp5")];
    is_stored(&who, 200, &[("cache-control", "max-age=60")], Some(NotStored::Authorized));
    for allowed in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        is_stored(&who, 200, &[("cache-control", allowed)], None);
    }
    let (request, rules) = (HeaderMap::new(), Cache::default());
    let by_gateway = Asked::read(&Method::GET, &request, &rules, true);
    let response = headers(&[("cache-control", "max-age=60")]);
    let found = storable(&by_gateway, &request, StatusCode::OK, &response, NOW_MS, NOW_MS, &rules);
    assert_eq!(found.err(), Some(NotStored::Authorized));
}

#[test]
fn what_is_not_stored_of_a_head() {
    let head = stored(&[
        ("cache-control", "max-age=60, private=\"x-own\", no-cache=\"x-once\""),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-own", "1"),
        ("x-once", "1"),
        ("age", "5"),
        ("cache-tag", "b, a"),
        ("surrogate-key", "c a"),
        ("x-other", "1"),
        DATE,
    ]);
    let mut names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "date", "x-other"]);
    assert_eq!(head.tags, ["a", "b", "c"].map(Box::from).into());
    let rules = Cache { set_cookie: SetCookie::Strip, ..Cache::default() };
    let cookie = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    let head = stored_by(&rules, &[], 200, &cookie).unwrap();
    assert!(!head.headers.contains_key("set-cookie"));
    let mut given = head.headers;
    give_back(&mut given, &headers(&cookie));
    assert_eq!(given["set-cookie"], "a=b");
}

#[track_caller]
fn is_fresh_for(rules: &Cache, status: u16, response: Lines<'_>, expected_s: i64) {
    let head = stored_by(rules, &[], status, response).unwrap();
    assert_eq!(ttl_s(&head, NOW_MS), expected_s, "{response:?}");
}

#[test]
fn how_long_it_is_fresh() {
    let usual = Cache::default();
    let expires = ("expires", "Fri, 15 Jan 2027 08:02:00 GMT");
    let tag = ("etag", "\"a\"");
    is_fresh_for(&usual, 200, &[("cache-control", "max-age=60"), expires, DATE], 60);
    is_fresh_for(&usual, 200, &[("cache-control", "max-age=60, s-maxage=7")], 7);
    is_fresh_for(&usual, 200, &[expires, DATE], 120);
    is_fresh_for(&usual, 200, &[expires], 120);
    is_fresh_for(&usual, 200, &[("expires", "0"), tag], 0);
    is_fresh_for(&usual, 200, &[("cdn-cache-control", "max-age=9"), expires, DATE], 9);
    // It was on its way for two minutes.
    let earlier = ("date", "Fri, 15 Jan 2027 07:58:00 GMT");
    is_fresh_for(&usual, 200, &[("cache-control", "max-age=300"), earlier], 180);
    for (age, expected_s) in [("100", 200), ("100, 5", 200), ("abc", 300), ("-5", 300)] {
        is_fresh_for(&usual, 200, &[("cache-control", "max-age=300"), ("age", age)], expected_s);
    }
    let modified = ("last-modified", "Fri, 15 Jan 2027 07:50:00 GMT");
    is_fresh_for(&usual, 200, &[("cache-control", "public"), modified, DATE], 0);
    let guesses = Cache { heuristic: true, ..Cache::default() };
    is_fresh_for(&guesses, 200, &[modified, DATE], 60);
    let rules = Cache {
        default_ttl_s: Some(30),
        negative_ttl_s: Some(5),
        max_ttl_s: Some(20),
        ..Cache::default()
    };
    is_fresh_for(&rules, 200, &[], 20);
    is_fresh_for(&rules, 404, &[], 5);
    is_fresh_for(&rules, 200, &[("cache-control", "max-age=60")], 20);
}

// --- using --------------------------------------------------------------------------

/// What becomes of it so many seconds after it came.
#[track_caller]
fn is_used(said: &str, after_s: u64, request: Lines<'_>, soft_purged: bool, expected: Verdict) {
    let head = stored(&[("cache-control", said), ("etag", "\"a\""), DATE]);
    let found = judge(&head, &asked(request), soft_purged, NOW_MS + after_s * 1_000);
    assert_eq!(found, expected, "{said} after {after_s} s, {request:?}");
}

#[test]
fn what_a_stored_response_is_worth() {
    let serve = |age_s, ttl_s| Verdict::Serve { age_s, ttl_s };
    let behind = |age_s, ttl_s| Verdict::ServeAndRevalidate { age_s, ttl_s };
    let validate = |on_error, ttl_s| Verdict::Validate { on_error, ttl_s };
    let asks = |directive: &'static str| [("cache-control", directive)];

    is_used("max-age=60", 59, &[], false, serve(59, 1));
    is_used("max-age=60", 60, &[], false, validate(true, 0));
    is_used("max-age=60, must-revalidate", 61, &[], false, validate(false, -1));
    is_used("s-maxage=60", 61, &asks("max-stale"), false, validate(false, -1));
    is_used("max-age=60, no-cache", 1, &[], false, validate(false, 59));
    is_used("max-age=60, stale-while-revalidate=10", 70, &[], false, behind(70, -10));
    is_used("max-age=60, stale-while-revalidate=10", 71, &[], false, validate(true, -11));
    is_used("max-age=60, stale-if-error=5", 65, &[], false, validate(true, -5));
    is_used("max-age=60, stale-if-error=5", 66, &[], false, validate(false, -6));
    is_used("max-age=60, stale-if-error=0", 60, &[], false, validate(false, 0));
    // It was never fresh.
    is_used("public", 0, &[], false, validate(false, 0));

    is_used("max-age=60", 1, &asks("no-cache"), false, validate(true, 59));
    is_used("max-age=60", 7, &asks("max-age=6"), false, validate(true, 53));
    is_used("max-age=60", 6, &asks("max-age=6"), false, serve(6, 54));
    is_used("max-age=60", 1, &asks("min-fresh=60"), false, validate(true, 59));
    is_used("max-age=60", 70, &asks("max-stale=10"), false, serve(70, -10));
    is_used("max-age=60", 71, &asks("max-stale=10"), false, validate(true, -11));
    is_used("max-age=60", 999, &asks("max-stale"), false, serve(999, -939));
    let window = "max-age=60, stale-while-revalidate=100";
    is_used(window, 70, &asks("max-age=100"), false, validate(true, -10));

    is_used("max-age=60", 5, &[], true, behind(5, -1));
    is_used("max-age=60", 65, &[], true, validate(true, -5));
    is_used("max-age=60, must-revalidate", 5, &[], true, validate(false, 55));
}

// --- validating ---------------------------------------------------------------------

#[test]
fn the_origin_is_asked_about_what_is_stored() {
    let modified = "Fri, 15 Jan 2027 07:50:00 GMT";
    let lines = [("cache-control", "public"), ("etag", "W/\"a\""), ("last-modified", modified)];
    let head = stored(&lines);
    let mut request = headers(&[
        ("if-none-match", "\"callers\""),
        ("if-range", "\"callers\""),
        ("range", "bytes=0-1"),
        ("accept", "*/*"),
    ]);
    let mut whole = request.clone();
    assert!(prepare_validation(&mut request, &head));
    let expected =
        [("accept", "*/*"), ("if-none-match", "W/\"a\""), ("if-modified-since", modified)];
    assert_eq!(request, headers(&expected));
    let mut part = whole.clone();
    prepare_fetch(&mut whole, false);
    assert_eq!(whole, headers(&[("accept", "*/*")]));
    prepare_fetch(&mut part, true);
    let expected = [("if-range", "\"callers\""), ("range", "bytes=0-1"), ("accept", "*/*")];
    assert_eq!(part, headers(&expected));
}

#[test]
fn a_304_is_about_the_same_validator() {
    let about = |tag: &str, of_304: Lines<'_>| {
        selects(&stored(&[("etag", tag), ("cache-control", "max-age=1")]), &headers(of_304))
    };
    assert!(about("\"a\"", &[("etag", "\"a\"")]));
    assert!(about("\"a\"", &[("etag", "W/\"a\"")]));
    assert!(!about("W/\"a\"", &[("etag", "\"a\"")]));
    assert!(!about("\"a\"", &[("etag", "\"b\"")]));
    assert!(about("\"a\"", &[]));
}

#[test]
fn a_304_brings_news() {
    let old = stored(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-length", "10"),
        ("x-old", "1"),
        ("x-both", "1"),
        ("cache-tag", "a"),
        ("age", "50"),
        DATE,
    ]);
    let of_304 = headers(&[
        ("cache-control", "max-age=9, private=\"x-own\""),
        ("content-length", "0"),
        ("x-both", "2"),
        ("x-own", "1"),
        ("x-hop", "1"),
        ("connection", "x-hop"),
        ("set-cookie", "a=b"),
        ("cache-tag", "b"),
    ]);
    let later_ms = NOW_MS + 100_000;
    let new = updated(&old, &of_304, later_ms, later_ms, &Cache::default());
    let expected = [
        ("etag", "\"a\""),
        ("cache-control", "max-age=9, private=\"x-own\""),
        ("content-length", "10"),
        ("x-old", "1"),
        ("x-both", "2"),
        ("date", "Fri, 15 Jan 2027 08:01:40 GMT"),
    ];
    assert_eq!(new.headers, headers(&expected));
    assert_eq!(ttl_s(&new, later_ms), 9);
    assert_eq!(new.tags, [Box::from("b")].into());
}

#[test]
fn not_every_update_may_stay() {
    let stays = |before: &str, request: Lines<'_>, of_304: Lines<'_>| {
        let old = stored(&[("cache-control", before), ("vary", "a"), ("etag", "\"a\"")]);
        let new = updated(&old, &headers(of_304), NOW_MS, NOW_MS, &Cache::default());
        super::stays(&old, &new, &asked(request)).err()
    };
    let fresh = "max-age=60";
    let who = [("authorization", "x")];
    assert_eq!(stays(fresh, &[], &[]), None);
    assert_eq!(stays(fresh, &who, &[]), Some(NotStored::Authorized));
    assert_eq!(stays("public", &who, &[]), None);
    let says = |directives: &'static str| [("cache-control", directives)];
    assert_eq!(stays("public", &[], &says(fresh)), Some(NotStored::Authorized));
    assert_eq!(stays(fresh, &[], &says("no-store")), Some(NotStored::NoStore));
    assert_eq!(stays(fresh, &[], &says("private")), Some(NotStored::Private));
    assert_eq!(stays(fresh, &says("no-store"), &[]), Some(NotStored::RequestForbids));
    assert_eq!(stays(fresh, &[], &[("vary", "A")]), None);
    assert_eq!(stays(fresh, &[], &[("vary", "a, b")]), Some(NotStored::VariesOtherwise));
    assert_eq!(stays(fresh, &[], &[("vary", "*")]), Some(NotStored::VariesByEverything));
}

#[test]
fn a_head_says_whether_it_is_still_the_same() {
    let fresh = |stored_lines: Lines<'_>, status: u16, of_head: Lines<'_>| {
        let status = StatusCode::from_u16(status).unwrap();
        let rules = Cache::default();
        let of_head = headers(of_head);
        freshen_by_head(&stored(stored_lines), &of_head, status, NOW_MS, NOW_MS, &rules).is_some()
    };
    let lines = [("cache-control", "max-age=1"), ("etag", "\"a\""), ("content-length", "9")];
    assert!(fresh(&lines, 200, &[]));
    assert!(fresh(&lines, 200, &[("etag", "\"a\""), ("content-length", "9")]));
    assert!(!fresh(&lines, 404, &[]));
    assert!(!fresh(&lines, 200, &[("etag", "\"b\"")]));
    assert!(!fresh(&lines, 200, &[("content-length", "8")]));
    assert!(!fresh(&lines, 200, &[("last-modified", "Fri, 15 Jan 2027 07:50:00 GMT")]));
}

// --- answering ----------------------------------------------------------------------

#[track_caller]
fn answers(request: Lines<'_>, status: u16, body: &str, range: Option<&str>) {
    let head = stored(&[
        ("etag", "\"a\""),
        ("last-modified", "Fri, 15 Jan 2027 07:50:00 GMT"),
        ("content-length", "10"),
        ("cache-control", "max-age=60"),
        DATE,
    ]);
    let answer = answer(&entry(head, "0123456789"), &asked(request), NOW_MS + 5_000).unwrap();
    assert_eq!(answer.status.as_u16(), status, "{request:?}");
    let found = match answer.body {
        AnswerBody::Empty => Bytes::new(),
        AnswerBody::Bytes(bytes) => bytes,
        AnswerBody::Pieces(pieces) => pieces.concat().into(),
    };
    assert_eq!(found, body, "{request:?}");
    assert_eq!(answer.headers["age"], "5");
    let said = answer.headers.get("content-range").map(|range| range.to_str().unwrap());
    assert_eq!(said, range, "{request:?}");
}

#[test]
fn what_is_sent_of_a_stored_response() {
    let all = "0123456789";
    answers(&[], 200, all, None);
    answers(&[("if-none-match", "\"b\", W/\"a\"")], 304, "", None);
    answers(&[("if-none-match", "*")], 304, "", None);
    answers(&[("if-none-match", "\"b\"")], 200, all, None);
    let modified = ("if-modified-since", "Fri, 15 Jan 2027 07:50:00 GMT");
    answers(&[modified], 304, "", None);
    answers(&[modified, ("if-none-match", "\"b\"")], 200, all, None);
    answers(&[("if-modified-since", "Fri, 15 Jan 2027 07:49:59 GMT")], 200, all, None);

    let part = ("range", "bytes=2-4");
    answers(&[part], 206, "234", Some("bytes 2-4/10"));
    answers(&[("range", "bytes=-2")], 206, "89", Some("bytes 8-9/10"));
    answers(&[("range", "bytes=4-99")], 206, "456789", Some("bytes 4-9/10"));
    answers(&[("range", "bytes=10-")], 416, "", Some("bytes */10"));
    answers(&[("range", "lines=2-4")], 200, all, None);
    answers(&[part, ("if-range", "\"a\"")], 206, "234", Some("bytes 2-4/10"));
    answers(&[part, ("if-range", "W/\"a\"")], 200, all, None);
    answers(&[part, ("if-range", "\"b\"")], 200, all, None);
    let unchanged = ("if-range", "Fri, 15 Jan 2027 07:50:00 GMT");
    answers(&[part, unchanged], 206, "234", Some("bytes 2-4/10"));
    answers(&[part, ("if-none-match", "\"a\"")], 304, "", None);
    answers(&[("range", "bytes=0-1, 2-3")], 206, "0123", Some("bytes 0-3/10"));
}

#[test]
fn a_date_of_the_same_second_is_weak() {
    let head = stored(&[("last-modified", DATE.1), ("cache-control", "max-age=60"), DATE]);
    let request = asked(&[("range", "bytes=0-1"), ("if-range", DATE.1)]);
    let answer = answer(&entry(head, "0123456789"), &request, NOW_MS).unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[test]
fn several_ranges_are_parts_of_one_body() {
    let head = stored(&[("cache-control", "max-age=60"), ("content-type", "text/plain")]);
    let request = asked(&[("range", "bytes=0-1, 8-")]);
    let answer = answer(&entry(head, "0123456789"), &request, NOW_MS).unwrap();
    let AnswerBody::Pieces(pieces) = answer.body else { panic!("{answer:?}") };
    let kind = answer.headers["content-type"].to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let body = String::from_utf8(pieces.concat()).unwrap();
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}"
        )
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89"));
    assert_eq!(body, expected);
    assert_eq!(answer.headers["content-length"], body.len().to_string().as_str());
}

#[test]
fn parts_become_a_whole() {
    let key = entry(stored(&[("cache-control", "max-age=60")]), "").key;
    let part = |tag: &str, range: &str| {
        let lines = [
            ("cache-control", "max-age=60"),
            ("etag", tag),
            ("content-range", range),
            ("content-length", "5"),
        ];
        stored_by(&Cache::default(), &[], 206, &lines).unwrap()
    };
    let five = |text: &'static str| Bytes::from_static(text.as_bytes());
    let put = |before: Option<&Entry>, tag: &str, range: &str, text: &'static str| {
        combined(before, &key, part(tag, range), five(text), Sequence(1))
    };
    let first = put(None, "\"a\"", "bytes 5-9/10", "56789").unwrap();
    let missing = asked(&[("range", "bytes=0-1")]);
    assert!(answer(&first, &missing, NOW_MS).is_none());
    assert!(answer(&first, &asked(&[]), NOW_MS).is_none());
    let there = answer(&first, &asked(&[("range", "bytes=-2")]), NOW_MS).unwrap();
    assert_eq!(there.headers["content-range"], "bytes 8-9/10");

    let whole = put(Some(&first), "\"a\"", "bytes 0-4/10", "01234").unwrap();
    assert_eq!(whole.head.status, StatusCode::OK);
    let answer = answer(&whole, &asked(&[]), NOW_MS).unwrap();
    assert_eq!(answer.headers["content-length"], "10");
    assert!(matches!(answer.body, AnswerBody::Bytes(all) if all == "0123456789"));

    // Of another body, or perhaps of one.
    for tag in ["\"b\"", "W/\"a\""] {
        let alone = put(Some(&first), tag, "bytes 0-4/10", "01234").unwrap();
        assert!(matches!(&alone.body, StoredBody::Parts(parts) if parts.ranges.len() == 1));
    }
    assert!(put(None, "\"a\"", "bytes 5-8/10", "56789").is_none());
}
