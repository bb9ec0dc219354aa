//! Streams of HTTP/2 whose client takes nothing of the response.
//!
//! hyper asks a body for more when the client has given room for it, and waits for room as long
//! as the connection lives. A blocked socket is seen by whoever writes to it; a stream without
//! room writes nothing, so its task is watched instead.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::Executor;

use crate::connection::Connection;
use crate::timer::Deadline;

/// Whose turn it is, as far as a response's body knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is something for the client.
    Client,
    /// The body has nothing at the moment.
    Body,
}

thread_local! {
    /// Of the body that was asked last.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// To be called whenever a body comes into being, gives something, or has nothing.
pub(crate) fn note(turn: Turn) {
    TURN.set(Some(turn));
}

/// Runs the streams of a connection, and gives up those that wait too long for their client.
#[derive(Clone)]
pub(crate) struct Streams(pub(crate) Arc<Connection>);

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let longest = self.0.door().options.limits.write_timeout;
        let (since, deadline) = (None, Deadline::default());
        tokio::spawn(Watched { stream, connection: self.0.clone(), longest, since, deadline });
    }
}

/// A client that took so much meanwhile, of whichever stream, is slow and not gone: what a stream
/// has sent may leave long after, and nobody tells the stream.
pub(crate) const TAKEN_LEAST_BYTES: u64 = 4 << 10;

struct Watched<F> {
    stream: F,
    connection: Arc<Connection>,
    longest: Duration,
    /// Since when it is the client's turn, and what the connection had sent by then.
    since: Option<(Instant, u64)>,
    deadline: Deadline,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `stream` is not moved out of, and all else may move.
        let this = unsafe { self.get_unchecked_mut() };
        TURN.set(None);
        // SAFETY: it is pinned as part of what is.
        if unsafe { Pin::new_unchecked(&mut this.stream) }.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match TURN.get() {
            Some(Turn::Client) => this.since = Some((Instant::now(), this.connection.written())),
            Some(Turn::Body) => this.since = None,
            None => {}
        }
        while let Some((since, before)) = this.since {
            ready!(this.deadline.poll(since + this.longest, cx));
            let written = this.connection.written();
            if written - before < TAKEN_LEAST_BYTES {
                break;
            }
            this.since = Some((Instant::now(), written));
        }
        if this.since.is_none() {
            return Poll::Pending;
        }
        // The stream is reset when this is dropped.
        this.connection.door().counters.slow_clients.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(())
    }
}
