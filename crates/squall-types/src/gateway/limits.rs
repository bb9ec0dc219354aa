use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rate::{ASKS_MAX, Rate};

/// A list of rate limits may have so many. Those of a route and of a client's plan are
/// asked together.
pub const RATE_LIMITS_MAX: usize = ASKS_MAX / 2;

/// A limit may be kept for each combination of so many things.
pub const LIMIT_KEYS_MAX: usize = 4;

/// A rate that is kept by GCRA: a steady flow, and a burst that refills at the same pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// For the `RateLimit` header and the logs; unique in its list.
    #[serde(default = "RateLimit::usual_name")]
    pub name: String,
    /// Whose requests are counted together: `ip`, `client`, `route`, `header:NAME`, or a
    /// combination. An empty list counts all requests of the app together. Without it, a
    /// policy counts by `ip`, and a plan by `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<LimitKey>>,
    /// Requests in each period.
    pub limit: u32,
    pub per: Period,
    /// Requests that may come at once. Without it, all of `limit` for a minute and longer
    /// periods, which are an allowance; of a limit per second, which is a flow, a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl RateLimit {
    fn usual_name() -> String {
        "default".to_owned()
    }

    /// What requests are counted by; `usual` is for a limit that does not say.
    pub fn keys<'a>(&'a self, usual: &'a [LimitKey]) -> &'a [LimitKey] {
        self.by.as_deref().unwrap_or(usual)
    }

    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(match self.per {
            Period::Second => (self.limit / 10).max(1),
            Period::Minute | Period::Hour | Period::Day => self.limit,
        })
    }

    /// None for what `check` refuses.
    pub fn rate(&self) -> Option<Rate> {
        Rate::new(self.limit, self.per.seconds() * 1_000_000_000, self.burst())
    }

    fn check(&self, at: &str) -> Result<(), String> {
        if self.limit == 0 || self.burst == Some(0) {
            return Err(format!("{at}: limit and burst must be at least 1"));
        }
        // Above, an interval in nanoseconds is not exact enough any more.
        if u64::from(self.limit) > self.per.seconds() * 1_000_000 {
            return Err(format!("{at}.limit may be at most 1000000 in a second"));
        }
        if self.rate().is_none() {
            return Err(format!(
                "{at}.burst = {} would refill in more than a year at this limit; lower it",
                self.burst()
            ));
        }
        LimitKey::check_list(at, self.by.as_deref().unwrap_or_default())?;
        check_name(&format!("{at}.name"), &self.name)
    }

    pub(super) fn check_list(at: &str, limits: &[RateLimit]) -> Result<(), String> {
        if limits.len() > RATE_LIMITS_MAX {
            return Err(format!(
                "{at} has {} entries; {RATE_LIMITS_MAX} is the most",
                limits.len()
            ));
        }
        let mut names = BTreeSet::new();
        for limit in limits {
            limit.check(at)?;
            if !names.insert(&limit.name) {
                return Err(format!(
                    "{at}: two are named {:?}; give each a name of its own",
                    limit.name
                ));
            }
        }
        Ok(())
    }
}

/// Names are sent in headers, between quotes.
fn check_name(at: &str, name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("{at} = {name:?} must be made of letters, digits, - _ and ."));
    }
    Ok(())
}

/// `100 per second by ip`, `5 per minute by ip and header:x-tenant, 10 at once`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.limit, self.per)?;
        match self.by.as_deref() {
            None => {}
            Some([]) => f.write_str(" of all together")?,
            Some(keys) => {
                let keys: Vec<String> = keys.iter().map(LimitKey::to_string).collect();
                write!(f, " by {}", keys.join(" and "))?;
            }
        }
        match self.burst {
            Some(burst) => write!(f, ", {burst} at once"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

impl Period {
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}

/// Part of what requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, schemars::JsonSchema)]
#[schemars(with = "String")]
pub enum LimitKey {
    /// The client's address; of IPv6 its /64, which is what one subscriber has.
    Ip,
    /// The identity that was verified; the address of callers who have none.
    Client,
    Route,
    /// The value of a header, in lower case.
    Header(String),
}

impl LimitKey {
    fn check_list(at: &str, keys: &[LimitKey]) -> Result<(), String> {
        if keys.len() > LIMIT_KEYS_MAX {
            return Err(format!(
                "{at}.by has {} entries; {LIMIT_KEYS_MAX} is the most",
                keys.len()
            ));
        }
        for key in keys {
            if let LimitKey::Header(name) = key {
                super::check::written_by_callers(&format!("{at}.by"), name, "count by \"client\"")?;
            }
        }
        match keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
            Some((_, twice)) => Err(format!("{at}.by names {twice} twice")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Client => f.write_str("client"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl Serialize for LimitKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "ip" => Ok(Self::Ip),
            "client" => Ok(Self::Client),
            "route" => Ok(Self::Route),
            other => {
                let name = other.strip_prefix("header:").map(str::to_ascii_lowercase);
                let name = name.filter(|name| http::HeaderName::try_from(name).is_ok());
                name.map(Self::Header).ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        "{other:?} is nothing to count by; write \"ip\", \"client\", \"route\" or \"header:NAME\""
                    ))
                })
            }
        }
    }
}

/// How many requests may be on their way at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyLimit {
    pub limit: u32,
    /// As in a rate limit.
    #[serde(default = "ConcurrencyLimit::usual_by")]
    pub by: Vec<LimitKey>,
}

impl ConcurrencyLimit {
    fn usual_by() -> Vec<LimitKey> {
        vec![LimitKey::Route]
    }

    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        if self.limit == 0 {
            return Err(format!("{at}.limit must be at least 1"));
        }
        LimitKey::check_list(at, &self.by)
    }
}

/// What an API client may use: `[plans.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Of each client of the plan, over all routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// In a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// In a calendar month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<u64>,
}

impl Plan {
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        check_name("the name of a plan", name)?;
        let at = format!("plans.{name}");
        RateLimit::check_list(&format!("{at}.rate_limits"), &self.rate_limits)?;
        let is_of_client =
            |limit: &&RateLimit| limit.by.as_ref().is_none_or(|by| by.contains(&LimitKey::Client));
        if let Some(limit) = self.rate_limits.iter().find(|limit| !is_of_client(limit)) {
            return Err(format!(
                "{at}.rate_limits: {} does not count by \"client\", and a plan is what each client has; add it, or leave `by` out",
                limit.name
            ));
        }
        let numbers = [
            ("concurrency", self.concurrency.map(u64::from)),
            ("requests_per_day", self.requests_per_day),
            ("requests_per_month", self.requests_per_month),
        ];
        match numbers.iter().find(|(_, number)| *number == Some(0)) {
            Some((key, _)) => Err(format!("{at}.{key} must be at least 1")),
            None => Ok(()),
        }
    }
}

/// How large a request may be. The node's own limits hold beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Names and values of all headers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_bytes: Option<u64>,
    /// Path and query together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_bytes: Option<u64>,
}

/// How long a request may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From the call of the target to the response's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<u64>,
    /// A request body slower than this, averaged over ten seconds of waiting, is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_rate_min_bytes_per_s: Option<u64>,
}
