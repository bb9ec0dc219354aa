//! Which target a request goes to.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use squall_types::gateway::{Balance, HashKey};
use squall_types::shard::{Padded, SHARDS, Spread, own_shard};
use squall_types::trace::random;

use super::target::Target;
use crate::cookie;

/// The targets that an upstream has at one time. Replaced as a whole when names resolve
/// to something else.
pub(crate) struct TargetSet {
    pub(crate) targets: Vec<Spread<Target>>,
    balance: Balance,
    equal_weights: bool,
    /// Whose turn it is, for each core.
    turns: Box<[Padded<Mutex<Vec<i64>>>]>,
}

impl TargetSet {
    pub(crate) fn new(targets: Vec<Arc<Target>>, balance: Balance) -> Self {
        Self {
            equal_weights: targets.windows(2).all(|pair| pair[0].weight() == pair[1].weight()),
            targets: targets.into_iter().map(Spread::from).collect(),
            balance,
            turns: (0..SHARDS).map(|_| Padded::default()).collect(),
        }
    }

    /// One of those that `may` be chosen. `key` is the request's, where targets are
    /// chosen by one.
    pub(crate) fn choose(
        &self,
        key: Option<u64>,
        may: impl Fn(&Target) -> bool,
    ) -> Option<&Spread<Target>> {
        if let [only] = self.targets.as_slice() {
            return may(only).then_some(only);
        }
        match (self.balance, key) {
            (Balance::Hash, Some(key)) => self.by_key(key, may),
            (Balance::LeastConnections, _) => self.less_busy_of_two(may),
            // A request without the key belongs nowhere in particular.
            (Balance::RoundRobin | Balance::Hash, _) => self.next_in_turn(may),
        }
    }

    /// Smooth weighted round robin, as nginx has it: everyone gains its weight, the richest
    /// is chosen and pays the sum. Heavy targets are not chosen many times in a row.
    fn next_in_turn(&self, may: impl Fn(&Target) -> bool) -> Option<&Spread<Target>> {
        let turns = &self.turns[own_shard()].0;
        let mut credits = turns.lock().unwrap_or_else(PoisonError::into_inner);
        if credits.is_empty() {
            // Cores that begin at different places do not all choose the same one at first.
            let sum: i64 = self.targets.iter().map(|target| i64::from(target.weight())).sum();
            let begin = |_: &Spread<Target>| i64::from(u32::from_ne_bytes(random())) % sum.max(1);
            credits.extend(self.targets.iter().map(begin));
        }
        let mut sum = 0;
        let mut richest: Option<usize> = None;
        for (place, target) in self.targets.iter().enumerate() {
            if !may(target) {
                continue;
            }
            let weight = i64::from(target.weight());
            sum += weight;
            credits[place] += weight;
            if richest.is_none_or(|best| credits[place] > credits[best]) {
                richest = Some(place);
            }
        }
        let chosen = richest?;
        credits[chosen] -= sum;
        Some(&self.targets[chosen])
    }

    /// Two at random, and of them the one with fewer requests for its weight
    /// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
    fn less_busy_of_two(&self, may: impl Fn(&Target) -> bool) -> Option<&Spread<Target>> {
        let able = || self.targets.iter().filter(|target| may(target));
        let count = able().count();
        if count < 2 {
            return able().next();
        }
        let dice: [u8; 8] = random();
        let dice = u64::from_ne_bytes(dice);
        let first = (dice >> 32) as usize % count;
        // Any of the others.
        let second = (first + 1 + (dice as u32) as usize % (count - 1)) % count;
        let (first, second) = (able().nth(first)?, able().nth(second)?);
        let load = |target: &Target, other: &Target| {
            let requests = u64::from(target.in_flight()) + 1;
            requests * u64::from(other.weight())
        };
        Some(if load(second, first) < load(first, second) { second } else { first })
    }

    /// Weighted rendezvous hashing: every target draws a number for the key, the highest
    /// wins. When one leaves, only its own keys move (Thaler and Ravishankar, 1998).
    fn by_key(&self, key: u64, may: impl Fn(&Target) -> bool) -> Option<&Spread<Target>> {
        let able = self.targets.iter().filter(|target| may(target));
        if self.equal_weights {
            return able.max_by_key(|target| mix(key ^ target.hash));
        }
        let score = |target: &Target| {
            // In the open interval from 0 to 1, so that the logarithm is negative.
            let draw = ((mix(key ^ target.hash) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
            -f64::from(target.weight()) / draw.ln()
        };
        able.max_by(|one, other| score(one).total_cmp(&score(other)))
    }
}

/// The finaliser of SplitMix64: every bit of the input changes half of the output's.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number that is the same on every node and after every start.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let first = hash.as_bytes()[..8].try_into();
    u64::from_le_bytes(first.expect("eight of 32 bytes"))
}

/// What a request is hashed by, where it has it. `authority` is its Host, which clients of
/// HTTP/2 do not give as a header.
pub(crate) fn key_of(
    key: &HashKey,
    client: IpAddr,
    authority: &str,
    target: &PathAndQuery,
    headers: &HeaderMap,
) -> Option<u64> {
    match key {
        HashKey::Ip => match client {
            IpAddr::V4(address) => Some(hash(&address.octets())),
            IpAddr::V6(address) => Some(hash(&address.octets())),
        },
        HashKey::Path => Some(hash(target.path().as_bytes())),
        HashKey::Header(name) if name.eq_ignore_ascii_case("host") => {
            Some(hash(authority.as_bytes()))
        }
        HashKey::Header(name) => {
            let name = HeaderName::try_from(name).ok()?;
            headers.get(name).map(|value| hash(value.as_bytes()))
        }
        HashKey::Cookie(name) => cookie::values(headers, name).next().map(hash),
        HashKey::Query(name) => find(target.query()?.split('&'), name),
    }
}

fn find<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<u64> {
    pairs.find_map(|pair| {
        let value = pair.trim().strip_prefix(name)?.strip_prefix('=')?;
        Some(hash(value.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::Ordering;

    use super::*;

    fn set(balance: Balance, weights: &[u32]) -> TargetSet {
        let target = |(place, weight): (usize, &u32)| {
            Arc::new(Target::for_test(&format!("10.0.0.{place}:80"), *weight))
        };
        TargetSet::new(weights.iter().enumerate().map(target).collect(), balance)
    }

    fn counts(picks: impl Iterator<Item = String>) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for pick in picks {
            *counts.entry(pick).or_default() += 1;
        }
        counts
    }

    fn label(target: Option<&Spread<Target>>) -> String {
        target.unwrap().label.clone()
    }

    #[test]
    fn turns_follow_the_weights_and_are_spread() {
        let set = set(Balance::RoundRobin, &[5, 1, 1]);
        let picks: Vec<String> = (0..700).map(|_| label(set.choose(None, |_| true))).collect();
        let longest = picks.chunk_by(|a, b| a == b).map(<[String]>::len).max().unwrap();
        assert!(longest <= 7, "{longest} in a row");
        let counts = counts(picks.into_iter());
        for (target, expected) in [("10.0.0.0:80", 500), ("10.0.0.1:80", 100), ("10.0.0.2:80", 100)]
        {
            assert!(counts[target].abs_diff(expected) <= 2, "{counts:?}");
        }
        let without = |target: &Target| target.label != "10.0.0.0:80";
        let rest = (0..100).map(|_| label(set.choose(None, without)));
        assert!(!rest.collect::<Vec<_>>().contains(&"10.0.0.0:80".to_owned()));
        assert!(set.choose(None, |_| false).is_none());
    }

    #[test]
    fn the_busier_of_two_is_left_alone() {
        let set = set(Balance::LeastConnections, &[1, 1, 1, 1]);
        set.targets[0].traffic().in_flight.store(100, Ordering::Relaxed);
        let picks = counts((0..400).map(|_| label(set.choose(None, |_| true))));
        assert!(!picks.contains_key("10.0.0.0:80"), "{picks:?}");
        assert_eq!(picks.len(), 3);
        // Twice the weight bears twice the requests.
        let set = self::set(Balance::LeastConnections, &[2, 1]);
        set.targets[0].traffic().in_flight.store(2, Ordering::Relaxed);
        set.targets[1].traffic().in_flight.store(1, Ordering::Relaxed);
        assert_eq!(label(set.choose(None, |_| true)), "10.0.0.0:80");
    }

    #[test]
    fn only_the_keys_of_a_target_that_left_move() {
        for weights in [&[1, 1, 1, 1, 1][..], &[1, 2, 3, 1, 1]] {
            let set = set(Balance::Hash, weights);
            let before: Vec<String> =
                (0..2_000u64).map(|key| label(set.choose(Some(mix(key)), |_| true))).collect();
            let gone = |target: &Target| target.label != "10.0.0.3:80";
            for (key, owner) in before.iter().enumerate() {
                let now = label(set.choose(Some(mix(key as u64)), gone));
                if owner != "10.0.0.3:80" {
                    assert_eq!(now, *owner);
                }
            }
            let sum: u32 = weights.iter().sum();
            let counts = counts(before.into_iter());
            for (place, weight) in weights.iter().enumerate() {
                let expected = 2_000 * weight / sum;
                let found = counts[&format!("10.0.0.{place}:80")];
                assert!(found.abs_diff(expected) < expected / 3, "{place}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn keys_are_found_where_they_are() {
        let target = PathAndQuery::from_static("/a/b?x=1&user=7");
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "a=b; user=7".parse().unwrap());
        headers.insert("x-user", "7".parse().unwrap());
        let client = "192.0.2.1".parse().unwrap();
        let find = |key: HashKey| key_of(&key, client, "shop.example", &target, &headers);
        let seven = Some(hash(b"7"));
        assert_eq!(find(HashKey::Query("user".into())), seven);
        assert_eq!(find(HashKey::Cookie("user".into())), seven);
        assert_eq!(find(HashKey::Header("x-user".into())), seven);
        assert_eq!(find(HashKey::Header("Host".into())), Some(hash(b"shop.example")));
        assert_eq!(find(HashKey::Path), Some(hash(b"/a/b")));
        assert_eq!(find(HashKey::Ip), Some(hash(&[192, 0, 2, 1])));
        assert_eq!(find(HashKey::Query("use".into())), None);
        assert_eq!(find(HashKey::Cookie("other".into())), None);
        assert_eq!(find(HashKey::Header("x-other".into())), None);
    }
}
