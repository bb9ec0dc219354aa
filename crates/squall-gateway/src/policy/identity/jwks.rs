//! The keys of an issuer (RFC 7517): fetched when they are first needed, renewed by age
//! and when a token names one that is not there, kept while the issuer is down.
//!
//! Where they come from is configured. Nothing in a token changes that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use squall_types::Body;
use squall_types::gateway::{Jwt, JwtAlgorithm};
use squall_types::outbound::{Outbound, OutboundPolicy, OutboundTimeouts};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Counters;
use super::jwt::key::Key;
use super::jwt::strict_json;

/// How long keys are used without a look, when their issuer does not say.
const LIFETIME_USUAL: Duration = Duration::from_secs(10 * 60);
const LIFETIME_MIN: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long keys are used while their issuer can not be asked.
const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two fetches that unknown keys caused: callers choose the names of keys.
const UNKNOWN_KEY_FLOOR: Duration = Duration::from_secs(30);
/// Between two fetches when the last one failed; it doubles up to here.
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Discovery and keys together.
const FETCH_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 256 << 10;
const KEYS_MAX: usize = 100;

/// One state of an issuer's keys.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Differs from that of every earlier set of the same source with other keys.
    pub(super) generation: u64,
}

impl KeySet {
    /// The key of a token. A token that names none is served where there is no choice.
    pub(super) fn find(&self, id: Option<&str>, algorithm: JwtAlgorithm) -> Option<&Key> {
        let fits = |key: &&Key| key.fits(algorithm);
        match id {
            Some(id) => self.keys.iter().filter(fits).find(|key| key.id.as_deref() == Some(id)),
            None => {
                let mut fitting = self.keys.iter().filter(fits);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        }
    }
}

pub(super) struct Jwks {
    place: Place,
    /// Of whom the log speaks: `identity.NAME of APP`.
    label: String,
    allow_private: bool,
    outbound: Arc<dyn Outbound>,
    counters: Arc<Counters>,
    held: ArcSwapOption<Held>,
    flight: Mutex<Flight>,
    landed: watch::Sender<()>,
}

enum Place {
    Known(String),
    /// OpenID Connect Discovery 1.0, section 4.
    Discovered {
        issuer: String,
    },
}

struct Held {
    set: Arc<KeySet>,
    fetched: Instant,
    lifetime: Duration,
}

/// What is known about fetches; one is on its way at most.
#[derive(Default)]
struct Flight {
    is_on: bool,
    last: Option<Instant>,
    last_for_unknown_key: Option<Instant>,
    failures: u32,
}

/// There are no keys, and there will be none before so long.
pub(super) struct Unavailable {
    pub(super) retry_after_s: u32,
}

impl Jwks {
    pub(super) fn new(
        settings: &Jwt,
        label: String,
        outbound: Arc<dyn Outbound>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let place = match &settings.jwks_url {
            Some(url) => Place::Known(url.clone()),
            None => Place::Discovered { issuer: settings.issuer.clone() },
        };
        Arc::new(Self {
            place,
            label,
            allow_private: settings.allow_private,
            outbound,
            counters,
            held: ArcSwapOption::empty(),
            flight: Mutex::default(),
            landed: watch::Sender::new(()),
        })
    }

    /// The keys, unless there is something to wait for. Those that are due are renewed
    /// behind the requests that use them.
    pub(super) fn at_hand(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        let age = held.fetched.elapsed();
        if age >= held.lifetime {
            let last = self.flight().last;
            let is_idle = last.is_none_or(|last| last.elapsed() >= 2 * held.lifetime);
            if age >= STALE_MAX || is_idle {
                // Nobody asked for long: what was withdrawn meanwhile shall not be used.
                return None;
            }
            self.renew(Why::Due);
        }
        Some(held.set.clone())
    }

    /// The keys, after a fetch when they are not at hand.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<Arc<KeySet>, Unavailable> {
        if let Some(set) = self.at_hand() {
            return Ok(set);
        }
        if let Some(landing) = self.renew(Why::Due) {
            await_landing(landing).await;
        }
        let held = self.held.load_full().filter(|held| held.fetched.elapsed() < STALE_MAX);
        match held {
            Some(held) => Ok(held.set.clone()),
            None => {
                Err(Unavailable { retry_after_s: self.flight().retry_after().as_secs() as u32 })
            }
        }
    }

    /// The keys after a fetch, for a token whose key is not among those at hand. `None`
    /// when there was such a fetch just now.
    pub(super) async fn renewed(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        await_landing(self.renew(Why::UnknownKey)?).await;
        self.held.load().as_ref().map(|held| held.set.clone())
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a fetch, or joins the one that is on its way. `None` when it is too early.
    fn renew(self: &Arc<Self>, why: Why) -> Option<watch::Receiver<()>> {
        let mut flight = self.flight();
        if flight.is_on {
            return Some(self.landed.subscribe());
        }
        let now = Instant::now();
        let (last, pause) = match why {
            Why::Due => (flight.last, flight.retry_after()),
            Why::UnknownKey => (flight.last_for_unknown_key, UNKNOWN_KEY_FLOOR),
        };
        if last.is_some_and(|last| now.duration_since(last) < pause) {
            return None;
        }
        flight.is_on = true;
        flight.last = Some(now);
        if why == Why::UnknownKey {
            flight.last_for_unknown_key = Some(now);
        }
        let landing = self.landed.subscribe();
        drop(flight);
        // It goes on when the request that started it is given up: others wait, too.
        tokio::spawn(InFlight { jwks: self.clone(), succeeded: false }.fly());
        Some(landing)
    }

    async fn fetch_and_hold(&self) -> bool {
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch()).await;
        let took_too_long = |_| Err(format!("no answer within {} s", FETCH_MAX.as_secs()));
        match fetched.unwrap_or_else(took_too_long) {
            Ok((keys, lifetime)) => {
                self.hold(keys, lifetime);
                true
            }
            Err(why) => {
                // Once, not at every attempt: the metric counts those.
                if self.flight().failures == 0 {
                    tracing::warn!("{}: the issuer's keys can not be fetched: {why}", self.label);
                }
                false
            }
        }
    }

    fn hold(&self, keys: Vec<Key>, lifetime: Duration) {
        let before = self.held.load();
        let set = match before.as_ref() {
            Some(held) if held.set.keys == keys => held.set.clone(),
            Some(held) => Arc::new(KeySet { keys, generation: held.set.generation + 1 }),
            None => Arc::new(KeySet { keys, generation: 0 }),
        };
        self.held.store(Some(Arc::new(Held { set, fetched: Instant::now(), lifetime })));
    }

    async fn fetch(&self) -> Result<(Vec<Key>, Duration), String> {
        let url = match &self.place {
            Place::Known(url) => url.clone(),
            Place::Discovered { issuer } => self.discover(issuer).await?,
        };
        let (headers, body) = self.get(&url).await?;
        // Up to a quarter of a megabyte of JSON is no work for a request core.
        let parsed = tokio::task::spawn_blocking(move || parse_keys(&body)).await;
        let (keys, skipped) = parsed
            .map_err(|error| error.to_string())?
            .map_err(|why| format!("{url} answers with what is no set of keys: {why}"))?;
        for why in skipped {
            tracing::debug!("{}: a key of {url} is not used: {why}", self.label);
        }
        if keys.is_empty() {
            tracing::warn!("{}: {url} has no key that could verify a token", self.label);
        }
        Ok((keys, lifetime(&headers)))
    }

    /// The document must name the very issuer that was asked (section 4.3), or one issuer
    /// of a host could speak for another.
    async fn discover(&self, issuer: &str) -> Result<String, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let (_, body) = self.get(&url).await?;
        let parsed = tokio::task::spawn_blocking(move || strict_json::object(&body)).await;
        let document = parsed.map_err(|error| error.to_string())?;
        let document =
            document.ok_or_else(|| format!("{url} answers with what is no JSON object"))?;
        let named = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if named != issuer {
            return Err(format!(
                "{url} is about the issuer {named:?}, not {issuer:?}; `issuer` must be the same to the letter"
            ));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str);
        keys.map(str::to_owned).ok_or_else(|| format!("{url} names no jwks_uri"))
    }

    async fn get(&self, url: &str) -> Result<(HeaderMap, Vec<u8>), String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| format!("{url:?} names no host"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if scheme != "https" && !(self.allow_private && scheme == "http") {
            return Err(format!("{url} is not an https URL"));
        }
        let policy = OutboundPolicy {
            owner: self.label.clone(),
            allowed_hosts: vec![authority.to_string()],
            allow_private: self.allow_private,
        };
        let mut request = Request::get(uri).body(Body::empty()).map_err(|e| e.to_string())?;
        let json = HeaderValue::from_static("application/json, application/jwk-set+json");
        request.headers_mut().insert(header::ACCEPT, json);
        let sent = self.outbound.send(request, Arc::new(policy), OutboundTimeouts::default());
        let response = sent.await.map_err(|error| format!("{url}: {error}"))?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(format!("{url} redirects elsewhere, which is not followed"));
        }
        if head.status != StatusCode::OK {
            return Err(format!("{url} answers with status {}", head.status.as_u16()));
        }
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer of {url} can not be read: {error}"))?;
        Ok((head.headers, body.to_bytes().to_vec()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Due,
    UnknownKey,
}

impl Flight {
    /// How long after the last fetch another one may start.
    fn retry_after(&self) -> Duration {
        match self.failures {
            // Keys live for a minute at least.
            0 => RETRY_FIRST,
            failures => RETRY_MAX.min(RETRY_FIRST * (1 << (failures - 1).min(8))),
        }
    }
}

/// A fetch on its way. However it ends, the next one may start and whoever waits goes on.
struct InFlight {
    jwks: Arc<Jwks>,
    succeeded: bool,
}

impl InFlight {
    async fn fly(mut self) {
        self.succeeded = self.jwks.fetch_and_hold().await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counters = &self.jwks.counters;
        counters.refreshed(self.succeeded);
        let mut flight = self.jwks.flight();
        flight.is_on = false;
        flight.failures = if self.succeeded { 0 } else { flight.failures.saturating_add(1) };
        drop(flight);
        self.jwks.landed.send_replace(());
    }
}

async fn await_landing(mut landing: watch::Receiver<()>) {
    // The sender lives as long as the source; a fetch ends within its own time. The
    // timeout is for one whose core stopped.
    let longest = FETCH_MAX + Duration::from_secs(1);
    let _ = tokio::time::timeout(longest, landing.changed()).await;
}

/// `max-age` (RFC 9111, section 5.2.2.1) within our own bounds.
fn lifetime(headers: &HeaderMap) -> Duration {
    let said = headers.get_all(header::CACHE_CONTROL).iter().find_map(|value| {
        let mut directives = value.to_str().ok()?.split(',').map(str::trim);
        directives.find_map(|one| one.strip_prefix("max-age=")?.parse().ok())
    });
    said.map_or(LIFETIME_USUAL, Duration::from_secs).clamp(LIFETIME_MIN, LIFETIME_MAX)
}

/// The keys that can verify tokens, and why the others can not: a set may hold what is
/// for others (RFC 7517, section 5).
fn parse_keys(body: &[u8]) -> Result<(Vec<Key>, Vec<String>), String> {
    let document = strict_json::object(body).ok_or("it is no JSON object")?;
    let list = document.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
    if list.len() > KEYS_MAX {
        return Err(format!("{} keys are more than {KEYS_MAX}", list.len()));
    }
    let (mut keys, mut skipped) = (Vec::<Key>::new(), Vec::new());
    for jwk in list {
        let key = jwk.as_object().ok_or_else(|| "it is no object".to_owned());
        match key.and_then(Key::from_jwk) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let id = jwk.get("kid").and_then(Value::as_str).unwrap_or("without kid");
                skipped.push(format!("{id}: {why}"));
            }
        }
    }
    Ok((keys, skipped))
}

#[cfg(test)]
mod tests;
