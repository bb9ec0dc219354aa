//! A route, compiled: nothing of its configuration is parsed again on a request's way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use squall_types::FunctionName;
use squall_types::gateway::{self, Policy, compile_regex};
use squall_types::shard::Spread;
use squall_types::state::FunctionSpec;
use squall_types::usage::UpstreamKey;

use super::Compiling;
use super::condition::{Conditions, Wanted};
use super::sticky::Sticky;
use crate::policy::Policies;
use crate::proxy::UpstreamPool;
use crate::route_metrics::RouteMetrics;
use crate::transform::{HeaderPlan, QueryPlan, Redirection, RewritePlan};

pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    /// Its place among all routes of the revision.
    order: usize,
    pub(crate) conditions: Conditions,
    pub(crate) target: Target,
    pub(crate) rewrite: Option<RewritePlan>,
    pub(crate) request_headers: HeaderPlan,
    pub(crate) request_query: QueryPlan,
    pub(crate) response_headers: HeaderPlan,
    pub(crate) policies: Policies,
    pub(crate) metrics: Arc<RouteMetrics>,
    /// Its paths have parameters, which its target is told.
    pub(crate) has_parameters: bool,
}

/// Where a route leads.
pub(crate) enum Target {
    Backend(Backend),
    Split(Split),
    Response(Fixed),
    Redirect(Redirection),
}

/// Who answers by work of its own.
#[derive(Clone)]
pub(crate) enum Backend {
    Function(Arc<Spread<FunctionSpec>>),
    /// With what its usage is written down by.
    Upstream(Arc<Spread<UpstreamPool>>, Arc<Spread<UpstreamKey>>),
    /// The files of the app.
    Assets,
}

/// Several backends, by weight.
pub(crate) struct Split {
    /// With the sum of all weights up to and with its own.
    sides: Vec<(u32, Backend)>,
    pub(crate) sticky: Option<Sticky>,
}

impl Split {
    /// The side of a point, which is any number.
    pub(crate) fn choose(&self, point: u32) -> Option<&Backend> {
        let (sum, _) = self.sides.last()?;
        let place = point % sum;
        self.sides.iter().find(|(upto, _)| place < *upto).map(|(_, backend)| backend)
    }
}

pub(crate) struct Fixed {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Split {
    /// With the weight of each.
    pub(crate) fn sides(&self) -> impl Iterator<Item = (u32, &Backend)> {
        self.sides.iter().scan(0, |before, (upto, backend)| {
            let weight = upto - *before;
            *before = *upto;
            Some((weight, backend))
        })
    }
}

impl Route {
    /// What sorts routes of the same path, the first one first.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let conditions = &self.conditions;
        (
            conditions.methods.is_empty(),
            usize::MAX - conditions.headers.len(),
            usize::MAX - conditions.query.len(),
            self.order,
        )
    }

    /// Of the manifest's `[[routes]]`; `None` when it leads to what is not there, which a
    /// checked manifest never does.
    pub(crate) fn of_table(
        route: &gateway::Route,
        index: usize,
        order: usize,
        compiling: &Compiling<'_>,
    ) -> Option<Self> {
        let name = route.name.clone().unwrap_or_else(|| format!("route-{}", index + 1));
        let name: Arc<str> = name.into();
        let target = if let Some(name) = &route.function {
            Target::Backend(compiling.function(name)?)
        } else if let Some(name) = &route.upstream {
            Target::Backend(compiling.upstream(name)?)
        } else if route.assets {
            Target::Backend(Backend::Assets)
        } else if let Some(response) = &route.response {
            Target::Response(Fixed::new(response))
        } else if let Some(redirect) = &route.redirect {
            Target::Redirect(Redirection::new(redirect))
        } else {
            Target::Split(split(&name, route, compiling)?)
        };
        let has_parameters = route.paths.iter().any(|path| path.contains('{'))
            || route.path_regex.as_ref().is_some_and(|regex| has_names(regex));
        // Held while the policies are compiled: they count in it.
        let metrics = compiling.metrics(&name);
        Some(Self {
            order,
            conditions: conditions(route),
            target,
            rewrite: route.rewrite.as_ref().map(RewritePlan::new),
            request_headers: HeaderPlan::new(&route.request_headers),
            request_query: QueryPlan::new(&route.request_query),
            response_headers: HeaderPlan::new(&route.response_headers),
            policies: Policies::compile(&name, &route.policy, compiling),
            metrics,
            has_parameters,
            name,
        })
    }

    /// Of a function's own list of paths.
    pub(crate) fn of_function(
        function: &FunctionName,
        policy: &Policy,
        has_parameters: bool,
        order: usize,
        compiling: &Compiling<'_>,
    ) -> Option<Self> {
        let target = Target::Backend(compiling.function(function)?);
        let name = format!("function-{function}");
        Some(Self { has_parameters, ..Self::plain(&name, target, policy, order, compiling) })
    }

    /// What answers where no route does: the app's files.
    pub(crate) fn of_assets(order: usize, compiling: &Compiling<'_>) -> Self {
        Self::plain(
            "assets",
            Target::Backend(Backend::Assets),
            &Policy::default(),
            order,
            compiling,
        )
    }

    fn plain(
        name: &str,
        target: Target,
        policy: &Policy,
        order: usize,
        compiling: &Compiling<'_>,
    ) -> Self {
        let name: Arc<str> = name.into();
        let metrics = compiling.metrics(&name);
        Self {
            order,
            conditions: Conditions::default(),
            target,
            rewrite: None,
            request_headers: HeaderPlan::default(),
            request_query: QueryPlan::default(),
            response_headers: HeaderPlan::default(),
            policies: Policies::compile(&name, policy, compiling),
            metrics,
            has_parameters: false,
            name,
        }
    }
}

fn conditions(route: &gateway::Route) -> Conditions {
    let headers = route.headers.iter().filter_map(|(name, wanted)| {
        Some((HeaderName::try_from(name).ok()?, Wanted::new(wanted)?))
    });
    let query = route
        .query
        .iter()
        .filter_map(|(name, wanted)| Some((name.as_str().into(), Wanted::new(wanted)?)));
    Conditions {
        methods: route.methods.iter().filter_map(|name| Method::try_from(&**name).ok()).collect(),
        headers: headers.collect(),
        query: query.collect(),
    }
}

fn split(name: &str, route: &gateway::Route, compiling: &Compiling<'_>) -> Option<Split> {
    let mut sum = 0_u32;
    let mut compiled = Vec::new();
    for side in route.split.iter().filter(|side| side.weight > 0) {
        let backend = match (&side.function, &side.upstream) {
            (Some(name), _) => compiling.function(name)?,
            (None, Some(name)) => compiling.upstream(name)?,
            (None, None) => return None,
        };
        sum = sum.saturating_add(side.weight);
        compiled.push((sum, backend));
    }
    let domain = format!("route {name} of {}", compiling.revision.app);
    let sticky = route.sticky.as_ref().and_then(|sticky| Sticky::new(sticky, domain));
    Some(Split { sides: compiled, sticky })
}

/// Whether an expression has named groups.
fn has_names(pattern: &str) -> bool {
    compile_regex(pattern).is_ok_and(|regex| regex.capture_names().flatten().next().is_some())
}

impl Fixed {
    fn new(response: &gateway::FixedResponse) -> Self {
        let mut headers = header_map(&response.headers);
        if !response.body.is_empty() && !headers.contains_key(http::header::CONTENT_TYPE) {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(http::header::CONTENT_TYPE, text);
        }
        Self {
            status: StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK),
            headers,
            body: Bytes::copy_from_slice(response.body.as_bytes()),
        }
    }
}

fn header_map(headers: &BTreeMap<String, String>) -> HeaderMap {
    let parsed = headers.iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    });
    parsed.collect()
}
