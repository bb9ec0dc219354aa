//! How requests reach an app: shown, and replaced without a build or an upload. A change
//! is a revision like any other: the live one with another gateway part.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};
use squall_types::gateway::{ExplainQuery, Explanation, GatewayPart, PartError};
use squall_types::{AppName, ErrorCode, RevisionId};

use crate::Inner;
use crate::api::apps::{find, invalid_json};
use crate::api::clients::orphaned_plans;
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Path};
use crate::store::{AppRow, Content, ShareRow, Store};
use crate::tokens::Scope;

/// Largest configuration that is taken in, as JSON: ten thousand routes are some megabytes.
pub(crate) const BODY_MAX_BYTES: usize = 16 << 20;

/// The gateway part of what is live.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct LiveGateway {
    pub app: String,
    /// The revision that has it; of a split the one with most of the traffic.
    pub revision: String,
    /// All revisions that are live.
    pub traffic: Vec<ShareRow>,
    /// With the keys of `squall.toml`, which has a JSON Schema of its own; of functions the
    /// `routes` and `policy`.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub gateway: GatewayPart,
}

/// A new gateway part for an app.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayChange {
    /// The whole of it: what is left out is no more. Names the functions of the live
    /// revision, all of them.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub gateway: GatewayPart,
    /// The revision that the change was made for; `null` where nothing was live. When another
    /// is live by now, nothing is changed. Left out, it takes the place of whatever is live.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(transform = super::without_default)]
    pub base: Option<Option<RevisionId>>,
}

/// A gateway part that is live.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct AppliedGateway {
    pub app: String,
    pub revision: String,
    /// What was live before.
    pub previous: Option<String>,
    /// False when the same content had been deployed before.
    pub created: bool,
    pub urls: Vec<String>,
    pub warnings: Vec<String>,
}

pub(crate) async fn show(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
) -> Answer<Json<LiveGateway>> {
    caller.needs(Scope::Read)?;
    let row = find(&inner, &app).await?;
    let Some(leading) = row.traffic.iter().max_by_key(|share| share.percent) else {
        return Err(Problem::new(
            ErrorCode::UnknownRevision,
            format!(
                "nothing of the app {} is live; `squall revisions {0}` lists what there is",
                row.name
            ),
        ));
    };
    let leading = leading.revision.clone();
    crate::blocking(move || {
        let live = Live::read(&inner.store, &row.name, &leading)?;
        Ok(Json(LiveGateway {
            app: row.name.to_string(),
            revision: live.id.to_string(),
            traffic: row.traffic,
            gateway: GatewayPart::of(&live.content.manifest),
        }))
    })
    .await
}

pub(crate) async fn apply(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    change: Result<Json<GatewayChange>, JsonRejection>,
) -> Answer<Json<AppliedGateway>> {
    caller.needs(Scope::Deploy)?;
    let Json(change) = change.map_err(invalid_json)?;
    let app = AppName::parse(&app)
        .map_err(|error| Problem::new(ErrorCode::InvalidManifest, error.to_string()))?;
    let mut applied = replace(&inner, &app, change).await?;
    applied.urls = inner.urls(&app);
    tracing::info!(app = applied.app, revision = applied.revision, "applied a gateway part");
    Ok(Json(applied))
}

/// What would become of a request. The request itself is not made.
pub(crate) async fn explain(
    State(inner): Api,
    caller: Caller,
    query: Result<Json<ExplainQuery>, JsonRejection>,
) -> Answer<Json<Explanation>> {
    caller.needs(Scope::Read)?;
    let Json(query) = query.map_err(invalid_json)?;
    if let Some(app) = &query.app {
        find(&inner, app.as_str()).await?;
    }
    crate::blocking(move || Ok(Json(inner.options.explain.explain(&query)))).await
}

/// Reads what is live and writes its successor in one change, so that no other comes
/// between the two.
async fn replace(
    inner: &Arc<Inner>,
    app: &AppName,
    change: GatewayChange,
) -> Answer<AppliedGateway> {
    let (name, checking) = (app.clone(), inner.clone());
    inner
        .change(app, move |store| {
            let row = store.app(&name)?;
            let live = row.as_ref().map_or(Ok(None), |row| the_live_one(store, row))?;
            if let Some(base) = &change.base {
                check_base(&name, live.as_ref(), base.as_ref())?;
            }
            let content = match &live {
                None => Content::of_manifest(
                    change
                        .gateway
                        .into_manifest(name.clone())
                        .map_err(|error| does_not_fit(&name, None, &error))?,
                ),
                Some(live) => Content {
                    manifest: change
                        .gateway
                        .put_into(&live.content.manifest)
                        .map_err(|error| does_not_fit(&name, Some(live), &error))?,
                    ..live.content.clone()
                },
            };
            checking.check_claims(&name, &content.manifest)?;
            let revision = content.revision_id();
            let warnings = orphaned_plans(store, &name, &content.manifest)?;
            let created = store.deploy(&name, &revision, &content, true)?;
            Ok(AppliedGateway {
                app: name.to_string(),
                revision: revision.to_string(),
                previous: live.as_ref().map(|live| live.id.to_string()),
                created,
                urls: Vec::new(),
                warnings,
            })
        })
        .await
}

/// The revision that a change starts from. `None` when nothing is live.
fn the_live_one(store: &Store, row: &AppRow) -> Answer<Option<Live>> {
    match row.traffic.as_slice() {
        [] => Ok(None),
        [whole] => Live::read(store, &row.name, &whole.revision).map(Some),
        // Each side has a gateway part of its own; whichever was replaced, the split that
        // somebody set up would be over.
        [first, ..] => Err(Problem::new(
            ErrorCode::TrafficIsSplit,
            format!(
                "the traffic of {app} is split between {sides}, and a change of the gateway starts from one revision; end the split first, such as with `squall traffic {app} {}=100`",
                first.revision,
                app = row.name,
                sides = row
                    .traffic
                    .iter()
                    .map(|share| format!("{} ({}%)", share.revision, share.percent))
                    .collect::<Vec<_>>()
                    .join(" and "),
            ),
        )),
    }
}

/// A revision that is live.
struct Live {
    id: RevisionId,
    content: Content,
}

impl Live {
    fn read(store: &Store, app: &AppName, id: &RevisionId) -> Answer<Self> {
        let content = store.content(app, id)?.ok_or_else(|| {
            let why = format!("revision {id} of {app} is live but not stored");
            Problem::new(ErrorCode::StorageFailed, why)
        })?;
        Ok(Self { id: id.clone(), content })
    }
}

fn check_base(app: &AppName, live: Option<&Live>, base: Option<&RevisionId>) -> Answer<()> {
    if live.map(|live| &live.id) == base {
        return Ok(());
    }
    let named = |id: Option<&RevisionId>| match id {
        Some(id) => format!("revision {id}"),
        None => "nothing".to_owned(),
    };
    Err(Problem::new(
        ErrorCode::Conflict,
        format!(
            "the change was made for {app} with {} live, but {} is live by now; look at the difference again",
            named(base),
            named(live.map(|live| &live.id)),
        ),
    ))
}

fn does_not_fit(app: &AppName, live: Option<&Live>, error: &PartError) -> Problem {
    let functions = || {
        let names = live.iter().flat_map(|live| live.content.manifest.functions.keys());
        let names: Vec<String> = names.map(ToString::to_string).collect();
        match (live, names.is_empty()) {
            (None, _) => format!("nothing of {app} is live yet"),
            (Some(live), true) => format!("revision {} of {app} has no functions", live.id),
            (Some(live), false) => {
                format!("revision {} of {app} has {}", live.id, names.join(", "))
            }
        }
    };
    let code = match error {
        PartError::Invalid(_) => ErrorCode::InvalidManifest,
        PartError::FunctionMissing(_) | PartError::FunctionUnnamed(_) => ErrorCode::FunctionsDiffer,
    };
    let detail = match error {
        PartError::Invalid(invalid) => invalid.message.clone(),
        PartError::FunctionMissing(name) => format!(
            "functions.{name} is not live, so no route can lead to it: {}; `squall deploy` brings new functions",
            functions()
        ),
        PartError::FunctionUnnamed(name) => format!(
            "functions.{name} is live, but this configuration does not name it: {}; `squall deploy` takes functions out",
            functions()
        ),
    };
    Problem::new(code, detail)
}
