//! One request and its response on a connection, both at once.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method};
use http_body::Body as _;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::runtime;

use super::head::HeadReader;
use super::{Malformed, RequestFraming, RequestHead, ResponseHead, Stream};
use crate::timer::Deadline;

/// Smaller pieces of a body are copied behind the head, so that all is one packet.
const COPIED_MAX_BYTES: usize = 8 << 10;
/// Room for a head and a small body.
const HEAD_READ_BYTES: usize = 8 << 10;
const BODY_READ_BYTES: usize = 64 << 10;
/// What an idle connection may hold on to.
const IDLE_BUFFER_MAX_BYTES: usize = 16 << 10;
/// Of responses such as 103 before the one that counts.
const INFORMATIONAL_MAX: u32 = 16;

/// An open connection, and the buffers that are used again and again.
pub(crate) struct Connection {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
    out: BytesMut,
    deadline: Deadline,
    /// It has served a request before.
    pub(crate) reused: bool,
    /// The one that drives its socket; it does not move to another.
    pub(crate) runtime: runtime::Id,
}

impl Connection {
    /// Behind a pointer from the start: it changes hands several times in each request.
    pub(crate) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self {
            stream,
            read: BytesMut::new(),
            out: BytesMut::new(),
            deadline: Deadline::default(),
            reused: false,
            runtime: runtime::Handle::current().id(),
        })
    }

    /// Nothing came while it waited: neither bytes, which could only be an answer to
    /// nobody's question, nor the end.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.read.is_empty() && self.stream.is_quiet()
    }

    /// The same, as the system knows it at this moment: for a request that can not be sent
    /// a second time when the connection turns out to be closed.
    pub(crate) fn is_quiet_now(&mut self) -> bool {
        self.is_quiet() && self.stream.is_quiet_now()
    }

    /// To wait for the next request.
    pub(crate) fn rest(&mut self) {
        self.reused = true;
        for buffer in [&mut self.read, &mut self.out] {
            if buffer.capacity() > IDLE_BUFFER_MAX_BYTES {
                *buffer = BytesMut::new();
            }
        }
    }

    pub(crate) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.read)
    }
}

/// How long an upstream may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// From the last byte of the request that it took to the head of its response.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the body.
    pub(crate) idle: Duration,
    /// Of all tries, until there is a head.
    pub(crate) total: Option<Instant>,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It closed the connection before it said anything.
    Closed {
        nothing_sent: bool,
        cause: Option<io::Error>,
    },
    /// It broke off in the middle of the head.
    BrokeOff,
    Malformed(Malformed),
    /// It took nothing of the request, or sent no head, in time.
    Silent,
    /// The time of the request as a whole is over.
    OutOfTime,
    /// The client's body failed.
    RequestBody(BodyError),
}

pub(crate) struct Exchange {
    pub(super) connection: Box<Connection>,
    sending: Sending,
    to_head_request: bool,
    /// What the client wants to switch to.
    wanted: Option<HeaderValue>,
    heads: HeadReader,
    /// Once it has come.
    answer: Option<ResponseHead>,
    informational: u32,
    heard: bool,
    /// Since when the upstream is being waited for.
    quiet_since: Option<Instant>,
}

impl Exchange {
    pub(crate) fn new(mut connection: Box<Connection>, head: &RequestHead<'_>, body: Body) -> Self {
        let framing = match body.size_hint().exact() {
            // RFC 9110, section 8.6: where a body would have a meaning, its absence is said.
            Some(0) if matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) => {
                RequestFraming::Length(0)
            }
            Some(0) => RequestFraming::Empty,
            Some(bytes) => RequestFraming::Length(bytes),
            None => RequestFraming::Chunked,
        };
        connection.out.clear();
        head.write(framing, &mut connection.out);
        Self {
            connection,
            sending: Sending::new(body, framing),
            to_head_request: *head.method == Method::HEAD,
            wanted: head.upgrade.cloned(),
            heads: HeadReader::default(),
            answer: None,
            informational: 0,
            heard: false,
            quiet_since: None,
        }
    }

    /// Sends, and reads the head of the response. The body may still be on its way.
    pub(crate) async fn head(&mut self, limits: &TimeLimits) -> Result<&ResponseHead, Failure> {
        poll_fn(|cx| self.poll_head(limits, cx)).await?;
        Ok(self.answer())
    }

    /// # Panics
    /// Panics before there is a head, and when it was taken.
    pub(crate) fn answer(&self) -> &ResponseHead {
        self.answer.as_ref().expect("a head that has come and is still here")
    }

    /// # Panics
    /// As `answer`.
    pub(crate) fn take_answer(&mut self) -> ResponseHead {
        self.answer.take().expect("a head that has come and is still here")
    }

    fn poll_head(
        &mut self,
        limits: &TimeLimits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        self.poll_send(cx).map_err(Failure::RequestBody)?;
        loop {
            if !self.connection.read.is_empty() {
                let next = self.heads.next(&mut self.connection.read, self.to_head_request);
                if let Some(head) = next.map_err(Failure::Malformed)? {
                    if self.passes(&head)? {
                        self.answer = Some(head);
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
            }
            match self.poll_read(HEAD_READ_BYTES, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) if self.heard => return Poll::Ready(Err(Failure::BrokeOff)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed(None))),
                Poll::Ready(Ok(_)) => self.heard = true,
                Poll::Ready(Err(_)) if self.heard => return Poll::Ready(Err(Failure::BrokeOff)),
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(self.closed(Some(cause)))),
            }
        }
        let waits_for_client = self.sending.waits_for_body;
        if waits_for_client {
            // How slow a client may be is the door's business.
            self.quiet_since = None;
        } else if self.quiet_since.is_none() {
            self.quiet_since = Some(Instant::now());
        }
        let silent = self.quiet_since.map(|since| since + limits.first_byte);
        let until = match (silent, limits.total) {
            (Some(silent), Some(total)) => silent.min(total),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Poll::Pending,
        };
        if self.connection.deadline.poll(until, cx).is_pending() {
            return Poll::Pending;
        }
        let failure =
            if Some(until) == limits.total { Failure::OutOfTime } else { Failure::Silent };
        Poll::Ready(Err(failure))
    }

    /// Whether this head is the response, and not one that comes before it.
    fn passes(&mut self, head: &ResponseHead) -> Result<bool, Failure> {
        if !head.status.is_informational() {
            return Ok(true);
        }
        if head.is_switch() {
            if let (Some(wanted), Some(chosen)) = (&self.wanted, &head.upgrade) {
                let mut wanted = wanted.as_bytes().split(|byte| *byte == b',');
                if wanted.any(|one| one.trim_ascii().eq_ignore_ascii_case(chosen.as_bytes())) {
                    return Ok(true);
                }
            }
            let why = "it switched to a protocol that was not asked for";
            return Err(Failure::Malformed(Malformed(why)));
        }
        self.informational += 1;
        if self.informational > INFORMATIONAL_MAX {
            let why = "it sent informational responses without end";
            return Err(Failure::Malformed(Malformed(why)));
        }
        Ok(false)
    }

    fn closed(&mut self, cause: Option<io::Error>) -> Failure {
        let cause = cause.or_else(|| self.sending.broken.take());
        Failure::Closed { nothing_sent: !self.sending.sent_any, cause }
    }

    /// Sends what can be sent. An upstream that stops taking may still answer, so that is
    /// no failure here.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if self.sending.is_over() {
            return Ok(());
        }
        let connection = &mut self.connection;
        let progress = self.sending.poll(&mut connection.stream, &mut connection.out, cx)?;
        if progress {
            self.quiet_since = None;
        }
        Ok(())
    }

    /// Reads into the buffer, which is given room when there is little.
    fn poll_read(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Connection { stream, read, .. } = &mut *self.connection;
        if read.capacity() - read.len() < room / 8 {
            read.reserve(room);
        }
        stream.poll_read(cx, read)
    }

    pub(crate) fn poll_read_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = self.poll_read(BODY_READ_BYTES, cx);
        if read.is_ready() {
            self.quiet_since = None;
        }
        read
    }

    /// Nothing could be read. Ready when that has lasted too long.
    pub(crate) fn poll_idle(&mut self, idle: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        self.connection.deadline.poll(since + idle, cx)
    }

    /// Drives what is left of the request while the response's body is read.
    pub(crate) fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        self.poll_send(cx)
    }

    pub(crate) fn unread(&mut self) -> &mut BytesMut {
        &mut self.connection.read
    }

    /// The connection, when all of the request went out and nothing is left behind.
    pub(crate) fn into_reusable(self) -> Option<Box<Connection>> {
        let clean = self.sending.is_complete() && self.connection.read.is_empty();
        clean.then_some(self.connection)
    }

    pub(crate) fn into_connection(self) -> Box<Connection> {
        self.connection
    }
}

/// The request on its way out.
struct Sending {
    body: Body,
    framing: RequestFraming,
    /// Of a length that was promised.
    left: u64,
    /// Too large to copy: written from where it is, with `behind` after it.
    piece: Bytes,
    behind: &'static [u8],
    body_ended: bool,
    flushed: bool,
    sent_any: bool,
    /// The upstream takes no more.
    broken: Option<io::Error>,
    stopped: bool,
    waits_for_body: bool,
}

impl Sending {
    fn new(body: Body, framing: RequestFraming) -> Self {
        let left = match framing {
            RequestFraming::Length(bytes) => bytes,
            _ => 0,
        };
        Self {
            body_ended: framing == RequestFraming::Empty || framing == RequestFraming::Length(0),
            body,
            framing,
            left,
            piece: Bytes::new(),
            behind: b"",
            flushed: false,
            sent_any: false,
            broken: None,
            stopped: false,
            waits_for_body: false,
        }
    }

    fn is_complete(&self) -> bool {
        self.body_ended && self.flushed && !self.stopped
    }

    fn is_over(&self) -> bool {
        self.stopped || self.body_ended && self.flushed
    }

    /// Whether anything was written.
    fn poll(
        &mut self,
        stream: &mut Stream,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<bool, BodyError> {
        let mut progress = false;
        self.waits_for_body = false;
        loop {
            let starved = !self.gather(out, cx)?;
            if out.is_empty() && self.piece.is_empty() && self.behind.is_empty() {
                match stream.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.flushed = self.body_ended,
                    Poll::Ready(Err(cause)) => self.stop(cause),
                    Poll::Pending => return Ok(progress),
                }
                self.waits_for_body = starved;
                return Ok(progress);
            }
            let slices = [IoSlice::new(out), IoSlice::new(&self.piece), IoSlice::new(self.behind)];
            let used = if self.piece.is_empty() && self.behind.is_empty() { 1 } else { 3 };
            match stream.poll_write(cx, &slices[..used]) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.sent_any = true;
                    progress = true;
                    self.advance(out, written);
                }
                Poll::Ready(Ok(_)) => {
                    self.stop(io::ErrorKind::WriteZero.into());
                    return Ok(progress);
                }
                Poll::Ready(Err(cause)) => {
                    self.stop(cause);
                    return Ok(progress);
                }
            }
        }
    }

    fn stop(&mut self, cause: io::Error) {
        self.stopped = true;
        self.broken = Some(cause);
        self.body = Body::empty();
    }

    fn advance(&mut self, out: &mut BytesMut, mut written: usize) {
        let of_out = written.min(out.len());
        out.advance(of_out);
        if out.is_empty() {
            // Makes all of its room available again.
            out.clear();
        }
        written -= of_out;
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        self.behind = &self.behind[written - of_piece..];
    }

    /// Takes from the body what can be written at once. False when it has nothing now.
    fn gather(&mut self, out: &mut BytesMut, cx: &mut Context<'_>) -> Result<bool, BodyError> {
        while !self.body_ended
            && out.len() < COPIED_MAX_BYTES
            && self.piece.is_empty()
            && self.behind.is_empty()
        {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => self.end(None, out)?,
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) => self.put(data, out)?,
                    Err(frame) => self.end(frame.into_trailers().ok(), out)?,
                },
            }
        }
        Ok(true)
    }

    fn put(&mut self, data: Bytes, out: &mut BytesMut) -> Result<(), BodyError> {
        if data.is_empty() {
            return Ok(());
        }
        let chunked = self.framing == RequestFraming::Chunked;
        if chunked {
            write_hex(data.len(), out);
        } else {
            let length = data.len() as u64;
            let why = "the request's body is longer than it was said to be";
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| BodyError::new(ErrorCode::MalformedRequest, why))?;
        }
        let behind: &[u8] = if chunked { b"\r\n" } else { b"" };
        if data.len() <= COPIED_MAX_BYTES {
            out.put_slice(&data);
            out.put_slice(behind);
        } else {
            self.piece = data;
            self.behind = behind;
        }
        if !chunked && self.left == 0 {
            self.body_ended = true;
        }
        Ok(())
    }

    fn end(
        &mut self,
        trailers: Option<http::HeaderMap>,
        out: &mut BytesMut,
    ) -> Result<(), BodyError> {
        self.body_ended = true;
        if self.framing != RequestFraming::Chunked {
            if self.left == 0 {
                return Ok(());
            }
            let why = "the request's body is shorter than it was said to be";
            return Err(BodyError::new(ErrorCode::MalformedRequest, why));
        }
        out.put_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten() {
            if super::body::is_forbidden_trailer(name) {
                continue;
            }
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.put_slice(part);
            }
        }
        out.put_slice(b"\r\n");
        Ok(())
    }
}

/// The line before a chunk.
fn write_hex(size: usize, out: &mut BytesMut) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (size >> (4 * place)) & 15;
        out.put_u8(b"0123456789abcdef"[digit]);
    }
    out.put_slice(b"\r\n");
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { cause: None, .. } => {
                f.write_str("it closed the connection without an answer")
            }
            Self::Closed { cause: Some(cause), .. } => write!(f, "the connection broke: {cause}"),
            Self::BrokeOff => f.write_str("it broke off in the middle of its head"),
            Self::Malformed(Malformed(why)) => write!(f, "its answer is not valid: {why}"),
            Self::Silent => f.write_str("it sent no head in time"),
            Self::OutOfTime => f.write_str("the time of the request is over"),
            Self::RequestBody(error) => write!(f, "the request's body failed: {}", error.message),
        }
    }
}
