//! Permits with a bounded queue in arrival order.
//!
//! The uncontended path is one atomic addition each way. Waiters are known to the
//! releasing side by a counter; the lock is only taken when somebody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_types::shard::{Local, Spread};
use tokio::sync::oneshot;

/// Every call takes and gives back: each thread counts what refers to it by itself.
pub(crate) struct Admission(Spread<Counts>);

struct Counts {
    limit: u32,
    queue_limit: u32,
    running: AtomicU32,
    waiting: AtomicU32,
    queue: Mutex<VecDeque<oneshot::Sender<Permit>>>,
}

/// The right to run. Dropping it lets the next in the queue go.
pub(crate) struct Permit(Option<Local<Counts>>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    QueueFull,
    Timeout,
}

impl Admission {
    pub(crate) fn new(limit: u32, queue_limit: u32) -> Arc<Self> {
        let counts = Counts {
            limit,
            queue_limit,
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        };
        Arc::new(Self(Spread::new(counts)))
    }

    pub(crate) fn running(&self) -> u32 {
        self.0.running.load(SeqCst)
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.0.waiting.load(SeqCst)
    }

    /// Takes a permit where one is free and nobody waits for it.
    pub(crate) fn acquire_now(&self) -> Option<Permit> {
        if self.0.waiting.load(SeqCst) > 0 {
            return None;
        }
        Counts::try_acquire(self.0.own())
    }

    /// Takes a permit, waiting in the queue for at most `patience`.
    pub(crate) async fn acquire(&self, patience: Duration) -> Result<Permit, Refusal> {
        if let Some(permit) = self.acquire_now() {
            return Ok(permit);
        }
        let counts = self.0.own();
        let receiver = {
            let mut queue = counts.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // Counted before the last try: a release that happens after it sees the
            // counter and takes the lock; one that happens before it is seen by the try.
            if counts.waiting.fetch_add(1, SeqCst) == 0
                && let Some(permit) = Counts::try_acquire(counts.clone())
            {
                counts.waiting.fetch_sub(1, SeqCst);
                return Ok(permit);
            }
            // Those who gave up stay in line until someone looks.
            if queue.len() >= counts.queue_limit as usize {
                let before = queue.len();
                queue.retain(|sender| !sender.is_closed());
                counts.waiting.fetch_sub((before - queue.len()) as u32, SeqCst);
            }
            if queue.len() >= counts.queue_limit as usize {
                counts.waiting.fetch_sub(1, SeqCst);
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
}

impl Counts {
    fn try_acquire(this: Local<Self>) -> Option<Permit> {
        let taken = this
            .running
            .fetch_update(SeqCst, SeqCst, |running| (running < this.limit).then_some(running + 1));
        taken.is_ok().then(|| Permit(Some(this)))
    }

    fn release(this: &Local<Self>) {
        this.running.fetch_sub(1, SeqCst);
        while this.waiting.load(SeqCst) > 0 {
            // A permit that nobody takes is dropped outside the lock: dropping releases.
            let (sender, permit) = {
                let mut queue = this.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.is_empty() {
                    return;
                }
                let Some(permit) = Self::try_acquire(this.clone()) else { return };
                let sender = queue.pop_front().expect("checked above, under the same lock");
                this.waiting.fetch_sub(1, SeqCst);
                (sender, permit)
            };
            match sender.send(permit) {
                Ok(()) => return,
                // The waiter has gone. Take the permit back without the drop's recursion
                // and look at the next.
                Err(mut permit) => {
                    permit.0 = None;
                    this.running.fetch_sub(1, SeqCst);
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(counts) = self.0.take() {
            Counts::release(&counts);
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
