//! Tokens of the admin API.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;

use crate::api::apps::invalid_json;
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Paging, Path, Query};
use crate::store::TokenRow;
use crate::time::{now_ms, rfc3339};
use crate::tokens::{Scope, generate, hash};

const NAME_MAX_BYTES: usize = 100;

/// A token, as far as it can be seen.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Token {
    pub id: String,
    pub name: String,
    pub scope: Scope,
    pub created_at: String,
    pub expires_at: Option<String>,
    /// To the minute.
    pub last_used_at: Option<String>,
}

/// A token just made: the only time that it is shown.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct NewToken {
    #[serde(flatten)]
    pub about: Token,
    pub token: String,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For people, such as `ci`.
    pub name: String,
    pub scope: Scope,
    pub expires_in_s: Option<u32>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            scope: row.scope,
            created_at: rfc3339(row.created_ms),
            expires_at: row.expires_ms.map(rfc3339),
            last_used_at: row.last_used_ms.map(rfc3339),
        }
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<Token>>> {
    caller.needs(Scope::Admin)?;
    crate::blocking(move || {
        let all: Vec<Token> = inner.store.tokens()?.into_iter().map(Token::from).collect();
        Ok(Json(paging.cut(all, |token| token.id.clone())?))
    })
    .await
}

pub(crate) async fn create(
    State(inner): Api,
    caller: Caller,
    asked: Result<Json<TokenRequest>, axum::extract::rejection::JsonRejection>,
) -> Answer<(StatusCode, Json<NewToken>)> {
    caller.needs(Scope::Admin)?;
    let Json(asked) = asked.map_err(invalid_json)?;
    let name = &asked.name;
    if name.trim().is_empty() || name.len() > NAME_MAX_BYTES || name.contains(char::is_control) {
        let why = format!(
            "a token needs a name of at most {NAME_MAX_BYTES} bytes, without control characters"
        );
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    if asked.expires_in_s == Some(0) {
        let why = "expires_in_s is 0: the token would never work";
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    crate::blocking(move || {
        let token = generate();
        let expires_ms = asked.expires_in_s.map(|seconds| now_ms() + i64::from(seconds) * 1_000);
        let row = inner.store.add_token(&asked.name, &hash(&token), asked.scope, expires_ms)?;
        Ok((StatusCode::CREATED, Json(NewToken { about: row.into(), token })))
    })
    .await
}

pub(crate) async fn revoke(
    State(inner): Api,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Admin)?;
    crate::blocking(move || {
        if !inner.store.delete_token(&id)? {
            let why = format!("there is no token {id:?}; `squall tokens list` lists them");
            return Err(Problem::new(ErrorCode::UnknownToken, why));
        }
        crate::lock(&inner.known_tokens).clear();
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
