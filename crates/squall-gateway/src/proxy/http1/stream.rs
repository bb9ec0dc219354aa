use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut as _, BytesMut};
use squall_types::dial::ByteStream;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::turn::Tcp;

/// The socket of a connection. Plain ones are not behind a pointer: they are most.
pub(crate) enum Stream {
    Tcp(Tcp),
    Tls(Box<dyn ByteStream>),
}

impl Stream {
    /// Appends what there is to `buffer`, at most its spare capacity. 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut unfilled = ReadBuf::uninit(buffer.spare_capacity_mut());
        ready!(match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut unfilled),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut unfilled),
        })?;
        let filled = unfilled.filled().len();
        // SAFETY: `ReadBuf` counts as filled only what was initialised, from the start of
        // the spare capacity.
        unsafe { buffer.advance_mut(filled) };
        Poll::Ready(Ok(filled))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => match slices {
                [one] => Pin::new(stream).poll_write(cx, one),
                _ => Pin::new(stream).poll_write_vectored(cx, slices),
            },
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Nobody has said anything and nobody has hung up, as far as the event loop knows.
    /// Asks the system only when there was an event.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match self {
            Self::Tcp(stream) => {
                matches!(stream.socket().try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }

    /// Asks the system. What stands inside a TLS stream is not to be had.
    pub(super) fn is_quiet_now(&self) -> bool {
        let Self::Tcp(stream) = self else { return true };
        let mut byte = [MaybeUninit::uninit()];
        let peeked = socket2::SockRef::from(stream.socket()).peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
