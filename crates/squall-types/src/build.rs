//! The Build contract: from a component to code that an executor can map.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::manifest::InstanceMode;
use crate::state::{BlobId, HandlerWorld};

/// One component to compile, for one kind of engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildJob {
    /// For messages only, such as `hello/api`.
    pub label: String,
    pub component: BlobId,
    pub component_path: PathBuf,
    pub mode: InstanceMode,
}

/// What a build found out and made. The artifact itself is a cache entry that the
/// builder placed; it can be made again from the component at any time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildOutput {
    pub world: HandlerWorld,
    pub artifact_bytes: u64,
    pub compile_ms: u64,
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
    /// Checks and compiles a component in a child process and files the artifact.
    /// Returns at once when the artifact is there already. Concurrent calls for the
    /// same component compile once.
    fn build(&self, job: BuildJob) -> BuildFuture<'_, BuildOutput>;
    /// Whether the artifact for this node's engine is there.
    fn is_built(&self, component: &BlobId, mode: InstanceMode) -> bool;
}
