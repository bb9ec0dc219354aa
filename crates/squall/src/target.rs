//! Which node a command speaks to: the one of a data directory on this machine, or a
//! remote one named by SQUALL_URL and SQUALL_TOKEN.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use squall_types::ErrorCode;

use crate::cli::Global;
use crate::failure::{Exit, Failure};
use crate::process::is_alive;

/// What a running node writes into its data directory.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeFacts {
    pub(crate) pid: u32,
    pub(crate) supervisor_pid: u32,
    pub(crate) admin_url: String,
    #[serde(default)]
    pub(crate) gateway_urls: Vec<String>,
    #[serde(default)]
    pub(crate) version: String,
    /// Why the newest attempt to hand over to another process failed.
    #[serde(default)]
    pub(crate) last_handover_error: Option<String>,
    /// How many have failed; an older supervisor does not count.
    #[serde(default)]
    pub(crate) handovers_failed: u64,
}

impl NodeFacts {
    /// `None` when no node has run for this folder.
    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(data_dir.join("node.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The supervisor owns the sockets: while it lives, a server is there or comes back.
    pub(crate) fn runs(&self) -> bool {
        is_alive(self.supervisor_pid)
    }
}

/// A node and the right to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) token: String,
    /// The data directory of a node on this machine.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Target {
    /// `--data-dir` is the strongest wish, then SQUALL_URL, then SQUALL_DATA_DIR.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        match global.remote_url() {
            Some(url) => Self::remote(url),
            None => Self::local(&global.data_dir()),
        }
    }

    fn remote(url: String) -> Result<Self, Failure> {
        let token = std::env::var("SQUALL_TOKEN").unwrap_or_default().trim().to_owned();
        if token.is_empty() {
            return Err(Failure::new(
                Exit::Auth,
                format!("connecting to {url}"),
                "SQUALL_URL is set but SQUALL_TOKEN is not",
            )
            .code(ErrorCode::Unauthorized)
            .next("export SQUALL_TOKEN=TOKEN"));
        }
        Ok(Self { url, token, data_dir: None })
    }

    /// The node that runs for `data_dir`.
    pub(crate) fn local(data_dir: &Path) -> Result<Self, Failure> {
        let facts = NodeFacts::read(data_dir).filter(NodeFacts::runs);
        let facts = facts.ok_or_else(|| no_node(data_dir))?;
        let file = data_dir.join("admin.token");
        let token = std::fs::read_to_string(&file).map_err(|error| {
            Failure::new(Exit::Auth, format!("reading {}", file.display()), error)
                .next("the user that runs the node, or SQUALL_URL with SQUALL_TOKEN")
        })?;
        Ok(Self {
            url: facts.admin_url,
            token: token.trim().to_owned(),
            data_dir: Some(data_dir.to_owned()),
        })
    }

    /// Nobody answers at `url`.
    pub(crate) fn unreachable(&self, why: &str) -> Failure {
        let failure = Failure::new(Exit::Unreachable, format!("connecting to {}", self.url), why);
        match &self.data_dir {
            Some(data_dir) => failure.next(up_command(data_dir)),
            None => failure.next("squall up on that machine, or correct SQUALL_URL"),
        }
    }
}

/// No node runs for a data directory.
pub(crate) fn no_node(data_dir: &Path) -> Failure {
    let shown = data_dir.display();
    Failure::new(
        Exit::Unreachable,
        "finding the node",
        format!("no node runs for the data directory {shown}"),
    )
    .next(up_command(data_dir))
}

fn up_command(data_dir: &Path) -> String {
    if data_dir == Path::new(crate::cli::DEFAULT_DATA_DIR) {
        return "squall up".to_owned();
    }
    format!("squall up --data-dir {}", data_dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_running_node_says_which_command_starts_one() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Target::local(folder.path()).unwrap_err();
        assert_eq!(missing.exit, Exit::Unreachable);
        assert!(missing.to_string().contains("try: squall up --data-dir"), "{missing}");
        // What a node left behind when it was killed.
        let facts = r#"{"pid":4194303,"supervisor_pid":4194303,"admin_url":"http://127.0.0.1:1"}"#;
        std::fs::write(folder.path().join("node.json"), facts).unwrap();
        assert_eq!(Target::local(folder.path()).unwrap_err().exit, Exit::Unreachable);
        // A live process, but no token that may be read.
        let facts = facts.replace("4194303", &std::process::id().to_string());
        std::fs::write(folder.path().join("node.json"), facts).unwrap();
        assert_eq!(Target::local(folder.path()).unwrap_err().exit, Exit::Auth);
        std::fs::write(folder.path().join("admin.token"), "sqt_x\n").unwrap();
        assert_eq!(Target::local(folder.path()).unwrap().token, "sqt_x");
    }
}
