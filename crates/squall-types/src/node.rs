//! What the admin API may ask of the node that it is part of.

use serde::{Deserialize, Serialize};

/// Facts of a running node.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeStatus {
    pub version: String,
    /// Of the server process that answers.
    pub pid: u32,
    /// Of the supervisor that owns the sockets.
    pub supervisor_pid: u32,
    /// RFC 3339 in UTC.
    pub started_at: String,
    /// Base URLs of the public listener, the first one reachable from this machine.
    pub gateway_urls: Vec<String>,
    pub admin_url: String,
    pub data_dir: String,
    pub ready: bool,
    /// Why not, when `ready` is false.
    pub waiting_for: Option<String>,
}

/// The node as its admin API sees it.
pub trait Node: Send + Sync + 'static {
    fn status(&self) -> NodeStatus;
    /// The Prometheus text exposition of everything.
    fn metrics(&self) -> String;
}
