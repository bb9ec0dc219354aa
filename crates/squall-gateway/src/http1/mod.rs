//! Conversations in HTTP/1 about requests that come whole.
//!
//! Nearly all requests are a whole head in one packet, with all of a short body or with nothing
//! behind it. Those are read, served and answered here. At the first one that is anything else,
//! in whatever way, hyper goes on with the connection and with all that was read of that
//! request. So one form of a request is read here, and none is refused.

mod answer;
mod head;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::Either;
use http::Request;
use hyper::rt::Write as _;

use crate::connection::{Connection, Stream};
use crate::home::HomeWatch;
use crate::listener::{Core, Spoken};
use crate::request;
use crate::rest::IdleWatch;
use crate::upload::Upload;

use answer::Answer;
pub(crate) use head::read as read_request;

/// A buffer that became larger is given back when a response was written.
const KEEP_BYTES: usize = 4 << 10;

/// What came from a client.
#[expect(clippy::large_enum_variant, reason = "it is nearly always a request")]
pub(crate) enum Came {
    Request(Request<Bytes>),
    /// Something that is read elsewhere; the stream has it still.
    Other,
    /// Nothing more comes.
    End,
}

/// What a connection without a request turns to.
#[expect(clippy::large_enum_variant, reason = "it is nearly always a request")]
enum Next {
    Came(Came),
    Idle,
    Move(Arc<Core>),
    /// The node ends.
    Stop,
}

/// Serves requests until one comes that is for hyper, with whom the stream goes on then, or the
/// connection is idle for long, or is idle for a moment and belongs elsewhere, or ends.
///
/// # Errors
/// Fails when the socket does, and when a response breaks off.
pub(crate) async fn converse(
    connection: &Arc<Connection>,
    mut stream: Stream,
) -> io::Result<Either<Spoken, Stream>> {
    let mut idle = IdleWatch::new();
    let mut home = HomeWatch::new(connection);
    let mut out = Vec::new();
    loop {
        let next = poll_fn(|cx| {
            if connection.is_ending() {
                return Poll::Ready(Ok(Next::Stop));
            }
            if let Poll::Ready(came) = stream.poll_request(cx) {
                return Poll::Ready(came.map(Next::Came));
            }
            match home.look(connection) {
                Some(core) => Poll::Ready(Ok(Next::Move(core))),
                None => idle.poll(connection, cx).map(|()| Ok(Next::Idle)),
            }
        });
        let request = match next.await? {
            Next::Came(Came::Request(request)) => request,
            Next::Came(Came::Other) => return Ok(Either::Right(stream)),
            Next::Idle => return Ok(Either::Left(Spoken::Idle(stream))),
            Next::Move(core) => return Ok(Either::Left(Spoken::Misplaced(stream, core))),
            Next::Came(Came::End) | Next::Stop => break,
        };
        let method = request.method().clone();
        let response = {
            let mut serving = pin!(request::serve(connection.clone(), request.map(Upload::Whole)));
            poll_fn(|cx| match serving.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Pending => stream.poll_gone(cx).map(Err),
            })
            .await?
        };
        let mut answer = Answer::new(&method, response, &mut out);
        poll_fn(|cx| match answer.poll(&mut stream, cx) {
            Poll::Pending if answer.waits_for_body() => stream.poll_gone(cx).map(Err),
            answered => answered,
        })
        .await?;
        if answer.is_last {
            break;
        }
        if out.capacity() > KEEP_BYTES {
            out = Vec::new();
        }
    }
    poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
    Ok(Either::Left(Spoken::Ended))
}
