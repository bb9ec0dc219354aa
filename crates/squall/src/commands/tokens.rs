//! Access tokens: a value is shown once, when it is made.

use http::Method;
use serde_json::{Value, json};

use super::{connect, text};
use crate::cli::{Global, TokensCommand};
use crate::client::encode;
use crate::failure::Failure;
use crate::output::{self, Align, table};
use crate::time;

pub(super) async fn run(global: &Global, command: TokensCommand) -> Result<(), Failure> {
    let client = connect(global)?;
    match command {
        TokensCommand::Create { name, scope, expires } => {
            let mut body = json!({ "name": name, "scope": scope.as_str() });
            if let Some(expires_in_s) = expires {
                body["expires_in_s"] = expires_in_s.into();
            }
            let what = format!("creating token {name}");
            let token: Value = client.call(&what, Method::POST, "/v1/tokens", Some(&body)).await?;
            if global.json {
                output::json(&token);
                return Ok(());
            }
            let until = match token["expires_at"].as_str() {
                Some(time) => format!("until {}", time::local_minute(time)),
                None => "until it is revoked".to_owned(),
            };
            output::note(&format!(
                "Created {name} ({}) with scope {}, valid {until}. It is shown only now:",
                text(&token, "id"),
                scope.as_str()
            ));
            output::line(text(&token, "token"));
        }
        TokensCommand::List => {
            let tokens = client.list("listing tokens", "/v1/tokens").await?;
            if global.json {
                output::json(&json!({ "items": tokens }));
                return Ok(());
            }
            let moment = |token: &Value, field: &str, never: &str| {
                token[field].as_str().map_or_else(|| never.to_owned(), time::local_minute)
            };
            let rows: Vec<_> = tokens
                .iter()
                .map(|token| {
                    vec![
                        text(token, "id").to_owned(),
                        text(token, "name").to_owned(),
                        text(token, "scope").to_owned(),
                        moment(token, "created_at", "-"),
                        moment(token, "expires_at", "never"),
                        moment(token, "last_used_at", "never"),
                    ]
                })
                .collect();
            let columns = ["ID", "NAME", "SCOPE", "CREATED", "EXPIRES", "LAST USED"];
            output::line(&table(&columns.map(|title| (title, Align::Left)), &rows));
        }
        TokensCommand::Revoke { id } => {
            let path = format!("/v1/tokens/{}", encode(&id));
            client.send(&format!("revoking token {id}"), Method::DELETE, &path, None).await?;
            if global.json {
                output::json(&json!({ "id": id, "revoked": true }));
            } else {
                output::note(&format!("Revoked {id}."));
            }
        }
    }
    Ok(())
}
