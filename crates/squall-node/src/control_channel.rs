//! What supervisor and server say to each other: a line of JSON each way on a socket pair.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::ServerConfig;

/// Names the environment variable that carries a `ServerJob`.
pub(crate) const JOB_VARIABLE: &str = "SQUALL_SERVER_JOB";

/// What a server process is started with. Sockets by descriptor, inherited.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerJob {
    pub(crate) data_dir: PathBuf,
    pub(crate) config: ServerConfig,
    /// One for each core, for each address.
    pub(crate) gateway_fds: Vec<Vec<i32>>,
    /// As `gateway_fds`, for TLS.
    pub(crate) tls_fds: Vec<Vec<i32>>,
    pub(crate) admin_fd: i32,
    pub(crate) control_fd: i32,
    /// Another server process runs and hands over.
    pub(crate) handover: bool,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Nobody else serves the admin API or changes state: take over.
    Go,
    /// Finish changes of state and answer no more admin requests.
    StopAdmin,
    /// The handover failed: go on.
    ResumeAdmin,
    /// Finish what runs, and end.
    Drain,
}

/// From the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Everything is loaded and compiled; waits for `Go`.
    Prepared,
    Serving {
        gateway_urls: Vec<String>,
        admin_url: String,
        started_at: String,
        /// Made now, at the first start.
        first_token: Option<String>,
    },
    AdminStopped,
    /// The server can not start.
    Failed {
        code: Option<squall_types::ErrorCode>,
        message: String,
    },
}

/// One end.
pub(crate) struct Channel {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Channel {
    /// Call it on a Tokio runtime.
    pub(crate) fn new(fd: OwnedFd) -> std::io::Result<Self> {
        let stream = StdUnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        Ok(Self { lines: BufReader::new(reader).lines(), writer })
    }

    pub(crate) async fn send(&mut self, message: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// The next message; `None` when the other side is gone. Cancel-safe.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> std::io::Result<Option<T>> {
        match self.lines.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}
