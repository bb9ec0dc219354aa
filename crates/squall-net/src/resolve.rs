//! Name resolution behind a trait, so that tests decide what a name means.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns a name into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `name`, best first.
    fn resolve(&self, name: &str, port: u16) -> ResolveFuture;
}

/// The system's resolver (getaddrinfo), which honours /etc/hosts and nsswitch.
///
/// It blocks, so it runs on the runtime's blocking pool. A lookup can not be interrupted:
/// it keeps its place until it returns, so that a name server that does not answer
/// takes no more than `places` threads.
pub struct SystemResolver {
    places: Arc<Semaphore>,
}

impl SystemResolver {
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places.max(1))) }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new(8)
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str, port: u16) -> ResolveFuture {
        let (places, name) = (self.places.clone(), name.to_owned());
        Box::pin(async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = tokio::task::spawn_blocking(move || {
                let _place = place;
                (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}
