//! How the services behind the gateway are at this moment.

use squall_types::AppName;
use squall_types::gateway::{
    CircuitState, TargetHealth, TargetReport, UpstreamReport, UpstreamsReport,
};

use super::super::connect;
use crate::cli::Global;
use crate::client::Query;
use crate::failure::Failure;
use crate::output::{self, Align};

pub(super) async fn run(global: &Global, app: Option<&AppName>) -> Result<(), Failure> {
    let node = connect(global)?;
    let query = Query::new("/v1/gateway/upstreams").with("app", app.map(|app| app.as_str()));
    let report: UpstreamsReport = node.get("reading upstreams", query.as_str()).await?;
    if global.json {
        output::json(&report);
    } else if report.items.is_empty() {
        output::note("No app that is served has an upstream.");
    } else {
        output::line(&table(&report));
    }
    Ok(())
}

/// A line for each target; an upstream without any has one, too. Revisions are named where
/// an upstream has other settings in one than in another.
fn table(report: &UpstreamsReport) -> String {
    let named = |one: &UpstreamReport| (one.app.clone(), one.upstream.clone());
    let differ = report.items.windows(2).any(|pair| named(&pair[0]) == named(&pair[1]));
    let mut columns = vec![
        ("APP", Align::Left),
        ("UPSTREAM", Align::Left),
        ("REVISIONS", Align::Left),
        ("TARGET", Align::Left),
        ("HEALTH", Align::Left),
        ("CIRCUIT", Align::Left),
        ("IN FLIGHT", Align::Right),
        ("IDLE", Align::Right),
        ("RESPONSES", Align::Right),
        ("5XX", Align::Right),
        ("FAILURES", Align::Left),
    ];
    let mut rows: Vec<_> = report.items.iter().flat_map(rows).collect();
    if !differ {
        const REVISIONS: usize = 2;
        columns.remove(REVISIONS);
        rows.iter_mut().for_each(|row| drop(row.remove(REVISIONS)));
    }
    output::table(&columns, &rows)
}

fn rows(upstream: &UpstreamReport) -> Vec<Vec<String>> {
    let begin = || vec![upstream.app.to_string(), upstream.upstream.clone(), revisions(upstream)];
    if upstream.targets.is_empty() {
        let why = upstream.unresolved.as_deref().unwrap_or("not resolved yet");
        let rest = ["-", why, circuit(upstream), "-", "-", "-", "-", "-"];
        return vec![begin().into_iter().chain(rest.map(str::to_owned)).collect()];
    }
    let row = |target: &TargetReport| {
        let server_errors = target.responses.get("5xx").copied().unwrap_or(0);
        let rest = [
            target.target.clone(),
            health(target),
            circuit(upstream).to_owned(),
            target.in_flight.to_string(),
            target.idle_connections.to_string(),
            target.responses.values().sum::<u64>().to_string(),
            server_errors.to_string(),
            failures(target),
        ];
        begin().into_iter().chain(rest).collect()
    };
    upstream.targets.iter().map(row).collect()
}

/// `kqzfw3x2ab +3`
fn revisions(upstream: &UpstreamReport) -> String {
    match upstream.revisions.as_slice() {
        [] => "none, ending".to_owned(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} +{}", more.len()),
    }
}

fn health(target: &TargetReport) -> String {
    match (target.health, target.ejected_for_ms) {
        (TargetHealth::Up, _) => "up".to_owned(),
        (TargetHealth::Down, _) => "down".to_owned(),
        (TargetHealth::Ejected, left_ms) => {
            format!("ejected for {} s", left_ms.unwrap_or(0).div_ceil(1_000))
        }
    }
}

fn circuit(upstream: &UpstreamReport) -> &'static str {
    match upstream.circuit {
        None => "-",
        Some(CircuitState::Closed) => "closed",
        Some(CircuitState::Open) => "open",
        Some(CircuitState::HalfOpen) => "half-open",
    }
}

/// `connect 3, timeout 1`
fn failures(target: &TargetReport) -> String {
    let counts = target.failures.iter().map(|(reason, count)| format!("{reason} {count}"));
    let counts: Vec<_> = counts.collect();
    if counts.is_empty() { "-".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use squall_types::RevisionId;

    use super::*;

    fn target(health: TargetHealth, ejected_for_ms: Option<u64>) -> TargetReport {
        TargetReport {
            target: "10.0.0.1:80".to_owned(),
            weight: 1,
            health,
            ejected_for_ms,
            in_flight: 2,
            idle_connections: 3,
            connections_opened: 5,
            connections_reused: 7,
            responses: [("2xx".to_owned(), 90), ("5xx".to_owned(), 10)].into(),
            failures: [("connect".to_owned(), 4), ("timeout".to_owned(), 1)].into(),
            ejections: 1,
            checks_failed: 0,
        }
    }

    #[test]
    fn targets_and_upstreams_without_any_have_a_line() {
        let upstream = |name: &str, targets: Vec<TargetReport>| UpstreamReport {
            app: AppName::parse("shop").unwrap(),
            upstream: name.to_owned(),
            revisions: Vec::new(),
            circuit: Some(CircuitState::HalfOpen),
            unresolved: targets.is_empty().then(|| "no such name".to_owned()),
            tunnels: 0,
            retries: 0,
            refused: 0,
            targets,
        };
        let targets =
            vec![target(TargetHealth::Up, None), target(TargetHealth::Ejected, Some(1_001))];
        let report =
            UpstreamsReport { items: vec![upstream("users", targets), upstream("lost", vec![])] };
        let expected = "\
APP   UPSTREAM  TARGET       HEALTH           CIRCUIT    IN FLIGHT  IDLE  RESPONSES  5XX  FAILURES
shop  users     10.0.0.1:80  up               half-open          2     3        100   10  connect 4, timeout 1
shop  users     10.0.0.1:80  ejected for 2 s  half-open          2     3        100   10  connect 4, timeout 1
shop  lost      -            no such name     half-open          -     -          -    -  -";
        assert_eq!(table(&report), expected);

        let revision = |id: &str| RevisionId::parse(id).unwrap();
        let mut both = [upstream("users", vec![]), upstream("users", vec![])];
        both[0].revisions = vec![revision("kqzfw3x2ab"), revision("pt5jxnq5vv")];
        let expected = "\
APP   UPSTREAM  REVISIONS      TARGET  HEALTH        CIRCUIT    IN FLIGHT  IDLE  RESPONSES  5XX  FAILURES
shop  users     kqzfw3x2ab +1  -       no such name  half-open          -     -          -    -  -
shop  users     none, ending   -       no such name  half-open          -     -          -    -  -";
        assert_eq!(table(&UpstreamsReport { items: both.into() }), expected);
    }
}
