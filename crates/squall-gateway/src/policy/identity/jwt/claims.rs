//! What a signed token says, and whether it says it here and now (RFC 7519, section 4.1).

use serde_json::{Map, Value};
use squall_types::gateway::Jwt;

type Claims = Map<String, Value>;

/// What is left of a token's claims after they were checked.
pub(super) struct Checked {
    pub(super) subject: String,
    pub(super) scopes: Vec<String>,
    /// Seconds since 1970, with the leeway: from then on the token is refused.
    pub(super) until: u64,
}

/// `iss` as it is claimed; checked against the source's before a signature is.
pub(super) fn issuer(claims: &Claims) -> Option<&str> {
    claims.get("iss").and_then(Value::as_str)
}

/// # Errors
/// Why the token is not for us or not for now, in words for its bearer.
pub(super) fn check(claims: &Claims, settings: &Jwt, now: u64) -> Result<Checked, &'static str> {
    let leeway = settings.leeway_s as f64;
    let expires = time(claims, "exp")?.ok_or("the token does not say when it expires")?;
    let until = expires + leeway;
    if until <= now as f64 {
        return Err("the token has expired");
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|time| time - leeway > now as f64) {
            return Err("the token is not valid yet");
        }
    }
    if !is_for(claims.get("aud"), &settings.audience) {
        return Err("the token is for another audience");
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() {
        return Err("the token does not say whose it is");
    }
    let scopes = scopes(claims.get(&settings.scopes_claim))?;
    // A float beyond u64 becomes the largest one: for ever, as far as a cache cares.
    Ok(Checked { subject: subject.to_owned(), scopes, until: until as u64 })
}

/// A NumericDate. One in a string is no date: libraries that skipped it let expired
/// tokens in (CVE-2026-25537).
fn time(claims: &Claims, name: &str) -> Result<Option<f64>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err("a time in the token is malformed"),
    }
}

fn is_for(audience: Option<&Value>, ours: &[String]) -> bool {
    let is_ours = |one: &Value| one.as_str().is_some_and(|one| ours.iter().any(|own| own == one));
    match audience {
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

/// Words in a string (RFC 8693, section 4.2) or a list of strings.
fn scopes(claim: Option<&Value>) -> Result<Vec<String>, &'static str> {
    const MALFORMED: &str = "the token's scopes are malformed";
    match claim {
        None => Ok(Vec::new()),
        Some(Value::String(words)) => {
            Ok(words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
        }
        Some(Value::Array(list)) => {
            let words = list.iter().map(|word| word.as_str().map(str::to_owned).ok_or(MALFORMED));
            words.collect()
        }
        Some(_) => Err(MALFORMED),
    }
}
