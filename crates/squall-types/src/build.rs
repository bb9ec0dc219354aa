//! The Build contract: from what was uploaded to what an executor can map.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::manifest::InstanceMode;
use crate::state::{BlobId, HandlerWorld};

/// What is made of the code of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// Compiled code, for one kind of engine.
    Component { mode: InstanceMode },
    /// A snapshot of the engine after the top-level code ran. That code may have looked at
    /// its environment, so what it saw there is a part of it.
    JavaScript {
        variables: BTreeMap<String, String>,
        /// Kinds by name.
        bindings: BTreeMap<String, String>,
    },
}

impl Target {
    /// The name of the artifact that is made of `code`: equal ones are made once.
    pub fn artifact_name(&self, code: &BlobId) -> String {
        match self {
            Target::Component { mode: InstanceMode::PerRequest } => {
                format!("{code}.per-request.cwasm")
            }
            Target::Component { mode: InstanceMode::Shared } => format!("{code}.shared.cwasm"),
            Target::JavaScript { variables, bindings } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&code.0);
                for map in [variables, bindings] {
                    hasher.update(&(map.len() as u64).to_le_bytes());
                    for text in map.iter().flat_map(|(name, value)| [name, value]) {
                        hasher.update(&(text.len() as u64).to_le_bytes());
                        hasher.update(text.as_bytes());
                    }
                }
                format!("{}.snapshot", hasher.finalize().to_hex())
            }
        }
    }
}

/// The code of one function, to be built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildJob {
    /// For messages only, such as `hello/api`.
    pub label: String,
    /// A component, or a JavaScript module that imports nothing but built-in modules.
    pub code: BlobId,
    pub code_path: PathBuf,
    pub target: Target,
    /// Names of the secrets that there are, for a better message where top-level code
    /// wants one.
    pub secrets: Vec<String>,
}

/// What a build found out and made. The artifact itself is a cache entry that the
/// builder placed; it can be made again from the code at any time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildOutput {
    pub world: HandlerWorld,
    pub artifact_bytes: u64,
    pub compile_ms: u64,
    /// What the person who deploys should know, although it goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{code}: {message}")]
pub struct BuildError {
    pub code: ErrorCode,
    /// What is wrong and how to mend it, for the person who deploys.
    pub message: String,
}

pub type BuildFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BuildError>> + Send + 'a>>;

pub trait Build: Send + Sync + 'static {
    /// Checks and builds code in a child process and files the artifact. Returns at once
    /// when the artifact is there already. Concurrent calls for the same build once.
    fn build(&self, job: BuildJob) -> BuildFuture<'_, BuildOutput>;
    /// Whether the artifact for this node's engine is there.
    fn is_built(&self, code: &BlobId, target: &Target) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_of_different_things_have_different_names() {
        let code = BlobId([7; 32]);
        let with_bindings = |variables: &[(&str, &str)], bindings: &[(&str, &str)]| {
            let owned = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
            };
            let (variables, bindings) = (owned(variables), owned(bindings));
            Target::JavaScript { variables, bindings }.artifact_name(&code)
        };
        let javascript = |variables| with_bindings(variables, &[]);
        let names = [
            Target::Component { mode: InstanceMode::PerRequest }.artifact_name(&code),
            Target::Component { mode: InstanceMode::Shared }.artifact_name(&code),
            javascript(&[]),
            javascript(&[("A", "B")]),
            javascript(&[("AB", "")]),
            javascript(&[("A", ""), ("B", "")]),
            with_bindings(&[], &[("A", "B")]),
        ];
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert_eq!(javascript(&[("A", "B")]), names[3]);
    }
}
