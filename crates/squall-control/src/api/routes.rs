//! What the gateway counted for each route, and how its upstreams are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use squall_types::AppName;
use squall_types::gateway::{RoutesReport, UpstreamsReport};

use crate::Inner;
use crate::api::apps::find;
use crate::api::door::Caller;
use crate::api::{Answer, Api, Query};
use crate::tokens::Scope;

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Wanted {
    app: Option<String>,
}

impl Wanted {
    /// # Errors
    /// Fails when there is no app of that name.
    pub(crate) async fn app(&self, inner: &Arc<Inner>) -> Answer<Option<AppName>> {
        match &self.app {
            Some(app) => Ok(Some(find(inner, app).await?.name)),
            None => Ok(None),
        }
    }
}

pub(crate) async fn report(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<RoutesReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app(&inner).await?;
    // Of thousands of routes it takes a while.
    crate::blocking(move || Ok(Json(inner.options.routes.routes(app.as_ref())))).await
}

pub(crate) async fn upstreams(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<UpstreamsReport>> {
    caller.needs(Scope::Read)?;
    let app = wanted.app(&inner).await?;
    crate::blocking(move || Ok(Json(inner.options.upstreams.upstreams(app.as_ref())))).await
}
