//! Tokens: random, prefixed, scoped, stored as hashes.

use serde::{Deserialize, Serialize};

/// What a token may do; each scope includes those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See everything but secrets.
    Read,
    /// Change apps.
    Deploy,
    /// Delete apps and hand out tokens.
    Admin,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Deploy => "deploy",
            Scope::Admin => "admin",
        }
    }
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Scope::Read, Scope::Deploy, Scope::Admin].into_iter().find(|scope| scope.as_str() == text)
    }
}

pub(crate) const PREFIX: &str = "sqt_";

/// A new token: 160 random bits after its prefix.
pub(crate) fn generate() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    let letters = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    PREFIX.chars().chain(letters).collect()
}

/// What is stored. A token has enough entropy for a plain hash, and looking a hash up
/// leaks no more about the token than the hash itself.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}
