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
    /// What `iss` must be, to the letter. Without `jwks_url` it is a URL, and the keys are
    /// found by OpenID Connect discovery: `<issuer>/.well-known/openid-configuration`.
    pub issuer: String,
    /// Where the issuer's keys are (RFC 7517). A token can not name another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// `aud` must name one of these.
    pub audience: Vec<String>,
    /// What tokens may be signed with. A key is used with its own algorithm only.
    #[serde(default = "Jwt::usual_algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far the clocks of the issuer and of this node may be apart: `exp`, `nbf` and
    /// `iat` may be off by so much. At most 600.
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

impl JwtAlgorithm {
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// As in the `alg` of a token or a key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// To the letter: `none` and whatever else is not listed is no algorithm here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
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
            Self::ApiKey(key) => key.check(&format!("{at}.api_key")),
            Self::Basic(basic) => basic.check(&format!("{at}.basic")),
        }
    }
}

impl Jwt {
    const LEEWAY_S_MAX: u64 = 600;

    fn check(&self, at: &str) -> Result<(), String> {
        match &self.jwks_url {
            Some(url) => self.check_url(&format!("{at}.jwks_url"), url)?,
            None => self.check_url(&format!("{at}.issuer"), &self.issuer)?,
        }
        if self.issuer.is_empty() {
            return Err(format!("{at}.issuer is empty; write what `iss` is in its tokens"));
        }
        if self.audience.iter().any(String::is_empty) {
            return Err(format!("{at}.audience has an empty name; write what this API is called"));
        }
        if self.scopes_claim.is_empty() {
            return Err(format!("{at}.scopes_claim is empty; leave it out, or name a claim"));
        }
        if self.audience.is_empty() {
            return Err(format!(
                "{at}.audience is empty: tokens that the issuer made for others would be let in; name what this API is called there"
            ));
        }
        if self.algorithms.is_empty() {
            return Err(format!("{at}.algorithms is empty, so no token could be valid"));
        }
        if self.leeway_s > Self::LEEWAY_S_MAX {
            return Err(format!(
                "{at}.leeway_s = {} is more than {}: tokens would outlive their time",
                self.leeway_s,
                Self::LEEWAY_S_MAX
            ));
        }
        if let Some(name) = &self.cookie {
            super::check::cookie_name(&format!("{at}.cookie"), name)?;
        }
        Ok(())
    }

    fn check_url(&self, at: &str, url: &str) -> Result<(), String> {
        let allowed =
            url.starts_with("https://") || self.allow_private && url.starts_with("http://");
        if !allowed {
            return Err(format!(
                "{at} = {url:?} must be an https URL; with allow_private = true also an http one, for development"
            ));
        }
        let plain = url.parse::<http::Uri>().is_ok_and(|parsed| {
            parsed.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        if plain && !url.contains('#') {
            return Ok(());
        }
        Err(format!("{at} = {url:?} is not a URL that can be asked for keys"))
    }
}

impl ApiKeySource {
    fn check(&self, at: &str) -> Result<(), String> {
        super::check::header_name(at, &self.header)?;
        // It would be taken from whoever uses it for tokens or passwords.
        if self.header.eq_ignore_ascii_case("authorization") {
            return Err(format!("{at}.header can not be authorization; use one such as x-api-key"));
        }
        super::transform::check_changeable(&format!("{at}.header"), &self.header)?;
        let header = self.header.to_ascii_lowercase();
        let speaks_of_more = header.starts_with("x-forwarded-")
            || header.starts_with("accept")
            || matches!(
                header.as_str(),
                "cookie" | "forwarded" | "origin" | "content-type" | "range"
            );
        if speaks_of_more {
            return Err(format!(
                "{at}.header = {:?} says something else in requests; use one such as x-api-key",
                self.header
            ));
        }
        if self.query.as_ref().is_some_and(String::is_empty) {
            return Err(format!("{at}.query is empty; leave it out, or name a parameter"));
        }
        Ok(())
    }
}

impl Basic {
    fn check(&self, at: &str) -> Result<(), String> {
        if self.users.is_empty() {
            return Err(format!(
                "{at}.users is empty, so nobody could come in; add a line NAME = \"HASH\""
            ));
        }
        for (name, hash) in &self.users {
            // RFC 7617, section 2: the first colon ends the name.
            if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
                return Err(format!(
                    "{at}.users: {name:?} can not be a name; no colons, no control characters"
                ));
            }
            super::PasswordHash::parse(hash).map_err(|why| format!("{at}.users.{name} {why}"))?;
        }
        super::check::scopes(&format!("{at}.scopes"), &self.scopes)?;
        let quotable = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
        if !self.realm.bytes().all(quotable) {
            return Err(format!(
                "{at}.realm = {:?} must be plain ASCII without quotes",
                self.realm
            ));
        }
        Ok(())
    }
}
