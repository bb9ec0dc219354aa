//! Giving an upstream rest when most of what it is asked fails.

use std::sync::atomic::{AtomicU64, Ordering};

use squall_types::gateway::{CircuitBreaker, CircuitState};

use super::window::Window;

/// Closed while all is well. Open, it refuses everything for a while; then it lets one
/// request through, whose end decides. One that takes as long as the while is not waited for:
/// its client may have no end in mind.
pub(crate) struct Circuit {
    settings: CircuitBreaker,
    window: Window,
    /// When it opened, counted from 1; 0 while it is closed.
    opened_ms: AtomicU64,
    /// When it closed; what failed before does not count any more.
    closed_ms: AtomicU64,
    /// When the request that decides was let through, counted from 1; 0 while there is none.
    probing_ms: AtomicU64,
}

/// On which terms a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    Usual,
    /// With the time by which it is known.
    Probe(u64),
}

/// How an attempt changed the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened,
    Closed,
}

impl Circuit {
    pub(crate) fn new(settings: CircuitBreaker) -> Self {
        Self {
            window: Window::new(settings.window_ms),
            settings,
            opened_ms: AtomicU64::new(0),
            closed_ms: AtomicU64::new(0),
            probing_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened_ms.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn state(&self, now_ms: u64) -> CircuitState {
        match self.opened_ms.load(Ordering::Relaxed) {
            0 => CircuitState::Closed,
            opened if now_ms < opened - 1 + self.settings.open_ms => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    /// # Errors
    /// For how many more milliseconds nothing is let through.
    pub(crate) fn pass(&self, now_ms: u64) -> Result<Passage, u64> {
        let opened = self.opened_ms.load(Ordering::Relaxed);
        if opened == 0 {
            return Ok(Passage::Usual);
        }
        let until = opened - 1 + self.settings.open_ms;
        if now_ms < until {
            return Err(until - now_ms);
        }
        let probing = self.probing_ms.load(Ordering::Relaxed);
        // The one that is on its way decides, in a moment.
        if probing != 0 && now_ms < probing - 1 + self.settings.open_ms {
            return Err(1);
        }
        let since = now_ms + 1;
        let (by, other) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.probing_ms.compare_exchange(probing, since, by, other);
        taken.map(|_| Passage::Probe(since)).map_err(|_| 1)
    }

    /// Counts an attempt that has ended, or whose response has begun.
    pub(crate) fn ended(&self, passage: Passage, failed: bool, now_ms: u64) -> Option<Turn> {
        self.window.count_request(now_ms);
        self.judge(passage, failed, now_ms)
    }

    /// The response of an attempt that was counted as a good one has no end.
    pub(crate) fn broke_off(&self, now_ms: u64) -> Option<Turn> {
        self.judge(Passage::Usual, true, now_ms)
    }

    fn judge(&self, passage: Passage, failed: bool, now_ms: u64) -> Option<Turn> {
        if failed {
            self.window.mark(now_ms);
        }
        let passage = match passage {
            // Another has taken its place. That it did well counts all the same.
            Passage::Probe(since) if failed && !self.is_probe(since) => Passage::Usual,
            Passage::Probe(since) if since < self.opened_ms.load(Ordering::Relaxed) => {
                Passage::Usual
            }
            Passage::Probe(_) if !self.is_open() => Passage::Usual,
            passage => passage,
        };
        match (passage, failed) {
            (Passage::Probe(_), false) => {
                self.closed_ms.store(now_ms + 1, Ordering::Relaxed);
                self.opened_ms.store(0, Ordering::Relaxed);
                Some(Turn::Closed)
            }
            (Passage::Probe(_), true) => {
                self.opened_ms.store(now_ms + 1, Ordering::Relaxed);
                Some(Turn::Opened)
            }
            (Passage::Usual, true) if !self.is_open() => {
                let since = self.closed_ms.load(Ordering::Relaxed);
                let sums = self.window.sums(now_ms, since);
                let enough = sums.requests >= u64::from(self.settings.min_requests);
                let percent = u64::from(self.settings.failure_percent);
                let opens = enough && sums.marked * 100 >= percent * sums.requests;
                if !opens {
                    return None;
                }
                self.opened_ms.store(now_ms + 1, Ordering::Relaxed);
                Some(Turn::Opened)
            }
            (Passage::Usual, _) => None,
        }
    }

    /// The request that went ahead has decided, or is over without having found anything out.
    pub(crate) fn probe_is_over(&self, since: u64) {
        let (by, other) = (Ordering::Relaxed, Ordering::Relaxed);
        // Another may have taken its place.
        let _ = self.probing_ms.compare_exchange(since, 0, by, other);
    }

    fn is_probe(&self, since: u64) -> bool {
        self.probing_ms.load(Ordering::Relaxed) == since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(CircuitBreaker {
            min_requests: 4,
            open_ms: 1_000,
            window_ms: 10_000,
            failure_percent: 50,
            max_requests: None,
        })
    }

    /// At the beginning.
    fn opened() -> Circuit {
        let circuit = circuit();
        for _ in 0..4 {
            circuit.ended(Passage::Usual, true, 0);
        }
        circuit
    }

    #[test]
    fn it_opens_when_half_of_enough_requests_failed() {
        let circuit = circuit();
        for failed in [true, true, false] {
            assert_eq!(circuit.ended(Passage::Usual, failed, 100), None);
        }
        assert_eq!(circuit.pass(100), Ok(Passage::Usual));
        assert_eq!(circuit.ended(Passage::Usual, true, 100), Some(Turn::Opened));
        assert_eq!(circuit.state(100), CircuitState::Open);
        assert_eq!(circuit.pass(100), Err(1_000));
        assert_eq!(circuit.pass(1_000), Err(100));
        // What was on its way when it opened changes nothing.
        assert_eq!(circuit.ended(Passage::Usual, true, 1_000), None);
    }

    #[test]
    fn a_response_that_breaks_off_is_one_attempt() {
        let circuit = circuit();
        for _ in 0..3 {
            assert_eq!(circuit.ended(Passage::Usual, false, 100), None);
            assert_eq!(circuit.broke_off(100), None, "too few requests");
        }
        assert_eq!(circuit.ended(Passage::Usual, false, 100), None);
        assert_eq!(circuit.broke_off(100), Some(Turn::Opened));
    }

    #[test]
    fn one_request_is_let_through_and_decides() {
        let circuit = opened();
        assert_eq!(circuit.state(1_000), CircuitState::HalfOpen);
        let probe = circuit.pass(1_000).unwrap();
        assert_eq!(probe, Passage::Probe(1_001));
        assert_eq!(circuit.pass(1_000), Err(1));
        assert_eq!(circuit.ended(probe, true, 1_500), Some(Turn::Opened));
        circuit.probe_is_over(1_001);
        assert_eq!(circuit.pass(2_000), Err(500));

        // A client that leaves has found nothing out: the next one is asked.
        assert_eq!(circuit.pass(2_500), Ok(Passage::Probe(2_501)));
        circuit.probe_is_over(2_501);
        let probe = circuit.pass(2_500).unwrap();
        assert_eq!(circuit.ended(probe, false, 3_000), Some(Turn::Closed));
        circuit.probe_is_over(2_501);
        assert_eq!(circuit.state(3_000), CircuitState::Closed);
        assert_eq!(circuit.pass(3_000), Ok(Passage::Usual));
        // The failures of before it closed are forgotten.
        assert_eq!(circuit.ended(Passage::Usual, true, 4_100), None);
    }

    #[test]
    fn a_request_without_end_keeps_nobody_out() {
        let circuit = opened();
        let endless = circuit.pass(1_000).unwrap();
        assert_eq!(circuit.pass(1_999), Err(1));
        let next = circuit.pass(2_000).unwrap();
        assert_eq!(circuit.pass(2_000), Err(1));
        // That the first fails in the end does not matter any more.
        assert_eq!(circuit.ended(endless, true, 2_100), None);
        circuit.probe_is_over(1_001);
        assert_eq!(circuit.pass(2_100), Err(1));
        assert_eq!(circuit.ended(next, false, 2_200), Some(Turn::Closed));
    }

    #[test]
    fn an_upstream_that_takes_longer_is_well_all_the_same() {
        let circuit = opened();
        let slow = circuit.pass(1_000).unwrap();
        let next = circuit.pass(2_000).unwrap();
        assert_eq!(circuit.ended(slow, false, 2_500), Some(Turn::Closed));
        circuit.probe_is_over(1_001);
        assert_eq!(circuit.pass(2_500), Ok(Passage::Usual));
        // It is decided: this one is like any other.
        assert_eq!(circuit.ended(next, true, 3_000), None);
        circuit.probe_is_over(2_001);
        // Nor does it say anything about a circuit that has opened since.
        let late = Passage::Probe(2_001);
        for _ in 0..4 {
            circuit.ended(Passage::Usual, true, 4_000);
        }
        assert_eq!(circuit.ended(late, false, 4_100), None);
        assert_eq!(circuit.pass(4_100), Err(900));
    }
}
