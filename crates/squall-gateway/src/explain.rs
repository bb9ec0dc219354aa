//! What would become of a request: the same table, the same conditions, put into words.

use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Uri, Version};
use squall_types::ErrorCode;
use squall_types::gateway::{
    Considered, Explain, ExplainQuery, ExplainedRejection, Explanation, Policy, PolicyOrigin,
    PolicyStep,
};
use squall_types::manifest::Manifest;
use squall_types::state::Snapshot;

use crate::guard;
use crate::inert::inert_contracts;
use crate::policy::{self, Reply};
use crate::rejection::Rejection;
use crate::routing::condition::Verdict;
use crate::routing::{Asked, Backend, Candidate, Chosen, Compiled, Route, RouteTable, Target};
use crate::transform;
use crate::{Door, Gateway, Options};

/// Routes that are named beside the one that wins; an app may have thousands.
const CONSIDERED_MAX: usize = 100;

impl Explain for Gateway {
    fn explain(&self, query: &ExplainQuery) -> Explanation {
        explain(&self.0, query)
    }
}

/// Explains a manifest as if it were the only app of a node.
pub fn explain_manifest(manifest: &Manifest, query: &ExplainQuery) -> Explanation {
    let gateway = Gateway::new(Options::default(), inert_contracts());
    let snapshot = Snapshot { version: 1, apps: vec![crate::inert::deployed(manifest)] };
    let table = RouteTable::compile(&snapshot, &RouteTable::default(), &gateway.0);
    gateway.0.routes.store(Arc::new(table));
    explain(&gateway.0, query)
}

fn explain(door: &Arc<Door>, query: &ExplainQuery) -> Explanation {
    let mut explanation = Explanation::default();
    if let Err(rejection) = fill(door, query, &mut explanation) {
        explanation.rejection =
            Some(ExplainedRejection { code: rejection.code, message: rejection.message });
    }
    explanation
}

fn fill(
    door: &Arc<Door>,
    query: &ExplainQuery,
    explanation: &mut Explanation,
) -> Result<(), Rejection> {
    let (mut head, target) = read(query)?;
    guard::check_underscores(door.options.underscore_headers, &mut head.headers)?;
    let table = door.routes.load();
    let chosen = match &query.app {
        Some(app) => table.choose(&format!("{app}.localhost"), &head.headers)?,
        None => table.choose(target.host(), &head.headers)?,
    };
    explanation.app = Some(chosen.site.app.name.clone());
    explanation.revision = Some(chosen.compiled.revision.id.clone());
    let shares = &chosen.site.app.traffic;
    if shares.len() > 1 {
        let named = shares.iter().map(|share| (share.revision.id.clone(), share.percent));
        explanation.traffic = named.collect();
    }
    explanation.host = Some(match &query.app {
        Some(_) => "as asked".to_owned(),
        None => table.describe_host(target.host()),
    });

    let preflight = policy::preflight_for(&head);
    let asked = |method| Asked {
        method,
        path: target.path(),
        query: target.path_and_query.query(),
        headers: &head.headers,
    };
    let matched = preflight
        .as_ref()
        .and_then(|method| {
            let found = chosen.find(target.host(), &asked(method)).ok();
            found.or_else(|| chosen.of_path(target.host(), target.path()))
        })
        .filter(|candidate| candidate.route.policies.cors.is_some());
    let method = if matched.is_some() { preflight.as_ref() } else { None };
    let method = method.unwrap_or(&head.method);
    let found = match matched {
        Some(matched) => Ok(matched),
        None => chosen.find(target.host(), &asked(method)),
    };
    let winner = found.as_deref().ok();
    explanation.considered = considered(&chosen, winner, target.host(), &asked(method));
    let matched = found?;

    let Candidate { route, by } = &*matched;
    explanation.route = Some(route.name.to_string());
    explanation.matched_by = Some(matched_by(&matched));
    explanation.target = Some(describe_target(&route.target));
    explanation.rewritten = sent(&matched, &head.method, &target);
    if let Target::Redirect(redirect) = &route.target {
        let scheme = if query.https { "https" } else { "http" };
        let port = door.options.https_port;
        let location =
            redirect.location(scheme, &target.authority, port, by, &target.path_and_query);
        explanation.target = Some(format!("redirect {} to {location}", redirect.status.as_u16()));
    }
    let own = own_policy(&chosen.compiled, &route.name);
    explanation.policies = steps(&route.policies.settings, own);
    answered_before(door, query, &head, &target, route, explanation)
}

/// What the route does with everybody before its target is asked, in the order in which the door
/// does it.
fn answered_before(
    door: &Door,
    query: &ExplainQuery,
    head: &http::request::Parts,
    target: &guard::Target,
    route: &Route,
    explanation: &mut Explanation,
) -> Result<(), Rejection> {
    let policies = &route.policies;
    if let (Some(client), Some(addresses)) = (query.client, &policies.addresses) {
        addresses.check(client)?;
    }
    let mut reply = Reply::default();
    policies.read(&head.headers, &mut reply);
    let instead = if let Some(answer) = policies.preflight(head, &mut reply) {
        format!("response {} to the preflight, by cors", answer.status().as_u16())
    } else if let Some(answer) =
        policies.https.check(query.https, target, door.options.https_port)?
    {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let (status, location) = (answer.status().as_u16(), location.unwrap_or_default());
        format!("redirect {status} to {location}, by https")
    } else {
        return policy::size::check(&policies.limits, head, target, 0);
    };
    explanation.target = Some(instead);
    explanation.rewritten = None;
    Ok(())
}

/// The request as its target sees it; `None` where it is as it came.
fn sent(candidate: &Candidate, method: &Method, target: &guard::Target) -> Option<String> {
    let Candidate { route, by } = candidate;
    let mut asked = target.path_and_query.clone();
    if let Some(authenticator) = &route.policies.authenticator {
        authenticator.remove_credentials(&mut HeaderMap::new(), &mut asked, None);
    }
    let path = transform::rewrite(route.rewrite.as_ref(), &route.request_query, by, &asked);
    let host = route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_deref());
    let backends: Vec<&Backend> = match &route.target {
        Target::Backend(backend) => vec![backend],
        Target::Split(split) => split.sides().map(|(_, backend)| backend).collect(),
        Target::Response(_) | Target::Redirect(_) => Vec::new(),
    };
    let origins = backends.iter().filter_map(|backend| match backend {
        Backend::Upstream(pool, _) => Some(pool),
        Backend::Function(_) | Backend::Assets => None,
    });
    let origins = origins.flat_map(|pool| pool.origins.iter().map(move |origin| (pool, origin)));
    let path_and_query = path.as_ref().unwrap_or(&asked);
    let mut all: Vec<String> = origins
        .map(|(pool, origin)| {
            let asked = pool.settings.pass_host.then_some(&*target.authority);
            let host = host.or(asked).unwrap_or(&origin.authority);
            format!("{method} {host}{}{path_and_query}", origin.prefix)
        })
        .collect();
    if all.is_empty() && (path.is_some() || host.is_some()) {
        all.push(format!("{method} {}{path_and_query}", host.unwrap_or(&target.authority)));
    }
    all.dedup();
    (!all.is_empty()).then(|| all.join(", or "))
}

/// The request, as the door would read it.
pub(crate) fn read(
    query: &ExplainQuery,
) -> Result<(http::request::Parts, guard::Target), Rejection> {
    let malformed = |message: String| Rejection::new(ErrorCode::MalformedRequest, message);
    let mut head = http::Request::new(()).into_parts().0;
    head.method = Method::from_bytes(query.method.as_bytes())
        .map_err(|_| malformed(format!("{:?} is not a method", query.method)))?;
    let url: Uri =
        query.url.parse().map_err(|error| malformed(format!("{:?}: {error}", query.url)))?;
    if let Some(scheme) = url.scheme_str().filter(|scheme| !matches!(*scheme, "http" | "https")) {
        return Err(malformed(format!("{scheme} is not served here; ask for http:// or https://")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &query.headers {
        let name = HeaderName::try_from(name)
            .map_err(|_| malformed(format!("{name:?} can not be the name of a header")))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| malformed(format!("{value:?} can not be sent in a header")))?;
        headers.append(name, value);
    }
    if let Some(authority) = url.authority()
        && !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
    head.uri = url.path_and_query().map_or_else(
        || Uri::from_static("/"),
        |path| {
            // A path alone is a URI.
            Uri::from(path.clone())
        },
    );
    head.headers = headers;
    let target = guard::check(&head.method, Version::HTTP_11, &head.uri, &head.headers)?;
    Ok((head, target))
}

/// Every other route, first those whose path fits, each with what it lost by.
fn considered(
    chosen: &Chosen,
    winner: Option<&Candidate>,
    host: &str,
    asked: &Asked<'_>,
) -> Vec<Considered> {
    let compiled = &chosen.compiled;
    let mut known: Vec<&str> = Vec::new();
    let mut considered = Vec::new();
    if let Some(winner) = winner {
        known.push(&winner.route.name);
    }
    for candidate in compiled.of_path(host, asked.path) {
        let route = &candidate.route;
        if known.contains(&&*route.name) {
            continue;
        }
        known.push(&route.name);
        let why_not = match route.conditions.judge(asked) {
            Verdict::OtherMethod => {
                let methods: Vec<&str> =
                    route.conditions.methods.iter().map(Method::as_str).collect();
                format!("{} is not among its methods, {}", asked.method, methods.join(", "))
            }
            Verdict::Header(name) => format!("the header {name} is missing or not as it asks"),
            Verdict::Query(name) => format!("the query has no {name} as it asks"),
            Verdict::Takes => {
                format!("{} matches too, and ranks lower", candidate.by.describe())
            }
        };
        considered.push(Considered { route: route.name.to_string(), why_not });
    }
    for route in &compiled.routes {
        if considered.len() >= CONSIDERED_MAX {
            break;
        }
        if known.contains(&&*route.name) {
            continue;
        }
        let why_not = "its path or host is another".to_owned();
        considered.push(Considered { route: route.name.to_string(), why_not });
    }
    considered
}

fn matched_by(candidate: &Candidate) -> String {
    let conditions = &candidate.route.conditions;
    let mut text = candidate.by.describe();
    if !conditions.methods.is_empty() {
        let methods: Vec<&str> = conditions.methods.iter().map(Method::as_str).collect();
        text.push_str(&format!(", method {}", methods.join(" or ")));
    }
    for (name, _) in &conditions.headers {
        text.push_str(&format!(", header {name}"));
    }
    for (name, _) in &conditions.query {
        text.push_str(&format!(", query {name}"));
    }
    text
}

fn describe_target(target: &Target) -> String {
    match target {
        Target::Backend(backend) => describe_backend(backend),
        Target::Response(fixed) => format!("response {}", fixed.status.as_u16()),
        Target::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
        Target::Split(split) => {
            let sides = split
                .sides()
                .map(|(weight, backend)| format!("{} ({weight})", describe_backend(backend)));
            format!("split: {}", sides.collect::<Vec<_>>().join(", "))
        }
    }
}

fn describe_backend(backend: &Backend) -> String {
    match backend {
        Backend::Function(function) => format!("function {}", function.key.function),
        Backend::Upstream(pool, _) => format!("upstream {}", pool.name),
        Backend::Assets => "assets".to_owned(),
    }
}

/// What the manifest gives to the route itself.
fn own_policy<'c>(compiled: &'c Compiled, name: &str) -> Option<&'c Policy> {
    let manifest = &compiled.revision.manifest;
    if let Some(function) = name.strip_prefix("function-") {
        let mut functions = manifest.functions.iter();
        let found = functions.find(|(name, _)| name.as_str() == function);
        if let Some((_, function)) = found {
            return Some(&function.policy);
        }
    }
    let mut routes = manifest.routes.iter().enumerate();
    let found = routes.find(|(index, route)| match &route.name {
        Some(own) => own == name,
        None => format!("route-{}", index + 1) == name,
    });
    found.map(|(_, route)| &route.policy)
}

/// What is configured, in the order in which it runs.
fn steps(settings: &Policy, own: Option<&Policy>) -> Vec<PolicyStep> {
    let nothing = Policy::default();
    let own = own.unwrap_or(&nothing);
    let mut steps = Vec::new();
    // The manifest's own spelling says it shortest, and stays true when a key is added.
    macro_rules! step {
        ($($field:ident),*) => {
            $(if let Some(setting) = &settings.$field {
                let from = match own.$field {
                    Some(_) => PolicyOrigin::Route,
                    None => PolicyOrigin::App,
                };
                let setting = serde_json::to_string(setting).unwrap_or_default();
                steps.push(PolicyStep { name: stringify!($field).to_owned(), setting, from });
            })*
        };
    }
    step!(
        addresses,
        cors,
        https,
        limits,
        rate_limits,
        auth,
        anonymous,
        scopes,
        concurrency,
        request_buffering,
        timeouts,
        cache,
        hsts,
        compression,
        access_log
    );
    steps
}

#[cfg(test)]
mod tests;
