//! The node that `dev` works with: one that runs already, or a child of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::target::{NodeFacts, Target};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct LocalNode {
    /// `None` when somebody else started the node; then it is not ours to stop.
    child: Option<Child>,
}

impl LocalNode {
    pub(super) async fn start_or_join(data_dir: &Path) -> Result<Self, Failure> {
        if NodeFacts::read(data_dir).is_some_and(|facts| facts.runs()) {
            output::note(&format!("Using the node of {}", data_dir.display()));
            return Ok(Self { child: None });
        }
        let mut node = Self { child: Some(spawn(data_dir)?) };
        node.wait_until_ready(data_dir).await?;
        Ok(node)
    }

    async fn wait_until_ready(&mut self, data_dir: &Path) -> Result<(), Failure> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure::failed("starting a node", format!("it ended with {status}"))
                    .next("squall doctor"));
            }
            let ours = NodeFacts::read(data_dir)
                .is_some_and(|facts| Some(facts.supervisor_pid) == child.id());
            if ours
                && let Ok(client) = Target::local(data_dir).and_then(Client::new)
                && matches!(client.probe("/readyz").await, Ok((StatusCode::OK, _)))
            {
                return Ok(());
            }
            if started.elapsed() > START_PATIENCE {
                let why = format!("it was not ready within {} s", START_PATIENCE.as_secs());
                return Err(Failure::failed("starting a node", why).next("squall doctor"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends when our node does; never when it is somebody else's.
    pub(super) async fn ended(&mut self) -> Failure {
        let Some(child) = &mut self.child else { return std::future::pending().await };
        let status = child.wait().await;
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Failure::failed("running a node", format!("it ended with {how}")).next("squall doctor")
    }

    /// Lets our node finish what runs, and waits for it.
    pub(super) async fn stop(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Some(pid) = child.id() {
            // It may have ended by itself just now.
            let _ = crate::process::signal(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP_PATIENCE, child.wait()).await.is_err() {
            self.kill();
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
    }
}

fn spawn(data_dir: &Path) -> Result<Child, Failure> {
    let what = "starting a node";
    let binary = std::env::current_exe().map_err(|error| Failure::failed(what, error))?;
    let mut command = Command::new(binary);
    command
        .arg("up")
        .arg("--quiet")
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // Ctrl-C is for us; we tell the node when we are done.
        .process_group(0);
    // SAFETY: the closure makes one system call and touches no memory of the parent's.
    unsafe {
        command.pre_exec(|| {
            // Nobody would stop the node if we were killed.
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|error| Failure::failed(what, error))?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                output::note(&format!("node: {line}"));
            }
        });
    }
    Ok(child)
}
