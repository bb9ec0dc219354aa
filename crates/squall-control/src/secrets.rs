//! Secrets at rest: XChaCha20-Poly1305 under the node's key, bound to app and name, so
//! that one can not be put in another's place.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const NONCE_BYTES: usize = 24;

#[derive(Debug, thiserror::Error)]
#[error(
    "secret {name} of app {app} can not be decrypted: the node's key is not the one that it was encrypted with; put the right node.key back, or set the secret again"
)]
pub(crate) struct WrongKey {
    app: String,
    name: String,
}

pub(crate) struct Vault(XChaCha20Poly1305);

impl Vault {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// The nonce, then the ciphertext.
    pub(crate) fn seal(&self, app: &str, name: &str, value: &str) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        let bound = bound_to(app, name);
        let payload = Payload { msg: value.as_bytes(), aad: &bound };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload);
        let mut out = nonce.to_vec();
        // Encryption fails only beyond 256 GiB.
        out.extend_from_slice(&sealed.expect("a secret is small"));
        out
    }

    pub(crate) fn open(&self, app: &str, name: &str, sealed: &[u8]) -> Result<String, WrongKey> {
        let wrong = || WrongKey { app: app.to_owned(), name: name.to_owned() };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
        let bound = bound_to(app, name);
        let payload = Payload { msg: sealed, aad: &bound };
        let value = self.0.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| wrong())?;
        String::from_utf8(value).map_err(|_| wrong())
    }
}

fn bound_to(app: &str, name: &str) -> Vec<u8> {
    // App names hold no slash.
    format!("squall-secret/{app}/{name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_in_its_place_only() {
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal("a", "KEY", "wind");
        assert!(!sealed.windows(4).any(|part| part == b"wind"));
        assert_eq!(vault.open("a", "KEY", &sealed).unwrap(), "wind");
        assert!(vault.open("b", "KEY", &sealed).is_err());
        assert!(vault.open("a", "OTHER", &sealed).is_err());
        assert!(Vault::new(&[8; 32]).open("a", "KEY", &sealed).is_err());
        assert!(vault.open("a", "KEY", &sealed[..20]).is_err());
        assert_ne!(vault.seal("a", "KEY", "wind"), sealed, "every nonce is new");
    }
}
