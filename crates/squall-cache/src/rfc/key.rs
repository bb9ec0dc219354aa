//! What responses are found by.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName};
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;
use squall_types::gateway::CacheKey;

/// A route's rules for keys, compiled.
#[derive(Debug, Clone, Default)]
pub struct KeyPlan {
    only: Option<Vec<Pattern>>,
    except: Vec<Pattern>,
    sorts: bool,
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
}

/// A name, or the beginning of names.
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    begins: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(start) => Self { text: start.to_owned(), begins: true },
            None => Self { text: text.to_owned(), begins: false },
        }
    }

    fn matches(&self, name: &str) -> bool {
        if self.begins { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl KeyPlan {
    pub fn compile(rules: &CacheKey) -> Self {
        let patterns = |names: &[String]| names.iter().map(|name| Pattern::new(name)).collect();
        Self {
            only: rules.query_only.as_deref().map(patterns),
            except: patterns(&rules.query_except),
            sorts: rules.sort_query,
            headers: rules
                .headers
                .iter()
                .filter_map(|name| HeaderName::try_from(name.as_str()).ok())
                .collect(),
            cookies: rules.cookies.clone(),
        }
    }

    /// Scheme, host in lower case, port where it is not the usual one, path, and what the
    /// rules leave of the query.
    pub fn url(&self, https: bool, authority: &str, path_and_query: &PathAndQuery) -> String {
        let (scheme, usual_port) = if https { ("https", ":443") } else { ("http", ":80") };
        let host = authority.strip_suffix(usual_port).unwrap_or(authority);
        let path = path_and_query.as_str();
        let mut url = String::with_capacity(scheme.len() + 3 + host.len() + path.len());
        url.push_str(scheme);
        url.push_str("://");
        let start = url.len();
        url.push_str(host);
        url[start..].make_ascii_lowercase();
        match self.query(path_and_query) {
            None => url.push_str(path),
            Some(query) => {
                url.push_str(path_and_query.path());
                if !query.is_empty() {
                    url.push('?');
                    url.push_str(&query);
                }
            }
        }
        url
    }

    /// The query that the rules leave, in its order unless that does not count; none where
    /// it stays as it is. What does not count for the key must not reach the origin either:
    /// the response could be made of it, and would be everybody's.
    pub fn query(&self, path_and_query: &PathAndQuery) -> Option<String> {
        let query = path_and_query.query()?;
        if self.only.is_none() && self.except.is_empty() && !self.sorts {
            return None;
        }
        let counts = |pair: &&str| {
            // Some origins part parameters there as well: such a pair is more than one.
            if pair.contains(';') {
                return true;
            }
            let name = pair.split('=').next().unwrap_or_default();
            let name = decoded(name);
            let among =
                |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&name));
            match &self.only {
                Some(only) => among(only),
                None => !among(&self.except),
            }
        };
        let mut pairs: Vec<&str> = query.split('&').filter(counts).collect();
        if self.sorts {
            let name =
                |pair: &&str| decoded(pair.split('=').next().unwrap_or_default()).into_owned();
            // Stable: those of one name keep their order.
            pairs.sort_by_key(name);
        }
        Some(pairs.join("&"))
    }

    /// What the rules add of headers and cookies, each with its length: no value can be
    /// taken for another name.
    pub fn extra(&self, headers: &HeaderMap) -> String {
        let mut extra = String::new();
        for name in &self.headers {
            for line in headers.get_all(name) {
                add(&mut extra, name.as_str(), &line.as_bytes().escape_ascii().to_string());
            }
        }
        for wanted in &self.cookies {
            let lines = headers.get_all(header::COOKIE).into_iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            for pair in lines.flat_map(|line| line.split(';')) {
                if let Some((name, value)) = pair.trim().split_once('=')
                    && name == wanted
                {
                    add(&mut extra, &format!("cookie {name}"), value);
                }
            }
        }
        extra
    }
}

fn add(extra: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(extra, "{name}:{}:{value}", value.len());
}

/// As an origin reads a name: `%61` and `a` are the same parameter.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '+']) {
        return Cow::Borrowed(name);
    }
    let spaced = name.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// A whole URL in the form that keys have. # Errors
/// Says what is wrong with it.
pub fn normalised_url(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    let https = match uri.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => true,
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => false,
        _ => return Err(format!("{text:?} is not a URL; it begins with https:// or http://")),
    };
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err(format!(
            "{text:?} does not have a host, or has more than that before its path"
        ));
    }
    let slash = PathAndQuery::from_static("/");
    let path = uri.path_and_query().unwrap_or(&slash);
    Ok(KeyPlan::default().url(https, authority, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: CacheKey, path: &str, expected: &str) {
        let url = KeyPlan::compile(&rules).url(true, "Example.com:443", &path.parse().unwrap());
        assert_eq!(url, format!("https://example.com{expected}"), "{path}");
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_query_is_what_the_rules_leave() {
        check(CacheKey::default(), "/a?b=1&a=2", "/a?b=1&a=2");
        check(CacheKey::default(), "/a?", "/a?");
        let except = || CacheKey { query_except: names(&["utm_*", "id"]), ..CacheKey::default() };
        check(except(), "/a?utm_x=1&b=2&id=3", "/a?b=2");
        check(except(), "/a?utm_x=1", "/a");
        check(except(), "/a?idx=1", "/a?idx=1");
        let only = || CacheKey { query_only: Some(names(&["a"])), ..CacheKey::default() };
        check(only(), "/a?b=1&a=2", "/a?a=2");
        check(CacheKey { query_only: Some(vec![]), ..CacheKey::default() }, "/a?b=1", "/a");
        let sorted = CacheKey { sort_query: true, ..CacheKey::default() };
        check(sorted, "/a?b=1&a=3&a=2", "/a?a=3&a=2&b=1");
    }

    #[test]
    fn names_are_those_that_an_origin_reads() {
        let only = || CacheKey { query_only: Some(names(&["a"])), ..CacheKey::default() };
        check(only(), "/?%61=evil", "/?%61=evil");
        check(only(), "/?b=1;a=evil", "/?b=1;a=evil");
        let except = CacheKey { query_except: names(&["id"]), ..CacheKey::default() };
        check(except, "/?id=1;a=evil", "/?id=1;a=evil");
    }

    #[test]
    fn ports_that_are_not_usual_are_told_apart() {
        let plan = KeyPlan::default();
        let path = PathAndQuery::from_static("/");
        assert_eq!(plan.url(false, "a:443", &path), "http://a:443/");
        assert_eq!(plan.url(false, "a:80", &path), "http://a/");
        assert_eq!(plan.url(true, "[::1]:443", &path), "https://[::1]/");
    }

    #[test]
    fn values_can_not_be_taken_for_names() {
        let rules = CacheKey {
            headers: names(&["x-a", "x-b"]),
            cookies: names(&["c"]),
            ..CacheKey::default()
        };
        let plan = KeyPlan::compile(&rules);
        let headers = |lines: &[(&'static str, &'static str)]| -> HeaderMap {
            lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect()
        };
        let one = plan.extra(&headers(&[("x-a", "1"), ("cookie", "d=0; c=2")]));
        assert_eq!(one, "x-a:1:1\ncookie c:1:2\n");
        assert_eq!(plan.extra(&headers(&[("x-c", "1")])), "");
        assert_ne!(
            plan.extra(&headers(&[("x-a", "1"), ("x-b", "2")])),
            plan.extra(&headers(&[("x-a", "1,x-b:1:2")])),
        );
    }

    #[test]
    fn urls_are_whole() {
        assert_eq!(normalised_url("HTTPS://A.example").unwrap(), "https://a.example/");
        assert_eq!(normalised_url("http://a:80/x?y").unwrap(), "http://a/x?y");
        for wrong in ["/a", "a.example/x", "ftp://a/", "http://u@a/", "http:///x"] {
            assert!(normalised_url(wrong).is_err(), "{wrong}");
        }
    }
}
