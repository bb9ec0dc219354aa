//! `gateway explain`: which route a request would take, and why.

use std::fmt::Write as _;
use std::path::Path;

use http::Method;
use squall_types::gateway::{ExplainQuery, Explanation, PolicyOrigin};

use crate::cli::{ExplainOptions, FolderOptions, Global};
use crate::commands::connect;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::project::Project;

pub(super) async fn run(global: &Global, options: &ExplainOptions) -> Result<(), Failure> {
    let what = format!("explaining {} {}", options.method, options.url);
    let (query, explanation) = match &options.file {
        Some(folder) => {
            let project = open(folder)?;
            let query = query(&what, options, Some(project.manifest.name.as_str()))?;
            let mut explanation = squall_node::explain_manifest(&project.manifest, &query);
            // A folder is no revision yet.
            explanation.revision = None;
            (query, explanation)
        }
        None => {
            let query = query(&what, options, options.app.as_ref().map(|app| app.as_str()))?;
            let body = serde_json::to_value(&query).expect("a query is plain data");
            let path = "/v1/gateway/explain";
            (query, connect(global)?.call(&what, Method::POST, path, Some(&body)).await?)
        }
    };
    if global.json {
        output::json(&explanation);
    } else {
        output::line(&describe(&query, &explanation));
    }
    Ok(())
}

fn open(folder: &Path) -> Result<Project, Failure> {
    let project = Project::open(&FolderOptions { dir: folder.to_owned(), environment: None })?;
    project.warn();
    Ok(project)
}

fn query(what: &str, options: &ExplainOptions, app: Option<&str>) -> Result<ExplainQuery, Failure> {
    let url = match (options.url.starts_with('/'), app) {
        (false, _) => options.url.clone(),
        (true, Some(app)) => format!("http://{app}.localhost{}", options.url),
        (true, None) => {
            let why = "a path says nothing of the host; write the whole URL, or name the app";
            return Err(Failure::new(Exit::Usage, what, why).next(format!(
                "squall gateway explain {} {} --app APP",
                options.method, options.url
            )));
        }
    };
    let https = url.starts_with("https://");
    if !https && !url.starts_with("http://") {
        let failure = Failure::new(Exit::Usage, what, format!("{url:?} is not a URL of http"));
        let is_host = url.starts_with(|first: char| first.is_ascii_alphanumeric());
        return Err(if is_host && !url.contains("://") {
            failure.next(format!("squall gateway explain {} https://{url}", options.method))
        } else {
            failure
        });
    }
    if url.contains('#') {
        let why = "what follows # stays in the browser; leave it out";
        return Err(Failure::new(Exit::Usage, what, why));
    }
    Ok(ExplainQuery {
        method: options.method.to_ascii_uppercase(),
        url,
        headers: options.headers.clone(),
        client: options.client,
        https,
        app: options.app.clone(),
    })
}

/// Facts first, then the policies in the order in which they run, then the other routes.
fn describe(query: &ExplainQuery, found: &Explanation) -> String {
    let mut text = format!("{} {}\n", query.method, query.url);
    let mut fact = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<10} {value}");
        }
    };
    fact("app", found.app.as_ref().map(|app| app.as_str()));
    fact("revision", found.revision.as_ref().map(|revision| revision.as_str()));
    let shares = found.traffic.iter().map(|(revision, percent)| format!("{revision} {percent} %"));
    let shares = shares.collect::<Vec<_>>().join(", ");
    fact("traffic", Some(shares.as_str()).filter(|shares| !shares.is_empty()));
    fact("host", found.host.as_deref());
    fact("route", found.route.as_deref());
    fact("matches", found.matched_by.as_deref());
    fact("target", found.target.as_deref());
    fact("sends", found.rewritten.as_deref());
    if let Some(rejection) = &found.rejection {
        fact("refused", Some(&format!("{} {}", rejection.code, rejection.message)));
    }
    let width = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| name.chars().count()).max().unwrap_or(0)
    };
    if !found.policies.is_empty() {
        text.push_str("policies\n");
        let names = width(&mut found.policies.iter().map(|step| step.name.as_str()));
        for step in &found.policies {
            let from = match step.from {
                PolicyOrigin::Route => "route",
                PolicyOrigin::App => "app",
                PolicyOrigin::Node => "node",
            };
            let _ = writeln!(text, "  {:<names$}  {from:<5}  {}", step.name, step.setting);
        }
    }
    if !found.considered.is_empty() {
        text.push_str("other routes\n");
        let names = width(&mut found.considered.iter().map(|other| other.route.as_str()));
        for other in &found.considered {
            let _ = writeln!(text, "  {:<names$}  {}", other.route, other.why_not);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, GatewayCommand};

    fn asked(line: &[&str]) -> Result<ExplainQuery, Failure> {
        let line = [&["squall", "gateway", "explain"], line].concat();
        match Cli::try_parse_from(line).unwrap().command {
            Command::Gateway(GatewayCommand::Explain(options)) => {
                let app = options.app.clone();
                query("x", &options, app.as_ref().map(|app| app.as_str()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_needs_an_app_and_a_url_a_scheme() {
        assert_eq!(asked(&["get", "/a", "--app", "shop"]).unwrap().url, "http://shop.localhost/a");
        assert!(asked(&["GET", "https://a/b"]).unwrap().https);
        let path = asked(&["GET", "/a"]).unwrap_err();
        assert!(path.to_string().contains("--app APP"), "{path}");
        let bare = asked(&["GET", "a.example/b"]).unwrap_err();
        assert!(bare.to_string().contains("https://a.example/b"), "{bare}");
    }

    #[test]
    fn an_explanation_reads_from_top_to_bottom() {
        let query = asked(&["GET", "http://a.example.com/x"]).unwrap();
        let found: Explanation = serde_json::from_value(serde_json::json!({
            "app": "shop", "route": "user", "matched_by": "/x, method GET", "target": "function api",
            "policies": [{ "name": "cors", "setting": "{}", "from": "app" }],
            "considered": [{ "route": "old", "why_not": "its path or host is another" }],
        }))
        .unwrap();
        assert_eq!(
            describe(&query, &found),
            "GET http://a.example.com/x\napp        shop\nroute      user\nmatches    /x, method GET\ntarget     function api\npolicies\n  cors  app    {}\nother routes\n  old  its path or host is another"
        );
    }
}
