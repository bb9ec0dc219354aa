//! Timers for connections, cheap to move.
//!
//! hyper moves the timer of a connection's next head twice in each request, always to a
//! later time. The runtime's wheel takes a lock each time, so the deadline is only noted
//! here: the timer that is armed fires early, finds the later deadline and arms itself
//! again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LazyTimer;

struct LazySleep {
    deadline: Instant,
    /// Never later than `deadline`.
    armed: Pin<Box<tokio::time::Sleep>>,
}

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(LazySleep::new(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        let Some(lazy) = sleep.as_mut().downcast_mut_pin::<LazySleep>() else {
            *sleep = self.sleep_until(deadline);
            return;
        };
        lazy.get_mut().move_to(deadline);
    }
}

impl LazySleep {
    fn new(deadline: Instant) -> Self {
        Self { deadline, armed: Box::pin(tokio::time::sleep_until(deadline.into())) }
    }

    fn move_to(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.armed.deadline().into_std() {
            self.armed.as_mut().reset(deadline.into());
        }
    }
}

impl Sleep for LazySleep {}

impl Future for LazySleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.armed.as_mut().poll(cx));
            let deadline = self.deadline.into();
            if self.armed.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.armed.as_mut().reset(deadline);
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

    /// When a timer that is first set to `first` and moved to each of `moved`, in seconds
    /// from the start, fires.
    async fn fires_after(first: u32, moved: &[u32]) -> Duration {
        let start = tokio::time::Instant::now();
        let at = |seconds: u32| start.into_std() + SECOND * seconds;
        let mut sleep = LazyTimer.sleep_until(at(first));
        for seconds in moved {
            LazyTimer.reset(&mut sleep, at(*seconds));
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
    async fn a_timer_can_be_moved_while_somebody_waits() {
        let start = tokio::time::Instant::now();
        let mut sleep = LazyTimer.sleep(SECOND);
        let polled = std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        tokio::time::advance(SECOND / 2).await;
        LazyTimer.reset(&mut sleep, (start + 2 * SECOND).into_std());
        sleep.await;
        assert!(start.elapsed() >= 2 * SECOND);
    }
}
