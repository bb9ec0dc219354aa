//! The text of a token: a JWS in its compact serialisation (RFC 7515, section 7.1),
//! taken apart. Nothing is trusted yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use squall_types::gateway::JwtAlgorithm;

use super::strict_json;

/// Longer ones would not pass the limits of headers elsewhere either.
pub(super) const BYTES_MAX: usize = 16 << 10;
const KEY_ID_BYTES_MAX: usize = 256;

pub(super) struct Token<'a> {
    pub(super) algorithm: JwtAlgorithm,
    /// A name in the issuer's set of keys; never a path, a URL or a query.
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The claims as they came, in base64url.
    pub(super) claims_text: &'a str,
    /// What the signature is for.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// # Errors
/// Why it is no token that could be valid, in words for its bearer.
pub(super) fn parse(text: &str) -> Result<Token<'_>, &'static str> {
    const NO_JWT: &str = "the token is not a signed JWT";
    if text.len() > BYTES_MAX {
        return Err("the token is too long");
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(NO_JWT)?;
    let (header, claims_text) = signed.split_once('.').ok_or(NO_JWT)?;
    if claims_text.contains('.') {
        // Five parts are an encrypted token (RFC 7516).
        return Err(NO_JWT);
    }
    // Strict: no padding, no white space, and no bits that are left over, so that a token
    // has one text only.
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_JWT);
    let header = strict_json::object(&bytes(header)?).ok_or("the token's header is malformed")?;
    let (algorithm, key_id) = read_header(&header)?;
    let claims = bytes(claims_text)?;
    let claims = strict_json::object(&claims).ok_or("the token's claims are malformed")?;
    let signature = bytes(signature)?;
    Ok(Token { algorithm, key_id, claims, claims_text, signed, signature })
}

/// RFC 9864 gives EdDSA with the curve Ed25519 a name of its own; there is no other here.
pub(super) fn named(algorithm: &str) -> Option<JwtAlgorithm> {
    match algorithm {
        "Ed25519" => Some(JwtAlgorithm::EdDSA),
        name => JwtAlgorithm::named(name),
    }
}

/// `jku`, `x5u`, `jwk` and `x5c` would let a token bring its own key: nobody looks at them.
fn read_header(
    header: &Map<String, Value>,
) -> Result<(JwtAlgorithm, Option<String>), &'static str> {
    // Extensions that must be understood (RFC 7515, section 4.1.11), and members that
    // change what is signed (RFC 7797) or say that this is something else (RFC 7516).
    if ["crit", "b64", "enc", "zip"].iter().any(|name| header.contains_key(*name)) {
        return Err("the token's header asks for what is not supported");
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(named);
    let algorithm = algorithm.ok_or("the token's algorithm is not accepted")?;
    // A token for another purpose shall not pass for an access token (RFC 8725, section
    // 3.11), nor one that holds another token (RFC 7519, section 5.2).
    let kind = match header.get("typ") {
        None => true,
        Some(Value::String(kind)) => {
            let kind = kind.to_ascii_lowercase();
            matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
        }
        Some(_) => false,
    };
    if !kind || header.contains_key("cty") {
        return Err("the token is of another type");
    }
    match header.get("kid") {
        None => Ok((algorithm, None)),
        Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => {
            Ok((algorithm, Some(id.clone())))
        }
        Some(_) => Err("the token's key id is malformed"),
    }
}
