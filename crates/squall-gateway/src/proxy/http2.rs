//! HTTP/2 to upstreams, by hyper: for each core and target a connection that its requests share,
//! and more where one has not streams enough.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use squall_types::Body;
use tokio::runtime;
use tokio::sync::Mutex;

use super::http1::Stream;
use crate::listener::WINDOW_MAX_BYTES;

const HEAD_MAX_BYTES: u32 = 64 << 10;
/// A connection on which nothing comes back is asked, and given up when it is silent.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Of a core to a target. What needs more streams than these have waits.
const CONNECTIONS_MAX: usize = 16;

type Sender = SendRequest<Body>;

/// The connections of a core: one, and others only while those before it have all the streams
/// that the target allows. Whoever opens one holds the lock, so that requests that come meanwhile
/// wait for it and do not open their own.
#[derive(Default)]
pub(crate) struct Shared(pub(crate) Mutex<Connections>);

#[derive(Default)]
pub(crate) struct Connections(Vec<Open>);

/// A connection that was opened by this core.
pub(crate) struct Open {
    sender: Sender,
    runtime: runtime::Id,
    streams: Arc<Streams>,
    /// Streams that were begun.
    begun: u64,
    /// How many of them when it was seen without any the first time, and when that was.
    idle: Option<(u64, Instant)>,
}

/// Of one connection.
struct Streams {
    in_use: AtomicUsize,
    /// As the target says, which it may change at any time.
    most: AtomicUsize,
}

/// A stream's place on a connection, until its response has ended.
pub(crate) struct Place {
    sender: Sender,
    streams: Arc<Streams>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Forgets the connections, which go on with what they have.
    pub(crate) async fn forget(&self) {
        self.0.lock().await.0.clear();
    }

    /// Closes those that have had nothing to do since they were seen so `keeps_for` ago.
    pub(crate) fn sweep(&self, now: Instant, keeps_for: Duration) {
        // Whoever holds the lock uses one.
        let Ok(mut connections) = self.0.try_lock() else { return };
        connections.0.retain_mut(|open| {
            if open.streams.in_use.load(Ordering::Relaxed) > 0 {
                open.idle = None;
                return true;
            }
            match open.idle {
                Some((begun, since)) if begun == open.begun => now < since + keeps_for,
                _ => {
                    open.idle = Some((open.begun, now));
                    true
                }
            }
        });
    }
}

impl Connections {
    /// On a connection that has room for another stream. Beyond so many of them streams wait for
    /// each other.
    pub(crate) fn place(&mut self) -> Option<Place> {
        // Another core's is of no use here.
        let own = runtime::Handle::current().id();
        self.0.retain(|open| open.runtime == own && !open.sender.is_closed());
        let has_room = |open: &&Open| {
            let Streams { in_use, most } = &*open.streams;
            in_use.load(Ordering::Relaxed) < most.load(Ordering::Relaxed)
        };
        let in_use = |open: &(usize, &Open)| open.1.streams.in_use.load(Ordering::Relaxed);
        let place = self.0.iter().position(|open| has_room(&open)).or_else(|| {
            let is_full = self.0.len() >= CONNECTIONS_MAX;
            is_full.then(|| self.0.iter().enumerate().min_by_key(in_use).map(|(at, _)| at))?
        })?;
        Some(self.0[place].place())
    }

    pub(crate) fn add(&mut self, mut open: Open) -> Place {
        let place = open.place();
        self.0.push(open);
        place
    }
}

impl Open {
    pub(crate) fn place(&mut self) -> Place {
        self.begun += 1;
        self.streams.in_use.fetch_add(1, Ordering::Relaxed);
        Place { sender: self.sender.clone(), streams: self.streams.clone() }
    }
}

/// Speaks first, and gives the connection a task of its own.
pub(crate) async fn begin(stream: Stream) -> Result<Open, hyper::Error> {
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 << 10)
        // What bounds a response is its stream's window. One for all would be used up by a few
        // clients that read slowly, and everybody else would wait for them.
        .initial_connection_window_size(WINDOW_MAX_BYTES)
        .max_header_list_size(HEAD_MAX_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await?;
    let most = AtomicUsize::new(connection.current_max_send_streams());
    let streams = Arc::new(Streams { in_use: AtomicUsize::new(0), most });
    let told = streams.clone();
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let driven = poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            // At least one, or it would be of no use at all.
            told.most.store(connection.current_max_send_streams().max(1), Ordering::Relaxed);
            ended
        });
        // A request that suffers from it reports it.
        if let Err(cause) = driven.await {
            tracing::debug!("a connection to an upstream ended: {cause}");
        }
    });
    let runtime = runtime::Handle::current().id();
    Ok(Open { sender, runtime, streams, begun: 0, idle: None })
}

/// Why there is no response; with the request, when none of it was sent.
pub(crate) struct Unanswered {
    pub(crate) cause: hyper::Error,
    pub(crate) unsent: bool,
    /// What came on this stream is no response.
    pub(crate) invalid: bool,
}

impl Unanswered {
    fn new(cause: hyper::Error, unsent: bool) -> Self {
        let found = protocol_error(&cause);
        // Otherwise it is what the other side says, or what we say to it.
        let invalid = found.is_some_and(|error| error.is_library() && error.is_reset());
        let unsent = unsent || found.is_some_and(refused);
        Self { cause, unsent, invalid }
    }
}

pub(crate) async fn send(
    mut place: Place,
    request: Request<Body>,
) -> Result<(Response<Incoming>, Place), Unanswered> {
    let sent = match place.sender.ready().await {
        Ok(()) => place.sender.try_send_request(request).await,
        Err(cause) => return Err(Unanswered::new(cause, true)),
    };
    sent.map(|response| (response, place)).map_err(|mut error| {
        let unsent = error.take_message().is_some();
        Unanswered::new(error.into_error(), unsent)
    })
}

fn protocol_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            return Some(cause);
        }
        source = cause.source();
    }
    None
}

/// The other side says that it did nothing (RFC 9113, section 8.7).
fn refused(error: &h2::Error) -> bool {
    // What comes with a GOAWAY is of streams beyond the last that was taken (section 6.8).
    let gone = error.is_go_away() && error.is_remote();
    gone || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// Whether TLS chose HTTP/1.1, so that nobody waits for the other's connection.
pub(crate) fn is_ruled_out(target: &super::target::Target) -> bool {
    target.speaks_http1.load(Ordering::Relaxed)
}
