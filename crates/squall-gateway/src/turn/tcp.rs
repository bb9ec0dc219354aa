//! A TCP connection that sends at the end of its core's turn.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{post, send_now};

/// What of a connection is on its way.
#[derive(Default)]
pub(super) struct Line {
    /// The outbox has a write.
    posted: AtomicBool,
    /// Something is left: `left` has to be looked at.
    stuck: AtomicBool,
    left: Mutex<Left>,
}

/// What the outbox could not send.
#[derive(Default)]
struct Left {
    bytes: Vec<u8>,
    failure: Option<io::Error>,
}

/// What is left of one write.
pub(super) enum Rest<'a> {
    Bytes(&'a [u8]),
    Failure(io::Error),
}

impl Line {
    pub(super) fn is_posted(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    pub(super) fn post(&self) {
        self.posted.store(true, Ordering::Relaxed);
    }

    /// The write has left the outbox. Whether its task has to be woken.
    pub(super) fn sent(&self, rest: Option<Rest<'_>>) -> bool {
        self.posted.store(false, Ordering::Relaxed);
        let Some(rest) = rest else { return false };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match rest {
            Rest::Bytes(bytes) => left.bytes.extend_from_slice(bytes),
            Rest::Failure(error) => left.failure = Some(error),
        }
        self.stuck.store(true, Ordering::Relaxed);
        true
    }
}

fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.kind().into(),
    }
}

/// As a `TcpStream`; short writes are done when others of the turn are.
pub(crate) struct Tcp {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, line: Arc::default() }
    }

    /// For what needs the socket itself. It is not to be written to.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Another descriptor of the socket, for another runtime: this one forgets it when `self`
    /// goes.
    ///
    /// # Errors
    /// Fails when something is still to be sent, or descriptors have run out.
    pub(crate) fn second_descriptor(&self) -> io::Result<std::net::TcpStream> {
        self.leave_outbox();
        if self.line.is_stuck() {
            return Err(io::Error::other("something is still to be sent"));
        }
        self.stream.as_fd().try_clone_to_owned().map(Into::into)
    }

    /// Sends what the outbox could not.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.line.is_stuck() {
            return Poll::Ready(Ok(()));
        }
        let mut left = self.line.left.lock().unwrap_or_else(PoisonError::into_inner);
        while left.failure.is_none() && !left.bytes.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &left.bytes)) {
                Ok(sent) => drop(left.bytes.drain(..sent)),
                Err(error) => left.failure = Some(error),
            }
        }
        left.bytes = Vec::new();
        match &left.failure {
            // For good: errors of sockets are told by their number.
            Some(error) => Poll::Ready(Err(again(error))),
            None => {
                self.line.stuck.store(false, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Sends what the outbox has, and then what it could not.
    fn poll_everything(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leave_outbox();
        self.poll_left(cx)
    }

    fn leave_outbox(&self) {
        if self.line.is_posted() {
            send_now();
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // Its descriptor may be somebody else's in a moment.
        self.leave_outbox();
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever has sent everything, as far as they know, only reads. That the other side
        // takes no more is no reason not to hear what it says.
        let _ = self.poll_left(cx);
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
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
        ready!(self.poll_left(cx))?;
        let fd = self.stream.as_raw_fd();
        if post(&self.line, fd, parts, cx.waker()) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        ready!(self.poll_everything(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is in the outbox leaves by itself.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_left(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_everything(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
