//! What is sent of a stored response (RFC 9111, section 4; RFC 9110, sections 13 to 15).

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::storing::single_date;
use super::time::parse_date;
use super::{Asked, age_s, ranges};
use crate::{Entry, Head, StoredBody};

/// A response that is ready to be sent.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

#[derive(Debug)]
pub enum AnswerBody {
    Empty,
    Bytes(Bytes),
    /// Several ranges, with what stands between them (`multipart/byteranges`).
    Pieces(Vec<Bytes>),
}

/// The answer to a request that the stored response may be used for. None when the ranges
/// that are stored do not have all that it asks for.
pub fn answer(entry: &Entry, asked: &Asked, now_ms: u64) -> Option<Answer> {
    let head = &entry.head;
    let (status, mut headers, has_body) = answer_head(head, asked, now_ms);
    if !has_body {
        // A head of the whole can be told from parts, too.
        if matches!(entry.body, StoredBody::Parts(_)) && status != StatusCode::NOT_MODIFIED {
            whole_head(entry, &mut headers);
            return Some(Answer { status: StatusCode::OK, headers, body: AnswerBody::Empty });
        }
        return Some(Answer { status, headers, body: AnswerBody::Empty });
    }
    let length = match &entry.body {
        StoredBody::Whole(body) => body.len() as u64,
        StoredBody::Parts(parts) => parts.length,
    };
    let whole_status = match &entry.body {
        StoredBody::Whole(_) => status,
        StoredBody::Parts(_) => StatusCode::OK,
    };
    let wanted = asked
        .range
        .as_ref()
        .filter(|_| whole_status == StatusCode::OK && range_applies(head, asked));
    let Some(specs) = wanted else {
        let StoredBody::Whole(body) = &entry.body else { return None };
        return Some(Answer { status, headers, body: AnswerBody::Bytes(body.clone()) });
    };
    let found = ranges::resolve(specs, length);
    headers.remove(header::CONTENT_RANGE);
    match found.as_slice() {
        [] => {
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_ENCODING);
            set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{length}"));
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            Some(Answer { status, headers, body: AnswerBody::Empty })
        }
        [(first, count)] => {
            let bytes = slice(&entry.body, *first, *count)?;
            let range = format!("bytes {first}-{}/{length}", first + count - 1);
            set(&mut headers, header::CONTENT_RANGE, &range);
            set(&mut headers, header::CONTENT_LENGTH, &count.to_string());
            let status = StatusCode::PARTIAL_CONTENT;
            Some(Answer { status, headers, body: AnswerBody::Bytes(bytes) })
        }
        several => {
            let pieces = pieces(&entry.body, several, length, &mut headers)?;
            let status = StatusCode::PARTIAL_CONTENT;
            Some(Answer { status, headers, body: AnswerBody::Pieces(pieces) })
        }
    }
}

/// The head of an answer whose body may still be on its way: of the whole response, or a
/// 304. Whether a body follows.
pub fn answer_head(head: &Head, asked: &Asked, now_ms: u64) -> (StatusCode, HeaderMap, bool) {
    let mut headers = head.headers.clone();
    headers.insert(header::AGE, HeaderValue::from(age_s(head, now_ms)));
    if not_modified(head, asked) {
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_RANGE,
        ] {
            headers.remove(name);
        }
        return (StatusCode::NOT_MODIFIED, headers, false);
    }
    (head.status, headers, !asked.is_head())
}

/// Whether the caller has it already (RFC 9110, section 13.2.2).
fn not_modified(head: &Head, asked: &Asked) -> bool {
    if !matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return false;
    }
    if let Some(tags) = &asked.preconditions.if_none_match {
        let Some(own) = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else {
            return tags.iter().any(|tag| tag == "*");
        };
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let own = opaque(own);
        return tags.iter().any(|tag| tag == "*" || opaque(tag) == own);
    }
    let Some(since_s) = asked.preconditions.if_modified_since_s else { return false };
    let received_s = head.received_at_ms / 1_000;
    let date = |name| {
        let text = head.headers.get(name)?.to_str().ok()?;
        parse_date(text, received_s)
    };
    // Without Last-Modified it is not older than its Date (RFC 9111, section 4.3.2).
    let changed_s =
        date(header::LAST_MODIFIED).or_else(|| date(header::DATE)).unwrap_or(received_s);
    changed_s <= since_s
}

/// Whether the ranges are of what is stored (`If-Range`, RFC 9110, section 13.1.5).
fn range_applies(head: &Head, asked: &Asked) -> bool {
    let Some(condition) = &asked.if_range else { return true };
    // Both must be strong. A weak tag is not equal to a strong one.
    if condition.as_bytes().starts_with(b"W/") {
        return false;
    }
    if condition.as_bytes().starts_with(b"\"") {
        return head.headers.get(header::ETAG) == Some(condition);
    }
    // A date is strong when nothing can have changed since within its second (section 8.8.2.2).
    let received_s = head.received_at_ms / 1_000;
    let date = |name| single_date(&head.headers, name, received_s);
    let is_strong = match (date(header::LAST_MODIFIED), date(header::DATE)) {
        (Some(modified_s), Some(date_s)) => modified_s < date_s,
        _ => false,
    };
    is_strong && head.headers.get(header::LAST_MODIFIED) == Some(condition)
}

/// Bytes of the body, when all of them are there.
pub(super) fn slice(body: &StoredBody, first: u64, count: u64) -> Option<Bytes> {
    let (from, bytes) = match body {
        StoredBody::Whole(bytes) => (0, bytes),
        StoredBody::Parts(parts) => {
            let (from, bytes) = parts.ranges.iter().rev().find(|(from, _)| *from <= first)?;
            (*from, bytes)
        }
    };
    let start = usize::try_from(first - from).ok()?;
    let end = start.checked_add(usize::try_from(count).ok()?)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

fn whole_head(entry: &Entry, headers: &mut HeaderMap) {
    if let StoredBody::Parts(parts) = &entry.body {
        headers.remove(header::CONTENT_RANGE);
        set(headers, header::CONTENT_LENGTH, &parts.length.to_string());
    }
}

/// RFC 9110, section 14.6.
fn pieces(
    body: &StoredBody,
    ranges: &[(u64, u64)],
    length: u64,
    headers: &mut HeaderMap,
) -> Option<Vec<Bytes>> {
    let all: Vec<Bytes> =
        ranges.iter().map(|(first, count)| slice(body, *first, *count)).collect::<Option<_>>()?;
    // The boundary must not come in the body: it depends on all of what is sent.
    let mut hasher = blake3::Hasher::new();
    for bytes in &all {
        hasher.update(bytes);
    }
    let hash = hasher.finalize().to_hex();
    let boundary = &hash[..32];
    let kind = headers.remove(header::CONTENT_TYPE);
    let kind = kind.as_ref().and_then(|kind| kind.to_str().ok());
    let mut pieces = Vec::with_capacity(2 * all.len() + 1);
    for ((first, count), bytes) in ranges.iter().zip(all) {
        let mut between = format!("\r\n--{boundary}\r\n");
        if let Some(kind) = kind {
            between.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        let last = first + count - 1;
        between.push_str(&format!("Content-Range: bytes {first}-{last}/{length}\r\n\r\n"));
        pieces.push(between.into());
        pieces.push(bytes);
    }
    pieces.push(format!("\r\n--{boundary}--\r\n").into());
    let total: usize = pieces.iter().map(Bytes::len).sum();
    set(headers, header::CONTENT_LENGTH, &total.to_string());
    let kind = format!("multipart/byteranges; boundary={boundary}");
    set(headers, header::CONTENT_TYPE, &kind);
    Some(pieces)
}

fn set(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    // Of digits and what came in a header: it can be sent.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
