//! The body of a request, which may have to be sent a second time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::usage::Meter;
use squall_types::{Body, BodyError};

/// Larger bodies are sent once.
const KEPT_MAX_BYTES: usize = 64 << 10;
/// Longer than a client on a slow network needs from one piece to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives out the body for each try. What was read of it is kept until it is too much.
pub(crate) enum ReplayBody {
    Empty,
    Whole {
        bytes: Bytes,
        /// Until it was taken the first time.
        meter: Mutex<Option<Arc<Meter>>>,
    },
    Streamed(Arc<Shared>),
}

pub(crate) struct Shared {
    state: Mutex<State>,
    meter: Option<Arc<Meter>>,
    /// The client has not sent what comes next.
    waits_for_client: AtomicBool,
    /// When the last piece was taken, in milliseconds since `begun`.
    taken_ms: AtomicU64,
    begun: Instant,
}

struct State {
    /// Where the rest comes from.
    source: Body,
    size: SizeHint,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// More was read than is kept.
    overflown: bool,
    /// Why the client's part of it ended early.
    failure: Option<BodyError>,
}

impl ReplayBody {
    /// `meter` counts what is taken, once.
    pub(crate) fn new(mut body: Body, meter: Option<&Arc<Meter>>) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        if body.size_hint().lower() <= KEPT_MAX_BYTES as u64
            && let Some(bytes) = body.take_full()
        {
            return Self::Whole { bytes, meter: Mutex::new(meter.cloned()) };
        }
        let state = State {
            size: body.size_hint(),
            source: body,
            kept: Vec::new(),
            kept_bytes: 0,
            trailers: None,
            ended: false,
            overflown: false,
            failure: None,
        };
        Self::Streamed(Arc::new(Shared {
            state: Mutex::new(state),
            meter: meter.cloned(),
            waits_for_client: AtomicBool::new(false),
            taken_ms: AtomicU64::new(0),
            begun: Instant::now(),
        }))
    }

    /// The body from its start; `None` when that is gone.
    pub(crate) fn for_next_try(&self) -> Option<Body> {
        match self {
            Self::Empty => Some(Body::empty()),
            Self::Whole { bytes, meter } => {
                if let Some(meter) = lock(meter).take() {
                    meter.add_bytes_in(bytes.len() as u64);
                }
                Some(Body::full(bytes.clone()))
            }
            Self::Streamed(shared) => {
                let repeatable = !shared.lock().overflown;
                repeatable.then(|| Body::stream(OneTry { shared: shared.clone(), place: 0 }))
            }
        }
    }

    pub(crate) fn can_be_repeated(&self) -> bool {
        match self {
            Self::Empty | Self::Whole { .. } => true,
            Self::Streamed(shared) => !shared.lock().overflown,
        }
    }

    /// What went wrong on the client's side, if something did.
    pub(crate) fn failure(&self) -> Option<BodyError> {
        self.upload().failure()
    }

    /// For whoever reads the response while it may still be on its way.
    pub(crate) fn upload(&self) -> Uploading {
        match self {
            Self::Streamed(shared) => Uploading(Some(shared.clone())),
            Self::Empty | Self::Whole { .. } => Uploading(None),
        }
    }

    /// Whether the client has not sent what comes next.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.upload().waits_for_client()
    }

    /// Since when the upstream, and not the client, is being waited for; `None` while it
    /// is the client.
    pub(crate) fn upstream_quiet_since(&self, sent: Instant) -> Option<Instant> {
        let Self::Streamed(shared) = self else { return Some(sent) };
        if self.waits_for_client() {
            return None;
        }
        let taken = Duration::from_millis(shared.taken_ms.load(Ordering::Relaxed));
        Some(sent.max(shared.begun + taken))
    }
}

/// What a response has to know of its request's body.
pub(crate) struct Uploading(Option<Arc<Shared>>);

impl Uploading {
    /// What went wrong on the client's side, if something did.
    pub(super) fn failure(&self) -> Option<BodyError> {
        self.0.as_ref()?.lock().failure.clone()
    }

    /// Whether the client has sent nothing for a while: an upstream may well give it up.
    pub(super) fn client_pauses(&self) -> bool {
        let Some(body) = self.0.as_ref().filter(|_| self.waits_for_client()) else { return false };
        let taken = Duration::from_millis(body.taken_ms.load(Ordering::Relaxed));
        body.begun.elapsed().saturating_sub(taken) >= PAUSE
    }

    /// Whether the client has not sent what comes next.
    pub(super) fn waits_for_client(&self) -> bool {
        self.0.as_ref().is_some_and(|body| body.waits_for_client.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body as one try reads it.
struct OneTry {
    shared: Arc<Shared>,
    /// In what is kept.
    place: usize,
}

impl HttpBody for OneTry {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        let state = &mut *state;
        if let Some(again) = state.kept.get(this.place) {
            this.place += 1;
            return Poll::Ready(Some(Ok(Frame::data(again.clone()))));
        }
        if state.ended {
            let first_time = this.place == state.kept.len();
            this.place = usize::MAX;
            let trailers = state.trailers.clone().filter(|_| first_time);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match Pin::new(&mut state.source).poll_frame(cx) {
            Poll::Pending => {
                this.shared.waits_for_client.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        this.shared.waits_for_client.store(false, Ordering::Relaxed);
        let taken_ms = this.shared.begun.elapsed().as_millis() as u64;
        this.shared.taken_ms.store(taken_ms, Ordering::Relaxed);
        match &frame {
            None => {
                state.ended = true;
                this.place = usize::MAX;
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if let Some(meter) = &this.shared.meter {
                        meter.add_bytes_in(data.len() as u64);
                    }
                    state.keep(data);
                    this.place = state.kept.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    state.trailers = Some(trailers.clone());
                    state.ended = true;
                    this.place = usize::MAX;
                }
            }
            Some(Err(error)) => {
                state.overflown = true;
                state.failure = Some(error.clone());
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        let all_read = self.place >= state.kept.len();
        let over = state.ended && (state.trailers.is_none() || self.place == usize::MAX);
        all_read && (over || !state.ended && state.source.is_end_stream())
    }

    /// Of the whole body: it is asked for before anything is read.
    fn size_hint(&self) -> SizeHint {
        self.shared.lock().size
    }
}

impl State {
    fn keep(&mut self, data: &Bytes) {
        if self.overflown {
            return;
        }
        self.kept_bytes += data.len();
        if self.kept_bytes > KEPT_MAX_BYTES {
            self.overflown = true;
            self.kept = Vec::new();
            return;
        }
        self.kept.push(data.clone());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn streamed(pieces: &[usize], trailers: bool) -> ReplayBody {
        let mut frames: Vec<Result<Frame<Bytes>, BodyError>> =
            pieces.iter().map(|bytes| Ok(Frame::data(vec![b'x'; *bytes].into()))).collect();
        if trailers {
            let mut map = HeaderMap::new();
            map.insert("x-sum", "1".parse().unwrap());
            frames.push(Ok(Frame::trailers(map)));
        }
        ReplayBody::new(Body::stream(StreamBody::new(stream::iter(frames))), None)
    }

    #[tokio::test]
    async fn a_small_body_can_be_read_again_from_any_place() {
        for read_before in 0..5 {
            let body = streamed(&[3, 4, 5], true);
            let mut first = body.for_next_try().unwrap();
            for _ in 0..read_before {
                let _ = first.frame().await;
            }
            drop(first);
            let again = body.for_next_try().unwrap().collect().await.unwrap();
            assert_eq!(again.trailers().unwrap()["x-sum"], "1");
            assert_eq!(again.to_bytes().len(), 12, "{read_before}");
        }
    }

    #[tokio::test]
    async fn a_large_body_is_sent_once() {
        let body = streamed(&[60 << 10, 10 << 10], false);
        let mut first = body.for_next_try().unwrap();
        first.frame().await.unwrap().unwrap();
        assert!(body.can_be_repeated());
        let second = first.frame().await.unwrap().unwrap();
        assert_eq!(second.into_data().unwrap().len(), 10 << 10);
        assert!(first.frame().await.is_none());
        assert!(!body.can_be_repeated() && body.for_next_try().is_none());
    }
}
