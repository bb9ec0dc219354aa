//! `deploy`: build, upload, compile, live.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use squall_types::AppName;

use super::{connect, names, text};
use crate::archive;
use crate::cli::{DeployOptions, Global};
use crate::client::{Client, Query, upload};
use crate::failure::{Failure, Problem};
use crate::output;
use crate::project::{Project, SourceFile};

const PACKING_PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(global: &Global, options: &DeployOptions) -> Result<(), Failure> {
    let project = Project::open(&options.folder)?;
    project.warn();
    if let Some(file) = project.dev_vars_file() {
        let app = &project.manifest.name;
        output::note(&format!(
            "{file} is for squall dev and is not deployed; set secrets with: squall secrets set {app} NAME"
        ));
    }
    if options.dry_run {
        return dry_run(global, &project).await;
    }
    let client = connect(global)?;
    // Before a build that may take minutes: is the node there, and is the token good?
    let _: Value = client.get("asking the node for its state", "/v1/status").await?;
    project.build().await?;
    let mut report = Report::new(Voice::Steps);
    let files = project.contents()?.files;
    let app = &project.manifest.name;
    let deployed = deploy(&client, app, files, !options.no_activate, &mut report).await;
    let live = match deployed {
        Ok(live) => live,
        Err(failure) => return Err(project.locate(failure)),
    };
    if global.json {
        output::json(&live);
        return Ok(());
    }
    say_live(&live);
    let url = if live["active"] == false { text(&live, "preview_url") } else { text(&live, "url") };
    if !url.is_empty() {
        output::line(url);
    }
    Ok(())
}

fn say_live(live: &Value) {
    let revision = text(live, "revision");
    let took = output::duration_us(live["took_ms"].as_u64().unwrap_or(0) * 1000);
    let news = match (live["created"] == false, live["active"] == false) {
        (true, false) => format!("Revision {revision} was there already, and is live"),
        (true, true) => format!("Revision {revision} was there already"),
        (false, false) => format!("Revision {revision} is live after {took}"),
        (false, true) => {
            format!("Revision {revision} is ready after {took}; no traffic goes to it")
        }
    };
    output::note(&news);
    if live["active"] == false {
        output::note(&format!(
            "Put it live with: squall traffic {} {revision}=100",
            text(live, "app")
        ));
        return;
    }
    let others = names(&live["urls"]);
    if others.contains(", ") {
        output::note(&format!("Answers on {others}"));
    }
    if let Some(preview) = live["preview_url"].as_str() {
        output::note(&format!("Preview on {preview}"));
    }
}

async fn dry_run(global: &Global, project: &Project) -> Result<(), Failure> {
    project.build().await?;
    let files = project.contents()?.files;
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    if global.json {
        let list: Vec<_> =
            files.iter().map(|file| json!({ "name": file.name, "bytes": file.bytes })).collect();
        output::json(&json!({ "app": project.manifest.name, "files": list, "bytes": total }));
        return Ok(());
    }
    for file in &files {
        output::line(&format!("{:>9}  {}", output::size(file.bytes), file.name));
    }
    output::note(&format!(
        "{} with {} would be uploaded for {}",
        output::plural(files.len(), "file"),
        output::size(total),
        project.manifest.name
    ));
    Ok(())
}

/// Uploads what a project is made of and waits until it is live. Returns the last event.
pub(super) async fn deploy(
    client: &Client,
    app: &AppName,
    files: Vec<SourceFile>,
    activate: bool,
    report: &mut Report,
) -> Result<Value, Failure> {
    let what = format!("deploying {app}");
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    report.uploading(files.len(), total);

    let path = format!("/v1/apps/{app}/deployments");
    let query = Query::new(&path).with("activate", Some(if activate { "true" } else { "false" }));
    let (writer, body) = upload();
    let packing = spawn_packing(files, writer, report.uploaded.clone());
    let answer =
        client.lines(&what, Method::POST, query.as_str(), Some(("application/x-tar", body)));
    let started = {
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                started = &mut answer => break started,
                () = tokio::time::sleep(Duration::from_millis(100)) => report.tick(),
            }
        }
    };
    let result = match started {
        Ok(mut lines) => watch(&what, &mut lines, report).await,
        Err(failure) => Err(failure),
    };
    report.end();
    // A file that could not be read explains a broken upload better than the network does.
    // A node that refuses an upload may leave the rest of it unread: that is not waited for.
    let packed = tokio::time::timeout(PACKING_PATIENCE, packing).await;
    match (packed, result) {
        (Ok(Ok(Err(error))), Err(_)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(what, error).next("squall deploy, once more"))
        }
        (_, result) => result,
    }
}

fn spawn_packing(
    files: Vec<SourceFile>,
    mut writer: crate::client::UploadWriter,
    uploaded: Arc<AtomicU64>,
) -> tokio::task::JoinHandle<std::io::Result<()>> {
    tokio::task::spawn_blocking(move || {
        archive::write(&files, &mut writer, |bytes| {
            uploaded.fetch_add(bytes, Ordering::Relaxed);
        })?;
        writer.finish()
    })
}

/// Follows the node's events to the last one.
async fn watch(
    what: &str,
    lines: &mut crate::client::Lines,
    report: &mut Report,
) -> Result<Value, Failure> {
    while let Some(line) = report.while_waiting(lines.next(what)).await? {
        if line.trim().is_empty() {
            continue;
        }
        let event: Value = serde_json::from_str(&line).map_err(|error| {
            Failure::failed(what, format!("the node's answer is not JSON: {error}"))
        })?;
        match text(&event, "event") {
            "live" => return Ok(event),
            "failed" => {
                let problem: Problem =
                    serde_json::from_value(event["problem"].clone()).unwrap_or_default();
                return Err(problem.into_failure(what));
            }
            _ => report.event(&event),
        }
    }
    Err(Failure::failed(what, "the node ended its answer before the deployment was done")
        .next("squall deploy, once more; the same content makes the same revision"))
}

/// How much a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    Steps,
    Warnings,
}

/// Tells how far a deployment is: a moving line on a terminal, plain lines elsewhere.
pub(super) struct Report {
    bar: Option<ProgressBar>,
    voice: Voice,
    /// Functions that were compiled, and not taken as they had been before.
    pub(super) compiled: Vec<String>,
    uploaded: Arc<AtomicU64>,
    upload_started: Instant,
}

impl Report {
    pub(super) fn new(voice: Voice) -> Self {
        let moves = voice == Voice::Steps
            && std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bar = moves.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self {
            bar,
            voice,
            compiled: Vec::new(),
            uploaded: Arc::default(),
            upload_started: Instant::now(),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None if self.voice == Voice::Steps => output::note(text),
            None => {}
        }
    }

    fn uploading(&mut self, files: usize, bytes: u64) {
        let line = format!("Uploading {}, {}", output::plural(files, "file"), output::size(bytes));
        self.upload_started = Instant::now();
        match &self.bar {
            Some(bar) => {
                let style = ProgressStyle::with_template("{msg} {bar:30} {percent:>3}%");
                bar.set_style(style.expect("the template is fixed and right"));
                bar.set_message(line);
                bar.set_length(bytes);
            }
            None => self.say(&line),
        }
    }

    fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.uploaded.load(Ordering::Relaxed));
        }
    }

    /// From a length that is known to a wait that is not.
    fn spin(&self, line: &str) {
        let Some(bar) = &self.bar else { return };
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.expect("the template is fixed and right"));
        bar.reset();
        bar.set_message(line.to_owned());
    }

    fn event(&mut self, event: &Value) {
        let function = text(event, "function");
        match text(event, "event") {
            "uploaded" => {
                let size = output::size(event["bytes"].as_u64().unwrap_or(0));
                let took = self.upload_started.elapsed().as_micros();
                let took = output::duration_us(u64::try_from(took).unwrap_or(u64::MAX));
                self.say(&format!("Uploaded {size} in {took}"));
                self.spin("Checking");
            }
            "compiling" => {
                let size = output::size(event["component_bytes"].as_u64().unwrap_or(0));
                let line = format!("Compiling {function}, {size}");
                if self.bar.is_none() {
                    self.say(&line);
                }
                self.spin(&line);
            }
            "warning" => {
                let warning = format!("warning: {}", text(event, "message"));
                match self.voice {
                    Voice::Steps => self.say(&warning),
                    Voice::Warnings => output::note(&warning),
                }
            }
            "compiled" if event["cached"] == true => {
                self.say(&format!("Compiled {function} before; taken as it is"));
            }
            "compiled" => {
                let took = output::duration_us(event["ms"].as_u64().unwrap_or(0) * 1000);
                self.say(&format!("Compiled {function} in {took}"));
                self.compiled.push(function.to_owned());
            }
            // A newer node may tell more; it is not needed to go on.
            _ => {}
        }
    }

    /// Keeps the moving line alive while something else is awaited.
    async fn while_waiting<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                done = &mut future => return done,
                () = tokio::time::sleep(Duration::from_millis(100)), if self.bar.is_some() => {
                    if let Some(bar) = &self.bar {
                        bar.tick();
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
