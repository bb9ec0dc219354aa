//! Asking targets whether they are well, before a caller finds out.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use squall_types::Body;
use squall_types::dial::{Dialed, Offer};
use squall_types::gateway::{HealthCheck, Protocol};
use squall_types::log::Level;

use super::http1::{Connection, Exchange, RequestHead, Stream, TimeLimits};
use super::http2;
use super::pool::UpstreamPool;
use super::target::Target;
use crate::turn::Tcp;

const AGENT: HeaderValue = HeaderValue::from_static("squall-health-check");

/// Runs for as long as somebody else holds the pool.
pub(super) async fn watch(pool: Weak<UpstreamPool>, check: HealthCheck) {
    let interval = Duration::from_millis(check.interval_ms);
    loop {
        let Some(held) = pool.upgrade() else { return };
        let targets = held.targets();
        if !held.is_current() {
            // Nobody's traffic depends on it. Who comes for it by its revision's name finds out.
            targets.iter().for_each(|target| target.health.forget_checks());
            drop((held, targets));
            tokio::time::sleep(interval).await;
            continue;
        }
        let began = Instant::now();
        join_all(targets.iter().map(|target| check_one(&held, target, &check))).await;
        drop(held);
        // Until names are resolved for the first time there is nobody to ask.
        let pause =
            if targets.is_empty() { interval.min(Duration::from_millis(100)) } else { interval };
        tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
    }
}

async fn check_one(pool: &UpstreamPool, target: &Arc<Target>, check: &HealthCheck) {
    let timeout = Duration::from_millis(check.timeout_ms);
    let answer = tokio::time::timeout(timeout, ask(pool, target, check, timeout)).await;
    let problem = match answer {
        Ok(Ok(status)) if (200..400).contains(&status) => None,
        Ok(Ok(status)) => Some(format!("status {status}")),
        Ok(Err(problem)) => Some(problem),
        Err(_) => Some(format!("no answer within {} ms", check.timeout_ms)),
    };
    if problem.is_some() {
        target.counters.checks_failed.fetch_add(1, Ordering::Relaxed);
    }
    let good = problem.is_none();
    let label = &target.label;
    match target.health.checked(good, check.healthy_after, check.unhealthy_after) {
        Some(true) => pool.say(Level::Info, None, &format!("{label} passes its checks again")),
        Some(false) => {
            let problem = problem.unwrap_or_default();
            let message = format!("{label} fails its checks and is not used: {problem}");
            pool.say(Level::Warn, None, &message);
        }
        None => {}
    }
}

/// The status of its answer. On a connection of its own, so that it is also known whether
/// the target takes new ones.
async fn ask(
    pool: &UpstreamPool,
    target: &Target,
    check: &HealthCheck,
    timeout: Duration,
) -> Result<u16, String> {
    let by_http2 = pool.settings.protocol == Protocol::Http2;
    let mut endpoint = target.origin.endpoint.clone();
    if let Some(tls) = &mut endpoint.tls
        && !by_http2
    {
        tls.offer = Offer::Http1;
    }
    let opened = pool.dial.open(&endpoint, target.address).await;
    let stream = match opened.map_err(|error| error.message)? {
        Dialed::Tcp(stream) => Stream::Tcp(Tcp::new(stream)),
        Dialed::Tls { stream, .. } => Stream::Tls(stream),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, AGENT);
    let host = &target.origin.authority;
    if by_http2 {
        let mut open = http2::begin(stream).await.map_err(|error| error.to_string())?;
        let scheme = if target.origin.https() { "https" } else { "http" };
        let mut request = Request::get(format!("{scheme}://{host}{}", check.path))
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let sent = http2::send(open.place(), request).await;
        let (answer, _place) = sent.map_err(|no| no.cause.to_string())?;
        return Ok(answer.status().as_u16());
    }
    let head = RequestHead {
        method: &Method::GET,
        prefix: "",
        path_and_query: &check.path,
        host: host.as_bytes(),
        headers: &headers,
        forwarded: None,
        upgrade: None,
    };
    let mut exchange = Exchange::new(Connection::new(stream), &head, Body::full(Bytes::new()));
    let limits = TimeLimits { first_byte: timeout, idle: timeout, total: None };
    match exchange.head(&limits).await {
        Ok(head) => Ok(head.status.as_u16()),
        Err(failure) => Err(failure.to_string()),
    }
}
