//! `node.json`: how tools on this machine find a running node.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data_dir::write_atomically;

pub(crate) const NAME: &str = "node.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    pub(crate) version: String,
    /// Of the server process.
    pub(crate) pid: u32,
    pub(crate) supervisor_pid: u32,
    pub(crate) admin_url: String,
    pub(crate) gateway_urls: Vec<String>,
    pub(crate) started_at: String,
    /// Why the last attempt to hand over to a new server process failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_handover_error: Option<String>,
    /// How many of them have failed since the supervisor began.
    #[serde(default)]
    pub(crate) handovers_failed: u64,
}

impl NodeFile {
    pub(crate) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        write_atomically(&data_dir.join(NAME), &text)
    }

    pub(crate) fn remove(data_dir: &Path) {
        let _ = std::fs::remove_file(data_dir.join(NAME));
    }
}
