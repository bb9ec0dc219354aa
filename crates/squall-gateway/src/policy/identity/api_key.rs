//! Keys of an app's API clients: found by their public part, proved by the hash of the
//! whole, compared in constant time.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use squall_types::clients::{ApiClient, ApiKeyText, Clients};
use squall_types::gateway::ApiKeySource;
use subtle::ConstantTimeEq as _;

use super::KeyPrefix;

pub(super) struct ApiKeys {
    header: HeaderName,
    query: Option<String>,
}

impl ApiKeys {
    /// `None` for a header that can not exist, which the manifest's check refuses.
    pub(super) fn new(settings: &ApiKeySource) -> Option<Self> {
        let header = HeaderName::try_from(&settings.header).ok()?;
        Some(Self { header, query: settings.query.clone() })
    }

    pub(super) fn challenge(&self) -> String {
        format!("ApiKey header=\"{}\"", self.header)
    }

    /// The key that a request brings, if any.
    ///
    /// # Errors
    /// There are several, and nobody could tell which one counts.
    pub(super) fn find<'a>(
        &self,
        headers: &'a HeaderMap,
        target: &'a PathAndQuery,
    ) -> Result<Option<Cow<'a, str>>, &'static str> {
        let in_headers = headers.get_all(&self.header).iter();
        let in_headers = in_headers.map(|value| Cow::from(value.to_str().unwrap_or_default()));
        let in_query = self.query.iter().flat_map(|name| {
            let named = parameters(target).filter(move |(found, _)| decoded(found) == *name);
            named.map(|(_, value)| decoded(value))
        });
        let mut found = in_headers.chain(in_query);
        let first = found.next();
        if found.next().is_some() {
            return Err("there is more than one API key");
        }
        Ok(first)
    }

    /// Removes the key, so that it goes no further than here.
    pub(super) fn remove(&self, headers: &mut HeaderMap, target: &mut PathAndQuery) {
        headers.remove(&self.header);
        let Some(name) = &self.query else { return };
        let Some(query) = target.query() else { return };
        let is_key = |pair: &&str| decoded(split(pair).0) == *name;
        if !query.split('&').any(|pair| is_key(&pair)) {
            return;
        }
        let kept = query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&");
        let path = target.path();
        let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
        *target = PathAndQuery::try_from(text).expect("parts of a checked target");
    }
}

/// The client of a key, and the part of the key that may be told.
///
/// # Errors
/// Why it is not let in, in words for its bearer: what is said about a key's state is said
/// to whoever has the whole key only.
pub(super) fn check(
    text: &str,
    clients: &Clients,
    now: u64,
) -> Result<(Arc<ApiClient>, KeyPrefix), &'static str> {
    const UNKNOWN: &str = "the API key is not known";
    let (prefix, hash) = ApiKeyText::parse(text).ok_or("the API key is malformed")?;
    let key = clients.keys.get(prefix);
    // A prefix that nobody has takes as long as one that somebody has.
    let expected = key.map_or([0; 32], |key| key.hash);
    let is_right = bool::from(expected.ct_eq(&hash));
    let key = key.filter(|_| is_right).ok_or(UNKNOWN)?;
    if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err("the API key has expired");
    }
    if key.client.disabled {
        return Err("the API client is disabled");
    }
    let prefix = prefix.as_bytes().try_into().map_err(|_| UNKNOWN)?;
    Ok((key.client.clone(), prefix))
}

fn parameters(target: &PathAndQuery) -> impl Iterator<Item = (&str, &str)> {
    target.query().unwrap_or_default().split('&').map(split)
}

fn split(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// A name that is written in another way is the same to whoever reads the query next.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned().into()
}

#[cfg(test)]
mod tests;
