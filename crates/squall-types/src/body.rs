//! The one body type that requests and responses have between the rooms.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::ErrorCode;

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct BodyError {
    pub code: ErrorCode,
    /// For the owner's log; never sent to a caller.
    pub message: String,
}

impl BodyError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(hyper::body::Incoming),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// A streamed HTTP body with trailers. Small and known bodies cost no allocation.
///
/// A guard may ride along: it is dropped when the body has been read to its end or
/// is dropped early, so permits and meters last exactly as long as the body does.
pub struct Body {
    kind: Kind,
    guard: Option<Box<dyn Send>>,
}

impl Body {
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty, guard: None }
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self { kind: Kind::Full(bytes), guard: None } }
    }

    pub fn incoming(body: hyper::body::Incoming) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self { kind: Kind::Incoming(body), guard: None }
    }

    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self { kind: Kind::Stream(body.boxed_unsync()), guard: None }
    }

    /// Drops `guard` when this body ends. A second guard is kept beside the first.
    #[must_use]
    pub fn with_guard(mut self, guard: impl Send + 'static) -> Self {
        self.guard = Some(match self.guard.take() {
            None => Box::new(guard),
            Some(earlier) => Box::new((guard, earlier)),
        });
        self
    }

    /// Other bytes under the same guard.
    #[must_use]
    pub fn replaced_by(self, bytes: impl Into<Bytes>) -> Self {
        Self { guard: self.guard, ..Self::full(bytes) }
    }

    /// The bytes, when the whole body is already here.
    pub fn as_full(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The same bytes, to keep: nothing is left of them here.
    pub fn take_full(&mut self) -> Option<Bytes> {
        if !matches!(self.kind, Kind::Empty | Kind::Full(_)) {
            return None;
        }
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Full(bytes) => Some(bytes),
            _ => Some(Bytes::new()),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            Kind::Incoming(_) => "incoming",
            Kind::Stream(_) => "stream",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(Bytes::from_static(text.as_bytes()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Incoming(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame.map(|frame| {
                    frame.map_err(|error| {
                        BodyError::new(ErrorCode::MalformedRequest, error.to_string())
                    })
                }),
            },
            Kind::Stream(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            },
        };
        if !matches!(frame, Some(Ok(_))) {
            // The source goes first: what it holds may still report to the guard.
            this.kind = Kind::Empty;
            this.guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}
