//! The rate store of a node that shares with nobody: tables in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use squall_types::metrics::write_metric;
use squall_types::rate::{ASKS_MAX, Ask, Decisions, RateKey, RateStore, Taken};

use super::table::Table;

/// So many that cores seldom meet at one, and that none is large when it has to grow.
const SHARDS: usize = 256;
/// Keys that are remembered at once, on the whole node. A slot takes 24 bytes, and at
/// most four of them are there for each key.
const KEYS_MAX: usize = 1 << 20;

/// Two cores that use neighbours must not wait for each other's cache line.
#[repr(align(64))]
struct Shard(Mutex<Table>);

/// See the module. Forgets when it is full, and the least important first: nobody is
/// refused because of others.
pub(crate) struct EmbeddedRates {
    shards: Box<[Shard]>,
    seed: [u8; 32],
    forgotten: AtomicU64,
}

impl EmbeddedRates {
    pub(crate) fn new() -> Self {
        Self::holding(KEYS_MAX)
    }

    fn holding(keys_max: usize) -> Self {
        let table = |_| Shard(Mutex::new(Table::new((keys_max / SHARDS).max(1))));
        let shards = (0..SHARDS).map(table).collect();
        Self { shards, seed: squall_types::trace::random(), forgotten: AtomicU64::new(0) }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Table> {
        // A table is whole after every single step.
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shard_of(key: RateKey) -> usize {
    // The other end of the key than the one that the table goes by.
    (key.0 >> 120) as usize % SHARDS
}

impl RateStore for EmbeddedRates {
    fn take(&self, asks: &[Ask], now_ns: u64) -> Taken {
        // All shards of the call are held together, in one order for everybody: in
        // between, nobody sees a charge that is taken back.
        let mut order = [0; ASKS_MAX];
        let order = &mut order[..asks.len()];
        for (place, ask) in order.iter_mut().zip(asks) {
            *place = shard_of(ask.key);
        }
        order.sort_unstable();
        let mut held: [Option<(usize, MutexGuard<'_, Table>)>; ASKS_MAX] =
            [const { None }; ASKS_MAX];
        let mut count = 0;
        for shard in order.iter().copied() {
            if count == 0 || held[count - 1].as_ref().is_some_and(|(last, _)| *last != shard) {
                held[count] = Some((shard, self.lock(shard)));
                count += 1;
            }
        }
        let held = &mut held[..count];

        let mut decisions = Decisions::default();
        let mut times = [0; ASKS_MAX];
        for (ask, time) in asks.iter().zip(&mut times) {
            let known = table_of(held, ask.key).until_ns(ask.key.0);
            let (decision, after) = ask.rate.decide(known, ask.cost, now_ns);
            *time = after;
            decisions.push(decision);
        }
        if decisions.all_admitted() {
            for (ask, time) in asks.iter().zip(times) {
                if time > now_ns && table_of(held, ask.key).set(ask.key.0, time, now_ns) {
                    self.forgotten.fetch_add(1, Ordering::Relaxed);
                }
            }
        } else {
            // What the others would have been charged is not gone.
            let mut told = Decisions::default();
            for (ask, decision) in asks.iter().zip(decisions.as_slice()) {
                let known = table_of(held, ask.key).until_ns(ask.key.0);
                told.push(match decision.admitted {
                    true => ask.rate.decide(known, 0, now_ns).0,
                    false => *decision,
                });
            }
            decisions = told;
        }
        Taken::Now(decisions)
    }

    fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    fn write_metrics(&self, out: &mut String) {
        let keys: usize = (0..SHARDS).map(|shard| self.lock(shard).len()).sum();
        let what = "Keys of rate limits in memory, some of them not used any more.";
        write_metric(out, "squall_rate_limit_keys", "gauge", what, keys);
        let what =
            "Keys of rate limits that were forgotten too early, because there were too many.";
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        write_metric(out, "squall_rate_limit_keys_forgotten_total", "counter", what, forgotten);
    }
}

fn table_of<'a, 'b>(
    held: &'a mut [Option<(usize, MutexGuard<'b, Table>)>],
    key: RateKey,
) -> &'a mut MutexGuard<'b, Table> {
    let shard = shard_of(key);
    let found = held.iter_mut().flatten().find(|(known, _)| *known == shard);
    &mut found.expect("the shard of every ask was locked").1
}

#[cfg(test)]
mod tests;
