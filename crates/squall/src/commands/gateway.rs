//! How requests reach an app: checked, compared with what is live, put live, explained,
//! watched.

mod apply;
mod check;
mod explain;
mod top;
mod upstreams;

mod diff;

use serde_json::{Value, json};
use squall_types::gateway::GatewayPart;
use squall_types::{AppName, ErrorCode};

use super::connect;
use super::secrets::read_input;
use crate::cli::{GatewayCommand, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

pub(super) use check::{summary, warnings};

pub(super) async fn run(global: &Global, command: GatewayCommand) -> Result<(), Failure> {
    match command {
        GatewayCommand::Check(options) => check::run(global, &options),
        GatewayCommand::Diff(options) => diff::run(global, &options).await,
        GatewayCommand::Apply(options) => apply::run(global, &options).await,
        GatewayCommand::Show { app } => show(global, &app).await,
        GatewayCommand::Explain(options) => explain::run(global, &options).await,
        GatewayCommand::Top(options) => top::run(global, &options).await,
        GatewayCommand::Upstreams { app } => upstreams::run(global, app.as_ref()).await,
        GatewayCommand::HashPassword => hash_password(global),
    }
}

/// What is live of an app.
struct Live {
    revision: String,
    /// The shares of all revisions, for a person; empty when there is only one.
    split: String,
    part: GatewayPart,
    /// As the node sent it.
    answer: Value,
}

/// The gateway part that is live; `None` when nothing is, or there is no such app.
async fn live(node: &Client, app: &AppName) -> Result<Option<Live>, Failure> {
    let absent = [ErrorCode::UnknownApp, ErrorCode::UnknownRevision].map(|code| code.to_string());
    match read_live(node, app).await {
        Err(failure) if failure.code.as_ref().is_some_and(|code| absent.contains(code)) => Ok(None),
        live => live.map(Some),
    }
}

async fn read_live(node: &Client, app: &AppName) -> Result<Live, Failure> {
    let what = format!("reading the gateway of {app}");
    let answer: Value = node.get(&what, &format!("/v1/apps/{app}/gateway")).await?;
    let part = serde_json::from_value(answer["gateway"].clone()).map_err(|error| {
        let why = format!("what is live is not what this version understands: {error}");
        Failure::failed(what, why).next("squall doctor, which compares the versions")
    })?;
    let shares = answer["traffic"].as_array().map_or(0, Vec::len);
    let split = if shares > 1 { super::apps::shares(&answer["traffic"]) } else { String::new() };
    Ok(Live { revision: super::text(&answer, "revision").to_owned(), split, part, answer })
}

fn hash_password(global: &Global) -> Result<(), Failure> {
    let password = read_input(
        "hashing a password",
        "Password (it is not shown; Enter ends it):",
        "a password on standard input",
    )?;
    let hash = squall_node::hash_password(&password).to_string();
    if global.json {
        output::json(&json!({ "hash": hash }));
    } else {
        output::line(&hash);
    }
    Ok(())
}

async fn show(global: &Global, app: &AppName) -> Result<(), Failure> {
    let what = format!("reading the gateway of {app}");
    let live = read_live(&connect(global)?, app).await?;
    if global.json {
        output::json(&live.answer);
        return Ok(());
    }
    if live.split.is_empty() {
        output::note(&format!("Revision {} of {app}:", live.revision));
    } else {
        output::note(&format!(
            "The traffic of {app} is split: {}. This is revision {}:",
            live.split, live.revision
        ));
    }
    let text = toml::to_string(&live.part).map_err(|error| Failure::failed(what, error))?;
    output::line(format!("name = \"{app}\"\n{text}").trim_end());
    Ok(())
}
