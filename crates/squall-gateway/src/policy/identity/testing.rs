//! An issuer of tokens, and callers, for the tests of this module.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use squall_types::Body;
use squall_types::clients::Clients;
use squall_types::manifest::Manifest;
use squall_types::outbound::{
    Outbound, OutboundError, OutboundErrorKind, OutboundFuture, OutboundPolicy, OutboundTimeouts,
};

use super::{Authenticator, Identity, Sources};
use crate::rejection::Rejection;

pub(super) const ISSUER: &str = "https://id.example.com";
pub(super) const JWKS_URL: &str = "https://id.example.com/keys";

pub(super) fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn from_base64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A private key, and what it signs with.
pub(super) enum Signer {
    Rsa(rsa::KeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key of RFC 7515, appendix A.2.1.
pub(super) const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_D: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
const RSA_P: &str = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const RSA_Q: &str = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const RSA_DP: &str = "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0";
const RSA_DQ: &str = "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU";
const RSA_QI: &str = "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U";

impl Signer {
    pub(super) fn rsa(encoding: &'static dyn signature::RsaEncoding) -> Self {
        let bytes = from_base64url;
        let components = rsa::KeyPairComponents {
            public_key: rsa::PublicKeyComponents { n: bytes(RSA_N), e: bytes("AQAB") },
            d: bytes(RSA_D),
            p: bytes(RSA_P),
            q: bytes(RSA_Q),
            dP: bytes(RSA_DP),
            dQ: bytes(RSA_DQ),
            qInv: bytes(RSA_QI),
        };
        Self::Rsa(rsa::KeyPair::from_components(&components).unwrap(), encoding)
    }

    pub(super) fn p256() -> Self {
        Self::ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(super) fn p384() -> Self {
        Self::ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ecdsa(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as a JWK, with further members.
    pub(super) fn jwk(&self, more: &str) -> String {
        match self {
            Self::Rsa(..) => format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB",{more}}}"#),
            Self::Ecdsa(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                let (x, y) = (base64url(x), base64url(y));
                format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}",{more}}}"#)
            }
            Self::Ed25519(key) => {
                let x = base64url(key.public_key());
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}",{more}}}"#)
            }
        }
    }

    pub(super) fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        format!("{signed}.{}", base64url(self.sign(signed.as_bytes())))
    }
}

pub(super) fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Claims that `jwt_source` accepts, with some changed, added, or taken away by `null`.
pub(super) fn claims(changes: serde_json::Value) -> String {
    let mut claims = serde_json::json!({
        "iss": ISSUER,
        "aud": "shop",
        "sub": "ada",
        "exp": now() + 3 * 24 * 3600,
        "iat": now(),
        "scope": "read write",
    });
    for (name, value) in changes.as_object().unwrap() {
        match value.is_null() {
            true => claims.as_object_mut().unwrap().remove(name),
            false => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

/// The other end of every outbound request.
#[derive(Default)]
pub(super) struct Web {
    pages: Mutex<BTreeMap<String, Page>>,
    asked: Mutex<Vec<(String, Arc<OutboundPolicy>)>>,
}

#[derive(Clone)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) cache_control: &'static str,
    pub(super) body: String,
    pub(super) takes: Duration,
}

impl Page {
    pub(super) fn of(body: impl Into<String>) -> Self {
        let takes = Duration::from_millis(20);
        Self { status: 200, cache_control: "", body: body.into(), takes }
    }
}

impl Web {
    pub(super) fn put(&self, url: &str, page: Page) {
        self.pages.lock().unwrap().insert(url.to_owned(), page);
    }
    /// Nobody answers there any more.
    pub(super) fn remove(&self, url: &str) {
        self.pages.lock().unwrap().remove(url);
    }
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(url, _)| url.clone()).collect()
    }
    pub(super) fn policies(&self) -> Vec<Arc<OutboundPolicy>> {
        self.asked.lock().unwrap().iter().map(|(_, policy)| policy.clone()).collect()
    }
}

impl Outbound for Web {
    fn send(
        &self,
        request: http::Request<Body>,
        policy: Arc<OutboundPolicy>,
        _: OutboundTimeouts,
    ) -> OutboundFuture {
        let url = request.uri().to_string();
        self.asked.lock().unwrap().push((url.clone(), policy));
        let page = self.pages.lock().unwrap().get(&url).cloned();
        Box::pin(async move {
            let Some(page) = page else {
                let kind = OutboundErrorKind::ConnectionRefused;
                return Err(OutboundError::new(kind, "connection refused"));
            };
            tokio::time::sleep(page.takes).await;
            let response = http::Response::builder()
                .status(page.status)
                .header("cache-control", page.cache_control)
                .body(Body::full(page.body));
            Ok(response.unwrap())
        })
    }
}

/// The `[identity]` tables of a manifest and its policy, as they are served.
pub(super) fn authenticator(sources: &Sources, text: &str) -> Authenticator {
    let text = format!("name = \"shop\"\n{text}\n[[routes]]\nresponse = {{ status = 200 }}\n");
    let manifest = Manifest::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let policy = manifest.routes[0].policy.over(&manifest.gateway.policy);
    let found = Authenticator::compile(&policy, &manifest.name, &manifest.identity, sources);
    found.expect("somebody is asked for")
}

/// A source of tokens of `ISSUER`, with further settings.
pub(super) fn jwt_source(more: &str) -> String {
    format!(
        "[gateway.policy]\nauth = [\"main\"]\n[identity.main.jwt]\nissuer = \"{ISSUER}\"\njwks_url = \"{JWKS_URL}\"\naudience = [\"shop\"]\nalgorithms = [\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"EdDSA\"]\n{more}"
    )
}

pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

pub(super) async fn ask(
    authenticator: &Authenticator,
    pairs: &[(&str, &str)],
) -> Result<Option<Identity>, Rejection> {
    let mut target = PathAndQuery::from_static("/");
    authenticator.authenticate(&mut headers(pairs), &mut target, &Clients::default()).await
}

pub(super) async fn ask_with_token(
    authenticator: &Authenticator,
    token: &str,
) -> Result<Option<Identity>, Rejection> {
    ask(authenticator, &[("authorization", &format!("Bearer {token}"))]).await
}
