//! A live view of routes: what happened between two looks at the node's counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rustix::termios;
use serde_json::{Value, json};
use squall_types::gateway::{LatencyBucket, RouteReport, RoutesReport, latency_quantile_us};

use super::super::connect;
use crate::cli::{Global, TopOptions};
use crate::client::{Client, Query};
use crate::failure::{Exit, Failure};
use crate::output::{self, Align};
use crate::target::Target;

const WHAT: &str = "reading what routes do";
/// To the beginning of the screen; the lines that follow take the place of the old ones.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

pub(super) async fn run(global: &Global, options: &TopOptions) -> Result<(), Failure> {
    let mut client = connect(global)?;
    let query =
        Query::new("/v1/gateway/routes").with("app", options.app.as_ref().map(|app| app.as_str()));
    let interval = Duration::from_secs_f64(options.interval_s);
    let animated = !options.once && !global.json && output::moves_cursor(&std::io::stdout());
    let mut before: RoutesReport = client.get(WHAT, query.as_str()).await?;
    if animated {
        output::bytes(b"\x1b[2J");
    }
    let mut lost = false;
    loop {
        tokio::time::sleep(interval).await;
        let now: RoutesReport = match client.get(WHAT, query.as_str()).await {
            Ok(report) => report,
            Err(failure) if options.once || failure.exit != Exit::Unreachable => {
                return Err(failure);
            }
            Err(_) => {
                if !std::mem::replace(&mut lost, true) {
                    output::note("… the connection was lost; connecting again");
                }
                client = again(client);
                continue;
            }
        };
        lost = false;
        let (seconds, rows) = rows(&before, &now);
        if global.json {
            output::json(&as_json(seconds, &rows));
        } else if animated {
            output::bytes(screen(&rows).as_bytes());
        } else {
            output::line(&table(&rows, usize::MAX));
        }
        if options.once {
            return Ok(());
        }
        if !global.json && !animated {
            output::line("");
        }
        before = now;
    }
}

/// A node on this machine may have come back on another port.
fn again(client: Client) -> Client {
    let Some(data_dir) = client.target().data_dir.clone() else { return client };
    Target::local(&data_dir).and_then(Client::new).unwrap_or(client)
}

/// What one route did between two reports.
#[derive(Debug, PartialEq)]
struct Row {
    app: String,
    route: String,
    per_second: f64,
    /// Parts of the requests, 0 to 1; by class of status.
    client_errors: f64,
    server_errors: f64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    in_flight: u64,
    bytes_out_per_second: f64,
    rejections: BTreeMap<String, u64>,
}

/// The busiest first, and how many seconds lie between the reports.
fn rows(before: &RoutesReport, now: &RoutesReport) -> (f64, Vec<Row>) {
    // A new server process counts from zero, and since its own beginning.
    let is_new = now.uptime_us < before.uptime_us;
    let since_us = if is_new { 0 } else { before.uptime_us };
    let seconds = ((now.uptime_us - since_us) as f64 / 1e6).max(1e-6);
    let earlier: BTreeMap<_, _> =
        before.items.iter().filter(|_| !is_new).map(|one| ((&one.app, &one.route), one)).collect();
    let row = |route: &RouteReport| row(earlier.get(&(&route.app, &route.route)), route, seconds);
    let mut rows: Vec<Row> = now.items.iter().map(row).collect();
    rows.sort_by(|a, b| {
        b.per_second
            .total_cmp(&a.per_second)
            .then_with(|| (&a.app, &a.route).cmp(&(&b.app, &b.route)))
    });
    (seconds, rows)
}

fn row(before: Option<&&RouteReport>, now: &RouteReport, seconds: f64) -> Row {
    let grown = |count: u64, earlier: fn(&RouteReport) -> u64| {
        // A route that was gone in between counts from zero again.
        count.checked_sub(before.map_or(0, |before| earlier(before))).unwrap_or(count)
    };
    let class = |name: &str| {
        let count = now.requests.get(name).copied().unwrap_or(0);
        let earlier = before.and_then(|before| before.requests.get(name)).copied().unwrap_or(0);
        count.checked_sub(earlier).unwrap_or(count)
    };
    let requests: u64 = now.requests.keys().map(|name| class(name)).sum();
    let part = |count: u64| if requests == 0 { 0.0 } else { count as f64 / requests as f64 };
    let latency: Vec<LatencyBucket> = now
        .latency
        .iter()
        .map(|bucket| {
            let same = |other: &&LatencyBucket| other.from_us == bucket.from_us;
            let earlier = before.and_then(|before| before.latency.iter().find(same));
            let earlier = earlier.map_or(0, |earlier| earlier.count);
            let count = bucket.count.checked_sub(earlier).unwrap_or(bucket.count);
            LatencyBucket { count, ..*bucket }
        })
        .collect();
    let rejections = now.rejections.iter().map(|(code, count)| {
        let earlier = before.and_then(|before| before.rejections.get(code)).copied().unwrap_or(0);
        (code.clone(), count.checked_sub(earlier).unwrap_or(*count))
    });
    Row {
        app: now.app.to_string(),
        route: now.route.clone(),
        per_second: requests as f64 / seconds,
        client_errors: part(class("4xx")),
        server_errors: part(class("5xx")),
        p50_us: latency_quantile_us(&latency, 0.5),
        p99_us: latency_quantile_us(&latency, 0.99),
        in_flight: now.in_flight,
        bytes_out_per_second: grown(now.response_bytes, |one| one.response_bytes) as f64 / seconds,
        rejections: rejections.filter(|(_, count)| *count > 0).collect(),
    }
}

fn as_json(seconds: f64, rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        json!({
            "app": row.app,
            "route": row.route,
            "requests_per_second": row.per_second,
            "client_error_ratio": row.client_errors,
            "server_error_ratio": row.server_errors,
            "p50_us": row.p50_us,
            "p99_us": row.p99_us,
            "in_flight": row.in_flight,
            "response_bytes_per_second": row.bytes_out_per_second,
            "rejections": row.rejections,
        })
    });
    json!({ "seconds": seconds, "routes": rows.collect::<Vec<_>>() })
}

/// The whole screen: as many routes as there is room for.
fn screen(rows: &[Row]) -> String {
    // A terminal that does not know its size says zero.
    let size = termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0);
    let (height, width) =
        size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
    let mut text = HOME.to_owned();
    // The last line stays empty, so that the screen never scrolls.
    for line in table(rows, height.saturating_sub(3).max(1)).lines() {
        let line: String = line.chars().take(width).collect();
        let _ = write!(text, "{line}{CLEAR_LINE}\r\n");
    }
    text.push_str(CLEAR_BELOW);
    text
}

fn table(rows: &[Row], rows_max: usize) -> String {
    if rows.is_empty() {
        return "No routes yet. An app has some once it is deployed.".to_owned();
    }
    let columns = [
        ("APP", Align::Left),
        ("ROUTE", Align::Left),
        ("REQ/S", Align::Right),
        ("4XX", Align::Right),
        ("5XX", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("OUT/S", Align::Right),
    ];
    let cells: Vec<Vec<String>> = rows.iter().take(rows_max).map(cells).collect();
    let mut text = output::table(&columns, &cells);
    let more = rows.len().saturating_sub(rows_max);
    if more > 0 {
        let _ = write!(text, "\n… and {} more", output::count(more as u64));
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let percent = |part: f64| match part {
        0.0 => "-".to_owned(),
        part => format!("{:.1}%", part * 100.0),
    };
    let time = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), output::duration_us);
    let rate = match row.per_second {
        0.0 => "-".to_owned(),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => output::count(rate.round() as u64),
    };
    // Names come from manifests; none of their characters may move the cursor.
    let safe = |name: &str| -> String {
        let escaped = name.chars().map(|character| match character.is_control() {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        });
        escaped.collect()
    };
    vec![
        safe(&row.app),
        safe(&row.route),
        rate,
        percent(row.client_errors),
        percent(row.server_errors),
        time(row.p50_us),
        time(row.p99_us),
        output::count(row.in_flight),
        output::size(row.bytes_out_per_second as u64),
    ]
}

#[cfg(test)]
mod tests {
    use squall_types::AppName;

    use super::*;

    fn route(name: &str, ok: u64, failed: u64) -> RouteReport {
        RouteReport {
            app: AppName::parse("shop").unwrap(),
            route: name.to_owned(),
            requests: [("2xx".to_owned(), ok), ("5xx".to_owned(), failed)].into(),
            rejections: [("SQ0503".to_owned(), failed)].into(),
            in_flight: 2,
            request_bytes: 0,
            response_bytes: ok * 1_000,
            latency: vec![LatencyBucket { from_us: 1_000, to_us: Some(2_000), count: ok + failed }],
            latency_sum_us: 0,
        }
    }

    fn report(uptime_us: u64, items: Vec<RouteReport>) -> RoutesReport {
        RoutesReport { uptime_us, items }
    }

    #[test]
    fn rows_are_what_happened_in_between() {
        let before = report(1_000_000, vec![route("busy", 100, 0), route("gone", 1, 0)]);
        let now = report(3_000_000, vec![route("quiet", 0, 0), route("busy", 250, 50)]);
        let (seconds, rows) = rows(&before, &now);
        assert_eq!(seconds, 2.0);
        assert_eq!((rows[0].route.as_str(), rows[1].route.as_str()), ("busy", "quiet"));
        assert_eq!((rows[0].per_second, rows[0].server_errors), (100.0, 0.25));
        assert_eq!((rows[0].p50_us, rows[0].p99_us), (Some(1_500), Some(1_990)));
        assert_eq!(rows[0].bytes_out_per_second, 75_000.0);
        assert_eq!(rows[0].rejections, [("SQ0503".to_owned(), 50)].into());
        assert_eq!((rows[1].per_second, rows[1].p50_us), (0.0, None));
        let value = as_json(seconds, &rows);
        assert_eq!(value["routes"][0]["requests_per_second"], json!(100.0));
        assert_eq!(value["routes"][1]["p99_us"], Value::Null);
    }

    #[test]
    fn a_new_process_counts_since_its_own_beginning() {
        let before = report(90_000_000, vec![route("busy", 1_000, 0)]);
        let now = report(4_000_000, vec![route("busy", 400, 0)]);
        let (seconds, rows) = rows(&before, &now);
        assert_eq!((seconds, rows[0].per_second), (4.0, 100.0));
        // A route that was away starts anew while the process goes on.
        let later = report(91_000_000, vec![route("busy", 10, 0)]);
        assert_eq!(super::rows(&before, &later).1[0].per_second, 10.0);
    }

    #[test]
    fn a_table_has_room_for_what_fits_and_no_control_characters() {
        let now = report(1_000_000, vec![route("a\u{1b}[2J", 1_234, 1), route("b", 5, 0)]);
        let (_, rows) = rows(&report(0, Vec::new()), &now);
        let text = table(&rows, usize::MAX);
        assert!(text.starts_with("APP   ROUTE"), "{text}");
        assert!(text.contains("\nshop  a\\u{1b}[2J  1,235    -  0.1%"), "{text}");
        assert!(text.contains("shop  b             5.0    -     -  1.5 ms  2.0 ms"), "{text}");
        assert!(table(&rows, 1).ends_with("\n… and 1 more"));
        assert!(table(&[], 9).starts_with("No routes yet."));
    }
}
