//! What a stored response is found by.

use squall_types::AppName;

/// A name space of keys: nothing in one is ever found in another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space {
    pub app: AppName,
    /// Divides the entries of an app: a revision, so that a deployment never answers with
    /// what the one before said, or the name of a JavaScript cache. Empty for the app.
    pub part: Box<str>,
}

/// 128 bits of BLAKE3 over the whole key, which nobody finds a second key for, and 64 over
/// its app and URL, by which all that is stored of a URL is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 24]);

/// The primary key of stored responses (RFC 9111, section 2). The method is always GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub space: Space,
    /// Scheme, host in lower case, port where it is not the usual one, normalised path and
    /// the query that the route's rules leave: `https://example.com/a?b=c`. Purges go by it.
    pub url: Box<str>,
    /// What the route's rules add of headers and cookies, as `name:value` lines. Empty
    /// without such rules.
    pub extra: Box<str>,
}

impl Key {
    pub fn hash(&self) -> KeyHash {
        let mut hasher = blake3::Hasher::new();
        let mut hash = [0; 24];
        update(&mut hasher, [self.space.app.as_str(), &self.url]);
        hasher.finalize_xof().fill(&mut hash[16..]);
        update(&mut hasher, [&self.space.part, &self.extra]);
        hasher.finalize_xof().fill(&mut hash[..16]);
        KeyHash(hash)
    }
}

impl KeyHash {
    /// What the hashes of all keys of a URL have in common; the rest is zeros.
    pub(crate) fn of_url(app: &AppName, url: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut hash = [0; 24];
        update(&mut hasher, [app.as_str(), url]);
        hasher.finalize_xof().fill(&mut hash[16..]);
        Self(hash)
    }

    pub(crate) fn url(&self) -> [u8; 8] {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

/// Every part with its length: no two keys are the same bytes.
fn update(hasher: &mut blake3::Hasher, parts: [&str; 2]) {
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
}
