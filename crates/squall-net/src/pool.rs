//! Connections that wait for their next request.
//!
//! A connection is driven by a task on the runtime that opened it, so the pool is keyed by
//! runtime: a request core reuses its own connections, without a wake-up across threads
//! for each piece of a body, and the end of one runtime takes only its own with it. It is
//! also keyed by owner: what one app left behind on a connection, another never reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use squall_types::Body;
use squall_types::outbound::OutboundPolicy;
use tokio::runtime;

use crate::host::Host;

/// Where a connection leads, for whom, and on which runtime.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) runtime: runtime::Id,
    pub(crate) owner: String,
    pub(crate) https: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) sender: Sender,
    /// Whether the address at its other end is.
    pub(crate) public: bool,
}

impl Connection {
    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

pub(crate) struct Pool {
    idle: Mutex<Connections>,
    idle_timeout: Duration,
    max_idle_per_key: usize,
}

#[derive(Default)]
struct Connections {
    by_key: HashMap<Key, Vec<Idle>>,
    /// Runtimes on which a task watches for connections that have waited too long.
    watched: Vec<runtime::Id>,
}

impl Pool {
    pub(crate) fn new(idle_timeout: Duration, max_idle_per_key: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_timeout, max_idle_per_key })
    }

    /// A connection that `policy` allows, the one used last. An HTTP/2 connection stays
    /// in the pool for others.
    pub(crate) fn take(&self, key: &Key, policy: &OutboundPolicy) -> Option<Connection> {
        let mut connections = self.lock();
        let waiting = connections.by_key.get_mut(key)?;
        waiting.retain(|idle| !idle.connection.is_closed());
        let place = waiting.iter().rposition(|idle| {
            idle.connection.is_usable() && (policy.allow_private || idle.connection.public)
        })?;
        if let Sender::Http2(sender) = &waiting[place].connection.sender {
            let sender = Sender::Http2(sender.clone());
            let public = waiting[place].connection.public;
            waiting[place].since = Instant::now();
            return Some(Connection { sender, public });
        }
        Some(waiting.remove(place).connection)
    }

    /// Keeps a connection for the next request. To be called on the key's runtime.
    pub(crate) fn put(self: &Arc<Self>, key: Key, connection: Connection) {
        let mut connections = self.lock();
        let runtime = key.runtime;
        let waiting = connections.by_key.entry(key).or_default();
        if waiting.len() >= self.max_idle_per_key {
            waiting.remove(0);
        }
        waiting.push(Idle { connection, since: Instant::now() });
        if !connections.watched.contains(&runtime) {
            connections.watched.push(runtime);
            tokio::spawn(self.clone().watch(runtime));
        }
    }

    /// Forgets the connections to a host that stopped answering.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().by_key.remove(key);
    }

    /// Closes what has waited too long; ends when nothing waits on its runtime.
    async fn watch(self: Arc<Self>, runtime: runtime::Id) {
        let _watching = Watching { pool: &self, runtime };
        loop {
            tokio::time::sleep(self.idle_timeout / 2).await;
            let mut connections = self.lock();
            connections.by_key.retain(|key, waiting| {
                if key.runtime == runtime {
                    waiting.retain(|idle| {
                        idle.since.elapsed() < self.idle_timeout && !idle.connection.is_closed()
                    });
                }
                !waiting.is_empty()
            });
            if !connections.by_key.keys().any(|key| key.runtime == runtime) {
                // Under the same lock, so that the next `put` starts another watch.
                connections.watched.retain(|watched| *watched != runtime);
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let connections = self.lock();
        let waiting = connections.by_key.values().flatten();
        waiting.filter(|idle| !idle.connection.is_closed()).count()
    }
}

/// When a runtime ends, its watch is dropped and its connections go with it.
struct Watching<'a> {
    pool: &'a Pool,
    runtime: runtime::Id,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut connections = self.pool.lock();
        if connections.watched.contains(&self.runtime) {
            connections.watched.retain(|watched| *watched != self.runtime);
            connections.by_key.retain(|key, _| key.runtime != self.runtime);
        }
    }
}
