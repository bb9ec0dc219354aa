//! Rules beyond the shape of the document: names that must exist, patterns that must
//! parse, targets of which a route has exactly one. Errors name the key and the fix.

use std::collections::{BTreeMap, BTreeSet};

use super::path::check_escapes;
use super::transform::check_changeable;
use super::{PathPattern, Policy, RateLimit, Route, Sticky, ValueMatch};
use crate::manifest::Manifest;

type Checked = Result<(), String>;

/// Largest compiled size of one regular expression.
const REGEX_MAX_BYTES: usize = 1 << 20;

pub(super) fn header_name(at: &str, name: &str) -> Checked {
    match http::HeaderName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{at}: {name:?} can not be the name of a header")),
    }
}

pub(super) fn header_value(at: &str, name: &str, value: &str) -> Checked {
    match http::HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{at}.{name}: {value:?} can not be sent in a header")),
    }
}

pub(super) fn cookie_name(at: &str, name: &str) -> Checked {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        return Ok(());
    }
    Err(format!("{at}: {name:?} can not be the name of a cookie"))
}

pub(super) fn method(at: &str, name: &str) -> Checked {
    let known = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
    if known && name != "CONNECT" && name != "TRACE" {
        return Ok(());
    }
    Err(format!("{at}: {name:?} is not a method that is served; write \"GET\""))
}

/// The expression as it is used: the whole value must match.
///
/// # Errors
/// What is wrong with it.
pub fn compile_regex(pattern: &str) -> Result<regex::Regex, String> {
    let build = |text: &str| {
        let built = regex::RegexBuilder::new(text).size_limit(REGEX_MAX_BYTES).build();
        built
            .map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
    };
    // By itself first: its parentheses must not close ours. A line's end closes the comment that
    // an expression with (?x) may end with.
    build(pattern)?;
    build(&format!("^(?:{pattern})$")).or_else(|_| build(&format!("^(?:{pattern}\n)$")))
}

fn host(at: &str, pattern: &str) -> Checked {
    let name = pattern.strip_prefix("*.").unwrap_or(pattern);
    let good = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        });
    if good {
        return Ok(());
    }
    Err(format!(
        "{at}: {pattern:?} is not a host name in lower case, such as \"api.example.com\" or \"*.example.com\""
    ))
}

/// Names are printed on terminals and in logs.
fn names(at: &str, names: impl IntoIterator<Item = impl AsRef<str>>) -> Checked {
    let mut names = names.into_iter();
    let bad = |name: &str| name.is_empty() || name.chars().any(char::is_control);
    match names.find(|name| bad(name.as_ref())) {
        Some(name) => Err(format!("{at}: {:?} is no name", name.as_ref())),
        None => Ok(()),
    }
}

pub(crate) fn gateway(manifest: &Manifest) -> Checked {
    names("upstreams", manifest.upstreams.keys())?;
    names("identity", manifest.identity.keys())?;
    names("plans", manifest.plans.keys())?;
    names("routes", manifest.routes.iter().filter_map(|route| route.name.as_ref()))?;
    let known = &manifest.gateway;
    policy("gateway.policy", &known.policy, manifest)?;
    if manifest.assets.is_some() {
        // Files are served where no route is, under the app's own policy.
        scopes_of_somebody("gateway.policy", &Policy::default(), manifest)?;
    }
    if let Some(name) = &known.revision_header {
        header_name("gateway.revision_header", name)?;
        check_changeable("gateway.revision_header", name)?;
    }
    if let Some(key) = &known.sticky {
        sticky("gateway.sticky", key)?;
    }
    for (name, upstream) in &manifest.upstreams {
        upstream.check(&format!("upstreams.{name}"))?;
    }
    for (name, source) in &manifest.identity {
        source.check(&format!("identity.{name}"))?;
    }
    for (name, plan) in &manifest.plans {
        plan.check(name)?;
    }
    for (name, function) in &manifest.functions {
        let at = format!("functions.{name}.policy");
        policy(&at, &function.policy, manifest)?;
        scopes_of_somebody(&at, &function.policy, manifest)?;
    }
    // Those of routes that are not in the list: metrics and `explain` know them by name too.
    let mut names: BTreeSet<String> =
        manifest.functions.keys().map(|name| format!("function-{name}")).collect();
    names.insert("assets".to_owned());
    for (index, one) in manifest.routes.iter().enumerate() {
        let at = match &one.name {
            Some(name) => format!("routes.{name}"),
            None => format!("routes[{}]", index + 1),
        };
        route(&at, one, manifest)?;
        let name = one.name.clone().unwrap_or_else(|| format!("route-{}", index + 1));
        if !names.insert(name.clone()) {
            return Err(format!(
                "{at}: two routes are named {name}; names are unique in an app, and \"assets\" and \"function-NAME\" stand for the app's files and functions"
            ));
        }
    }
    Ok(())
}

/// Whether a header may decide before it is known who calls: `instead` is what to use for those
/// that say it afterwards.
pub(super) fn written_by_callers(at: &str, name: &str, instead: &str) -> Checked {
    if !name.to_ascii_lowercase().starts_with("x-squall-") {
        return Ok(());
    }
    Err(format!(
        "{at}: {name} is set for the target, and until then is what the caller wrote; {instead}"
    ))
}

fn sticky(at: &str, key: &Sticky) -> Checked {
    match key {
        Sticky::Header(name) => {
            header_name(at, name)?;
            written_by_callers(at, name, "keep callers by a cookie")
        }
        Sticky::Cookie(name) => cookie_name(at, name),
    }
}

/// As RFC 6749, section 3.3, has them.
pub(super) fn scopes(at: &str, scopes: &[String]) -> Checked {
    let plain = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    let is_scope = |scope: &&String| !scope.is_empty() && scope.bytes().all(plain);
    match scopes.iter().find(|scope| !is_scope(scope)) {
        Some(wrong) => Err(format!("{at}: {wrong:?} is no scope; write one word for each")),
        None => Ok(()),
    }
}

fn policy(at: &str, policy: &Policy, manifest: &Manifest) -> Checked {
    if let Some(rules) = &policy.addresses {
        rules.check(&format!("{at}.addresses"))?;
    }
    for source in policy.auth.iter().flatten() {
        if !manifest.identity.contains_key(source) {
            return Err(format!(
                "{at}.auth names {source:?}, but there is no [identity.{source}]; add [identity.{source}.jwt], .api_key or .basic"
            ));
        }
    }
    scopes(&format!("{at}.scopes"), policy.scopes.as_deref().unwrap_or_default())?;
    RateLimit::check_list(
        &format!("{at}.rate_limits"),
        policy.rate_limits.as_deref().unwrap_or_default(),
    )?;
    if let Some(limit) = &policy.concurrency {
        limit.check(&format!("{at}.concurrency"))?;
    }
    if let Some(cache) = &policy.cache {
        cache.check(&format!("{at}.cache"))?;
    }
    if let Some(cors) = &policy.cors {
        cors.check(&format!("{at}.cors"))?;
    }
    if let Some(compression) = &policy.compression {
        compression.check(&format!("{at}.compression"))?;
    }
    if policy.timeouts.as_ref().is_some_and(|times| times.response_ms == Some(0)) {
        return Err(format!("{at}.timeouts.response_ms must be at least 1"));
    }
    if policy.access_log.as_ref().is_some_and(|log| !(0.0..=1.0).contains(&log.sample)) {
        return Err(format!("{at}.access_log.sample must be from 0 to 1"));
    }
    Ok(())
}

fn values(at: &str, matches: &BTreeMap<String, ValueMatch>) -> Checked {
    for (name, value) in matches {
        if let Some(pattern) = value.regex() {
            compile_regex(pattern).map_err(|why| format!("{at}.{name}.regex: {why}"))?;
        }
    }
    Ok(())
}

fn route(at: &str, route: &Route, manifest: &Manifest) -> Checked {
    for name in &route.hosts {
        host(&format!("{at}.hosts"), name)?;
    }
    let mut patterns = Vec::new();
    for path in &route.paths {
        let parsed = PathPattern::parse(path);
        let parsed = parsed.and_then(|parsed| check_escapes(path).map(|()| parsed));
        patterns.push(parsed.map_err(|why| format!("{at}.paths: {path:?} {why}"))?);
    }
    let mut parameters: Option<BTreeSet<String>> = None;
    for pattern in &patterns {
        let own: BTreeSet<String> = pattern.parameters().map(str::to_owned).collect();
        parameters = Some(match parameters {
            None => own,
            Some(common) => common.intersection(&own).cloned().collect(),
        });
    }
    let mut parameters = parameters.unwrap_or_default();
    if let Some(pattern) = &route.path_regex {
        if !route.paths.is_empty() {
            return Err(format!("{at} has paths and path_regex; use one of them"));
        }
        let regex = compile_regex(pattern).map_err(|why| format!("{at}.path_regex: {why}"))?;
        parameters.extend(regex.capture_names().flatten().map(str::to_owned));
    }
    for name in &route.methods {
        method(&format!("{at}.methods"), name)?;
    }
    for name in route.headers.keys() {
        header_name(&format!("{at}.headers"), name)?;
        written_by_callers(&format!("{at}.headers"), name, "ask for scopes in its policy")?;
    }
    values(&format!("{at}.headers"), &route.headers)?;
    values(&format!("{at}.query"), &route.query)?;
    targets(at, route, manifest)?;
    if let Some(key) = &route.sticky {
        sticky(&format!("{at}.sticky"), key)?;
    }
    let prefixed = !patterns.is_empty() && patterns.iter().all(|pattern| pattern.is_prefix);
    let is_all = route.paths.is_empty() && route.path_regex.is_none();
    let paths = |key: &str, path: Option<&String>, prefix: Option<&String>| -> Checked {
        if path.is_some() && prefix.is_some() {
            return Err(format!("{at}.{key} has path and prefix; use one of them"));
        }
        if let Some(path) = path {
            placeholders(&format!("{at}.{key}.path"), path, &parameters)?;
        }
        if let Some(prefix) = prefix {
            if !prefixed && !is_all {
                return Err(format!(
                    "{at}.{key}.prefix needs paths that end in /*, so that there is a prefix to replace"
                ));
            }
            placeholders(&format!("{at}.{key}.prefix"), prefix, &BTreeSet::new())?;
        }
        Ok(())
    };
    if let Some(rewrite) = &route.rewrite {
        paths("rewrite", rewrite.path.as_ref(), rewrite.prefix.as_ref())?;
        if let Some(name) = &rewrite.host {
            authority(&format!("{at}.rewrite.host"), name)?;
        }
    }
    if let Some(redirect) = &route.redirect {
        paths("redirect", redirect.path.as_ref(), redirect.prefix.as_ref())?;
        if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
            return Err(format!("{at}.redirect.status must be 301, 302, 303, 307 or 308"));
        }
        if !matches!(redirect.scheme.as_deref(), None | Some("http" | "https")) {
            return Err(format!("{at}.redirect.scheme must be \"http\" or \"https\""));
        }
        if let Some(name) = &redirect.host {
            authority(&format!("{at}.redirect.host"), name)?;
        }
        if redirect.port == Some(0) {
            return Err(format!("{at}.redirect.port must be at least 1"));
        }
    }
    if let Some(response) = &route.response {
        if !(200..=599).contains(&response.status) {
            return Err(format!("{at}.response.status must be from 200 to 599"));
        }
        if matches!(response.status, 204 | 205 | 304) && !response.body.is_empty() {
            let status = response.status;
            return Err(format!("{at}.response: a response with status {status} has no body"));
        }
        for (name, value) in &response.headers {
            header_name(&format!("{at}.response.headers"), name)?;
            check_changeable(&format!("{at}.response.headers"), name)?;
            header_value(&format!("{at}.response.headers"), name, value)?;
        }
    }
    route.request_headers.check(&format!("{at}.request_headers"))?;
    route.response_headers.check(&format!("{at}.response_headers"))?;
    let at = format!("{at}.policy");
    policy(&at, &route.policy, manifest)?;
    scopes_of_somebody(&at, &route.policy, manifest)
}

/// Scopes are asked of callers who are known: without `auth` they would guard nothing.
fn scopes_of_somebody(at: &str, own: &Policy, manifest: &Manifest) -> Checked {
    let policy = own.over(&manifest.gateway.policy);
    let asks = policy.scopes.is_some_and(|scopes| !scopes.is_empty());
    if asks && policy.auth.is_none_or(|sources| sources.is_empty()) {
        return Err(format!(
            "{at} asks for scopes, but auth is empty, so nobody is asked who they are; add auth = [\"NAME\"], or scopes = []"
        ));
    }
    Ok(())
}

/// A host, and after it nothing or a port.
pub(super) fn is_host_and_port(authority: &http::uri::Authority) -> bool {
    let host = authority.host();
    let behind = authority.as_str().strip_prefix(host);
    let is_port = |text: &str| {
        let digits = text.strip_prefix(':').unwrap_or_default();
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<u16>().is_ok_and(|port| port > 0)
    };
    !host.is_empty() && behind.is_some_and(|behind| behind.is_empty() || is_port(behind))
}

fn authority(at: &str, name: &str) -> Checked {
    match name.parse::<http::uri::Authority>() {
        Ok(parsed) if is_host_and_port(&parsed) => Ok(()),
        _ => Err(format!("{at} = {name:?} is not a host, such as \"internal.example\"")),
    }
}

/// A path to be filled in: `{name}` must be a parameter that every path of the route has.
fn placeholders(at: &str, path: &str, parameters: &BTreeSet<String>) -> Checked {
    let written = path.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    let is_path = http::uri::PathAndQuery::try_from(path).is_ok();
    if !path.starts_with('/') || !written || path.contains(['?', '#']) || !is_path {
        return Err(format!("{at} = {path:?} is not a path, percent-encoded where needed"));
    }
    check_escapes(path).map_err(|why| format!("{at} = {path:?} {why}"))?;
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("{at} = {path:?} has a brace that is not closed"));
        };
        if !parameters.contains(name) {
            return Err(format!("{at}: {{{name}}} is no parameter of all paths of the route"));
        }
        rest = after;
    }
    Ok(())
}

fn targets(at: &str, route: &Route, manifest: &Manifest) -> Checked {
    let given = [
        ("function", route.function.is_some()),
        ("upstream", route.upstream.is_some()),
        ("assets", route.assets),
        ("response", route.response.is_some()),
        ("redirect", route.redirect.is_some()),
        ("split", !route.split.is_empty()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            return Err(format!(
                "{at} leads nowhere; add function, upstream, assets, response, redirect or split"
            ));
        }
        [first, second, ..] => {
            return Err(format!("{at} has {first} and {second}; a route leads to one of them"));
        }
    }
    if route.assets && manifest.assets.is_none() {
        return Err(format!("{at} leads to the assets, but there is no [assets] table"));
    }
    if route.sticky.is_some() && route.split.is_empty() {
        return Err(format!("{at}.sticky needs a split"));
    }
    let weights: u64 = route.split.iter().map(|side| u64::from(side.weight)).sum();
    if !route.split.is_empty() && !(1..=u64::from(u32::MAX)).contains(&weights) {
        return Err(format!("{at}.split: the sum of all weights must be from 1 to {}", u32::MAX));
    }
    let sides = route.split.iter().map(|side| (side.function.as_ref(), side.upstream.as_ref()));
    let whole = std::iter::once((route.function.as_ref(), route.upstream.as_ref()));
    for side in &route.split {
        if side.function.is_some() == side.upstream.is_some() {
            return Err(format!("{at}.split: each side has a function or an upstream"));
        }
    }
    for (function, upstream) in sides.chain(whole) {
        if let Some(name) = function
            && !manifest.functions.contains_key(name)
        {
            return Err(format!(
                "{at} leads to the function {name}, but there is no such function"
            ));
        }
        if let Some(name) = upstream
            && !manifest.upstreams.contains_key(name)
        {
            return Err(format!(
                "{at} leads to the upstream {name}, but there is no [upstreams.{name}]"
            ));
        }
    }
    Ok(())
}
