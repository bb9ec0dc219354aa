//! HTTP/2 to upstreams, by hyper: one connection for each core and target, shared by all
//! of its requests.

use std::sync::atomic::Ordering;
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

pub(crate) type Sender = SendRequest<Body>;

/// The connection of a core, where there is one. Whoever opens it holds the lock, so that
/// requests that come meanwhile wait for it and do not open their own.
#[derive(Default)]
pub(crate) struct Shared(pub(crate) Mutex<Option<Open>>);

pub(crate) struct Open {
    sender: Sender,
    runtime: runtime::Id,
}

impl Shared {
    /// Forgets the connection, which goes on with what it has.
    pub(crate) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl Open {
    pub(crate) fn new(sender: Sender) -> Self {
        Self { sender, runtime: runtime::Handle::current().id() }
    }

    /// `None` when it is closed, or another core's.
    pub(crate) fn sender(&self) -> Option<Sender> {
        let own = self.runtime == runtime::Handle::current().id();
        (own && !self.sender.is_closed()).then(|| self.sender.clone())
    }
}

/// Speaks first, and gives the connection a task of its own.
pub(crate) async fn begin(stream: Stream) -> Result<Sender, hyper::Error> {
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
    tokio::spawn(async move {
        // A request that suffers from it reports it.
        if let Err(cause) = connection.await {
            tracing::debug!("a connection to an upstream ended: {cause}");
        }
    });
    Ok(sender)
}

/// Why there is no response; with the request, when none of it was sent.
pub(crate) struct Unanswered {
    pub(crate) cause: hyper::Error,
    pub(crate) unsent: bool,
}

pub(crate) async fn send(
    mut sender: Sender,
    request: Request<Body>,
) -> Result<Response<Incoming>, Unanswered> {
    let sent = match sender.ready().await {
        Ok(()) => sender.try_send_request(request).await,
        Err(cause) => return Err(Unanswered { cause, unsent: true }),
    };
    sent.map_err(|mut error| {
        let unsent = error.take_message().is_some();
        Unanswered { unsent: unsent || refused(error.error()), cause: error.into_error() }
    })
}

/// The other side says that it did nothing (RFC 9113, section 8.7).
fn refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            return cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = cause.source();
    }
    false
}

/// Whether TLS chose HTTP/1.1, so that nobody waits for the other's connection.
pub(crate) fn is_ruled_out(target: &super::target::Target) -> bool {
    target.speaks_http1.load(Ordering::Relaxed)
}
