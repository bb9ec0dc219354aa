//! A request that the cache may answer.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderMap;
use http::{Response, StatusCode};
use squall_cache::rfc::{self, AnswerBody, Asked, Forwarded, Status, Verdict};
use squall_cache::store::{Found, Hit, Store};
use squall_cache::{Entry, Head, Key, KeyHash};
use squall_types::{Body, ErrorCode};

use super::fetch::Fetch;
use super::flight::{self, Landing, Turn};
use super::metrics::Outcome;
use super::plan::Wanted;
use super::{CachePlan, EdgeCache, background, now_ms, pieces};
use crate::origin::{Account, OriginRequest};
use crate::rejection::Rejection;
use crate::routing::Backend;

/// So often a request waits for a fetch of another that is then given up, before it
/// fetches by itself.
const WAITS_MAX: u32 = 3;

/// What a request asks of the cache.
pub(super) struct Question<'a> {
    pub(super) cache: &'a EdgeCache,
    pub(super) store: Arc<Store>,
    pub(super) plan: &'a CachePlan,
    pub(super) backend: &'a Backend,
    pub(super) asked: Asked,
    pub(super) key: Key,
    pub(super) hash: KeyHash,
}

/// Answers from the store, or asks what is behind the route and keeps what may be kept.
pub(crate) async fn answer(
    mut request: Box<OriginRequest>,
    account: &mut Account,
    backend: &Backend,
    plan: &CachePlan,
) -> Result<Response<Body>, Rejection> {
    if request.upgrade.is_some() {
        note(plan, account, Outcome::Bypass);
        return Box::pin(request.send(account, backend)).await;
    }
    // What selects a response is what its target would see, and not what a caller wrote.
    request.settle(account);
    let head = &request.head;
    let authenticated = account.identity.is_some();
    let asked = Asked::read(&head.method, &head.headers, &plan.rules, authenticated);
    // What a body says is not part of the key.
    let has_body = !http_body::Body::is_end_stream(&request.body);
    if let Some(why) = asked.passes().or(has_body.then_some(Forwarded::Bypass)) {
        note(plan, account, Outcome::Bypass);
        return pass(request, account, backend, plan, why).await;
    }
    let door = request.door.clone();
    let key = plan.key(&Wanted::by(&request), backend);
    let hash = key.hash();
    let question =
        Question { cache: &door.cache, store: door.cache.store(), plan, backend, asked, key, hash };
    question.answer(request, account).await
}

/// Sends a request on that the cache has nothing to do with, but for what it changes.
async fn pass(
    request: Box<OriginRequest>,
    account: &mut Account,
    backend: &Backend,
    plan: &CachePlan,
    why: Forwarded,
) -> Result<Response<Body>, Rejection> {
    let door = request.door.clone();
    let method = request.head.method.clone();
    let changes = (!method.is_safe())
        .then(|| (request.matched.app().name.clone(), plan.url(&Wanted::by(&request))));
    let mut response = Box::pin(request.send(account, backend)).await?;
    if let Some((app, url)) = changes {
        for url in rfc::invalidated(&method, &url, response.status(), response.headers()) {
            door.cache.remove_url(&app, &url);
        }
    }
    let status = response.status();
    Status::forwarded(why).status(status).append(response.headers_mut());
    Ok(response)
}

impl Question<'_> {
    async fn answer(
        &self,
        request: Box<OriginRequest>,
        account: &mut Account,
    ) -> Result<Response<Body>, Rejection> {
        let mut waits = 0;
        loop {
            let now_ms = now_ms();
            let (hit, why) = match self.find(&request.head.headers).await {
                Ok(hit) => (Some(hit), Forwarded::UriMiss),
                Err(why) => (None, why),
            };
            let mut fetch = Fetch { why, stored: None, stale_ttl_s: None };
            if let Some(hit) = hit {
                let head = &hit.entry.head;
                match rfc::judge(head, &self.asked, hit.soft_purged, now_ms) {
                    Verdict::Serve { age_s, ttl_s } => {
                        let outcome = if ttl_s < 0 { Outcome::StaleHit } else { Outcome::Hit };
                        if let Some(response) = self.serve(&hit.entry, now_ms, Status::hit(ttl_s)) {
                            self.count_hit(&request, account, outcome, &response, age_s);
                            return Ok(response);
                        }
                        fetch.why = Forwarded::Partial;
                        fetch.stored = Some(hit.entry);
                    }
                    Verdict::ServeAndRevalidate { age_s, ttl_s } => {
                        if let Some(response) = self.serve(&hit.entry, now_ms, Status::hit(ttl_s)) {
                            background::revalidate(self, &request, account, &hit.entry);
                            let outcome = Outcome::StaleHit;
                            self.count_hit(&request, account, outcome, &response, age_s);
                            return Ok(response);
                        }
                        fetch.why = Forwarded::Partial;
                    }
                    Verdict::Validate { on_error, ttl_s } => {
                        fetch.why = if ttl_s < 0 || hit.soft_purged {
                            Forwarded::Stale
                        } else {
                            Forwarded::Request
                        };
                        fetch.stale_ttl_s = on_error.then_some(ttl_s);
                        fetch.stored = Some(hit.entry);
                    }
                }
            }
            if self.asked.only_if_cached() {
                let what = "nothing is stored that answers it, and only-if-cached was asked for";
                return Err(Rejection::new(ErrorCode::NotCached, what));
            }
            let collapses = !(request.head.method == http::Method::HEAD
                || self.asked.wants_range()
                || self.asked.insists()
                || self.asked.forbids_storing())
                && waits < WAITS_MAX
                && self.cache.unstored.why(&self.hash, Instant::now()).is_none();
            if !collapses {
                return Box::pin(self.fetch(request, account, fetch, None)).await;
            }
            let sequence = self.store.sequence();
            let landing = match self.cache.flights.turn(self.hash, sequence) {
                Turn::Leads(lead) => {
                    return Box::pin(self.fetch(request, account, fetch, Some(lead))).await;
                }
                Turn::Waits(landing) => flight::wait(landing).await,
            };
            // It was given up: whoever comes first fetches.
            let Some(landing) = landing else {
                waits += 1;
                continue;
            };
            return match self.collapsed(landing, &request.head.headers) {
                Some(response) => {
                    self.count_hit(&request, account, Outcome::Collapsed, &response, 0);
                    Ok(response)
                }
                None => Box::pin(self.fetch(request, account, fetch, None)).await,
            };
        }
    }

    /// What is stored for the request, if it is not purged; or what is missing.
    pub(super) async fn find(&self, headers: &HeaderMap) -> Result<Hit, Forwarded> {
        let mut varies = false;
        let found = self.store.find(&self.hash, |names| {
            varies |= !names.is_empty();
            rfc::variant(names, headers)
        });
        let hit = match found {
            Found::Memory(hit) => Some(hit),
            Found::OnDisk(ticket) => self.store.load(ticket).await,
            Found::Nothing => None,
        };
        hit.ok_or(if varies { Forwarded::VaryMiss } else { Forwarded::UriMiss })
    }

    /// The response to somebody else's fetch, where it would answer this request as well if
    /// it had been stored before.
    fn collapsed(&self, landing: Landing, headers: &HeaderMap) -> Option<Response<Body>> {
        let now_ms = now_ms();
        let status = Status::forwarded(Forwarded::UriMiss).collapsed();
        let verdict = |head: &Head| {
            let selects = head.variant == rfc::variant(&head.vary, headers);
            selects.then(|| rfc::judge(head, &self.asked, false, now_ms))
        };
        match landing {
            Landing::Filling(head, fill) => {
                let Verdict::Serve { .. } = verdict(&head)? else { return None };
                let (code, mut headers, has_body) = rfc::answer_head(&head, &self.asked, now_ms);
                let body = if has_body { fill.join()? } else { Body::empty() };
                status.append(&mut headers);
                Some(respond(code, headers, body))
            }
            Landing::Entry(entry) => match verdict(&entry.head)? {
                Verdict::Serve { .. } => self.serve(&entry, now_ms, status),
                _ => None,
            },
            Landing::Failed(entry) => match verdict(&entry.head)? {
                Verdict::Validate { on_error: true, .. } => self.serve(&entry, now_ms, status),
                _ => None,
            },
            Landing::Flying | Landing::Alone => None,
        }
    }

    /// A stored response, as this request wants it. None when what is stored does not have
    /// all that it asks for.
    pub(super) fn serve(
        &self,
        entry: &Entry,
        now_ms: u64,
        status: Status,
    ) -> Option<Response<Body>> {
        let mut answer = rfc::answer(entry, &self.asked, now_ms)?;
        status.append(&mut answer.headers);
        let body = match answer.body {
            AnswerBody::Empty => Body::empty(),
            AnswerBody::Bytes(bytes) => Body::full(bytes),
            AnswerBody::Pieces(all) => pieces::body(all),
        };
        Some(respond(answer.status, answer.headers, body))
    }

    /// It counts as usage of what is behind the route, and runs nothing.
    pub(super) fn count_hit(
        &self,
        request: &OriginRequest,
        account: &mut Account,
        outcome: Outcome,
        response: &Response<Body>,
        age_s: u64,
    ) {
        let bytes = http_body::Body::size_hint(response.body()).exact().unwrap_or_default();
        note(self.plan, account, outcome);
        self.plan.counters.saved(bytes, age_s);
        let subject = match self.backend {
            Backend::Function(function) => function.own().into(),
            Backend::Upstream(_, usage) => usage.own().into(),
            Backend::Assets => return,
        };
        account.start_meter(&request.door, subject).mark_cache_hit();
    }
}

/// Counts what was done, for the route and for the request's line in the log.
pub(super) fn note(plan: &CachePlan, account: &mut Account, outcome: Outcome) {
    if !account.is_refresh {
        plan.counters.count(outcome);
    }
    account.cached = Some(outcome);
}

pub(super) fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
