//! `upgrade`: asks the supervisor to hand over to the binary that is installed now.

use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::process;
use crate::target::{NodeFacts, Target, no_node};

const WHAT: &str = "upgrading the node";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    if global.remote_url().is_some() {
        return Err(Failure::invalid(WHAT, "a node is upgraded on its own machine")
            .next("squall upgrade --data-dir DIR over there"));
    }
    let data_dir = global.data_dir();
    let before = NodeFacts::read(&data_dir).filter(NodeFacts::runs);
    let before = before.ok_or_else(|| no_node(&data_dir))?;
    let started = Instant::now();
    process::signal(before.supervisor_pid, rustix::process::Signal::HUP).map_err(|error| {
        let why = format!("signalling the supervisor {}: {error}", before.supervisor_pid);
        Failure::failed(WHAT, why)
    })?;
    let after = wait_for_another(&data_dir, &before, started).await?;
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if global.json {
        output::json(&json!({
            "from": { "pid": before.pid, "version": before.version },
            "to": { "pid": after.pid, "version": after.version },
            "took_ms": took_us / 1000,
        }));
        return Ok(());
    }
    output::line(&format!(
        "Handed over from {} (process {}) to {} (process {}) in {}",
        before.version,
        before.pid,
        after.version,
        after.pid,
        output::duration_us(took_us)
    ));
    Ok(())
}

/// Waits until another process answers for the node, ready to serve.
async fn wait_for_another(
    data_dir: &Path,
    before: &NodeFacts,
    started: Instant,
) -> Result<NodeFacts, Failure> {
    loop {
        let now = NodeFacts::read(data_dir);
        if let Some(now) = &now {
            if now.pid != before.pid && is_ready(data_dir).await {
                return Ok(now.clone());
            }
            let is_new = now.handovers_failed != before.handovers_failed
                || now.last_handover_error != before.last_handover_error;
            if let Some(why) = now.last_handover_error.as_ref().filter(|_| is_new) {
                return Err(kept(before, why));
            }
        }
        if !process::is_alive(before.supervisor_pid) {
            return Err(Failure::failed(WHAT, "the supervisor has ended").next("squall up"));
        }
        if started.elapsed() > PATIENCE {
            let why = now.and_then(|now| now.last_handover_error);
            let why = why.unwrap_or_else(|| {
                format!("no new process was ready within {} s", PATIENCE.as_secs())
            });
            return Err(kept(before, &why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn kept(before: &NodeFacts, why: &str) -> Failure {
    Failure::failed(WHAT, format!("{why}; the node goes on with process {}", before.pid))
        .next("squall doctor, and what squall up wrote")
}

async fn is_ready(data_dir: &Path) -> bool {
    let Ok(client) = Target::local(data_dir).and_then(Client::new) else { return false };
    matches!(client.probe("/readyz").await, Ok((StatusCode::OK, _)))
}
