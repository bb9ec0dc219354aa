//! `gateway apply`: the folder's gateway part takes the place of the live one.

use http::Method;
use serde_json::{Value, json};
use squall_types::gateway::GatewayPart;

use super::diff::{self, Difference};
use super::live;
use crate::cli::{FolderOptions, Global};
use crate::commands::{connect, names, text};
use crate::failure::Failure;
use crate::output;
use crate::project::Project;

pub(super) async fn run(global: &Global, options: &FolderOptions) -> Result<(), Failure> {
    let project = Project::open(options)?;
    project.warn();
    let app = &project.manifest.name;
    let node = connect(global)?;
    let live = live(&node, app).await?;
    let wanted = GatewayPart::of(&project.manifest);
    let before = live.as_ref().map(|live| live.part.clone()).unwrap_or_default();
    let differences = diff::between(&before, &wanted);
    let revision = live.as_ref().map(|live| live.revision.as_str());
    if let Some(live) = live.as_ref().filter(|live| live.split.is_empty())
        && differences.is_empty()
    {
        if global.json {
            output::json(&json!({
                "app": app, "revision": live.revision, "previous": live.revision,
                "created": false, "changes": [], "warnings": [],
            }));
        } else {
            output::note(&format!("Revision {} has this gateway part already.", live.revision));
            output::line(&live.revision);
        }
        return Ok(());
    }
    if !global.json {
        differences.iter().map(Difference::to_string).for_each(|line| output::note(&line));
    }
    // What was shown is what is applied: the node refuses when another revision is live.
    let body = json!({ "gateway": wanted, "base": revision });
    let what = format!("applying the gateway of {app}");
    let path = format!("/v1/apps/{app}/gateway");
    let mut applied: Value = node.call(&what, Method::PUT, &path, Some(&body)).await?;
    if global.json {
        applied["changes"] = diff::as_json(&differences);
        output::json(&applied);
        return Ok(());
    }
    output::warn(&applied["warnings"]);
    let place = match text(&applied, "previous") {
        "" => String::new(),
        previous => format!(", in the place of {previous}"),
    };
    output::note(&format!("Revision {} is live{place}.", text(&applied, "revision")));
    output::note(&format!("Answers on {}", names(&applied["urls"])));
    output::line(text(&applied, "revision"));
    Ok(())
}
