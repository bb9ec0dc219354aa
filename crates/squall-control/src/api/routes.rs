//! What the gateway counted for each route.

use axum::Json;
use axum::extract::{Query, State};
use squall_types::gateway::RoutesReport;
use squall_types::{AppName, ErrorCode};

use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api};
use crate::tokens::Scope;

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Wanted {
    app: Option<String>,
}

pub(crate) async fn report(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<RoutesReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app.as_deref().map(AppName::parse).transpose();
    let app = app.map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.to_string()))?;
    // Of thousands of routes it takes a while.
    crate::blocking(move || Ok(Json(inner.options.routes.routes(app.as_ref())))).await
}
