//! Asking what is behind the route, and keeping what may be kept of the answer.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Response, StatusCode};
use squall_cache::rfc::{self, Forwarded, Status};
use squall_cache::{Entry, Head, Sequence, StoredBody};
use squall_types::Body;

use super::answer::{Question, note, respond};
use super::fill::Fill;
use super::flight::{Landing, Lead};
use super::metrics::Outcome;
use super::now_ms;
use crate::origin::{Account, OriginRequest};
use crate::rejection::Rejection;

/// Why and how the origin is asked.
pub(super) struct Fetch {
    pub(super) why: Forwarded,
    /// What is stored and can not be used as it is.
    pub(super) stored: Option<Arc<Entry>>,
    /// It may be used when the origin fails; what remains of its freshness.
    pub(super) stale_ttl_s: Option<i64>,
}

/// A response that came, and what must be known to store it.
struct Arrived {
    response: Response<Body>,
    /// What the caller sent.
    asked_with: HeaderMap,
    requested_at_ms: u64,
    received_at_ms: u64,
    sequence: Sequence,
}

impl Question<'_> {
    /// `lead` is for the fetch that others wait for.
    pub(super) async fn fetch(
        &self,
        mut request: Box<OriginRequest>,
        account: &mut Account,
        fetch: Fetch,
        lead: Option<Lead>,
    ) -> Result<Response<Body>, Rejection> {
        let store = &self.store;
        let sequence = lead.as_ref().map_or_else(|| store.sequence(), Lead::sequence);
        let asked_with = request.head.headers.clone();
        let head_only = request.head.method == Method::HEAD;
        self.plan.narrow(&mut request);
        let headers = &mut request.head.headers;
        let validates = match &fetch.stored {
            // Ranges that are missing are asked for by the caller's own request.
            Some(stored) if !head_only && matches!(stored.body, StoredBody::Whole(_)) => {
                rfc::prepare_validation(headers, &stored.head)
            }
            // Its own callers may have what is stored nowhere else.
            None if self.cache.unstored.why(&self.hash, Instant::now()).is_some() => false,
            _ => {
                rfc::prepare_fetch(headers, self.asked.wants_range());
                false
            }
        };
        let again = validates.then(|| request.without_body());
        let requested_at_ms = now_ms();
        let sent = request.send(account, self.backend).await;
        let failed = match &sent {
            Ok(response) => response.status().is_server_error(),
            Err(rejection) => rejection.code.status() >= 500,
        };
        if failed
            && let (Some(ttl_s), Some(stored)) = (fetch.stale_ttl_s, &fetch.stored)
            // Its origin may have taken long to fail.
            && rfc::stands_in(&stored.head, now_ms())
            && let Some(response) = self.serve_in_place(stored, &sent, ttl_s)
        {
            if let Some(lead) = &lead {
                lead.land(Landing::Failed(stored.clone()));
            }
            note(self.plan, account, Outcome::StaleHit);
            return Ok(response);
        }
        let response = sent?;
        let received_at_ms = now_ms();
        let arrived = Arrived { response, asked_with, requested_at_ms, received_at_ms, sequence };
        if validates && arrived.response.status() == StatusCode::NOT_MODIFIED {
            let stored = fetch
                .stored
                .as_ref()
                .filter(|stored| rfc::selects(&stored.head, arrived.response.headers()));
            if let Some(response) =
                stored.and_then(|stored| self.revalidated(stored, &arrived, lead.as_ref()))
            {
                note(self.plan, account, Outcome::Revalidated);
                return Ok(response);
            }
            // It is about something else than what is stored: that is not there any more.
            store.remove(&self.hash);
            if let Some(mut again) = again {
                again.head.headers = arrived.asked_with;
                let fetch = Fetch { why: Forwarded::Stale, stored: None, stale_ttl_s: None };
                return Box::pin(self.fetch(again, account, fetch, lead)).await;
            }
            return Ok(arrived.response);
        }
        note(self.plan, account, Outcome::Miss);
        if head_only {
            return Ok(self.freshened(arrived, &fetch));
        }
        Ok(self.keep(arrived, fetch, lead))
    }

    /// What is stored, since the origin failed.
    fn serve_in_place(
        &self,
        stored: &Entry,
        sent: &Result<Response<Body>, Rejection>,
        ttl_s: i64,
    ) -> Option<Response<Body>> {
        let status = match sent {
            Ok(response) => response.status(),
            Err(rejection) => StatusCode::from_u16(rejection.code.status()).ok()?,
        };
        let why = Status::forwarded(Forwarded::Stale).status(status).ttl(ttl_s);
        self.serve(stored, now_ms(), why.detail("the origin failed"))
    }

    /// The origin said that nothing has changed.
    fn revalidated(
        &self,
        stored: &Arc<Entry>,
        arrived: &Arrived,
        lead: Option<&Lead>,
    ) -> Option<Response<Body>> {
        let Arrived { response, requested_at_ms, received_at_ms, .. } = arrived;
        let head = rfc::updated(
            &stored.head,
            response.headers(),
            *requested_at_ms,
            *received_at_ms,
            &self.plan.rules,
        );
        let ttl_s = rfc::ttl_s(&head, *received_at_ms);
        let entry = Entry {
            key: stored.key.clone(),
            head,
            body: stored.body.clone(),
            sequence: arrived.sequence,
        };
        let word = Status::forwarded(Forwarded::Stale).status(StatusCode::NOT_MODIFIED).ttl(ttl_s);
        let why_not = rfc::stays(&stored.head, &entry.head, &self.asked).err();
        let word = match why_not {
            None => word.stored(),
            Some(why_not) => word.detail(why_not.as_str()),
        };
        let mut answer = self.serve(&entry, *received_at_ms, word)?;
        rfc::give_back(answer.headers_mut(), response.headers());
        match why_not {
            None => {
                if let Some(lead) = lead {
                    lead.land(match is_for_all(&entry.head, *received_at_ms) {
                        true => Landing::Entry(Arc::new(entry.clone())),
                        false => Landing::Alone,
                    });
                }
                self.store.put(entry);
            }
            Some(why_not) => {
                self.cache.unstored.remember(self.hash, why_not.as_str(), Instant::now());
                if let Some(lead) = lead {
                    lead.land(Landing::Alone);
                }
                self.store.remove(&self.hash);
            }
        }
        Some(answer)
    }

    /// A response to HEAD says whether what is stored is still so (RFC 9111, section 4.3.5).
    fn freshened(&self, arrived: Arrived, fetch: &Fetch) -> Response<Body> {
        let Arrived { mut response, requested_at_ms, received_at_ms, sequence, .. } = arrived;
        let status = response.status();
        if let Some(stored) = fetch.stored.as_ref().filter(|_| status == StatusCode::OK) {
            let rules = &self.plan.rules;
            let freshened = rfc::freshen_by_head(
                &stored.head,
                response.headers(),
                status,
                requested_at_ms,
                received_at_ms,
                rules,
            );
            match freshened.filter(|head| rfc::stays(&stored.head, head, &self.asked).is_ok()) {
                Some(head) => self.store.put(Entry {
                    key: stored.key.clone(),
                    head,
                    body: stored.body.clone(),
                    sequence,
                }),
                None => self.store.remove(&self.hash),
            }
        }
        Status::forwarded(fetch.why).status(status).append(response.headers_mut());
        response
    }

    /// Stores the response, if that is allowed, while it goes to its caller.
    fn keep(&self, arrived: Arrived, fetch: Fetch, lead: Option<Lead>) -> Response<Body> {
        let Arrived { mut response, asked_with, requested_at_ms, received_at_ms, sequence } =
            arrived;
        let status = response.status();
        let mut word = Status::forwarded(fetch.why).status(status);
        let head = rfc::storable(
            &self.asked,
            &asked_with,
            status,
            response.headers(),
            requested_at_ms,
            received_at_ms,
            &self.plan.rules,
        );
        let length = http_body::Body::size_hint(response.body()).exact();
        let most = self.plan.object_max_bytes.unwrap_or(self.cache.object_max_bytes);
        let why_not = match &head {
            Err(why) => Some(why.as_str()),
            Ok(_) if length.is_some_and(|length| length > most) => Some("the body is too large"),
            Ok(_) => None,
        };
        let (Ok(head), None) = (head, why_not) else {
            let why_not = why_not.unwrap_or_default();
            // A caller's own condition says nothing of the response to others.
            if status != StatusCode::NOT_MODIFIED {
                self.cache.unstored.remember(self.hash, why_not, Instant::now());
            }
            if let Some(lead) = &lead {
                lead.land(Landing::Alone);
            }
            word = word.detail(why_not);
            word.append(response.headers_mut());
            return response;
        };
        self.cache.unstored.forget(&self.hash);
        let (parts, body) = response.into_parts();
        let fill = Fill::new(length, most, &self.cache.filling);
        let reader = fill.join().unwrap_or_default();
        let head = Arc::new(head);
        if let Some(lead) = &lead {
            // A part is nobody else's answer.
            let is_whole = status != StatusCode::PARTIAL_CONTENT;
            lead.land(match is_whole && is_for_all(&head, received_at_ms) {
                true => Landing::Filling(head.clone(), fill.clone()),
                false => Landing::Alone,
            });
        }
        word = word.stored().ttl(rfc::ttl_s(&head, received_at_ms));
        let response = self.pass_on(&head, parts, reader, &word);
        self.store_behind(fill, body, head, sequence, fetch.stored, lead);
        response
    }

    /// What the caller gets of a response that is being stored: all of it, also what is not
    /// stored of it but meant for this caller.
    fn pass_on(
        &self,
        head: &Head,
        arrived: http::response::Parts,
        reader: Body,
        word: &Status,
    ) -> Response<Body> {
        let (status, mut headers, has_body) = rfc::answer_head(head, &self.asked, now_ms());
        for name in arrived.headers.keys().filter(|name| !rfc::is_for_caches(name)) {
            if status != StatusCode::NOT_MODIFIED && !headers.contains_key(name) {
                for value in arrived.headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        word.append(&mut headers);
        respond(status, headers, if has_body { reader } else { Body::empty() })
    }

    /// Reads the response to its end, whether or not its caller does.
    fn store_behind(
        &self,
        fill: Arc<Fill>,
        body: Body,
        head: Arc<Head>,
        sequence: Sequence,
        stored: Option<Arc<Entry>>,
        lead: Option<Lead>,
    ) {
        let (store, key) = (self.store.clone(), self.key.clone());
        tokio::spawn(async move {
            let Some(bytes) = fill.pump(body).await else { return };
            let head = Arc::unwrap_or_clone(head);
            let entry = match head.status {
                StatusCode::PARTIAL_CONTENT => {
                    rfc::combined(stored.as_deref(), &key, head, bytes, sequence)
                }
                _ => Some(Entry { key, head, body: StoredBody::Whole(bytes), sequence }),
            };
            if let Some(entry) = entry {
                store.put(entry);
            }
            // Whoever asks from here on finds it stored.
            drop(lead);
        });
    }
}

/// Whether those may have it who waited for it: who comes a moment later would be given it
/// as well.
fn is_for_all(head: &Head, now_ms: u64) -> bool {
    !head.freshness.no_cache && rfc::ttl_s(head, now_ms) > 0
}
