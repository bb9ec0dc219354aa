//! Guests that want the core for longer than a tick take turns.
//!
//! A guest that yields goes to the end of its core's queue, and one guest of that queue is
//! woken for each round of the event loop: whatever became ready meanwhile, new requests
//! above all, comes first. So what a short request waits for is one tick and not as many
//! as there are busy guests, and a busy guest still gets a tick in every round.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct Turns {
    waiting: VecDeque<Waker>,
    /// A task hands out turns.
    handed_out: bool,
}

thread_local! {
    static TURNS: RefCell<Turns> = RefCell::default();
}

/// Gives up the core until the guests that yielded before have had a turn.
pub fn yield_turn() -> YieldTurn {
    YieldTurn { queued: false }
}

/// The future of `yield_turn`.
#[derive(Debug)]
pub struct YieldTurn {
    queued: bool,
}

impl Future for YieldTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.queued {
            return Poll::Ready(());
        }
        self.queued = true;
        let begin = TURNS.with_borrow_mut(|turns| {
            turns.waiting.push_back(cx.waker().clone());
            !std::mem::replace(&mut turns.handed_out, true)
        });
        if begin {
            tokio::spawn(hand_out());
        }
        Poll::Pending
    }
}

async fn hand_out() {
    // Were this task dropped with its runtime, the next one would begin anew.
    let _ended = Ended;
    loop {
        // Tokio looks at sockets and timers before a task that yields goes on.
        tokio::task::yield_now().await;
        match TURNS.with_borrow_mut(|turns| turns.waiting.pop_front()) {
            Some(waker) => waker.wake(),
            None => return,
        }
    }
}

struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        // The thread's own end may come first.
        let _ = TURNS.try_with(|turns| turns.borrow_mut().handed_out = false);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Whoever is ready comes before the second of those that yielded.
    #[test]
    fn one_turn_for_each_round() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        local.block_on(&runtime, async {
            let mut tasks = Vec::new();
            for busy in 0..3 {
                let order = order.clone();
                tasks.push(tokio::task::spawn_local(async move {
                    for _ in 0..4 {
                        order.borrow_mut().push(busy);
                        yield_turn().await;
                    }
                }));
            }
            let quick = order.clone();
            tasks.push(tokio::task::spawn_local(async move {
                for _ in 0..4 {
                    quick.borrow_mut().push(9);
                    tokio::task::yield_now().await;
                }
            }));
            for task in tasks {
                task.await.unwrap();
            }
        });
        let order = order.borrow();
        let of = |who| order.iter().filter(|one| **one == who).count();
        assert_eq!([of(0), of(1), of(2), of(9)], [4; 4], "{order:?}");
        let last_quick = order.iter().rposition(|who| *who == 9).unwrap();
        assert!(last_quick < 3 + 4 + 4, "the quick one waited for all of them: {order:?}");
        // The busy ones keep their order.
        let busy: Vec<_> = order.iter().filter(|who| **who != 9).collect();
        assert!(busy.windows(2).all(|pair| *pair[1] == (*pair[0] + 1) % 3), "{order:?}");
    }
}
