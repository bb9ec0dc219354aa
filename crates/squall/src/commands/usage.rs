//! Sums of what functions and upstreams used, from the node's ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use squall_types::usage::UsageTotals;

use super::connect;
use crate::cli::{Global, UsageBy, UsageOptions};
use crate::client::Query;
use crate::failure::Failure;
use crate::output::{self, Align, table};

/// A row of the ledger. It is read with tolerance, so that a newer node's further
/// fields change nothing.
#[derive(Debug, Deserialize)]
struct Row {
    day: String,
    app: String,
    function: Option<String>,
    upstream: Option<String>,
    client: Option<String>,
    totals: UsageTotals,
}

pub(super) async fn run(global: &Global, options: &UsageOptions) -> Result<(), Failure> {
    let client = connect(global)?;
    let query = Query::new("/v1/usage")
        .with("app", options.app.as_ref().map(|app| app.as_str()))
        .with("client", options.client.as_deref())
        .with("since", options.since.as_deref())
        .with("until", options.until.as_deref());
    let answer: Value = client.get("reading usage", query.as_str()).await?;
    if global.json && options.by.is_none() {
        output::json(&answer);
        return Ok(());
    }
    let odd =
        |error| Failure::failed("reading usage", format!("the node's answer is odd: {error}"));
    let rows = Vec::<Row>::deserialize(&answer["rows"]).map_err(odd)?;
    let groups = group(&rows, options.by);
    if global.json {
        let rows: Vec<Value> = groups.iter().map(|(key, totals)| as_json(key, totals)).collect();
        output::json(&json!({ "rows": rows, "total": answer["total"] }));
        return Ok(());
    }
    let total = UsageTotals::deserialize(&answer["total"]).map_err(odd)?;
    output::line(&show(&groups, options.by, &total));
    Ok(())
}

/// What rows are summed by: the parts that are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Key {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

fn group(rows: &[Row], by: Option<UsageBy>) -> BTreeMap<Key, UsageTotals> {
    let mut groups = BTreeMap::<Key, UsageTotals>::new();
    for row in rows {
        let key = Key {
            day: matches!(by, None | Some(UsageBy::Day)).then(|| row.day.clone()),
            app: (by != Some(UsageBy::Day)).then(|| row.app.clone()),
            function: row.function.clone().filter(|_| by == Some(UsageBy::Function)),
            upstream: row.upstream.clone().filter(|_| by == Some(UsageBy::Function)),
            client: row.client.clone().filter(|_| by == Some(UsageBy::Client)),
        };
        groups.entry(key).or_default().merge(&row.totals);
    }
    groups
}

fn as_json(key: &Key, totals: &UsageTotals) -> Value {
    let mut value = json!(key);
    value["totals"] = json!(totals);
    value
}

/// Who used something, as the columns that tell it: title and cell.
fn names(key: &Key, by: Option<UsageBy>) -> Vec<(&'static str, String)> {
    let mut cells = Vec::new();
    cells.extend(key.day.clone().map(|day| ("DAY", day)));
    cells.extend(key.app.clone().map(|app| ("APP", app)));
    match by {
        Some(UsageBy::Function) => {
            let upstream = key.upstream.as_ref().map(|name| format!("upstream {name}"));
            let target = key.function.clone().or(upstream).unwrap_or_default();
            cells.push(("FUNCTION", target));
        }
        Some(UsageBy::Client) => {
            cells.push(("CLIENT", key.client.clone().unwrap_or_else(|| "-".to_owned())));
        }
        None | Some(UsageBy::Day | UsageBy::App) => {}
    }
    cells
}

fn show(groups: &BTreeMap<Key, UsageTotals>, by: Option<UsageBy>, total: &UsageTotals) -> String {
    let Some((first, _)) = groups.first_key_value() else {
        return "Nothing ran in this time.".to_owned();
    };
    let mut columns: Vec<_> =
        names(first, by).into_iter().map(|(title, _)| (title, Align::Left)).collect();
    let named = columns.len();
    let numbers =
        ["CALLS", "FAILED", "ABORTED", "COLD", "CACHED", "WALL", "CPU", "MEMORY", "IN", "OUT"];
    columns.extend(numbers.map(|title| (title, Align::Right)));
    let mut rows: Vec<Vec<String>> =
        groups.iter().map(|(key, totals)| row(&names(key, by), totals)).collect();
    if groups.len() > 1 {
        let mut label = vec!["total".to_owned()];
        label.resize(named, String::new());
        rows.push([label, cells(total)].concat());
    }
    let mut text = table(&columns, &rows);
    if total.cpu_estimated_ns > 0 {
        let part = output::duration_us(total.cpu_estimated_ns / 1000);
        text.push_str(&format!("\n{part} of CPU time is an estimate (shared instances)."));
    }
    text
}

fn row(names: &[(&str, String)], totals: &UsageTotals) -> Vec<String> {
    names.iter().map(|(_, cell)| cell.clone()).chain(cells(totals)).collect()
}

fn cells(totals: &UsageTotals) -> Vec<String> {
    // What memory costs elsewhere: gigabytes held for seconds.
    let gigabyte_seconds = totals.memory_byte_ms as f64 / 1e12;
    vec![
        output::count(totals.invocations),
        output::count(totals.failed),
        output::count(totals.aborted),
        output::count(totals.cold),
        output::count(totals.cache_hits),
        output::duration_us(totals.wall_ns / 1000),
        output::duration_us(totals.cpu_ns / 1000),
        format!("{gigabyte_seconds:.3} GB·s"),
        output::size(totals.bytes_in),
        output::size(totals.bytes_out),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, app: &str, function: &str) -> Row {
        let totals = UsageTotals { invocations: 1500, cpu_ns: 2_000_000, ..UsageTotals::default() };
        let (day, app, function) = (day.into(), app.into(), Some(function.into()));
        Row { day, app, function, upstream: None, client: None, totals }
    }

    #[test]
    fn rows_are_summed_by_what_is_asked() {
        let rows =
            [row("2026-01-01", "a", "x"), row("2026-01-01", "a", "y"), row("2026-01-02", "b", "x")];
        let sizes = [None, Some(UsageBy::Day), Some(UsageBy::App), Some(UsageBy::Function)]
            .map(|by| group(&rows, by).len());
        assert_eq!(sizes, [2, 2, 2, 3]);
        let groups = group(&rows, Some(UsageBy::App));
        let (key, totals) = groups.first_key_value().unwrap();
        let value = as_json(key, totals);
        assert_eq!((&value["app"], &value["totals"]["invocations"]), (&json!("a"), &json!(3000)));
        assert_eq!(value.get("day"), None);
        let total = UsageTotals { invocations: 4500, ..UsageTotals::default() };
        let shown = show(&groups, Some(UsageBy::App), &total);
        assert!(shown.starts_with("APP    CALLS"), "{shown}");
        assert!(shown.contains("\na      3,000") && shown.contains("\ntotal  4,500"), "{shown}");
        assert_eq!(show(&BTreeMap::new(), None, &total), "Nothing ran in this time.");
    }

    #[test]
    fn upstreams_and_clients_are_rows() {
        let mut upstream = row("2026-01-01", "a", "");
        (upstream.function, upstream.upstream) = (None, Some("users".into()));
        let mut known = row("2026-01-01", "a", "x");
        known.client = Some("acme".into());
        let rows = [row("2026-01-01", "a", "x"), upstream, known];
        let total = UsageTotals { invocations: 4500, ..UsageTotals::default() };
        let shown = |by| show(&group(&rows, Some(by)), Some(by), &total);
        let by_function = shown(UsageBy::Function);
        assert!(by_function.contains("\na      x               3,000"), "{by_function}");
        assert!(by_function.contains("\na      upstream users  1,500"), "{by_function}");
        let by_client = shown(UsageBy::Client);
        assert!(by_client.contains("\na      -       3,000"), "{by_client}");
        assert!(by_client.contains("\na      acme    1,500"), "{by_client}");
    }
}
