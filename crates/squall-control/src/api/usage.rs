//! Usage: sums of the ledger.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use squall_types::ErrorCode;
use squall_types::calendar::Day;
use squall_types::usage::{UsageFilter, UsageRow, UsageTotals};

use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Query};
use crate::tokens::Scope;

/// Rows by day, app, function or upstream, revision, trigger and API client, and their sum.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct Usage {
    pub rows: Vec<UsageRow>,
    pub total: UsageTotals,
}

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Wanted {
    app: Option<String>,
    client: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

fn check_day(key: &str, day: &Option<String>) -> Answer<()> {
    let Some(day) = day else { return Ok(()) };
    if Day::parse(day).is_some() {
        return Ok(());
    }
    let why = format!("{key} = {day:?} is not a day such as 2026-01-31");
    Err(Problem::new(ErrorCode::InvalidRequest, why))
}

pub(crate) async fn sums(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Usage>> {
    caller.needs(Scope::Read)?;
    check_day("since", &wanted.since)?;
    check_day("until", &wanted.until)?;
    let Wanted { app, client, since, until } = wanted;
    let filter = UsageFilter { app, client, from: since, to: until };
    crate::blocking(move || {
        let rows = inner.options.usage.usage(&filter).map_err(|error| {
            Problem::new(
                ErrorCode::StorageFailed,
                format!("the usage ledger can not be read: {error}"),
            )
        })?;
        if let (Some(app), true) = (&filter.app, rows.is_empty()) {
            inner.expect_app(app)?;
        }
        let mut total = UsageTotals::default();
        rows.iter().for_each(|row| total.merge(&row.totals));
        Ok(Json(Usage { rows, total }))
    })
    .await
}
