//! HTTP/2 to upstreams, by hyper: for each core and target a connection that its requests share,
//! and more where one has not streams enough.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
        let in_use = |open: &&Open| open.streams.in_use.load(Ordering::Relaxed);
        let full = (self.0.len() >= CONNECTIONS_MAX).then(|| self.0.iter().min_by_key(in_use));
        let open = self.0.iter().find(has_room).or(full.flatten())?;
        Some(open.place())
    }

    pub(crate) fn add(&mut self, open: Open) -> Place {
        let place = open.place();
        self.0.push(open);
        place
    }
}

impl Open {
    pub(crate) fn place(&self) -> Place {
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
    Ok(Open { sender, runtime: runtime::Handle::current().id(), streams })
}

/// Why there is no response; with the request, when none of it was sent.
pub(crate) struct Unanswered {
    pub(crate) cause: hyper::Error,
    pub(crate) unsent: bool,
}

pub(crate) async fn send(
    mut place: Place,
    request: Request<Body>,
) -> Result<(Response<Incoming>, Place), Unanswered> {
    let sent = match place.sender.ready().await {
        Ok(()) => place.sender.try_send_request(request).await,
        Err(cause) => return Err(Unanswered { cause, unsent: true }),
    };
    sent.map(|response| (response, place)).map_err(|mut error| {
        let unsent = error.take_message().is_some();
        Unanswered { unsent: unsent || refused(error.error()), cause: error.into_error() }
    })
}

/// The other side says that it did nothing (RFC 9113, section 8.7).
fn refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            // What comes with a GOAWAY is of streams beyond the last that was taken (section 6.8).
            let gone = cause.is_go_away() && cause.is_remote();
            return gone || cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = cause.source();
    }
    false
}

/// Whether TLS chose HTTP/1.1, so that nobody waits for the other's connection.
pub(crate) fn is_ruled_out(target: &super::target::Target) -> bool {
    target.speaks_http1.load(Ordering::Relaxed)
}
