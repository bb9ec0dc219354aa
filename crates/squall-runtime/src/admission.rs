//! Permits with a bounded queue in arrival order.
//!
//! The uncontended path is one atomic addition each way. Waiters are known to the
//! releasing side by a counter; the lock is only taken when somebody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) struct Admission {
    limit: u32,
    queue_limit: u32,
    running: AtomicU32,
    waiting: AtomicU32,
    queue: Mutex<VecDeque<oneshot::Sender<Permit>>>,
}

/// The right to run. Dropping it lets the next in the queue go.
pub(crate) struct Permit(Option<Arc<Admission>>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    QueueFull,
    Timeout,
}

impl Admission {
    pub(crate) fn new(limit: u32, queue_limit: u32) -> Arc<Self> {
        Arc::new(Self {
            limit,
            queue_limit,
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        })
    }

    pub(crate) fn running(&self) -> u32 {
        self.running.load(SeqCst)
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Takes a permit where one is free and nobody waits for it.
    pub(crate) fn acquire_now(self: &Arc<Self>) -> Option<Permit> {
        if self.waiting.load(SeqCst) > 0 {
            return None;
        }
        self.try_acquire()
    }

    /// Takes a permit, waiting in the queue for at most `patience`.
    pub(crate) async fn acquire(self: &Arc<Self>, patience: Duration) -> Result<Permit, Refusal> {
        if let Some(permit) = self.acquire_now() {
            return Ok(permit);
        }
        let receiver = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // Counted before the last try: a release that happens after it sees the
            // counter and takes the lock; one that happens before it is seen by the try.
            if self.waiting.fetch_add(1, SeqCst) == 0
                && let Some(permit) = self.try_acquire()
            {
                self.waiting.fetch_sub(1, SeqCst);
                return Ok(permit);
            }
            // Those who gave up stay in line until someone looks.
            if queue.len() >= self.queue_limit as usize {
                let before = queue.len();
                queue.retain(|sender| !sender.is_closed());
                self.waiting.fetch_sub((before - queue.len()) as u32, SeqCst);
            }
            if queue.len() >= self.queue_limit as usize {
                self.waiting.fetch_sub(1, SeqCst);
                return Err(Refusal::QueueFull);
            }
            let (sender, receiver) = oneshot::channel();
            queue.push_back(sender);
            receiver
        };
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            // The sender only goes away by sending; a permit that crossed with the
            // timeout is dropped with the receiver and goes to the next in line.
            Ok(Err(_)) | Err(_) => Err(Refusal::Timeout),
        }
    }

    fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let taken = self
            .running
            .fetch_update(SeqCst, SeqCst, |running| (running < self.limit).then_some(running + 1));
        taken.is_ok().then(|| Permit(Some(self.clone())))
    }

    fn release(self: Arc<Self>) {
        self.running.fetch_sub(1, SeqCst);
        while self.waiting.load(SeqCst) > 0 {
            // A permit that nobody takes is dropped outside the lock: dropping releases.
            let (sender, permit) = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.is_empty() {
                    return;
                }
                let Some(permit) = self.try_acquire() else { return };
                let sender = queue.pop_front().expect("checked above, under the same lock");
                self.waiting.fetch_sub(1, SeqCst);
                (sender, permit)
            };
            match sender.send(permit) {
                Ok(()) => return,
                // The waiter has gone. Take the permit back without the drop's recursion
                // and look at the next.
                Err(mut permit) => {
                    permit.0 = None;
                    self.running.fetch_sub(1, SeqCst);
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn beyond_the_limit_requests_wait_in_order_and_beyond_the_queue_they_are_refused() {
        let admission = Admission::new(1, 2);
        let first = admission.acquire(LONG).await.unwrap();
        let waiter = |name: &'static str| {
            let admission = admission.clone();
            tokio::spawn(async move { admission.acquire(LONG).await.map(|permit| (name, permit)) })
        };
        let second = waiter("second");
        tokio::task::yield_now().await;
        let third = waiter("third");
        tokio::task::yield_now().await;
        assert_eq!(admission.acquire(LONG).await.err(), Some(Refusal::QueueFull));
        assert_eq!((admission.running(), admission.waiting()), (1, 2));
        drop(first);
        let (name, permit) = second.await.unwrap().unwrap();
        assert_eq!(name, "second");
        assert!(!third.is_finished());
        drop(permit);
        drop(third.await.unwrap().unwrap());
        assert_eq!((admission.running(), admission.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn waiting_ends_at_the_given_patience_and_leaves_no_trace() {
        let admission = Admission::new(1, 1);
        let held = admission.acquire(LONG).await.unwrap();
        for _ in 0..3 {
            let refused = admission.acquire(Duration::from_millis(5)).await.err();
            assert_eq!(refused, Some(Refusal::Timeout), "an abandoned place is reused");
        }
        drop(held);
        drop(admission.acquire(LONG).await.unwrap());
        assert_eq!((admission.running(), admission.waiting()), (0, 0));
    }

    #[test]
    fn permits_are_neither_lost_nor_made_under_contention() {
        let admission = Admission::new(3, 64);
        let most = Arc::new(AtomicU32::new(0));
        let inside = Arc::new(AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let tasks: Vec<_> = (0..8)
                            .map(|task| {
                                let (admission, most, inside) =
                                    (admission.clone(), most.clone(), inside.clone());
                                tokio::spawn(async move {
                                    for round in 0..500u64 {
                                        // Some give up while they wait.
                                        let patience = if (round + task) % 7 == 0 {
                                            Duration::ZERO
                                        } else {
                                            LONG
                                        };
                                        let Ok(permit) = admission.acquire(patience).await else {
                                            continue;
                                        };
                                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                                        tokio::task::yield_now().await;
                                        inside.fetch_sub(1, SeqCst);
                                        drop(permit);
                                    }
                                })
                            })
                            .collect();
                        for task in tasks {
                            task.await.unwrap();
                        }
                    });
                });
            }
        });
        assert!(most.load(SeqCst) <= 3);
        assert_eq!(admission.running(), 0);
    }
}
