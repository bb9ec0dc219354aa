//! The body of a response as it goes out: counted, and its end noticed however it ends.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::log::AccessRecord;
use squall_types::{AppName, Body, BodyError};

use crate::connection::Connection;
use crate::origin::Account;
use crate::policy::Reply;
use crate::route_metrics::Ended;
use crate::routing::Route;

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
    pub(crate) app: Option<AppName>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) reply: Reply,
    /// 499 until a head is on its way.
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
}

impl RequestEnd {
    /// From here on the request is counted for its route, too.
    pub(crate) fn take_route(&mut self, route: Arc<Route>) {
        route.metrics.started();
        self.route = Some(route);
    }

    fn finish(&self) {
        if let Some(meter) = &self.account.meter {
            meter.finish();
        }
    }
}

impl Drop for RequestEnd {
    fn drop(&mut self) {
        let duration_us = self.account.accepted.elapsed().as_micros() as u64;
        let bytes_in = self.account.meter.as_ref().map_or(0, |meter| meter.bytes_in());
        self.connection.request_ended();
        let door = self.connection.door();
        door.counters.ended(self.status, duration_us, bytes_in, self.bytes_out);
        let route = self.route.take();
        if let Some(route) = &route {
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
        door.contracts.logs.access(AccessRecord {
            at: self.account.at,
            function: self.account.function.take(),
            app: self.app.take(),
            route: route.map(|route| route.name.clone()),
            method: std::mem::take(&mut self.method),
            host: std::mem::take(&mut self.host),
            path: std::mem::take(&mut self.path),
            status: self.status,
            code: self.account.code,
            duration_us,
            bytes_in,
            bytes_out: self.bytes_out,
            client: self.client,
            version: self.version,
            tls: self.connection.tls_version(),
            caller: self.account.identity.as_ref().map(|known| Box::new(known.caller())),
            upstream: self.account.upstream.take(),
            user_agent: self.user_agent.take(),
            trace: self.account.trace,
        });
    }
}

/// A response's body with everything that must last until its end.
pub(crate) struct OutgoingBody {
    inner: Body,
    end: Box<RequestEnd>,
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
        }
        Self { inner, end, promised_bytes, broken: None }
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
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = data.len() as u64;
                    this.end.bytes_out += bytes;
                    if let Some(meter) = &this.end.account.meter {
                        meter.add_bytes_out(bytes);
                    }
                }
                if this.inner.is_end_stream() || this.promised_bytes == Some(this.end.bytes_out) {
                    this.end.finish();
                }
            }
            Some(Err(error)) => {
                this.end.account.code.get_or_insert(error.code);
                if let Some(meter) = &this.end.account.meter {
                    meter.fail(error.code);
                }
                // An error ends the connection, and what hyper has gathered is lost with it:
                // the head, perhaps, and all that came of the body. It writes while we wait.
                this.broken = Some(error.clone());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => this.end.finish(),
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
