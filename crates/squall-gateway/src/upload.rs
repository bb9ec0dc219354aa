//! A request's body as it comes, and its beginning, which is waited for before a target is called.
//!
//! An instance or a connection to an upstream costs far more than a client that sends slowly,
//! and whoever is called can seldom do anything before there is a body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use squall_types::{Body, BodyError, ErrorCode};

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

/// Of a longer body the beginning is as much as this, or a little more.
const BEGINNING_BYTES: usize = 16 << 10;

/// The same body, once its beginning is here: to its end, where that is near. After `until` it
/// goes on with what has come.
///
/// # Errors
/// Fails as the body does.
pub(crate) async fn begun(mut body: Body, until: Instant) -> Result<Body, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let awaited = announced.min(BEGINNING_BYTES);
    let mut whole = Bytes::new();
    let mut gathered = BytesMut::new();
    let mut trailers = None;
    while whole.len().max(gathered.len()) < BEGINNING_BYTES && !body.is_end_stream() {
        let Ok(frame) = tokio::time::timeout_at(until.into(), body.frame()).await else { break };
        let Some(frame) = frame.transpose()? else {
            let here = whole.len().max(gathered.len());
            if here < announced {
                let why = "the body is shorter than it was said to be";
                return Err(BodyError::new(ErrorCode::MalformedRequest, why));
            }
            break;
        };
        match frame.into_data() {
            // Nearly always. Pieces would hold on to the buffers that they are parts of.
            Ok(data) if gathered.is_empty() && whole.is_empty() && data.len() >= awaited => {
                whole = data;
            }
            Ok(data) => {
                gathered.reserve(awaited.saturating_sub(gathered.len()).max(data.len()));
                gathered.extend_from_slice(&std::mem::take(&mut whole));
                gathered.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let beginning = if whole.is_empty() { gathered.freeze() } else { whole };
    if trailers.is_none() && body.is_end_stream() {
        return Ok(Body::full(beginning));
    }
    Ok(Body::stream(Begun { beginning, trailers, rest: body }))
}

struct Begun {
    beginning: Bytes,
    trailers: Option<HeaderMap>,
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
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.trailers.is_none() && self.rest.is_end_stream()
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
    use std::time::Duration;

    use super::*;

    enum Moment {
        Data(usize),
        Trailers,
        Fails,
        Nothing,
        /// Nothing more ever comes.
        Silence,
    }
    use Moment::{Data, Fails, Nothing, Silence, Trailers};

    struct Scripted {
        left: u64,
        moments: VecDeque<Moment>,
    }

    impl HttpBody for Scripted {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let frame = match self.moments.pop_front() {
                None => return Poll::Ready(None),
                Some(Silence) => {
                    self.moments.push_front(Silence);
                    return Poll::Pending;
                }
                Some(Nothing) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Fails) => Err(BodyError::new(ErrorCode::RequestTooSlow, "too slow")),
                Some(Trailers) => Ok(Frame::trailers(HeaderMap::new())),
                Some(Data(bytes)) => {
                    self.left -= bytes as u64;
                    let number = self.moments.len() as u8;
                    Ok(Frame::data(vec![number; bytes].into()))
                }
            };
            Poll::Ready(Some(frame))
        }

        fn is_end_stream(&self) -> bool {
            self.moments.is_empty() && self.left == 0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left)
        }
    }

    fn body(left: u64, moments: impl IntoIterator<Item = Moment>) -> Body {
        Body::stream(Scripted { left, moments: moments.into_iter().collect() })
    }

    async fn begun(body: Body) -> Result<Body, BodyError> {
        super::begun(body, Instant::now() + Duration::from_secs(60)).await
    }

    /// Pieces, and moments without any where they are 0.
    fn pieces(lengths: &[usize]) -> Body {
        let moments =
            lengths.iter().map(|length| if *length == 0 { Nothing } else { Data(*length) });
        body(lengths.iter().sum::<usize>() as u64, moments)
    }

    #[tokio::test]
    async fn a_short_body_comes_whole() {
        for lengths in [&[5][..], &[0, 5], &[1, 0, 2, 0, 0, 3], &[1; 100], &[10_000, 6_384]] {
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
            assert!(first.len() >= BEGINNING_BYTES, "{lengths:?}");
            let left = (expected.len() - first.len()) as u64;
            assert_eq!((begun.size_hint().exact(), begun.is_end_stream()), (Some(left), false));
            let rest = begun.collect().await.unwrap().to_bytes();
            assert_eq!([first, rest].concat(), expected, "{lengths:?}");
        }
    }

    /// With HTTP/2 the end may come behind the last byte, and trailers with it.
    #[tokio::test]
    async fn the_end_of_a_short_body_is_waited_for() {
        let whole = begun(body(5, [Data(5), Nothing])).await.unwrap();
        assert_eq!(whole.as_full().map(<[u8]>::len), Some(5));
        let none = begun(body(0, [Nothing])).await.unwrap();
        assert_eq!(none.as_full(), Some(&[][..]));
        let with_trailers = begun(body(5, [Data(2), Nothing, Data(3), Trailers])).await.unwrap();
        assert_eq!(with_trailers.size_hint().exact(), Some(5));
        let collected = with_trailers.collect().await.unwrap();
        assert!(collected.trailers().is_some());
        assert_eq!(collected.to_bytes().len(), 5);
    }

    #[tokio::test]
    async fn a_beginning_that_breaks_off_is_an_error() {
        let code = |begun: Result<Body, BodyError>| begun.unwrap_err().code;
        let fails = body(6, [Data(1), Fails]);
        assert_eq!(code(begun(fails).await), ErrorCode::RequestTooSlow);
        let short = body(6, [Data(1), Nothing]);
        assert_eq!(code(begun(short).await), ErrorCode::MalformedRequest);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let soon = Instant::now() + Duration::from_millis(20);
        let mut begun = super::begun(body(6, [Data(2), Silence]), soon).await.unwrap();
        assert_eq!((begun.size_hint().exact(), begun.is_end_stream()), (Some(6), false));
        assert_eq!(begun.frame().await.unwrap().unwrap().into_data().unwrap().len(), 2);
    }
}
