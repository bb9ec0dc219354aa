//! Apps and their revisions: list, show, delete.

use std::io::{BufRead, IsTerminal};

use http::Method;
use serde_json::{Value, json};

use super::{connect, names, text};
use crate::cli::{AppOptions, AppsOptions, DeleteOptions, Global};
use crate::failure::{Exit, Failure};
use crate::output::{self, Align, table};
use crate::time;

pub(super) async fn list(global: &Global, options: &AppsOptions) -> Result<(), Failure> {
    let client = connect(global)?;
    if let Some(name) = &options.app {
        let app: Value =
            client.get(&format!("reading app {name}"), &format!("/v1/apps/{name}")).await?;
        if global.json {
            output::json(&app);
        } else {
            output::line(&show_app(&app));
        }
        return Ok(());
    }
    let apps = client.list("listing apps", "/v1/apps").await?;
    if global.json {
        output::json(&json!({ "items": apps }));
        return Ok(());
    }
    if apps.is_empty() {
        output::note("No apps yet. Make one with squall new NAME, then squall deploy NAME.");
        return Ok(());
    }
    let rows: Vec<_> = apps
        .iter()
        .map(|app| {
            vec![
                text(app, "name").to_owned(),
                app["urls"][0].as_str().unwrap_or("-").to_owned(),
                shares(&app["traffic"]),
                or_dash(names(&app["functions"])),
                time::local_minute(text(app, "updated_at")),
            ]
        })
        .collect();
    let columns =
        ["NAME", "URL", "TRAFFIC", "FUNCTIONS", "UPDATED"].map(|title| (title, Align::Left));
    output::line(&table(&columns, &rows));
    Ok(())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn show_app(app: &Value) -> String {
    let facts = [
        ("name", text(app, "name").to_owned()),
        ("default", if app["default"] == true { "yes" } else { "no" }.to_owned()),
        ("urls", or_dash(names(&app["urls"]))),
        ("hosts", or_dash(names(&app["hosts"]))),
        ("traffic", or_dash(shares(&app["traffic"]))),
        ("functions", or_dash(names(&app["functions"]))),
        ("updated", time::local_minute(text(app, "updated_at"))),
    ];
    facts.map(|(name, value)| format!("{name:<10} {value}")).join("\n")
}

/// `kqzfw3x2ab 90%, hdy2oa5tqe 10%`.
pub(super) fn shares(traffic: &Value) -> String {
    let shares = traffic.as_array().into_iter().flatten();
    shares
        .map(|share| format!("{} {}%", text(share, "revision"), share["percent"]))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) async fn revisions(global: &Global, options: &AppOptions) -> Result<(), Failure> {
    let client = connect(global)?;
    let app = &options.app;
    let revisions = client
        .list(&format!("listing revisions of {app}"), &format!("/v1/apps/{app}/revisions"))
        .await?;
    if global.json {
        output::json(&json!({ "items": revisions }));
        return Ok(());
    }
    let rows: Vec<_> = revisions
        .iter()
        .map(|revision| {
            let percent = revision["percent"].as_u64().unwrap_or(0);
            vec![
                text(revision, "id").to_owned(),
                time::local_minute(text(revision, "created_at")),
                if percent == 0 { "-".to_owned() } else { format!("{percent}%") },
                or_dash(names(&revision["functions"])),
                output::count(revision["assets"].as_u64().unwrap_or(0)),
                output::size(revision["bytes"].as_u64().unwrap_or(0)),
                or_dash(text(revision, "preview_url").to_owned()),
            ]
        })
        .collect();
    let columns = [
        ("REVISION", Align::Left),
        ("CREATED", Align::Left),
        ("TRAFFIC", Align::Right),
        ("FUNCTIONS", Align::Left),
        ("ASSETS", Align::Right),
        ("SIZE", Align::Right),
        ("PREVIEW", Align::Left),
    ];
    output::line(&table(&columns, &rows));
    Ok(())
}

pub(super) async fn delete(global: &Global, options: &DeleteOptions) -> Result<(), Failure> {
    let app = &options.app;
    let what = format!("deleting {app}");
    let client = connect(global)?;
    if !options.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Usage, what, "nobody is there to confirm it")
                .next(format!("squall delete {app} --yes")));
        }
        output::note(&format!(
            "This deletes {app} on {} with all its revisions and secrets. Type its name to go on:",
            client.target().url
        ));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_err() || answer.trim() != app.as_str() {
            return Err(Failure::failed(what, "not confirmed; nothing was deleted"));
        }
    }
    client.send(&what, Method::DELETE, &format!("/v1/apps/{app}"), None).await?;
    if global.json {
        output::json(&json!({ "app": app, "deleted": true }));
    } else {
        output::note(&format!("Deleted {app}. What still runs is finished."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_reads_as_a_list_of_facts() {
        let app = json!({
            "name": "shop", "default": true, "hosts": [], "urls": ["http://a/", "http://b/"],
            "traffic": [{"revision": "kqzfw3x2ab", "percent": 90}, {"revision": "hdy2oa5tqe", "percent": 10}],
            "functions": ["api"], "updated_at": "soon",
        });
        let shown = show_app(&app);
        assert!(shown.contains("traffic    kqzfw3x2ab 90%, hdy2oa5tqe 10%\n"), "{shown}");
        assert!(shown.contains("urls       http://a/, http://b/\n"), "{shown}");
        assert!(shown.contains("hosts      -\n") && shown.ends_with("updated    soon"), "{shown}");
    }
}
