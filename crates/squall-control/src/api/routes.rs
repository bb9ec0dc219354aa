//! What the gateway counted for each route, and how its upstreams are.

use axum::Json;
use axum::extract::{Query, State};
use squall_types::gateway::{RoutesReport, UpstreamsReport};
use squall_types::{AppName, ErrorCode};

use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api};
use crate::tokens::Scope;

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Wanted {
    app: Option<String>,
}

impl Wanted {
    fn app(&self) -> Answer<Option<AppName>> {
        let app = self.app.as_deref().map(AppName::parse).transpose();
        app.map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.to_string()))
    }
}

pub(crate) async fn report(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<RoutesReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app()?;
    // Of thousands of routes it takes a while.
    crate::blocking(move || Ok(Json(inner.options.routes.routes(app.as_ref())))).await
}

pub(crate) async fn upstreams(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<UpstreamsReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app()?;
    crate::blocking(move || Ok(Json(inner.options.upstreams.upstreams(app.as_ref())))).await
}
