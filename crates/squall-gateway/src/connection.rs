//! One connection: its socket, what was noticed about it, and how slow it may be.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::io::{AsyncRead as _, AsyncWrite as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::Door;
use crate::framing::Scanner;
use crate::listener::Open;

/// How often the rate of a request body is looked at.
const RATE_PERIOD: Duration = Duration::from_secs(10);

/// What the socket's side and the requests' side of a connection share.
pub(crate) struct Connection {
    /// Counts it for as long as anybody holds it, a tunnel that it became included.
    open: Open,
    peer: IpAddr,
    http2: bool,
    requests: AtomicU64,
    /// The number of the head with ambiguous framing; 0 when there is none.
    refused: AtomicU64,
    closing: AtomicBool,
    /// It speaks something else than HTTP from here on.
    upgraded: AtomicBool,
}

impl Connection {
    pub(crate) fn new(open: Open, peer: IpAddr, http2: bool) -> Arc<Self> {
        Arc::new(Self {
            open,
            peer,
            http2,
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
        })
    }

    pub(crate) fn door(&self) -> &Arc<Door> {
        self.open.door()
    }

    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The number of the request that begins, from 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_refused(&self, number: u64) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused != 0 && number >= refused
    }

    /// The next response is the last.
    pub(crate) fn close_soon(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// What follows is not a head of HTTP.
    pub(crate) fn becomes_tunnel(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// HTTP/2 says it in a frame instead of a header.
    pub(crate) fn is_closing(&self) -> bool {
        !self.http2 && self.closing.load(Ordering::Relaxed)
    }

    /// A body that fails when it comes too slowly.
    pub(crate) fn guard_body(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::stream(TimedBody {
            inner: Body::incoming(body),
            door: self.door().clone(),
            bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        })
    }
}

/// A request's body under a minimum rate. Only time spent waiting for the client counts,
/// not what the guest takes between two reads.
struct TimedBody {
    inner: Body,
    door: Arc<Door>,
    /// Of the present period.
    bytes: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            return Poll::Ready(frame);
        }
        loop {
            let left = RATE_PERIOD.saturating_sub(this.waited);
            let (_, timer) = this
                .waiting
                .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
            ready!(timer.as_mut().poll(cx));
            let least = this.door.options.limits.body_rate_min_bytes_per_s * RATE_PERIOD.as_secs();
            if this.bytes < least {
                this.door.counters.slow_clients.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(Some(Err(BodyError::new(
                    ErrorCode::RequestTooSlow,
                    "the request's body came too slowly",
                ))));
            }
            (this.bytes, this.waited, this.waiting) = (0, Duration::ZERO, None);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The socket as hyper reads and writes it.
pub(crate) struct Stream {
    tcp: TcpStream,
    /// Read already, to find out what this is.
    prefix: Bytes,
    /// For HTTP/1 only.
    scanner: Option<Scanner>,
    connection: Arc<Connection>,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, prefix: Bytes, connection: Arc<Connection>) -> Self {
        let write_timeout = connection.door().options.limits.write_timeout;
        let mut scanner = (!connection.http2).then(Scanner::default);
        if let Some(scanner) = &mut scanner {
            scanner.scan(&prefix);
        }
        let mut stream = Self { tcp, prefix, scanner, connection, write_timeout, stalled: None };
        stream.note_refusal();
        stream
    }

    fn note_refusal(&mut self) {
        if let Some(number) = self.scanner.as_ref().and_then(Scanner::refused) {
            self.connection.refused.store(number, Ordering::Relaxed);
            self.scanner = None;
        }
    }

    /// A client that takes nothing for too long breaks the connection.
    fn waited<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        self.connection.door().counters.slow_clients.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let taken = this.prefix.len().min(buffer.remaining());
            buffer.put_slice(&this.prefix[..taken]);
            this.prefix.advance(taken);
            return Poll::Ready(Ok(()));
        }
        if this.scanner.is_some() && this.connection.upgraded.load(Ordering::Relaxed) {
            this.scanner = None;
        }
        // SAFETY: the cursor's memory is only written to, by the socket, and only what
        // was written is declared filled.
        let filled = unsafe {
            let mut unfilled = tokio::io::ReadBuf::uninit(buffer.as_mut());
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut unfilled))?;
            if let Some(scanner) = &mut this.scanner {
                scanner.scan(unfilled.filled());
            }
            unfilled.filled().len()
        };
        this.note_refusal();
        // SAFETY: so many bytes were filled above.
        unsafe { buffer.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.waited(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.waited(written, cx)
    }
}
