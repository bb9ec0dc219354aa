//! Connections that stop being HTTP: WebSocket (RFC 6455) and whatever else is asked for
//! by `Upgrade` (RFC 9110, section 7.8). Bytes are copied both ways as they come.
//!
//! A configuration that changes does not touch them. When the node drains, both ends of a
//! WebSocket are told so by a close frame; other protocols are cut.
//!
//! The request lasts as long as its tunnel: its usage record, its line in the access log
//! and its place among those in flight end with it.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use squall_types::Body;
use squall_types::shard::Local;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;

use super::flight::Flight;
use super::http1::{Exchange, Stream};
use super::pool::UpstreamPool;
use super::websocket::{self, Frames};
use crate::connection::{LINGER_MAX, LINGER_QUIET_MAX};
use crate::listener::Draining;
use crate::response::RequestEnd;
use crate::timer::Deadline;

/// What both ends have to close in, after they were told or one of them has left.
const GOODBYE: Duration = Duration::from_secs(2);
const SCRATCH_BYTES: usize = 32 << 10;

/// What a client asks to switch to.
pub(crate) struct Upgrade {
    on: OnUpgrade,
    protocol: HeaderValue,
    draining: Draining,
    /// Comes once the response is on its way.
    request: oneshot::Receiver<Box<RequestEnd>>,
}

/// The protocol that a request asks for, and its connection; both are taken out of the
/// head. `None` for a plain request, which may go on as one.
pub(crate) fn wanted(head: &mut http::request::Parts) -> Option<(OnUpgrade, HeaderValue)> {
    if head.version != Version::HTTP_11 || !names_upgrade(&head.headers) {
        return None;
    }
    let mut protocols = head.headers.get_all(header::UPGRADE).iter();
    let (protocol, more) = (protocols.next()?.clone(), protocols.next());
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./+".contains(byte);
    let one = more.is_none() && !protocol.is_empty() && protocol.as_bytes().iter().all(token);
    // HTTP/2 is spoken by those who know, not asked for (RFC 9113, section 3.1).
    if !one || protocol.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return None;
    }
    head.extensions.remove::<OnUpgrade>().map(|on| (on, protocol))
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

impl Upgrade {
    pub(crate) fn new(
        (on, protocol): (OnUpgrade, HeaderValue),
        draining: Draining,
        request: oneshot::Receiver<Box<RequestEnd>>,
    ) -> Self {
        Self { on, protocol, draining, request }
    }

    pub(super) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }
}

type Client = TokioIo<Upgraded>;

/// A connection of a client and one of an upstream, joined.
pub(crate) struct Tunnel {
    upstream: Stream,
    inward: Direction,
    outward: Direction,
    idle: Duration,
    quiet_since: Option<Instant>,
    deadline: Deadline,
    request: Box<RequestEnd>,
}

/// One way of a tunnel.
struct Direction {
    /// Read and not yet written.
    pending: BytesMut,
    /// All that was read to be sent on.
    bytes: u64,
    /// Of a WebSocket: where its frames end.
    frames: Option<Frames>,
    /// What says goodbye to the end that this leads to.
    goodbye: &'static [u8],
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// At the end of the present frame, goodbye is said.
    Parting,
    /// Goodbye was said; what still comes is for nobody.
    Parted,
    /// The source has ended; so will the other end.
    Ended,
    Shut,
}

/// Which end of a way is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Source,
    Sink,
}

impl Tunnel {
    /// The response that switches the client's side. The tunnel has a task of its own from
    /// there on.
    pub(super) fn open(
        upgrade: Upgrade,
        mut exchange: Box<Exchange>,
        idle: Duration,
        pool: &Local<UpstreamPool>,
        flight: Flight,
    ) -> Response<Body> {
        let head = exchange.take_answer();
        let protocol = head.upgrade.unwrap_or_else(|| upgrade.protocol.clone());
        let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        let frames = || is_websocket.then(Frames::default);
        let (upstream, early) = exchange.into_connection().into_parts();
        let mut outward = Direction::new(frames(), &websocket::CLOSE_TO_CLIENT);
        let inward = Direction::new(frames(), &websocket::CLOSE_TO_SERVER);
        let Upgrade { on, draining, request, .. } = upgrade;
        outward.take(&early);
        let pool = pool.clone();
        pool.counters.tunnels.fetch_add(1, Ordering::Relaxed);
        let open = OpenTunnel { pool, _flight: flight };
        tokio::spawn(async move {
            let open = open;
            let Ok(request) = request.await else { return };
            // Fails when the response did not reach the client.
            let Ok(client) = on.await else { return };
            let mut client = TokioIo::new(client);
            let mut tunnel = Tunnel {
                upstream,
                inward,
                outward,
                idle,
                quiet_since: None,
                deadline: Deadline::default(),
                request,
            };
            let copying = std::future::poll_fn(|cx| tunnel.poll(&mut client, cx));
            if draining.unless_draining(copying).await.is_none() && is_websocket {
                tunnel.inward.part();
                tunnel.outward.part();
                let rest = std::future::poll_fn(|cx| tunnel.poll(&mut client, cx));
                let _ = tokio::time::timeout(GOODBYE, rest).await;
            }
            drop((tunnel, open));
            // Boxed: what it reads into is not kept for the life of the tunnel.
            Box::pin(linger(&mut client)).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = head.headers;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
        response
    }

    /// Ready when both ways have ended, or nothing has come for too long. A WebSocket has no use
    /// for one way alone, as other protocols may: it ends soon after one end has left.
    fn poll(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<()> {
        let inward = match self.inward.poll(client, &mut self.upstream, cx) {
            // What an upstream said before it left is the client's still.
            Err(Broken::Sink) => Ok(self.inward.give_up()),
            moved => moved,
        };
        let outward = self.outward.poll(&mut self.upstream, client, cx);
        let (Ok((moved_in, in_over)), Ok((moved_out, out_over))) = (inward, outward) else {
            return Poll::Ready(());
        };
        if in_over && out_over {
            self.request.finish();
            return Poll::Ready(());
        }
        if moved_in + moved_out > 0 {
            self.quiet_since = None;
        }
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        let is_alone = (in_over || out_over) && self.inward.frames.is_some();
        let idle = if is_alone { self.idle.min(GOODBYE) } else { self.idle };
        self.deadline.poll(since + idle, cx)
    }
}

/// What a client still sends is thrown away until it leaves, or a reset that answers it would take
/// with it what is on its way to the client.
async fn linger(client: &mut Client) {
    let leaving = async {
        client.shutdown().await?;
        let mut memory = [0; 1 << 10];
        while let Ok(read) = tokio::time::timeout(LINGER_QUIET_MAX, client.read(&mut memory)).await
        {
            if read? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever is gone is not waited for.
    let _ = tokio::time::timeout(LINGER_MAX, leaving).await;
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.request.add_bytes_in(self.inward.bytes);
        self.request.add_bytes_out(self.outward.bytes);
    }
}

impl Direction {
    fn new(frames: Option<Frames>, goodbye: &'static [u8]) -> Self {
        Self { pending: BytesMut::new(), bytes: 0, frames, goodbye, state: State::Open }
    }

    /// Says goodbye as soon as that is possible.
    fn part(&mut self) {
        if self.state == State::Open {
            self.state = State::Parting;
        }
    }

    /// Nobody takes what comes this way any more: it is over, with nothing moved.
    fn give_up(&mut self) -> (u64, bool) {
        self.pending = BytesMut::new();
        self.state = State::Shut;
        (0, true)
    }

    /// Moves what there is. Returns how many bytes that were, and whether this way is over.
    fn poll<F, T>(
        &mut self,
        from: &mut F,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Result<(u64, bool), Broken>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        thread_local! {
            /// One for all tunnels of a core: an idle one holds no memory for reading.
            static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let mut moved = 0;
        loop {
            if !self.pending.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, &self.pending) else {
                    return Ok((moved, false));
                };
                match written {
                    Ok(0) | Err(_) => return Err(Broken::Sink),
                    Ok(written) => self.pending.advance(written),
                }
                continue;
            }
            if self.pending.capacity() > 0 {
                self.pending = BytesMut::new();
            }
            match self.state {
                State::Shut => return Ok((moved, true)),
                State::Ended => {
                    let Poll::Ready(shut) = Pin::new(&mut *to).poll_shutdown(cx) else {
                        return Ok((moved, false));
                    };
                    shut.map_err(|_| Broken::Sink)?;
                    self.state = State::Shut;
                    continue;
                }
                State::Parting if self.frames.as_ref().is_none_or(Frames::at_boundary) => {
                    if !self.frames.as_ref().is_some_and(Frames::has_closed) {
                        self.pending.extend_from_slice(self.goodbye);
                    }
                    self.state = State::Parted;
                    continue;
                }
                _ => {}
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                scratch.resize(SCRATCH_BYTES, 0);
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
                let came = buffer.filled();
                self.take(came);
                Poll::Ready(std::io::Result::Ok(came.len()))
            });
            match read {
                Poll::Pending => {
                    // What a TLS stream holds back goes out now.
                    if let Poll::Ready(flushed) = Pin::new(&mut *to).poll_flush(cx) {
                        flushed.map_err(|_| Broken::Sink)?;
                    }
                    return Ok((moved, false));
                }
                Poll::Ready(Ok(0)) => self.state = State::Ended,
                Poll::Ready(Ok(bytes)) => moved += bytes as u64,
                Poll::Ready(Err(_)) => return Err(Broken::Source),
            }
        }
    }

    fn take(&mut self, came: &[u8]) {
        let passes = match (&mut self.frames, self.state) {
            (None, _) => came.len(),
            (Some(frames), State::Parting) => frames.advance(came, true),
            (Some(frames), State::Parted) => {
                frames.advance(came, false);
                if frames.has_closed() {
                    // Both have said goodbye.
                    self.state = State::Ended;
                }
                0
            }
            (Some(frames), _) => frames.advance(came, false),
        };
        self.pending.extend_from_slice(&came[..passes]);
        self.bytes += passes as u64;
    }
}

struct OpenTunnel {
    pool: Local<UpstreamPool>,
    _flight: Flight,
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.pool.counters.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
