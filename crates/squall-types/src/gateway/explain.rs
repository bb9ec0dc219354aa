//! What the gateway would do with a request, and why: asked by `squall gateway explain`
//! and answered by the rules that requests themselves go by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{AppName, ErrorCode, RevisionId};

/// A request that is only asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    pub method: String,
    /// `https://api.example.com/users/7?v=2`. A `host` header takes the place of its host.
    pub url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Where the request comes from; address rules are left undecided without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Whether it came with TLS.
    #[serde(default)]
    pub https: bool,
    /// As if the request had reached this app, whatever its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
}

/// The answer. Where a request ends early, what comes after is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The one that answers. Where several share the traffic, one of them: the routes below are
    /// its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionId>,
    /// Percent of the requests by revision, where several share them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<RevisionId, u8>,
    /// How the host led to the app: `shop.localhost`, `*.example.com`, `any host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The route that wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What it won by: `exact path /users, method GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<String>,
    /// Where the request goes: `function api`, `upstream users`, `assets`, `response 410`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Method, host and path of the request as an upstream sees it, or as another target does
    /// where they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
    /// The other routes of the app, in their order of precedence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<Considered>,
    /// What would run, in the order in which it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyStep>,
    /// What the caller would be told instead, as far as the configuration decides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<ExplainedRejection>,
}

/// A route that did not win.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Considered {
    pub route: String,
    /// `method is not POST`, `matches, but its prefix is shorter`.
    pub why_not: String,
}

/// One policy that would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PolicyStep {
    /// Its key in the manifest: `rate_limits`.
    pub name: String,
    /// What it would do, for people: `100 per second by ip`.
    pub setting: String,
    pub from: PolicyOrigin,
}

/// Who set a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyOrigin {
    Route,
    App,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExplainedRejection {
    #[schemars(with = "String")]
    pub code: ErrorCode,
    pub message: String,
}

/// Explains against the configuration that is live at this moment.
pub trait Explain: Send + Sync + 'static {
    fn explain(&self, query: &ExplainQuery) -> Explanation;
}
