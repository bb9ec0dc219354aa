//! API clients of an app and their keys: a key is shown once, when it is made.

use http::Method;
use serde_json::{Value, json};

use super::{connect, names, text};
use crate::cli::{ClientsCommand, CreateClientOptions, Global, KeysCommand, UpdateClientOptions};
use crate::client::{Client, encode};
use crate::failure::Failure;
use crate::output::{self, Align, table};
use crate::time;

pub(super) async fn run(global: &Global, command: ClientsCommand) -> Result<(), Failure> {
    let node = connect(global)?;
    match command {
        ClientsCommand::List { app } => {
            let what = format!("listing clients of {app}");
            let clients = node.list(&what, &format!("/v1/apps/{app}/clients")).await?;
            if global.json {
                output::json(&json!({ "items": clients }));
                return Ok(());
            }
            if clients.is_empty() {
                output::note(&format!(
                    "{app} has no clients. Make one with squall clients create {app} ID."
                ));
                return Ok(());
            }
            let columns = [
                ("CLIENT", Align::Left),
                ("PLAN", Align::Left),
                ("SCOPES", Align::Left),
                ("KEYS", Align::Right),
                ("STATE", Align::Left),
                ("UPDATED", Align::Left),
            ];
            let rows: Vec<_> = clients.iter().map(row_of_client).collect();
            output::line(&table(&columns, &rows));
        }
        ClientsCommand::Create(options) => create(global, &node, &options).await?,
        ClientsCommand::Show { app, client } => {
            let path = format!("/v1/apps/{app}/clients/{}", encode(&client));
            let what = format!("reading client {client} of {app}");
            let found: Value = node.get(&what, &path).await?;
            let keys = node.list(&what, &format!("{path}/keys")).await?;
            if global.json {
                let mut found = found;
                found["keys"] = keys.into();
                output::json(&found);
                return Ok(());
            }
            output::line(&show(&found));
            if !keys.is_empty() {
                output::line(&format!("\n{}", table_of_keys(&keys)));
            }
        }
        ClientsCommand::Update(options) => {
            let UpdateClientOptions { app, client, .. } = &options;
            let path = format!("/v1/apps/{app}/clients/{}", encode(client));
            let what = format!("changing client {client} of {app}");
            let body = change(&options);
            let changed: Value = node.call(&what, Method::PATCH, &path, Some(&body)).await?;
            if global.json {
                output::json(&changed);
            } else {
                output::line(&show(&changed));
            }
        }
        ClientsCommand::Delete { app, client } => {
            let path = format!("/v1/apps/{app}/clients/{}", encode(&client));
            let what = format!("deleting client {client} of {app}");
            node.send(&what, Method::DELETE, &path, None).await?;
            if global.json {
                output::json(&json!({ "app": app, "id": client, "deleted": true }));
            } else {
                output::note(&format!(
                    "Deleted {client} of {app}; its keys are refused from now on."
                ));
            }
        }
        ClientsCommand::Keys(command) => keys(global, &node, command).await?,
    }
    Ok(())
}

async fn create(
    global: &Global,
    node: &Client,
    options: &CreateClientOptions,
) -> Result<(), Failure> {
    let CreateClientOptions { app, client, plan, scopes, disabled } = options;
    let body = json!({ "id": client, "plan": plan, "scopes": scopes, "disabled": disabled });
    let what = format!("creating client {client} of {app}");
    let path = format!("/v1/apps/{app}/clients");
    let created: Value = node.call(&what, Method::POST, &path, Some(&body)).await?;
    if global.json {
        output::json(&created);
        return Ok(());
    }
    output::note(&format!("{client} is a client of {app}."));
    if created["keys"] == 0 {
        output::note(&format!("Make it a key with: squall clients keys create {app} {client}"));
    }
    Ok(())
}

async fn keys(global: &Global, node: &Client, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create { app, client, label, expires } => {
            let mut body = json!({ "label": label.unwrap_or_default() });
            if let Some(expires_in_s) = expires {
                body["expires_in_s"] = expires_in_s.into();
            }
            let what = format!("creating a key of {client}");
            let path = format!("/v1/apps/{app}/clients/{}/keys", encode(&client));
            let key: Value = node.call(&what, Method::POST, &path, Some(&body)).await?;
            if global.json {
                output::json(&key);
                return Ok(());
            }
            let until = match key["expires_at"].as_str() {
                Some(time) => format!("until {}", time::local_minute(time)),
                None => "until it is revoked".to_owned(),
            };
            output::note(&format!(
                "Created the key {} of {client}, valid {until}. It is shown only now:",
                text(&key, "prefix")
            ));
            output::line(text(&key, "key"));
        }
        KeysCommand::List { app, client } => {
            let what = format!("listing keys of {client}");
            let path = format!("/v1/apps/{app}/clients/{}/keys", encode(&client));
            let keys = node.list(&what, &path).await?;
            if global.json {
                output::json(&json!({ "items": keys }));
                return Ok(());
            }
            if keys.is_empty() {
                output::note(&format!(
                    "{client} has no keys. Make one with squall clients keys create {app} {client}."
                ));
                return Ok(());
            }
            output::line(&table_of_keys(&keys));
        }
        KeysCommand::Revoke { app, client, prefix } => {
            let what = format!("revoking the key {prefix} of {client}");
            let path =
                format!("/v1/apps/{app}/clients/{}/keys/{}", encode(&client), encode(&prefix));
            node.send(&what, Method::DELETE, &path, None).await?;
            if global.json {
                output::json(&json!({ "prefix": prefix, "revoked": true }));
            } else {
                output::note(&format!("Revoked {prefix}."));
            }
        }
    }
    Ok(())
}

/// The request for a change: only what was asked for.
fn change(options: &UpdateClientOptions) -> Value {
    let mut body = json!({});
    if options.plan.is_some() || options.no_plan {
        body["plan"] = options.plan.clone().into();
    }
    if !options.scopes.is_empty() || options.no_scopes {
        body["scopes"] = options.scopes.clone().into();
    }
    if options.disable || options.enable {
        body["disabled"] = options.disable.into();
    }
    body
}

fn state(client: &Value) -> &'static str {
    if client["disabled"] == true { "disabled" } else { "enabled" }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn row_of_client(client: &Value) -> Vec<String> {
    vec![
        text(client, "id").to_owned(),
        or_dash(text(client, "plan")),
        or_dash(&names(&client["scopes"])),
        client["keys"].to_string(),
        state(client).to_owned(),
        time::local_minute(text(client, "updated_at")),
    ]
}

fn show(client: &Value) -> String {
    let facts = [
        ("client", text(client, "id").to_owned()),
        ("plan", or_dash(text(client, "plan"))),
        ("scopes", or_dash(&names(&client["scopes"]))),
        ("state", state(client).to_owned()),
        ("created", time::local_minute(text(client, "created_at"))),
        ("updated", time::local_minute(text(client, "updated_at"))),
    ];
    facts.map(|(name, value)| format!("{name:<9} {value}")).join("\n")
}

fn table_of_keys(keys: &[Value]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            vec![
                text(key, "prefix").to_owned(),
                or_dash(text(key, "label")),
                time::local_minute(text(key, "created_at")),
                key["expires_at"].as_str().map_or_else(|| "never".to_owned(), time::local_minute),
            ]
        })
        .collect();
    table(&["KEY", "LABEL", "CREATED", "EXPIRES"].map(|title| (title, Align::Left)), &rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(line: &[&str]) -> Value {
        let line = [&["squall", "clients", "update", "shop", "acme"], line].concat();
        match Cli::try_parse_from(line).unwrap().command {
            Command::Clients(ClientsCommand::Update(options)) => change(&options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_holds_what_was_asked_for_and_nothing_else() {
        assert_eq!(asked(&["--plan", "gold"]), json!({ "plan": "gold" }));
        assert_eq!(asked(&["--no-plan", "--enable"]), json!({ "plan": null, "disabled": false }));
        let scopes = asked(&["--scope", "a", "--scope", "b", "--disable"]);
        assert_eq!(scopes, json!({ "scopes": ["a", "b"], "disabled": true }));
        assert_eq!(asked(&["--no-scopes"]), json!({ "scopes": [] }));
        for wrong in [&[][..], &["--plan", "a", "--no-plan"], &["--enable", "--disable"]] {
            let line = [&["squall", "clients", "update", "shop", "acme"], wrong].concat();
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
    }
}
