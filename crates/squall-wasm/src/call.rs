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
use squall_runtime::executor::Admitted;
use squall_types::usage::Meter;
use squall_types::{Body, BodyError, ErrorCode, InvokeError};
use tokio::sync::oneshot;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use crate::clock::Running;
use crate::cpu_clock::thread_cpu_ns;
use crate::failure::CpuTimeUp;
use crate::host::Host;

/// A response that is complete and no larger is sent in one piece.
const WHOLE_MAX_BYTES: usize = 64 << 10;

/// Who began its turn so shortly before a tick keeps the core until the next: nearly all
/// guests end by themselves before that, and to interrupt one costs more than it asks for.
const JUST_BEGUN_NS: u64 = 200_000;

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
            if watch.used_now_ns() > limit_ms.saturating_mul(1_000_000) {
                return Err(CpuTimeUp { limit_ms }.into());
            }
            Ok(watch.end_turn())
        });
    }

    /// What an epoch callback answers to let others have the core for a turn, when this
    /// one has been long.
    pub(crate) fn end_turn(&self) -> UpdateDeadline {
        if self.of_this_poll_ns() < JUST_BEGUN_NS {
            return UpdateDeadline::Continue(1);
        }
        self.yielded.store(true, Ordering::Relaxed);
        UpdateDeadline::YieldCustom(1, Box::pin(squall_runtime::yield_turn()))
    }

    /// Begins a new account, for the next request or the next burst.
    pub(crate) fn restart(&self) {
        self.used_ns.store(0, Ordering::Relaxed);
    }

    /// As `restart`, in the middle of a poll, with something on the account already.
    pub(crate) fn restart_from(&self, used_ns: u64) {
        // It may go below zero until the poll is added to it.
        self.used_ns.store(used_ns.wrapping_sub(self.of_this_poll_ns()), Ordering::Relaxed);
    }

    fn of_this_poll_ns(&self) -> u64 {
        thread_cpu_ns() - self.poll_began_ns.load(Ordering::Relaxed)
    }

    /// Charges what was done for the guest elsewhere.
    pub(crate) fn add(&self, cpu_ns: u64) {
        self.used_ns.fetch_add(cpu_ns, Ordering::Relaxed);
    }

    /// What the account holds, seen from inside of a poll.
    pub(crate) fn used_now_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed).wrapping_add(self.of_this_poll_ns())
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

/// A guest that serves one request. Dropping it cancels the guest, unless it outlives its
/// client.
pub(crate) struct Guest {
    /// `None` when a guest that outlives its client has moved on.
    running: Option<RunningGuest>,
    ended: Option<Result<(), InvokeError>>,
    on_client_left: Option<(oneshot::Sender<()>, Instant)>,
}

struct RunningGuest {
    future: GuestFuture,
    watch: Arc<CpuWatch>,
    meter: Arc<Meter>,
    ticket: Ticket,
    _admitted: Admitted,
    _clock: Running,
}

impl Guest {
    pub(crate) fn new(
        future: GuestFuture,
        watch: Arc<CpuWatch>,
        meter: Arc<Meter>,
        ticket: Ticket,
        admitted: Admitted,
        clock: Running,
    ) -> Self {
        let running =
            RunningGuest { future, watch, meter, ticket, _admitted: admitted, _clock: clock };
        Self { running: Some(running), ended: None, on_client_left: None }
    }

    /// A client that goes is told to the guest by `tell`, and the guest goes on by itself
    /// until it has ended or the deadline has passed.
    pub(crate) fn that_outlives_its_client(
        mut self,
        tell: oneshot::Sender<()>,
        deadline: Instant,
    ) -> Self {
        self.on_client_left = Some((tell, deadline));
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(running) = &mut self.running else { return Poll::Ready(()) };
        match running.poll(cx) {
            Poll::Ready(result) => {
                self.ended = Some(result);
                self.running = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the guest still wants to do it does by itself, until the deadline.
    fn finish_by_itself(mut self, deadline: Instant) {
        if let Some(running) = self.running.take() {
            running.finish_by_itself(deadline);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let (Some((tell, deadline)), Some(running)) =
            (self.on_client_left.take(), self.running.take())
        {
            // A guest that ends in this moment does not listen any more.
            let _ = tell.send(());
            running.finish_by_itself(deadline);
        }
    }
}

impl RunningGuest {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InvokeError>> {
        self.ticket.run();
        let future = self.future.as_mut();
        let (polled, took_ns, yielded) = self.watch.poll(|| future.poll(cx));
        self.meter.add_cpu_ns(took_ns);
        if polled.is_pending() && yielded {
            self.ticket.interrupted();
        } else {
            self.ticket.park();
        }
        polled
    }

    fn finish_by_itself(mut self, deadline: Instant) {
        // Without a runtime the node is going down, and everything with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = poll_fn(|cx| self.poll(cx));
            // Nobody waits for the result; what a guest logs, it logs by itself.
            let _ = tokio::time::timeout_at(deadline.into(), rest).await;
        });
    }
}

/// What a guest answered: the head and the body to come, or why there is none.
pub(crate) type Answer<B> = Result<http::Response<B>, InvokeError>;

/// A body that a guest writes, in the way of its kind.
pub(crate) trait GuestBody: HttpBody<Data = Bytes> + Send + Unpin + 'static {
    fn explain(error: Self::Error) -> BodyError;

    /// The whole of it, where nothing needs to be read for that.
    fn take_full(&mut self) -> Option<Body> {
        None
    }
}

impl GuestBody for WasiBody {
    fn explain(error: HttpError) -> BodyError {
        BodyError::new(ErrorCode::InvalidResponse, error.to_string())
    }
}

impl GuestBody for Body {
    fn explain(error: BodyError) -> BodyError {
        error
    }

    fn take_full(&mut self) -> Option<Body> {
        self.as_full().is_some().then(|| std::mem::take(self))
    }
}

/// A guest of `wasi:http` that answered with an error instead of a response.
pub(crate) fn answered_with_error(error: &HttpError) -> InvokeError {
    InvokeError::new(ErrorCode::GuestError, format!("the guest answered with an error: {error}"))
}

/// Runs a guest until its response begins; a response that is complete by then comes
/// whole. Otherwise the body that is returned drives the guest.
pub(crate) async fn respond<B: GuestBody>(
    mut guest: Guest,
    mut answer: oneshot::Receiver<Answer<B>>,
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
        Some(Err(failure)) => {
            guest.finish_by_itself(deadline);
            return Err(failure);
        }
        None => {
            return Err(InvokeError::new(
                ErrorCode::NoResponse,
                "the guest returned without setting a response",
            ));
        }
    };
    let (head, mut body) = response.into_parts();
    if let Some(full) = body.take_full() {
        guest.finish_by_itself(deadline);
        return Ok(http::Response::from_parts(head, full));
    }
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
struct StreamingBody<B> {
    /// `None` after its end.
    body: Option<B>,
    /// `None` when it has ended or goes on by itself.
    guest: Option<Guest>,
    /// Read already, to be sent first.
    ready: VecDeque<Frame<Bytes>>,
    deadline: Instant,
}

impl<B: GuestBody> StreamingBody<B> {
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
                Poll::Ready(Some(Err(error))) => {
                    let error = B::explain(error);
                    return Err(InvokeError::new(error.code, error.message));
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
        if let Some(guest) = self.guest.take() {
            guest.finish_by_itself(self.deadline);
        }
    }
}

impl<B: GuestBody> HttpBody for StreamingBody<B> {
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
                    return Poll::Ready(Some(Err(failed.unwrap_or_else(|| B::explain(error)))));
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

impl<B: GuestBody> StreamingBody<B> {
    fn failure(&self) -> Option<BodyError> {
        match self.guest.as_ref()?.ended.as_ref()? {
            Err(failure) => Some(BodyError::new(failure.code, failure.message.clone())),
            Ok(()) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_interrupts_only_who_had_its_turn() {
        let watch = CpuWatch::default();
        let (ended, took_ns, interrupted) = watch.poll(|| {
            assert!(matches!(watch.end_turn(), UpdateDeadline::Continue(1)));
            Poll::Ready(())
        });
        assert!(ended.is_ready() && !interrupted, "{took_ns}");
        let (_, _, interrupted) = watch.poll(|| {
            while watch.of_this_poll_ns() < JUST_BEGUN_NS {}
            assert!(matches!(watch.end_turn(), UpdateDeadline::YieldCustom(1, _)));
            Poll::<()>::Pending
        });
        assert!(interrupted);
        // What was used by polls before is not part of a turn.
        let (_, _, interrupted) = watch.poll(|| {
            assert!(matches!(watch.end_turn(), UpdateDeadline::Continue(1)));
            Poll::Ready(())
        });
        assert!(!interrupted);
    }
}
