//! The cache for those who look after it: purges, and why something was or was not stored.

use std::time::Instant;

use http::{HeaderMap, Method};
use squall_cache::Key;
use squall_cache::rfc::{self, Asked, Verdict};
use squall_cache::store::{Covered, Purge, State, Stored};
use squall_types::cache::{
    CacheAdmin, CacheError, CacheInspect, CacheInspection, CacheReport, CacheStoreReport,
    CacheVariant, PURGE_TARGETS_MAX, PurgeRequest, PurgeTarget,
};
use squall_types::gateway::ExplainQuery;
use squall_types::{AppName, ErrorCode};

use super::now_ms;
use super::plan::{CachePlan, Wanted};
use crate::rejection::Rejection;
use crate::routing::{Asked as AskedRoute, Backend, Match, Target};
use crate::{Gateway, explain, guard};

impl CacheAdmin for Gateway {
    fn purge(&self, app: &AppName, request: &PurgeRequest) -> Result<(), CacheError> {
        if request.targets.is_empty() || request.targets.len() > PURGE_TARGETS_MAX {
            let message = format!("name 1 to {PURGE_TARGETS_MAX} targets in one request");
            return Err(refuse(message));
        }
        let mut covered = Vec::new();
        for target in &request.targets {
            covered.extend(self.covered(app, target)?);
        }
        let store = self.0.cache.store_of_all().ok_or_else(|| CacheError {
            code: ErrorCode::StorageFailed,
            message: "the server before this one still has the cache's disk; try again".into(),
        })?;
        for what in covered {
            let purge = Purge { app: app.clone(), what, soft: request.soft };
            store.purge(&purge).map_err(|cause| CacheError {
                code: ErrorCode::StorageFailed,
                message: format!(
                    "the purge holds, but only until the node ends: it could not be written down ({cause})"
                ),
            })?;
        }
        Ok(())
    }

    fn inspect(
        &self,
        app: &AppName,
        inspect: &CacheInspect,
    ) -> Result<CacheInspection, CacheError> {
        let found = self.resolve(app, &inspect.url, &inspect.headers)?;
        let (matched, target, headers, https) = &found;
        let route = matched.route();
        let mut inspection =
            CacheInspection { route: Some(route.name.to_string()), ..CacheInspection::default() };
        let Some(plan) = &route.policies.cache else {
            inspection.answer = "its route has no cache; add a cache table to its policy".into();
            return Ok(inspection);
        };
        let backends: Vec<&Backend> = match &route.target {
            Target::Backend(backend) => vec![backend],
            Target::Split(split) => split.sides().map(|(_, backend)| backend).collect(),
            Target::Response(_) | Target::Redirect(_) => Vec::new(),
        };
        let wanted = Wanted { matched, https: *https, target, headers };
        for backend in backends {
            self.inspect_key(plan, plan.key(&wanted, backend), headers, &mut inspection);
        }
        if inspection.answer.is_empty() {
            inspection.answer = "the gateway answers by itself; nothing is stored".into();
        }
        Ok(inspection)
    }

    fn report(&self, app: Option<&AppName>) -> CacheReport {
        let store = self.0.cache.store();
        let stats = store.stats();
        let budget = store.settings();
        CacheReport {
            routes: self.0.route_metrics.cache_reports(app),
            store: CacheStoreReport {
                memory_entries: stats.memory_entries,
                memory_bytes: stats.memory_bytes,
                memory_bytes_max: budget.memory_bytes,
                disk_entries: stats.disk_entries,
                disk_bytes: stats.disk_bytes,
                disk_bytes_max: budget.disk.as_ref().map_or(0, |disk| disk.bytes),
            },
        }
    }
}

type Resolved = (Match, guard::Target, HeaderMap, bool);

impl Gateway {
    /// What a target means for keys. A URL is purged as it is written and as the route's
    /// rules write it.
    fn covered(&self, app: &AppName, target: &PurgeTarget) -> Result<Vec<Covered>, CacheError> {
        Ok(match target {
            PurgeTarget::All(true) => vec![Covered::All],
            PurgeTarget::All(false) => return Err(refuse("all = false purges nothing".into())),
            PurgeTarget::Tag(tag) if tag.is_empty() => {
                return Err(refuse("the tag is empty".into()));
            }
            PurgeTarget::Tag(tag) => vec![Covered::Tag(tag.as_str().into())],
            PurgeTarget::Prefix(prefix) => {
                let url = rfc::normalised_url(prefix).map_err(refuse)?;
                vec![Covered::Prefix(url.into())]
            }
            PurgeTarget::Url(url) => {
                let as_written = rfc::normalised_url(url).map_err(refuse)?;
                let mut urls = vec![Covered::Url(as_written.as_str().into())];
                if let Ok((matched, target, headers, https)) = self.resolve(app, url, &[])
                    && let Some(plan) = &matched.route().policies.cache
                {
                    let wanted =
                        Wanted { matched: &matched, https, target: &target, headers: &headers };
                    let by_rules = plan.url(&wanted);
                    if by_rules != as_written {
                        urls.push(Covered::Url(by_rules.into()));
                    }
                }
                urls
            }
        })
    }

    /// The route of an app that would answer a GET for the URL.
    fn resolve(
        &self,
        app: &AppName,
        url: &str,
        headers: &[(String, String)],
    ) -> Result<Resolved, CacheError> {
        let told =
            |rejection: Rejection| CacheError { code: rejection.code, message: rejection.message };
        rfc::normalised_url(url).map_err(refuse)?;
        let https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let query = ExplainQuery {
            method: Method::GET.to_string(),
            url: url.to_owned(),
            headers: headers.to_vec(),
            client: None,
            https,
            app: Some(app.clone()),
        };
        let (head, target) = explain::read(&query).map_err(told)?;
        let table = self.0.routes.load();
        let chosen = table.choose(&format!("{app}.localhost"), &head.headers).map_err(told)?;
        let asked = AskedRoute {
            method: &head.method,
            path: target.path(),
            query: target.path_and_query.query(),
            headers: &head.headers,
        };
        let found = chosen.find(target.host(), &asked).map_err(told)?;
        Ok((chosen.with(found), target, head.headers, https))
    }

    fn inspect_key(
        &self,
        plan: &CachePlan,
        key: Key,
        headers: &HeaderMap,
        inspection: &mut CacheInspection,
    ) {
        let cache = &self.0.cache;
        let asked = Asked::read(&Method::GET, headers, &plan.rules, false);
        let (hash, now_ms) = (key.hash(), now_ms());
        let stored = cache.store().inspect(&hash);
        let selected = stored
            .iter()
            .filter(|one| one.head.variant == rfc::variant(&one.head.vary, headers))
            .filter(|one| one.state != State::Purged)
            .max_by_key(|one| one.head.received_at_ms);
        inspection.answer = match (asked.passes(), selected) {
            (Some(_), _) => "the request goes past the cache".to_owned(),
            (None, None) if stored.is_empty() => "nothing is stored for it".to_owned(),
            (None, None) => "only other variants are stored".to_owned(),
            (None, Some(one)) => {
                let soft = one.state == State::SoftPurged;
                verdict(&rfc::judge(&one.head, &asked, soft, now_ms), soft)
            }
        };
        inspection.key = Some(key.url.to_string());
        inspection.not_stored = cache.unstored.why(&hash, Instant::now()).map(str::to_owned);
        inspection.variants.extend(stored.iter().map(|one| variant(one, now_ms)));
    }
}

fn verdict(verdict: &Verdict, soft_purged: bool) -> String {
    match verdict {
        Verdict::Serve { age_s, ttl_s } => {
            format!("a hit: it is {age_s} s old and fresh for {ttl_s} s")
        }
        Verdict::ServeAndRevalidate { age_s, .. } if soft_purged => format!(
            "a stale hit: it is {age_s} s old, was purged softly, and is fetched anew behind"
        ),
        Verdict::ServeAndRevalidate { age_s, ttl_s } => format!(
            "a stale hit: it is {age_s} s old, {} s too old, and is fetched anew behind",
            ttl_s.unsigned_abs()
        ),
        Verdict::Validate { on_error: true, .. } => {
            "its origin is asked first; it answers when that fails".to_owned()
        }
        Verdict::Validate { on_error: false, .. } => "its origin is asked first".to_owned(),
    }
}

fn variant(one: &Stored, now_ms: u64) -> CacheVariant {
    let tiers = [(one.in_memory, "memory"), (one.disk_bytes.is_some(), "disk")];
    let tiers: Vec<&str> =
        tiers.into_iter().filter(|(there, _)| *there).map(|(_, tier)| tier).collect();
    let head = &one.head;
    CacheVariant {
        tier: tiers.join(", "),
        status: head.status.as_u16(),
        vary: head.vary.iter().map(ToString::to_string).collect(),
        age_s: rfc::age_s(head, now_ms),
        ttl_s: rfc::ttl_s(head, now_ms),
        soft_purged: one.state == State::SoftPurged,
        body_bytes: one.body_bytes,
        partial: one.partial,
        must_validate: head.freshness.no_cache,
        tags: head.tags.iter().map(ToString::to_string).collect(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
    }
}

fn refuse(message: String) -> CacheError {
    CacheError { code: ErrorCode::InvalidRequest, message }
}
