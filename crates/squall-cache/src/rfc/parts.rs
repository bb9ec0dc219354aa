//! Partial responses (RFC 9111, sections 3.3 and 3.4).

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::directives::CDN_CACHE_CONTROL;
use super::ranges::content_range;
use super::storing::{removed_fields, said_by};
use crate::{Entry, Head, Key, Parts, Sequence, StoredBody};

/// Ranges that are kept apart of one response.
const RANGES_MAX: usize = 64;

/// The part that a 206 brought, put together with what is stored of the same response. It
/// is stored as a whole one when nothing is missing any more.
pub fn combined(
    stored: Option<&Entry>,
    key: &Key,
    mut head: Head,
    part: Bytes,
    sequence: Sequence,
) -> Option<Entry> {
    let (first, last, length) = content_range(&head.headers)?;
    if part.len() as u64 != last - first + 1 {
        return None;
    }
    let mut ranges = match stored {
        Some(stored) if same_response(&stored.head.headers, &head.headers) => {
            keep_what_it_leaves_out(&mut head.headers, &stored.head.headers);
            match &stored.body {
                // The whole is there already: it was asked for another reason.
                StoredBody::Whole(_) => return None,
                StoredBody::Parts(parts) if parts.length == length => parts.ranges.clone(),
                StoredBody::Parts(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    insert(&mut ranges, first, part);
    if ranges.len() > RANGES_MAX {
        return None;
    }
    let body = match ranges.as_slice() {
        [(0, whole)] if whole.len() as u64 == length => {
            head.status = StatusCode::OK;
            head.headers.remove(header::CONTENT_RANGE);
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            StoredBody::Whole(whole.clone())
        }
        _ => StoredBody::Parts(Parts { length, ranges }),
    };
    Some(Entry { key: key.clone(), head, body, sequence })
}

/// A part need not say again what the body is (RFC 9110, section 15.3.7). What it does not
/// say of caching does not hold any more.
fn keep_what_it_leaves_out(new: &mut HeaderMap, stored: &HeaderMap) {
    let of_caching = [
        header::CACHE_CONTROL,
        CDN_CACHE_CONTROL,
        header::EXPIRES,
        header::PRAGMA,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::VARY,
    ];
    let (said, _) = said_by(new);
    let withheld = removed_fields(new, &said);
    let goes = |name: &HeaderName| of_caching.contains(name) || withheld.contains(name);
    for name in stored.keys().filter(|name| !goes(name)) {
        if new.contains_key(name) {
            continue;
        }
        for value in stored.get_all(name) {
            new.append(name.clone(), value.clone());
        }
    }
}

/// By a strong validator: nothing else says that two parts are of one body.
fn same_response(one: &HeaderMap, other: &HeaderMap) -> bool {
    match (one.get(header::ETAG), other.get(header::ETAG)) {
        (Some(one), Some(other)) => one == other && !one.as_bytes().starts_with(b"W/"),
        _ => false,
    }
}

/// Puts a part in its place. What overlaps is taken from the new one.
fn insert(ranges: &mut Vec<(u64, Bytes)>, first: u64, part: Bytes) {
    let end = first + part.len() as u64;
    let mut pieces = vec![(first, part)];
    for (from, bytes) in ranges.drain(..) {
        let to = from + bytes.len() as u64;
        if from < first {
            let keep = (first.min(to) - from) as usize;
            pieces.push((from, bytes.slice(..keep)));
        }
        if to > end {
            let skip = (end.max(from) - from) as usize;
            pieces.push((from + skip as u64, bytes.slice(skip..)));
        }
    }
    pieces.sort_by_key(|(from, _)| *from);
    let mut run: Vec<Bytes> = Vec::new();
    let (mut start, mut next) = (0, u64::MAX);
    for (from, bytes) in pieces {
        if from != next {
            flush(ranges, start, &mut run);
            start = from;
        }
        next = from + bytes.len() as u64;
        run.push(bytes);
    }
    flush(ranges, start, &mut run);
}

fn flush(ranges: &mut Vec<(u64, Bytes)>, start: u64, run: &mut Vec<Bytes>) {
    match run.as_slice() {
        [] => {}
        [one] => ranges.push((start, one.clone())),
        several => {
            let mut joined = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
            several.iter().for_each(|bytes| joined.extend_from_slice(bytes));
            ranges.push((start, joined.freeze()));
        }
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[(u64, &'static str)], expected: &[(u64, &str)]) {
        let mut ranges = Vec::new();
        for (first, part) in parts {
            insert(&mut ranges, *first, Bytes::from_static(part.as_bytes()));
        }
        let found: Vec<(u64, &str)> = ranges
            .iter()
            .map(|(first, bytes)| (*first, std::str::from_utf8(bytes).unwrap()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn parts_are_put_together() {
        check(&[(0, "abc")], &[(0, "abc")]);
        check(&[(0, "abc"), (5, "fg")], &[(0, "abc"), (5, "fg")]);
        check(&[(5, "fg"), (0, "abc")], &[(0, "abc"), (5, "fg")]);
        check(&[(0, "abc"), (3, "de"), (5, "fg")], &[(0, "abcdefg")]);
        check(&[(0, "abc"), (1, "BCD")], &[(0, "aBCD")]);
        check(&[(1, "bcd"), (0, "AB")], &[(0, "ABcd")]);
        check(&[(0, "abcdef"), (2, "CD")], &[(0, "abCDef")]);
        check(&[(2, "cd"), (0, "ABCDEF")], &[(0, "ABCDEF")]);
        check(&[(0, "ab"), (4, "ef"), (1, "BCDE")], &[(0, "aBCDEf")]);
    }
}
