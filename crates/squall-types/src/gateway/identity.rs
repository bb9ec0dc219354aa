use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One way to know a caller: `[identity.NAME.jwt]`, `[identity.NAME.api_key]` or
/// `[identity.NAME.basic]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentitySource {
    Jwt(Jwt),
    ApiKey(ApiKeySource),
    Basic(Basic),
}

/// Signed tokens of an issuer (RFC 7519), as bearer tokens (RFC 6750).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be, to the letter. Without `jwks_url` the keys are found by OpenID
    /// Connect discovery: `<issuer>/.well-known/openid-configuration`.
    pub issuer: String,
    /// Where the issuer's keys are (RFC 7517). A token can not name another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// `aud` must name one of these.
    pub audience: Vec<String>,
    /// What tokens may be signed with. A key is used with its own algorithm only.
    #[serde(default = "Jwt::usual_algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far `exp` and `nbf` may be off.
    #[serde(default = "Jwt::usual_leeway_s")]
    pub leeway_s: u64,
    /// The claim with the caller's scopes: a list, or words in a string.
    #[serde(default = "Jwt::usual_scopes_claim")]
    pub scopes_claim: String,
    /// Where the token is, beside `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Passes the verified claims on as JSON in base64url, in `x-squall-claims`.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub forward_claims: bool,
    /// The issuer may be at a private address, and its URL may be `http`. For development.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub allow_private: bool,
}

/// Signature algorithms of RFC 7518 and RFC 8037. Those with a shared secret and `none`
/// are left out on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[allow(clippy::upper_case_acronyms)]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Jwt {
    fn usual_algorithms() -> Vec<JwtAlgorithm> {
        vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA]
    }
    fn usual_leeway_s() -> u64 {
        30
    }
    fn usual_scopes_claim() -> String {
        "scope".to_owned()
    }
}

/// Keys of the app's API clients, which `squall clients` makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySource {
    /// The header that holds the key.
    pub header: String,
    /// A query parameter that may hold it instead. Keys in URLs end up in logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Default for ApiKeySource {
    fn default() -> Self {
        Self { header: "x-api-key".to_owned(), query: None }
    }
}

/// Names and passwords (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Hashed passwords by name, as `squall gateway hash-password` prints them.
    pub users: BTreeMap<String, String>,
    #[serde(default = "Basic::usual_realm")]
    pub realm: String,
    /// Scopes of everybody who has a password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl Basic {
    fn usual_realm() -> String {
        "squall".to_owned()
    }
}

impl IdentitySource {
    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        match self {
            Self::Jwt(jwt) => jwt.check(&format!("{at}.jwt")),
            Self::ApiKey(key) => super::check::header_name(&format!("{at}.api_key"), &key.header),
            Self::Basic(basic) if basic.users.is_empty() => Err(format!(
                "{at}.basic.users is empty, so nobody could come in; add a line NAME = \"HASH\""
            )),
            Self::Basic(_) => Ok(()),
        }
    }
}

impl Jwt {
    fn check(&self, at: &str) -> Result<(), String> {
        for (key, url) in [("issuer", Some(&self.issuer)), ("jwks_url", self.jwks_url.as_ref())] {
            let Some(url) = url else { continue };
            let allowed =
                url.starts_with("https://") || self.allow_private && url.starts_with("http://");
            if !allowed {
                return Err(format!(
                    "{at}.{key} = {url:?} must be an https URL; with allow_private = true also an http one, for development"
                ));
            }
        }
        if self.audience.is_empty() {
            return Err(format!(
                "{at}.audience is empty: tokens that the issuer made for others would be let in; name what this API is called there"
            ));
        }
        if self.algorithms.is_empty() {
            return Err(format!("{at}.algorithms is empty, so no token could be valid"));
        }
        Ok(())
    }
}
