use serde::{Deserialize, Serialize};

/// Keeps responses near their callers, as RFC 9111 allows. An empty table turns it on:
/// what is stored, and for how long, is then decided by the responses.
///
/// A route that must not have the app's cache sets `enabled = false`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    pub enabled: bool,
    /// How long responses are fresh that do not say it themselves, when their status may be
    /// stored by default (200, 203, 300, 301, 308). They are not stored without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ttl_s: Option<u32>,
    /// The same for the failures among those statuses (404, 405, 410, 414, 501).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_ttl_s: Option<u32>,
    /// Of responses that do not say how long they are fresh but have `Last-Modified`: a
    /// tenth of their age then, at most a day (RFC 9111, section 4.2.2).
    pub heuristic: bool,
    /// Nothing is fresh for longer, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl_s: Option<u32>,
    /// For responses that do not say it themselves (RFC 5861).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate_s: Option<u32>,
    /// For responses that do not say it themselves (RFC 5861).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_if_error_s: Option<u32>,
    /// What becomes of responses with `Set-Cookie`.
    pub set_cookie: SetCookie,
    /// Whether `Cache-Control` of requests counts. Without it nobody can make the cache ask
    /// its origin.
    pub request_directives: bool,
    /// What responses are found by, besides scheme, host, path and query.
    #[serde(skip_serializing_if = "CacheKey::is_default")]
    pub key: CacheKey,
    /// Larger bodies pass without being stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_max_bytes: Option<u64>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            default_ttl_s: None,
            negative_ttl_s: None,
            heuristic: false,
            max_ttl_s: None,
            stale_while_revalidate_s: None,
            stale_if_error_s: None,
            set_cookie: SetCookie::default(),
            request_directives: true,
            key: CacheKey::default(),
            object_max_bytes: None,
        }
    }
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SetCookie {
    /// They are not stored.
    #[default]
    Bypass,
    /// They are stored without it; only the caller who made the origin answer gets it.
    Strip,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheKey {
    /// Only these query parameters count. All of them without it, none with an empty list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_only: Option<Vec<String>>,
    /// These query parameters do not count, such as those of advertising: `utm_*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_except: Vec<String>,
    /// Parameters in another order are the same; those of one name keep theirs.
    #[serde(skip_serializing_if = "super::is_false")]
    pub sort_query: bool,
    /// Request headers whose values count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Cookies whose values count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// For whom a response is kept. Without it, those of functions and assets are for their
    /// revision, so that a deployment never answers with what the one before said, and those
    /// of upstreams for the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<CacheScope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    Revision,
    App,
}

impl CacheKey {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Names of parameters, headers and cookies in a key.
const NAMES_MAX: usize = 64;

impl Cache {
    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        let key = &self.key;
        if key.query_only.is_some() && !key.query_except.is_empty() {
            return Err(format!(
                "{at}.key has both query_only and query_except; the first leaves nothing for the second to remove"
            ));
        }
        let only = key.query_only.as_deref().unwrap_or_default();
        let lists = [
            ("query_only", only),
            ("query_except", &key.query_except),
            ("headers", &key.headers),
            ("cookies", &key.cookies),
        ];
        for (name, list) in lists {
            if list.len() > NAMES_MAX {
                return Err(format!("{at}.key.{name} has more than {NAMES_MAX} names"));
            }
            for (index, entry) in list.iter().enumerate() {
                if entry.is_empty() {
                    return Err(format!("{at}.key.{name} has an empty name"));
                }
                if list[..index].contains(entry) {
                    return Err(format!("{at}.key.{name} names {entry:?} twice"));
                }
            }
        }
        for parameter in only.iter().chain(&key.query_except) {
            if parameter.trim_end_matches('*').contains('*') || parameter.ends_with("**") {
                return Err(format!(
                    "{at}.key: {parameter:?} has a * that is not its end; write \"utm_*\" for all that begin so"
                ));
            }
        }
        for header in &key.headers {
            super::check::header_name(&format!("{at}.key.headers"), header)?;
            let lower = header.to_ascii_lowercase();
            let why = match lower.as_str() {
                "cookie" => "; name the cookies in key.cookies",
                "host" => "; it always is",
                "authorization" | "range" | "cache-control" => "",
                "forwarded" | "x-request-id" | "traceparent" | "x-real-ip" | "x-client-ip"
                | "true-client-ip" => "; the gateway takes away what callers say there",
                name if name.starts_with("x-forwarded-") => {
                    "; the gateway takes away what callers say there"
                }
                _ => continue,
            };
            return Err(format!("{at}.key.headers: {header:?} can not be part of a key{why}"));
        }
        if self.object_max_bytes == Some(0) {
            return Err(format!("{at}.object_max_bytes is 0; write enabled = false"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &str, expected: Option<&str>) {
        let cache: Cache = toml::from_str(settings).unwrap();
        let found = cache.check("policy.cache").err();
        match (&found, expected) {
            (None, None) => {}
            (Some(why), Some(part)) => assert!(why.contains(part), "{settings}: {why}"),
            _ => panic!("{settings}: {found:?}"),
        }
    }

    #[test]
    fn keys_are_checked() {
        check("", None);
        check("key = { query_only = [] }", None);
        check("key = { query_except = ['utm_*', 'gclid'], headers = ['accept-language'] }", None);
        check("key = { query_only = ['a'], query_except = ['b'] }", Some("both"));
        check("key = { query_except = ['*_x'] }", Some("not its end"));
        check("key = { cookies = ['a', 'a'] }", Some("twice"));
        check("key = { headers = ['Cookie'] }", Some("key.cookies"));
        check("key = { headers = ['a b'] }", Some("a b"));
        check("key = { headers = ['X-Forwarded-For'] }", Some("takes away what callers say"));
        check("key = { headers = ['x-squall-client'] }", None);
        check("object_max_bytes = 0", Some("enabled = false"));
    }
}
