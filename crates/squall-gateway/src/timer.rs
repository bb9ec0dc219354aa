//! Timers for connections, cheap to move and to make.
//!
//! hyper makes a timer for each head and drops it when the head has come. The runtime's
//! wheel takes a lock and a place in memory each time, so the timer of the wheel stays with
//! the connection and only the deadline is noted: the one that is armed fires early, finds
//! the later deadline and arms itself again.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::task::coop::unconstrained;

/// The timer of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct LazyTimer {
    /// Waits for the next sleep. It may be armed for a deadline that nobody has any more.
    spare: Arc<Mutex<Option<Armed>>>,
}

type Armed = Pin<Box<tokio::time::Sleep>>;

struct LazySleep {
    deadline: Instant,
    /// Never later than `deadline`. `None` once dropped.
    armed: Option<Armed>,
    /// Where the armed timer goes in the end.
    home: Option<LazyTimer>,
    /// Whom the armed timer wakes when it fires.
    waker: Option<Waker>,
}

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let mut sleep = match self.spare().take() {
            Some(armed) => LazySleep { deadline, armed: Some(armed), home: None, waker: None },
            None => LazySleep::new(deadline),
        };
        sleep.move_to(deadline);
        sleep.home = Some(self.clone());
        Box::pin(sleep)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        let Some(lazy) = sleep.as_mut().downcast_mut_pin::<LazySleep>() else {
            *sleep = self.sleep_until(deadline);
            return;
        };
        lazy.get_mut().move_to(deadline);
    }
}

impl LazyTimer {
    fn spare(&self) -> std::sync::MutexGuard<'_, Option<Armed>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LazySleep {
    fn new(deadline: Instant) -> Self {
        let armed = Box::pin(tokio::time::sleep_until(deadline.into()));
        Self { deadline, armed: Some(armed), home: None, waker: None }
    }

    fn move_to(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Some(armed) = &mut self.armed
            && deadline < armed.deadline().into_std()
        {
            armed.as_mut().reset(deadline.into());
            self.waker = None;
        }
    }
}

impl Sleep for LazySleep {}

impl Future for LazySleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { deadline, armed: Some(armed), waker, .. } = &mut *self else {
            return Poll::Pending;
        };
        // Tasks look at their timers whenever they run. The wheel knows this one already.
        let is_known = waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && !armed.is_elapsed() {
            return Poll::Pending;
        }
        let deadline = (*deadline).into();
        *waker = None;
        loop {
            // Whatever the task has used of its turn: else the wheel might not hear of it.
            if pin!(unconstrained(armed.as_mut())).poll(cx).is_pending() {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if armed.deadline() >= deadline {
                return Poll::Ready(());
            }
            armed.as_mut().reset(deadline);
        }
    }
}

impl Drop for LazySleep {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            *home.spare() = self.armed.take();
        }
    }
}

/// A timer that stays with a connection from one request to the next, armed once.
#[derive(Default)]
pub(crate) struct Deadline(Option<LazySleep>);

impl Deadline {
    /// Ready once `deadline` has passed. It may be another one each time.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| LazySleep::new(deadline));
        sleep.move_to(deadline);
        ready!(Pin::new(sleep).poll(cx));
        // One that has fired is not polled again.
        self.0 = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// It is registered with the runtime from then on.
    async fn polled_once(sleep: &mut Pin<Box<dyn Sleep>>) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await
    }

    /// When a timer that is first set to `first` and moved to each of `moved`, in seconds
    /// from the start, fires.
    async fn fires_after(first: u32, moved: &[u32]) -> Duration {
        let start = tokio::time::Instant::now();
        let at = |seconds: u32| start.into_std() + SECOND * seconds;
        let timer = LazyTimer::default();
        let mut sleep = timer.sleep_until(at(first));
        for seconds in moved {
            timer.reset(&mut sleep, at(*seconds));
        }
        sleep.await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_at_the_deadline_that_was_set_last() {
        for (first, moved, expected) in
            [(3, &[][..], 3), (3, &[5], 5), (3, &[1], 1), (3, &[100, 4], 4), (3, &[1, 100, 50], 50)]
        {
            let waited = fires_after(first, moved).await;
            let late = waited.saturating_sub(SECOND * expected);
            assert!(waited >= SECOND * expected && late < SECOND / 100, "{moved:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_for_a_task_whose_turn_was_used_up() {
        let start = tokio::time::Instant::now();
        let (mut deadline, mut is_first) = (Deadline::default(), true);
        let waiting = std::future::poll_fn(move |cx| {
            while is_first && tokio::task::coop::has_budget_remaining() {
                let _ = pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            is_first = false;
            deadline.poll((start + SECOND).into_std(), cx)
        });
        tokio::time::timeout(60 * SECOND, tokio::spawn(waiting)).await.unwrap().unwrap();
        assert!(start.elapsed() < 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_can_be_moved_while_somebody_waits() {
        let start = tokio::time::Instant::now();
        let timer = LazyTimer::default();
        let mut sleep = timer.sleep(SECOND);
        assert!(polled_once(&mut sleep).await.is_pending());
        tokio::time::advance(SECOND / 2).await;
        timer.reset(&mut sleep, (start + 2 * SECOND).into_std());
        sleep.await;
        assert!(start.elapsed() >= 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_dropped_does_not_fire_for_the_next_one() {
        let start = tokio::time::Instant::now();
        let timer = LazyTimer::default();
        let mut first = timer.sleep(SECOND);
        assert!(polled_once(&mut first).await.is_pending());
        drop(first);
        // The one in the middle finds a spare that has fired already.
        for (pause, sleep) in [(0, 3), (2, 3), (0, 1)] {
            tokio::time::advance(SECOND * pause).await;
            let began = tokio::time::Instant::now();
            timer.sleep_until((began + SECOND * sleep).into_std()).await;
            let waited = began.elapsed();
            assert!(waited >= SECOND * sleep && waited < SECOND * sleep + SECOND / 100);
        }
        assert!(start.elapsed() >= 9 * SECOND);
    }
}
