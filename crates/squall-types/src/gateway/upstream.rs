use serde::{Deserialize, Serialize};

/// A service behind the gateway: `[upstreams.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Base URLs, or tables `{ url = "...", weight = 2 }`. A host name stands for every
    /// address that it resolves to.
    pub targets: Vec<UpstreamTarget>,
    #[serde(default)]
    pub balance: Balance,
    /// With `balance = "hash"`: `ip`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashKey>,
    #[serde(default)]
    pub protocol: Protocol,
    /// The upstream sees the Host that the client asked for, rather than its own.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub pass_host: bool,
    /// Says `Via` to the upstream (RFC 9110, section 7.6.3).
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub via: bool,
    /// Targets may be at private and loopback addresses.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub allow_private: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// Idle connections kept for each target and core.
    #[serde(default = "Upstream::usual_keep_alive")]
    pub keep_alive: usize,
    /// How long they are kept, and less where the upstream says so (`Keep-Alive: timeout=5`).
    #[serde(default = "Upstream::usual_keep_alive_ms")]
    pub keep_alive_ms: u64,
    /// How often names are resolved again.
    #[serde(default = "Upstream::usual_dns_refresh_ms")]
    pub dns_refresh_ms: u64,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    #[serde(default)]
    pub outliers: OutlierEjection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

impl Upstream {
    fn usual_keep_alive() -> usize {
        64
    }
    fn usual_keep_alive_ms() -> u64 {
        30_000
    }
    fn usual_dns_refresh_ms() -> u64 {
        30_000
    }
}

/// One base URL. Its path is put before the request's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "a URL, or a table { url = \"...\", weight = 1 }")]
pub enum UpstreamTarget {
    Url(String),
    Weighted(WeightedUrl),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedUrl {
    pub url: String,
    /// 1 to 1000.
    pub weight: u32,
}

impl UpstreamTarget {
    pub fn url(&self) -> &str {
        match self {
            Self::Url(url) => url,
            Self::Weighted(target) => &target.url,
        }
    }

    pub fn weight(&self) -> u32 {
        match self {
            Self::Url(_) => 1,
            Self::Weighted(target) => target.weight,
        }
    }
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    #[default]
    RoundRobin,
    /// The less busy of two that are picked at random.
    LeastConnections,
    /// The same key goes to the same target for as long as that is there.
    Hash,
}

/// What consistent hashing goes by.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(with = "String")]
pub enum HashKey {
    Ip,
    Path,
    Header(String),
    Cookie(String),
    Query(String),
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

impl Serialize for HashKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let named = text.split_once(':').filter(|(_, name)| !name.is_empty());
        match (text.as_str(), named) {
            ("ip", _) => Ok(Self::Ip),
            ("path", _) => Ok(Self::Path),
            (_, Some(("header", name))) => Ok(Self::Header(name.to_ascii_lowercase())),
            (_, Some(("cookie", name))) => Ok(Self::Cookie(name.to_owned())),
            (_, Some(("query", name))) => Ok(Self::Query(name.to_owned())),
            _ => Err(serde::de::Error::custom(format!(
                "{text:?} is nothing to hash on; write \"ip\", \"path\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\""
            ))),
        }
    }
}

/// What is spoken to the targets.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 over `http`; what ALPN finds over `https`.
    #[default]
    Auto,
    Http1,
    /// Over `http` without asking first (RFC 9113, section 3.3): for gRPC.
    Http2,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name that the certificate must have; the URL's host without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Take any certificate. For development.
    #[serde(skip_serializing_if = "super::is_false")]
    pub insecure: bool,
}

/// How long each phase may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTimeouts {
    /// Connecting, TLS included.
    pub connect_ms: u64,
    /// Of one try, from the last that was sent of the request to the head of the response.
    pub first_byte_ms: u64,
    /// Without a byte in either direction, once the head is there. Also of WebSockets.
    pub idle_ms: u64,
    /// Of all tries together, until the head of the response is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 60_000, idle_ms: 300_000, total_ms: None }
    }
}

/// Trying again, at another target where there is one. Only what is safe: requests of
/// which nothing was sent, and idempotent ones whose body can be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Beside the first one; 0 turns it off.
    pub attempts: u32,
    /// Answers after which an idempotent request is tried again.
    pub statuses: Vec<u16>,
    /// Retries may be this part of all requests of the last ten seconds, but always ten.
    pub budget_percent: u32,
    /// Before the first retry; doubled each time, with jitter.
    pub backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, statuses: vec![502, 503, 504], budget_percent: 20, backoff_ms: 10 }
    }
}

/// Asking the targets whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    pub path: String,
    #[serde(default = "HealthCheck::usual_interval_ms")]
    pub interval_ms: u64,
    #[serde(default = "HealthCheck::usual_timeout_ms")]
    pub timeout_ms: u64,
    /// Good answers in a row until a target is used again.
    #[serde(default = "HealthCheck::usual_healthy_after")]
    pub healthy_after: u32,
    /// Bad ones in a row until it is no longer used.
    #[serde(default = "HealthCheck::usual_unhealthy_after")]
    pub unhealthy_after: u32,
}

impl HealthCheck {
    fn usual_interval_ms() -> u64 {
        5_000
    }
    fn usual_timeout_ms() -> u64 {
        1_000
    }
    fn usual_healthy_after() -> u32 {
        2
    }
    fn usual_unhealthy_after() -> u32 {
        3
    }
}

/// Taking out targets whose answers show that they are not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierEjection {
    /// Failures in a row (no connection, no answer, 5xx) until a target is out; 0 turns it
    /// off.
    pub consecutive_failures: u32,
    /// How long it is out the first time; longer each time that it happens again.
    pub ejection_ms: u64,
    /// Never more than this part of the targets.
    pub max_ejected_percent: u32,
}

impl Default for OutlierEjection {
    fn default() -> Self {
        Self { consecutive_failures: 5, ejection_ms: 10_000, max_ejected_percent: 50 }
    }
}

/// Giving an upstream rest when most of what it is asked fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Requests at once to the whole upstream; more are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Opens when so many of the last window's requests failed.
    pub failure_percent: u32,
    /// Fewer requests than this in a window decide nothing.
    pub min_requests: u32,
    pub window_ms: u64,
    /// After this, one request is let through to see.
    pub open_ms: u64,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            max_requests: None,
            failure_percent: 50,
            min_requests: 20,
            window_ms: 10_000,
            open_ms: 5_000,
        }
    }
}

impl Upstream {
    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        if self.targets.is_empty() {
            return Err(format!("{at}.targets is empty; name at least one base URL"));
        }
        for target in &self.targets {
            let url = target.url();
            let uri = url.parse::<http::Uri>().ok();
            let good = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(super::check::is_host_and_port)
                    && super::path::check_escapes(uri.path()).is_ok()
                    && uri.query().is_none()
                    && !url.contains('#')
            });
            if !good {
                return Err(format!(
                    "{at}.targets: {url:?} is not a base URL such as \"http://10.0.0.1:8080\""
                ));
            }
            if !(1..=1_000).contains(&target.weight()) {
                return Err(format!("{at}.targets: the weight of {url} must be from 1 to 1000"));
            }
        }
        let on = format!("{at}.hash_on");
        match &self.hash_on {
            Some(HashKey::Header(name)) => super::check::header_name(&on, name)?,
            Some(HashKey::Cookie(name)) => super::check::cookie_name(&on, name)?,
            Some(HashKey::Ip | HashKey::Path | HashKey::Query(_)) | None => {}
        }
        match (self.balance, &self.hash_on) {
            (Balance::Hash, None) => Err(format!(
                "{at}.balance is \"hash\", but hash_on is missing; write hash_on = \"ip\" or \"header:NAME\""
            )),
            (Balance::RoundRobin | Balance::LeastConnections, Some(_)) => {
                Err(format!("{at}.hash_on needs balance = \"hash\""))
            }
            _ => self.check_numbers(at),
        }
    }

    fn check_numbers(&self, at: &str) -> Result<(), String> {
        let times = &self.timeouts;
        let mut positive = vec![
            ("timeouts.connect_ms", times.connect_ms),
            ("timeouts.first_byte_ms", times.first_byte_ms),
            ("timeouts.idle_ms", times.idle_ms),
            ("keep_alive_ms", self.keep_alive_ms),
            ("dns_refresh_ms", self.dns_refresh_ms),
            ("timeouts.total_ms", times.total_ms.unwrap_or(u64::MAX)),
        ];
        if let Some(health) = &self.health {
            let target = http::uri::PathAndQuery::try_from(health.path.as_str());
            let written = health.path.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            if !health.path.starts_with('/')
                || !written
                || health.path.contains('#')
                || target.is_err()
            {
                return Err(format!(
                    "{at}.health.path = {:?} is not a path, such as \"/healthz\", percent-encoded where needed",
                    health.path
                ));
            }
            positive.extend([
                ("health.interval_ms", health.interval_ms),
                ("health.timeout_ms", health.timeout_ms),
                ("health.healthy_after", health.healthy_after.into()),
                ("health.unhealthy_after", health.unhealthy_after.into()),
            ]);
        }
        if let Some(breaker) = &self.circuit_breaker {
            positive.extend([
                ("circuit_breaker.window_ms", breaker.window_ms),
                ("circuit_breaker.open_ms", breaker.open_ms),
                ("circuit_breaker.failure_percent", breaker.failure_percent.into()),
            ]);
        }
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{at}.{key} must be at least 1")),
            None => Ok(()),
        }
    }
}
