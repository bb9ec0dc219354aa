//! Desired state as the control plane publishes it and the data plane runs it:
//! one immutable snapshot, swapped whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bindings::Binding;
use crate::build::Target;
use crate::clients::Clients;
use crate::limits::Limits;
use crate::manifest::{InstanceMode, Manifest, SharedInstances};
use crate::{AppName, FunctionName, RevisionId};

/// The BLAKE3 hash of a stored file, its name in the blob folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

impl BlobId {
    pub fn parse(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl From<blake3::Hash> for BlobId {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl Serialize for BlobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a BLAKE3 hash in hex"))
    }
}

/// Which kind of handler a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum HandlerWorld {
    /// `wasi:http/incoming-handler@0.2.x`
    #[serde(rename = "wasi:http@0.2")]
    Http02,
    /// `wasi:http/handler@0.3.x`
    #[serde(rename = "wasi:http@0.3")]
    Http03,
    /// A JavaScript module's.
    #[serde(rename = "javascript")]
    JavaScript,
}

/// Which function of which revision: unique on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    pub app: AppName,
    pub revision: RevisionId,
    pub function: FunctionName,
}

/// Everything the runtime needs to know of a function. Immutable: a change is a new revision.
#[derive(Debug)]
pub struct FunctionSpec {
    pub key: FunctionKey,
    /// A component, or a JavaScript module.
    pub code: BlobId,
    pub world: HandlerWorld,
    pub mode: InstanceMode,
    /// How a shared instance is used; meaningless for `per-request`.
    pub shared: SharedInstances,
    /// As the manifest asks, lowered to the node's caps.
    pub limits: Limits,
    pub allowed_hosts: Vec<String>,
    pub allow_private: bool,
    /// From the manifest: the app's variables with the function's own over them.
    pub variables: BTreeMap<String, String>,
    /// A 404 of this function to GET or HEAD is answered from the assets.
    pub fall_through: bool,
    /// What it reaches, by the name that it knows it by.
    pub bindings: BTreeMap<String, Binding>,
}

impl FunctionSpec {
    /// What is made of its code.
    pub fn target(&self) -> Target {
        match self.world {
            HandlerWorld::Http02 | HandlerWorld::Http03 => Target::Component { mode: self.mode },
            HandlerWorld::JavaScript => Target::JavaScript {
                variables: self.variables.clone(),
                bindings: kinds_of(&self.bindings),
            },
        }
    }
}

/// What top-level code can see of bindings: that they are there, and of which kind.
pub fn kinds_of(bindings: &BTreeMap<String, Binding>) -> BTreeMap<String, String> {
    bindings.iter().map(|(name, binding)| (name.clone(), binding.kind().to_owned())).collect()
}

/// What changes without a deploy: an app's secrets, by name. One `Arc` per state
/// of them; a pointer that differs means that they changed.
#[derive(Default)]
pub struct Environment {
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a secret never reaches a log.
        f.debug_set().entries(self.secrets.keys()).finish()
    }
}

/// A file served as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asset {
    pub blob: BlobId,
    pub bytes: u64,
}

/// An immutable deployment of an app.
#[derive(Debug)]
pub struct RevisionState {
    pub id: RevisionId,
    pub app: AppName,
    pub manifest: Manifest,
    /// In the order of the manifest's function names.
    pub functions: Vec<Arc<FunctionSpec>>,
    /// By path below the assets folder, with a leading slash: `/css/site.css`.
    pub assets: BTreeMap<String, Asset>,
}

/// A share of an app's traffic.
#[derive(Debug, Clone)]
pub struct Share {
    pub revision: Arc<RevisionState>,
    /// 1 to 100; the shares of an app add up to 100.
    pub percent: u8,
}

/// One app as it is served now.
#[derive(Debug, Clone)]
pub struct AppState {
    pub name: AppName,
    /// Own domains, lower case, without port.
    pub hosts: Vec<String>,
    /// Answers on any Host.
    pub default: bool,
    /// Empty when nothing is live.
    pub traffic: Vec<Share>,
    /// Revisions that answer on their preview URL, live ones included, unless `answers_alone` says
    /// otherwise.
    pub revisions: Vec<Arc<RevisionState>>,
    pub environment: Arc<Environment>,
    pub clients: Arc<Clients>,
}

impl AppState {
    /// The revision with most of the traffic, which speaks for the app as a whole.
    pub fn leading(&self) -> Option<&RevisionState> {
        let leading = self.traffic.iter().max_by_key(|share| share.percent)?;
        Some(&leading.revision)
    }

    /// Whether requests may ask for this revision, whatever its share of the traffic is.
    pub fn answers_alone(&self, revision: &RevisionId) -> bool {
        let previews = self.leading().and_then(|leading| leading.manifest.gateway.previews);
        previews != Some(false) || self.traffic.iter().any(|share| share.revision.id == *revision)
    }
}

/// The desired state of a node. Unchanged apps and revisions keep their `Arc`s from one
/// snapshot to the next, so that whoever compiles it can keep what it made of them.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    pub apps: Vec<Arc<AppState>>,
}

/// Takes a new desired state. When `apply` returns, every later request is served by it.
pub trait ApplySnapshot: Send + Sync + 'static {
    fn apply(&self, snapshot: &Arc<Snapshot>);
}
