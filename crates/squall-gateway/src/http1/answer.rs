//! A response on its way out: its head, and its body as the head says (RFC 9112, sections 6
//! and 7).

use std::cell::RefCell;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use http::response::Parts;
use http::{Method, Response, StatusCode, header};
use http_body::Body as HttpBody;
use hyper::ext::ReasonPhrase;
use hyper::rt::Write as Sink;
use squall_types::BodyError;

use crate::lines::parse_length;

/// A piece of a body that is not copied to what stands before it.
const LONG_BYTES: usize = 1 << 10;
/// What is gathered is written before more of the body is asked for.
const GATHERED_BYTES: usize = 16 << 10;

const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How the client finds the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// Writes one response.
pub(super) struct Answer<'a, B> {
    /// `None` when all of it was taken.
    body: Option<B>,
    framing: Framing,
    /// What is to be written, in this order.
    out: &'a mut Vec<u8>,
    piece: Bytes,
    tail: &'static [u8],
    /// Of `out`.
    written: usize,
    /// The head says that no other response comes on this connection.
    pub(super) is_last: bool,
}

impl<'a, B: HttpBody<Data = Bytes, Error = BodyError> + Unpin> Answer<'a, B> {
    /// `out` is a buffer that may be used.
    pub(super) fn new(method: &Method, response: Response<B>, out: &'a mut Vec<u8>) -> Self {
        let (head, body) = response.into_parts();
        out.clear();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let (framing, is_last) = write_head(method, &head, length, out);
        let body = Some(body).filter(|_| framing != Framing::Length(0));
        Self { body, framing, out, piece: Bytes::new(), tail: &[], written: 0, is_last }
    }

    /// Everything that there was was written, and the body has nothing at the moment.
    pub(super) fn waits_for_body(&self) -> bool {
        self.out.is_empty() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Ready when all of it is with `sink`.
    ///
    /// # Errors
    /// Fails when the sink or the body does, and when the body is shorter than its head says.
    pub(super) fn poll(
        &mut self,
        sink: &mut (impl Sink + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let gathered = self.gather(cx)?;
            ready!(self.poll_write(sink, cx))?;
            if gathered.is_ready() && self.body.is_some() {
                continue;
            }
            ready!(Pin::new(&mut *sink).poll_flush(cx))?;
            return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    /// Takes from the body what is there. Pending when it is nothing.
    fn gather(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        // What stands in `out` is written before the piece and its tail.
        while self.piece.is_empty() && self.tail.is_empty() && self.out.len() < GATHERED_BYTES {
            let Some(body) = &mut self.body else { break };
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                return Ok(Poll::Pending);
            };
            let ended = frame.is_none() || body.is_end_stream();
            if let Some(frame) = frame {
                // Whoever wants trailers says so, and is served by hyper.
                self.add(frame.map_err(io::Error::other)?.into_data().unwrap_or_default());
            }
            if ended || self.framing == Framing::Length(0) {
                self.end()?;
            }
        }
        Ok(Poll::Ready(()))
    }

    fn add(&mut self, mut data: Bytes) {
        match &mut self.framing {
            Framing::Length(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
            }
            Framing::Chunked if data.is_empty() => return,
            // Memory takes everything.
            Framing::Chunked => drop(write!(self.out, "{:x}\r\n", data.len())),
        }
        let tail = if self.framing == Framing::Chunked { CHUNK_END } else { &[] };
        if data.len() < LONG_BYTES {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (data, tail);
        }
    }

    /// Nothing more comes of the body.
    fn end(&mut self) -> io::Result<()> {
        self.body = None;
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => {
                let why = "the body is shorter than its head says";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            Framing::Chunked if self.piece.is_empty() => self.out.extend_from_slice(LAST_CHUNK),
            Framing::Chunked => self.tail = CHUNK_END_AND_LAST,
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        sink: &mut (impl Sink + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.waits_for_body() {
            let head = &self.out[self.written..];
            let mut sink = Pin::new(&mut *sink);
            let mut written = if self.piece.is_empty() && self.tail.is_empty() {
                ready!(sink.poll_write(cx, head))?
            } else {
                let parts = [head, &self.piece, self.tail].map(IoSlice::new);
                ready!(sink.as_mut().poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let mut take = |left: usize| {
                let taken = written.min(left);
                written -= taken;
                taken
            };
            self.written += take(head.len());
            let of_piece = take(self.piece.len());
            self.piece.advance(of_piece);
            self.tail = &self.tail[take(self.tail.len())..];
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
        // A piece that was written may be all that keeps a large buffer.
        self.piece = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

/// Appends the head of a response to a request of HTTP/1.1. `length` is the body's, where it is
/// known. Says how the body is framed, and whether the connection ends behind it.
fn write_head(
    method: &Method,
    head: &Parts,
    length: Option<u64>,
    out: &mut Vec<u8>,
) -> (Framing, bool) {
    let bodyless = *method == Method::HEAD || !may_have_length(head.status);
    write_status(head, out);
    let (mut promised, mut is_last, mut has_date) = (None, false, false);
    for (name, value) in &head.headers {
        match *name {
            header::TRANSFER_ENCODING | header::TRAILER => continue,
            header::CONTENT_LENGTH => {
                // What GET would have is told to HEAD; otherwise it is the body's own.
                let is_told = match length {
                    Some(0) => *method == Method::HEAD && head.status != StatusCode::NO_CONTENT,
                    _ => !bodyless,
                };
                let says = parse_length(value.as_bytes()).filter(|_| is_told && promised.is_none());
                if says.is_none() {
                    continue;
                }
                promised = says;
            }
            header::CONNECTION => is_last |= is_close(value.as_bytes()),
            header::DATE => has_date = true,
            _ => {}
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    let framing = match (bodyless, length, promised) {
        (true, ..) => Framing::Length(0),
        (false, Some(0), _) => {
            out.extend_from_slice(b"content-length: 0\r\n");
            Framing::Length(0)
        }
        (false, _, Some(promised)) => Framing::Length(promised),
        (false, Some(length), None) => {
            let mut digits = itoa::Buffer::new();
            for part in ["content-length: ", digits.format(length), "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
            Framing::Length(length)
        }
        (false, None, None) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
    };
    if !has_date {
        out.extend_from_slice(b"date: ");
        write_date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (framing, is_last)
}

fn write_status(head: &Parts, out: &mut Vec<u8>) {
    let reason = head.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    if head.status == StatusCode::OK && reason.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    // The space before it belongs there even without a reason.
    let usual = head.status.canonical_reason().unwrap_or_default().as_bytes();
    let status = head.status.as_str().as_bytes();
    for part in [b"HTTP/1.1 ", status, b" ", reason.unwrap_or(usual), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// RFC 9110, section 8.6: what says that there is no body has no length of one either.
fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

fn is_close(options: &[u8]) -> bool {
    options
        .split(|byte| *byte == b',')
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

thread_local! {
    /// The text of a second, by its number since 1970.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Now, as RFC 9110, section 5.6.7, writes it.
fn write_date(out: &mut Vec<u8>) {
    // SAFETY: without a place to write to it only returns the time.
    let second = unsafe { libc::time(std::ptr::null_mut()) };
    let second = u64::try_from(second).unwrap_or(0);
    DATE.with_borrow_mut(|(written, text)| {
        if *written != second {
            let time = UNIX_EPOCH + Duration::from_secs(second);
            (*written, *text) = (second, httpdate::fmt_http_date(time));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use squall_types::{Body, ErrorCode};

    use super::*;

    /// Takes so many bytes at once, and nothing at every other try.
    struct Narrow {
        width: usize,
        taken: Vec<u8>,
        is_full: bool,
    }

    impl Sink for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.is_full = !self.is_full;
            if self.is_full {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let bytes = parts.iter().flat_map(|part| part.iter().copied());
            let before = self.taken.len();
            let width = self.width;
            self.taken.extend(bytes.take(width));
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What a client receives, how it ended, and whether it was the last.
    fn sent(
        width: usize,
        method: &Method,
        response: Response<Body>,
    ) -> (String, io::Result<()>, bool) {
        let mut sink = Narrow { width, taken: Vec::new(), is_full: false };
        let mut out = b"of the response before".to_vec();
        let mut answer = Answer::new(method, response, &mut out);
        let polled = std::future::poll_fn(|cx| answer.poll(&mut sink, cx));
        let result =
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(polled);
        (String::from_utf8(sink.taken).unwrap(), result, answer.is_last)
    }

    fn response(status: u16, fields: &[(&'static str, &str)], body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("date", "then".parse().unwrap());
        for (name, value) in fields {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }

    /// A body of unknown length that has nothing now and then.
    fn pieces(pieces: &[&str]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|piece| Bytes::from((*piece).to_owned())).collect();
        let frames = stream::unfold(pieces.into_iter(), |mut left| async {
            tokio::task::yield_now().await;
            Some((Ok(Frame::data(left.next()?)), left))
        });
        Body::stream(StreamBody::new(Box::pin(frames)))
    }

    /// Whatever the socket takes at once.
    #[track_caller]
    fn check(method: Method, make: impl Fn() -> Response<Body>, expected: &str) {
        for width in [1, 2, 3, 7, 100, 5_000, 1 << 20] {
            let (text, result, _) = sent(width, &method, make());
            result.unwrap();
            assert_eq!(text, expected, "{width} bytes at once");
        }
    }

    #[test]
    fn bodies_of_known_length() {
        let hello = || response(200, &[("x-a", "1"), ("x-a", "2")], "hello".into());
        let head = "HTTP/1.1 200 OK\r\ndate: then\r\nx-a: 1\r\nx-a: 2\r\n";
        check(Method::GET, hello, &format!("{head}content-length: 5\r\n\r\nhello"));
        let long = "a".repeat(3_000);
        let make = || response(200, &[("content-length", "3000")], long.clone().into());
        let head = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 3000\r\n\r\n";
        check(Method::GET, make, &format!("{head}{long}"));
        let make = || response(200, &[("content-length", "4")], pieces(&["a", "", "bcd", "more"]));
        let expected = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 4\r\n\r\nabcd";
        check(Method::GET, make, expected);
    }

    #[test]
    fn bodies_of_unknown_length_come_in_chunks() {
        let long = "b".repeat(5_000);
        let make = || response(200, &[], pieces(&["hello", "", &long, "!", &long]));
        let expected = format!(
            "HTTP/1.1 200 OK\r\ndate: then\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n1388\r\n{long}\r\n1\r\n!\r\n1388\r\n{long}\r\n0\r\n\r\n",
        );
        check(Method::GET, make, &expected);
        let make =
            || response(200, &[("transfer-encoding", "gzip"), ("trailer", "a")], pieces(&[]));
        let expected =
            "HTTP/1.1 200 OK\r\ndate: then\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        check(Method::GET, make, expected);
    }

    #[test]
    fn responses_without_a_body() {
        let check = |method, status, fields: &'static [_], rest: &str| {
            let make = || response(status, fields, Body::empty());
            let reason = StatusCode::from_u16(status).unwrap().canonical_reason().unwrap();
            check(method, make, &format!("HTTP/1.1 {status} {reason}\r\ndate: then\r\n{rest}\r\n"));
        };
        check(Method::GET, 404, &[], "content-length: 0\r\n");
        check(Method::GET, 200, &[("content-length", "5")], "content-length: 0\r\n");
        check(Method::GET, 204, &[("content-length", "0")], "");
        check(Method::GET, 304, &[("content-length", "5"), ("etag", "a")], "etag: a\r\n");
        check(Method::HEAD, 200, &[("content-length", "5")], "content-length: 5\r\n");
        check(Method::HEAD, 200, &[], "");
        check(Method::HEAD, 204, &[("content-length", "5")], "");
    }

    #[test]
    fn a_length_that_is_none_is_not_told() {
        for says in ["+5", "5, 5", "", "x", "99999999999999999999"] {
            let make = || response(200, &[("content-length", says)], "hello".into());
            let expected = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 5\r\n\r\nhello";
            check(Method::GET, make, expected);
        }
        let twice = &[("content-length", "5"), ("content-length", "6")];
        let make = || response(200, twice, "hello".into());
        let expected = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 5\r\n\r\nhello";
        check(Method::GET, make, expected);
    }

    #[test]
    fn bodies_that_break_off_are_not_ended() {
        let short = || response(200, &[("content-length", "9")], pieces(&["hello"]));
        let (text, result, _) = sent(100, &Method::GET, short());
        assert!(text.ends_with("\r\n\r\nhello"), "{text}");
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let frames = [
            Ok(Frame::data(Bytes::from("hello"))),
            Err(BodyError::new(ErrorCode::UpstreamBroke, "it broke off")),
        ];
        let body = Body::stream(StreamBody::new(stream::iter(frames)));
        let (text, result, _) = sent(100, &Method::GET, response(200, &[], body));
        assert!(!text.contains("\r\n0\r\n"), "{text}");
        assert!(result.is_err());
    }

    #[test]
    fn the_last_response_says_so() {
        let is_last = |fields: &[_]| sent(100, &Method::GET, response(200, fields, "a".into())).2;
        assert!(!is_last(&[]));
        assert!(!is_last(&[("connection", "keep-alive, x-close")]));
        assert!(is_last(&[("connection", "close")]));
        assert!(is_last(&[("connection", "x-a"), ("connection", "x-b, Close")]));
    }

    #[test]
    fn statuses_have_the_reason_that_an_upstream_gave() {
        let make = || {
            let mut response = response(200, &[("content-length", "0")], Body::empty());
            response.extensions_mut().insert(ReasonPhrase::from_static(b"Fine"));
            response
        };
        let expected = "HTTP/1.1 200 Fine\r\ndate: then\r\ncontent-length: 0\r\n\r\n";
        check(Method::GET, make, expected);
        let make = || response(299, &[], Body::empty());
        check(Method::GET, make, "HTTP/1.1 299 \r\ndate: then\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_date_is_added_once() {
        let mut with_date = response(200, &[], "a".into());
        let mut without = Response::new(Body::from("a"));
        *without.headers_mut() = HeaderMap::new();
        for response in [&mut with_date, &mut without] {
            let response = std::mem::take(response);
            let (text, ..) = sent(100, &Method::GET, response);
            let date = text.lines().filter_map(|line| line.strip_prefix("date: "));
            let dates: Vec<_> = date.collect();
            assert!(matches!(&dates[..], [date] if *date == "then" || date.ends_with(" GMT")));
        }
    }
}
