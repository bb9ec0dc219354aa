//! Keys of API clients: shown once, kept as hashes, named by the part that is no secret.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;
use squall_types::clients::ApiKeyText;

use crate::api::apps::{find, invalid_json};
use crate::api::clients::known_client;
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Paging, Path, Query};
use crate::store::KeyRow;
use crate::time::{now_ms, rfc3339};
use crate::tokens::Scope;

const LABEL_MAX_BYTES: usize = 100;

/// A key, as far as it can be seen.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ApiKey {
    /// The part after `sqk_` that is no secret: names the key in logs and here.
    pub prefix: String,
    /// For people, such as `production`.
    pub label: String,
    pub created_at: String,
    pub expires_at: Option<String>,
}

/// A key just made: the only time that it is shown.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct NewApiKey {
    #[serde(flatten)]
    pub about: ApiKey,
    pub key: String,
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyRequest {
    pub label: String,
    pub expires_in_s: Option<u32>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            prefix: row.prefix,
            label: row.label,
            created_at: rfc3339(row.created_ms),
            expires_at: row.expires_ms.map(rfc3339),
        }
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Path((app, client)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<ApiKey>>> {
    caller.needs(Scope::Read)?;
    let app = find(&inner, &app).await?.name;
    crate::blocking(move || {
        known_client(&inner.store, &app, &client)?;
        let rows = inner.store.client_keys(&app, &client)?;
        let keys: Vec<ApiKey> = rows.into_iter().map(ApiKey::from).collect();
        Ok(Json(paging.cut_by_time(keys, |key| key.prefix.clone())?))
    })
    .await
}

pub(crate) async fn create(
    State(inner): Api,
    caller: Caller,
    Path((app, client)): Path<(String, String)>,
    asked: Result<Json<ApiKeyRequest>, JsonRejection>,
) -> Answer<(StatusCode, Json<NewApiKey>)> {
    caller.needs(Scope::Deploy)?;
    let Json(asked) = asked.map_err(invalid_json)?;
    if asked.label.len() > LABEL_MAX_BYTES || asked.label.contains(char::is_control) {
        let why = format!("the label of a key is one line of at most {LABEL_MAX_BYTES} bytes");
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    if asked.expires_in_s == Some(0) {
        let why = "expires_in_s is 0: the key would never work";
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    let app = find(&inner, &app).await?.name;
    inner
        .change(&app.clone(), move |store| {
            known_client(store, &app, &client)?;
            let key = ApiKeyText::generate();
            let expires_ms =
                asked.expires_in_s.map(|seconds| now_ms() + i64::from(seconds) * 1_000);
            let row = store.add_client_key(&app, &client, &key, &asked.label, expires_ms)?;
            let made = NewApiKey { about: row.into(), key: key.as_str().to_owned() };
            Ok((StatusCode::CREATED, Json(made)))
        })
        .await
}

pub(crate) async fn revoke(
    State(inner): Api,
    caller: Caller,
    Path((app, client, prefix)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Deploy)?;
    let app = find(&inner, &app).await?.name;
    inner
        .change(&app.clone(), move |store| {
            known_client(store, &app, &client)?;
            if !store.delete_client_key(&app, &client, &prefix)? {
                return Err(Problem::new(
                    ErrorCode::UnknownClientKey,
                    format!(
                        "the client {client} of {app} has no key {prefix:?}; `squall clients keys list {app} {client}` lists them"
                    ),
                ));
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
