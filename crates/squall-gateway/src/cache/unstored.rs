//! Why responses were lately not stored: those who ask for the same again do not wait for
//! one another, and `squall cache inspect` can say it.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use squall_cache::KeyHash;

/// For so long nobody waits for another's fetch of the same.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Of one generation; there are two.
const KEYS_MAX: usize = 8_192;

/// Remembers the youngest reasons, in two generations: the older one is dropped when the
/// younger is full.
#[derive(Default)]
pub(super) struct Unstored(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<KeyHash, Reason>,
    old: HashMap<KeyHash, Reason>,
}

#[derive(Clone)]
struct Reason {
    at: Instant,
    why: &'static str,
}

impl Unstored {
    pub(super) fn remember(&self, hash: KeyHash, why: &'static str, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.young.len() >= KEYS_MAX {
            all.old = mem::take(&mut all.young);
        }
        all.young.insert(hash, Reason { at: now, why });
    }

    /// A response to it was stored.
    pub(super) fn forget(&self, hash: &KeyHash) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young.remove(hash);
        all.old.remove(hash);
    }

    pub(super) fn why(&self, hash: &KeyHash, now: Instant) -> Option<&'static str> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = all.young.get(hash).or_else(|| all.old.get(hash))?;
        (now.saturating_duration_since(reason.at) < REMEMBERED_FOR).then_some(reason.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_are_remembered_for_a_while() {
        let unstored = Unstored::default();
        let now = Instant::now();
        let key = |number: u32| {
            let mut hash = [0; 24];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            KeyHash(hash)
        };
        for number in 0..=3 * KEYS_MAX as u32 {
            unstored.remember(key(number), "private", now);
        }
        assert_eq!(unstored.why(&key(0), now), None);
        let last = key(3 * KEYS_MAX as u32);
        assert_eq!(unstored.why(&last, now), Some("private"));
        assert_eq!(unstored.why(&last, now + REMEMBERED_FOR), None);
        unstored.forget(&last);
        assert_eq!(unstored.why(&last, now), None);
    }
}
