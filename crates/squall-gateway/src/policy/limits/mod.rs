//! How much of an app a caller may use: rates, requests at once, quotas.
//!
//! `Limits` is the node's state and outlives every configuration: it knows keys, which
//! are made of names and settings, so that a limit that is configured again as it was
//! finds what it counted before. `RouteLimits` is what one route asks of a request, in
//! two steps: what is counted by address before authentication, because it protects
//! passwords and keys from being guessed, and everything else behind it, because a budget
//! that callers share must not be used up by those who are not let in.

mod concurrency;
mod headers;
mod key;
mod quota;
mod rate;
mod store;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use http::header::HeaderValue;
use squall_types::ErrorCode;
use squall_types::calendar::Day;
use squall_types::clients::ApiClient;
use squall_types::gateway::{LimitKey, Plan, Policy, RateLimit};
use squall_types::manifest::Manifest;
use squall_types::metrics::write_metric;
use squall_types::rate::{ASKS_MAX, Ask, Decisions, RateStore, Taken};
use squall_types::usage::UsageRow;

use crate::rejection::Rejection;
use concurrency::{Concurrency, Permit};
use key::KeyRule;
use quota::{Charge, Left, Quota, QuotaPeriod, QuotaScope, Quotas};
use rate::{RateRule, RateRules, retry_after_s, seconds};

pub(crate) use headers::Fields;
pub(crate) use key::Caller;
pub(crate) use store::EmbeddedRates;

/// How soon a caller is asked to come back when too many requests are on their way: when
/// one of them ends is not known.
const CONCURRENCY_RETRY_S: u32 = 1;

/// What a node counts.
pub(crate) struct Limits {
    rates: Arc<dyn RateStore>,
    concurrency: Arc<Concurrency>,
    quotas: Arc<Quotas>,
    clock: SteadyClock,
    /// Requests that went on because the rate store gave no answer.
    unanswered: AtomicU64,
}

/// Nanoseconds since 1970 that never step back: the wall clock as it was once, and what
/// has passed since.
struct SteadyClock {
    began: Instant,
    began_unix_ns: u64,
}

/// When a request came, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) accepted: Instant,
    pub(crate) at: SystemTime,
}

/// What a request holds until its response has ended.
#[derive(Default)]
pub(crate) struct Held {
    /// Of its route and of its plan.
    permits: [Option<Permit>; 2],
    charge: Option<Charge>,
}

/// What one route asks of its requests.
#[derive(Default)]
pub(crate) struct RouteLimits {
    before: RateRules,
    behind: RateRules,
    concurrency: Option<ConcurrencyRule>,
    plans: Arc<Plans>,
}

struct ConcurrencyRule {
    key: KeyRule,
    most: u32,
}

/// The plans of a revision, shared by its routes.
#[derive(Default)]
pub(crate) struct Plans {
    plans: HashMap<Box<str>, PlanRules>,
    clients: Option<QuotaScope>,
}

struct PlanRules {
    rates: RateRules,
    concurrency: Option<ConcurrencyRule>,
    quota: Quota,
    /// What quotas are called in headers: the plan's name and the manifest's key.
    quota_names: [Box<str>; 2],
    /// `RateLimit-Policy`, quotas included.
    policy: Option<HeaderValue>,
}

impl Limits {
    pub(crate) fn new(rates: Arc<dyn RateStore>) -> Self {
        Self {
            concurrency: Arc::new(Concurrency::new()),
            quotas: Arc::new(Quotas::new(*rates.seed())),
            clock: SteadyClock::new(Instant::now(), SystemTime::now()),
            unanswered: AtomicU64::new(0),
            rates,
        }
    }

    /// The first day whose usage counts for a quota at `now`.
    pub(crate) fn quotas_begin(now: SystemTime) -> Day {
        Day::of_micros(squall_types::calendar::unix_micros(now)).first_of_month()
    }

    /// Raises the counts of quotas to what the ledger has since `quotas_begin`.
    pub(crate) fn restore_quotas(&self, rows: &[UsageRow], now: SystemTime) {
        self.quotas.restore(rows, now);
    }

    pub(crate) fn write_metrics(&self, out: &mut String) {
        self.rates.write_metrics(out);
        let name = "squall_rate_limit_unanswered_total";
        let what = "Requests that were not limited because the store of limits gave no answer.";
        write_metric(out, name, "counter", what, self.unanswered.load(Ordering::Relaxed));
    }

    /// Asks for everything at once; an error is the refusal.
    async fn take(
        &self,
        rules: impl Iterator<Item = &RateRule> + Clone,
        caller: &Caller<'_>,
        arrival: Arrival,
        fields: &mut Fields,
    ) -> Result<(), Rejection> {
        let answer = match self.ask(rules.clone(), caller, arrival) {
            Taken::Now(decisions) => Ok(decisions),
            Taken::Later(answer) => answer.await,
        };
        let Ok(decisions) = answer else {
            // What limits protect is worth more than the limits: requests go on.
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        judge(rules, &decisions, fields)
    }

    fn ask<'r>(
        &self,
        rules: impl Iterator<Item = &'r RateRule>,
        caller: &Caller<'_>,
        arrival: Arrival,
    ) -> Taken {
        let mut asks = [Ask::NOTHING; ASKS_MAX];
        let mut count = 0;
        // Lists of the configuration are checked to be short enough.
        for (place, rule) in asks.iter_mut().zip(rules) {
            *place = rule.ask(caller);
            count += 1;
        }
        self.rates.take(&asks[..count], self.clock.ns(arrival.accepted))
    }
}

fn judge<'r>(
    rules: impl Iterator<Item = &'r RateRule>,
    decisions: &Decisions,
    fields: &mut Fields,
) -> Result<(), Rejection> {
    let decided = rules.zip(decisions.as_slice());
    if decisions.all_admitted() {
        for (rule, decision) in decided {
            fields.stands(&rule.name, decision.remaining.into(), seconds(decision.more_in_ns));
        }
        return Ok(());
    }
    fields.forget_standing();
    let mut longest: Option<(&RateRule, u64)> = None;
    for (rule, decision) in decided.filter(|(_, decision)| !decision.admitted) {
        let wait_s = retry_after_s(decision);
        fields.stands(&rule.name, decision.remaining.into(), wait_s);
        if longest.is_none_or(|(_, known)| known < wait_s) {
            longest = Some((rule, wait_s));
        }
    }
    let Some((rule, wait_s)) = longest else { return Ok(()) };
    let message = format!("the limit {} is {}", rule.name, rule.described);
    Err(refusal(ErrorCode::RateLimited, message, wait_s))
}

fn refusal(code: ErrorCode, message: String, wait_s: u64) -> Rejection {
    let mut rejection = Rejection::new(code, message);
    rejection.retry_after_s = Some(u32::try_from(wait_s).unwrap_or(u32::MAX));
    rejection
}

impl SteadyClock {
    fn new(began: Instant, wall: SystemTime) -> Self {
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { began, began_unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn ns(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.began).as_nanos();
        self.began_unix_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl Plans {
    pub(crate) fn compile(manifest: &Manifest, limits: &Limits) -> Self {
        let app = manifest.name.as_str();
        let seed = limits.rates.seed();
        let compile = |(name, plan): (&String, &Plan)| {
            (name.as_str().into(), PlanRules::compile(seed, app, name, plan))
        };
        Self {
            plans: manifest.plans.iter().map(compile).collect(),
            clients: Some(limits.quotas.scope(app)),
        }
    }
}

impl PlanRules {
    fn compile(seed: &[u8; 32], app: &str, name: &str, plan: &Plan) -> Self {
        let scope = [app, "plan", name];
        let client = [LimitKey::Client];
        // Over all routes: a plan's limit knows none.
        let rule = |limit: &RateLimit| {
            let rule = RateRule::new(seed, &scope, "", limit, &client)?;
            // A route may have a limit of the same name.
            Some(rule.named(format!("{name}.{}", limit.name)))
        };
        let rates = RateRules::new(plan.rate_limits.iter().filter_map(rule));
        let quota = Quota { per_day: plan.requests_per_day, per_month: plan.requests_per_month };
        let concurrency = plan.concurrency.map(|most| ConcurrencyRule {
            key: KeyRule::new(seed, &[app, "plan", name, "concurrency"], "", &client),
            most,
        });
        let periods = [QuotaPeriod::Day, QuotaPeriod::Month];
        let quota_names: [Box<str>; 2] =
            periods.map(|period| format!("{name}.{}", period.name()).into());
        // Months differ, so that of a month has no window.
        let quotas = [(quota.per_day, Some(Day::SECONDS)), (quota.per_month, None)];
        let quotas =
            quotas.into_iter().zip(&quota_names).filter_map(|((quota, window_s), name)| {
                Some(headers::Policy { name, quota: quota?, window_s, burst: None })
            });
        let policy = headers::policy(&rates.policies().chain(quotas).collect::<Vec<_>>());
        Self { policy, rates, concurrency, quota, quota_names }
    }
}

impl RouteLimits {
    /// `settings` are the policies that hold for the route, `own` those that it sets.
    pub(crate) fn compile(
        route: &str,
        settings: &Policy,
        own: &Policy,
        manifest: &Manifest,
        plans: &Arc<Plans>,
        limits: &Limits,
    ) -> Self {
        let app = manifest.name.as_str();
        let seed = limits.rates.seed();
        // What the app sets is shared by its routes, what a route sets is its own.
        let scope = |is_own: bool| match is_own {
            true => [app, "route", route],
            false => [app, "app", ""],
        };
        let authenticates = settings.auth.as_ref().is_some_and(|sources| !sources.is_empty());
        let is_before = |keys: &[LimitKey]| {
            !authenticates || keys.contains(&LimitKey::Ip) && !keys.contains(&LimitKey::Client)
        };
        let usual = [LimitKey::Ip];
        let rates = |before: bool| {
            let scope = scope(own.rate_limits.is_some());
            let list = settings.rate_limits.iter().flatten();
            let list = list.filter(|limit| is_before(limit.keys(&usual)) == before);
            let rule = |limit| RateRule::new(seed, &scope, route, limit, &usual);
            RateRules::new(list.filter_map(rule))
        };
        let concurrency = settings.concurrency.as_ref().map(|limit| {
            let [app, kind, name] = scope(own.concurrency.is_some());
            let scope = [app, kind, name, "concurrency"];
            ConcurrencyRule { key: KeyRule::new(seed, &scope, route, &limit.by), most: limit.limit }
        });
        Self { before: rates(true), behind: rates(false), concurrency, plans: plans.clone() }
    }

    /// Whether it asks nothing of callers without a plan.
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.behind.is_empty() && self.concurrency.is_none()
    }

    /// Before anybody knows who calls.
    pub(crate) async fn admit_anybody(
        &self,
        limits: &Limits,
        caller: &Caller<'_>,
        arrival: Arrival,
        fields: &mut Fields,
    ) -> Result<(), Rejection> {
        if self.before.is_empty() {
            return Ok(());
        }
        fields.applies(self.before.policy.as_ref());
        limits.take(self.before.iter(), caller, arrival, fields).await
    }

    /// When it is known who calls, and that they may.
    pub(crate) async fn admit(
        &self,
        limits: &Limits,
        caller: &Caller<'_>,
        client: Option<&Arc<ApiClient>>,
        arrival: Arrival,
        fields: &mut Fields,
    ) -> Result<Held, Rejection> {
        let plan = client.and_then(|client| client.plan.as_deref());
        let plan = plan.and_then(|name| self.plans.plans.get(name));
        fields.applies(self.behind.policy.as_ref());
        fields.applies(plan.and_then(|plan| plan.policy.as_ref()));

        // What is given back when a later limit refuses comes first.
        let mut held = Held::default();
        let of_plan = plan.and_then(|plan| plan.concurrency.as_ref());
        for (place, rule) in held.permits.iter_mut().zip([self.concurrency.as_ref(), of_plan]) {
            let Some(rule) = rule else { continue };
            let permit = limits.concurrency.take(rule.key.key(caller), rule.most);
            let permit = permit.ok_or_else(|| {
                fields.forget_standing();
                let message = format!("no more than {} at once", rule.most);
                refusal(ErrorCode::TooManyConcurrent, message, CONCURRENCY_RETRY_S.into())
            })?;
            *place = Some(permit);
        }
        let mut left = [None; 2];
        if let (Some(client), Some(scope)) = (client, &self.plans.clients) {
            let quota = plan.map(|plan| plan.quota).unwrap_or_default();
            match limits.quotas.charge(scope, &client.id, quota, arrival.at) {
                Ok((charge, standing)) => {
                    held.charge = Some(charge);
                    left = standing;
                }
                Err(left) => {
                    fields.forget_standing();
                    stand(plan, &left, fields);
                    return Err(exhausted(&left, quota));
                }
            }
        }
        let of_plan = plan.map(|plan| &plan.rates);
        let rules = self.behind.iter().chain(of_plan.into_iter().flat_map(RateRules::iter));
        if !self.behind.is_empty() || of_plan.is_some_and(|rates| !rates.is_empty()) {
            limits.take(rules, caller, arrival, fields).await?;
        }
        for left in left.iter().flatten() {
            stand(plan, left, fields);
        }
        Ok(held)
    }
}

/// Only a plan has quotas.
fn stand(plan: Option<&PlanRules>, left: &Left, fields: &mut Fields) {
    let Some(plan) = plan else { return };
    fields.stands(&plan.quota_names[left.period as usize], left.remaining, left.seconds);
}

fn exhausted(left: &Left, quota: Quota) -> Rejection {
    let (most, period) = match left.period {
        QuotaPeriod::Day => (quota.per_day, "day"),
        QuotaPeriod::Month => (quota.per_month, "month"),
    };
    let message = format!("the plan has {} requests per {period}", most.unwrap_or_default());
    refusal(ErrorCode::QuotaExceeded, message, left.seconds)
}

impl Held {
    /// The request has come to a function or an upstream: it counts for quotas.
    pub(crate) fn reached_target(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.keep();
        }
    }
}

#[cfg(test)]
mod tests;
