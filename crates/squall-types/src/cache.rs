//! The edge cache as others see it: people who purge and look, and functions that keep
//! responses of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::FunctionSpec;
use crate::{AppName, Body, ErrorCode};

/// What a purge takes out of the cache of an app: one of the four.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PurgeTarget {
    /// Everything that the app has stored.
    All(#[serde(default)] bool),
    /// One URL, in all of its variants: `https://example.com/a?b=c`.
    Url(String),
    /// Every URL that begins so: `https://example.com/images/`.
    Prefix(String),
    /// Every response that had this tag in `Cache-Tag` or `Surrogate-Key`.
    Tag(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PurgeRequest {
    /// All of them, or none.
    pub targets: Vec<PurgeTarget>,
    /// What is purged softly is stale from now on: it may answer once more while it is
    /// fetched anew, and when that fails.
    #[serde(default)]
    pub soft: bool,
}

/// Targets of one request at most.
pub const PURGE_TARGETS_MAX: usize = 1_000;

/// What the cache did for an app since the node started, and what it holds for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheReport {
    pub routes: Vec<CacheRouteReport>,
    pub store: CacheStoreReport,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheRouteReport {
    pub app: String,
    pub route: String,
    /// Answered from the store, without asking anybody.
    pub hits: u64,
    /// Of `hits`: those that were stale.
    pub stale_hits: u64,
    /// Answered from the store after its origin said that nothing has changed.
    pub revalidated: u64,
    /// Answered by the origin's answer to another request.
    pub collapsed: u64,
    /// Answered by the origin.
    pub misses: u64,
    /// Requests that the cache can not answer, such as POST.
    pub bypassed: u64,
    /// Of bodies that no origin had to send.
    pub bytes_saved: u64,
    /// Sum over hits of how old they were.
    pub hit_age_s: u64,
}

/// The store is shared by all apps of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheStoreReport {
    pub memory_entries: u64,
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    pub disk_entries: u64,
    pub disk_bytes: u64,
    /// 0 without a disk tier.
    pub disk_bytes_max: u64,
}

/// What the cache has for a URL, and what it would do with a request for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheInspection {
    /// Of the route that would answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What its responses are found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What a request would get now, in a sentence.
    pub answer: String,
    /// Why the last response to this URL was not stored, where that is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_stored: Option<String>,
    pub variants: Vec<CacheVariant>,
}

/// One stored response of a URL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheVariant {
    /// `memory`, `disk`, or `memory, disk`.
    pub tier: String,
    pub status: u16,
    /// The request headers that it was chosen by.
    pub vary: Vec<String>,
    pub age_s: u64,
    /// By what its origin said. Negative once it is stale.
    pub ttl_s: i64,
    /// Stale by a purge, whatever its origin said: it may answer once more while it is fetched anew.
    #[serde(default)]
    pub soft_purged: bool,
    pub body_bytes: u64,
    /// Only ranges of the body are there.
    pub partial: bool,
    /// By `no-cache`: it is validated before it answers.
    pub must_validate: bool,
    pub tags: Vec<String>,
    pub headers: Vec<(String, String)>,
}

/// A URL to look at, and headers of the request that would be made.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CacheInspect {
    pub url: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{code} {}: {message}", code.title())]
pub struct CacheError {
    pub code: ErrorCode,
    pub message: String,
}

/// The cache for those who look after it. May write to disk: call it off the request cores.
pub trait CacheAdmin: Send + Sync + 'static {
    /// When it returns, no request that begins later gets what was purged, also after a
    /// restart.
    ///
    /// # Errors
    /// Fails on a target that is no URL, and when the purge can not be written down; it
    /// holds then until the node ends.
    fn purge(&self, app: &AppName, request: &PurgeRequest) -> Result<(), CacheError>;

    /// # Errors
    /// Fails on a URL that can not be read, or that leads to another app.
    fn inspect(&self, app: &AppName, inspect: &CacheInspect)
    -> Result<CacheInspection, CacheError>;

    fn report(&self, app: Option<&AppName>) -> CacheReport;
}

/// A request as a function's cache takes it: an absolute URI and headers. Only GET is
/// stored.
pub type CacheRequest = http::Request<()>;

pub type CacheFuture<T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send>>;

/// `caches.default` and `caches.open` of JavaScript: responses that the functions of an
/// app keep by themselves. They share them between revisions.
pub trait FunctionCaches: Send + Sync + 'static {
    /// A stored response that is fresh: whole, or 206 and 304 where the request asks for
    /// it. `name` is empty for the default cache.
    fn find(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<Option<http::Response<Body>>>;

    /// Stores what the response allows. The body is read to its end. False when it is not
    /// to be stored (`no-store`, `Set-Cookie`, a body that is too large).
    ///
    /// # Errors
    /// Fails when the body breaks off.
    fn put(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
        response: http::Response<Body>,
    ) -> CacheFuture<bool>;

    /// Whether there was something to remove.
    fn delete(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<bool>;
}
