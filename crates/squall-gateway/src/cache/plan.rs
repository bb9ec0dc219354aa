//! What a route says of the cache, compiled.

use std::sync::Arc;

use http::HeaderMap;
use squall_cache::rfc::KeyPlan;
use squall_cache::{Key, Space};
use squall_types::gateway::{Cache, CacheScope};

use super::CacheCounters;
use crate::guard;
use crate::origin::OriginRequest;
use crate::routing::{Backend, Compiling, Match};

pub(crate) struct CachePlan {
    pub(super) rules: Cache,
    pub(super) counters: Arc<CacheCounters>,
    /// Larger bodies are not stored; the node's limit without it.
    pub(super) object_max_bytes: Option<u64>,
    keys: KeyPlan,
    /// What divides the entries of an app: the route, for two of them may answer at the same
    /// URL, and for what belongs to a revision that as well.
    part_of_app: Box<str>,
    part_of_revision: Box<str>,
}

impl CachePlan {
    pub(crate) fn compile(
        rules: &Cache,
        route: &str,
        counters: Arc<CacheCounters>,
        compiling: &Compiling<'_>,
    ) -> Option<Self> {
        rules.enabled.then(|| Self {
            keys: KeyPlan::compile(&rules.key),
            object_max_bytes: rules.object_max_bytes,
            part_of_app: format!("route {route}").into(),
            part_of_revision: format!("route {route} of {}", compiling.revision.id).into(),
            rules: rules.clone(),
            counters,
        })
    }

    /// What the response is found by.
    pub(super) fn key(&self, wanted: &Wanted<'_>, backend: &Backend) -> Key {
        let usual = match backend {
            Backend::Upstream(..) => CacheScope::App,
            Backend::Function(_) | Backend::Assets => CacheScope::Revision,
        };
        let part = match self.rules.key.scope.unwrap_or(usual) {
            CacheScope::App => &self.part_of_app,
            CacheScope::Revision => &self.part_of_revision,
        };
        let part = match (wanted.matched.splits(), backend) {
            (false, _) | (true, Backend::Assets) => part.clone(),
            (true, Backend::Function(function)) => {
                format!("{part} to function {}", function.key.function).into()
            }
            (true, Backend::Upstream(pool, _)) => {
                format!("{part} to upstream {}", pool.name).into()
            }
        };
        Key {
            space: Space { app: wanted.matched.app().name.clone(), part },
            url: self.url(wanted).into(),
            extra: self.keys.extra(wanted.headers).into(),
        }
    }

    /// Takes from a request the parameters that are not part of its key and could change the
    /// response: that is kept for others, who did not say them.
    pub(super) fn narrow(&self, request: &mut OriginRequest) {
        let path = &request.target.path_and_query;
        if let Some(query) = self.keys.query(path) {
            let separator = if query.is_empty() { "" } else { "?" };
            let narrowed = format!("{}{separator}{query}", path.path());
            // Parts of what was a path and a query.
            if let Ok(narrowed) = narrowed.parse() {
                request.target.path_and_query = narrowed;
            }
        }
    }

    /// The URL that the caller asked for, by the route's rules.
    pub(super) fn url(&self, wanted: &Wanted<'_>) -> String {
        let target = wanted.target;
        self.keys.url(wanted.https, &target.authority, &target.path_and_query)
    }
}

/// What a key is made of.
pub(super) struct Wanted<'a> {
    pub(super) matched: &'a Match,
    pub(super) https: bool,
    pub(super) target: &'a guard::Target,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> Wanted<'a> {
    pub(super) fn by(request: &'a OriginRequest) -> Self {
        let OriginRequest { matched, client, target, head, .. } = request;
        Self { matched, https: client.https, target, headers: &head.headers }
    }
}
