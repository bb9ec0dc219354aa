//! API clients of an app: who calls it by a key, on which plan and with which scopes.
//! What changes here holds for the next request; nothing is deployed.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use squall_types::clients::ApiClient as Facts;
use squall_types::{AppName, ErrorCode};

use crate::Inner;
use crate::api::apps::{find, invalid_json};
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Paging, Path, Query};
use crate::store::{ClientRow, Store};
use crate::time::rfc3339;
use crate::tokens::Scope;

const ID_MAX_BYTES: usize = 64;
const SCOPES_MAX: usize = 100;
const SCOPE_MAX_BYTES: usize = 128;

/// A client of an app's API.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ApiClient {
    /// Unique in the app; what functions and upstreams are told.
    pub id: String,
    /// One of `[plans]` in the manifest.
    pub plan: Option<String>,
    pub scopes: Vec<String>,
    /// Its keys are refused while it is.
    pub disabled: bool,
    /// How many keys it has, expired ones included.
    pub keys: u32,
    pub created_at: String,
    pub updated_at: String,
}

/// A client to be made.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiClientRequest {
    /// 1 to 64 letters, digits and - _ . after the first.
    pub id: String,
    #[serde(default)]
    pub plan: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub disabled: bool,
}

/// A change of a client: what is left out stays.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiClientChange {
    /// `null` takes the client off its plan.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(transform = super::without_default)]
    pub plan: Option<Option<String>>,
    /// All of them: takes the place of those before.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    #[serde(default)]
    pub disabled: Option<bool>,
}

impl From<ClientRow> for ApiClient {
    fn from(row: ClientRow) -> Self {
        Self {
            id: row.about.id,
            plan: row.about.plan,
            scopes: row.about.scopes,
            disabled: row.about.disabled,
            keys: row.keys,
            created_at: rfc3339(row.created_ms),
            updated_at: rfc3339(row.updated_ms),
        }
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<ApiClient>>> {
    caller.needs(Scope::Read)?;
    let app = find(&inner, &app).await?.name;
    crate::blocking(move || {
        let limit = paging.limit()?;
        let after = paging.cursor.as_deref().unwrap_or_default();
        // One more than asked for shows whether there is another page.
        let mut rows = inner.store.client_page(&app, after, limit + 1)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| last.about.id.clone());
        Ok(Json(Page { items: rows.into_iter().map(ApiClient::from).collect(), next }))
    })
    .await
}

pub(crate) async fn show(
    State(inner): Api,
    caller: Caller,
    Path((app, client)): Path<(String, String)>,
) -> Answer<Json<ApiClient>> {
    caller.needs(Scope::Read)?;
    let app = find(&inner, &app).await?.name;
    crate::blocking(move || Ok(Json(known_client(&inner.store, &app, &client)?.into()))).await
}

/// The same client may be created again, so that a caller who got no answer can ask once
/// more; another one of the same id is a conflict.
pub(crate) async fn create(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    asked: Result<Json<ApiClientRequest>, JsonRejection>,
) -> Answer<(StatusCode, Json<ApiClient>)> {
    caller.needs(Scope::Deploy)?;
    let Json(asked) = asked.map_err(invalid_json)?;
    check_id(&asked.id)?;
    let app = find(&inner, &app).await?.name;
    let client = Facts {
        id: asked.id,
        plan: asked.plan,
        scopes: checked_scopes(asked.scopes)?,
        disabled: asked.disabled,
    };
    check_plan(&inner, &app, client.plan.as_deref())?;
    inner
        .change(&app.clone(), move |store| match store.add_client(&app, &client)? {
            Ok(created) => Ok((StatusCode::CREATED, Json(created.into()))),
            Err(there) if there.about == client => Ok((StatusCode::OK, Json(there.into()))),
            Err(there) => Err(Problem::new(
                ErrorCode::Conflict,
                format!(
                    "the app {app} has a client {id} already, with other settings; `squall clients update {app} {id}` changes them",
                    id = there.about.id
                ),
            )),
        })
        .await
}

pub(crate) async fn change(
    State(inner): Api,
    caller: Caller,
    Path((app, client)): Path<(String, String)>,
    change: Result<Json<ApiClientChange>, JsonRejection>,
) -> Answer<Json<ApiClient>> {
    caller.needs(Scope::Deploy)?;
    let Json(change) = change.map_err(invalid_json)?;
    let app = find(&inner, &app).await?.name;
    let scopes = change.scopes.map(checked_scopes).transpose()?;
    if let Some(plan) = &change.plan {
        check_plan(&inner, &app, plan.as_deref())?;
    }
    inner
        .change(&app.clone(), move |store| {
            let mut wanted = known_client(store, &app, &client)?.about;
            if let Some(plan) = change.plan {
                wanted.plan = plan;
            }
            if let Some(scopes) = scopes {
                wanted.scopes = scopes;
            }
            if let Some(disabled) = change.disabled {
                wanted.disabled = disabled;
            }
            store.set_client(&app, &wanted)?;
            Ok(Json(known_client(store, &app, &client)?.into()))
        })
        .await
}

pub(crate) async fn remove(
    State(inner): Api,
    caller: Caller,
    Path((app, client)): Path<(String, String)>,
) -> Answer<StatusCode> {
    caller.needs(Scope::Deploy)?;
    let app = find(&inner, &app).await?.name;
    inner
        .change(&app.clone(), move |store| {
            if !store.delete_client(&app, &client)? {
                return Err(unknown_client(&app, &client));
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// The client of this id.
pub(super) fn known_client(store: &Store, app: &AppName, id: &str) -> Answer<ClientRow> {
    store.client(app, id)?.ok_or_else(|| unknown_client(app, id))
}

fn unknown_client(app: &AppName, id: &str) -> Problem {
    Problem::new(
        ErrorCode::UnknownClient,
        format!("the app {app} has no client {id:?}; `squall clients list {app}` lists them"),
    )
}

/// It travels in a header and is written into logs.
fn check_id(id: &str) -> Answer<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins_well = id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if begins_well && id.len() <= ID_MAX_BYTES && id.bytes().all(good) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::InvalidRequest,
        format!(
            "{id:?} can not be the id of a client; use at most {ID_MAX_BYTES} letters, digits and - _ . that begin with a letter or digit"
        ),
    ))
}

/// Sorted and without repetitions. Their characters are those of RFC 6749, section 3.3.
fn checked_scopes(scopes: Vec<String>) -> Answer<Vec<String>> {
    let good = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let wrong = scopes.iter().find(|scope| {
        scope.is_empty() || scope.len() > SCOPE_MAX_BYTES || !scope.bytes().all(good)
    });
    if let Some(wrong) = wrong {
        return Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!(
                "{wrong:?} can not be a scope; use at most {SCOPE_MAX_BYTES} printable characters of ASCII without blanks, quotes and backslashes"
            ),
        ));
    }
    let scopes: BTreeSet<String> = scopes.into_iter().collect();
    if scopes.len() > SCOPES_MAX {
        let why = format!("a client has at most {SCOPES_MAX} scopes");
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    Ok(scopes.into_iter().collect())
}

/// A plan that is not there would leave a client without limits, and nobody would notice.
fn check_plan(inner: &Arc<Inner>, app: &AppName, plan: Option<&str>) -> Answer<()> {
    let Some(plan) = plan else { return Ok(()) };
    let state = inner.desired().app(app);
    let plans: BTreeSet<&str> = state
        .iter()
        .flat_map(|app| &app.traffic)
        .flat_map(|share| share.revision.manifest.plans.keys())
        .map(String::as_str)
        .collect();
    if plans.contains(plan) {
        return Ok(());
    }
    let there = match plans.is_empty() {
        true => "has none".to_owned(),
        false => format!("has {}", plans.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Problem::new(
        ErrorCode::UnknownPlan,
        format!(
            "the app {app} has no plan {plan:?}: what is live {there}; add [plans.{plan}] to squall.toml and apply it first"
        ),
    ))
}

/// What to tell whoever puts a manifest live that lacks plans which clients are on.
pub(crate) fn orphaned_plans(
    store: &Store,
    app: &AppName,
    manifest: &squall_types::manifest::Manifest,
) -> Answer<Vec<String>> {
    let in_use = store.plans_in_use(app)?;
    let orphaned = in_use.into_iter().filter(|(plan, _)| !manifest.plans.contains_key(plan));
    let tell = |(plan, clients): (String, u32)| {
        let who =
            if clients == 1 { "1 client is".to_owned() } else { format!("{clients} clients are") };
        format!(
            "there is no [plans.{plan}], but {who} on it: nothing limits them but the routes' own policies; see `squall clients list {app}`"
        )
    };
    Ok(orphaned.map(tell).collect())
}
