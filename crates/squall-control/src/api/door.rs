//! Who may call the admin API, and under which name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use squall_types::ErrorCode;

use crate::Inner;
use crate::api::problem::Problem;
use crate::store::TokenRow;
use crate::time::now_ms;
use crate::tokens::{self, Scope};

/// How long a checked token is believed, so that revoking one takes effect as fast.
const KNOWN_FOR: Duration = Duration::from_secs(1);
const KNOWN_MAX: usize = 10_000;
/// How fresh `last_used_at` is.
const USE_NOTED_EVERY_MS: i64 = 60_000;

/// Whoever has a valid token.
pub(crate) struct Caller {
    scope: Scope,
    token: [u8; 32],
}

impl Caller {
    pub(crate) fn needs(&self, scope: Scope) -> Result<(), Problem> {
        if self.scope >= scope {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::Forbidden,
            format!(
                "this needs a token of scope {}; this one has {}",
                scope.as_str(),
                self.scope.as_str()
            ),
        ))
    }

    /// Ends when the token is revoked or expires: what goes on for long asks again.
    pub(crate) async fn gone(self, inner: Arc<Inner>) {
        loop {
            tokio::time::sleep(KNOWN_FOR).await;
            match find(&inner, self.token).await {
                Ok(Some(row)) if !has_expired(&row) => {}
                // The storage that can not be asked says nothing about the token.
                Err(_) => {}
                _ => return,
            }
        }
    }
}

impl FromRequestParts<Arc<Inner>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, inner: &Arc<Inner>) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            Err(Problem::new(
                ErrorCode::Unauthorized,
                format!("{why}; send Authorization: Bearer sqt_…"),
            ))
        };
        let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
        let Some(authorization) = given.next() else {
            return wrong("there is no token");
        };
        let token =
            authorization.to_str().ok().filter(|_| given.next().is_none()).and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
            });
        let Some(token) = token.filter(|token| token.starts_with(tokens::PREFIX)) else {
            return wrong("the Authorization header holds no token of Squall");
        };
        let hash = tokens::hash(token);
        let Some(row) = find(inner, hash).await? else {
            return wrong("the token is not known here; it may have been revoked");
        };
        if has_expired(&row) {
            return wrong("the token has expired");
        }
        Ok(Self { scope: row.scope, token: hash })
    }
}

fn has_expired(row: &TokenRow) -> bool {
    row.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms())
}

async fn find(inner: &Arc<Inner>, hash: [u8; 32]) -> Result<Option<TokenRow>, Problem> {
    if let Some((row, since)) = crate::lock(&inner.known_tokens).get(&hash)
        && since.elapsed() < KNOWN_FOR
    {
        return Ok(Some(row.clone()));
    }
    let store = inner.clone();
    let found = crate::blocking(move || {
        let found = store.store.token(&hash)?;
        if let Some(row) = &found
            && row.last_used_ms.is_none_or(|used_ms| used_ms + USE_NOTED_EVERY_MS < now_ms())
            // A node whose disk is full can still be looked at.
            && let Err(error) = store.store.note_token_used(&row.id)
        {
            tracing::warn!("the use of a token could not be noted: {error}");
        }
        Ok(found)
    })
    .await?;
    let mut known = crate::lock(&inner.known_tokens);
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    match &found {
        Some(row) => known.insert(hash, (row.clone(), Instant::now())),
        None => known.remove(&hash),
    };
    Ok(found)
}

/// A page in a browser can make it ask a name of the page's choosing that resolves to
/// this machine. Only names that an operator gave, and addresses, are answered.
pub(crate) async fn check_host(
    State(inner): State<Arc<Inner>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    if host.is_some_and(|host| is_ours(&inner, host)) {
        return next.run(request).await;
    }
    let why = "the admin API answers on addresses, on localhost and on the names in admin.hosts of server.toml";
    Problem::new(ErrorCode::BadHost, why).into_response()
}

fn is_ours(inner: &Inner, host: &str) -> bool {
    if host.parse::<std::net::SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || inner.options.admin_hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}
