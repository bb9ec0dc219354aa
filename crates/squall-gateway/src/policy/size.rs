//! How large a request may be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::gateway::RequestLimits;
use squall_types::{Body, BodyError, ErrorCode};

use crate::guard::Target;
use crate::rejection::Rejection;

/// `body_bytes` is what is announced.
pub(crate) fn check(
    limits: &RequestLimits,
    head: &http::request::Parts,
    target: &Target,
    body_bytes: u64,
) -> Result<(), Rejection> {
    if limits.uri_bytes.is_some_and(|most| target.path_and_query.as_str().len() as u64 > most) {
        return Err(Rejection::new(
            ErrorCode::UriTooLong,
            "the URL is longer than this route takes",
        ));
    }
    if let Some(most) = limits.header_bytes {
        let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        if lines.sum::<usize>() as u64 > most {
            let message = "the headers are larger than this route takes";
            return Err(Rejection::new(ErrorCode::HeadTooLarge, message));
        }
    }
    // A body of unknown length is counted while it is read.
    if limits.body_bytes.is_some_and(|most| body_bytes > most) {
        let message = "the body is larger than this route takes";
        return Err(Rejection::new(ErrorCode::RequestBodyTooLarge, message).closing());
    }
    Ok(())
}

/// A body of unknown length, given up where it grows beyond `most` bytes.
pub(crate) fn limit(body: Body, most: Option<u64>) -> Body {
    match most {
        Some(left) if body.size_hint().exact().is_none() => {
            Body::stream(Limited { inner: body, left })
        }
        _ => body,
    }
}

struct Limited {
    inner: Body,
    left: u64,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            let bytes = data.map_or(0, Bytes::len) as u64;
            let Some(left) = this.left.checked_sub(bytes) else {
                this.inner = Body::empty();
                return Poll::Ready(Some(Err(BodyError::new(
                    ErrorCode::RequestBodyTooLarge,
                    "the body is larger than this route takes",
                ))));
            };
            this.left = left;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
