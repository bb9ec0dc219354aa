//! `doctor`: looks at the machine and at the node on it, and says what to mend. It changes
//! nothing.

mod machine;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Align, table};
use crate::target::{NodeFacts, Target};

/// A clock that is further off than this makes tokens and certificates fail.
const CLOCK_SKEW_MAX_S: i64 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One line of the diagnosis.
#[derive(Debug, Serialize)]
struct Finding {
    state: State,
    check: &'static str,
    /// What is so, and what to do where it should not be.
    detail: String,
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { state: State::Ok, check, detail: detail.into() }
}

fn warn(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { state: State::Warn, check, detail: detail.into() }
}

fn fail(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { state: State::Fail, check, detail: detail.into() }
}

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let mut findings = Vec::new();
    if global.remote_url().is_some() {
        match Target::find(global).and_then(Client::new) {
            Ok(client) => check_answers(&client, &mut findings).await,
            Err(failure) => findings.push(fail("node", failure.why)),
        }
    } else {
        let data_dir = global.data_dir();
        findings.extend(check_data_dir(&data_dir));
        let facts = NodeFacts::read(&data_dir).filter(NodeFacts::runs);
        match &facts {
            Some(facts) => {
                findings.push(ok(
                    "node",
                    format!(
                        "server process {} under supervisor {}, version {}",
                        facts.pid, facts.supervisor_pid, facts.version
                    ),
                ));
                if let Some(why) = &facts.last_handover_error {
                    findings.push(warn("upgrade", format!("the newest one failed: {why}")));
                }
                match Target::local(&data_dir).and_then(Client::new) {
                    Ok(client) => check_answers(&client, &mut findings).await,
                    Err(failure) => findings.push(fail("admin API", failure.why)),
                }
            }
            None => findings.push(warn(
                "node",
                format!("none runs for {}; start it with squall up", data_dir.display()),
            )),
        }
        findings.extend(machine::check_ports(facts.as_ref()));
        findings.extend(machine::check_disk(&data_dir));
        findings.extend(machine::check_limits());
    }
    show(global, &findings)
}

fn show(global: &Global, findings: &[Finding]) -> Result<(), Failure> {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let failed = count(State::Fail);
    if global.json {
        output::json(&json!({ "ok": failed == 0, "checks": findings }));
    } else {
        let rows: Vec<_> = findings
            .iter()
            .map(|finding| {
                let state = match finding.state {
                    State::Ok => "ok",
                    State::Warn => "warn",
                    State::Fail => "FAIL",
                };
                vec![state.to_owned(), finding.check.to_owned(), finding.detail.clone()]
            })
            .collect();
        output::line(&table(
            &["STATE", "CHECK", "DETAIL"].map(|title| (title, Align::Left)),
            &rows,
        ));
    }
    if failed == 0 {
        return Ok(());
    }
    let worst: Vec<_> = findings.iter().filter(|finding| finding.state == State::Fail).collect();
    let names: Vec<_> = worst.iter().map(|finding| finding.check).collect();
    Err(Failure::failed("checking", format!("failed: {}", names.join(", "))))
}

fn check_data_dir(data_dir: &Path) -> Vec<Finding> {
    let shown = data_dir.display();
    let facts = match std::fs::metadata(data_dir) {
        Ok(facts) if facts.is_dir() => facts,
        Ok(_) => return vec![fail("data directory", format!("{shown} is not a folder"))],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![ok(
                "data directory",
                format!("{shown} is not there yet; squall up makes it"),
            )];
        }
        Err(error) => return vec![fail("data directory", format!("{shown}: {error}"))],
    };
    let mode = facts.permissions().mode() & 0o777;
    let own = rustix::process::geteuid().as_raw();
    let mut findings = vec![if mode & 0o077 != 0 {
        fail(
            "data directory",
            format!("{shown} is open to others ({mode:03o}); run chmod 700 {shown}"),
        )
    } else if facts.uid() != own {
        warn(
            "data directory",
            format!("{shown} belongs to user {}, and you are {own}", facts.uid()),
        )
    } else {
        ok("data directory", format!("{shown}, for its owner only"))
    }];
    let token = data_dir.join("admin.token");
    if let Ok(facts) = std::fs::metadata(&token) {
        let mode = facts.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let shown = token.display();
            findings.push(fail(
                "admin token",
                format!("{shown} is open to others ({mode:03o}); run chmod 600 {shown}"),
            ));
        } else {
            findings.push(ok("admin token", "for its owner only"));
        }
    }
    findings
}

/// What a running node says of itself.
async fn check_answers(client: &Client, findings: &mut Vec<Finding>) {
    let url = &client.target().url;
    let status: Value = match client.get("asking the node", "/v1/status").await {
        Ok(status) => status,
        Err(failure) => {
            findings.push(fail("admin API", format!("{url}: {}", failure.why)));
            return;
        }
    };
    findings.push(ok("admin API", format!("{url} answers, and the token is good")));
    if client.is_exposed() {
        findings.push(warn("transport", "the token travels unencrypted; use https"));
    }
    findings.push(match client.probe("/readyz").await {
        Ok((StatusCode::OK, _)) => ok("readiness", "ready"),
        Ok((_, why)) => warn("readiness", format!("not ready: {why}")),
        Err(failure) => fail("readiness", failure.why),
    });
    let (own, other) = (env!("CARGO_PKG_VERSION"), super::text(&status, "version"));
    findings.push(if own == other {
        ok("version", format!("{own}, here and there"))
    } else {
        warn("version", format!("this is {own} and the node is {other}; squall upgrade hands over to the installed one"))
    });
    if let Ok(Some(date)) = client.date().await
        && let Some(theirs_s) = machine::parse_http_date_s(&date)
    {
        let skew_s = (crate::time::now_ms() / 1000 - theirs_s).abs();
        findings.push(if skew_s <= CLOCK_SKEW_MAX_S {
            ok("clock", "agrees with the node's")
        } else {
            warn(
                "clock",
                format!("differs from the node's by {skew_s} s; let both follow a time server"),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_can_read_fails() {
        let folder = tempfile::tempdir().unwrap();
        let states = |path: &Path| -> Vec<State> {
            check_data_dir(path).iter().map(|finding| finding.state).collect()
        };
        assert_eq!(states(&folder.path().join("none")), [State::Ok]);
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(folder.path(), 0o700);
        assert_eq!(states(folder.path()), [State::Ok]);
        let token = folder.path().join("admin.token");
        std::fs::write(&token, "x").unwrap();
        mode(&token, 0o644);
        mode(folder.path(), 0o755);
        assert_eq!(states(folder.path()), [State::Fail, State::Fail]);
    }
}
