//! Rate limits, and the contract of those who remember who used how much of them.
//!
//! The algorithm is GCRA (ITU-T I.371): of each key only the time is kept at which it
//! would have used up everything that it took, had it come at the steady rate. So a
//! store holds one number for a key, and none for a key that has been quiet for long
//! enough: the two are the same.

use std::io;

use futures_util::future::BoxFuture;

/// Asks in one call are at most so many, so that answers need no memory of their own.
pub const ASKS_MAX: usize = 12;

/// What is counted together, such as one address at one limit: a keyed hash, so that a
/// store holds no names and nobody can make two keys that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RateKey(pub u128);

/// A steady flow, and how far ahead of it one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Between two requests of the steady flow; at least 1.
    interval_ns: u64,
    /// Requests at once; at least 1.
    burst: u32,
}

impl Rate {
    /// The longest time in which a burst may refill.
    pub const REFILL_NS_MAX: u64 = 366 * 86_400 * 1_000_000_000;

    /// `limit` requests in each `period_ns`, `burst` of them at once. None when one of
    /// them is 0, when more than one comes in a nanosecond, or when the burst would need
    /// longer than `REFILL_NS_MAX` to refill.
    pub fn new(limit: u32, period_ns: u64, burst: u32) -> Option<Self> {
        let interval_ns = period_ns.checked_div(limit.into())?;
        let refill_ns = interval_ns.checked_mul(burst.into())?;
        let is_possible = burst > 0 && interval_ns > 0 && refill_ns <= Self::REFILL_NS_MAX;
        is_possible.then_some(Self { interval_ns, burst })
    }

    pub fn interval_ns(self) -> u64 {
        self.interval_ns
    }
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// What becomes of a request for `cost` at `now_ns`, and the key's time from then on.
    /// The caller stores that time when it charges the request, and does not otherwise.
    ///
    /// `tat_ns` is the theoretical arrival time that is kept of the key; 0, or any time
    /// that has passed, for none.
    pub fn decide(self, tat_ns: u64, cost: u32, now_ns: u64) -> (Decision, u64) {
        let capacity_ns = self.interval_ns.saturating_mul(self.burst.into());
        let used_ns = tat_ns.saturating_sub(now_ns);
        let wanted_ns = self.interval_ns.saturating_mul(cost.into());
        let after_ns = used_ns.saturating_add(wanted_ns);
        if after_ns <= capacity_ns {
            let decision = Decision { admitted: true, ..self.standing(after_ns) };
            return (decision, now_ns.saturating_add(after_ns));
        }
        let retry_after_ns = after_ns - capacity_ns;
        let decision = Decision { admitted: false, retry_after_ns, ..self.standing(used_ns) };
        (decision, tat_ns)
    }

    /// How a key stands that has used so much.
    fn standing(self, used_ns: u64) -> Decision {
        let capacity_ns = self.interval_ns.saturating_mul(self.burst.into());
        let free_ns = capacity_ns.saturating_sub(used_ns);
        let remaining = u32::try_from(free_ns / self.interval_ns).unwrap_or(u32::MAX);
        let more_in_ns = match remaining < self.burst {
            true => self.interval_ns - free_ns % self.interval_ns,
            false => 0,
        };
        Decision { admitted: true, remaining, more_in_ns, retry_after_ns: 0 }
    }
}

/// One limit that a request meets.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Differs from those of the other asks of the call.
    pub key: RateKey,
    pub rate: Rate,
    /// In requests; usually 1.
    pub cost: u32,
}

impl Ask {
    /// For places of an array that nothing is asked in.
    pub const NOTHING: Self =
        Self { key: RateKey(0), rate: Rate { interval_ns: 1, burst: 1 }, cost: 0 };
}

/// How a limit stands after it was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// There was enough. It is charged only when there was enough of every ask.
    pub admitted: bool,
    /// Requests that could follow at once.
    pub remaining: u32,
    /// Until one more than `remaining` could; 0 when nothing is used.
    pub more_in_ns: u64,
    /// Until this request would be admitted, if nobody else takes anything meanwhile; 0
    /// when it is.
    pub retry_after_ns: u64,
}

/// One decision for each ask, in their order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decisions {
    list: [Decision; ASKS_MAX],
    count: usize,
}

impl Decisions {
    /// # Panics
    /// When there are more than `ASKS_MAX`, which the call that they answer excludes.
    pub fn push(&mut self, decision: Decision) {
        self.list[self.count] = decision;
        self.count += 1;
    }

    pub fn as_slice(&self) -> &[Decision] {
        &self.list[..self.count]
    }

    /// Whether the request goes on, and was charged.
    pub fn all_admitted(&self) -> bool {
        self.as_slice().iter().all(|decision| decision.admitted)
    }
}

/// An answer that is here already, or one that comes over a network.
#[allow(clippy::large_enum_variant, reason = "to box the usual one is what this avoids")]
pub enum Taken {
    Now(Decisions),
    /// An error says that the store can not be reached; the caller decides what that means.
    Later(BoxFuture<'static, io::Result<Decisions>>),
}

/// Remembers how much of their rates keys have used. Shared by every route of a node,
/// and by several nodes when it is a service of its own.
pub trait RateStore: Send + Sync + 'static {
    /// Charges all of `asks` or none of them: a request that one limit refuses uses up
    /// nothing of the others.
    ///
    /// `now_ns` counts from 1970 by a clock that never steps back. A store that several
    /// nodes share goes by its own clock instead.
    ///
    /// `asks` are at most `ASKS_MAX`.
    fn take(&self, asks: &[Ask], now_ns: u64) -> Taken;

    /// What keys are hashed with. The same on every node that shares the store, and
    /// otherwise known to nobody.
    fn seed(&self) -> &[u8; 32];

    /// Prometheus text.
    fn write_metrics(&self, out: &mut String);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_795_000_000 * SECOND;

    #[test]
    fn a_burst_counts_down_and_then_waits() {
        let rate = Rate::new(10, SECOND, 3).unwrap();
        let mut tat = 0;
        for left in [2, 1, 0] {
            let (decision, after) = rate.decide(tat, 1, NOW);
            assert_eq!((decision.admitted, decision.remaining), (true, left));
            assert_eq!(decision.more_in_ns, SECOND / 10);
            tat = after;
        }
        let (refused, after) = rate.decide(tat, 1, NOW);
        assert_eq!((refused.admitted, refused.remaining, after), (false, 0, tat));
        assert_eq!((refused.retry_after_ns, refused.more_in_ns), (SECOND / 10, SECOND / 10));
        assert!(!rate.decide(tat, 1, NOW + SECOND / 10 - 1).0.admitted);
        assert!(rate.decide(tat, 1, NOW + SECOND / 10).0.admitted);
    }

    #[test]
    fn what_refills_is_told_to_the_nanosecond() {
        let rate = Rate::new(2, SECOND, 4).unwrap();
        let (_, tat) = rate.decide(0, 3, NOW);
        let (decision, _) = rate.decide(tat, 0, NOW + 200_000_000);
        assert_eq!((decision.remaining, decision.more_in_ns), (1, 300_000_000));
        let (decision, _) = rate.decide(tat, 0, NOW + 1_500_000_000);
        assert_eq!((decision.remaining, decision.more_in_ns), (4, 0));
    }

    #[test]
    fn impossible_rates_are_none() {
        assert_eq!(Rate::new(0, SECOND, 1), None);
        assert_eq!(Rate::new(1, SECOND, 0), None);
        assert_eq!(Rate::new(2_000_000_000, SECOND, 1), None);
        assert_eq!(Rate::new(1, 86_400 * SECOND, 367), None);
        assert!(Rate::new(1, 86_400 * SECOND, 366).is_some());
        assert!(Rate::new(u32::MAX, 86_400 * SECOND, u32::MAX).is_some());
    }
}
