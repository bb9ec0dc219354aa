//! One connection: its socket, what was noticed about it, and how slow it may be.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{ReadBufCursor, Write as HyperWrite};
use socket2::SockRef;
use squall_types::log::TlsVersion;
use squall_types::shard::Local;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use crate::Door;
use crate::flood::{FrameCounter, Seen};
use crate::framing::Scanner;
use crate::guard;
use crate::http1::{self, Came};
use crate::listener::{Open, PREFACE};
use crate::turn::Tcp;

/// How often the rate of a request body is looked at.
const RATE_PERIOD: Duration = Duration::from_secs(10);
/// A longer head is left to hyper.
const READ_BYTES: usize = 4 << 10;
/// What a client still sends behind its last response is thrown away, or the reset that answers it
/// could take that response with it (RFC 9112, section 9.6): for so long in all, and for so long
/// without a byte.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(30);
pub(crate) const LINGER_QUIET_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// What a head may take however slowly it comes.
const HEAD_GRACE: Duration = Duration::from_secs(5);

thread_local! {
    /// What is read of a connection, until it is known what it is.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What the socket's side and the requests' side of a connection share.
pub(crate) struct Connection {
    /// Counts it for as long as anybody holds it, a tunnel that it became included.
    open: Open,
    peer: IpAddr,
    /// `None` without TLS.
    tls: Option<TlsVersion>,
    http2: bool,
    /// What the client asked for in its handshake, when it may ask for other hosts behind
    /// that on the same connection.
    server_name: Option<Box<str>>,
    requests: AtomicU64,
    ended: AtomicU64,
    /// The number of the head with ambiguous framing; 0 when there is none.
    refused: AtomicU64,
    closing: AtomicBool,
    /// No more requests are taken.
    ending: AtomicBool,
    /// It speaks something else than HTTP from here on.
    upgraded: AtomicBool,
    /// Its descriptor, where HTTP/1 is spoken without TLS. Changes with its core.
    plain_socket: AtomicI32,
    moves: AtomicU32,
    /// Bytes of HTTP/2 that its client took.
    written: AtomicU64,
    /// With HTTP/1: the number of requests that had come whole when the socket had no
    /// more, and nothing that was to be sent was left. `NOT_IDLE` otherwise.
    idle_after: AtomicU64,
}

const NOT_IDLE: u64 = u64::MAX;
const NO_SOCKET: RawFd = -1;

impl Connection {
    pub(crate) fn new(open: Open, peer: IpAddr, socket: &Socket, http2: bool) -> Arc<Self> {
        Arc::new(Self {
            open,
            peer,
            tls: socket.tls_version(),
            http2,
            server_name: socket.server_name().filter(|_| http2).map(Into::into),
            requests: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            plain_socket: AtomicI32::new(match socket {
                Socket::Plain(tcp) if !http2 => tcp.socket().as_raw_fd(),
                _ => NO_SOCKET,
            }),
            moves: AtomicU32::new(0),
            written: AtomicU64::new(0),
            idle_after: AtomicU64::new(NOT_IDLE),
        })
    }

    pub(crate) fn door(&self) -> &Local<Door> {
        self.open.door()
    }

    pub(crate) fn open(&self) -> &Open {
        &self.open
    }

    /// What a look at its packets needs, where it may move. Open as long as its stream.
    pub(crate) fn plain_socket(&self) -> Option<RawFd> {
        Some(self.plain_socket.load(Ordering::Relaxed)).filter(|socket| *socket != NO_SOCKET)
    }

    /// How often it has changed its core.
    pub(crate) fn moves(&self) -> u32 {
        self.moves.load(Ordering::Relaxed)
    }

    pub(crate) fn count_move(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    pub(crate) fn requests_served(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn tls_version(&self) -> Option<TlsVersion> {
        self.tls
    }

    /// Whether the client may ask for `host` here. Clients of HTTP/2 use a connection for
    /// every host that they believe its certificate to hold for (RFC 9113, section 9.1.1);
    /// proxies that are trusted know what they do.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let Some(name) = self.server_name.as_deref() else { return true };
        let options = &self.door().options;
        name == host
            || options.is_trusted(self.peer)
            || options.tls.as_ref().is_none_or(|tls| tls.covers(name, host))
    }

    /// The number of the request that begins, from 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn request_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any is under way. Of HTTP/2, more of its response may be left to send when it is not.
    pub(crate) fn has_requests(&self) -> bool {
        self.ended.load(Ordering::Relaxed) < self.requests.load(Ordering::Relaxed)
    }

    /// How many requests it has served, when none is under way and nothing of another one
    /// has come. Only for HTTP/1.
    pub(crate) fn requests_when_idle(&self) -> Option<u64> {
        let came = self.idle_after.load(Ordering::Relaxed);
        let served = [&self.requests, &self.ended].map(|count| count.load(Ordering::Relaxed));
        Some(came).filter(|came| served == [*came; 2])
    }

    pub(crate) fn is_refused(&self, number: u64) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused != 0 && number >= refused
    }

    /// Bytes of HTTP/2 that its client took.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written
            && self.http2
        {
            self.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }

    /// The next response is the last.
    pub(crate) fn close_soon(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// It ends when it is idle, or after the response that is under way.
    pub(crate) fn end_soon(&self) {
        self.close_soon();
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// What follows is not a head of HTTP.
    pub(crate) fn becomes_tunnel(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// HTTP/2 says it in a frame instead of a header.
    pub(crate) fn is_closing(&self) -> bool {
        !self.http2 && self.closing.load(Ordering::Relaxed)
    }

    /// Whether a connection of HTTP/2 was idle for too long.
    pub(crate) fn is_retired(&self) -> bool {
        self.http2 && self.closing.load(Ordering::Relaxed)
    }

    /// What breaks off is told to a client of HTTP/1.0, which knows the end of a body by that of
    /// its connection, by a reset.
    pub(crate) fn reset_at_end(&self) {
        if let Some(socket) = self.plain_socket() {
            // SAFETY: it is open while its stream is, which a response is written to.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            // Without it, the body ends as one that is whole.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// A body that fails when it comes slower than `rate_min_bytes_per_s`, which is the
    /// door's own without it, before there is an answer. Trailers that must not be are taken out.
    pub(crate) fn guard_body(
        &self,
        body: Incoming,
        rate_min_bytes_per_s: Option<u64>,
        watch: &Arc<UploadWatch>,
    ) -> Body {
        Body::stream(TimedBody {
            inner: body,
            watch: watch.clone(),
            rate_min_bytes_per_s: rate_min_bytes_per_s
                .unwrap_or(self.door().options.limits.body_rate_min_bytes_per_s),
            door: self.door().clone(),
            bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        })
    }
}

impl Connection {
    /// Called whenever the client answers a ping: clients that have nothing to say do so
    /// for ever.
    fn retire_when_idle(&self, idle: &mut Option<(u64, Instant)>) {
        if self.has_requests() {
            *idle = None;
            return;
        }
        let requests = self.requests.load(Ordering::Relaxed);
        match idle {
            Some((seen, since)) if *seen == requests => {
                if since.elapsed() >= self.door().options.limits.idle_timeout {
                    self.close_soon();
                }
            }
            _ => *idle = Some((requests, Instant::now())),
        }
    }
}

/// What a request's body and the rest of the request tell each other.
#[derive(Debug, Default)]
pub(crate) struct UploadWatch {
    client_left: AtomicBool,
    answered: AtomicBool,
}

impl UploadWatch {
    /// It broke off because nobody is there any more.
    pub(crate) fn client_left(&self) -> bool {
        self.client_left.load(Ordering::Relaxed)
    }

    /// There is a response's head: what the client sends now is part of a conversation.
    pub(crate) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// A request's body under a minimum rate. Only time spent waiting for the client counts,
/// not what the guest takes between two reads.
struct TimedBody {
    inner: Incoming,
    watch: Arc<UploadWatch>,
    door: Local<Door>,
    rate_min_bytes_per_s: u64,
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
        if let Poll::Ready(mut frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if frame.is_none() && this.inner.size_hint().lower() > 0 {
                // With HTTP/2, who resets a stream without an error may leave in the middle.
                this.watch.client_left.store(true, Ordering::Relaxed);
                let why = "the body is shorter than it was said to be";
                return Poll::Ready(Some(Err(BodyError::new(ErrorCode::Cancelled, why))));
            }
            if let Some(Ok(frame)) = &mut frame {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(trailers) = frame.trailers_mut() {
                    guard::strip_trailers(trailers);
                }
            }
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| {
                    let has_left = has_left(&error);
                    this.watch.client_left.fetch_or(has_left, Ordering::Relaxed);
                    let code = match has_left {
                        true => ErrorCode::Cancelled,
                        false => ErrorCode::MalformedRequest,
                    };
                    BodyError::new(code, error.to_string())
                })
            }));
        }
        loop {
            let left = RATE_PERIOD.saturating_sub(this.waited);
            let (_, timer) = this
                .waiting
                .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
            ready!(timer.as_mut().poll(cx));
            let least = this.rate_min_bytes_per_s.saturating_mul(RATE_PERIOD.as_secs());
            if this.bytes < least && !this.watch.answered.load(Ordering::Relaxed) {
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

/// Whether a body broke off with its connection or its stream, rather than for what is in
/// it.
fn has_left(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return error.is_io() || error.reason() == Some(h2::Reason::CANCEL);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            let kinds = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
            return kinds.contains(&error.kind());
        }
        source = cause.source();
    }
    false
}

/// What bytes come from and go to.
pub(crate) enum Socket {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl Socket {
    fn server_name(&self) -> Option<&str> {
        let Socket::Tls(stream) = self else { return None };
        stream.get_ref().1.server_name()
    }

    fn tls_version(&self) -> Option<TlsVersion> {
        let Socket::Tls(stream) = self else { return None };
        // There are two versions that the door speaks.
        match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Some(TlsVersion::V12),
            _ => Some(TlsVersion::V13),
        }
    }
}

/// Calls the same method on whichever socket it is.
macro_rules! on_socket {
    ($socket:expr, $method:ident $(, $argument:expr)*) => {
        match $socket {
            Socket::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            Socket::Tls(tls) => Pin::new(tls).$method($($argument),*),
        }
    };
}

/// The socket as requests are read from it and responses written to it.
pub(crate) struct Stream {
    socket: Socket,
    /// Read already, to find out what this is.
    prefix: Bytes,
    watch: Watch,
    connection: Arc<Connection>,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Everything that was written has left.
    flushed: bool,
    /// Nothing more is sent, and what comes is thrown away.
    lingering: Option<Box<Lingering>>,
}

struct Lingering {
    until: Instant,
    quiet: Pin<Box<Sleep>>,
}

/// A stream between two cores.
pub(crate) struct Detached {
    socket: std::net::TcpStream,
    prefix: Bytes,
    watch: Watch,
    connection: Arc<Connection>,
    write_timeout: Duration,
}

impl Detached {
    /// Served by the calling core from now on.
    ///
    /// # Errors
    /// Fails when the socket can not be registered.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        let Self { socket, prefix, watch, connection, write_timeout } = self;
        connection.plain_socket.store(socket.as_raw_fd(), Ordering::Relaxed);
        let socket = Socket::Plain(Tcp::new(tokio::net::TcpStream::from_std(socket)?));
        Ok(Stream::of_parts(socket, prefix, watch, connection, write_timeout))
    }
}

/// What is looked at in the bytes that come.
enum Watch {
    Http1 {
        scanner: Box<Scanner>,
        head: Option<SlowHead>,
    },
    Http2 {
        frames: FrameCounter,
        /// The number of requests when it was seen last that none is open, and since when.
        idle: Option<(u64, Instant)>,
    },
    Nothing,
}

/// A head that did not come whole.
struct SlowHead {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Stream {
    pub(crate) fn new(socket: Socket, prefix: Bytes, connection: Arc<Connection>) -> Self {
        let write_timeout = connection.door().options.limits.write_timeout;
        let watch = if connection.http2 {
            // The preface is in `prefix` whole, or all of it is still to come.
            let preface_bytes = PREFACE.len() - prefix.len();
            Watch::Http2 { frames: FrameCounter::new(preface_bytes), idle: None }
        } else {
            Watch::Http1 { scanner: Box::default(), head: None }
        };
        Self::of_parts(socket, prefix, watch, connection, write_timeout)
    }

    fn of_parts(
        socket: Socket,
        prefix: Bytes,
        watch: Watch,
        connection: Arc<Connection>,
        write_timeout: Duration,
    ) -> Self {
        let (stalled, flushed, lingering) = (None, true, None);
        Self { socket, prefix, watch, connection, write_timeout, stalled, flushed, lingering }
    }

    /// For hyper, which reads what is in `prefix` first.
    pub(crate) fn for_hyper(mut self) -> Self {
        let prefix = self.prefix.clone();
        // With HTTP/1 looking does not fail.
        let _ = self.look_at(&prefix);
        self
    }

    /// The next request of HTTP/1, when it came in one piece.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Came>> {
        if !self.flushed {
            // Whatever it is that does not leave: the client may have something to say.
            let _ = HyperWrite::poll_flush(Pin::new(self), cx)?;
        }
        READ.with_borrow_mut(|memory| {
            let mut buffer = ReadBuf::new(memory);
            let before = self.prefix.len();
            if before > buffer.remaining() {
                return Poll::Ready(Ok(Came::Other));
            }
            buffer.put_slice(&self.prefix);
            match on_socket!(&mut self.socket, poll_read, cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending if before > 0 => return Poll::Ready(Ok(Came::Other)),
                Poll::Pending => {
                    self.note_idleness();
                    return Poll::Pending;
                }
            }
            let read = buffer.filled();
            if read.len() == before {
                let came = if before == 0 { Came::End } else { Came::Other };
                return Poll::Ready(Ok(came));
            }
            let headers_max = self.connection.door().options.limits.headers_max;
            let Some((request, is_last)) = http1::read_request(read, headers_max) else {
                self.prefix = Bytes::copy_from_slice(read);
                return Poll::Ready(Ok(Came::Other));
            };
            self.prefix = Bytes::new();
            if let Watch::Http1 { scanner, .. } = &mut self.watch {
                scanner.skip_request();
            }
            if is_last {
                self.connection.close_soon();
            }
            Poll::Ready(Ok(Came::Request(request)))
        })
    }

    /// While a request is served: ready when its client has left. What else comes is kept.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        READ.with_borrow_mut(|memory| {
            loop {
                // Of what comes too early not all is kept, and the socket keeps the rest.
                let room = memory.len() - self.prefix.len();
                if room == 0 {
                    return Poll::Pending;
                }
                let mut buffer = ReadBuf::new(&mut memory[..room]);
                match ready!(on_socket!(&mut self.socket, poll_read, cx, &mut buffer)) {
                    Ok(()) if buffer.filled().is_empty() => {
                        let why = "the client has left";
                        return Poll::Ready(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                    }
                    Ok(()) => self.prefix = [&self.prefix, buffer.filled()].concat().into(),
                    Err(error) => return Poll::Ready(error),
                }
            }
        })
    }

    /// The socket, for `detach`. `None` where the stream has to stay: with TLS, with something
    /// that the client does not take, and when descriptors have run out.
    pub(crate) fn socket_to_take_along(&self) -> Option<std::net::TcpStream> {
        let Socket::Plain(tcp) = &self.socket else { return None };
        tcp.second_descriptor().ok()
    }

    /// Without the core that serves it. Only where nothing of a request has come.
    pub(crate) fn detach(self, socket: std::net::TcpStream) -> Detached {
        let Self { prefix, mut watch, connection, write_timeout, .. } = self;
        if let Watch::Http1 { head, .. } = &mut watch {
            // Its timer is the core's.
            *head = None;
        }
        Detached { socket, prefix, watch, connection, write_timeout }
    }

    /// Ready when the socket has something, or has ended.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let tcp = match &self.socket {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => tls.get_ref().0,
        };
        // An error is found by reading.
        tcp.socket().poll_read_ready(cx).map(|_| ())
    }

    /// What was noted before it says nothing about what is to be sent now.
    fn begins_to_send(&mut self) {
        self.flushed = false;
        self.connection.idle_after.store(NOT_IDLE, Ordering::Relaxed);
    }

    /// Says whether the connection is idle, now that nothing comes.
    fn note_idleness(&self) {
        let Watch::Http1 { scanner, .. } = &self.watch else { return };
        let came = scanner.requests_when_idle().filter(|_| self.flushed);
        self.connection.idle_after.store(came.unwrap_or(NOT_IDLE), Ordering::Relaxed);
    }

    /// Looks at what was read.
    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.watch {
            Watch::Nothing => {}
            Watch::Http1 { scanner, .. } => {
                scanner.scan(bytes);
                if let Some(number) = scanner.refused() {
                    self.connection.refused.store(number, Ordering::Relaxed);
                    if scanner.has_lost_track() {
                        self.connection.close_soon();
                    }
                    self.watch = Watch::Nothing;
                }
            }
            Watch::Http2 { frames, idle } => match frames.count(bytes) {
                Seen::Nothing => {}
                Seen::Pong => self.connection.retire_when_idle(idle),
                Seen::Flood => {
                    let counters = &self.connection.door().counters;
                    counters.floods.fetch_add(1, Ordering::Relaxed);
                    let why = "the client floods the connection with empty frames or resets";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
                }
            },
        }
        Ok(())
    }

    /// How much may be read at once. Of a head no more than it may have: hyper looks at its size
    /// when it has read all that there is, and would take a larger one that is whole by then.
    fn room_of_head(&self) -> usize {
        let Watch::Http1 { scanner, .. } = &self.watch else { return usize::MAX };
        let Some(bytes) = scanner.head_bytes() else { return usize::MAX };
        let most = self.connection.door().options.limits.http1_buffer_bytes();
        most.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX)).max(1)
    }

    /// While nothing comes: whether a head that has begun is too slow. A fixed time for
    /// all heads would be too short for some and too long for an attacker.
    fn poll_slow_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Watch::Http1 { scanner, head } = &mut self.watch else { return Poll::Pending };
        let Some(bytes) = scanner.unfinished_head_bytes() else {
            *head = None;
            return Poll::Pending;
        };
        let limits = &self.connection.door().options.limits;
        let rate = limits.head_rate_min_bytes_per_s;
        if rate == 0 {
            return Poll::Pending;
        }
        let head = head.get_or_insert_with(|| {
            let since = Instant::now();
            SlowHead { since, timer: Box::pin(tokio::time::sleep_until(since + HEAD_GRACE)) }
        });
        let earned = Duration::from_millis(bytes.saturating_mul(1_000) / rate);
        let deadline = head.since + (HEAD_GRACE + earned).min(limits.head_timeout);
        if head.timer.deadline() != deadline {
            head.timer.as_mut().reset(deadline);
        }
        ready!(head.timer.as_mut().poll(cx));
        self.connection.door().counters.slow_clients.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request's head came too slowly"))
    }

    /// Whether the client has not sent all of its request, or the next one has begun to come.
    fn is_amid_request(&self) -> bool {
        match &self.watch {
            _ if self.connection.upgraded.load(Ordering::Relaxed) => false,
            Watch::Http1 { scanner, .. } => {
                !self.prefix.is_empty() || scanner.requests_when_idle().is_none()
            }
            Watch::Http2 { .. } => false,
            // The request's framing was refused.
            Watch::Nothing => true,
        }
    }

    /// Ready when the client has closed its side, or has had time enough for that.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(()) };
        READ.with_borrow_mut(|memory| {
            loop {
                let mut buffer = ReadBuf::new(memory);
                let Poll::Ready(read) = on_socket!(&mut self.socket, poll_read, cx, &mut buffer)
                else {
                    return lingering.quiet.as_mut().poll(cx);
                };
                let now = Instant::now();
                if read.is_err() || buffer.filled().is_empty() || now >= lingering.until {
                    return Poll::Ready(());
                }
                let quiet_until = lingering.until.min(now + LINGER_QUIET_MAX);
                lingering.quiet.as_mut().reset(quiet_until);
            }
        })
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
        if this.connection.upgraded.load(Ordering::Relaxed) {
            this.watch = Watch::Nothing;
        }
        // SAFETY: the cursor's memory is only written to, by the socket, and only what
        // was written is declared filled.
        let filled = unsafe {
            let memory = buffer.as_mut();
            let most = memory.len().min(this.room_of_head());
            let mut unfilled = ReadBuf::uninit(&mut memory[..most]);
            let Poll::Ready(read) = on_socket!(&mut this.socket, poll_read, cx, &mut unfilled)
            else {
                this.note_idleness();
                return this.poll_slow_head(cx).map(Err);
            };
            read?;
            this.look_at(unfilled.filled())?;
            unfilled.filled().len()
        };
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
        self.begins_to_send();
        let written = on_socket!(&mut self.socket, poll_write, cx, bytes);
        self.connection.count_written(&written);
        self.waited(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on_socket!(&mut self.socket, poll_flush, cx);
        self.flushed = flushed.is_ready();
        self.waited(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            self.begins_to_send();
            // What was posted before may have to go first, and the client takes nothing.
            let shut = on_socket!(&mut self.socket, poll_shutdown, cx);
            ready!(self.waited(shut, cx))?;
            if self.is_amid_request() {
                let now = Instant::now();
                let quiet = Box::pin(tokio::time::sleep_until(now + LINGER_QUIET_MAX));
                self.lingering = Some(Box::new(Lingering { until: now + LINGER_MAX, quiet }));
            }
        }
        self.poll_linger(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begins_to_send();
        let written = on_socket!(&mut self.socket, poll_write_vectored, cx, slices);
        self.connection.count_written(&written);
        self.waited(written, cx)
    }
}
