//! The body of a response: it times out between pieces and gives its connection back
//! when it has been read to the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use squall_types::{BodyError, ErrorCode};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::pool::{Connection, Key, Pool, Sender};

/// How long a finished connection may take to become ready for its next request.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct ResponseBody {
    incoming: Incoming,
    /// `None` once given back, and for HTTP/2, whose connections stay in the pool.
    /// Dropping it with the body unread closes the connection.
    returning: Option<Returning>,
    between_bytes: Duration,
    timeout: Option<Pin<Box<Sleep>>>,
}

/// A connection on its way back to the pool.
pub(crate) struct Returning {
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Key,
    pub(crate) connection: Connection,
    /// The runtime that drives the connection; the body may be read on another one.
    pub(crate) runtime: Handle,
}

impl Returning {
    /// The connection is ready a moment after the end of the body: when the request has
    /// been sent whole and the driver has noticed both.
    pub(crate) fn finish(self) {
        let Returning { pool, key, mut connection, runtime } = self;
        runtime.spawn(async move {
            let Sender::Http1(sender) = &mut connection.sender else { return };
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
                pool.put(key, connection);
            }
        });
    }
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        returning: Option<Returning>,
        between_bytes: Duration,
    ) -> Self {
        Self { incoming, returning, between_bytes, timeout: None }
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
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.timeout = None;
                if frame.is_none()
                    && let Some(returning) = this.returning.take()
                {
                    returning.finish();
                }
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|cause| {
                        let message = format!("the response broke off: {cause}");
                        BodyError::new(ErrorCode::OutboundFailed, message)
                    })
                }))
            }
            Poll::Pending => {
                let between_bytes = this.between_bytes;
                let timeout =
                    this.timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(between_bytes)));
                if timeout.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.returning = None;
                let message = format!("the response paused for {} ms", between_bytes.as_millis());
                Poll::Ready(Some(Err(BodyError::new(ErrorCode::OutboundFailed, message))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // As long as the connection is to be returned, the end must be read.
        self.returning.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
