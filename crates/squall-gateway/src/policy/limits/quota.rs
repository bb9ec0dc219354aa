//! How many requests each API client has made in this day and this month of UTC.
//!
//! The usage ledger is what lasts: counts are read from it once, when a server starts,
//! and kept in memory from then on. Every client is counted, with a quota or without, so
//! that a plan that gets one tomorrow knows about today.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use squall_types::calendar::{Day, unix_micros};
use squall_types::rate::RateKey;
use squall_types::usage::UsageRow;

use super::key::{ByKey, hashed};

const SHARDS: usize = 32;

/// What a plan allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) per_day: Option<u64>,
    pub(super) per_month: Option<u64>,
}

/// How a quota stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) period: QuotaPeriod,
    pub(super) remaining: u64,
    /// Until the period ends.
    pub(super) seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaPeriod {
    Day = 0,
    Month = 1,
}

impl QuotaPeriod {
    /// The key of the manifest.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => "requests_per_day",
            Self::Month => "requests_per_month",
        }
    }
}

/// The counts of all clients of a node.
pub(super) struct Quotas {
    seed: [u8; 32],
    shards: [Mutex<ByKey<Count>>; SHARDS],
}

/// What the clients of an app are known by here.
#[derive(Clone, Copy)]
pub(super) struct QuotaScope([u8; 32]);

#[derive(Clone, Copy)]
struct Count {
    day: Day,
    of_day: u64,
    /// Of the month of `day`.
    of_month: u64,
}

/// A request that was counted. It is taken back when this is dropped, unless the request
/// has come to what answers it.
pub(crate) struct Charge {
    quotas: Arc<Quotas>,
    key: RateKey,
    day: Day,
    counts: bool,
}

impl Quotas {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(super) fn scope(&self, app: &str) -> QuotaScope {
        QuotaScope(*blake3::keyed_hash(&self.seed, app.as_bytes()).as_bytes())
    }

    /// Raises counts to what the ledger has of this month. To be called before requests
    /// come, and harmless later.
    pub(super) fn restore(&self, rows: &[UsageRow], now: SystemTime) {
        let today = day_of(now);
        let mut sums: BTreeMap<(&str, &str), Count> = BTreeMap::new();
        for row in rows {
            let (Some(client), Some(day)) = (&row.client, Day::parse(&row.day)) else { continue };
            if day.first_of_month() != today.first_of_month() {
                continue;
            }
            let sum = sums.entry((&row.app, client));
            let sum = sum.or_insert(Count { day: today, of_day: 0, of_month: 0 });
            sum.of_month += row.totals.invocations + row.totals.cache_hits;
            if day == today {
                sum.of_day += row.totals.invocations + row.totals.cache_hits;
            }
        }
        for ((app, client), sum) in sums {
            let key = hashed(&self.scope(app).0, client.as_bytes());
            let mut counts = self.counts(key);
            let count = counts.entry(key.0).or_insert(sum);
            count.turn_to(today);
            count.of_day = count.of_day.max(sum.of_day);
            count.of_month = count.of_month.max(sum.of_month);
        }
    }

    /// Counts a request of a client, and says how its quotas stand then. An error is the
    /// quota that has nothing left; the request is not counted.
    pub(super) fn charge(
        self: &Arc<Self>,
        scope: &QuotaScope,
        client: &str,
        quota: Quota,
        now: SystemTime,
    ) -> Result<(Charge, [Option<Left>; 2]), Left> {
        let day = day_of(now);
        let key = hashed(&scope.0, client.as_bytes());
        let mut counts = self.counts(key);
        let count = counts.entry(key.0).or_insert(Count { day, of_day: 0, of_month: 0 });
        count.turn_to(day);
        let now_s = unix_micros(now) / 1_000_000;
        let left = |period, most: u64, used: u64| {
            let end = match period {
                QuotaPeriod::Day => Day(count.day.0 + 1),
                QuotaPeriod::Month => count.day.first_of_next_month(),
            };
            let seconds = end.start_s().saturating_sub(now_s).max(1);
            Left { period, remaining: most.saturating_sub(used), seconds }
        };
        let of_day = quota.per_day.map(|most| left(QuotaPeriod::Day, most, count.of_day));
        let of_month = quota.per_month.map(|most| left(QuotaPeriod::Month, most, count.of_month));
        // The month last: what it says holds for longer.
        for left in [of_month, of_day].into_iter().flatten() {
            if left.remaining == 0 {
                return Err(left);
            }
        }
        count.of_day += 1;
        count.of_month += 1;
        // Where the clock was set back, the day that was reached.
        let day = count.day;
        drop(counts);
        let after = |left: Left| Left { remaining: left.remaining - 1, ..left };
        let charge = Charge { quotas: self.clone(), key, day, counts: false };
        Ok((charge, [of_day.map(after), of_month.map(after)]))
    }

    fn counts(&self, key: RateKey) -> MutexGuard<'_, ByKey<Count>> {
        let shard = (key.0 >> 120) as usize % SHARDS;
        // A count is right after every single step.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// Begins a new day or month when it has come. A clock that was set back stays in
    /// the period that was reached.
    fn turn_to(&mut self, day: Day) {
        if day <= self.day {
            return;
        }
        if day.first_of_month() != self.day.first_of_month() {
            self.of_month = 0;
        }
        self.of_day = 0;
        self.day = day;
    }
}

impl Charge {
    /// The request has come to a function or an upstream, and is in the ledger for good.
    pub(crate) fn keep(&mut self) {
        self.counts = true;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.counts {
            return;
        }
        let mut counts = self.quotas.counts(self.key);
        let Some(count) = counts.get_mut(&self.key.0) else { return };
        if count.day == self.day {
            count.of_day = count.of_day.saturating_sub(1);
        }
        if count.day.first_of_month() == self.day.first_of_month() {
            count.of_month = count.of_month.saturating_sub(1);
        }
    }
}

fn day_of(now: SystemTime) -> Day {
    Day::of_micros(unix_micros(now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_types::Trigger;
    use squall_types::usage::UsageTotals;

    use super::*;

    fn at(day: &str, second: u64) -> SystemTime {
        let day = Day::parse(day).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_secs(day.start_s() + second)
    }

    fn row(day: &str, app: &str, client: Option<&str>, invocations: u64) -> UsageRow {
        UsageRow {
            day: day.into(),
            app: app.into(),
            function: Some("api".into()),
            upstream: None,
            revision: "abcdefghij".into(),
            trigger: Trigger::Http,
            client: client.map(str::to_owned),
            totals: UsageTotals { invocations, ..UsageTotals::default() },
        }
    }

    const QUOTA: Quota = Quota { per_day: Some(3), per_month: Some(5) };

    #[track_caller]
    fn call(quotas: &Arc<Quotas>, now: SystemTime) -> [Option<Left>; 2] {
        let (mut charge, left) =
            quotas.charge(&quotas.scope("shop"), "acme", QUOTA, now).ok().unwrap();
        charge.keep();
        left
    }

    #[track_caller]
    fn refused(quotas: &Arc<Quotas>, now: SystemTime) -> Left {
        quotas.charge(&quotas.scope("shop"), "acme", QUOTA, now).err().unwrap()
    }

    #[test]
    fn what_is_given_back_is_that_of_the_period_that_was_charged() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        call(&quotas, at("2026-12-01", 0));
        // The clock was set back, over the end of a month.
        let before = at("2026-11-30", 80_000);
        for _ in 0..10 {
            let charge = quotas.charge(&quotas.scope("shop"), "acme", QUOTA, before);
            assert!(charge.is_ok(), "what was refused behind it does not count");
        }
        let [day, month] = call(&quotas, at("2026-12-01", 1)).map(Option::unwrap);
        assert_eq!((day.remaining, month.remaining), (1, 3));
    }

    #[test]
    fn days_and_months_end_at_midnight_of_utc() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        let first = at("2026-11-29", 86_390);
        for remaining in [2, 1, 0] {
            let [day, month] = call(&quotas, first).map(Option::unwrap);
            assert_eq!((day.remaining, day.seconds), (remaining, 10));
            assert_eq!((month.remaining, month.seconds), (remaining + 2, 86_410));
        }
        let left = refused(&quotas, first);
        assert_eq!((left.period, left.seconds), (QuotaPeriod::Day, 10));
        // The next day has two of the month's five left.
        let second = at("2026-11-30", 0);
        call(&quotas, second);
        call(&quotas, second);
        let left = refused(&quotas, second);
        assert_eq!((left.period, left.seconds), (QuotaPeriod::Month, 86_400));
        let [day, month] = call(&quotas, at("2026-12-01", 0)).map(Option::unwrap);
        assert_eq!((day.remaining, month.remaining), (2, 4));
    }

    #[test]
    fn what_does_not_come_to_a_target_is_not_counted() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        let now = at("2026-11-29", 0);
        for _ in 0..20 {
            drop(quotas.charge(&quotas.scope("shop"), "acme", QUOTA, now).ok().unwrap());
        }
        let three: Vec<_> = (0..3)
            .map(|_| quotas.charge(&quotas.scope("shop"), "acme", QUOTA, now).ok().unwrap())
            .collect();
        refused(&quotas, now);
        drop(three);
        call(&quotas, now);
        // Another client, and the client of this name of another app, are others.
        for (app, client) in [("shop", "other"), ("else", "acme")] {
            let (_, [day, _]) = quotas.charge(&quotas.scope(app), client, QUOTA, now).ok().unwrap();
            assert_eq!(day.unwrap().remaining, 2);
        }
    }

    #[test]
    fn counts_begin_with_what_the_ledger_has() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        let now = at("2026-11-29", 60);
        let rows = [
            row("2026-10-31", "shop", Some("acme"), 100),
            row("2026-11-02", "shop", Some("acme"), 1),
            row("2026-11-29", "shop", Some("acme"), 1),
            row("2026-11-29", "shop", None, 100),
            row("2026-11-29", "shop", Some("other"), 100),
        ];
        quotas.restore(&rows, now);
        // Again changes nothing.
        quotas.restore(&rows, now);
        let [day, month] = call(&quotas, now).map(Option::unwrap);
        assert_eq!((day.remaining, month.remaining), (1, 2));
        quotas.restore(&rows, now);
        call(&quotas, now);
        refused(&quotas, now);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_back() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        (0..3).for_each(|_| {
            call(&quotas, at("2026-12-01", 5));
        });
        let left = refused(&quotas, at("2026-11-30", 86_399));
        assert_eq!(left.period, QuotaPeriod::Day);
    }

    #[test]
    fn clients_without_a_quota_are_counted_for_the_day_when_they_get_one() {
        let quotas = Arc::new(Quotas::new([7; 32]));
        let now = at("2026-11-29", 0);
        for _ in 0..2 {
            let (mut charge, left) =
                quotas.charge(&quotas.scope("shop"), "acme", Quota::default(), now).ok().unwrap();
            charge.keep();
            assert_eq!(left, [None, None]);
        }
        let [day, _] = call(&quotas, now).map(Option::unwrap);
        assert_eq!(day.remaining, 0);
    }
}
