//! Names and passwords (RFC 7617) against hashes of Argon2id (RFC 9106).
//!
//! One check takes tens of milliseconds and megabytes on purpose, so it never runs on a
//! request core, few run at once, and who came in stays known for some minutes.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use squall_types::gateway::{Basic, PasswordHash};
use subtle::ConstantTimeEq as _;

use super::headers::SubjectHeaders;
use super::remembered::{Digest, Remembered};
use super::turns::Turns;
use super::{Identity, SourceName, Subject};

/// Passwords that one thread remembers, in each of two generations.
const REMEMBERED: usize = 256;
const REMEMBERED_S: u64 = 5 * 60;
/// OWASP's recommendation for Argon2id: 19 MiB, two passes, one lane.
const USUAL: (u32, u32, u32) = (19_456, 2, 1);

pub(super) struct Passwords {
    name: Arc<SourceName>,
    users: HashMap<String, User>,
    /// What the password of an unknown name is checked against: it takes as long as that of some
    /// name that is known, and the same one each time.
    stand_ins: Vec<PasswordHash>,
    stand_in_key: [u8; 32],
    /// Remembered credentials are hashes with a key of this source and process: nothing
    /// that could be guessed at from a copy of the memory of another.
    key: [u8; 32],
    verified: Remembered<Verified>,
    turns: Arc<Turns>,
    realm: String,
}

struct User {
    hash: PasswordHash,
    subject: Arc<Subject>,
}

#[derive(Clone)]
struct Verified {
    subject: Arc<Subject>,
    until: u64,
}

pub(super) enum Refusal {
    Invalid(&'static str),
    /// Too many others wait for a check.
    Busy,
}

impl Passwords {
    pub(super) fn new(settings: &Basic, name: Arc<SourceName>, turns: Arc<Turns>) -> Self {
        let user = |(name, hash): (&String, &String)| {
            // The manifest's check refuses what is no hash; such a user would not exist.
            let hash = PasswordHash::parse(hash).ok()?;
            let scopes = settings.scopes.clone();
            let headers = SubjectHeaders::new(name, &scopes);
            let subject = Arc::new(Subject { name: name.clone(), scopes, headers });
            Some((name.clone(), User { hash, subject }))
        };
        let users: HashMap<_, _> = settings.users.iter().filter_map(user).collect();
        let usual = PasswordHash {
            memory_kib: USUAL.0,
            passes: USUAL.1,
            lanes: USUAL.2,
            salt: vec![0; 16],
            hash: vec![0; 32],
        };
        // As secret as the hashes, and the same after a restart.
        let mut stand_in_key = blake3::Hasher::new_derive_key("squall basic stand-in 2026");
        let mut stand_ins = Vec::with_capacity(settings.users.len().max(1));
        for hash in settings.users.values() {
            stand_in_key.update(hash.as_bytes());
            stand_ins.extend(PasswordHash::parse(hash));
        }
        if stand_ins.is_empty() {
            stand_ins.push(usual);
        }
        Self {
            name,
            users,
            stand_ins,
            stand_in_key: *stand_in_key.finalize().as_bytes(),
            key: random(),
            verified: Remembered::new(REMEMBERED),
            turns,
            realm: settings.realm.clone(),
        }
    }

    pub(super) fn challenge(&self) -> String {
        format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm)
    }

    /// `credentials` are what follows the scheme.
    pub(super) async fn identify(&self, credentials: &str, now: u64) -> Result<Identity, Refusal> {
        let digest: Digest = *blake3::keyed_hash(&self.key, credentials.as_bytes()).as_bytes();
        if let Some(known) = self.verified.get(&digest, |known| now < known.until) {
            return Ok(self.identity(known.subject));
        }
        const MALFORMED: Refusal = Refusal::Invalid("the credentials are malformed");
        let decoded = STANDARD.decode(credentials).map_err(|_| MALFORMED)?;
        let decoded = String::from_utf8(decoded).map_err(|_| MALFORMED)?;
        let (name, password) = decoded.split_once(':').ok_or(MALFORMED)?;
        let user = self.users.get(name);
        let hash = user.map_or_else(|| self.stand_in(name), |user| &user.hash).clone();
        let password = password.to_owned();
        let is_right = self.turns.run(move || matches(&password, &hash)).await;
        let is_right = is_right.ok_or(Refusal::Busy)?;
        let user = user.filter(|_| is_right);
        let user = user.ok_or(Refusal::Invalid("the name or the password is wrong"))?;
        let subject = user.subject.clone();
        let known = Verified { subject: subject.clone(), until: now + REMEMBERED_S };
        self.verified.insert(digest, known);
        Ok(self.identity(subject))
    }

    fn stand_in(&self, name: &str) -> &PasswordHash {
        let chosen = blake3::keyed_hash(&self.stand_in_key, name.as_bytes());
        let [first, second, third, fourth, ..] = *chosen.as_bytes();
        let chosen = u32::from_le_bytes([first, second, third, fourth]) as usize;
        &self.stand_ins[chosen % self.stand_ins.len()]
    }

    fn identity(&self, subject: Arc<Subject>) -> Identity {
        Identity::subject(self.name.clone(), subject)
    }
}

fn matches(password: &str, hash: &PasswordHash) -> bool {
    let derived = derive(password, hash, hash.hash.len());
    derived.is_some_and(|derived| bool::from(derived.ct_eq(&hash.hash)))
}

fn derive(password: &str, cost: &PasswordHash, bytes: usize) -> Option<Vec<u8>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(bytes)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut derived = vec![0; bytes];
    argon2.hash_password_into(password.as_bytes(), &cost.salt, &mut derived).ok()?;
    Some(derived)
}

/// The hash of a password with a salt of its own, for `[identity.NAME.basic]`.
pub fn hash_password(password: &str) -> PasswordHash {
    let (memory_kib, passes, lanes) = USUAL;
    let salt: [u8; 16] = random();
    let salt = salt.to_vec();
    let mut hash = PasswordHash { memory_kib, passes, lanes, salt, hash: Vec::new() };
    hash.hash = derive(password, &hash, 32).expect("the usual costs are valid");
    hash
}

fn random<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    random
}

#[cfg(test)]
mod tests;
