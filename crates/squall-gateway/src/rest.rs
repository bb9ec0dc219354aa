//! Connections of HTTP/1 that have nothing to do. What serves requests holds two buffers
//! for each connection that it has used, so it is taken apart after a while and put
//! together again when something comes. Until then the socket is all there is.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::Write as _;
use tokio::sync::watch;

use crate::connection::{Connection, Stream};
use crate::listener::Phase;
use crate::timer::Deadline;

/// A connection that does nothing from one look to the next is idle.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 2_000 });

/// Notices that a connection is idle. A request costs it no more than a look at a timer.
pub(crate) struct IdleWatch {
    next_look: Instant,
    timer: Deadline,
    /// How many requests it had served when it was seen idle.
    seen: Option<u64>,
}

impl IdleWatch {
    pub(crate) fn new() -> Self {
        Self { next_look: Instant::now() + LOOK_EVERY, timer: Deadline::default(), seen: None }
    }

    /// Ready when the connection was idle for a whole period. To be polled after what
    /// serves it.
    pub(crate) fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.poll(self.next_look, cx));
            self.next_look = Instant::now() + LOOK_EVERY;
            let now = connection.requests_when_idle();
            if now.is_some() && now == self.seen {
                return Poll::Ready(());
            }
            self.seen = now;
        }
    }
}

/// Waits until something comes on an idle connection. False when it is over: nothing came
/// for too long, or the node ends.
pub(crate) async fn rest(
    connection: &Connection,
    stream: &mut Stream,
    phase: &mut watch::Receiver<Phase>,
) -> bool {
    let door = connection.door();
    let _counted = Resting::begin(&door.counters.resting);
    let mut deadline = Deadline::default();
    let until = Instant::now() + door.options.limits.head_timeout;
    loop {
        tokio::select! {
            biased;
            () = poll_fn(|cx| stream.poll_readable(cx)) => return true,
            () = poll_fn(|cx| deadline.poll(until, cx)) => break,
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() >= Phase::Ending {
                    break;
                }
                connection.close_soon();
            }
        }
    }
    // Whoever is gone is not told.
    let _ = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await;
    false
}

struct Resting<'a>(&'a AtomicUsize);

impl<'a> Resting<'a> {
    fn begin(resting: &'a AtomicUsize) -> Self {
        resting.fetch_add(1, Ordering::Relaxed);
        Self(resting)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
