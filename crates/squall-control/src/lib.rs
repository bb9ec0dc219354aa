//! The control plane: what should run, kept durably, changed through the admin API.
//!
//! Owns desired state and the way of a deployment. It runs nothing itself: it compiles
//! through `Build`, publishes through `ApplySnapshot` and calls functions through `Invoke`.

mod deploy;

pub mod api;

mod blobs;
mod hosts;
mod secrets;
mod snapshot;
mod store;
mod time;
mod tokens;
mod upload;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_types::build::{Build, BuildJob};
use squall_types::cache::CacheAdmin;
use squall_types::gateway::Explain;
use squall_types::gateway::{ReportRoutes, ReportUpstreams};
use squall_types::limits::Limits;
use squall_types::log::LogStore;
use squall_types::node::Node;
use squall_types::state::{ApplySnapshot, BlobId, HandlerWorld};
use squall_types::usage::{UsageFilter, UsageSink, UsageStore};
use squall_types::{AppName, ErrorCode, Invoke, RevisionId};

pub use deploy::{DeployEvent, Deployed};
pub use store::ShareRow;
pub use tokens::Scope;

use crate::api::problem::Problem;
use crate::blobs::Blobs;
use crate::secrets::Vault;
use crate::snapshot::{Desired, Stored};
use crate::store::{Store, TokenRow};

/// What the control plane needs of the rest of the node.
pub struct ControlOptions {
    pub data_dir: PathBuf,
    pub node_key: [u8; 32],
    pub build: Arc<dyn Build>,
    /// Told of each new state, in this order.
    pub apply: Vec<Arc<dyn ApplySnapshot>>,
    pub invoke: Arc<dyn Invoke>,
    pub explain: Arc<dyn Explain>,
    pub usage_sink: Arc<dyn UsageSink>,
    pub usage: Arc<dyn UsageStore>,
    pub logs: Arc<dyn LogStore>,
    pub routes: Arc<dyn ReportRoutes>,
    pub upstreams: Arc<dyn ReportUpstreams>,
    pub cache: Arc<dyn CacheAdmin>,
    pub node: Arc<dyn Node>,
    /// The most that a function gets, whatever its manifest asks for.
    pub caps: Limits,
    pub upload_bytes_max: u64,
    /// Names under which the admin API may be called, beside addresses and localhost.
    pub admin_hosts: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Database(#[from] squall_sqlite::OpenError),
    #[error("{0}")]
    State(String),
    #[error("{0}: {1}")]
    Files(PathBuf, std::io::Error),
}

/// The control plane of a node. Clones share everything.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: ControlOptions,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) vault: Vault,
    desired: Mutex<Desired>,
    /// Streams of the admin API end when it is true.
    pub(crate) ending: tokio::sync::watch::Sender<bool>,
    /// One change at a time, from the transaction to its publication.
    changing: tokio::sync::Mutex<()>,
    /// Tokens that were checked lately, by hash: an SQLite lookup less for each request.
    pub(crate) known_tokens: Mutex<HashMap<[u8; 32], (TokenRow, std::time::Instant)>>,
}

/// An artifact that this node's engines need and do not have.
pub struct MissingArtifact {
    pub job: BuildJob,
    /// Requests go to it: the node is not ready without it.
    pub live: bool,
}

impl Control {
    /// Opens the state of a node. Nothing is published before `reload`. Blocking.
    ///
    /// # Errors
    /// Fails when the data directory can not be read or is of a newer version.
    pub fn open(options: ControlOptions) -> Result<Self, OpenError> {
        let store = Store::open(&options.data_dir.join("state.db"))?;
        store.ensure_project().map_err(|error| OpenError::State(error.to_string()))?;
        let blobs = Blobs::open(&options.data_dir)
            .map_err(|error| OpenError::Files(options.data_dir.clone(), error))?;
        let vault = Vault::new(&options.node_key);
        Ok(Self(Arc::new(Inner {
            options,
            store,
            blobs,
            vault,
            desired: Mutex::default(),
            ending: tokio::sync::watch::Sender::new(false),
            changing: tokio::sync::Mutex::default(),
            known_tokens: Mutex::default(),
        })))
    }

    /// Where the file of a blob lies.
    pub fn blob_path(data_dir: &std::path::Path, id: &BlobId) -> PathBuf {
        blobs::path_in(&data_dir.join(blobs::FOLDER), id)
    }

    /// A token for the command line of this machine, when `existing` is not one that
    /// works. Blocking. # Errors: fails when the database does.
    pub fn ensure_local_token(&self, existing: Option<&str>) -> Result<Option<String>, OpenError> {
        let explain = |error: store::StoreError| OpenError::State(error.to_string());
        if let Some(existing) = existing
            && self.0.store.token(&tokens::hash(existing)).map_err(explain)?.is_some()
        {
            return Ok(None);
        }
        let token = tokens::generate();
        let stored = self.0.store.add_token("local", &tokens::hash(&token), Scope::Admin, None);
        stored.map_err(explain)?;
        Ok(Some(token))
    }

    /// Reads everything from disk and publishes it: at start, and when another process
    /// has been writing until now. Blocking. # Errors: fails when the database does.
    pub fn reload(&self) -> Result<(), OpenError> {
        self.load()?;
        self.0.publish();
        Ok(())
    }

    /// Reads everything from disk. Nothing is published.
    ///
    /// # Errors
    /// Fails when the database does.
    pub fn load(&self) -> Result<(), OpenError> {
        let explain = |error: store::StoreError| OpenError::State(error.to_string());
        let names: HashSet<AppName> =
            self.0.store.app_names().map_err(explain)?.into_iter().collect();
        let gone: Vec<AppName> = lock(&self.0.desired)
            .names()
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        for name in gone.iter().chain(&names) {
            self.0.take_stored(name).map_err(explain)?;
        }
        Ok(())
    }

    /// Removes what interrupted uploads and deleted apps left. Only while no other server
    /// process uses the data directory. Blocking.
    ///
    /// # Errors
    /// Fails when the database or a folder can not be read.
    pub fn sweep(&self) -> std::io::Result<usize> {
        self.0.blobs.clear_staging()?;
        let needed = self.0.needed_blobs().map_err(std::io::Error::other)?;
        self.0.blobs.sweep(&needed)
    }

    /// Whether any revision has a function in JavaScript.
    pub fn has_javascript(&self) -> bool {
        let desired = lock(&self.0.desired);
        let mut functions =
            desired.apps().flat_map(|app| &app.revisions).flat_map(|revision| &revision.functions);
        functions.any(|function| function.world == HandlerWorld::JavaScript)
    }

    /// What has to be compiled before everything can run: live revisions first, those
    /// that were called most before the others. Blocking.
    pub fn missing_artifacts(&self) -> Vec<MissingArtifact> {
        let mut calls: HashMap<(String, String), u64> = HashMap::new();
        for row in self.0.options.usage.usage(&UsageFilter::default()).unwrap_or_default() {
            let Some(function) = row.function else { continue };
            *calls.entry((row.app, function)).or_default() += row.totals.invocations;
        }
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        let desired = lock(&self.0.desired);
        for app in desired.apps() {
            let live: Vec<&RevisionId> =
                app.traffic.iter().map(|share| &share.revision.id).collect();
            for revision in &app.revisions {
                for function in &revision.functions {
                    let is_live = live.contains(&&revision.id);
                    let target = function.target();
                    let artifact = target.artifact_name(&function.code);
                    if self.0.options.build.is_built(&function.code, &target)
                        || !seen.insert((artifact, is_live))
                    {
                        continue;
                    }
                    let name = &function.key.function;
                    let calls = calls.get(&(app.name.to_string(), name.to_string())).copied();
                    let job = BuildJob {
                        label: format!("{}/{name}", app.name),
                        code: function.code,
                        code_path: self.0.blobs.path(&function.code),
                        target,
                        secrets: app.environment.secrets.keys().cloned().collect(),
                    };
                    missing.push((calls.unwrap_or(0), MissingArtifact { job, live: is_live }));
                }
            }
        }
        missing.sort_by_key(|(calls, artifact)| (!artifact.live, std::cmp::Reverse(*calls)));
        missing.into_iter().map(|(_, artifact)| artifact).collect()
    }

    /// Ends what would never end by itself, such as live logs; their clients come again.
    pub fn end_streams(&self) {
        self.0.ending.send_replace(true);
    }

    /// Takes `end_streams` back.
    pub fn allow_streams(&self) {
        self.0.ending.send_replace(false);
    }

    /// The admin API.
    pub fn router(&self) -> axum::Router {
        api::router(self.0.clone())
    }
}

/// The present time as the admin API writes it.
pub fn now_rfc3339() -> String {
    time::rfc3339(time::now_ms())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        Err(Problem::new(ErrorCode::Internal, format!("the control plane panicked: {panic}")))
    })
}

impl Inner {
    pub(crate) fn desired(&self) -> MutexGuard<'_, Desired> {
        lock(&self.desired)
    }

    /// Makes a change to one app durable and publishes it. When this returns, every
    /// later request is served by it. A caller that leaves does not interrupt it.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        app: &AppName,
        change: impl FnOnce(&Store) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (inner, app) = (self.clone(), app.clone());
        let task = tokio::spawn(async move {
            let _one_at_a_time = inner.changing.lock().await;
            let inner = inner.clone();
            blocking(move || {
                let done = change(&inner.store)?;
                inner.take_stored(&app)?;
                inner.publish();
                Ok(done)
            })
            .await
        });
        task.await.unwrap_or_else(|panic| {
            Err(Problem::new(ErrorCode::Internal, format!("the control plane panicked: {panic}")))
        })
    }

    /// Brings what is stored of one app into the desired state.
    fn take_stored(&self, app: &AppName) -> store::Result<()> {
        let stored = match self.store.app(app)? {
            None => None,
            Some(row) => {
                let unknown = self.desired().unknown_revisions(&row);
                let mut contents = HashMap::new();
                for id in unknown {
                    if let Some(content) = self.store.content(app, &id)? {
                        contents.insert(id, content);
                    }
                }
                Some(Stored { row, clients: self.store.clients(app)?, contents })
            }
        };
        self.desired().set(app, stored, &self.vault, &self.options.caps);
        Ok(())
    }

    fn publish(&self) {
        let snapshot = self.desired().next_snapshot();
        for data_plane in &self.options.apply {
            data_plane.apply(&snapshot);
        }
    }

    /// What stored revisions name, whether they are served now or can be gone back to.
    fn needed_blobs(&self) -> store::Result<HashSet<BlobId>> {
        let mut needed = HashSet::new();
        for name in self.store.app_names()? {
            let Some(row) = self.store.app(&name)? else { continue };
            for revision in row.revisions {
                let Some(content) = self.store.content(&name, &revision.id)? else { continue };
                needed.extend(content.components.values().map(|component| component.blob));
                needed.extend(content.assets.values().map(|asset| asset.blob));
            }
        }
        Ok(needed)
    }

    /// The names of an app's secrets; none for an app that is not there yet.
    pub(crate) fn secret_names(&self, app: &AppName) -> Vec<String> {
        let desired = self.desired();
        let secrets = desired.apps().find(|known| known.name == *app);
        secrets.map_or_else(Vec::new, |app| app.environment.secrets.keys().cloned().collect())
    }

    /// Where an app answers; the first is the one to try first.
    pub(crate) fn urls(&self, app: &AppName) -> Vec<String> {
        let base = self.gateway_base();
        let (any, hosts) = {
            let desired = self.desired();
            let live = desired.apps().filter(|app| !app.traffic.is_empty()).count();
            let state = desired.app(app);
            let default = state.as_ref().is_some_and(|state| state.default);
            (live == 1 || default, state.map(|state| state.hosts.clone()).unwrap_or_default())
        };
        let mut urls = Vec::new();
        if any {
            urls.push(format!("{base}/"));
        }
        let port = port_of(&base);
        urls.push(format!("http://{app}.localhost{port}/"));
        // A wildcard is no host that anybody can ask for.
        let named = hosts.iter().filter(|host| !host.starts_with('*'));
        urls.extend(named.map(|host| format!("http://{host}{port}/")));
        urls
    }

    /// `None` where the app has none: of a revision without traffic, and with `previews = false`.
    pub(crate) fn preview_url(&self, app: &AppName, revision: &RevisionId) -> Option<String> {
        let answers = self.desired().app(app).is_none_or(|state| state.answers_alone(revision));
        answers.then(|| {
            format!("http://{revision}--{app}.localhost{}/", port_of(&self.gateway_base()))
        })
    }

    fn gateway_base(&self) -> String {
        let status = self.options.node.status();
        let first = status.gateway_urls.into_iter().next();
        first.map_or_else(
            || "http://127.0.0.1:8080".to_owned(),
            |url| url.trim_end_matches('/').to_owned(),
        )
    }
}

/// `:8080`, or nothing for the port that goes without saying.
fn port_of(base: &str) -> String {
    let port = base.rsplit_once(':').map_or("", |(_, port)| port);
    if port.is_empty() || port == "80" || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return String::new();
    }
    format!(":{port}")
}
