//! A body of several pieces that are all there: ranges and what stands between them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::{Body, BodyError};

struct Pieces {
    pieces: vec::IntoIter<Bytes>,
    left: u64,
}

pub(super) fn body(pieces: Vec<Bytes>) -> Body {
    let left = pieces.iter().map(|piece| piece.len() as u64).sum();
    Body::stream(Pieces { pieces: pieces.into_iter(), left })
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
