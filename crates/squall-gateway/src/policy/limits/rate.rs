//! Rate limits of a route or a plan, compiled.

use http::header::HeaderValue;
use squall_types::gateway::{LimitKey, RateLimit};
use squall_types::rate::{Ask, Decision, Rate};

use super::headers::{self, Policy};
use super::key::{Caller, KeyRule};

/// One limit.
pub(super) struct RateRule {
    pub(super) name: Box<str>,
    /// As it is configured, for those whom it refuses.
    pub(super) described: Box<str>,
    limit: u32,
    window_s: u64,
    rate: Rate,
    key: KeyRule,
}

/// Limits that are asked together: one that refuses takes nothing of the others.
#[derive(Default)]
pub(super) struct RateRules {
    rules: Box<[RateRule]>,
    /// `RateLimit-Policy`.
    pub(super) policy: Option<HeaderValue>,
}

impl RateRule {
    /// `scope` says whose limit it is: the app's, a route's or a plan's.
    pub(super) fn new(
        seed: &[u8; 32],
        scope: &[&str],
        route: &str,
        limit: &RateLimit,
        usual_keys: &[LimitKey],
    ) -> Option<Self> {
        let described = limit.to_string();
        // A limit that was changed begins anew.
        let scope = [scope, &[&limit.name, &described]].concat();
        Some(Self {
            key: KeyRule::new(seed, &scope, route, limit.keys(usual_keys)),
            name: limit.name.as_str().into(),
            described: described.into(),
            limit: limit.limit,
            window_s: limit.per.seconds(),
            // None is only what a checked manifest does not have.
            rate: limit.rate()?,
        })
    }
}

impl RateRules {
    pub(super) fn new(rules: impl Iterator<Item = RateRule>) -> Self {
        let rules: Box<[RateRule]> = rules.collect();
        let mut rules = Self { rules, policy: None };
        rules.policy = headers::policy(&rules.policies().collect::<Vec<_>>());
        rules
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = Policy<'_>> {
        self.rules.iter().map(|rule| Policy {
            name: &rule.name,
            quota: rule.limit.into(),
            window_s: Some(rule.window_s),
            burst: Some(rule.rate.burst()).filter(|burst| *burst != rule.limit),
        })
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, RateRule> {
        self.rules.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl RateRule {
    pub(super) fn named(self, name: String) -> Self {
        Self { name: name.into(), ..self }
    }

    pub(super) fn ask(&self, caller: &Caller<'_>) -> Ask {
        Ask { key: self.key.key(caller), rate: self.rate, cost: 1 }
    }
}

/// Whole seconds, none of them too few.
pub(super) fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

/// Until a refused request would be admitted.
pub(super) fn retry_after_s(decision: &Decision) -> u64 {
    seconds(decision.retry_after_ns).max(1)
}
