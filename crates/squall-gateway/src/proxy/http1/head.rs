//! The head of a response: found, checked, and made a map without copying values.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{Framing, Malformed};
use crate::lines::{parse_length, trim};

const HEAD_MAX_BYTES: usize = 64 << 10;
const HEADERS_MAX: usize = 128;

/// What an upstream answered, without what belongs to the connection.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// Where it is not the usual one, and is ASCII.
    pub(crate) reason: Option<Bytes>,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// The connection may serve another request afterwards.
    pub(crate) keep_alive: bool,
    /// How long the upstream keeps it, where it says so.
    pub(crate) keeps_for: Option<Duration>,
    /// What it switches to, with status 101.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl ResponseHead {
    /// The connection speaks something else from here on.
    pub(crate) fn is_switch(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Finds heads in what was read.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    /// Looked through already, without finding the end.
    scanned: usize,
    line_start: usize,
    lines: usize,
}

impl HeadReader {
    /// The next head, once it is whole. `to_head_request`: its response has no body, and
    /// what it says of one is about another.
    pub(crate) fn next(
        &mut self,
        buffer: &mut BytesMut,
        to_head_request: bool,
    ) -> Result<Option<ResponseHead>, Malformed> {
        let Some(end) = self.find_end(buffer)? else { return Ok(None) };
        // Without the status and the empty line.
        let fields = self.lines - 2;
        *self = Self::default();
        let head = buffer.split_to(end).freeze();
        parse(&head, fields, to_head_request).map(Some)
    }

    /// The length of the head. Every line must end with CR LF: a lone LF is an end to some
    /// readers and not to others.
    fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Malformed> {
        // Whoever speaks another protocol may wait for an answer to what he said.
        if !b"HTTP/1.".starts_with(&buffer[..buffer.len().min(7)]) {
            return Err(Malformed("it does not speak HTTP/1"));
        }
        while let Some(distance) = memchr::memchr(b'\n', &buffer[self.scanned..]) {
            let place = self.scanned + distance;
            if place == 0 || buffer[place - 1] != b'\r' {
                return Err(Malformed("a line of the head does not end with CR LF"));
            }
            let empty = place - self.line_start == 1;
            self.scanned = place + 1;
            self.line_start = place + 1;
            self.lines += 1;
            if empty {
                return Ok(Some(place + 1));
            }
        }
        self.scanned = buffer.len();
        if buffer.len() > HEAD_MAX_BYTES {
            return Err(Malformed("the head is too large"));
        }
        Ok(None)
    }
}

/// `head` has a line for the status, as many as `fields`, and an empty one.
fn parse(head: &Bytes, fields: usize, to_head_request: bool) -> Result<ResponseHead, Malformed> {
    if head.len() > HEAD_MAX_BYTES {
        return Err(Malformed("the head is too large"));
    }
    if fields > HEADERS_MAX {
        return Err(Malformed("there are too many headers"));
    }
    let mut rest = 0..head.len();
    let (http_1_1, status, reason) = parse_status(&head[next_line(head, &mut rest)])?;
    let mut found = Found::default();
    let mut headers = HeaderMap::with_capacity(fields);
    for _ in 0..fields {
        let line = next_line(head, &mut rest);
        let colon = head[line.clone()].iter().position(|byte| *byte == b':');
        let colon = line.start + colon.ok_or(Malformed("a line of the head has no colon"))?;
        // Neither a folded line nor a space before the colon makes a name.
        let name = HeaderName::from_bytes(&head[line.start..colon])
            .map_err(|_| Malformed("the name of a header is not valid, or a line is folded"))?;
        let place = trim(head, colon + 1..line.end);
        let value = &head[place.clone()];
        let invalid = Malformed("the value of a header is not valid");
        if found.keeps(&name, value)? {
            let value = HeaderValue::from_maybe_shared(head.slice(place)).map_err(|_| invalid)?;
            headers.append(name, value);
        } else if !value.iter().all(is_text) {
            return Err(invalid);
        }
    }
    for name in &found.named_by_connection {
        headers.remove(name);
    }
    let bodyless = to_head_request
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (found.chunked, found.length) {
        (true, Some(_)) => return Err(Malformed("the length of the body is given in two ways")),
        (true, None) if !http_1_1 => {
            return Err(Malformed("HTTP/1.0 has no transfer codings"));
        }
        _ if bodyless => Framing::Empty,
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    let usual = status.canonical_reason().map(str::as_bytes);
    let is_told =
        |reason: &&[u8]| !reason.is_empty() && reason.is_ascii() && Some(*reason) != usual;
    let reason = Some(reason).filter(is_told);
    Ok(ResponseHead {
        status,
        reason: reason.map(|reason| head.slice_ref(reason)),
        headers,
        framing,
        keep_alive: !found.close
            && (http_1_1 || found.keep_alive)
            && framing != Framing::UntilClose,
        keeps_for: found.keeps_for,
        upgrade: found.upgrade,
    })
}

/// The next line without its end; `rest` is what comes behind it.
fn next_line(head: &[u8], rest: &mut Range<usize>) -> Range<usize> {
    let length = memchr::memchr(b'\n', &head[rest.clone()]).unwrap_or(rest.len());
    let line = rest.start..(rest.start + length).saturating_sub(1).max(rest.start);
    rest.start = (rest.start + length + 1).min(rest.end);
    line
}

/// Whether it is HTTP/1.1 rather than 1.0, the status, and its reason (RFC 9112, section 4).
fn parse_status(line: &[u8]) -> Result<(bool, StatusCode, &[u8]), Malformed> {
    let (http_1_1, rest) = match line.split_at_checked(9) {
        Some((b"HTTP/1.1 ", rest)) => (true, rest),
        Some((b"HTTP/1.0 ", rest)) => (false, rest),
        _ => return Err(Malformed("it does not speak HTTP/1")),
    };
    let bad = Malformed("the status line is not valid");
    let (digits, rest) = rest.split_at_checked(3).ok_or(bad)?;
    let status = StatusCode::from_bytes(digits)
        .map_err(|_| Malformed("the status is no number from 100 to 999"))?;
    match rest {
        [] => Ok((http_1_1, status, rest)),
        [b' ', reason @ ..] if reason.iter().all(is_text) => Ok((http_1_1, status, reason)),
        _ => Err(bad),
    }
}

/// Whether a value may have it (RFC 9110, section 5.5). For what becomes no `HeaderValue`, which
/// would ask for the same.
fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// What the fields say about the connection and the body.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keeps_for: Option<Duration>,
    upgrade: Option<HeaderValue>,
    named_by_connection: Vec<HeaderName>,
}

impl Found {
    /// Whether the field goes on to the client.
    fn keeps(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        match *name {
            header::CONTENT_LENGTH => {
                if self.length.is_some() {
                    return Err(Malformed("the length of the body is given twice"));
                }
                let length = parse_length(value);
                self.length = Some(length.ok_or(Malformed("Content-Length is no number"))?);
                return Ok(true);
            }
            header::TRANSFER_ENCODING => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed("only chunked transfer is understood"));
                }
                self.chunked = true;
            }
            header::CONNECTION => self.read_connection(value),
            header::UPGRADE => self.upgrade = HeaderValue::from_bytes(value).ok(),
            header::TE | header::PROXY_AUTHENTICATE => {}
            _ => match name.as_str() {
                "keep-alive" => self.keeps_for = keeps_for(value),
                "proxy-connection" => {}
                // Who is calling and what may be done is not for an upstream to say.
                name => return Ok(!name.starts_with("x-squall-")),
            },
        }
        Ok(false)
    }

    fn read_connection(&mut self, options: &[u8]) {
        for option in options.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = HeaderName::from_bytes(option)
                && name != header::CONTENT_LENGTH
                && name != header::CONTENT_TYPE
                && name != header::SET_COOKIE
            {
                self.named_by_connection.push(name);
            }
        }
    }
}

/// `timeout=5`, as many servers write it (RFC 2068, section 19.7.1.1).
fn keeps_for(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
