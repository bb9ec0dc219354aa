//! A guest on its way: polled under a meter, yielding at epochs, and turned into a
//! response whose body goes on driving it.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_runtime::cores::Ticket;
use squall_types::usage::Meter;
use squall_types::{Body, BodyError, ErrorCode, InvokeError};
use tokio::sync::oneshot;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use crate::clock::Running;
use crate::failure::CpuTimeUp;
use crate::host::Host;

/// A response that is complete and no larger is sent in one piece.
const WHOLE_MAX_BYTES: usize = 64 << 10;

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every supported system and `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the epoch callback, which runs inside the guest, shares with its poller.
#[derive(Default)]
pub(crate) struct CpuWatch {
    /// Thread CPU time at which the present poll began.
    poll_began_ns: AtomicU64,
    /// Used by the polls before it.
    used_ns: AtomicU64,
    yielded: AtomicBool,
}

impl CpuWatch {
    /// Arms the epoch callback of a store: it yields at each tick, and fails the guest
    /// when it has used `limit_ms` of CPU time since `restart`.
    pub(crate) fn arm(self: &Arc<Self>, store: &mut Store<Host>, limit_ms: u64) {
        let watch = self.clone();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            let now_ns = thread_cpu_ns();
            let began_ns = watch.poll_began_ns.load(Ordering::Relaxed);
            let used_ns = watch.used_ns.load(Ordering::Relaxed) + now_ns.saturating_sub(began_ns);
            if used_ns > limit_ms.saturating_mul(1_000_000) {
                return Err(CpuTimeUp { limit_ms }.into());
            }
            watch.yielded.store(true, Ordering::Relaxed);
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(squall_runtime::yield_turn())))
        });
    }

    /// Begins a new account, for the next request or the next burst.
    pub(crate) fn restart(&self) {
        self.used_ns.store(0, Ordering::Relaxed);
    }

    /// Polls and returns the CPU time that it took, and whether the guest would go on
    /// at once if it were let.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, u64, bool) {
        let began_ns = thread_cpu_ns();
        self.poll_began_ns.store(began_ns, Ordering::Relaxed);
        let result = poll();
        let took_ns = thread_cpu_ns().saturating_sub(began_ns);
        self.used_ns.fetch_add(took_ns, Ordering::Relaxed);
        (result, took_ns, self.yielded.swap(false, Ordering::Relaxed))
    }
}

pub(crate) type GuestFuture = Pin<Box<dyn Future<Output = Result<(), InvokeError>> + Send>>;

/// A guest that serves one request. Dropping it cancels the guest.
pub(crate) struct Guest {
    future: GuestFuture,
    watch: Arc<CpuWatch>,
    meter: Arc<Meter>,
    ticket: Ticket,
    ended: Option<Result<(), InvokeError>>,
    _clock: Running,
}

impl Guest {
    pub(crate) fn new(
        future: GuestFuture,
        watch: Arc<CpuWatch>,
        meter: Arc<Meter>,
        ticket: Ticket,
        clock: Running,
    ) -> Self {
        Self { future, watch, meter, ticket, ended: None, _clock: clock }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended.is_some() {
            return Poll::Ready(());
        }
        self.ticket.run();
        let future = self.future.as_mut();
        let (polled, took_ns, yielded) = self.watch.poll(|| future.poll(cx));
        self.meter.add_cpu_ns(took_ns);
        match polled {
            Poll::Ready(result) => {
                self.ticket.park();
                self.ended = Some(result);
                Poll::Ready(())
            }
            Poll::Pending => {
                if !yielded {
                    self.ticket.park();
                }
                Poll::Pending
            }
        }
    }
}

/// What a guest answered: the head and the body to come, or why there is none.
pub(crate) type Answer = Result<http::Response<WasiBody>, HttpError>;

/// Runs a guest until its response begins; a response that is complete by then comes
/// whole. Otherwise the body that is returned drives the guest.
pub(crate) async fn respond(
    mut guest: Guest,
    mut answer: oneshot::Receiver<Answer>,
    deadline: Instant,
) -> Result<http::Response<Body>, InvokeError> {
    let head = poll_fn(|cx| {
        let ended = guest.poll(cx).is_ready();
        match Pin::new(&mut answer).poll(cx) {
            Poll::Ready(Ok(answer)) => Poll::Ready(Some(answer)),
            Poll::Ready(Err(_)) if ended => Poll::Ready(None),
            // The sender is gone but the guest still runs: wait for its end.
            Poll::Ready(Err(_)) | Poll::Pending if !ended => Poll::Pending,
            _ => Poll::Ready(None),
        }
    })
    .await;
    if let Some(Err(failure)) = &guest.ended {
        return Err(failure.clone());
    }
    let response = match head {
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            return Err(InvokeError::new(
                ErrorCode::GuestError,
                format!("the guest answered with an error: {error}"),
            ));
        }
        None => {
            return Err(InvokeError::new(
                ErrorCode::NoResponse,
                "the guest returned without setting a response",
            ));
        }
    };
    let (head, body) = response.into_parts();
    let mut streaming =
        StreamingBody { body: Some(body), guest: Some(guest), ready: VecDeque::new(), deadline };
    let whole = poll_fn(|cx| Poll::Ready(streaming.take_whole(cx))).await?;
    let body = match whole {
        Some(bytes) => Body::full(bytes),
        None => Body::stream(streaming),
    };
    Ok(http::Response::from_parts(head, body))
}

/// The body of a response whose guest may still be at work.
struct StreamingBody {
    /// `None` after its end.
    body: Option<WasiBody>,
    /// `None` when it has ended or goes on by itself.
    guest: Option<Guest>,
    /// Read already, to be sent first.
    ready: VecDeque<Frame<Bytes>>,
    deadline: Instant,
}

impl StreamingBody {
    /// Everything, if it is here without waiting and small. What was read otherwise is
    /// kept for the stream. # Errors
    /// A guest that fails before anything was sent has no response.
    fn take_whole(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, InvokeError> {
        let mut read_bytes = 0;
        let mut turns = 0;
        while read_bytes <= WHOLE_MAX_BYTES {
            let Some(body) = &mut self.body else { break };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    read_bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.ready.push_back(frame);
                }
                Poll::Ready(None) => self.body = None,
                // The stream says it again, where a client can be told.
                Poll::Ready(Some(Err(_))) => {
                    return Err(InvokeError::new(
                        ErrorCode::InvalidResponse,
                        "the response's body is not as long as its content-length says",
                    ));
                }
                Poll::Pending => {
                    let Some(guest) = &mut self.guest else { break };
                    // The guest may have more to say now that there is room. A few turns
                    // are enough for a small body that is written in pieces.
                    turns += 1;
                    if guest.ended.is_some() || turns > 3 {
                        break;
                    }
                    let _ = guest.poll(cx);
                    if let Some(Err(failure)) = &guest.ended {
                        return Err(failure.clone());
                    }
                }
            }
        }
        if self.body.is_some() || self.ready.iter().any(|frame| frame.is_trailers()) {
            return Ok(None);
        }
        self.let_guest_finish();
        let whole = match self.ready.len() {
            0 => Bytes::new(),
            1 => self.ready.pop_front().and_then(|f| f.into_data().ok()).unwrap_or_default(),
            _ => {
                let mut whole = BytesMut::with_capacity(read_bytes);
                for frame in self.ready.drain(..) {
                    whole.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                whole.freeze()
            }
        };
        Ok(Some(whole))
    }

    /// The response is over; what the guest still wants to do it does by itself, within
    /// its wall time.
    fn let_guest_finish(&mut self) {
        let Some(mut guest) = self.guest.take() else { return };
        if guest.ended.is_some() {
            return;
        }
        let deadline = self.deadline;
        tokio::spawn(async move {
            let rest = poll_fn(|cx| guest.poll(cx));
            // Nobody waits for the result; what a guest logs, it logs by itself.
            let _ = tokio::time::timeout_at(deadline.into(), rest).await;
        });
    }
}

impl HttpBody for StreamingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(frame) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        // What the guest has written goes out before it is asked for more, so that it
        // feels how fast the client takes it.
        let mut guest_had_its_turn = false;
        loop {
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Err(error))) => {
                    this.body = None;
                    let failed = this.failure();
                    return Poll::Ready(Some(Err(failed.unwrap_or_else(|| {
                        BodyError::new(ErrorCode::InvalidResponse, error.to_string())
                    }))));
                }
                Poll::Ready(None) => {
                    this.body = None;
                    // A guest that failed dropped its body as if it had finished it.
                    if let Some(failed) = this.failure() {
                        return Poll::Ready(Some(Err(failed)));
                    }
                    this.let_guest_finish();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            let Some(guest) = this.guest.as_mut().filter(|_| !guest_had_its_turn) else {
                return Poll::Pending;
            };
            guest_had_its_turn = true;
            if guest.poll(cx).is_ready()
                && let Some(failed) = this.failure()
            {
                this.body = None;
                return Poll::Ready(Some(Err(failed)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.ready.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) if self.ready.is_empty() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl StreamingBody {
    fn failure(&self) -> Option<BodyError> {
        match self.guest.as_ref()?.ended.as_ref()? {
            Err(failure) => Some(BodyError::new(failure.code, failure.message.clone())),
            Ok(()) => None,
        }
    }
}
