//! A response on its way from its origin to the store, and to everybody who waits for it.
//!
//! One task reads the origin's body as fast as it comes. Readers follow at their own pace,
//! from the first byte, and may come while it lasts. When the body becomes too large to be
//! stored, it is only passed on: what all readers have is let go, the slowest of them sets
//! the pace, and nobody else may join.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use squall_types::{Body, BodyError, ErrorCode};

/// What may lie between the origin and the slowest reader of a body that is only passed on.
const WINDOW_BYTES: u64 = 256 << 10;

/// A body that is being read.
pub(super) struct Fill {
    /// As its head says.
    length: Option<u64>,
    /// What may be stored; beyond it the body is only passed on.
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Chunks that were let go.
    gone: u64,
    /// Bytes of `chunks`.
    held: u64,
    /// Bytes that came.
    came: u64,
    only_passed_on: bool,
    end: Option<Result<(), BodyError>>,
    readers: Vec<Option<Reader>>,
    /// Of the task that reads the origin, while it waits for readers.
    source: Option<Waker>,
}

#[derive(Default)]
struct Reader {
    /// The number of the chunk that it takes next.
    next: u64,
    waker: Option<Waker>,
}

impl Fill {
    pub(super) fn new(length: Option<u64>, most: u64) -> Arc<Self> {
        Arc::new(Self { length, most, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body from the first byte; none when that is gone.
    pub(super) fn join(self: &Arc<Self>) -> Option<Body> {
        let mut state = self.lock();
        if state.only_passed_on || matches!(state.end, Some(Err(_))) {
            return None;
        }
        let free = state.readers.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        state.readers[place] = Some(Reader::default());
        drop(state);
        Some(Body::stream(FilledBody { fill: self.clone(), place, taken: 0 }))
    }

    /// Reads the origin's body to its end. Returns it whole when it may be stored.
    pub(super) async fn pump(self: &Arc<Self>, mut body: Body) -> Option<Bytes> {
        loop {
            let frame = match body.frame().await {
                None => return self.finish(Ok(())),
                Some(Err(error)) => return self.finish(Err(error)),
                Some(Ok(frame)) => frame,
            };
            // Trailers are not stored (RFC 9111, section 3.1), and nobody gets what others
            // would not.
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.lock().push(data, self.most);
            let somebody_reads = poll_fn(|cx| self.lock().poll_room(cx)).await;
            if !somebody_reads {
                return None;
            }
        }
    }

    fn finish(&self, end: Result<(), BodyError>) -> Option<Bytes> {
        let mut state = self.lock();
        let end = end.and_then(|()| match self.length {
            Some(length) if length != state.came => {
                let message = format!("the body has {} bytes of {length}", state.came);
                Err(BodyError::new(ErrorCode::InvalidResponse, message))
            }
            _ => Ok(()),
        });
        let whole = (end.is_ok() && !state.only_passed_on).then(|| state.joined());
        state.end = Some(end);
        state.wake_readers();
        whole
    }
}

impl State {
    fn push(&mut self, data: Bytes, most: u64) {
        self.came += data.len() as u64;
        self.held += data.len() as u64;
        self.chunks.push_back(data);
        if self.came > most {
            self.only_passed_on = true;
            self.let_go();
        }
        self.wake_readers();
    }

    fn wake_readers(&mut self) {
        for reader in self.readers.iter_mut().flatten() {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops what all readers have, once it will not be stored.
    fn let_go(&mut self) {
        if !self.only_passed_on {
            return;
        }
        let slowest = self.readers.iter().flatten().map(|reader| reader.next).min();
        let slowest = slowest.unwrap_or(u64::MAX);
        while self.gone < slowest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.gone += 1;
            self.held -= chunk.len() as u64;
        }
        if let Some(source) = self.source.take() {
            source.wake();
        }
    }

    /// Waits until more may come. False when it would be for nobody.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if !self.only_passed_on {
            return Poll::Ready(true);
        }
        if self.readers.iter().all(Option::is_none) {
            return Poll::Ready(false);
        }
        if self.held <= WINDOW_BYTES {
            return Poll::Ready(true);
        }
        self.source = Some(cx.waker().clone());
        Poll::Pending
    }

    /// All of it in one piece, for its readers too.
    fn joined(&mut self) -> Bytes {
        if self.chunks.len() == 1 {
            return self.chunks[0].clone();
        }
        let mut whole = BytesMut::with_capacity(self.came as usize);
        for chunk in &self.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.freeze()
    }
}

/// What one reader gets of it.
struct FilledBody {
    fill: Arc<Fill>,
    place: usize,
    taken: u64,
}

impl HttpBody for FilledBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut state = this.fill.lock();
        let gone = state.gone;
        let Some(next) = state.readers[this.place].as_ref().map(|reader| reader.next) else {
            return Poll::Ready(None);
        };
        let chunk = state.chunks.get((next - gone) as usize).cloned();
        match (chunk, &state.end) {
            (Some(chunk), _) => {
                if let Some(reader) = &mut state.readers[this.place] {
                    reader.next += 1;
                }
                state.let_go();
                this.taken += chunk.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            (None, Some(Ok(()))) => Poll::Ready(None),
            (None, Some(Err(error))) => Poll::Ready(Some(Err(error.clone()))),
            (None, None) => {
                if let Some(reader) = &mut state.readers[this.place] {
                    reader.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.fill.lock();
        matches!(state.end, Some(Ok(()))) && self.taken == state.came
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.fill.length.or_else(|| {
            let state = self.fill.lock();
            matches!(state.end, Some(Ok(()))).then_some(state.came)
        });
        length.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(length.saturating_sub(self.taken))
        })
    }
}

impl Drop for FilledBody {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        state.readers[self.place] = None;
        state.let_go();
    }
}

#[cfg(test)]
mod tests;
