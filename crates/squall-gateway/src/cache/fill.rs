//! A response on its way from its origin to the store, and to everybody who waits for it.
//!
//! One task reads the origin's body as fast as it comes. Readers follow at their own pace,
//! from the first byte, and may come while it lasts. When the body becomes too large to be
//! stored, or all bodies together too large for the node, it is only passed on: what all readers
//! have is let go, the slowest of them sets the pace, and nobody else may join.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use squall_types::{Body, BodyError, ErrorCode};
use tokio::time::Instant;

/// What may lie between the origin and the slowest reader of a body that is only passed on.
const WINDOW_BYTES: u64 = 256 << 10;
/// What the bodies that are being read may hold together. Readers that take nothing would hold
/// as much as there are of them.
const FILLING_MAX_BYTES: u64 = 128 << 20;
/// How long a body is read on for the store alone.
const ALONE_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes that the bodies of a node hold which are being read.
#[derive(Default)]
pub(super) struct Filling(AtomicU64);

/// A body that is being read.
pub(super) struct Fill {
    /// As its head says.
    length: Option<u64>,
    /// What may be stored; beyond it the body is only passed on.
    most: u64,
    state: Mutex<State>,
}

struct State {
    filling: Arc<Filling>,
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
    /// When the last reader left.
    alone_since: Option<Instant>,
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
    pub(super) fn new(length: Option<u64>, most: u64, filling: &Arc<Filling>) -> Arc<Self> {
        let state = State {
            filling: filling.clone(),
            chunks: VecDeque::new(),
            gone: 0,
            held: 0,
            came: 0,
            only_passed_on: false,
            end: None,
            readers: Vec::new(),
            alone_since: None,
            source: None,
        };
        Arc::new(Self { length, most, state: Mutex::new(state) })
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
        state.alone_since = None;
        drop(state);
        Some(Body::stream(FilledBody { fill: self.clone(), place, taken: 0 }))
    }

    /// Reads the origin's body to its end. Returns it whole when it may be stored.
    pub(super) async fn pump(self: &Arc<Self>, mut body: Body) -> Option<Bytes> {
        loop {
            let frame = tokio::time::timeout(LOOK_EVERY, body.frame()).await;
            if self.lock().is_given_up() {
                return None;
            }
            let frame = match frame {
                Err(_) => continue,
                Ok(None) => return self.finish(Ok(())),
                Ok(Some(Err(error))) => return self.finish(Err(error)),
                Ok(Some(Ok(frame))) => frame,
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
        let length = data.len() as u64;
        self.came += length;
        self.held += length;
        self.chunks.push_back(data);
        let of_all = self.filling.0.fetch_add(length, Ordering::Relaxed) + length;
        if self.came > most || of_all > FILLING_MAX_BYTES {
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
            self.filling.0.fetch_sub(chunk.len() as u64, Ordering::Relaxed);
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

    /// Whether nobody has read it for so long that it is not worth its connection any more. Who
    /// comes from then on fetches it anew.
    fn is_given_up(&mut self) -> bool {
        let given_up = self.alone_since.is_some_and(|since| since.elapsed() > ALONE_MAX);
        if given_up {
            let message = "nobody waits for the response any more";
            self.end = Some(Err(BodyError::new(ErrorCode::Cancelled, message)));
        }
        given_up
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
        let whole = whole.freeze();
        let mut start = 0;
        for chunk in &mut self.chunks {
            let end = start + chunk.len();
            *chunk = whole.slice(start..end);
            start = end;
        }
        whole
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.filling.0.fetch_sub(self.held, Ordering::Relaxed);
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
        if state.readers.iter().all(Option::is_none) {
            state.alone_since = Some(Instant::now());
        }
        state.let_go();
    }
}

#[cfg(test)]
mod tests;
