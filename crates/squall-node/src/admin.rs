//! The listener of the admin API.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// From connecting, or the last response, to a whole head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Serves until it is stopped.
pub(crate) struct AdminServer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl AdminServer {
    pub(crate) fn start(socket: TcpListener, router: Router) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(serve(socket, router, stopped)) }
    }

    /// Takes no more requests, and gives those under way some time.
    pub(crate) async fn stop(mut self, patience: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            tracing::warn!("admin requests that took too long were cut off");
            self.task.abort();
        }
    }
}

async fn serve(socket: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (socket.accept().await, place.expect("the semaphore is never closed"))
        };
        let (accepted, place) = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually file descriptors ran out: wait for some to come back.
                tracing::warn!("accepting an admin connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let serving = connections.watch(serving);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!("an admin connection ended: {error}");
            }
            drop(place);
        });
    }
    connections.shutdown().await;
}
