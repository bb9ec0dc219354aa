//! The body of an upstream's response, read from its connection as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::time::{Instant, Sleep};

use super::flight::{Fault, Flight};
use super::http1::{Decoder, Exchange, Piece};
use super::http2;
use super::replay::Uploading;
use super::target::Target;

/// What becomes of a connection when it has served its request.
pub(crate) struct Keep {
    pub(crate) most: usize,
    pub(crate) keeps_for: Duration,
}

impl Keep {
    fn take_back(&self, exchange: Exchange, target: &Target) {
        if let Some(connection) = exchange.into_reusable() {
            target.put_idle(connection, self.most, self.keeps_for);
        }
    }
}

/// The response, with as much of its body as has come along with the head. `keep` is
/// `None` when the upstream closes the connection. What is no response comes with its flight.
pub(crate) fn from_http1(
    mut exchange: Box<Exchange>,
    keep: Option<Keep>,
    upload: Uploading,
    idle: Duration,
    mut flight: Flight,
) -> Result<Response<Body>, (&'static str, Flight)> {
    let head = exchange.take_answer();
    let mut decoder = Decoder::new(head.framing);
    let mut first = Bytes::new();
    let mut piece = decoder.next(exchange.unread(), false);
    if let Ok(Piece::Data(data)) = piece {
        first = data;
        piece = decoder.next(exchange.unread(), false);
    }
    let piece = match piece {
        Ok(piece) => piece,
        Err(error) => {
            flight.failed(Fault::Malformed);
            return Err((error.0, flight));
        }
    };
    let mut response = if piece == Piece::End {
        if let Some(keep) = keep {
            keep.take_back(*exchange, flight.target());
        }
        flight.land();
        Response::new(Body::full(first))
    } else {
        let pending = (piece != Piece::Unfinished).then_some(piece);
        let exchange = Some(exchange);
        Response::new(Body::stream(Http1Body {
            exchange,
            decoder,
            first,
            pending,
            keep,
            upload,
            idle,
            flight,
        }))
    };
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}

fn broke(message: impl Into<String>) -> BodyError {
    BodyError::new(ErrorCode::UpstreamBroke, message)
}

fn ended_early(flight: &mut Flight, by_client: bool) {
    match by_client {
        true => flight.land(),
        false => flight.broke_off(),
    }
}

/// Nothing has come for so long. An upstream that waits for the client, too, has no part in it.
fn paused(idle: Duration, upload: &Uploading, flight: &mut Flight) -> BodyError {
    ended_early(flight, upload.waits_for_client());
    broke(format!("the response paused for {} ms", idle.as_millis()))
}

struct Http1Body {
    /// `None` once the body has ended.
    exchange: Option<Box<Exchange>>,
    decoder: Decoder,
    /// What came along with the head, and what came behind that.
    first: Bytes,
    pending: Option<Piece>,
    keep: Option<Keep>,
    upload: Uploading,
    idle: Duration,
    flight: Flight,
}

impl Http1Body {
    fn finish(&mut self) {
        if let (Some(exchange), Some(keep)) = (self.exchange.take(), self.keep.take()) {
            keep.take_back(*exchange, self.flight.target());
        }
        self.flight.land();
    }

    fn fail(
        &mut self,
        message: impl Into<String>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange = None;
        ended_early(&mut self.flight, self.upload.client_pauses());
        Poll::Ready(Some(Err(broke(message))))
    }
}

impl HttpBody for Http1Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.first)))));
        }
        let Some(exchange) = &mut this.exchange else { return Poll::Ready(None) };
        // An upstream may answer while it still reads.
        if let Err(error) = exchange.poll_rest_of_request(cx) {
            this.exchange = None;
            return Poll::Ready(Some(Err(error)));
        }
        let mut at_end = false;
        loop {
            let piece = match this.pending.take() {
                Some(piece) => Ok(piece),
                None => this.decoder.next(exchange.unread(), at_end),
            };
            match piece {
                Ok(Piece::Data(data)) => {
                    if this.decoder.remaining() == Some(0) {
                        // Who was promised a length does not ask for more when it is there.
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    this.finish();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Ok(Piece::Unfinished) => {}
                Err(error) => {
                    return this.fail(format!("the response broke off: {}", error.0));
                }
            }
            match exchange.poll_read_body(cx) {
                Poll::Ready(Ok(0)) => at_end = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(cause)) => {
                    return this.fail(format!("the response broke off: {cause}"));
                }
                Poll::Pending => {
                    ready!(exchange.poll_idle(this.idle, cx));
                    this.exchange = None;
                    return Poll::Ready(Some(Err(paused(
                        this.idle,
                        &this.upload,
                        &mut this.flight,
                    ))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let pending = match &self.pending {
            Some(Piece::Data(data)) => data.len(),
            // Whoever is told a length sends no trailers behind it.
            Some(Piece::Trailers(_)) => return SizeHint::default(),
            _ => 0,
        };
        match self.decoder.remaining() {
            Some(bytes) => SizeHint::with_exact((self.first.len() + pending) as u64 + bytes),
            None => SizeHint::default(),
        }
    }
}

/// The same for HTTP/2, where the connection looks after itself.
pub(crate) fn from_http2(
    response: Response<Incoming>,
    place: http2::Place,
    upload: Uploading,
    idle: Duration,
    mut flight: Flight,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.extensions.clear();
    head.version = http::Version::HTTP_11;
    let squalls: Vec<http::HeaderName> = head
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-squall-"))
        .cloned()
        .collect();
    for name in squalls {
        head.headers.remove(name);
    }
    if HttpBody::is_end_stream(&body) {
        flight.land();
        return Response::from_parts(head, Body::empty());
    }
    let body = Http2Body { body, upload, idle, waiting: None, flight, _place: place };
    Response::from_parts(head, Body::stream(body))
}

struct Http2Body {
    body: Incoming,
    upload: Uploading,
    idle: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    flight: Flight,
    _place: http2::Place,
}

impl Http2Body {
    /// A stream that ends before its time. Where that of the request did, the client broke it off.
    fn fail(&mut self, why: impl std::fmt::Display) -> BodyError {
        if let Some(error) = self.upload.failure() {
            self.flight.land();
            return error;
        }
        ended_early(&mut self.flight, self.upload.client_pauses());
        broke(format!("the response broke off: {why}"))
    }
}

impl HttpBody for Http2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            // hyper takes some resets for the end.
            Poll::Ready(None) if this.body.size_hint().lower() > 0 => {
                Poll::Ready(Some(Err(this.fail("its stream was reset"))))
            }
            Poll::Ready(None) => {
                this.flight.land();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(cause))) => Poll::Ready(Some(Err(this.fail(cause)))),
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let idle = this.idle;
                let waiting = this.waiting.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + idle))
                });
                ready!(waiting.as_mut().poll(cx));
                Poll::Ready(Some(Err(paused(idle, &this.upload, &mut this.flight))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
