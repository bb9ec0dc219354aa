//! Bodies on their way through an instance: those that it reads, by handle, and those that
//! it writes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::sync::{Mutex, mpsc};

use super::host::Refusal;

/// A body that the host has and the program may read.
pub(crate) struct Incoming {
    body: Body,
    /// Of a piece that was larger than what was asked for.
    rest: Bytes,
}

impl Incoming {
    /// The next piece, of `largest` bytes at most; `None` at the end.
    pub(crate) async fn read(&mut self, largest: usize) -> Result<Option<Bytes>, Refusal> {
        while self.rest.is_empty() {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(broke_off(&error)),
            }
        }
        let length = self.rest.len().min(largest.max(1));
        Ok(Some(self.rest.split_to(length)))
    }

    /// All that is left, if it is here and no more than `largest` bytes; otherwise it stays.
    pub(crate) fn take_now(&mut self, largest: u64) -> Option<Result<Bytes, Refusal>> {
        if self.rest.is_empty() {
            // Whoever waits for the body later polls it anew.
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut self.body).poll_frame(&mut context) {
                Poll::Pending => return None,
                Poll::Ready(None) => {}
                Poll::Ready(Some(Ok(frame))) => self.rest = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => return Some(Err(broke_off(&error))),
            }
        }
        let is_whole = self.body.is_end_stream() && self.rest.len() as u64 <= largest;
        is_whole.then(|| Ok(std::mem::take(&mut self.rest)))
    }

    /// All that is left, of `largest` bytes at most.
    pub(crate) async fn read_all(&mut self, largest: u64) -> Result<Bytes, Refusal> {
        let mut whole = BytesMut::new();
        let mut only = Bytes::new();
        while let Some(piece) = self.read(usize::MAX).await? {
            if (whole.len() + only.len() + piece.len()) as u64 > largest {
                return Err(Refusal::new(
                    "RangeError",
                    "the body does not fit into the function's memory (limits.memory_bytes); read it as a stream",
                ));
            }
            if only.is_empty() && whole.is_empty() {
                only = piece;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut only));
                whole.extend_from_slice(&piece);
            }
        }
        Ok(if whole.is_empty() { only } else { whole.freeze() })
    }

    fn into_body(self) -> Body {
        if self.rest.is_empty() { self.body } else { Body::stream(self) }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

fn broke_off(error: &BodyError) -> Refusal {
    Refusal::type_error(format!("the body broke off: {}", error.message))
}

/// The bodies that an instance may read.
#[derive(Default)]
pub(crate) struct Bodies {
    /// With the request that each belongs to.
    incoming: HashMap<u32, (u32, Arc<Mutex<Incoming>>)>,
    last: u32,
}

impl Bodies {
    pub(crate) fn clear(&mut self) {
        self.incoming.clear();
        self.last = 0;
    }

    /// Returns the handle.
    pub(crate) fn insert(&mut self, request: u32, body: Body) -> u32 {
        self.last += 1;
        let incoming = Incoming { body, rest: Bytes::new() };
        self.incoming.insert(self.last, (request, Arc::new(Mutex::new(incoming))));
        self.last
    }

    /// What the request did not read nobody will.
    pub(crate) fn end_request(&mut self, request: u32) {
        if !self.incoming.is_empty() {
            self.incoming.retain(|_, (owner, _)| *owner != request);
        }
    }

    pub(crate) fn get(&self, handle: u32) -> Result<Arc<Mutex<Incoming>>, Refusal> {
        self.incoming.get(&handle).map(|(_, body)| body.clone()).ok_or_else(gone)
    }

    /// The whole of a body that nobody reads and that is here.
    pub(crate) fn take_now(&mut self, handle: u32, largest: u64) -> Option<Result<Bytes, Refusal>> {
        let (_, body) = self.incoming.get_mut(&handle)?;
        let taken = Arc::get_mut(body)?.get_mut().take_now(largest)?;
        self.remove(handle);
        Some(taken)
    }

    /// Nobody reads it any more.
    pub(crate) fn remove(&mut self, handle: u32) {
        self.incoming.remove(&handle);
    }

    /// What is left of it, to be sent on.
    pub(crate) fn take(&mut self, handle: u32) -> Result<Body, Refusal> {
        let (_, body) = self.incoming.remove(&handle).ok_or_else(gone)?;
        let body = Arc::try_unwrap(body)
            .map_err(|_| Refusal::type_error("the body is being read already"))?;
        Ok(body.into_inner().into_body())
    }
}

fn gone() -> Refusal {
    Refusal::type_error("the body has been read already, or its request has ended")
}

/// The writing end of a body that a program sends.
#[derive(Clone)]
pub(crate) struct BodyWriter {
    pieces: mpsc::Sender<Bytes>,
    failure: Arc<OnceLock<BodyError>>,
}

/// The reading end.
struct Written {
    pieces: mpsc::Receiver<Bytes>,
    failure: Arc<OnceLock<BodyError>>,
}

/// A body and what writes to it. One piece waits at most, so that whoever writes feels how
/// fast it is read.
pub(crate) fn written_body() -> (BodyWriter, Body) {
    let (pieces, taken) = mpsc::channel(1);
    let failure = Arc::new(OnceLock::new());
    let body = Body::stream(Written { pieces: taken, failure: failure.clone() });
    (BodyWriter { pieces, failure }, body)
}

impl BodyWriter {
    /// Comes back when there is room for more. # Errors
    /// Fails when nobody reads any more.
    pub(crate) async fn write(self, piece: Bytes) -> Result<(), Refusal> {
        self.pieces
            .send(piece)
            .await
            .map_err(|_| Refusal::new("AbortError", "nobody reads this body any more"))
    }

    /// The body ends here, before its end.
    pub(crate) fn fail(self, message: &str) {
        let _ = self.failure.set(BodyError::new(ErrorCode::InvalidResponse, message));
    }
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => self.failure.get().map(|failure| Err(failure.clone())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &'static [&'static str]) -> Body {
        let frames =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Body::stream(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn a_body_is_read_in_pieces_that_are_no_larger_than_asked() {
        let mut bodies = Bodies::default();
        let handle = bodies.insert(1, pieces(&["abcdef", "", "g"]));
        let body = bodies.get(handle).unwrap();
        let mut read = Vec::new();
        while let Some(piece) = body.lock().await.read(4).await.unwrap() {
            read.push(piece);
        }
        assert_eq!(read, ["abcd", "ef", "g"]);
    }

    #[tokio::test]
    async fn what_is_left_of_a_body_can_be_sent_on() {
        let mut bodies = Bodies::default();
        let handle = bodies.insert(1, pieces(&["abcdef", "gh"]));
        let first = bodies.get(handle).unwrap().lock().await.read(2).await.unwrap();
        assert_eq!(first.unwrap(), "ab");
        let held = bodies.get(handle).unwrap();
        assert!(bodies.take(handle).unwrap_err().message.contains("being read"));
        drop(held);
        let handle = bodies.insert(1, pieces(&["abcdef", "gh"]));
        bodies.get(handle).unwrap().lock().await.read(2).await.unwrap();
        let rest = bodies.take(handle).unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(rest, "cdefgh");
        assert!(bodies.take(handle).is_err());
    }

    #[tokio::test]
    async fn a_whole_body_is_read_up_to_a_limit() {
        let mut bodies = Bodies::default();
        let handle = bodies.insert(1, pieces(&["abc", "def"]));
        let whole = bodies.get(handle).unwrap().lock().await.read_all(6).await.unwrap();
        assert_eq!(whole, "abcdef");
        let handle = bodies.insert(2, pieces(&["abc", "def"]));
        bodies.end_request(1);
        let refused = bodies.get(handle).unwrap().lock().await.read_all(5).await.unwrap_err();
        assert_eq!(refused.name, "RangeError");
    }

    #[tokio::test]
    async fn a_body_that_is_here_is_taken_without_waiting() {
        let mut bodies = Bodies::default();
        let whole = |taken: Option<Result<Bytes, Refusal>>| taken.map(Result::unwrap);
        let handle = bodies.insert(1, Body::from("abc"));
        assert_eq!(whole(bodies.take_now(handle, 2)), None, "it is too large");
        assert_eq!(whole(bodies.take_now(handle, 3)).unwrap(), "abc");
        assert_eq!(whole(bodies.take_now(handle, 3)), None, "it is gone");
        // What was looked at and is not whole is read by who waits.
        let handle = bodies.insert(1, pieces(&["abc", "def"]));
        assert_eq!(whole(bodies.take_now(handle, 9)), None);
        let body = bodies.get(handle).unwrap();
        assert_eq!(whole(bodies.take_now(handle, 9)), None, "somebody reads it");
        assert_eq!(body.lock().await.read_all(9).await.unwrap(), "abcdef");
        let (writer, body) = written_body();
        let handle = bodies.insert(1, body);
        assert_eq!(whole(bodies.take_now(handle, 9)), None, "nothing is there");
        writer.fail("no more");
        assert!(bodies.take_now(handle, 9).unwrap().is_err());
    }

    #[tokio::test]
    async fn a_written_body_ends_as_it_is_told() {
        let (writer, body) = written_body();
        writer.clone().write("one".into()).await.unwrap();
        drop(writer);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one");

        let (writer, mut body) = written_body();
        writer.clone().write("one".into()).await.unwrap();
        writer.fail("no more");
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err().message, "no more");

        let (writer, body) = written_body();
        drop(body);
        assert_eq!(writer.write("one".into()).await.unwrap_err().name, "AbortError");
    }
}
