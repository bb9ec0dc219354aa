//! The edge cache of an app: purged, looked into, counted.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use squall_types::cache::{CacheError, CacheInspect, CacheInspection, CacheReport, PurgeRequest};

use crate::api::apps::{find, invalid_json};
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::routes::Wanted;
use crate::api::{Answer, Api, Path, Query};
use crate::tokens::Scope;

/// Answers when the purge holds for every later request, also after a restart.
pub(crate) async fn purge(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    request: Result<Json<PurgeRequest>, JsonRejection>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Deploy)?;
    let Json(request) = request.map_err(invalid_json)?;
    let app = find(&inner, &app).await?.name;
    crate::blocking(move || {
        inner.options.cache.purge(&app, &request).map_err(told)?;
        let count = request.targets.len();
        tracing::info!(%app, count, soft = request.soft, "purged the cache");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(crate) async fn inspect(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    request: Result<Json<CacheInspect>, JsonRejection>,
) -> Answer<Json<CacheInspection>> {
    caller.needs(Scope::Read)?;
    let Json(request) = request.map_err(invalid_json)?;
    let app = find(&inner, &app).await?.name;
    // Heads may have to be read from disk.
    crate::blocking(move || inner.options.cache.inspect(&app, &request).map(Json).map_err(told))
        .await
}

pub(crate) async fn report(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<CacheReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app(&inner).await?;
    crate::blocking(move || Ok(Json(inner.options.cache.report(app.as_ref())))).await
}

fn told(error: CacheError) -> Problem {
    Problem::new(error.code, error.message)
}
