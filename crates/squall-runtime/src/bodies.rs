//! Body wrappers that enforce limits while bytes flow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::usage::Meter;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::time::Sleep;

use crate::executor::Admitted;

/// A request body that counts and ends with an error beyond its limit.
pub(crate) struct RequestBody {
    pub(crate) inner: Body,
    pub(crate) meter: Arc<Meter>,
    pub(crate) remaining_bytes: u64,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len() as u64;
            this.meter.add_bytes_in(bytes);
            let Some(remaining_bytes) = this.remaining_bytes.checked_sub(bytes) else {
                this.meter.fail(ErrorCode::RequestBodyTooLarge);
                this.inner = Body::empty();
                return Poll::Ready(Some(Err(BodyError::new(
                    ErrorCode::RequestBodyTooLarge,
                    "the request body is larger than limits.request_body_bytes",
                ))));
            };
            this.remaining_bytes = remaining_bytes;
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

/// A response body that holds the invocation's place until its end, and breaks off
/// at the size limit and at the deadline.
pub(crate) struct ResponseBody {
    pub(crate) inner: Body,
    pub(crate) meter: Arc<Meter>,
    pub(crate) remaining_bytes: u64,
    pub(crate) deadline: Instant,
    /// Made when the body first has to wait.
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    /// Tells the owner why the body broke off.
    pub(crate) broke_off: Box<dyn Fn(ErrorCode) + Send>,
    pub(crate) admitted: Option<Admitted>,
}

impl ResponseBody {
    fn break_off(&mut self, code: ErrorCode) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.meter.fail(code);
        // Dropping the source cancels the guest.
        self.inner = Body::empty();
        self.admitted = None;
        (self.broke_off)(code);
        Poll::Ready(Some(Err(BodyError::new(code, "the response was broken off"))))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            let deadline = this.deadline;
            let timer = this
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            return match timer.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.break_off(ErrorCode::WallTimeExceeded),
            };
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    match this.remaining_bytes.checked_sub(data.len() as u64) {
                        Some(remaining_bytes) => this.remaining_bytes = remaining_bytes,
                        None => return this.break_off(ErrorCode::ResponseBodyTooLarge),
                    }
                    // A guest that never lets the body wait must end as well.
                    if this.timer.is_some() && Instant::now() >= this.deadline {
                        return this.break_off(ErrorCode::WallTimeExceeded);
                    }
                    if this.timer.is_none() {
                        let deadline = this.deadline;
                        this.timer = Some(Box::pin(tokio::time::sleep_until(deadline.into())));
                    }
                }
            }
            Some(Err(error)) => {
                this.meter.fail(error.code);
                this.admitted = None;
            }
            None => this.admitted = None,
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
