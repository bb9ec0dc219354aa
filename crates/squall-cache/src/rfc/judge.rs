//! What a stored response is worth to a request (RFC 9111, section 4).

use super::Asked;
use crate::{Freshness, Head};

/// Nothing is parsed and nothing allocated to come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answers. `ttl_s` is what remains of its freshness; it is negative when the request
    /// allows that it is stale.
    Serve { age_s: u64, ttl_s: i64 },
    /// It answers, and is fetched anew behind the caller's back (RFC 5861, section 3). It is
    /// stale: `ttl_s` is 0 or less, and -1 after a soft purge.
    ServeAndRevalidate { age_s: u64, ttl_s: i64 },
    /// Its origin is asked first. `on_error`: it may be sent when the origin fails, that is
    /// when it can not be reached or answers with 5xx.
    Validate { on_error: bool, ttl_s: i64 },
}

/// RFC 9111, section 4.2.3.
pub fn age_s(head: &Head, now_ms: u64) -> u64 {
    let resident_s = now_ms.saturating_sub(head.received_at_ms) / 1_000;
    u64::from(head.freshness.initial_age_s) + resident_s
}

/// What remains of its freshness.
pub fn ttl_s(head: &Head, now_ms: u64) -> i64 {
    i64::from(head.freshness.lifetime_s) - age_s(head, now_ms) as i64
}

/// Whether it may be sent when its origin fails (section 4.2.4, and RFC 5861, section 4).
pub fn stands_in(head: &Head, now_ms: u64) -> bool {
    let Freshness { must_revalidate, no_cache, stale_if_error_s, .. } = head.freshness;
    let staleness_s = -ttl_s(head, now_ms);
    let within = stale_if_error_s > 0 && staleness_s <= i64::from(stale_if_error_s);
    !must_revalidate && !no_cache && (staleness_s < 0 || within)
}

/// A soft purge makes a response stale whatever it says; it may then answer once more while
/// it is fetched anew.
pub fn judge(head: &Head, asked: &Asked, soft_purged: bool, now_ms: u64) -> Verdict {
    let freshness = &head.freshness;
    let age_s = age_s(head, now_ms);
    let ttl_s = i64::from(freshness.lifetime_s) - age_s as i64;
    let staleness_s = -ttl_s;
    let asks = &asked.directives;
    let strict = freshness.must_revalidate || freshness.no_cache;
    let within = |seconds: u32| staleness_s <= i64::from(seconds);
    let on_error = stands_in(head, now_ms);
    let validate = Verdict::Validate { on_error, ttl_s };
    if freshness.no_cache || asked.insists() {
        return validate;
    }
    if asks.max_age.is_some_and(|most| age_s > most.into()) {
        return validate;
    }
    let fresh = ttl_s > 0 && !soft_purged;
    // Who names an age does not want what is stale, unless that is said, too (section 5.2.1.1).
    let wants_fresh =
        asks.min_fresh.is_some() || (asks.max_age.is_some() && asks.max_stale.is_none());
    if fresh {
        return match asks.min_fresh {
            Some(least) if ttl_s < i64::from(least) => validate,
            _ => Verdict::Serve { age_s, ttl_s },
        };
    }
    if strict || wants_fresh {
        return validate;
    }
    let window_s = freshness.stale_while_revalidate_s;
    if (soft_purged && ttl_s > 0) || (window_s > 0 && within(window_s)) {
        let ttl_s = if soft_purged { ttl_s.min(-1) } else { ttl_s };
        return Verdict::ServeAndRevalidate { age_s, ttl_s };
    }
    match asks.max_stale {
        Some(None) => Verdict::Serve { age_s, ttl_s: ttl_s.min(-1) },
        Some(Some(most)) if within(most) => Verdict::Serve { age_s, ttl_s: ttl_s.min(-1) },
        _ => validate,
    }
}
