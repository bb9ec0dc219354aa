//! The gateway's part of `squall.toml`: which requests go where, and under which policies.
//!
//! The vocabulary of matching and its precedence are those of the Gateway API's HTTPRoute
//! (<https://gateway-api.sigs.k8s.io/reference/spec/>): exact path, longest prefix, method,
//! number of headers, number of query parameters, order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod address;
mod body;
mod cache;
mod check;
mod explain;
mod identity;
mod limits;
mod matching;
mod part;
mod password;
mod path;
mod report;
mod transform;
mod upstream;

pub use address::AddressRules;
pub use body::{Compression, CompressionAlgorithm, Cors};
pub use cache::{Cache, CacheKey, CacheScope, SetCookie};
pub use explain::{
    Considered, Explain, ExplainQuery, ExplainedRejection, Explanation, PolicyOrigin, PolicyStep,
};
pub use identity::{ApiKeySource, Basic, IdentitySource, Jwt, JwtAlgorithm};
pub use limits::{
    ConcurrencyLimit, LIMIT_KEYS_MAX, LimitKey, Period, Plan, RATE_LIMITS_MAX, RateLimit,
    RequestLimits, Timeouts,
};
pub use matching::ValueMatch;
pub use part::{FunctionPart, GatewayPart, PartError};
pub use password::PasswordHash;
pub use path::{PathPattern, PathSegment};
pub use report::{
    CircuitState, LatencyBucket, ReportRoutes, ReportUpstreams, RouteReport, RoutesReport,
    TargetHealth, TargetReport, UpstreamReport, UpstreamsReport, latency_quantile_us,
};
pub use transform::{HeaderChanges, QueryChanges, Rewrite};
pub use upstream::{
    Balance, CircuitBreaker, HashKey, HealthCheck, OutlierEjection, Protocol, Retry, Upstream,
    UpstreamTarget, UpstreamTimeouts, UpstreamTls,
};

pub use check::compile_regex;
pub(crate) use check::gateway as check;
pub(crate) use path::check_escapes;

use crate::FunctionName;

/// What holds for the whole app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Policies of every route. What a route's own `policy` sets takes their place, one by
    /// one.
    pub policy: Policy,
    /// A header by which a request names the revision that answers it, such as
    /// `x-revision`: any that has a preview. Without it, only the traffic split decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_header: Option<String>,
    /// Whether revisions without traffic answer, each with the policies that it came with;
    /// yes unless `false`. The revision with most of the traffic decides for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previews: Option<bool>,
    /// Keeps a caller on one side of a traffic split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

impl Gateway {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What decides the side of a split on which a caller stays: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// A cookie of this name, which the gateway sets where it is missing.
    Cookie(String),
    /// The value of this header; a request without it is sent to any side.
    Header(String),
}

/// One route: which requests it takes, what is changed, and where they go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// For logs, metrics and `explain`; unique in the app. Without it `route-1`, by its
    /// place in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Hosts, of those that the app has: `api.example.com`, `*.example.com`. Empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Paths: exact (`/users`), a prefix (`/users/*`), or a template
    /// (`/users/{id}`, `/users/{id}/*`). One of them must match. Every path without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// A regular expression that the whole path must match, instead of `paths`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Empty for every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers that must match, all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters that must match, all of them; the first of a name counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueMatch>,

    /// Goes to a function of this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Goes to an upstream service of this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Goes to the app's static assets.
    #[serde(skip_serializing_if = "is_false")]
    pub assets: bool,
    /// Is answered as written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<FixedResponse>,
    /// Is sent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Goes to one of several, by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<WeightedTarget>,
    /// Keeps a caller on one side of `split`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,

    /// The path and host that a function or an upstream sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub request_headers: HeaderChanges,
    #[serde(skip_serializing_if = "QueryChanges::is_empty")]
    pub request_query: QueryChanges,
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub response_headers: HeaderChanges,

    /// What is set here takes the place of the app's.
    #[serde(skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
}

impl Route {
    /// Whether it, or a side of its split, goes to this function.
    pub fn leads_to(&self, function: &FunctionName) -> bool {
        let sides = self.split.iter().map(|side| &side.function);
        sides.chain([&self.function]).flatten().any(|name| name == function)
    }
}

/// One side of a split: a function or an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedTarget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Its part of the sum of all weights; 0 takes it out.
    pub weight: u32,
}

/// An answer without anybody behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedResponse {
    /// 200 to 599.
    pub status: u16,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Where a caller is sent. What is not given stays as it was in the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The whole path; `{name}` stands for a parameter of the route's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What takes the place of the matched prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "Redirect::usual_status")]
    pub status: u16,
}

impl Redirect {
    fn usual_status() -> u16 {
        302
    }
}

/// What is asked of a request before it reaches its target, and what is done to the
/// response. Everything is optional: what a route leaves out, the app decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What becomes of requests without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<Https>,
    /// `Strict-Transport-Security` of responses over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<AddressRules>,
    /// Names of `[identity]` tables; a caller must be known to one of them. An empty list
    /// lets everybody in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Vec<String>>,
    /// A caller who brings no credential is let in as nobody. A wrong one is still refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Scopes that a caller must have, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Every one of them must admit a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<Vec<RateLimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<RequestLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Whether the beginning of a body of announced length is waited for before the target is
    /// called: all of it, or 16 KiB. So it is without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_buffering: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

impl Policy {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This policy, with that of the app where it says nothing.
    #[must_use]
    pub fn over(&self, app: &Policy) -> Policy {
        macro_rules! merge {
            ($($field:ident),*) => {
                Policy { $($field: self.$field.clone().or_else(|| app.$field.clone()),)* }
            };
        }
        merge!(
            https,
            hsts,
            addresses,
            auth,
            anonymous,
            scopes,
            rate_limits,
            concurrency,
            limits,
            timeouts,
            request_buffering,
            cache,
            cors,
            compression,
            access_log
        )
    }
}

/// What becomes of requests that came without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Https {
    /// They are served.
    Optional,
    /// They are sent to the same URL with `https`, by status 308.
    Redirect,
    /// They are refused.
    Required,
}

/// RFC 6797.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// 0 takes back what was said before.
    pub max_age_s: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_subdomains: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub preload: bool,
}

/// Which requests have a line in the access log. The trace id decides, so that a trace is
/// logged whole, also where other routes sample fewer of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The part of all requests, 0 to 1.
    #[serde(default = "AccessLog::everything")]
    pub sample: f64,
    /// Requests answered with 500 or more are always logged.
    #[serde(default = "AccessLog::always")]
    pub errors: bool,
}

impl AccessLog {
    fn everything() -> f64 {
        1.0
    }
    fn always() -> bool {
        true
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
