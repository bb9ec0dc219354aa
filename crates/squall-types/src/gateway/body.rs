use serde::{Deserialize, Serialize};

/// Compression of responses on their way out (RFC 9110, section 8.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// In the order in which they are preferred where a client likes several equally.
    pub algorithms: Vec<CompressionAlgorithm>,
    /// Shorter bodies are sent as they are.
    pub min_bytes: u64,
    /// Media types that are compressed: `text/html`, `text/*`, or a suffix such as `*+json`.
    pub types: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompressionAlgorithm {
    Zstd,
    Br,
    Gzip,
}

impl Default for Compression {
    fn default() -> Self {
        use CompressionAlgorithm::{Br, Gzip, Zstd};
        let types = [
            "text/*",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/wasm",
            "application/x-ndjson",
            "application/manifest+json",
            "image/svg+xml",
            "*+json",
            "*+xml",
        ];
        Self {
            algorithms: vec![Zstd, Br, Gzip],
            min_bytes: 1_024,
            types: types.map(str::to_owned).to_vec(),
        }
    }
}

/// Which other origins' pages may read responses
/// (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `https://app.example.com`, `https://*.example.com`, or `*` for every one.
    pub origins: Vec<String>,
    /// Methods beside the simple ones (GET, HEAD, POST).
    #[serde(default = "Cors::usual_methods")]
    pub methods: Vec<String>,
    /// Request headers that a page may set; `*` for those that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Response headers that a page may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Cookies and authorization may come along. Not with the origin `*`.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight.
    #[serde(default = "Cors::usual_max_age_s")]
    pub max_age_s: u32,
}

impl Cors {
    fn usual_methods() -> Vec<String> {
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec()
    }

    fn usual_max_age_s() -> u32 {
        600
    }

    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        if self.origins.is_empty() {
            return Err(format!("{at}.origins is empty; name an origin, or leave cors out"));
        }
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            return Err(format!(
                "{at} allows credentials to the origin *, which browsers refuse and which would give every page the caller's rights; name the origins"
            ));
        }
        for origin in &self.origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let good = host.is_some_and(|host| {
                !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) && host.is_ascii()
            });
            if origin != "*" && !good {
                return Err(format!(
                    "{at}.origins: {origin:?} is not an origin; write scheme and host such as \"https://app.example.com\""
                ));
            }
        }
        for method in &self.methods {
            super::check::method(&format!("{at}.methods"), method)?;
        }
        for name in self.headers.iter().chain(&self.expose).filter(|name| *name != "*") {
            super::check::header_name(at, name)?;
        }
        Ok(())
    }
}
