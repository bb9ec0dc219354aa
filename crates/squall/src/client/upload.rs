//! A request body that a thread writes while the network takes it: a few pieces wait in
//! between, so that memory does not depend on the size of the upload.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

const PIECE_BYTES: usize = 64 << 10;
const PIECES_WAITING: usize = 8;

/// The two ends of an upload. The body breaks off, and the node refuses it, unless
/// `finish` is called on the writer.
pub(crate) fn upload() -> (UploadWriter, UploadBody) {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let piece = BytesMut::with_capacity(PIECE_BYTES);
    (UploadWriter { sender, piece }, UploadBody { receiver, finished: false })
}

/// The writing end. Blocks while the network is slower; not for async code.
pub(crate) struct UploadWriter {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl UploadWriter {
    /// Ends the body properly. An empty piece is the mark of it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Bytes::new())
    }

    fn send(&self, piece: Bytes) -> io::Result<()> {
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for UploadWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&data[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let next = BytesMut::with_capacity(PIECE_BYTES);
        let piece = std::mem::replace(&mut self.piece, next).freeze();
        self.send(piece)
    }
}

/// The reading end, which becomes the request's body.
pub(crate) struct UploadBody {
    receiver: mpsc::Receiver<Bytes>,
    finished: bool,
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(self.receiver.poll_recv(context)) {
            Some(piece) if !piece.is_empty() => Some(Ok(Frame::data(piece))),
            end => {
                self.finished = true;
                // Without the mark the writer gave up: the node must not take this for all.
                end.is_none().then(|| Err(io::Error::other("the upload was abandoned")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_and_an_abandoned_upload_breaks_off() {
        let data: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        for whole in [true, false] {
            let (mut writer, body) = upload();
            let written = data.clone();
            let thread = std::thread::spawn(move || {
                writer.write_all(&written)?;
                if whole { writer.finish() } else { writer.flush() }
            });
            let received = body.collect().await;
            thread.join().unwrap().unwrap();
            match received {
                Ok(received) => assert!(whole && received.to_bytes() == data),
                Err(_) => assert!(!whole),
            }
        }
    }
}
