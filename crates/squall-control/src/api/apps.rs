//! Apps, their revisions and who gets which share of the traffic.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use squall_types::state::AppState;
use squall_types::{AppName, ErrorCode, RevisionId};

use crate::Inner;
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Paging, Path, Query, orphaned_plans, unknown_app};
use crate::store::{AppRow, RevisionRow, ShareRow, Store};
use crate::time::rfc3339;
use crate::tokens::Scope;

/// An app as it is served now.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct App {
    pub name: String,
    /// Answers on any Host.
    pub default: bool,
    pub hosts: Vec<String>,
    pub urls: Vec<String>,
    /// Adds up to 100, or is empty when nothing is live.
    pub traffic: Vec<ShareRow>,
    pub functions: Vec<String>,
    pub updated_at: String,
}

/// A revision of an app.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Revision {
    pub id: String,
    pub created_at: String,
    /// Of the app's traffic; 0 when it only has its preview URL.
    pub percent: u8,
    /// Not there where the app has no previews.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
    pub functions: Vec<String>,
    /// Number of files.
    pub assets: usize,
    /// Of components and assets together.
    pub bytes: u64,
    /// The manifest, where one revision was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<serde_json::Value>,
}

/// A change of an app that is not a deployment.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppChange {
    /// `true` makes it the app that answers on any Host; another that was is no more. `null`
    /// leaves it to its manifest again.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(transform = super::without_default)]
    pub default: Option<Option<bool>>,
}

/// A new split of an app's traffic.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficChange {
    pub shares: Vec<ShareRow>,
}

/// Where to roll back to; nothing means what was live before.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    pub revision: Option<String>,
}

/// An app after it was rolled back.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct RolledBack {
    #[serde(flatten)]
    pub app: App,
    pub from: Vec<ShareRow>,
    pub to: Vec<ShareRow>,
    pub warnings: Vec<String>,
}

/// Traffic that was split anew.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Split {
    #[serde(flatten)]
    pub app: App,
    pub warnings: Vec<String>,
}

fn describe(inner: &Inner, row: &AppRow) -> App {
    let state = inner.desired().app(&row.name);
    let functions = state.iter().flat_map(|state| &state.traffic);
    let mut functions: Vec<String> = functions
        .flat_map(|share| share.revision.manifest.functions.keys().map(ToString::to_string))
        .collect();
    functions.sort();
    functions.dedup();
    App {
        name: row.name.to_string(),
        default: state.as_ref().is_some_and(|state| state.default),
        hosts: state.map(|state: std::sync::Arc<AppState>| state.hosts.clone()).unwrap_or_default(),
        urls: inner.urls(&row.name),
        traffic: row.traffic.clone(),
        functions,
        updated_at: rfc3339(row.updated_ms),
    }
}

fn describe_revision(
    inner: &Inner,
    app: &AppRow,
    row: &RevisionRow,
    whole: bool,
) -> Answer<Revision> {
    let content = inner.store.content(&app.name, &row.id)?;
    // A deployment may have made it one too many in the meantime.
    let content = content.ok_or_else(|| unknown_revision(&app.name, row.id.as_str()))?;
    let share = app.traffic.iter().find(|share| share.revision == row.id);
    let manifest = whole.then(|| serde_json::to_value(&content.manifest).unwrap_or_default());
    Ok(Revision {
        id: row.id.to_string(),
        created_at: rfc3339(row.created_ms),
        percent: share.map_or(0, |share| share.percent),
        preview_url: inner.preview_url(&app.name, &row.id),
        functions: content.manifest.functions.keys().map(ToString::to_string).collect(),
        assets: content.assets.len(),
        bytes: content.bytes(),
        manifest,
    })
}

/// The app with this name. A name that can not be one is one that does not exist.
pub(crate) async fn find(inner: &std::sync::Arc<Inner>, app: &str) -> Answer<AppRow> {
    let (inner, app) = (inner.clone(), app.to_owned());
    crate::blocking(move || inner.expect_app(&app)).await
}

impl Inner {
    /// As `find`, blocking. What is kept of apps longer than they are there, such as usage, asks
    /// only when it has nothing.
    pub(crate) fn expect_app(&self, app: &str) -> Answer<AppRow> {
        let name = AppName::parse(app).map_err(|_| unknown_app(app))?;
        self.store.app(&name)?.ok_or_else(|| unknown_app(app))
    }
}

fn unknown_revision(app: &AppName, revision: &str) -> Problem {
    Problem::new(
        ErrorCode::UnknownRevision,
        format!("the app {app} has no revision {revision:?}; `squall revisions {app}` lists them"),
    )
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<App>>> {
    caller.needs(Scope::Read)?;
    crate::blocking(move || {
        let page = paging.cut(inner.store.app_names()?, ToString::to_string)?;
        let mut items = Vec::new();
        for name in &page.items {
            if let Some(row) = inner.store.app(name)? {
                items.push(describe(&inner, &row));
            }
        }
        Ok(Json(Page { items, next: page.next }))
    })
    .await
}

pub(crate) async fn show(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
) -> Answer<Json<App>> {
    caller.needs(Scope::Read)?;
    let row = find(&inner, &app).await?;
    Ok(Json(describe(&inner, &row)))
}

pub(crate) async fn change(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    change: Result<Json<AppChange>, axum::extract::rejection::JsonRejection>,
) -> Answer<Json<App>> {
    caller.needs(Scope::Deploy)?;
    let Json(change) = change.map_err(invalid_json)?;
    let row = find(&inner, &app).await?;
    if let Some(default) = change.default {
        let (name, asking) = (row.name.clone(), inner.clone());
        inner
            .change(&row.name, move |store| {
                let others = match default {
                    Some(true) => asking.default_apps(&name),
                    Some(false) => Vec::new(),
                    None => {
                        asking.check_default_of_manifest(store, &name)?;
                        Vec::new()
                    }
                };
                store.set_default(&name, default, &others).map_err(Problem::from)
            })
            .await?;
        if default == Some(true) {
            // Another app may have been the default: it changed as well.
            let inner = inner.clone();
            crate::blocking(move || {
                crate::Control(inner)
                    .reload()
                    .map_err(|error| Problem::new(ErrorCode::StorageFailed, error.to_string()))
            })
            .await?;
        }
    }
    let row = find(&inner, &app).await?;
    Ok(Json(describe(&inner, &row)))
}

pub(crate) async fn remove(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Admin)?;
    let row = find(&inner, &app).await?;
    let name = row.name.clone();
    inner.change(&row.name, move |store| store.delete_app(&name).map_err(Problem::from)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn revisions(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<Revision>>> {
    caller.needs(Scope::Read)?;
    let row = find(&inner, &app).await?;
    crate::blocking(move || {
        let page = paging.cut_by_time(row.revisions.clone(), |revision| revision.id.to_string())?;
        let items = page.items.iter().map(|one| describe_revision(&inner, &row, one, false));
        Ok(Json(Page { items: items.collect::<Answer<_>>()?, next: page.next }))
    })
    .await
}

pub(crate) async fn revision(
    State(inner): Api,
    caller: Caller,
    Path((app, revision)): Path<(String, String)>,
) -> Answer<Json<Revision>> {
    caller.needs(Scope::Read)?;
    let row = find(&inner, &app).await?;
    crate::blocking(move || {
        let found = row.revisions.iter().find(|one| one.id.as_str() == revision);
        let found = found.ok_or_else(|| unknown_revision(&row.name, &revision))?;
        Ok(Json(describe_revision(&inner, &row, found, true)?))
    })
    .await
}

pub(crate) async fn set_traffic(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    change: Result<Json<TrafficChange>, axum::extract::rejection::JsonRejection>,
) -> Answer<Json<Split>> {
    caller.needs(Scope::Deploy)?;
    let Json(change) = change.map_err(invalid_json)?;
    let row = find(&inner, &app).await?;
    check_shares(&row, &change.shares)?;
    let name = row.name.clone();
    let (shares, checking) = (change.shares, inner.clone());
    let warnings = inner
        .change(&row.name, move |store| {
            checking.check_traffic(store, &name, &shares)?;
            let warnings = lost_plans(store, &name, &shares)?;
            store.set_traffic(&name, &shares)?;
            Ok(warnings)
        })
        .await?;
    let row = find(&inner, &app).await?;
    Ok(Json(Split { app: describe(&inner, &row), warnings }))
}

/// What to tell whoever gives traffic to revisions that lack plans which clients are on.
fn lost_plans(store: &Store, app: &AppName, shares: &[ShareRow]) -> Answer<Vec<String>> {
    let mut warnings = Vec::new();
    for share in shares {
        let Some(content) = store.content(app, &share.revision)? else { continue };
        let lost = orphaned_plans(store, app, &content.manifest)?;
        warnings.extend(lost.into_iter().map(|why| format!("revision {}: {why}", share.revision)));
    }
    Ok(warnings)
}

fn check_shares(app: &AppRow, shares: &[ShareRow]) -> Answer<()> {
    let invalid = |why: String| Err(Problem::new(ErrorCode::InvalidTraffic, why));
    let mut sum = 0;
    for (index, share) in shares.iter().enumerate() {
        if !app.revisions.iter().any(|one| one.id == share.revision) {
            return Err(unknown_revision(&app.name, share.revision.as_str()));
        }
        if !(1..=100).contains(&share.percent) {
            return invalid(format!("{}={} is not from 1 to 100", share.revision, share.percent));
        }
        if shares[..index].iter().any(|earlier| earlier.revision == share.revision) {
            return invalid(format!("{} is named twice", share.revision));
        }
        sum += u32::from(share.percent);
    }
    if sum != 100 {
        return invalid(format!("the shares add up to {sum} percent; they must add up to 100"));
    }
    Ok(())
}

pub(crate) async fn roll_back(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    body: axum::body::Bytes,
) -> Answer<Json<RolledBack>> {
    caller.needs(Scope::Deploy)?;
    let asked: Rollback = match body.is_empty() {
        true => Rollback::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| Problem::new(ErrorCode::InvalidRequest, error.to_string()))?,
    };
    let row = find(&inner, &app).await?;
    let name = row.name.clone();
    let target: Option<RevisionId> = match asked.revision {
        None => None,
        Some(id) => {
            let found = row.revisions.iter().find(|one| one.id.as_str() == id);
            Some(found.ok_or_else(|| unknown_revision(&row.name, &id))?.id.clone())
        }
    };
    let (from, checking) = (row.traffic.clone(), inner.clone());
    let (from, to, warnings) = inner
        .change(&row.name, move |store| {
            if let Some(revision) = target {
                let to = vec![ShareRow { revision, percent: 100 }];
                checking.check_traffic(store, &name, &to)?;
                let warnings = lost_plans(store, &name, &to)?;
                store.set_traffic(&name, &to)?;
                return Ok((from, to, warnings));
            }
            let earlier = store.earlier_traffic(&name)?;
            checking.check_traffic(store, &name, &earlier)?;
            let warnings = lost_plans(store, &name, &earlier)?;
            let (from, to) = store.roll_back(&name)?.ok_or_else(|| {
                Problem::new(
                    ErrorCode::NothingToRollBack,
                    format!("the app {name} has no earlier traffic to go back to"),
                )
            })?;
            Ok((from, to, warnings))
        })
        .await?;
    let row = find(&inner, &app).await?;
    Ok(Json(RolledBack { app: describe(&inner, &row), from, to, warnings }))
}

pub(crate) fn invalid_json(error: axum::extract::rejection::JsonRejection) -> Problem {
    use axum::extract::rejection::JsonRejection;

    match error {
        JsonRejection::BytesRejection(_) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail =
                "the body is larger than what is taken here: 2 MiB, and 16 MiB for a gateway part";
            Problem::new(ErrorCode::InvalidRequest, detail).with_status(413)
        }
        _ => Problem::new(ErrorCode::InvalidRequest, error.body_text()),
    }
}
