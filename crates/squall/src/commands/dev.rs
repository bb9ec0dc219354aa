//! `dev`: a node, an app that is rebuilt and redeployed when a file changes, and its log,
//! in one terminal.

mod local_node;
mod secrets;
mod sources;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall_types::manifest::Code;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use self::local_node::LocalNode;
use self::secrets::LocalSecrets;
use self::sources::{Scope, Sources, Watcher};
use super::deploy::{self, Report, Voice};
use super::{logs, text};
use crate::cli::{DevOptions, FolderOptions, Global};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::project::Project;
use crate::target::Target;

/// An editor writes several files, or one in several steps: silence this long ends a change.
const QUIET: Duration = Duration::from_millis(40);
/// A folder that never falls silent is looked at this often.
const QUIET_LONGEST: Duration = Duration::from_millis(500);

pub(super) async fn run(global: &Global, options: &DevOptions) -> Result<(), Failure> {
    if global.remote_url().is_some() {
        return Err(Failure::invalid("starting dev", "it works with a node on this machine")
            .next("env -u SQUALL_URL squall dev"));
    }
    // A folder without an app is told before a node is started for it.
    Project::open(&options.folder)?;
    let stopped = |kind| signal(kind).map_err(|error| Failure::failed("starting dev", error));
    let (mut interrupt, mut terminate) =
        (stopped(SignalKind::interrupt())?, stopped(SignalKind::terminate())?);

    let data_dir = global.data_dir();
    let mut node = LocalNode::start_or_join(&data_dir).await?;
    let result = tokio::select! {
        ended = develop(global, options, data_dir) => ended,
        failure = node.ended() => Err(failure),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    tokio::select! {
        () = node.stop() => {}
        // A second Ctrl-C does not wait for requests that still run.
        _ = interrupt.recv() => node.kill(),
    }
    result
}

async fn develop(global: &Global, options: &DevOptions, data_dir: PathBuf) -> Result<(), Failure> {
    let mut app = App {
        client: Client::new(Target::local(&data_dir)?)?,
        folder: options.folder.clone(),
        json: global.json,
        live: None,
        failed: false,
        inputs: Vec::new(),
        warnings: Vec::new(),
        secrets: LocalSecrets::default(),
        log: None,
    };
    let root = Project::open(&options.folder)?.root;
    let mut sources = Sources::new(root, data_dir);
    let mut watcher = Watcher::start()?;
    let mut rounds = Rounds::default();
    let mut changed_at = Instant::now();
    loop {
        app.direct(&mut sources);
        watcher.watch(sources.scan())?;
        let changed = sources.changes();
        if changed.is_empty() {
            changed_at = watcher.changed().await;
            watcher.settle(QUIET, QUIET_LONGEST).await;
            continue;
        }
        sources.take();
        let again = rounds.is_echo(&changed);
        app.reload(changed_at).await?;
        // What differs now was written by the build, or by a person during it. The next
        // round finds out which.
        sources.scan();
        for product in rounds.note_written(again, sources.changes()) {
            output::note(&format!(
                "{} is written by every build; its changes start none from now on",
                product.display()
            ));
            sources.ignore(product);
        }
        changed_at = Instant::now();
    }
}

/// Tells products of the build from sources: a file that differs after each build without
/// anybody having started that build is a product.
#[derive(Default)]
struct Rounds {
    written: BTreeSet<PathBuf>,
    echoes: u32,
}

impl Rounds {
    /// Echoes in a row until a file counts as a product.
    const PATIENCE: u32 = 2;

    /// Whether nothing but the previous build changed these.
    fn is_echo(&self, changed: &BTreeSet<PathBuf>) -> bool {
        changed.is_subset(&self.written)
    }

    /// Notes what a build left changed; returns what is a product by now.
    fn note_written(&mut self, echo: bool, written: BTreeSet<PathBuf>) -> Vec<PathBuf> {
        self.echoes = if echo { self.echoes + 1 } else { 0 };
        let again: Vec<PathBuf> = if echo && self.echoes >= Self::PATIENCE {
            written.intersection(&self.written).cloned().collect()
        } else {
            Vec::new()
        };
        self.written = written;
        again
    }
}

struct App {
    client: Client,
    folder: FolderOptions,
    json: bool,
    /// The revision that was brought live last.
    live: Option<String>,
    /// The newest attempt came to nothing: the next one that succeeds is news.
    failed: bool,
    /// What the newest bundles were made of.
    inputs: Vec<PathBuf>,
    /// What was said of the project before.
    warnings: Vec<String>,
    secrets: LocalSecrets,
    /// The app whose log is shown.
    log: Option<(String, JoinHandle<()>)>,
}

impl App {
    /// Tells where to look. Components with a build command are made here and are no
    /// sources.
    fn direct(&self, sources: &mut Sources) {
        // A manifest that is wrong just now is told when it is deployed.
        let Ok(project) = Project::open(&self.folder) else { return };
        for function in project.manifest.functions.values() {
            if let (Some(_), Code::Component(component)) = (&function.build, function.code()) {
                sources.ignore(sources.root().join(crate::project::normal(component)));
            }
        }
        // What a bundle that failed lacks may come to be anywhere.
        let scope = match self.failed {
            true => Scope::whole(sources.root()),
            false => Scope::of(&project.manifest, sources.root()),
        };
        sources.look_at(scope.with_files(&self.inputs));
    }

    /// Builds and deploys. What a person can mend by changing a file ends nothing.
    async fn reload(&mut self, changed_at: Instant) -> Result<(), Failure> {
        let first = self.log.is_none();
        let voice = if first && !self.json { Voice::Steps } else { Voice::Warnings };
        let mut report = Report::new(voice);
        let live = match self.build_and_deploy(&mut report).await {
            Ok(live) => live,
            Err(failure) if matches!(failure.exit, Exit::Unreachable | Exit::Auth) => {
                return Err(failure);
            }
            Err(failure) => {
                self.failed = true;
                output::note(&failure.to_string());
                if let Some(live) = &self.live {
                    output::note(&format!("Revision {live} stays live"));
                }
                return Ok(());
            }
        };
        let revision = text(&live, "revision").to_owned();
        let is_news = self.failed || self.live.as_ref() != Some(&revision);
        (self.live, self.failed) = (Some(revision), false);
        if !is_news {
            return Ok(());
        }
        let took_ms = changed_at.elapsed().as_millis();
        let names = match report.compiled.is_empty() {
            true => vec![text(&live, "app").to_owned()],
            false => report.compiled,
        };
        if self.json {
            let event = if first { "live" } else { "reloaded" };
            output::line(
                &json!({
                    "event": event, "app": live["app"], "revision": live["revision"],
                    "url": live["url"], "took_ms": u64::try_from(took_ms).unwrap_or(u64::MAX),
                })
                .to_string(),
            );
        } else if first {
            output::note(&format!("{} in {took_ms} ms; waiting for changes", text(&live, "url")));
        } else {
            output::note(&format!("Reloaded {} in {took_ms} ms", names.join(", ")));
        }
        Ok(())
    }

    async fn build_and_deploy(&mut self, report: &mut Report) -> Result<Value, Failure> {
        let project = Project::open(&self.folder)?;
        if project.warnings != self.warnings {
            project.warn();
            self.warnings.clone_from(&project.warnings);
        }
        project.build().await?;
        let app = &project.manifest.name;
        let contents = project.contents()?;
        self.inputs = contents.inputs;
        let secrets = project.dev_vars()?;
        let known = self.secrets.bring(&self.client, app, secrets.as_ref()).await?;
        let live = deploy::deploy(&self.client, app, contents.files, true, report)
            .await
            .map_err(|failure| project.locate(failure))?;
        if !known {
            self.secrets.bring(&self.client, app, secrets.as_ref()).await?;
        }
        self.follow_log(app.as_str());
        Ok(live)
    }

    fn follow_log(&mut self, app: &str) {
        if self.log.as_ref().is_some_and(|(shown, _)| shown == app) {
            return;
        }
        if let Some((_, task)) = self.log.take() {
            task.abort();
        }
        let client = self.client.clone();
        let filter = logs::Filter::of_app(app);
        let printer = logs::Printer::new(self.json);
        let task = tokio::spawn(async move {
            if let Err(failure) = logs::follow(&client, &filter, 0, &printer).await {
                output::note(&failure.to_string());
            }
        });
        self.log = Some((app.to_owned(), task));
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.log {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_file_that_each_build_writes_becomes_a_product() {
        let mut rounds = Rounds::default();
        // A person changes a source; the build writes a lock file and a stamp.
        assert!(!rounds.is_echo(&paths(&["src"])));
        assert!(rounds.note_written(false, paths(&["lock", "stamp"])).is_empty());
        // The echo: the lock file stays as it is now, the stamp does not.
        assert!(rounds.is_echo(&paths(&["lock", "stamp"])));
        assert!(rounds.note_written(true, paths(&["stamp"])).is_empty());
        assert!(rounds.is_echo(&paths(&["stamp"])));
        assert_eq!(rounds.note_written(true, paths(&["stamp"])), [PathBuf::from("stamp")]);
        // A person's change is never taken for an echo of a build that wrote nothing.
        assert!(rounds.note_written(true, paths(&[])).is_empty());
        assert!(!rounds.is_echo(&paths(&["src"])));
    }
}
