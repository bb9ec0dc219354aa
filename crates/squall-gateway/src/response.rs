//! The body of a response as it goes out: counted, and its end noticed however it ends.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::log::AccessRecord;
use squall_types::shard::Local;
use squall_types::{AppName, Body, BodyError};
use tokio::sync::oneshot;

use crate::cache::Outcome;
use crate::connection::{Connection, UploadWatch};
use crate::origin::Account;
use crate::policy::Reply;
use crate::route_metrics::Ended;
use crate::routing::{Candidate, Match};
use crate::stream::{self, Turn};
use crate::upload::Upload;

/// What is known of a request; written down when the last of it is gone.
pub(crate) struct RequestEnd {
    pub(crate) connection: Arc<Connection>,
    pub(crate) account: Account,
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) client: IpAddr,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) app: Option<Local<AppName>>,
    /// The route that won, by the path that it won with.
    pub(crate) matched: Option<Local<Candidate>>,
    pub(crate) reply: Reply,
    /// Takes this over when the upstream switches protocols.
    pub(crate) tunnel: Option<oneshot::Sender<Box<RequestEnd>>>,
    /// `None` without a body that is still to come.
    pub(crate) upload: Option<Arc<UploadWatch>>,
    /// 499 until a head is on its way.
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
}

impl RequestEnd {
    /// From here on the request is counted for its route, too.
    pub(crate) fn take_route(&mut self, matched: &Match) {
        matched.route().metrics.started();
        self.app = Some(matched.app_name());
        self.matched = Some(matched.candidate.clone());
    }

    /// The request's body as anybody may read it.
    pub(crate) fn guard_body(&mut self, body: Upload, rate_min: Option<u64>) -> Body {
        match body {
            Upload::Whole(bytes) => Body::full(bytes),
            Upload::Coming(body) if body.is_end_stream() => Body::empty(),
            Upload::Coming(body) => {
                let watch = self.upload.insert(Arc::default());
                self.connection.guard_body(body, rate_min, watch)
            }
        }
    }

    /// Where the tunnel of an upgrade waits for the rest of the request's life.
    pub(crate) fn promise_to_tunnel(&mut self) -> oneshot::Receiver<Box<Self>> {
        let (tunnel, request) = oneshot::channel();
        self.tunnel = Some(tunnel);
        request
    }

    /// Counts what came from the client other than as a body.
    pub(crate) fn add_bytes_in(&self, bytes: u64) {
        if let Some(meter) = &self.account.meter {
            meter.add_bytes_in(bytes);
        }
    }

    /// Counts what goes to the client.
    pub(crate) fn add_bytes_out(&mut self, bytes: u64) {
        self.bytes_out += bytes;
        if let Some(meter) = &self.account.meter {
            meter.add_bytes_out(bytes);
        }
    }

    /// The request has come to its end. An answer that nobody is there for is none.
    pub(crate) fn finish(&self) {
        if self.upload.as_ref().is_some_and(|upload| upload.client_left()) {
            return;
        }
        if let Some(meter) = &self.account.meter {
            meter.finish();
        }
    }
}

impl Drop for RequestEnd {
    fn drop(&mut self) {
        // The clock was looked at when the response ended, and that is just now.
        let ended_ns = self.account.meter.as_ref().and_then(|meter| meter.ended_ns());
        let duration = match ended_ns {
            Some(ns) => self.account.called - self.account.accepted + Duration::from_nanos(ns),
            None => self.account.accepted.elapsed(),
        };
        let duration_us = duration.as_micros() as u64;
        let bytes_in = self.account.meter.as_ref().map_or(0, |meter| meter.bytes_in());
        self.connection.request_ended();
        let door = self.connection.door();
        door.counters.ended(self.status, duration_us, bytes_in, self.bytes_out);
        let route = self.matched.as_ref().map(|matched| &*matched.route);
        if let Some(route) = route {
            route.metrics.ended(&Ended {
                status: self.status,
                code: self.account.code,
                duration_us,
                bytes_in,
                bytes_out: self.bytes_out,
            });
            if !route.policies.access_log.keeps(&self.account.trace, self.status) {
                return;
            }
        }
        door.contracts.logs.access(&AccessRecord {
            at: self.account.at,
            route: route.map(|route| &*route.name),
            function: self.account.function.as_deref(),
            app: self.app.as_deref(),
            method: &self.method,
            host: &self.host,
            path: &self.path,
            status: self.status,
            code: self.account.code,
            duration_us,
            bytes_in,
            bytes_out: self.bytes_out,
            client: self.client,
            version: self.version,
            tls: self.connection.tls_version(),
            caller: self.account.identity.as_ref().map(|known| known.caller()),
            upstream: self.account.upstream.as_ref(),
            cache: self.account.cached.map(Outcome::as_str),
            user_agent: self.user_agent.as_ref(),
            trace: self.account.trace,
        });
    }
}

/// A response's body with everything that must last until its end.
pub(crate) struct OutgoingBody {
    inner: Body,
    /// `None` when a tunnel took it over.
    end: Option<Box<RequestEnd>>,
    /// What Content-Length promises: hyper stops reading when it has that much.
    promised_bytes: Option<u64>,
    /// Why it ends too early, until what came before has been written.
    broken: Option<BodyError>,
}

impl OutgoingBody {
    /// `bodyless` responses (to HEAD, 204, 304) end with their head.
    pub(crate) fn new(
        inner: Body,
        end: Box<RequestEnd>,
        promised_bytes: Option<u64>,
        bodyless: bool,
    ) -> Self {
        let inner = if bodyless { Body::empty() } else { inner };
        if inner.is_end_stream() {
            end.finish();
        } else {
            stream::note(Turn::Client);
        }
        Self { inner, end: Some(end), promised_bytes, broken: None }
    }

    /// What comes behind a 101 is no body.
    pub(crate) fn of_switch() -> Self {
        Self { inner: Body::empty(), end: None, promised_bytes: None, broken: None }
    }
}

impl HttpBody for OutgoingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            stream::note(Turn::Body);
            return Poll::Pending;
        };
        stream::note(Turn::Client);
        let Some(end) = &mut this.end else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    end.add_bytes_out(data.len() as u64);
                }
                if this.inner.is_end_stream() || this.promised_bytes == Some(end.bytes_out) {
                    end.finish();
                }
            }
            Some(Err(error)) => {
                end.account.code.get_or_insert(error.code);
                if end.version == Version::HTTP_10 {
                    end.connection.reset_at_end();
                }
                if let Some(meter) = &end.account.meter {
                    meter.fail(error.code);
                }
                // An error ends the connection, and what hyper has gathered is lost with it:
                // the head, perhaps, and all that came of the body. It writes while we wait.
                this.broken = Some(error.clone());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => end.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
