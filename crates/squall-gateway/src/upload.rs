//! A request's body as it comes, and its beginning, which is waited for before a target is called.
//!
//! An instance or a connection to an upstream costs far more than a client that sends slowly,
//! and whoever is called can seldom do anything before there is a body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use squall_types::{Body, BodyError};

/// A request's body, as its connection has it.
pub(crate) enum Upload {
    /// Nothing of it is still to come; often there is none.
    Whole(Bytes),
    Coming(Incoming),
}

impl Upload {
    /// In bytes, as far as that is known.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Coming(body) => body.size_hint().lower(),
        }
    }
}

/// Of a longer body it is as much as this.
const BEGINNING_BYTES: u64 = 16 << 10;

/// Whether the beginning is waited for. Where no length is announced, the client may want an
/// answer before it sends more; where it asks to be told to send, the target tells it.
pub(crate) fn is_awaited(headers: &HeaderMap, body: &Body) -> bool {
    body.as_full().is_none()
        && body.size_hint().exact().is_some()
        && !headers.contains_key(header::EXPECT)
}

/// The same body, once its beginning is here.
///
/// # Errors
/// Fails as the body does.
pub(crate) async fn begun(mut body: Body) -> Result<Body, BodyError> {
    let awaited = body.size_hint().lower().min(BEGINNING_BYTES);
    let mut beginning = Bytes::new();
    let mut gathered = BytesMut::new();
    while ((beginning.len() + gathered.len()) as u64) < awaited {
        // Trailers come behind all of the length.
        let Some(Ok(data)) = body.frame().await.transpose()?.map(Frame::into_data) else { break };
        if beginning.is_empty() && gathered.is_empty() {
            // Nearly always all of it.
            beginning = data;
            continue;
        }
        // In one buffer, whatever the pieces hold on to.
        gathered.extend_from_slice(&std::mem::take(&mut beginning));
        gathered.extend_from_slice(&data);
    }
    if !gathered.is_empty() {
        beginning = gathered.freeze();
    }
    if body.is_end_stream() {
        return Ok(Body::full(beginning));
    }
    Ok(Body::stream(Begun { beginning, rest: body }))
}

struct Begun {
    beginning: Bytes,
    rest: Body,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.beginning.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.beginning)))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let here = self.beginning.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + here);
        }
        hint.set_lower(hint.lower() + here);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use squall_types::ErrorCode;

    use super::*;

    /// A body of announced length. An empty piece is a moment without any.
    struct Pieces(VecDeque<Result<Bytes, BodyError>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.0.pop_front() {
                Some(Ok(piece)) if piece.is_empty() => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                piece => Poll::Ready(piece.map(|piece| piece.map(Frame::data))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().flatten().map(|piece| piece.len() as u64).sum())
        }
    }

    fn pieces(lengths: &[usize]) -> Body {
        let piece = |(number, length): (usize, &usize)| Ok(vec![number as u8; *length].into());
        Body::stream(Pieces(lengths.iter().enumerate().map(piece).collect()))
    }

    #[tokio::test]
    async fn a_short_body_comes_whole() {
        for lengths in [&[5][..], &[0, 5], &[1, 0, 2, 0, 0, 3], &[1; 100]] {
            let expected = pieces(lengths).collect().await.unwrap().to_bytes();
            let begun = begun(pieces(lengths)).await.unwrap();
            assert_eq!(begun.as_full(), Some(&expected[..]), "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn a_long_body_goes_on_behind_its_beginning() {
        for lengths in [&[50_000, 1][..], &[10_000, 10_000, 0, 10_000], &[0, 1, 16_383, 1]] {
            let expected = pieces(lengths).collect().await.unwrap().to_bytes();
            let mut begun = begun(pieces(lengths)).await.unwrap();
            assert!(begun.as_full().is_none(), "{lengths:?}");
            assert_eq!(begun.size_hint().exact(), Some(expected.len() as u64));
            let first = begun.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(first.len() as u64 >= BEGINNING_BYTES, "{lengths:?}");
            let left = (expected.len() - first.len()) as u64;
            assert_eq!((begun.size_hint().exact(), begun.is_end_stream()), (Some(left), false));
            let rest = begun.collect().await.unwrap().to_bytes();
            assert_eq!([first, rest].concat(), expected, "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn a_beginning_that_breaks_off_is_an_error() {
        let broken = BodyError::new(ErrorCode::RequestTooSlow, "too slow");
        let pieces = [Ok(Bytes::from_static(b"a")), Err(broken), Ok(Bytes::from_static(b"b"))];
        let body = Body::stream(Pieces(pieces.into()));
        assert_eq!(begun(body).await.unwrap_err().code, ErrorCode::RequestTooSlow);
    }

    #[test]
    fn who_may_want_an_answer_first_is_not_kept_waiting() {
        let mut headers = HeaderMap::new();
        assert!(is_awaited(&headers, &pieces(&[1])));
        assert!(!is_awaited(&headers, &Body::empty()));
        assert!(!is_awaited(&headers, &Body::full("all of it")));
        let of_no_length = http_body_util::StreamBody::new(futures_util::stream::pending());
        assert!(!is_awaited(&headers, &Body::stream(of_no_length)));
        headers.insert(header::EXPECT, "100-continue".parse().unwrap());
        assert!(!is_awaited(&headers, &pieces(&[1])));
    }
}
