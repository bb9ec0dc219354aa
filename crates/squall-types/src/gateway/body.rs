use serde::{Deserialize, Serialize};

/// Compression of responses on their way out (RFC 9110, section 8.4).
///
/// A route that must not have the app's compression sets `algorithms = []`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// In the order in which they are preferred where a client likes several equally.
    pub algorithms: Vec<CompressionAlgorithm>,
    /// Shorter bodies are sent as they are, unless the client refuses that. The length of
    /// a streamed body is not known: it is compressed.
    pub min_bytes: u64,
    /// Media types that are compressed: `text/html`, `text/*`, or a suffix such as `*+json`.
    /// Never `text/event-stream`.
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

impl Compression {
    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        for (index, algorithm) in self.algorithms.iter().enumerate() {
            if self.algorithms[..index].contains(algorithm) {
                return Err(format!("{at}.algorithms names one twice; the first place counts"));
            }
        }
        let token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| {
                    byte.is_ascii_lowercase()
                        || byte.is_ascii_digit()
                        || b"!#$&-^_.+".contains(&byte)
                })
        };
        for name in &self.types {
            let good = match (name.strip_prefix("*+"), name.split_once('/')) {
                (Some(suffix), _) => token(suffix),
                (None, Some((kind, subtype))) => token(kind) && (subtype == "*" || token(subtype)),
                (None, None) => false,
            };
            if !good {
                return Err(format!(
                    "{at}.types: {name:?} is not a media type in lower case; write \"text/html\", \"text/*\" or \"*+json\""
                ));
            }
        }
        Ok(())
    }
}

/// Which other origins' pages may read responses
/// (<https://fetch.spec.whatwg.org/#http-cors-protocol>). The gateway answers preflights
/// and writes the headers of all responses; what a target says about CORS is replaced.
///
/// A route that must not have the app's CORS sets `origins = []`: its target decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `https://app.example.com`, `https://*.example.com` for all names below it, or `*`
    /// for every one.
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
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            return Err(format!(
                "{at} allows credentials to the origin *, which browsers refuse and which would give every page the caller's rights; name the origins"
            ));
        }
        if self.credentials && self.expose.iter().any(|name| name == "*") {
            return Err(format!(
                "{at}.expose has *, which browsers take for a header of that name when credentials come along; name the headers"
            ));
        }
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            check_origin(origin).map_err(|why| format!("{at}.origins: {origin:?} {why}"))?;
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

/// An origin as browsers write it (RFC 6454, section 6.2), with `*.` for any name below.
fn check_origin(origin: &str) -> Result<(), &'static str> {
    const SHAPE: &str = "is not an origin; write scheme and host in lower case, such as \"https://app.example.com\"";
    if origin == "null" {
        return Err(
            "is the origin of sandboxed pages and local files of anybody; it can not be allowed",
        );
    }
    let (scheme, authority) = origin.split_once("://").ok_or(SHAPE)?;
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| letters(byte) || b"+-.".contains(&byte));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let usual = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    if usual {
        return Err("names the usual port, which browsers leave out; leave it out, too");
    }
    let good_port = port.is_none_or(|port| !port.starts_with('0') && port.parse::<u16>().is_ok());
    let name = host.strip_prefix("*.").unwrap_or(host);
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| letters(byte) || b"-_".contains(&byte))
        }),
    };
    if good_scheme && good_port && good_host { Ok(()) } else { Err(SHAPE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &str, expected: Option<&str>) {
        let cors: Cors = toml::from_str(settings).unwrap();
        let found = cors.check("policy.cors").err();
        match (&found, expected) {
            (None, None) => {}
            (Some(why), Some(part)) => assert!(why.contains(part), "{settings}: {why}"),
            _ => panic!("{settings}: {found:?}"),
        }
    }

    #[test]
    fn origins_are_those_that_browsers_write() {
        for good in [
            "*",
            "https://app.example.com",
            "http://localhost:3000",
            "https://*.example.com:8443",
            "http://[::1]:8080",
            "http://127.0.0.1",
            "capacitor://localhost",
        ] {
            check(&format!("origins = [{good:?}]"), None);
        }
        for (bad, expected) in [
            ("null", "sandboxed pages"),
            ("app.example.com", "scheme and host"),
            ("https://App.example.com", "lower case"),
            ("https://app.example.com/", "not an origin"),
            ("https://user@app.example.com", "not an origin"),
            ("https://*", "not an origin"),
            ("https://a*.example.com", "not an origin"),
            ("https://*.*.example.com", "not an origin"),
            ("https://app.example.com:443", "usual port"),
            ("http://app.example.com:80", "usual port"),
            ("https://app.example.com:0", "not an origin"),
            ("https://app.example.com:99999", "not an origin"),
            ("http://[::1", "not an origin"),
            ("", "not an origin"),
        ] {
            check(&format!("origins = [{bad:?}]"), Some(expected));
        }
    }

    #[test]
    fn credentials_are_for_named_origins_and_headers() {
        check("origins = [\"*\"]\ncredentials = true", Some("rights"));
        check("origins = [\"https://a.b\"]\nexpose = [\"*\"]\ncredentials = true", Some("expose"));
        check("origins = [\"https://a.b\"]\nexpose = [\"x-a\"]\ncredentials = true", None);
        check("origins = []", None);
        check("origins = [\"*\"]\nheaders = [\"a b\"]", Some("a b"));
        check("origins = [\"*\"]\nmethods = [\"put\"]", Some("put"));
    }

    #[test]
    fn media_types_and_algorithms_are_checked() {
        let check = |settings: &str| {
            toml::from_str::<Compression>(settings).unwrap().check("policy.compression")
        };
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("algorithms = []"), Ok(()));
        assert_eq!(check("types = [\"text/*\", \"*+json\", \"image/svg+xml\"]"), Ok(()));
        for bad in ["text", "*", "*/*", "Text/html", "text/html; charset=utf-8", "*+", "/html"] {
            assert!(check(&format!("types = [{bad:?}]")).unwrap_err().contains(bad));
        }
        assert!(check("algorithms = [\"br\", \"br\"]").unwrap_err().contains("twice"));
        assert!(toml::from_str::<Compression>("algorithms = [\"deflate\"]").is_err());
    }
}
