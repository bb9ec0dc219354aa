//! API clients: who calls an app's API by a key, and what they may use of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One API client of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClient {
    /// Unique in the app, such as `acme`; what functions and upstreams are told.
    pub id: String,
    /// A plan of the app's manifest; without one, only the routes' own limits hold.
    pub plan: Option<String>,
    pub scopes: Vec<String>,
    /// Its keys are refused while it is.
    pub disabled: bool,
}

/// One key of a client. The key itself is shown once and then known by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub client: Arc<ApiClient>,
    /// BLAKE3 of the whole key.
    pub hash: [u8; 32],
    /// Seconds since 1970.
    pub expires_at: Option<u64>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("client", &self.client.id).finish_non_exhaustive()
    }
}

/// All clients of an app, as the gateway looks them up. One `Arc` per state of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// By the part of a key that is no secret.
    pub keys: HashMap<Box<str>, ApiKey>,
}

/// The text of a key: `sqk_<prefix>_<secret>`, both parts of base62. The prefix is public
/// and finds the key, the secret proves it: 32 letters of 62 are 190 bits, so that a plain
/// hash is enough to store.
pub struct ApiKeyText(String);

const KEY_START: &str = "sqk_";
/// Letters of the part of a key that is no secret.
pub const PREFIX_LETTERS: usize = 12;
const SECRET_LETTERS: usize = 32;

impl ApiKeyText {
    /// A new key, from the operating system's randomness.
    pub fn generate() -> Self {
        let mut text = String::with_capacity(KEY_START.len() + PREFIX_LETTERS + 1 + SECRET_LETTERS);
        text.push_str(KEY_START);
        push_random_letters(&mut text, PREFIX_LETTERS);
        text.push('_');
        push_random_letters(&mut text, SECRET_LETTERS);
        Self(text)
    }

    /// The public prefix and the hash of the whole, if `text` has the form of a key.
    pub fn parse(text: &str) -> Option<(&str, [u8; 32])> {
        let (prefix, secret) = text.strip_prefix(KEY_START)?.split_once('_')?;
        let letters = |part: &str, count| {
            part.len() == count && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !letters(prefix, PREFIX_LETTERS) || !letters(secret, SECRET_LETTERS) {
            return None;
        }
        Some((prefix, *blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// The whole key, to be shown once.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that is no secret, by which `Clients::keys` is looked up.
    pub fn prefix(&self) -> &str {
        &self.0[KEY_START.len()..KEY_START.len() + PREFIX_LETTERS]
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.0.as_bytes()).as_bytes()
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its secret never reaches a log.
        write!(f, "{KEY_START}{}_…", self.prefix())
    }
}

fn push_random_letters(text: &mut String, count: usize) {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let wanted = text.len() + count;
    let mut random = [0; 64];
    while text.len() < wanted {
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        // Six bits each; the two values beyond the alphabet are thrown again, or some
        // letters would be likelier than others.
        let letters = random.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        text.extend(letters.take(wanted - text.len()).map(|letter| char::from(*letter)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back() {
        let (first, second) = (ApiKeyText::generate(), ApiKeyText::generate());
        assert_ne!(first.as_str(), second.as_str());
        assert_eq!(first.as_str().len(), 49);
        let (prefix, hash) = ApiKeyText::parse(first.as_str()).unwrap();
        assert_eq!((prefix, hash), (first.prefix(), first.hash()));
        assert_ne!(prefix, second.prefix());
        assert_ne!(hash, second.hash());
    }

    #[test]
    fn a_key_does_not_print_its_secret() {
        let key = ApiKeyText::generate();
        assert_eq!(format!("{key:?}"), format!("sqk_{}_…", key.prefix()));
    }

    #[test]
    fn every_letter_is_as_likely() {
        let mut text = String::new();
        push_random_letters(&mut text, 62_000);
        assert_eq!(text.len(), 62_000);
        let mut counts = HashMap::new();
        for letter in text.chars() {
            *counts.entry(letter).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 62);
        // A thousand each is expected; ten standard deviations are 314.
        assert!(counts.values().all(|count| (686..=1314).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = ApiKeyText::generate().as_str().to_owned();
        let cut = &key[..key.len() - 1];
        let wrong = [
            String::new(),
            "sqk_".to_owned(),
            cut.to_owned(),
            format!("{key}0"),
            format!(" {key}"),
            format!("{key}\n"),
            format!("{cut}-"),
            format!("{cut}_"),
            format!("{}é", &key[..key.len() - 2]),
            key.replacen("sqk_", "SQK_", 1),
            key.replacen("sqk_", "sqt_", 1),
            key.replacen('_', "", 1),
            format!("sqk_{}", key.replacen("sqk_", "", 1).replacen('_', "-", 1)),
        ];
        for text in wrong {
            assert!(ApiKeyText::parse(&text).is_none(), "{text:?}");
        }
    }
}
