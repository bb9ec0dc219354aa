//! Signed tokens of one issuer (RFC 7519), checked as RFC 8725 advises.
//!
//! The signatures are ring's. What a token may be, and what it must say, is decided here:
//! few lines, each refusing one kind of forgery.

mod claims;
pub(super) mod key;
pub(super) mod strict_json;
mod token;

use std::sync::Arc;

use squall_types::gateway::Jwt;

use super::headers::SubjectHeaders;
use super::jwks::{Jwks, KeySet, Unavailable};
use super::remembered::Remembered;
use super::turns::Turns;
use super::{Identity, SourceName, Subject};
use token::Token;

/// Verified tokens that one thread remembers, in each of two generations.
const REMEMBERED: usize = 2048;
/// Longer tokens are verified each time, so that the memory is bounded by few megabytes.
const REMEMBERED_BYTES_MAX: usize = 4 << 10;

pub(super) struct JwtSource {
    pub(super) settings: Jwt,
    name: Arc<SourceName>,
    keys: Arc<Jwks>,
    verified: Remembered<Verified>,
    turns: Arc<Turns>,
}

#[derive(Clone)]
struct Verified {
    subject: Arc<Subject>,
    /// Seconds since 1970.
    until: u64,
    /// Of the keys that it was verified with.
    generation: u64,
}

/// Why a token does not tell who calls.
pub(super) enum Refusal {
    /// It claims another issuer; another source may know it.
    OtherIssuer,
    Invalid(&'static str),
    /// Nobody can tell now.
    NoKeys(Unavailable),
    /// Too many others wait for a check.
    Busy,
}

impl JwtSource {
    pub(super) fn new(
        settings: Jwt,
        name: Arc<SourceName>,
        keys: Arc<Jwks>,
        turns: Arc<Turns>,
    ) -> Self {
        Self { settings, name, keys, verified: Remembered::new(REMEMBERED), turns }
    }

    pub(super) async fn identify(&self, text: &str, now: u64) -> Result<Identity, Refusal> {
        let digest = *blake3::hash(text.as_bytes()).as_bytes();
        if let Some(set) = self.keys.at_hand() {
            let holds = |known: &Verified| known.generation == set.generation && now < known.until;
            if let Some(known) = self.verified.get(&digest, holds) {
                return Ok(self.identity(known.subject));
            }
        }
        let token = token::parse(text).map_err(Refusal::Invalid)?;
        // Before any key is asked for: foreign tokens cause no fetch.
        if claims::issuer(&token.claims) != Some(&self.settings.issuer) {
            return Err(Refusal::OtherIssuer);
        }
        if !self.settings.algorithms.contains(&token.algorithm) {
            return Err(Refusal::Invalid("the token's algorithm is not accepted"));
        }
        let set = self.verify(&token).await?;
        let checked = claims::check(&token.claims, &self.settings, now);
        let checked = checked.map_err(Refusal::Invalid)?;
        let forwarded = self.settings.forward_claims.then_some(token.claims_text);
        let headers = SubjectHeaders::new(&checked.subject, &checked.scopes)
            .of(&self.settings.issuer, forwarded);
        let subject = Arc::new(Subject { name: checked.subject, scopes: checked.scopes, headers });
        if text.len() <= REMEMBERED_BYTES_MAX {
            let generation = set.generation;
            let known = Verified { subject: subject.clone(), until: checked.until, generation };
            self.verified.insert(digest, known);
        }
        Ok(self.identity(subject))
    }

    fn identity(&self, subject: Arc<Subject>) -> Identity {
        Identity::subject(self.name.clone(), subject)
    }

    /// The keys with which the signature is right.
    async fn verify(&self, token: &Token<'_>) -> Result<Arc<KeySet>, Refusal> {
        let set = self.keys.wait().await.map_err(Refusal::NoKeys)?;
        match self.is_signed(token, &set).await? {
            Signature::Right => return Ok(set),
            Signature::Wrong => return Err(Refusal::Invalid("the token's signature is wrong")),
            Signature::OfUnknownKey => {}
        }
        // The issuer may have a new key since.
        if let Some(set) = self.keys.renewed().await
            && self.is_signed(token, &set).await? == Signature::Right
        {
            return Ok(set);
        }
        Err(Refusal::Invalid("the token's key is not among those of its issuer"))
    }

    async fn is_signed(&self, token: &Token<'_>, set: &KeySet) -> Result<Signature, Refusal> {
        let algorithm = token.algorithm;
        let Some(key) = set.find(token.key_id.as_deref(), algorithm) else {
            return Ok(Signature::OfUnknownKey);
        };
        let is_right = if key.is_costly() {
            let (key, signed) = (key.clone(), token.signed.to_owned());
            let signature = token.signature.clone();
            let check = move || key.verifies(algorithm, signed.as_bytes(), &signature);
            self.turns.run(check).await.ok_or(Refusal::Busy)?
        } else {
            key.verifies(algorithm, token.signed.as_bytes(), &token.signature)
        };
        Ok(match token.key_id {
            _ if is_right => Signature::Right,
            Some(_) => Signature::Wrong,
            // Issuers that do not name their keys change them, too.
            None => Signature::OfUnknownKey,
        })
    }
}

#[derive(PartialEq, Eq)]
enum Signature {
    Right,
    Wrong,
    OfUnknownKey,
}

#[cfg(test)]
mod tests;
