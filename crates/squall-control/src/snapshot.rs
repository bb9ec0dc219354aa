//! From rows to the desired state that the data plane runs. Whatever did not change keeps
//! its `Arc`, so that nobody downstream compiles or loads it again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use squall_types::clients::Clients;
use squall_types::limits::Limits;
use squall_types::state::{
    AppState, Environment, FunctionKey, FunctionSpec, RevisionState, Share, Snapshot,
};
use squall_types::{AppName, RevisionId};

use crate::hosts::leading;
use crate::secrets::Vault;
use crate::store::{AppRow, Content};

/// The newest so many revisions beside the live ones always answer on a preview URL.
const PREVIEWS_MIN: usize = 3;
/// The others do as long as the contents of all previews are no larger than this together:
/// ten thousand routes are more than a megabyte, and fifty times as much in memory.
const PREVIEW_BYTES_MAX: i64 = 4 << 20;

/// What is stored of one app.
pub(crate) struct Stored {
    pub(crate) row: AppRow,
    pub(crate) clients: Clients,
    /// Of the revisions that the desired state does not know yet.
    pub(crate) contents: HashMap<RevisionId, Content>,
}

/// The desired state, in memory.
#[derive(Default)]
pub(crate) struct Desired {
    version: u64,
    apps: BTreeMap<AppName, Arc<AppState>>,
}

impl Desired {
    /// Takes what is stored of one app; `None` removes it.
    pub(crate) fn set(
        &mut self,
        name: &AppName,
        stored: Option<Stored>,
        vault: &Vault,
        caps: &Limits,
    ) {
        match stored {
            Some(stored) => {
                let before = self.apps.get(name).cloned();
                let state = app_state(stored, before.as_deref(), vault, caps);
                self.apps.insert(name.clone(), Arc::new(state));
            }
            None => {
                self.apps.remove(name);
            }
        }
    }

    /// Those of an app's revisions that are to be served and are not in it.
    pub(crate) fn unknown_revisions(&self, row: &AppRow) -> Vec<RevisionId> {
        let app = self.apps.get(&row.name);
        let known: HashSet<&RevisionId> =
            app.iter().flat_map(|app| &app.revisions).map(|one| &one.id).collect();
        served(row).into_iter().filter(|id| !known.contains(id)).cloned().collect()
    }

    pub(crate) fn names(&self) -> Vec<AppName> {
        self.apps.keys().cloned().collect()
    }

    pub(crate) fn app(&self, name: &AppName) -> Option<Arc<AppState>> {
        self.apps.get(name).cloned()
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = &Arc<AppState>> {
        self.apps.values()
    }

    pub(crate) fn next_snapshot(&mut self) -> Arc<Snapshot> {
        self.version += 1;
        Arc::new(Snapshot { version: self.version, apps: self.apps.values().cloned().collect() })
    }
}

/// Revisions that answer requests: the live ones, and those with a preview.
fn served(row: &AppRow) -> Vec<&RevisionId> {
    let (mut previews, mut bytes) = (0, 0);
    let revisions = row.revisions.iter().filter(|revision| {
        if row.traffic.iter().any(|share| share.revision == revision.id) {
            return true;
        }
        (previews, bytes) = (previews + 1, bytes + revision.content_bytes);
        previews <= PREVIEWS_MIN || bytes <= PREVIEW_BYTES_MAX
    });
    revisions.map(|revision| &revision.id).collect()
}

fn app_state(stored: Stored, before: Option<&AppState>, vault: &Vault, caps: &Limits) -> AppState {
    let Stored { row, clients, mut contents } = stored;
    let kept: HashMap<&RevisionId, &Arc<RevisionState>> =
        before.into_iter().flat_map(|app| &app.revisions).map(|one| (&one.id, one)).collect();
    let revisions = served(&row).into_iter().filter_map(|id| match kept.get(id) {
        Some(kept) => Some(Arc::clone(kept)),
        None => {
            let content = contents.remove(id)?;
            Some(Arc::new(revision_state(&row.name, id, content, caps)))
        }
    });
    let revisions: Vec<Arc<RevisionState>> = revisions.collect();
    let by_id: HashMap<&RevisionId, &Arc<RevisionState>> =
        revisions.iter().map(|one| (&one.id, one)).collect();
    let traffic: Vec<Share> = row
        .traffic
        .iter()
        .filter_map(|share| {
            let revision = by_id.get(&share.revision)?;
            Some(Share { revision: Arc::clone(revision), percent: share.percent })
        })
        .collect();
    // The hosts and the default of an app are those of what most of its traffic gets.
    let leading = leading(&traffic, |share| share.percent).map(|share| &share.revision);
    let hosts = leading.map(|leading| leading.manifest.hosts.clone()).unwrap_or_default();
    let manifest_default = leading.is_some_and(|leading| leading.manifest.default);
    AppState {
        hosts,
        default: row.is_default.unwrap_or(manifest_default),
        environment: environment(&row, before, vault),
        clients: match before {
            Some(before) if *before.clients == clients => before.clients.clone(),
            _ => Arc::new(clients),
        },
        name: row.name,
        traffic,
        revisions,
    }
}

fn environment(row: &AppRow, before: Option<&AppState>, vault: &Vault) -> Arc<Environment> {
    let mut secrets = BTreeMap::new();
    for (name, sealed, _) in &row.secrets {
        match vault.open(row.name.as_str(), name, sealed) {
            Ok(value) => {
                secrets.insert(name.clone(), value);
            }
            // The app runs without it, as a person who lost a key would want.
            Err(error) => tracing::error!("{error}"),
        }
    }
    match before {
        Some(before) if before.environment.secrets == secrets => before.environment.clone(),
        _ => Arc::new(Environment { secrets }),
    }
}

fn revision_state(
    app: &AppName,
    id: &RevisionId,
    content: Content,
    caps: &Limits,
) -> RevisionState {
    let Content { manifest, components, assets } = content;
    let functions = manifest
        .functions
        .iter()
        .filter_map(|(name, function)| {
            let component = components.get(name.as_str())?;
            Some(Arc::new(FunctionSpec {
                key: FunctionKey { app: app.clone(), revision: id.clone(), function: name.clone() },
                code: component.blob,
                world: component.world,
                mode: function.instances,
                shared: function.shared.clone(),
                limits: function.limits.capped(caps),
                allowed_hosts: function.allowed_hosts.clone(),
                allow_private: function.allow_private,
                variables: manifest.variables_of(function),
                fall_through: function.fall_through,
                bindings: manifest.bindings_of(function),
            }))
        })
        .collect();
    RevisionState { id: id.clone(), app: app.clone(), manifest, functions, assets }
}
