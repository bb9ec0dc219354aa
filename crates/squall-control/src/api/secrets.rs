//! Secrets: set and removed, never shown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;

use crate::api::apps::{find, invalid_json};
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Path};
use crate::time::rfc3339;
use crate::tokens::Scope;

/// Largest value of a secret.
const VALUE_MAX_BYTES: usize = 64 << 10;
const NAME_MAX_BYTES: usize = 128;

/// A secret, as far as it can be seen.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Secret {
    pub name: String,
    pub updated_at: String,
}

/// The value of a secret, on its way in.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    pub value: String,
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
) -> Answer<Json<Page<Secret>>> {
    caller.needs(Scope::Read)?;
    let row = find(&inner, &app).await?;
    let items = row
        .secrets
        .into_iter()
        .map(|(name, _, updated_ms)| Secret { name, updated_at: rfc3339(updated_ms) })
        .collect();
    Ok(Json(Page { items, next: None }))
}

pub(crate) async fn set(
    State(inner): Api,
    caller: Caller,
    Path((app, name)): Path<(String, String)>,
    value: Result<Json<SecretValue>, axum::extract::rejection::JsonRejection>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Deploy)?;
    let Json(SecretValue { value }) = value.map_err(invalid_json)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(good) {
        return Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!("{name:?} can not be the name of a secret; use letters, digits and _ - ."),
        ));
    }
    if value.len() > VALUE_MAX_BYTES || value.contains('\0') {
        return Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!("a secret is text of at most {VALUE_MAX_BYTES} bytes without NUL"),
        ));
    }
    let row = find(&inner, &app).await?;
    let sealed = inner.vault.seal(row.name.as_str(), &name, &value);
    let app = row.name.clone();
    inner
        .change(&row.name, move |store| {
            store.set_secret(&app, &name, &sealed).map_err(Problem::from)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove(
    State(inner): Api,
    caller: Caller,
    Path((app, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Deploy)?;
    let row = find(&inner, &app).await?;
    let app = row.name.clone();
    let removed = inner
        .change(&row.name, {
            let name = name.clone();
            move |store| store.delete_secret(&app, &name).map_err(Problem::from)
        })
        .await?;
    if !removed {
        return Err(Problem::new(
            ErrorCode::UnknownSecret,
            format!("the app {} has no secret {name:?}", row.name),
        ));
    }
    Ok(StatusCode::NO_CONTENT)
}
