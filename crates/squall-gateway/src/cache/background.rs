//! Fetching anew what was just served stale, behind the caller's back.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use squall_cache::Entry;
use squall_cache::rfc::{Asked, Forwarded};
use squall_types::trace::random;

use super::answer::Question;
use super::fetch::Fetch;
use super::flight::Turn;
use crate::origin::{Account, OriginRequest};

/// Begins to validate a stored response, unless somebody does so already.
pub(super) fn revalidate(
    question: &Question<'_>,
    request: &OriginRequest,
    account: &Account,
    stored: &Arc<Entry>,
) {
    let cache = question.cache;
    let Turn::Leads(lead) = cache.flights.turn(question.hash, question.store.sequence()) else {
        return;
    };
    let mut request = request.without_body();
    request.head.method = http::Method::GET;
    let (trace, identity) = (account.trace.child(random()), account.identity.clone());
    let mut account = Account::new(SystemTime::now(), Instant::now(), trace);
    account.identity = identity;
    account.is_refresh = true;
    let (backend, key, hash) = (question.backend.clone(), question.key.clone(), question.hash);
    let store = question.store.clone();
    let stored = stored.clone();
    tokio::spawn(async move {
        let (door, matched) = (request.door.clone(), request.matched.candidate.clone());
        let Some(plan) = &matched.route.policies.cache else { return };
        squall_cache::rfc::prepare_fetch(&mut request.head.headers, false);
        // The origin is asked for the whole of it, whatever the caller wanted.
        let (method, headers) = (&request.head.method, &request.head.headers);
        let asked = Asked::read(method, headers, &plan.rules, account.identity.is_some());
        let question =
            Question { cache: &door.cache, store, plan, backend: &backend, asked, key, hash };
        let fetch = Fetch { why: Forwarded::Stale, stored: Some(stored), stale_ttl_s: None };
        let fetched = question.fetch(request, &mut account, fetch, Some(lead)).await;
        if let Some(meter) = &account.meter {
            match &fetched {
                Ok(response) => meter.set_status(response.status().as_u16()),
                Err(rejection) => meter.fail(rejection.code),
            }
            meter.finish();
        }
    });
}
