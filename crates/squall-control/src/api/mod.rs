//! The admin API: resources under `/v1`, and what a supervisor and a scraper ask for.

mod apps;
mod cache;
mod client_keys;
mod clients;
mod deployments;
mod gateway;
mod invoke;
mod logs;
mod routes;
mod secrets;
mod tokens;
mod usage;

mod door;
mod openapi;
pub(crate) mod problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::{self, DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use squall_types::ErrorCode;
use squall_types::node::NodeStatus;

use crate::Inner;
use crate::api::door::{Caller, check_host};
use crate::api::problem::Problem;
use crate::tokens::Scope;

pub use apps::{App, AppChange, Revision, Rollback, RolledBack, Split, TrafficChange};
pub use client_keys::{ApiKey, ApiKeyRequest, NewApiKey};
pub use clients::{ApiClient, ApiClientChange, ApiClientRequest};
pub use gateway::{AppliedGateway, GatewayChange, LiveGateway};
pub use invoke::{InvokeAnswer, InvokeRequest};
pub use problem::ProblemBody;
pub use secrets::{Secret, SecretValue};
pub use tokens::{NewToken, Token, TokenRequest};
pub use usage::Usage;

pub(crate) use clients::orphaned_plans;

pub(crate) type Api = State<Arc<Inner>>;
pub(crate) type Answer<T> = Result<T, Problem>;

/// The document that describes this API, as it is served.
pub fn openapi_document() -> serde_json::Value {
    openapi::document()
}

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/openapi.json", get(async || axum::Json(openapi::document())))
        .route("/v1/status", get(status))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::show).patch(apps::change).delete(apps::remove))
        .route("/v1/apps/{app}/deployments", post(deployments::create))
        .route("/v1/apps/{app}/revisions", get(apps::revisions))
        .route("/v1/apps/{app}/revisions/{revision}", get(apps::revision))
        .route("/v1/apps/{app}/traffic", put(apps::set_traffic))
        .route("/v1/apps/{app}/rollback", post(apps::roll_back))
        .route(
            "/v1/apps/{app}/gateway",
            get(gateway::show)
                .put(gateway::apply)
                .layer(DefaultBodyLimit::max(gateway::BODY_MAX_BYTES)),
        )
        .route("/v1/apps/{app}/clients", get(clients::list).post(clients::create))
        .route(
            "/v1/apps/{app}/clients/{client}",
            get(clients::show).patch(clients::change).delete(clients::remove),
        )
        .route(
            "/v1/apps/{app}/clients/{client}/keys",
            get(client_keys::list).post(client_keys::create),
        )
        .route("/v1/apps/{app}/clients/{client}/keys/{prefix}", delete(client_keys::revoke))
        .route("/v1/apps/{app}/secrets", get(secrets::list))
        .route("/v1/apps/{app}/secrets/{name}", put(secrets::set).delete(secrets::remove))
        .route("/v1/apps/{app}/invoke", post(invoke::invoke))
        .route("/v1/apps/{app}/cache/purge", post(cache::purge))
        .route("/v1/apps/{app}/cache/inspect", post(cache::inspect))
        .route("/v1/cache", get(cache::report))
        .route("/v1/gateway/explain", post(gateway::explain))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/logs", get(logs::recent))
        .route("/v1/logs/stream", get(logs::stream))
        .route("/v1/usage", get(usage::sums))
        .route("/v1/gateway/routes", get(routes::report))
        .route("/v1/gateway/upstreams", get(routes::upstreams))
        .fallback(async || {
            Problem::new(
                ErrorCode::InvalidRequest,
                "there is no such resource; see /v1/openapi.json",
            )
            .with_status(404)
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                ErrorCode::MethodNotAllowed,
                "this resource does not take that method; see /v1/openapi.json",
            )
        })
        .layer(axum::middleware::from_fn_with_state(inner.clone(), check_host))
        .with_state(inner)
}

async fn status(State(inner): Api, caller: Caller) -> Answer<axum::Json<NodeStatus>> {
    caller.needs(Scope::Read)?;
    Ok(axum::Json(inner.options.node.status()))
}

async fn readyz(State(inner): Api) -> Response {
    let status = inner.options.node.status();
    match status.ready {
        true => "ready\n".into_response(),
        false => {
            let why = status.waiting_for.unwrap_or_else(|| "starting".to_owned());
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
        }
    }
}

async fn metrics(State(inner): Api) -> Answer<Response> {
    let text = crate::blocking(move || Ok(inner.options.node.metrics())).await?;
    let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, text).into_response())
}

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

/// What a route's template takes from the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = extract::Query::from_request_parts(parts, state).await;
        let extract::Query(query) =
            found.map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.body_text()))?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = extract::Path::from_request_parts(parts, state).await;
        let extract::Path(path) =
            found.map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.body_text()))?;
        Ok(Self(path))
    }
}

/// A page of a list.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; `null` on the last.
    pub next: Option<String>,
}

/// How to page through a list.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Paging {
    /// Items of a page.
    fn limit(&self) -> Answer<usize> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=500).contains(&limit) {
            let why = format!("limit = {limit} must be from 1 to 500");
            return Err(Problem::new(ErrorCode::InvalidRequest, why));
        }
        Ok(limit)
    }

    /// Cuts a page from a whole list whose keys ascend. The cursor is the key of the last
    /// item that was given, which may be gone when the next page is asked for.
    fn cut<T>(self, items: Vec<T>, key: impl Fn(&T) -> String) -> Answer<Page<T>> {
        let after = match &self.cursor {
            None => 0,
            Some(cursor) => items.partition_point(|item| key(item) <= *cursor),
        };
        self.page(items, after, key)
    }

    /// The same of a list in the order of time. Where an item was that is gone is not known.
    fn cut_by_time<T>(self, items: Vec<T>, key: impl Fn(&T) -> String) -> Answer<Page<T>> {
        let after = match &self.cursor {
            None => 0,
            Some(cursor) => {
                let found = items.iter().position(|item| key(item) == *cursor);
                found.map(|at| at + 1).ok_or_else(|| {
                    let why = format!("cursor = {cursor:?} names nothing that is still there; begin again without it");
                    Problem::new(ErrorCode::InvalidRequest, why)
                })?
            }
        };
        self.page(items, after, key)
    }

    fn page<T>(&self, items: Vec<T>, after: usize, key: impl Fn(&T) -> String) -> Answer<Page<T>> {
        let limit = self.limit()?;
        let more = items.len() > after + limit;
        let items: Vec<T> = items.into_iter().skip(after).take(limit).collect();
        let next = items.last().filter(|_| more).map(key);
        Ok(Page { items, next })
    }
}

fn unknown_app(app: &str) -> Problem {
    Problem::new(
        ErrorCode::UnknownApp,
        format!("there is no app {app:?}; `squall apps` lists them"),
    )
}

/// Tells `null` from a field that is not there.
fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}

/// For fields that `given` reads: left out is not what `null` is.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}
