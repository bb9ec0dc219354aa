//! Who calls: tokens of an issuer, keys of API clients, names and passwords.
//!
//! `Authenticator` is a route's policy, `Source` one `[identity]` table. A request brings
//! one credential; a wrong one is refused even where callers without any are let in.
//! Nothing here decides what a caller may use of the app beside its scopes.

mod api_key;
mod basic;
mod jwks;
mod jwt;

mod headers;
mod remembered;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use squall_types::clients::{ApiClient, Clients, PREFIX_LETTERS};
use squall_types::gateway::{IdentitySource, Policy};
use squall_types::log::Caller;
use squall_types::metrics::write_head;
use squall_types::outbound::Outbound;
use squall_types::{AppName, ErrorCode};

use crate::cookie;
use crate::rejection::Rejection;
use api_key::ApiKeys;
use basic::Passwords;
use headers::SubjectHeaders;
use jwks::Jwks;
use jwt::JwtSource;
use turns::Turns;

pub use basic::hash_password;

/// A caller who was verified. Cheap to make and to clone.
#[derive(Clone)]
pub(crate) struct Identity {
    source: Arc<SourceName>,
    who: Who,
}

#[derive(Clone)]
enum Who {
    Client(Arc<ApiClient>, KeyPrefix),
    Subject(Arc<Subject>),
}

/// The part of an API key that is no secret.
type KeyPrefix = [u8; PREFIX_LETTERS];

/// The name of an `[identity]` table, and as it is sent.
struct SourceName {
    text: String,
    header: HeaderValue,
}

/// The bearer of a token or a password.
struct Subject {
    name: String,
    scopes: Vec<String>,
    headers: SubjectHeaders,
}

impl Identity {
    fn subject(source: Arc<SourceName>, subject: Arc<Subject>) -> Self {
        Self { source, who: Who::Subject(subject) }
    }

    /// The id of the API client, the subject of the token, or the name of the user.
    pub(crate) fn name(&self) -> &str {
        match &self.who {
            Who::Client(client, _) => &client.id,
            Who::Subject(subject) => &subject.name,
        }
    }

    /// What its requests are counted by. Names of different sources are different callers;
    /// an API client is the same whichever source took its key.
    pub(crate) fn limit_key(&self) -> (&str, &str) {
        match &self.who {
            // No source has an empty name.
            Who::Client(client, _) => ("", &client.id),
            Who::Subject(subject) => (&self.source.text, &subject.name),
        }
    }

    /// With its plan, when the caller is one.
    pub(crate) fn client(&self) -> Option<&Arc<ApiClient>> {
        match &self.who {
            Who::Client(client, _) => Some(client),
            Who::Subject(_) => None,
        }
    }

    /// For the access log.
    pub(crate) fn caller(&self) -> Caller<'_> {
        let key_prefix = match &self.who {
            Who::Client(_, prefix) => std::str::from_utf8(prefix).ok(),
            Who::Subject(_) => None,
        };
        Caller { source: &self.source.text, name: self.name(), key_prefix }
    }

    fn scopes(&self) -> &[String] {
        match &self.who {
            Who::Client(client, _) => &client.scopes,
            Who::Subject(subject) => &subject.scopes,
        }
    }

    /// Tells the target who calls. To be called after the guard took away what the caller
    /// says of itself.
    pub(crate) fn set_headers(&self, headers: &mut HeaderMap) {
        headers.insert(headers::IDENTITY, self.source.header.clone());
        match &self.who {
            Who::Subject(subject) => subject.headers.set(headers),
            Who::Client(client, _) => {
                headers.insert(headers::CLIENT, headers::value(&client.id));
                if let Some(scopes) = headers::scopes(&client.scopes) {
                    headers.insert(headers::SCOPES, scopes);
                }
                if let Some(plan) = &client.plan {
                    headers.insert(headers::PLAN, headers::value(plan));
                }
            }
        }
    }
}

/// One `[identity]` table of an app.
pub(crate) struct Source {
    settings: IdentitySource,
    name: Arc<SourceName>,
    check: Check,
}

enum Check {
    Jwt(Box<JwtSource>),
    ApiKey(ApiKeys),
    Basic(Box<Passwords>),
    /// Its settings passed no check of the manifest; it knows nobody.
    Nothing,
}

/// By app and name. Revisions that are live together may differ in what they mean by one.
type KnownSources = HashMap<(AppName, String), Vec<Weak<Source>>>;

/// Every source of the node that a route names. Sources with the same settings stay the
/// same from one configuration to the next, with the keys that they fetched.
pub(crate) struct Sources {
    known: Mutex<KnownSources>,
    outbound: Arc<dyn Outbound>,
    /// Apart, so that a flood of passwords keeps no token waiting.
    passwords: Arc<Turns>,
    signatures: Arc<Turns>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    refreshes: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    fn refreshed(&self, succeeded: bool) {
        let counter = if succeeded { &self.refreshes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sources {
    pub(crate) fn new(outbound: Arc<dyn Outbound>) -> Self {
        Self {
            known: Mutex::default(),
            outbound,
            passwords: Arc::default(),
            signatures: Arc::default(),
            counters: Arc::default(),
        }
    }

    /// The source of that name in an app's `identity` table.
    fn find(&self, app: &AppName, name: &str, settings: &IdentitySource) -> Arc<Source> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (app.clone(), name.to_owned());
        let mut alive = known.get(&key).into_iter().flatten().filter_map(Weak::upgrade);
        if let Some(same) = alive.find(|source| source.settings == *settings) {
            return same;
        }
        // What no route names any more is forgotten when something new comes.
        known.retain(|_, sources| {
            sources.retain(|source| source.strong_count() > 0);
            !sources.is_empty()
        });
        let made = Arc::new(self.make(app, name, settings));
        known.entry(key).or_default().push(Arc::downgrade(&made));
        made
    }

    fn make(&self, app: &AppName, name: &str, settings: &IdentitySource) -> Source {
        let source_name =
            Arc::new(SourceName { text: name.to_owned(), header: headers::value(name) });
        let check = match settings {
            IdentitySource::Jwt(jwt) => {
                let label = format!("identity.{name} of {app}");
                let (outbound, counters) = (self.outbound.clone(), self.counters.clone());
                let keys = Jwks::new(jwt, label, outbound, counters);
                let (name, turns) = (source_name.clone(), self.signatures.clone());
                Check::Jwt(Box::new(JwtSource::new(jwt.clone(), name, keys, turns)))
            }
            IdentitySource::ApiKey(settings) => {
                ApiKeys::new(settings).map_or(Check::Nothing, Check::ApiKey)
            }
            IdentitySource::Basic(settings) => {
                let turns = self.passwords.clone();
                let passwords = Passwords::new(settings, source_name.clone(), turns);
                Check::Basic(Box::new(passwords))
            }
        };
        Source { settings: settings.clone(), name: source_name, check }
    }

    pub(crate) fn write_metrics(&self, out: &mut String) {
        let name = "squall_identity_key_fetches_total";
        write_head(out, name, "counter", "Fetches of the keys of token issuers that have ended.");
        let counters = &self.counters;
        for (result, counter) in [("ok", &counters.refreshes), ("failed", &counters.failures)] {
            let _ =
                writeln!(out, "{name}{{result=\"{result}\"}} {}", counter.load(Ordering::Relaxed));
        }
    }
}

/// Whom a route lets in.
pub(crate) struct Authenticator {
    sources: Vec<Arc<Source>>,
    anonymous: bool,
    scopes: Vec<String>,
}

/// Why a request does not get in, before it is a rejection.
struct Refused<'a> {
    code: ErrorCode,
    message: &'static str,
    /// Of the source that the credential was for.
    by: Option<&'a Source>,
    retry_after_s: Option<u32>,
}

impl Authenticator {
    /// `None` where everybody is let in. `policy` is of a route of `app`, and `identity`
    /// the table of its revision.
    pub(crate) fn compile(
        policy: &Policy,
        app: &AppName,
        identity: &BTreeMap<String, IdentitySource>,
        sources: &Sources,
    ) -> Option<Self> {
        let named = policy.auth.as_deref().unwrap_or_default();
        if named.is_empty() {
            return None;
        }
        let found = named.iter().filter_map(|name| Some((name, identity.get(name)?)));
        Some(Self {
            // Names were checked with the manifest. Were one missing nevertheless, its
            // callers would be strangers.
            sources: found.map(|(name, settings)| sources.find(app, name, settings)).collect(),
            anonymous: policy.anonymous.unwrap_or(false),
            scopes: policy.scopes.clone().unwrap_or_default(),
        })
    }

    /// Finds the caller, checks its scopes, and takes away what only the gateway shall
    /// see. `None` is a caller without a credential who is let in.
    ///
    /// # Errors
    /// 401 without a credential or with a wrong one, 403 without a scope, 503 when nobody
    /// can tell.
    pub(crate) async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        target: &mut PathAndQuery,
        clients: &Clients,
    ) -> Result<Option<Identity>, Rejection> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let identity = self.identify(headers, target, clients, now).await;
        let identity = identity.map_err(|why| self.reject(&why))?;
        if let Some(identity) = &identity {
            self.authorise(identity)?;
        }
        self.remove_credentials(headers, target, identity.as_ref());
        Ok(identity)
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        target: &PathAndQuery,
        clients: &Clients,
        now: u64,
    ) -> Result<Option<Identity>, Refused<'_>> {
        let mut other_issuer = None;
        for source in &self.sources {
            let refused =
                |code, message| Refused { code, message, by: Some(source), retry_after_s: None };
            let invalid = |message| refused(ErrorCode::InvalidCredentials, message);
            match &source.check {
                Check::Jwt(jwt) => {
                    let cookie = jwt.settings.cookie.as_deref();
                    let Some(token) = bearer_token(headers, cookie).map_err(invalid)? else {
                        continue;
                    };
                    match jwt.identify(token, now).await {
                        Ok(identity) => return Ok(Some(identity)),
                        Err(jwt::Refusal::OtherIssuer) => other_issuer = Some(source),
                        Err(jwt::Refusal::Invalid(why)) => return Err(invalid(why)),
                        Err(jwt::Refusal::Busy) => {
                            let why = "too many tokens are being checked";
                            let refused = refused(ErrorCode::IdentityUnavailable, why);
                            return Err(Refused { retry_after_s: Some(1), ..refused });
                        }
                        Err(jwt::Refusal::NoKeys(until)) => {
                            let why = "the keys of the token's issuer can not be had";
                            let refused = refused(ErrorCode::IdentityUnavailable, why);
                            let retry_after_s = Some(until.retry_after_s);
                            return Err(Refused { retry_after_s, ..refused });
                        }
                    }
                }
                Check::ApiKey(keys) => {
                    let Some(key) = keys.find(headers, target).map_err(invalid)? else {
                        continue;
                    };
                    let (client, prefix) = api_key::check(&key, clients, now).map_err(invalid)?;
                    let source = source.name.clone();
                    return Ok(Some(Identity { source, who: Who::Client(client, prefix) }));
                }
                Check::Basic(passwords) => {
                    let credentials = authorization(headers, "basic").map_err(invalid)?;
                    let Some(credentials) = credentials else { continue };
                    return match passwords.identify(credentials, now).await {
                        Ok(identity) => Ok(Some(identity)),
                        Err(basic::Refusal::Invalid(why)) => Err(invalid(why)),
                        Err(basic::Refusal::Busy) => {
                            let why = "too many passwords are being checked";
                            let refused = refused(ErrorCode::IdentityUnavailable, why);
                            Err(Refused { retry_after_s: Some(1), ..refused })
                        }
                    };
                }
                Check::Nothing => {}
            }
        }
        if let Some(source) = other_issuer {
            return Err(Refused {
                code: ErrorCode::InvalidCredentials,
                message: "the token is of another issuer",
                by: Some(source),
                retry_after_s: None,
            });
        }
        if self.anonymous && self.scopes.is_empty() {
            return Ok(None);
        }
        Err(Refused {
            code: ErrorCode::MissingCredentials,
            message: "say who you are",
            by: None,
            retry_after_s: None,
        })
    }

    fn authorise(&self, identity: &Identity) -> Result<(), Rejection> {
        let granted = identity.scopes();
        let Some(missing) = self.scopes.iter().find(|scope| !granted.contains(scope)) else {
            return Ok(());
        };
        let message = format!("the scope {missing} is missing");
        let rejection = Rejection::new(ErrorCode::InsufficientScope, message);
        let wanted = self.scopes.join(" ");
        // RFC 6750, section 3.1.
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{wanted}\"");
        Err(match self.sources.iter().any(|source| matches!(source.check, Check::Jwt(_))) {
            true => rejection.with_header(header::WWW_AUTHENTICATE, &challenge),
            false => rejection,
        })
    }

    /// RFC 9110, section 11.6.1: every 401 says how one may come in.
    fn reject(&self, why: &Refused<'_>) -> Rejection {
        let mut rejection = Rejection::new(why.code, why.message);
        rejection.retry_after_s = why.retry_after_s;
        if why.code == ErrorCode::IdentityUnavailable {
            return rejection;
        }
        let mut challenges = Vec::<String>::new();
        for source in &self.sources {
            let is_refuser = why.by.is_some_and(|by| std::ptr::eq(by, &raw const **source));
            let challenge = match &source.check {
                // RFC 6750, section 3: no code for a request that brought nothing.
                Check::Jwt(_) if is_refuser => {
                    format!("Bearer error=\"invalid_token\", error_description=\"{}\"", why.message)
                }
                Check::Jwt(_) => "Bearer".to_owned(),
                Check::ApiKey(keys) => keys.challenge(),
                Check::Basic(passwords) => passwords.challenge(),
                Check::Nothing => continue,
            };
            if !challenges.contains(&challenge) {
                challenges.push(challenge);
            }
        }
        for challenge in challenges {
            rejection = rejection.with_header(header::WWW_AUTHENTICATE, &challenge);
        }
        rejection
    }

    /// Keys and passwords are for the gateway alone, whichever source was decisive. The token
    /// that was checked goes on: it is made to be read by more than one. Beside it, any other
    /// would look as if it had been checked.
    pub(crate) fn remove_credentials(
        &self,
        headers: &mut HeaderMap,
        target: &mut PathAndQuery,
        identity: Option<&Identity>,
    ) {
        let by = |source: &&Arc<Source>| {
            identity.is_some_and(|identity| Arc::ptr_eq(&identity.source, &source.name))
        };
        let decisive = self.sources.iter().find(by);
        for source in &self.sources {
            match &source.check {
                Check::Jwt(jwt) => {
                    let has_bearer = authorization(headers, "bearer") != Ok(None);
                    let checked = match decisive.map(|source| &source.check) {
                        Some(Check::Jwt(checked)) => Some(checked),
                        _ => None,
                    };
                    if has_bearer && checked.is_none() {
                        headers.remove(header::AUTHORIZATION);
                    }
                    // Of the two, `bearer_token` takes the header.
                    let checked = checked.filter(|_| !has_bearer);
                    let checked = checked.and_then(|checked| checked.settings.cookie.as_ref());
                    if let Some(cookie) = &jwt.settings.cookie
                        && checked != Some(cookie)
                    {
                        cookie::remove(headers, cookie);
                    }
                }
                Check::ApiKey(keys) => keys.remove(headers, target),
                Check::Basic(_) => {
                    if authorization(headers, "basic") != Ok(None) {
                        headers.remove(header::AUTHORIZATION);
                    }
                }
                Check::Nothing => {}
            }
        }
    }
}

fn bearer_token<'a>(
    headers: &'a HeaderMap,
    cookie: Option<&str>,
) -> Result<Option<&'a str>, &'static str> {
    let token = authorization(headers, "bearer")?;
    match cookie {
        Some(name) if token.is_none() => cookie_value(headers, name),
        _ => Ok(token),
    }
}

/// What follows `scheme` in the Authorization header, if it is of that scheme.
fn authorization<'a>(
    headers: &'a HeaderMap,
    scheme: &str,
) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // Another reader could take the other one.
        return Err("there is more than one Authorization header");
    }
    let value = value.as_bytes();
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    let (found, rest) = value.split_at(end);
    if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Ok(None);
    }
    text(rest.trim_ascii_start()).map(Some)
}

/// A credential that is no text is a wrong one, not none.
fn text(credential: &[u8]) -> Result<&str, &'static str> {
    let ascii = credential.is_ascii().then(|| std::str::from_utf8(credential).ok()).flatten();
    ascii.ok_or("the credentials hold bytes that no credential has")
}

fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, &'static str> {
    let mut found = cookie::values(headers, name);
    let first = found.next();
    if found.next().is_some() {
        return Err("there is more than one cookie with a token");
    }
    first.map(text).transpose()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
