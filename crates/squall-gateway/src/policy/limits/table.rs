//! A hash table from keys to the times until which they matter.
//!
//! Open addressing with linear probing. A slot whose time has passed is as good as
//! empty for its key, so it may be taken by another one, and every write looks at two
//! slots more and clears them when their time has passed: what is not used any more
//! goes away without a pass over everything and without a thread.
//!
//! Keys are keyed hashes already, so their own bits say where they belong.

/// Twelve of sixteen slots may be in use.
const LOAD: (usize, usize) = (3, 4);
const SLOTS_MIN: usize = 16;
/// Slots that each write looks at for what has passed.
const SWEEP: usize = 2;
/// Of how many slots the one that matters for the shortest time is forgotten, when the
/// table may not grow.
const VICTIMS: usize = 16;

#[derive(Clone, Copy)]
struct Slot {
    key: [u64; 2],
    /// 0 is an empty slot.
    until_ns: u64,
}

const EMPTY: Slot = Slot { key: [0; 2], until_ns: 0 };

/// See the module.
pub(super) struct Table {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    swept: usize,
}

impl Table {
    /// Holds at most `used_max` keys at once, and at least one.
    pub(super) fn new(used_max: usize) -> Self {
        Self { slots: Vec::new(), used: 0, used_max: used_max.max(1), swept: 0 }
    }

    /// Keys, with those whose time has passed and that nobody has met since.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// 0 for a key that is not there.
    pub(super) fn until_ns(&self, key: u128) -> u64 {
        if self.slots.is_empty() {
            return 0;
        }
        let key = split(key);
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at];
            if slot.until_ns == 0 || slot.key == key {
                return slot.until_ns;
            }
            at = self.after(at);
        }
    }

    /// Keeps `until_ns`, which has not passed, for a key. Returns whether another key had
    /// to be forgotten for it before its time.
    pub(super) fn set(&mut self, key: u128, until_ns: u64, now_ns: u64) -> bool {
        let new = Slot { key: split(key), until_ns };
        self.sweep(now_ns);
        let mut forgot = false;
        if self.slots.is_empty() {
            self.resize(now_ns);
        }
        loop {
            let mut passed = None;
            let mut at = self.home(new.key);
            while self.slots[at].until_ns != 0 && self.slots[at].key != new.key {
                if self.slots[at].until_ns <= now_ns {
                    passed = passed.or(Some(at));
                }
                at = self.after(at);
            }
            if self.slots[at].until_ns != 0 {
                // The key itself.
                self.slots[at] = new;
                return forgot;
            }
            if let Some(passed) = passed {
                // Every slot from the key's home to there is in use: it will be found.
                self.slots[passed] = new;
                return forgot;
            }
            if self.used >= self.used_max {
                forgot |= self.forget_one() > now_ns;
            } else if (self.used + 1) * LOAD.1 > self.slots.len() * LOAD.0 {
                self.resize(now_ns);
            } else {
                self.slots[at] = new;
                self.used += 1;
                return forgot;
            }
        }
    }

    fn sweep(&mut self, now_ns: u64) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            let until_ns = self.slots[self.swept].until_ns;
            if until_ns != 0 && until_ns <= now_ns {
                // What moves into its place is looked at the next time.
                self.remove(self.swept);
                continue;
            }
            self.swept = self.after(self.swept);
            if self.swept == 0 && self.slots.len() > SLOTS_MIN && self.used * 8 < self.slots.len() {
                self.resize(now_ns);
            }
        }
    }

    /// Moves what has not passed into as many slots as it needs, half of them free.
    fn resize(&mut self, now_ns: u64) {
        let live = self.slots.iter().filter(|slot| slot.until_ns > now_ns).count();
        let size = (live * 2).next_power_of_two().max(SLOTS_MIN);
        let before = std::mem::replace(&mut self.slots, vec![EMPTY; size]);
        self.used = live;
        self.swept = 0;
        for slot in before.into_iter().filter(|slot| slot.until_ns > now_ns) {
            let mut at = self.home(slot.key);
            while self.slots[at].until_ns != 0 {
                at = self.after(at);
            }
            self.slots[at] = slot;
        }
    }

    /// Drops the key of some neighbours that would be the first to matter no more: the
    /// one that has used least of its rate, and loses least by being forgotten. Returns
    /// until when it mattered.
    fn forget_one(&mut self) -> u64 {
        let mut victim = (u64::MAX, 0);
        let mut at = self.swept;
        let mut seen = 0;
        while seen < VICTIMS.min(self.used) {
            let until_ns = self.slots[at].until_ns;
            if until_ns != 0 {
                seen += 1;
                victim = victim.min((until_ns, at));
            }
            at = self.after(at);
        }
        self.swept = at;
        self.remove(victim.1);
        victim.0
    }

    /// Empties a slot and closes the gap, so that no search ends in it too early.
    fn remove(&mut self, at: usize) {
        let mask = self.slots.len() - 1;
        let mut hole = at;
        let mut next = self.after(hole);
        while self.slots[next].until_ns != 0 {
            let home = self.home(self.slots[next].key);
            // It may move back when its search passes the hole.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
    }

    fn home(&self, key: [u64; 2]) -> usize {
        key[0] as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

fn split(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys with few different homes, times that pass, removals by the sweep: the
        /// table says what a plain map says of everything that has not passed.
        #[test]
        fn a_table_remembers_what_has_not_passed(
            steps in proptest::collection::vec((0u128..200, 1u64..50, 0u64..4), 1..600),
            homes in 1u128..40,
        ) {
            let mut table = Table::new(usize::MAX / 2);
            let mut known: HashMap<u128, u64> = HashMap::new();
            let mut now = 1;
            for (number, lasts, passes) in steps {
                now += passes;
                let key = (number << 64) | (number % homes);
                prop_assert!(!table.set(key, now + lasts, now));
                known.insert(key, now + lasts);
                known.retain(|_, until| *until > now);
                for (key, until) in &known {
                    prop_assert_eq!(table.until_ns(*key), *until);
                }
                prop_assert!(table.len() >= known.len());
                for missing in 200u128..210 {
                    prop_assert_eq!(table.until_ns((missing << 64) | (missing % homes)), 0);
                }
            }
        }

        #[test]
        fn a_full_table_forgets_and_keeps_its_bound(
            keys in proptest::collection::vec(any::<u64>(), 1..400),
            most in 1usize..60,
        ) {
            let mut table = Table::new(most);
            for (step, key) in keys.iter().enumerate() {
                let key = u128::from(*key) << 64 | u128::from(key % 7);
                let before = table.len();
                let is_new = table.until_ns(key) == 0;
                let until = 1_000 + step as u64;
                prop_assert_eq!(table.set(key, until, 1), is_new && before == most);
                prop_assert!(table.len() <= most);
                prop_assert_eq!(table.until_ns(key), until);
            }
        }
    }

    #[test]
    fn a_table_whose_keys_have_passed_gives_its_memory_back() {
        let mut table = Table::new(usize::MAX / 2);
        for key in 0..10_000u64 {
            table.set(u128::from(key), 100, 1);
        }
        let full = table.bytes();
        // Two slots are looked at with each write: a few thousand writes see them all.
        for step in 0..40_000u64 {
            table.set(u128::from(step % 10) << 64, 1_000_000, 200);
        }
        assert_eq!(table.len(), 10);
        assert!(table.bytes() * 16 < full, "{} of {full}", table.bytes());
    }
}
