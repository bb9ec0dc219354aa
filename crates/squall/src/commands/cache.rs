//! The edge cache: counted, purged, looked into.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};
use squall_types::cache::{
    CacheInspect, CacheInspection, CacheReport, CacheVariant, PurgeRequest, PurgeTarget,
};
use squall_types::gateway::{ExplainQuery, Explanation};
use squall_types::{AppName, ErrorCode};

use super::{connect, text};
use crate::cli::{CacheCommand, Global, InspectOptions, PurgeOptions};
use crate::client::{Client, encode};
use crate::failure::{Exit, Failure};
use crate::output::{self, Align, table};

pub(super) async fn run(global: &Global, command: CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Stats { app } => stats(global, app.as_ref()).await,
        CacheCommand::Purge(options) => purge(global, options).await,
        CacheCommand::Inspect(options) => inspect(global, options).await,
    }
}

async fn stats(global: &Global, app: Option<&AppName>) -> Result<(), Failure> {
    let path = match app {
        Some(app) => format!("/v1/cache?app={}", encode(app.as_str())),
        None => "/v1/cache".to_owned(),
    };
    let report: CacheReport = connect(global)?.get("reading the cache's counters", &path).await?;
    if global.json {
        output::json(&report);
        return Ok(());
    }
    let store = &report.store;
    output::note(&format!(
        "In memory: {} in {} of {}.",
        output::plural(store.memory_entries as usize, "response"),
        output::size(store.memory_bytes),
        output::size(store.memory_bytes_max),
    ));
    if store.disk_bytes_max > 0 {
        output::note(&format!(
            "On disk: {} in {} of {}.",
            output::plural(store.disk_entries as usize, "response"),
            output::size(store.disk_bytes),
            output::size(store.disk_bytes_max),
        ));
    }
    output::line(&routes(&report));
    Ok(())
}

fn routes(report: &CacheReport) -> String {
    if report.routes.is_empty() {
        return "No route has a cache; add a cache table to its policy.".to_owned();
    }
    let mut columns = vec![("APP", Align::Left), ("ROUTE", Align::Left)];
    let numbers =
        ["RATIO", "HITS", "STALE", "REVALIDATED", "COLLAPSED", "MISSES", "BYPASSED", "SAVED"];
    columns.extend(numbers.map(|title| (title, Align::Right)));
    columns.push(("AVERAGE AGE", Align::Right));
    let rows: Vec<Vec<String>> = report
        .routes
        .iter()
        .map(|route| {
            let answered = route.hits + route.revalidated + route.collapsed;
            let asked = answered + route.misses;
            let ratio = match asked {
                0 => "-".to_owned(),
                _ => format!("{:.1} %", 100.0 * answered as f64 / asked as f64),
            };
            let age = match route.hits {
                0 => "-".to_owned(),
                hits => format!("{} s", route.hit_age_s / hits),
            };
            vec![
                route.app.clone(),
                route.route.clone(),
                ratio,
                output::count(route.hits),
                output::count(route.stale_hits),
                output::count(route.revalidated),
                output::count(route.collapsed),
                output::count(route.misses),
                output::count(route.bypassed),
                output::size(route.bytes_saved),
                age,
            ]
        })
        .collect();
    table(&columns, &rows)
}

async fn purge(global: &Global, options: PurgeOptions) -> Result<(), Failure> {
    const WHAT: &str = "purging the cache";
    let PurgeOptions { urls, prefixes, tags, all, soft, app } = options;
    if !all && urls.is_empty() && prefixes.is_empty() && tags.is_empty() {
        let why = "it is not said what to purge: a URL, --prefix, --tag or --all";
        return Err(Failure::new(Exit::Usage, WHAT, why).next("squall cache purge --help"));
    }
    let node = connect(global)?;
    let first = urls.iter().chain(&prefixes).next();
    let app = app_of(&node, WHAT, app, first.map(String::as_str)).await?;
    let mut targets: Vec<PurgeTarget> = Vec::new();
    let urls = whole_urls(&node, WHAT, &app, urls).await?;
    targets.extend(urls.into_iter().map(PurgeTarget::Url));
    let prefixes = whole_urls(&node, WHAT, &app, prefixes).await?;
    targets.extend(prefixes.into_iter().map(PurgeTarget::Prefix));
    targets.extend(tags.into_iter().map(PurgeTarget::Tag));
    if all {
        targets.push(PurgeTarget::All(true));
    }
    let count = targets.len();
    let body = serde_json::to_value(PurgeRequest { targets, soft }).expect("plain data");
    let path = format!("/v1/apps/{app}/cache/purge");
    node.send(WHAT, Method::POST, &path, Some(&body)).await?;
    if global.json {
        output::json(&json!({ "app": app, "targets": count, "soft": soft }));
        return Ok(());
    }
    let are = if count == 1 { "is" } else { "are" };
    let how = if soft { "stale from now on" } else { "gone for every later request" };
    let which = match count {
        1 if all => "Everything".to_owned(),
        _ => output::plural(count, "target"),
    };
    output::note(&format!("{which} of {app} {are} {how}."));
    Ok(())
}

async fn inspect(global: &Global, options: InspectOptions) -> Result<(), Failure> {
    let what = format!("looking into the cache for {}", options.url);
    let node = connect(global)?;
    let app = app_of(&node, &what, options.app, Some(&options.url)).await?;
    let urls = whole_urls(&node, &what, &app, vec![options.url]).await?;
    let url = urls.into_iter().next().unwrap_or_default();
    let asked = CacheInspect { url: url.clone(), headers: options.headers };
    let body = serde_json::to_value(asked).expect("plain data");
    let path = format!("/v1/apps/{app}/cache/inspect");
    let found: CacheInspection = node.call(&what, Method::POST, &path, Some(&body)).await?;
    if global.json {
        output::json(&found);
    } else {
        output::line(&describe(&url, &found));
    }
    Ok(())
}

fn describe(url: &str, found: &CacheInspection) -> String {
    let mut out = format!("GET {url}\n");
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<12} {value}");
    };
    fact("answer", &found.answer);
    for (name, value) in
        [("route", &found.route), ("key", &found.key), ("not stored", &found.not_stored)]
    {
        if let Some(value) = value {
            fact(name, value);
        }
    }
    found.variants.iter().for_each(|variant| describe_variant(variant, &mut out));
    out.trim_end().to_owned()
}

fn describe_variant(variant: &CacheVariant, out: &mut String) {
    let left = match variant.ttl_s {
        _ if variant.soft_purged => "stale by a soft purge".to_owned(),
        left if left >= 0 => format!("fresh for {left} s"),
        late => format!("stale since {} s", late.unsigned_abs()),
    };
    let partial = if variant.partial { ", in parts" } else { "" };
    let _ = writeln!(
        out,
        "\n{} in {}: {}{partial}, {} s old, {left}",
        variant.status,
        variant.tier,
        output::size(variant.body_bytes),
        variant.age_s
    );
    if variant.must_validate {
        out.push_str("  its origin is asked before it answers\n");
    }
    for (name, list) in [("vary", &variant.vary), ("tags", &variant.tags)] {
        if !list.is_empty() {
            let _ = writeln!(out, "  {name}: {}", list.join(", "));
        }
    }
    for (name, value) in &variant.headers {
        let _ = writeln!(out, "  {name}: {value}");
    }
}

/// A path stands for itself at every address of the app.
async fn whole_urls(
    node: &Client,
    what: &str,
    app: &AppName,
    given: Vec<String>,
) -> Result<Vec<String>, Failure> {
    if given.iter().all(|url| !url.starts_with('/')) {
        return Ok(given);
    }
    let known: Value = node.get(what, &format!("/v1/apps/{app}")).await?;
    let addresses = known["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(at_all(&addresses.collect::<Vec<_>>(), given))
}

fn at_all(addresses: &[&str], given: Vec<String>) -> Vec<String> {
    let mut urls = Vec::new();
    for url in given {
        if url.starts_with('/') {
            let of = |address: &&str| format!("{}{url}", address.trim_end_matches('/'));
            urls.extend(addresses.iter().map(of));
        } else {
            urls.push(url);
        }
    }
    urls
}

/// The app that is named, that answers at the URL, or that is the only one.
async fn app_of(
    node: &Client,
    what: &str,
    named: Option<AppName>,
    url: Option<&str>,
) -> Result<AppName, Failure> {
    if let Some(app) = named {
        return Ok(app);
    }
    let unclear =
        |why: &str| Failure::new(Exit::Usage, what, why).next("the same command with --app APP");
    if let Some(url) = url.filter(|url| !url.starts_with('/')) {
        let query = ExplainQuery {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            client: None,
            https: url.starts_with("https://"),
            app: None,
        };
        let body = serde_json::to_value(&query).expect("plain data");
        let found: Explanation =
            node.call(what, Method::POST, "/v1/gateway/explain", Some(&body)).await?;
        return found.app.ok_or_else(|| {
            Failure::invalid(what, "no app answers at that URL")
                .code(ErrorCode::NoRoute)
                .next("squall apps, or the same command with --app APP")
        });
    }
    let list: Value = node.get(what, "/v1/apps").await?;
    match list["items"].as_array().map(Vec::as_slice) {
        Some([only]) => {
            AppName::parse(text(only, "name")).map_err(|error| Failure::failed(what, error))
        }
        _ => Err(unclear("there is more than one app, and it is not said which")),
    }
}

#[cfg(test)]
mod tests {
    use squall_types::cache::CacheRouteReport;

    use super::*;

    #[test]
    fn ratios_leave_out_what_could_not_hit() {
        let route = CacheRouteReport {
            app: "shop".into(),
            route: "all".into(),
            hits: 6,
            revalidated: 1,
            collapsed: 1,
            misses: 2,
            bypassed: 100,
            hit_age_s: 60,
            ..CacheRouteReport::default()
        };
        let shown = routes(&CacheReport { routes: vec![route], ..CacheReport::default() });
        assert!(shown.contains("80.0 %"), "{shown}");
        assert!(shown.contains("10 s"), "{shown}");
    }

    #[test]
    fn paths_are_meant_at_every_address_of_the_app() {
        let addresses = ["http://127.0.0.1:8080/", "http://shop.localhost:8080/"];
        let given = vec!["/a?b".to_owned(), "https://x.example/".to_owned()];
        let expected =
            ["http://127.0.0.1:8080/a?b", "http://shop.localhost:8080/a?b", "https://x.example/"];
        assert_eq!(at_all(&addresses, given), expected);
    }
}
