//! What a route changes of a request and of its response: paths, hosts, headers, query.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use squall_types::gateway::{HeaderChanges, QueryChanges, Redirect, Rewrite};

use crate::routing::Pattern;
use crate::routing::condition::decode;

/// What may stand as it is in a query's names and values.
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

/// Changes of headers, parsed.
#[derive(Default)]
pub(crate) struct HeaderPlan {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderPlan {
    pub(crate) fn new(changes: &HeaderChanges) -> Self {
        let parse = |name: &String, value: &String| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        Self {
            remove: changes.remove.iter().filter_map(|name| name.parse().ok()).collect(),
            set: changes.set.iter().filter_map(|(name, value)| parse(name, value)).collect(),
            add: changes.add.iter().filter_map(|(name, value)| parse(name, value)).collect(),
        }
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// Changes of the query. What is not named stays byte for byte.
#[derive(Default)]
pub(crate) struct QueryPlan {
    /// Names that go, those of `set` among them.
    drop: Vec<Box<str>>,
    /// Encoded already: `a=1&b=2`.
    append: Box<str>,
}

impl QueryPlan {
    pub(crate) fn new(changes: &QueryChanges) -> Self {
        let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        let pairs = changes.set.iter().chain(&changes.add);
        let append: Vec<String> =
            pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let names = changes.remove.iter().chain(changes.set.keys());
        Self {
            drop: names.map(|name| name.as_str().into()).collect(),
            append: append.join("&").into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.append.is_empty()
    }

    fn apply(&self, query: Option<&str>) -> Option<String> {
        let kept = query.unwrap_or_default().split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && !self.drop.iter().any(|gone| **gone == *decode(name))
        });
        let appended = (!self.append.is_empty()).then_some(&*self.append);
        let pairs: Vec<&str> = kept.chain(appended).collect();
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }
}

/// A path with places for parameters.
struct Template {
    /// Text, and the name of what follows it.
    parts: Vec<(Box<str>, Option<Box<str>>)>,
}

impl Template {
    fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            parts.push((before.into(), Some(name.into())));
            rest = after;
        }
        parts.push((rest.into(), None));
        Self { parts }
    }

    /// Parameters come from a normalised path: they are encoded already.
    fn fill(&self, by: &Pattern, path: &str) -> String {
        let parameters = by.parameters(path);
        let mut filled = String::new();
        for (text, name) in &self.parts {
            filled.push_str(text);
            let value = name.as_ref().and_then(|name| {
                parameters.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
            });
            filled.push_str(value.unwrap_or_default());
        }
        filled
    }
}

/// A new path: as a whole, or in place of the matched prefix.
enum PathChange {
    Whole(Template),
    Prefix(Box<str>),
}

impl PathChange {
    fn new(path: Option<&String>, prefix: Option<&String>) -> Option<Self> {
        let whole = path.map(|path| Self::Whole(Template::new(path)));
        whole.or_else(|| prefix.map(|prefix| Self::Prefix(prefix.trim_end_matches('/').into())))
    }

    fn apply(&self, by: &Pattern, path: &str) -> String {
        match self {
            Self::Whole(template) => template.fill(by, path),
            Self::Prefix(prefix) => match by.behind_prefix(path) {
                // `/old` becomes `/new`, and only a root keeps its slash.
                "" if !prefix.is_empty() && !path.ends_with('/') => prefix.to_string(),
                rest => format!("{prefix}/{rest}"),
            },
        }
    }
}

/// What a target sees of the URL.
pub(crate) struct RewritePlan {
    path: Option<PathChange>,
    pub(crate) host: Option<Box<str>>,
}

impl RewritePlan {
    pub(crate) fn new(rewrite: &Rewrite) -> Self {
        Self {
            path: PathChange::new(rewrite.path.as_ref(), rewrite.prefix.as_ref()),
            host: rewrite.host.as_deref().map(|host| host.to_ascii_lowercase().into()),
        }
    }
}

/// The path and query that a target sees; `None` when nothing changes.
pub(crate) fn rewrite(
    plan: Option<&RewritePlan>,
    query: &QueryPlan,
    by: &Pattern,
    target: &PathAndQuery,
) -> Option<PathAndQuery> {
    let path = plan.and_then(|plan| plan.path.as_ref());
    if path.is_none() && query.is_empty() {
        return None;
    }
    let new_path = path.map(|change| change.apply(by, target.path()));
    let path = new_path.as_deref().unwrap_or(target.path());
    let text = match if query.is_empty() {
        target.query().map(str::to_owned)
    } else {
        query.apply(target.query())
    } {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // Both came from a checked target and a checked manifest.
    PathAndQuery::try_from(text).ok()
}

/// Where a caller is sent.
pub(crate) struct Redirection {
    pub(crate) status: http::StatusCode,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<PathChange>,
}

impl Redirection {
    pub(crate) fn new(redirect: &Redirect) -> Self {
        Self {
            status: http::StatusCode::from_u16(redirect.status).unwrap_or(http::StatusCode::FOUND),
            scheme: redirect.scheme.as_deref().map(Into::into),
            host: redirect.host.as_deref().map(Into::into),
            port: redirect.port,
            path: PathChange::new(redirect.path.as_ref(), redirect.prefix.as_ref()),
        }
    }

    /// The URL, where the request was for `authority` and came by `scheme`; `https_port` is where
    /// the node is found with https.
    pub(crate) fn location(
        &self,
        scheme: &str,
        authority: &str,
        https_port: Option<u16>,
        by: &Pattern,
        target: &PathAndQuery,
    ) -> String {
        let (own_host, own_port) = split_port(authority);
        let new_scheme = self.scheme.as_deref().unwrap_or(scheme);
        let (host, host_port) = self.host.as_deref().map_or((own_host, None), split_port);
        // The request's port belongs to its own scheme and host.
        let kept = own_port.filter(|_| new_scheme == scheme && self.host.is_none());
        let is_ours = self.host.is_none() && new_scheme != scheme && new_scheme == "https";
        let own = self.port.or(https_port.filter(|_| is_ours));
        let port = match (own, host_port.or(kept), new_scheme) {
            (Some(80), _, "http") | (Some(443), _, "https") | (None, None, _) => String::new(),
            (Some(port), ..) => format!(":{port}"),
            (None, Some(port), _) => format!(":{port}"),
        };
        let path = self.path.as_ref().map(|change| change.apply(by, target.path()));
        let path = path.as_deref().unwrap_or(target.path());
        let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
        format!("{new_scheme}://{host}{port}{path}{query}")
    }
}

/// `host` and `port` of `host:port`.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests;
