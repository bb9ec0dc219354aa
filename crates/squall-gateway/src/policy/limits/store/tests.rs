use proptest::prelude::*;
use squall_types::rate::Rate;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// A day of 2026.
const NOW: u64 = 1_795_000_000 * SECOND;

fn ask(key: u128, rate: Rate) -> Ask {
    // As a hash spreads them over the shards.
    Ask { key: RateKey(key.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)), rate, cost: 1 }
}

fn take(store: &EmbeddedRates, asks: &[Ask], now_ns: u64) -> Decisions {
    match store.take(asks, now_ns) {
        Taken::Now(decisions) => decisions,
        Taken::Later(_) => unreachable!("memory answers at once"),
    }
}

fn admits(store: &EmbeddedRates, ask: Ask, now_ns: u64) -> bool {
    take(store, &[ask], now_ns).all_admitted()
}

proptest! {
    /// Whatever the pattern of arrivals, no window of time has more than the burst and
    /// what the rate gives in that time.
    #[test]
    fn no_window_has_more_than_the_burst_and_the_rate(
        limit in 1u32..500,
        period_s in prop_oneof![Just(1u64), Just(60), Just(3_600)],
        burst in 1u32..60,
        gaps in proptest::collection::vec(0u64..40, 1..300),
    ) {
        let rate = Rate::new(limit, period_s * SECOND, burst).unwrap();
        let store = EmbeddedRates::new();
        let mut now = NOW;
        let mut admitted = Vec::new();
        for gap in gaps {
            // From all at once to slower than the rate.
            now += gap * rate.interval_ns() / 20;
            if admits(&store, ask(1, rate), now) {
                admitted.push(now);
            }
        }
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u64;
                let most = u64::from(burst) + (to - from) / rate.interval_ns();
                prop_assert!(count <= most, "{count} of {most}");
            }
        }
    }

    #[test]
    fn a_steady_caller_below_the_rate_is_never_refused(
        limit in 1u32..1_000,
        slower_ns in 0u64..1_000,
        others in proptest::collection::vec(0u128..50, 200),
    ) {
        let rate = Rate::new(limit, SECOND, 1).unwrap();
        let store = EmbeddedRates::new();
        let mut now = NOW;
        for other in others {
            now += rate.interval_ns() + slower_ns;
            prop_assert!(admits(&store, ask(1_000, rate), now));
            for _ in 0..3 {
                admits(&store, ask(other, rate), now);
            }
        }
    }

    /// What an answer promises is what the next request finds.
    #[test]
    fn answers_tell_the_truth(
        limit in 1u32..100,
        burst in 1u32..20,
        gaps in proptest::collection::vec(0u64..40, 1..100),
    ) {
        let rate = Rate::new(limit, SECOND, burst).unwrap();
        let store = EmbeddedRates::new();
        let mut now = NOW;
        for gap in gaps {
            now += gap * rate.interval_ns() / 20;
            let told = take(&store, &[ask(1, rate)], now).as_slice()[0];
            let look = |at| {
                let zero = Ask { cost: 0, ..ask(1, rate) };
                take(&store, &[zero], at).as_slice()[0]
            };
            prop_assert_eq!(look(now).remaining, told.remaining);
            if told.more_in_ns > 0 {
                prop_assert_eq!(look(now + told.more_in_ns - 1).remaining, told.remaining);
                prop_assert_eq!(look(now + told.more_in_ns).remaining, told.remaining + 1);
            }
            if !told.admitted {
                prop_assert!(told.retry_after_ns > 0);
                prop_assert!(!rate.decide(0, burst + 1, now).0.admitted);
                prop_assert_eq!(look(now + told.retry_after_ns - 1).remaining, 0);
                prop_assert!(look(now + told.retry_after_ns).remaining >= 1);
            }
        }
    }
}

#[test]
fn ten_seconds_at_three_times_the_limit_admit_the_limit() {
    for limit in [10u32, 100, 1_000, 5_000] {
        // The burst that a limit per second has when nobody names one.
        let rate = Rate::new(limit, SECOND, (limit / 10).max(1)).unwrap();
        let store = EmbeddedRates::new();
        let sent = u64::from(limit) * 3 * 10;
        let admitted = (0..sent)
            .filter(|number| admits(&store, ask(7, rate), NOW + number * 10 * SECOND / sent))
            .count() as f64;
        let wanted = f64::from(limit) * 10.0;
        let off = (admitted - wanted).abs() / wanted;
        assert!(off <= 0.02, "{admitted} of {wanted}");
    }
}

#[test]
fn a_refusal_by_one_limit_takes_nothing_of_the_others() {
    let store = EmbeddedRates::new();
    let wide = Rate::new(100, SECOND, 100).unwrap();
    let narrow = Rate::new(1, SECOND, 1).unwrap();
    let asks = [ask(1, wide), ask(2, narrow), ask(3, wide)];
    let first = take(&store, &asks, NOW);
    assert!(first.all_admitted());
    for _ in 0..50 {
        let again = take(&store, &asks, NOW);
        let [one, two, three] = again.as_slice() else { panic!("three answers") };
        assert_eq!((one.admitted, two.admitted, three.admitted), (true, false, true));
        assert_eq!((one.remaining, two.remaining, three.remaining), (99, 0, 99));
        assert_eq!(two.retry_after_ns, SECOND);
    }
    assert!(take(&store, &asks, NOW + SECOND).all_admitted());
}

#[test]
fn threads_together_get_no_more_than_one_alone() {
    let store = EmbeddedRates::new();
    let rates = [Rate::new(1, SECOND, 500).unwrap(), Rate::new(1, SECOND, 700).unwrap()];
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u128)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let mut asks = [ask(1, rates[0]), ask(2, rates[1]), ask(10 + thread, rates[1])];
                    // The order of asks is not the order of locks.
                    asks.rotate_left(thread as usize % 3);
                    (0..400).filter(|_| take(store, &asks, NOW).all_admitted()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 500);
}

#[test]
fn a_hundred_thousand_keys_take_less_than_forty_megabytes() {
    let store = EmbeddedRates::new();
    let rate = Rate::new(10, 3_600 * SECOND, 10).unwrap();
    for key in 0..100_000 {
        assert!(admits(&store, ask(key, rate), NOW + key as u64));
    }
    let tables: usize = (0..SHARDS).map(|shard| store.lock(shard).bytes()).sum();
    let bytes = tables + SHARDS * size_of::<Shard>();
    assert!(bytes < 10 << 20, "{bytes} bytes");
    assert_eq!(store.forgotten.load(Ordering::Relaxed), 0);
    // None of them was forgotten: each has used one of its ten.
    for key in 0..100_000 {
        let left = take(&store, &[ask(key, rate)], NOW + SECOND).as_slice()[0].remaining;
        assert_eq!(left, 8);
    }
}

#[test]
fn a_full_store_forgets_who_used_least() {
    let store = EmbeddedRates::holding(SHARDS * 64);
    let rate = Rate::new(1, 3_600 * SECOND, 1_000).unwrap();
    let heavy = ask(1, rate);
    for _ in 0..1_000 {
        assert!(admits(&store, heavy, NOW));
    }
    // A flood of keys that come once each, far more than there is room for.
    for key in 10..200_000 {
        assert!(admits(&store, ask(key, rate), NOW + 1));
    }
    let used: usize = (0..SHARDS).map(|shard| store.lock(shard).len()).sum();
    assert!(used <= SHARDS * 64);
    assert!(store.forgotten.load(Ordering::Relaxed) > 100_000);
    assert!(!admits(&store, heavy, NOW + 2), "the flood washed a heavy caller's count away");
}
