//! What responses say of limits: `RateLimit-Policy` and `RateLimit`.
//!
//! The fields are those of draft-ietf-httpapi-ratelimit-headers-11, lists of structured
//! fields (RFC 9651). A client learns what is configured from the first and how it stands
//! from the second: `r` requests could follow at once, and it will not be more of them
//! before `t` seconds have passed. A response that refuses names only what it was refused
//! for, with a `t` that is its Retry-After (section 6 of the draft).

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What a response will say.
#[derive(Default)]
pub(crate) struct Fields {
    /// Of the route before and behind authentication, and of the plan.
    policies: [Option<HeaderValue>; 3],
    limit: String,
}

impl Fields {
    /// A list of policies, as `policy` made it, that applies to the request.
    pub(super) fn applies(&mut self, policy: Option<&HeaderValue>) {
        let Some(policy) = policy else { return };
        if let Some(place) = self.policies.iter_mut().find(|place| place.is_none()) {
            *place = Some(policy.clone());
        }
    }

    pub(super) fn stands(&mut self, name: &str, remaining: u64, seconds: u64) {
        if !self.limit.is_empty() {
            self.limit.push_str(", ");
        }
        let _ = write!(self.limit, "\"{name}\";r={remaining}");
        if seconds > 0 {
            let _ = write!(self.limit, ";t={seconds}");
        }
    }

    /// Takes back how limits stand: the request is refused for another one.
    pub(super) fn forget_standing(&mut self) {
        self.limit.clear();
    }

    /// Adds to what a target says of limits of its own.
    pub(crate) fn set(&mut self, headers: &mut HeaderMap) {
        for policy in self.policies.iter_mut().filter_map(Option::take) {
            headers.append(POLICY, policy);
        }
        if !self.limit.is_empty()
            && let Ok(limit) = HeaderValue::try_from(std::mem::take(&mut self.limit))
        {
            headers.append(LIMIT, limit);
        }
    }
}

/// One item of a list of policies. A quota of a month has no window: months differ.
pub(super) struct Policy<'a> {
    pub(super) name: &'a str,
    pub(super) quota: u64,
    pub(super) window_s: Option<u64>,
    /// Where it is not the quota.
    pub(super) burst: Option<u32>,
}

/// None for a list without items, which is no field.
pub(super) fn policy(items: &[Policy<'_>]) -> Option<HeaderValue> {
    let mut text = String::new();
    for item in items {
        let separator = if text.is_empty() { "" } else { ", " };
        // Names are made of letters, digits, - _ and . alone: a string as it is.
        let _ = write!(text, "{separator}\"{}\";q={}", item.name, item.quota);
        if let Some(window_s) = item.window_s {
            let _ = write!(text, ";w={window_s}");
        }
        if let Some(burst) = item.burst {
            let _ = write!(text, ";squall-burst={burst}");
        }
    }
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}
