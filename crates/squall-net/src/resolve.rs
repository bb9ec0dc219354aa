//! Name resolution behind a trait, so that tests decide what a name means.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns a name into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `name`, best first.
    fn resolve(&self, name: &str, port: u16) -> ResolveFuture;
}

/// Lookups that take longer than this are slow: their name servers do not answer.
const SLOW: Duration = Duration::from_secs(1);
/// For so long a name that had no answer is expected to have none again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Names that are remembered at once.
const REMEMBERED_MAX: usize = 4_096;
const QUICK_PLACES: usize = 32;
const SLOW_PLACES: usize = 8;
/// A lookup can not be interrupted: each is a thread until it returns.
const THREADS_MAX: usize = 128;
const STACK_BYTES: usize = 512 << 10;

/// The system's resolver (getaddrinfo), which honours /etc/hosts and nsswitch.
///
/// It blocks, so each lookup has a thread: those of the runtime have other things to do. Names
/// whose servers do not answer share a few places, and leave the others to the rest.
#[derive(Default)]
pub struct SystemResolver(Arc<Places>);

struct Places {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    /// When each of those that had no answer in time was given up.
    slow_names: Mutex<HashMap<String, Instant>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            quick: Arc::new(Semaphore::new(QUICK_PLACES)),
            slow: Arc::new(Semaphore::new(SLOW_PLACES)),
            threads: Arc::new(Semaphore::new(THREADS_MAX)),
            slow_names: Mutex::default(),
        }
    }
}

impl Places {
    fn is_slow(&self, name: &str) -> bool {
        let names = self.slow_names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).is_some_and(|seen| seen.elapsed() < REMEMBERED_FOR)
    }

    fn note(&self, name: String, answered: bool) {
        let mut names = self.slow_names.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            names.remove(&name);
            return;
        }
        if names.len() >= REMEMBERED_MAX {
            names.retain(|_, seen| seen.elapsed() < REMEMBERED_FOR);
        }
        if names.len() < REMEMBERED_MAX {
            names.insert(name, Instant::now());
        }
    }

    /// Looks up what `lookup` does, which may block.
    async fn look_up<T: Send + 'static>(
        self: Arc<Self>,
        name: String,
        lookup: impl FnOnce(&str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let slow = self.is_slow(&name);
        let lane = if slow { &self.slow } else { &self.quick };
        let place = lane.clone().acquire_owned().await.map_err(io::Error::other)?;
        let thread = self.threads.clone().acquire_owned().await.map_err(io::Error::other)?;
        // What is known to be slow keeps its place until it returns, whoever still waits for it.
        let (mut quick, kept) = if slow { (None, Some(place)) } else { (Some(place), None) };
        let places = self.clone();
        let (tell, mut told) = oneshot::channel();
        let looking = move || {
            let _until_it_returns: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>) =
                (thread, kept);
            let began = Instant::now();
            let found = lookup(&name);
            places.note(name, found.is_ok() || began.elapsed() < SLOW);
            // Nobody may wait for it any more.
            let _ = tell.send(found);
        };
        std::thread::Builder::new()
            .name("squall-resolve".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(looking)?;
        let found = match tokio::time::timeout(SLOW, &mut told).await {
            Ok(found) => found,
            Err(_) => {
                drop(quick.take());
                told.await
            }
        };
        found.map_err(io::Error::other)?
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str, port: u16) -> ResolveFuture {
        let lookup = move |name: &str| (name, port).to_socket_addrs().map(Iterator::collect);
        Box::pin(self.0.clone().look_up(name.to_owned(), lookup))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Waiting = Vec<tokio::task::JoinHandle<io::Result<()>>>;

    /// As many lookups as there are quick places, none of which returns before `Sender` is gone.
    fn stuck(places: &Arc<Places>) -> (std::sync::mpsc::Sender<()>, Waiting) {
        let (release, released) = std::sync::mpsc::channel();
        let released = Arc::new(Mutex::new(released));
        let look_up = |number| {
            let released = released.clone();
            tokio::spawn(places.clone().look_up(format!("{number}.dead.example"), move |_| {
                let _ = released.lock().unwrap().recv();
                Err(io::ErrorKind::TimedOut.into())
            }))
        };
        (release, (0..QUICK_PLACES).map(look_up).collect())
    }

    /// A name server that does not answer holds up only what is asked of it.
    #[tokio::test]
    async fn names_that_take_long_leave_the_others_their_places() {
        let places = Arc::new(Places::default());
        let good = || places.clone().look_up("good.example".to_owned(), |_| Ok(7));
        let (release, waiting) = stuck(&places);
        while places.quick.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let longest = Duration::from_secs(20);
        assert_eq!(tokio::time::timeout(longest, good()).await.unwrap().unwrap(), 7);
        while places.quick.available_permits() < QUICK_PLACES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(release);
        for one in waiting {
            one.await.unwrap().unwrap_err();
        }
        assert!(places.is_slow("0.dead.example") && !places.is_slow("good.example"));

        // Known by now, they take no quick place at all.
        let (_release, waiting) = stuck(&places);
        while places.slow.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(places.quick.available_permits(), QUICK_PLACES);
        assert_eq!(good().await.unwrap(), 7);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
