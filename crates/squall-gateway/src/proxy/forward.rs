//! A request's way to an upstream: tries, until one of them has an answer that counts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use squall_types::dial::{Dialed, Endpoint, Offer};
use squall_types::gateway::Protocol;
use squall_types::log::UpstreamCall;
use squall_types::outbound::{OutboundError, OutboundErrorKind};
use squall_types::shard::Local;
use squall_types::trace::random;
use squall_types::{Body, BodyError, ErrorCode};

use super::balance;
use super::flight::{Admission, Fault, Flight};
use super::forwarded::Forwarded;
use super::http1::{Connection, Exchange, Failure, RequestHead, Stream, TimeLimits};
use super::http2;
use super::pool::{UpstreamPool, refuse};
use super::replay::ReplayBody;
use super::response::{self, Keep};
use super::target::Target;
use super::upgrade::{Tunnel, Upgrade};
use crate::rejection::Rejection;
use crate::turn::Tcp;

/// A server that closes idle connections is given this much time less than it says.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What is known of a request beside itself.
pub(crate) struct Context<'a> {
    pub(crate) forwarded: Forwarded<'a>,
    /// As the upstream is to see it, behind its own path.
    pub(crate) path_and_query: &'a PathAndQuery,
    /// The Host that the route asks for.
    pub(crate) host: Option<&'a str>,
    /// The route's own limit, until there is a head.
    pub(crate) response_timeout: Option<Duration>,
    /// What the client wants to switch to.
    pub(crate) upgrade: Option<Upgrade>,
    /// Written while the request is under way, since it may be given up at any time.
    pub(crate) call: &'a mut UpstreamCall,
}

/// A call under way: how long it took is noted however it ends.
struct Noted<'a> {
    call: &'a mut UpstreamCall,
    started: Instant,
}

impl Noted<'_> {
    fn tries(&mut self, target: &Target) {
        self.call.address = Some(target.address);
        self.call.tries += 1;
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.call.duration_us = self.started.elapsed().as_micros() as u64;
    }
}

/// What all tries of a request have in common.
struct Forwarding<'a> {
    pool: &'a Local<UpstreamPool>,
    head: &'a http::request::Parts,
    body: &'a ReplayBody,
    forwarded: &'a Forwarded<'a>,
    path_and_query: &'a PathAndQuery,
    host: Option<&'a str>,
    upgrade: Option<&'a HeaderValue>,
    limits: TimeLimits,
}

/// A try that got a head.
enum Answer {
    Http1(Box<Exchange>),
    Http2(Response<hyper::body::Incoming>, http2::Place),
}

/// A try that did not.
struct Miss {
    code: ErrorCode,
    message: String,
    /// `None` when the client is to blame.
    fault: Option<Fault>,
    /// The upstream has seen nothing of the request.
    untouched: bool,
    /// Another target may do better.
    worth_another: bool,
}

/// A connection, of one kind or the other.
enum Wire {
    Http1(Box<Connection>),
    Http2(http2::Place),
}

impl UpstreamPool {
    /// Sends a request of which hop-by-hop fields and claims of identity were removed, and
    /// returns the response. Its body is read from the upstream as it is taken; dropping
    /// it, or this future, gives the request up. Of `head` only the method and the headers
    /// count.
    pub(crate) async fn forward(
        pool: &Local<Self>,
        head: &http::request::Parts,
        body: &ReplayBody,
        context: &mut Context<'_>,
    ) -> Result<Response<Body>, Rejection> {
        let started = Instant::now();
        let mut noted = Noted { call: &mut *context.call, started };
        let times = &pool.settings.timeouts;
        let longest = [times.total_ms.map(Duration::from_millis), context.response_timeout];
        let total = longest.into_iter().flatten().min().map(|longest| started + longest);
        if !pool.is_resolved() {
            Box::pin(pool.resolved(total)).await?;
        }
        let admission = Self::admit(pool, started)?;
        let forwarding = Forwarding {
            pool,
            head,
            body,
            forwarded: &context.forwarded,
            path_and_query: context.path_and_query,
            host: context.host,
            upgrade: context.upgrade.as_ref().map(Upgrade::protocol),
            limits: TimeLimits {
                first_byte: Duration::from_millis(times.first_byte_ms),
                idle: Duration::from_millis(times.idle_ms),
                total,
            },
        };
        let key = pool.settings.hash_on.as_ref().and_then(|key| {
            let Forwarded { client, authority, .. } = context.forwarded;
            balance::key_of(key, client, authority, context.path_and_query, &head.headers)
        });
        let trying = forwarding.try_until_answered(key, started, admission, &mut noted);
        let (answer, flight) = trying.await?;
        let idle = forwarding.limits.idle;
        match answer {
            Answer::Http2(answer, place) => {
                Ok(response::from_http2(answer, place, body.upload(), idle, flight))
            }
            Answer::Http1(exchange) if exchange.answer().is_switch() => {
                let upgrade = context.upgrade.take();
                let upgrade = upgrade.expect("a switch that nobody asked for is refused");
                Ok(Tunnel::open(upgrade, exchange, idle, pool, flight))
            }
            Answer::Http1(exchange) => {
                let head = exchange.answer();
                let keeps_for = Duration::from_millis(pool.settings.keep_alive_ms);
                let said = head.keeps_for.map(|said| said.saturating_sub(KEEP_ALIVE_MARGIN));
                let keep = head.keep_alive.then(|| Keep {
                    most: pool.settings.keep_alive,
                    keeps_for: said.map_or(keeps_for, |said| said.min(keeps_for)),
                });
                let upload = body.upload();
                response::from_http1(exchange, keep, upload, idle, flight).map_err(
                    |(why, flight)| pool.refuse(ErrorCode::UpstreamProtocol, flight.target(), why),
                )
            }
        }
    }

    fn refuse(&self, code: ErrorCode, target: &Target, why: &str) -> Rejection {
        let message = format!("{}: {why}", target.label);
        self.log(code, &message);
        refuse(code, format!("{} at {message}", self.name))
    }
}

impl Forwarding<'_> {
    async fn try_until_answered(
        &self,
        key: Option<u64>,
        mut now: Instant,
        mut admission: Admission,
        noted: &mut Noted<'_>,
    ) -> Result<(Answer, Flight), Rejection> {
        let pool = self.pool;
        let mut tried: Vec<Local<Target>> = Vec::new();
        loop {
            let Some(target) = pool.choose(key, now, &tried) else {
                let message = format!("no target of {} passes its health check", pool.name);
                pool.log(ErrorCode::UpstreamUnavailable, &message);
                return Err(refuse(ErrorCode::UpstreamUnavailable, message));
            };
            let retries_left = (pool.settings.retry.attempts as usize).saturating_sub(tried.len());
            noted.tries(&target);
            let mut flight = Flight::begin(target, admission);
            match self.try_once(flight.target(), now).await {
                Ok(answer) => {
                    let status = answer.status();
                    flight.answered(status.as_u16());
                    let again = retries_left > 0
                        && pool.settings.retry.statuses.contains(&status.as_u16())
                        && self.upgrade.is_none()
                        && self.is_idempotent()
                        && self.body.can_be_repeated()
                        // It asks to be left alone for a while: only others are tried.
                        && (!answer.says_retry_after() || pool.has_another(now, &tried, flight.target()))
                        && self.backoff(tried.len()).await;
                    if !again {
                        return Ok((answer, flight));
                    }
                }
                Err(miss) => {
                    match miss.fault {
                        Some(fault) => flight.failed(fault),
                        None => flight.land(),
                    }
                    if miss.fault == Some(Fault::Connect) {
                        pool.resolve_soon.notify_one();
                    }
                    let again = retries_left > 0
                        && miss.worth_another
                        && (miss.untouched || self.is_idempotent())
                        && self.body.can_be_repeated()
                        && self.backoff(tried.len()).await;
                    if !again {
                        return Err(match miss.fault {
                            Some(_) => pool.refuse(miss.code, flight.target(), &miss.message),
                            None => Rejection::new(miss.code, miss.message),
                        });
                    }
                }
            }
            tried.push(flight.target().clone());
            admission = flight.into_admission();
            now = Instant::now();
        }
    }

    fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent()
    }

    /// Waits before a retry. False when there is no budget or no time for it.
    async fn backoff(&self, retries: usize) -> bool {
        let base = Duration::from_millis(self.pool.settings.retry.backoff_ms);
        let doubled = base.saturating_mul(1 << retries.min(16)).min(BACKOFF_MAX);
        let [dice] = random();
        // From half of it to all of it, so that retries of many do not come together.
        let wait = doubled / 2 + doubled.mul_f64(f64::from(dice) / 510.0);
        let now = Instant::now();
        if self.limits.total.is_some_and(|total| now + wait >= total) || !self.pool.may_retry(now) {
            return false;
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        true
    }

    async fn try_once(&self, target: &Target, now: Instant) -> Result<Answer, Miss> {
        let mut fresh = false;
        loop {
            let waiting = if fresh { None } else { self.waiting(target, now) };
            let wire = match waiting {
                Some(connection) => Wire::Http1(connection),
                None => Box::pin(self.connect(target, fresh)).await?,
            };
            // What can not be sent again was sent before, and ended the loop there.
            let Some(body) = self.body.for_next_try() else {
                return Err(Miss::broken("the request's body can not be sent again".to_owned()));
            };
            match wire {
                Wire::Http1(connection) => {
                    let reused = connection.reused;
                    match self.speak_http1(target, connection, body).await {
                        Ok(exchange) => return Ok(Answer::Http1(exchange)),
                        // It was closing the connection while this request was on its way.
                        Err(Failure::Closed { nothing_sent, .. })
                            if reused
                                && (nothing_sent || self.is_idempotent())
                                && self.body.can_be_repeated() =>
                        {
                            fresh = true;
                        }
                        Err(failure) => return Err(self.miss_of(failure)),
                    }
                }
                Wire::Http2(place) => match Box::pin(self.speak_http2(target, place, body)).await {
                    Ok((response, place)) => return Ok(Answer::Http2(response, place)),
                    // A connection on its way out (GOAWAY) took nothing.
                    Err(miss) if miss.untouched && !fresh && self.body.can_be_repeated() => {
                        target.http2().forget().await;
                        fresh = true;
                    }
                    Err(miss) => return Err(miss),
                },
            }
        }
    }

    fn speaks_http2(&self, target: &Target) -> bool {
        match self.pool.settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            // Only there can be asked for something else.
            Protocol::Auto if self.upgrade.is_some() => false,
            Protocol::Auto => target.origin.https() && !http2::is_ruled_out(target),
        }
    }

    /// A connection of HTTP/1.1 that waits for a request.
    fn waiting(&self, target: &Target, now: Instant) -> Option<Box<Connection>> {
        if self.speaks_http2(target) {
            return None;
        }
        let connection = target.take_idle(now, !self.is_idempotent())?;
        target.traffic().reused.fetch_add(1, Ordering::Relaxed);
        Some(connection)
    }

    /// A new connection, or one of HTTP/2, which serves many requests.
    async fn connect(&self, target: &Target, fresh: bool) -> Result<Wire, Miss> {
        let pool = self.pool;
        if !self.speaks_http2(target) {
            let dialed = self.dial(target, self.http1_endpoint(target)).await?;
            return Ok(Wire::Http1(Connection::new(stream_of(dialed))));
        }
        if let Ok(mut open) = target.http2().0.try_lock()
            && !fresh
            && let Some(place) = open.place()
        {
            target.traffic().reused.fetch_add(1, Ordering::Relaxed);
            return Ok(Wire::Http2(place));
        }
        // One request opens the connection; those that come meanwhile wait for it.
        let waiting = tokio::time::timeout(self.connect_timeout(), target.http2().0.lock());
        let mut open = waiting.await.map_err(|_| Miss::slow_connect(self.connect_timeout()))?;
        if let Some(place) = open.place() {
            return Ok(Wire::Http2(place));
        }
        if !self.speaks_http2(target) {
            // Whoever was before found that out.
            drop(open);
            let dialed = self.dial(target, self.http1_endpoint(target)).await?;
            return Ok(Wire::Http1(Connection::new(stream_of(dialed))));
        }
        let dialed = self.dial(target, target.origin.endpoint.clone()).await?;
        if matches!(dialed, Dialed::Tls { http2: false, .. }) {
            if pool.settings.protocol == Protocol::Http2 {
                let why = "it does not offer HTTP/2 (ALPN), but protocol = \"http2\"";
                return Err(Miss::malformed(why.to_owned(), true));
            }
            target.speaks_http1.store(true, Ordering::Relaxed);
            return Ok(Wire::Http1(Connection::new(stream_of(dialed))));
        }
        let begun = http2::begin(stream_of(dialed)).await;
        let begun = begun
            .map_err(|cause| Miss::malformed(format!("it does not speak HTTP/2: {cause}"), true))?;
        Ok(Wire::Http2(open.add(begun)))
    }

    /// For a protocol that is asked for by HTTP/1.1, nothing else may be negotiated.
    fn http1_endpoint(&self, target: &Target) -> Endpoint {
        let mut endpoint = target.origin.endpoint.clone();
        if let Some(tls) = &mut endpoint.tls {
            tls.offer = Offer::Http1;
        }
        endpoint
    }

    fn connect_timeout(&self) -> Duration {
        let longest = Duration::from_millis(self.pool.settings.timeouts.connect_ms);
        let left = self.limits.total.map(|total| total.saturating_duration_since(Instant::now()));
        left.map_or(longest, |left| left.min(longest))
    }

    async fn dial(&self, target: &Target, endpoint: Endpoint) -> Result<Dialed, Miss> {
        let timeout = self.connect_timeout();
        let opening = self.pool.dial.open(&endpoint, target.address);
        let dialed = tokio::time::timeout(timeout, opening)
            .await
            .map_err(|_| Miss::slow_connect(timeout))?
            .map_err(Miss::unconnected)?;
        target.counters.connections.fetch_add(1, Ordering::Relaxed);
        Ok(dialed)
    }

    /// What the upstream is to see as its Host.
    fn host<'b>(&'b self, target: &'b Target) -> &'b str {
        let asked = self.pool.settings.pass_host.then_some(self.forwarded.authority);
        self.host.or(asked).unwrap_or(&target.origin.authority)
    }

    async fn speak_http1(
        &self,
        target: &Target,
        connection: Box<Connection>,
        body: Body,
    ) -> Result<Box<Exchange>, Failure> {
        let head = RequestHead {
            method: &self.head.method,
            prefix: &target.origin.prefix,
            path_and_query: self.path_and_query.as_str(),
            host: self.host(target).as_bytes(),
            headers: &self.head.headers,
            forwarded: Some(self.forwarded),
            upgrade: self.upgrade,
        };
        let mut exchange = Box::new(Exchange::new(connection, &head, body));
        exchange.head(&self.limits).await?;
        Ok(exchange)
    }

    fn miss_of(&self, failure: Failure) -> Miss {
        let by_client = match failure {
            Failure::OutOfTime => self.body.waits_for_client(),
            Failure::Closed { .. } | Failure::BrokeOff => self.body.upload().client_pauses(),
            _ => false,
        };
        let miss = Miss::of_http1(failure);
        // The time was the client's, who has not sent the rest of its body.
        Miss { fault: miss.fault.filter(|_| !by_client), ..miss }
    }

    async fn speak_http2(
        &self,
        target: &Target,
        place: http2::Place,
        body: Body,
    ) -> Result<(Response<hyper::body::Incoming>, http2::Place), Miss> {
        let uri = Uri::builder()
            .scheme(if target.origin.https() { "https" } else { "http" })
            .authority(self.host(target))
            .path_and_query(format!("{}{}", target.origin.prefix, self.path_and_query.as_str()))
            .build()
            .map_err(|cause| Miss::broken(format!("the request has no URL: {cause}")))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.head.headers.clone();
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        // Known from the body, where there is one to know.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::EXPECT);
        self.forwarded.insert(headers);
        let began = Instant::now();
        let mut sending = std::pin::pin!(http2::send(place, request));
        loop {
            let TimeLimits { first_byte, total, .. } = self.limits;
            let since = self.body.upstream_quiet_since(began);
            // A client that pauses may take its time; it is looked at again later.
            let silent = since.unwrap_or_else(Instant::now) + first_byte;
            let until = total.map_or(silent, |total| total.min(silent));
            match tokio::time::timeout_at(until.into(), &mut sending).await {
                Ok(Ok(answered)) => return Ok(answered),
                // The client that broke off is all that the upstream knows of it.
                Ok(Err(unanswered)) => {
                    return Err(match self.body.failure() {
                        Some(error) => Miss::of_client(error),
                        None => Miss::of_http2(unanswered),
                    });
                }
                Err(_) if total.is_some_and(|total| total <= Instant::now()) => {
                    return Err(self.miss_of(Failure::OutOfTime));
                }
                Err(_) if since.is_some() && self.body.upstream_quiet_since(began) == since => {
                    return Err(Miss::of_http1(Failure::Silent));
                }
                Err(_) => {}
            }
        }
    }
}

fn stream_of(dialed: Dialed) -> Stream {
    match dialed {
        Dialed::Tcp(stream) => Stream::Tcp(Tcp::new(stream)),
        Dialed::Tls { stream, .. } => Stream::Tls(stream),
    }
}

impl Answer {
    fn status(&self) -> StatusCode {
        match self {
            Self::Http1(exchange) => exchange.answer().status,
            Self::Http2(response, _) => response.status(),
        }
    }

    fn says_retry_after(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.answer().headers.contains_key(header::RETRY_AFTER),
            Self::Http2(response, _) => response.headers().contains_key(header::RETRY_AFTER),
        }
    }
}

impl Miss {
    fn unconnected(error: OutboundError) -> Self {
        let (code, fault) = match error.kind {
            OutboundErrorKind::ConnectionTimeout => (ErrorCode::UpstreamTimeout, Fault::Timeout),
            _ => (ErrorCode::UpstreamConnectFailed, Fault::Connect),
        };
        Self {
            code,
            message: error.message,
            fault: Some(fault),
            untouched: true,
            worth_another: true,
        }
    }

    fn slow_connect(timeout: Duration) -> Self {
        let message = format!("no connection within {} ms", timeout.as_millis());
        Self::unconnected(OutboundError::new(OutboundErrorKind::ConnectionTimeout, message))
    }

    fn broken(message: String) -> Self {
        Self {
            code: ErrorCode::UpstreamBroke,
            message,
            fault: Some(Fault::Broken),
            untouched: false,
            worth_another: true,
        }
    }

    /// Whoever answers nonsense once does so again, and others of its kind do too.
    fn malformed(message: String, untouched: bool) -> Self {
        Self {
            code: ErrorCode::UpstreamProtocol,
            message,
            fault: Some(Fault::Malformed),
            untouched,
            worth_another: false,
        }
    }

    fn of_client(error: BodyError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            fault: None,
            untouched: false,
            worth_another: false,
        }
    }

    fn of_http1(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Closed { nothing_sent, .. } => {
                Self { untouched: nothing_sent, ..Self::broken(message) }
            }
            Failure::BrokeOff => Self::broken(message),
            Failure::Malformed(_) => Self::malformed(message, false),
            Failure::Silent | Failure::OutOfTime => Self {
                code: ErrorCode::UpstreamTimeout,
                fault: Some(Fault::Timeout),
                worth_another: matches!(failure, Failure::Silent),
                ..Self::broken(message)
            },
            Failure::RequestBody(error) => Self::of_client(error),
        }
    }

    fn of_http2(unanswered: http2::Unanswered) -> Self {
        let message = format!("no answer by HTTP/2: {}", unanswered.cause);
        if unanswered.invalid {
            return Self::malformed(message, unanswered.unsent);
        }
        Self { untouched: unanswered.unsent, ..Self::broken(message) }
    }
}
