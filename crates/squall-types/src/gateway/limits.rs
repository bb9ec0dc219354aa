use std::fmt;

use serde::{Deserialize, Serialize};

/// A rate that is kept by GCRA: a steady flow, and a burst that refills at the same pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// For the `RateLimit` header and the logs; unique in its list.
    #[serde(default = "RateLimit::usual_name")]
    pub name: String,
    /// Whose requests are counted together: `ip`, `client`, `route`, `header:NAME`, or a
    /// combination. An empty list counts all requests of the app together.
    #[serde(default = "RateLimit::usual_by")]
    pub by: Vec<LimitKey>,
    /// Requests in each period.
    pub limit: u32,
    pub per: Period,
    /// Requests that may come at once; as many as `limit` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl RateLimit {
    fn usual_name() -> String {
        "default".to_owned()
    }
    fn usual_by() -> Vec<LimitKey> {
        vec![LimitKey::Ip]
    }

    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        if self.limit == 0 || self.burst == Some(0) {
            return Err(format!("{at}: limit and burst must be at least 1"));
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(token) {
            return Err(format!(
                "{at}.name = {:?} must be made of letters, digits, - _ and .",
                self.name
            ));
        }
        Ok(())
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
    /// From the request's head to the response's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<u64>,
    /// A request body slower than this, averaged over ten seconds of waiting, is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_rate_min_bytes_per_s: Option<u64>,
}
