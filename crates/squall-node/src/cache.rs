//! The store of the edge cache: opened at the start, handed on at the end.
//!
//! Its folder belongs to one process. A server that takes over from another begins with an
//! empty store in memory, and goes on with the disk as soon as the other has let go of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use squall_cache::store::{DiskSettings, Settings, Store};
use squall_gateway::Gateway;

use crate::config::CacheConfig;

/// How often a server looks whether the one before has let go of the disk.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// A store, and where its disk would be that another process still has.
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) awaited: Option<Awaited>,
}

pub(crate) struct Awaited {
    settings: Settings,
}

/// The cache never keeps a node from starting: without its disk it is in memory.
pub(crate) fn open(config: &CacheConfig, data: &Path) -> Opened {
    let settings = settings(config, data.join("cache"));
    let in_memory = || Arc::new(Store::in_memory(config.memory_bytes));
    match Store::open(settings.clone()) {
        Ok(store) => Opened { store: Arc::new(store), awaited: None },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Opened { store: in_memory(), awaited: Some(Awaited { settings }) }
        }
        Err(error) => {
            tracing::warn!(%error, "the cache keeps responses in memory only");
            Opened { store: in_memory(), awaited: None }
        }
    }
}

fn settings(config: &CacheConfig, dir: PathBuf) -> Settings {
    Settings {
        memory_bytes: config.memory_bytes,
        disk: (config.disk_bytes > 0).then_some(DiskSettings { dir, bytes: config.disk_bytes }),
        entry_bytes_max: config.object_max_bytes.max(Settings::default().entry_bytes_max),
        ..Settings::default()
    }
}

impl Awaited {
    /// Gives the gateway the store of the disk when that is free.
    pub(crate) async fn join(self, gateway: Gateway) {
        loop {
            tokio::time::sleep(LOOKED_EVERY).await;
            let settings = self.settings.clone();
            let opened = tokio::task::spawn_blocking(move || Store::open(settings)).await;
            match opened {
                Ok(Ok(store)) => return gateway.set_cache(Arc::new(store)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the cache keeps responses in memory only");
                    return gateway.no_other_cache();
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    }
}

/// Writes what waits for the disk, and leaves that to a successor.
pub(crate) async fn let_go(gateway: Gateway, config: &CacheConfig) {
    let memory_bytes = config.memory_bytes;
    let left = tokio::task::spawn_blocking(move || {
        gateway.set_cache(Arc::new(Store::in_memory(memory_bytes)));
    });
    if left.await.is_err() {
        tracing::error!("the cache's disk was not closed");
    }
}
