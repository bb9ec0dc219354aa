//! `gateway check`: what can be said of a manifest's gateway part without a node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::json;
use squall_types::gateway::{Policy, Route, UpstreamTarget};
use squall_types::manifest::Manifest;

use crate::cli::{FolderOptions, Global};
use crate::failure::Failure;
use crate::output;
use crate::project::Project;

pub(super) fn run(global: &Global, options: &FolderOptions) -> Result<(), Failure> {
    let project = Project::open(options)?;
    let manifest = &project.manifest;
    let mut warned = project.warnings.clone();
    warned.extend(warnings(manifest));
    if global.json {
        output::json(&json!({
            "ok": true,
            "app": manifest.name,
            "routes": manifest.routes.len(),
            "upstreams": manifest.upstreams.keys().collect::<Vec<_>>(),
            "identity": manifest.identity.keys().collect::<Vec<_>>(),
            "plans": manifest.plans.keys().collect::<Vec<_>>(),
            "warnings": warned,
        }));
        return Ok(());
    }
    for warning in &warned {
        output::note(&format!("warning: {warning}"));
    }
    let parts = summary(manifest);
    let parts = if parts.is_empty() { "nothing of its own".to_owned() } else { parts.join(", ") };
    output::line(&format!("{}: {parts}: ok", manifest.name));
    Ok(())
}

/// What there is, such as `3 routes`.
pub(crate) fn summary(manifest: &Manifest) -> Vec<String> {
    let counts = [
        (manifest.routes.len(), "route"),
        (manifest.upstreams.len(), "upstream"),
        (manifest.identity.len(), "way to know callers"),
        (manifest.plans.len(), "plan"),
    ];
    let named = counts.iter().filter(|(count, _)| *count > 0);
    named
        .map(|(count, noun)| match (*noun, *count) {
            ("way to know callers", 2..) => format!("{count} ways to know callers"),
            _ => output::plural(*count, noun),
        })
        .collect()
}

/// What is allowed, and most likely not meant.
pub(crate) fn warnings(manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    unreachable_routes(manifest, &mut warnings);
    unused_names(manifest, &mut warnings);
    redirects_to_themselves(manifest, &mut warnings);
    strangers_without_scopes(manifest, &mut warnings);
    for (name, upstream) in &manifest.upstreams {
        let private = upstream.targets.iter().map(UpstreamTarget::url).find(|url| is_private(url));
        if let (Some(target), false) = (private, upstream.allow_private) {
            warnings.push(format!(
                "upstreams.{name}: {target} is not a public address, so every request will be refused; set allow_private = true"
            ));
        }
        if upstream.tls.as_ref().is_some_and(|tls| tls.insecure) {
            warnings.push(format!(
                "upstreams.{name}.tls.insecure takes any certificate; for development only"
            ));
        }
    }
    warnings
}

fn name_of(index: usize, route: &Route) -> String {
    route.name.clone().unwrap_or_else(|| format!("route-{}", index + 1))
}

/// Routes that can not win: others take the same requests and come first, or no request
/// arrives on their hosts.
fn unreachable_routes(manifest: &Manifest, warnings: &mut Vec<String>) {
    let own = format!("{}.localhost", manifest.name);
    for (index, route) in manifest.routes.iter().enumerate() {
        let name = name_of(index, route);
        for host in &route.hosts {
            let answers = *host == own
                || manifest.default
                || manifest.hosts.iter().any(|known| covers(known, host) || covers(host, known));
            if !answers {
                warnings.push(format!(
                    "routes.{name}.hosts: the app does not answer on {host}; add it to the app's hosts"
                ));
            }
        }
        let earlier = manifest.routes[..index].iter().position(|earlier| {
            let (a, b) = (earlier, route);
            sorted(&a.hosts) == sorted(&b.hosts)
                && sorted(&a.paths) == sorted(&b.paths)
                && a.path_regex == b.path_regex
                && sorted(&a.methods) == sorted(&b.methods)
                && a.headers == b.headers
                && a.query == b.query
        });
        if let Some(first) = earlier {
            warnings.push(format!(
                "routes.{name} never wins: {} takes the same requests and comes first",
                name_of(first, &manifest.routes[first])
            ));
        }
    }
}

/// Callers without an identity have no scopes: where some are asked for, nobody is let in so.
fn strangers_without_scopes(manifest: &Manifest, warnings: &mut Vec<String>) {
    let of_routes = manifest.routes.iter().enumerate();
    let of_routes =
        of_routes.map(|(at, route)| (format!("routes.{}", name_of(at, route)), &route.policy));
    let of_functions = manifest.functions.iter();
    let of_functions =
        of_functions.map(|(name, function)| (format!("functions.{name}"), &function.policy));
    for (at, own) in of_routes.chain(of_functions) {
        let policy = own.over(&manifest.gateway.policy);
        if policy.anonymous == Some(true) && policy.scopes.is_some_and(|scopes| !scopes.is_empty())
        {
            warnings.push(format!(
                "{at} lets in callers without an identity, and asks for scopes, which they never have; leave one of the two out"
            ));
        }
    }
}

/// Redirects that lead to the URL that was asked for.
fn redirects_to_themselves(manifest: &Manifest, warnings: &mut Vec<String>) {
    for (index, route) in manifest.routes.iter().enumerate() {
        let Some(to) = &route.redirect else { continue };
        let elsewhere = to.scheme.is_some() || to.host.is_some() || to.port.is_some();
        let same_path = match (&to.path, &to.prefix) {
            (None, None) => true,
            (Some(path), _) => route.paths.contains(path),
            (None, Some(prefix)) => {
                route.paths.iter().any(|path| path.strip_suffix("/*") == Some(prefix))
            }
        };
        if same_path && !elsewhere {
            warnings.push(format!(
                "routes.{}.redirect leads to the URL that was asked for, again and again",
                name_of(index, route)
            ));
        }
    }
}

/// Whether a target's host is one of this machine or of a private network, by its own text.
fn is_private(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => !squall_net::is_public(address),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Whether every name that `host` stands for is one that `pattern` stands for.
fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || pattern
            .strip_prefix('*')
            .is_some_and(|parent| host.strip_suffix(parent).is_some_and(|head| !head.is_empty()))
}

fn sorted(list: &[String]) -> BTreeSet<&str> {
    list.iter().map(String::as_str).collect()
}

fn unused_names(manifest: &Manifest, warnings: &mut Vec<String>) {
    let routes = &manifest.routes;
    let sides = routes.iter().flat_map(|route| &route.split).map(|side| &side.upstream);
    let upstreams: BTreeSet<&str> = routes
        .iter()
        .map(|route| &route.upstream)
        .chain(sides)
        .flatten()
        .map(String::as_str)
        .collect();
    for name in manifest.upstreams.keys().filter(|name| !upstreams.contains(name.as_str())) {
        warnings.push(format!("upstreams.{name} is not used: no route leads to it"));
    }
    let asked: BTreeSet<&str> = own_policies(manifest)
        .flat_map(|policy| policy.auth.iter().flatten())
        .map(String::as_str)
        .collect();
    for name in manifest.identity.keys().filter(|name| !asked.contains(name.as_str())) {
        warnings.push(format!("identity.{name} is not used: no policy's auth names it"));
    }
}

/// Every policy as it is written.
fn own_policies(manifest: &Manifest) -> impl Iterator<Item = &Policy> {
    let functions = manifest.functions.values().map(|function| &function.policy);
    let routes = manifest.routes.iter().map(|route| &route.policy);
    functions.chain(routes).chain([&manifest.gateway.policy])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(text: &str) -> String {
        let text = format!("name = \"shop\"\nhosts = [\"*.example.com\"]\n{text}");
        let manifest = Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        warnings(&manifest).join("\n")
    }

    const FIXED: &str = "response = { status = 204 }\n";

    #[test]
    fn routes_that_can_not_win_are_told() {
        let twice = format!(
            "[[routes]]\npaths = [\"/a\", \"/b\"]\n{FIXED}[[routes]]\npaths = [\"/b\", \"/a\"]\n{FIXED}"
        );
        assert!(
            warned(&twice).contains("routes.route-2 never wins: route-1"),
            "{}",
            warned(&twice)
        );
        let other_method = twice.replacen("paths", "methods = [\"GET\"]\npaths", 1);
        assert_eq!(warned(&other_method), "");
        let host = |name: &str| warned(&format!("[[routes]]\nhosts = [\"{name}\"]\n{FIXED}"));
        assert!(host("example.com").contains("does not answer on example.com"));
        for good in ["a.example.com", "*.example.com", "shop.localhost", "*.a.example.com"] {
            assert_eq!(host(good), "", "{good}");
        }
    }

    #[test]
    fn what_can_not_work_is_told() {
        let upstream = |target: &str, more: &str| {
            warned(&format!(
                "[upstreams.u]\ntargets = [\"{target}\"]\n{more}[[routes]]\nupstream = \"u\"\n"
            ))
        };
        for private in
            ["http://127.0.0.1:3000", "http://localhost", "http://[::1]:8", "http://10.1.2.3/x"]
        {
            let found = upstream(private, "");
            assert!(found.contains("set allow_private = true"), "{private}: {found}");
            assert_eq!(upstream(private, "allow_private = true\n"), "", "{private}");
        }
        assert_eq!(upstream("https://api.example.com", ""), "");
        let redirect = |to: &str| {
            let path = if to.contains("prefix") { "/b/*" } else { "/a" };
            warned(&format!("[[routes]]\npaths = [\"{path}\"]\nredirect = {{ {to} }}\n"))
        };
        for loops in ["", "path = \"/a\"", "prefix = \"/b\"", "status = 308"] {
            assert!(redirect(loops).contains("again and again"), "{loops}: {}", redirect(loops));
        }
        for leads in ["path = \"/c\"", "prefix = \"/c\"", "host = \"b.example.com\""] {
            assert_eq!(redirect(leads), "", "{leads}");
        }
    }

    #[test]
    fn names_that_nothing_uses_are_told() {
        let text = format!(
            "[upstreams.users]\ntargets = [\"http://a\"]\n[identity.main.api_key]\n[[routes]]\n{FIXED}"
        );
        let found = warned(&text);
        assert!(found.contains("upstreams.users is not used"), "{found}");
        assert!(found.contains("identity.main is not used"), "{found}");
    }
}
