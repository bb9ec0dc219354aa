//! The least that a cache must be to do what `rfc` says: a map, and nothing behind anybody's
//! back.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use squall_types::gateway::Cache;

use super::oracle::Given;
use super::origin::{Arrived, Asking, url};
use super::request::Request;
use crate::rfc::{self, AnswerBody, Asked, Verdict};
use crate::{Entry, Key, Sequence, Space, StoredBody};

pub(super) struct ModelCache {
    rules: Cache,
    stored: HashMap<String, Vec<Stored>>,
}

#[derive(Clone)]
struct Stored {
    entry: Entry,
    soft_purged: bool,
}

impl ModelCache {
    pub(super) fn new(rules: Cache) -> Self {
        Self { rules, stored: HashMap::new() }
    }

    pub(super) fn purge(&mut self, resource: usize, soft: bool) {
        let all = self.stored.entry(url(resource)).or_default();
        if soft {
            all.iter_mut().for_each(|one| one.soft_purged = true);
        } else {
            all.clear();
        }
    }

    fn find(&self, url: &str, headers: &HeaderMap) -> Option<Stored> {
        let selects =
            |one: &&Stored| one.entry.head.variant == rfc::variant(&one.entry.head.vary, headers);
        self.stored.get(url)?.iter().rev().find(selects).cloned()
    }

    fn put(&mut self, url: &str, entry: Entry) {
        let all = self.stored.entry(url.to_owned()).or_default();
        all.retain(|one| {
            one.entry.head.vary != entry.head.vary || one.entry.head.variant != entry.head.variant
        });
        all.push(Stored { entry, soft_purged: false });
    }

    /// What the caller gets. After it left, a stale one may be fetched anew.
    pub(super) fn exchange(&mut self, request: &Request, asking: &mut Asking<'_>) -> Given {
        let headers = request.headers();
        let asked = Asked::read(&request.method, &headers, &self.rules, request.authenticated);
        let url = url(request.resource);
        if asked.passes().is_some() {
            let Some(arrived) = asking.send(request, &request.method, &headers) else {
                return own(StatusCode::BAD_GATEWAY);
            };
            let changed = rfc::invalidated(&request.method, &url, arrived.status, &arrived.headers);
            for url in changed {
                self.stored.remove(&url);
            }
            return as_it_came(arrived);
        }
        let hit = self.find(&url, &headers);
        let mut stored = None;
        let mut may_stand_in = false;
        if let Some(hit) = hit {
            let now_ms = asking.now_ms();
            match rfc::judge(&hit.entry.head, &asked, hit.soft_purged, now_ms) {
                Verdict::Serve { .. } => {
                    if let Some(answer) = given(&hit.entry, &asked, now_ms) {
                        return answer;
                    }
                    stored = Some(hit.entry);
                }
                Verdict::ServeAndRevalidate { .. } => {
                    if let Some(answer) = given(&hit.entry, &asked, now_ms) {
                        asking.answered();
                        self.fetch_behind(request, asking, &hit.entry);
                        return answer;
                    }
                }
                Verdict::Validate { on_error, .. } => {
                    may_stand_in = on_error;
                    stored = Some(hit.entry);
                }
            }
        }
        if asked.only_if_cached() {
            return own(StatusCode::GATEWAY_TIMEOUT);
        }
        self.fetch(request, &request.method, &asked, headers, asking, stored.as_ref(), may_stand_in)
    }

    fn fetch_behind(&mut self, request: &Request, asking: &mut Asking<'_>, stored: &Entry) {
        let mut headers = request.headers();
        rfc::prepare_fetch(&mut headers, false);
        let asked = Asked::read(&Method::GET, &headers, &self.rules, request.authenticated);
        self.fetch(request, &Method::GET, &asked, headers, asking, Some(stored), false);
    }

    #[allow(clippy::too_many_arguments)]
    fn fetch(
        &mut self,
        request: &Request,
        method: &Method,
        asked: &Asked,
        callers: HeaderMap,
        asking: &mut Asking<'_>,
        stored: Option<&Entry>,
        may_stand_in: bool,
    ) -> Given {
        let url = url(request.resource);
        let whole = stored.filter(|stored| matches!(stored.body, StoredBody::Whole(_)));
        let mut headers = callers.clone();
        let validates = match whole {
            Some(whole) if !asked.is_head() => rfc::prepare_validation(&mut headers, &whole.head),
            _ => {
                rfc::prepare_fetch(&mut headers, asked.wants_range());
                false
            }
        };
        let arrived = asking.send(request, method, &headers);
        let failed = arrived.as_ref().is_none_or(|arrived| arrived.status.is_server_error());
        if failed
            && may_stand_in
            && let Some(stored) = stored
            && rfc::stands_in(&stored.head, asking.now_ms())
            && let Some(answer) = given(stored, asked, asking.now_ms())
        {
            return answer;
        }
        let Some(arrived) = arrived else { return own(StatusCode::BAD_GATEWAY) };
        if validates && arrived.status == StatusCode::NOT_MODIFIED {
            let whole = whole.filter(|whole| rfc::selects(&whole.head, &arrived.headers));
            let Some(whole) = whole else {
                self.stored.remove(&url);
                return self.fetch(request, method, asked, callers, asking, None, false);
            };
            return self.renewed(&url, whole, &arrived, asked, asking);
        }
        if asked.is_head() {
            self.freshen(&url, &arrived, asked, asking, stored);
            return as_it_came(arrived);
        }
        self.keep(&url, arrived, asked, &callers, asking, stored)
    }

    fn renewed(
        &mut self,
        url: &str,
        stored: &Entry,
        arrived: &Arrived,
        asked: &Asked,
        asking: &mut Asking<'_>,
    ) -> Given {
        asking.renews(&stored.head.headers, &arrived.headers);
        let head = rfc::updated(
            &stored.head,
            &arrived.headers,
            arrived.requested_at_ms,
            arrived.received_at_ms,
            &self.rules,
        );
        let entry = Entry { head, ..stored.clone() };
        let answer = given(&entry, asked, arrived.received_at_ms).unwrap();
        if rfc::stays(&stored.head, &entry.head, asked).is_ok() {
            self.put(url, entry);
        } else {
            self.stored.remove(url);
        }
        answer
    }

    fn freshen(
        &mut self,
        url: &str,
        arrived: &Arrived,
        asked: &Asked,
        asking: &mut Asking<'_>,
        stored: Option<&Entry>,
    ) {
        let Some(stored) = stored.filter(|_| arrived.status == StatusCode::OK) else { return };
        let head = rfc::freshen_by_head(
            &stored.head,
            &arrived.headers,
            arrived.status,
            arrived.requested_at_ms,
            arrived.received_at_ms,
            &self.rules,
        );
        match head.filter(|head| rfc::stays(&stored.head, head, asked).is_ok()) {
            Some(head) => {
                asking.renews(&stored.head.headers, &arrived.headers);
                self.put(url, Entry { head, ..stored.clone() });
            }
            None => drop(self.stored.remove(url)),
        }
    }

    fn keep(
        &mut self,
        url: &str,
        arrived: Arrived,
        asked: &Asked,
        callers: &HeaderMap,
        asking: &Asking<'_>,
        stored: Option<&Entry>,
    ) -> Given {
        let head = rfc::storable(
            asked,
            callers,
            arrived.status,
            &arrived.headers,
            arrived.requested_at_ms,
            arrived.received_at_ms,
            &self.rules,
        );
        let Ok(head) = head else { return as_it_came(arrived) };
        let body = Bytes::from(arrived.body.clone());
        let sequence = Sequence(0);
        let key = Key {
            space: Space { app: "model".parse().unwrap(), part: "".into() },
            url: url.into(),
            extra: "".into(),
        };
        if head.status == StatusCode::PARTIAL_CONTENT {
            if let Some(entry) = rfc::combined(stored, &key, head, body, sequence) {
                self.put(url, entry);
            }
            return as_it_came(arrived);
        }
        let (status, headers, has_body) = rfc::answer_head(&head, asked, asking.now_ms());
        self.put(url, Entry { key, head, body: StoredBody::Whole(body), sequence });
        Given { status, headers, body: if has_body { arrived.body } else { Vec::new() } }
    }
}

fn given(entry: &Entry, asked: &Asked, now_ms: u64) -> Option<Given> {
    let answer = rfc::answer(entry, asked, now_ms)?;
    let body = match answer.body {
        AnswerBody::Empty => Vec::new(),
        AnswerBody::Bytes(bytes) => bytes.to_vec(),
        AnswerBody::Pieces(pieces) => pieces.concat(),
    };
    Some(Given { status: answer.status, headers: answer.headers, body })
}

fn as_it_came(arrived: Arrived) -> Given {
    Given { status: arrived.status, headers: arrived.headers, body: arrived.body }
}

fn own(status: StatusCode) -> Given {
    Given { status, headers: HeaderMap::new(), body: Vec::new() }
}
