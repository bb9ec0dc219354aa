//! A body that is compressed while it is sent.
//!
//! Pieces are gathered as long as the source has more at once, and compressed when there
//! are enough of them, when the body ends, or when the source makes us wait: then the
//! client gets everything so far, so that a response that streams goes on streaming.
//! Little is compressed on the request core, much on a thread for blocking work.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use squall_types::{Body, BodyError, ErrorCode};

use super::encoder::{Ending, Lease, inline_bytes_max};

/// What is compressed in one go off the request core: below a millisecond.
const BATCH_BYTES: usize = 64 << 10;

type Compressed = io::Result<(Lease, Vec<u8>)>;
type Work = Pin<Box<dyn Future<Output = Compressed> + Send>>;

pub(super) struct CompressedBody {
    source: Body,
    source_ended: bool,
    trailers: Option<HeaderMap>,
    pieces: Vec<Bytes>,
    pieces_bytes: usize,
    /// Taken by the encoder since it last gave out everything.
    kept_bytes: usize,
    /// `None` while it is at work elsewhere, and after the end.
    lease: Option<Lease>,
    work: Option<(Work, Ending)>,
}

impl CompressedBody {
    pub(super) fn new(source: Body, lease: Lease) -> Self {
        Self {
            source,
            source_ended: false,
            trailers: None,
            pieces: Vec::new(),
            pieces_bytes: 0,
            kept_bytes: 0,
            lease: Some(lease),
            work: None,
        }
    }

    /// Reads until there is something to compress, and says how that piece ends.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ending, BodyError>> {
        while !self.source_ended && self.pieces_bytes < BATCH_BYTES {
            match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.pieces_bytes += data.len();
                        self.pieces.push(data);
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.source_ended = true;
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => self.source_ended = true,
                Poll::Pending if self.pieces_bytes + self.kept_bytes > 0 => {
                    return Poll::Ready(Ok(Ending::Flush));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let last = self.source_ended && self.pieces_bytes <= BATCH_BYTES;
        Poll::Ready(Ok(if last { Ending::Finish } else { Ending::More }))
    }

    /// Takes a batch of what was gathered; a large piece is cut.
    fn take_batch(&mut self) -> Vec<Bytes> {
        if self.pieces_bytes <= BATCH_BYTES {
            self.pieces_bytes = 0;
            return std::mem::take(&mut self.pieces);
        }
        let mut left = BATCH_BYTES;
        let mut batch = Vec::new();
        while left > 0 {
            let first = &mut self.pieces[0];
            let part = first.split_to(left.min(first.len()));
            left -= part.len();
            batch.push(part);
            if first.is_empty() {
                self.pieces.remove(0);
            }
        }
        self.pieces_bytes -= BATCH_BYTES;
        batch
    }

    /// Lets go of everything: with neither a lease nor work this body has ended.
    fn fail(&mut self, why: &io::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.source = Body::empty();
        self.pieces = Vec::new();
        let why = format!("the response can not be compressed: {why}");
        Poll::Ready(Some(Err(BodyError::new(ErrorCode::Internal, why))))
    }
}

impl HttpBody for CompressedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let (compressed, ending) = if let Some((work, ending)) = &mut this.work {
                let (compressed, ending) = (ready!(work.as_mut().poll(cx)), *ending);
                this.work = None;
                (compressed, ending)
            } else {
                let Some(lease) = this.lease.take() else {
                    let trailers = this.trailers.take().map(Frame::trailers);
                    return Poll::Ready(trailers.map(Ok));
                };
                let ending = match this.poll_pieces(cx) {
                    Poll::Ready(Ok(ending)) => ending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => {
                        this.lease = Some(lease);
                        return Poll::Pending;
                    }
                };
                let batch = this.take_batch();
                this.kept_bytes += batch.iter().map(Bytes::len).sum::<usize>();
                if this.kept_bytes > inline_bytes_max(lease.algorithm()) {
                    this.work = Some((off_core(lease, batch, ending), ending));
                    continue;
                }
                (compress(lease, &batch, ending), ending)
            };
            let (lease, output) = match compressed {
                Ok(compressed) => compressed,
                Err(error) => return this.fail(&error),
            };
            if ending != Ending::More {
                this.kept_bytes = 0;
            }
            if ending != Ending::Finish {
                this.lease = Some(lease);
            }
            if !output.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(output.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() && self.work.is_none() && self.trailers.is_none()
    }
}

fn compress(mut lease: Lease, batch: &[Bytes], ending: Ending) -> Compressed {
    let mut output = Vec::new();
    lease.write(batch, ending, &mut output)?;
    Ok((lease, output))
}

/// Compresses on a thread that may take its time, when it is its turn.
fn off_core(lease: Lease, batch: Vec<Bytes>, ending: Ending) -> Work {
    Box::pin(async move {
        let turn = lease.workers().acquire_owned().await;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            compress(lease, &batch, ending)
        });
        work.await.map_err(io::Error::other)?
    })
}
