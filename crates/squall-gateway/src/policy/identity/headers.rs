//! What functions and upstreams are told about a caller. The guard removes these headers
//! from what callers send, so that what arrives is always the gateway's word.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The id of the API client, the subject of the token, or the name of the user.
pub(super) const CLIENT: HeaderName = HeaderName::from_static("x-squall-client");
/// The `[identity]` table that knew the caller.
pub(super) const IDENTITY: HeaderName = HeaderName::from_static("x-squall-identity");
/// Words with a space between.
pub(super) const SCOPES: HeaderName = HeaderName::from_static("x-squall-scopes");
pub(super) const PLAN: HeaderName = HeaderName::from_static("x-squall-plan");
pub(super) const ISSUER: HeaderName = HeaderName::from_static("x-squall-issuer");
/// JSON in base64url.
pub(super) const CLAIMS: HeaderName = HeaderName::from_static("x-squall-claims");

/// What can not stand in a header, or would be taken for something else there. The
/// percent sign is among it, so that decoding gives back exactly what was verified.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

pub(super) fn value(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'%');
    let value = if plain {
        HeaderValue::from_str(text)
    } else {
        HeaderValue::try_from(utf8_percent_encode(text, UNSAFE).to_string())
    };
    value.expect("printable ASCII can be sent")
}

/// Scopes in one value, each encoded by itself: one that holds a space stays one.
pub(super) fn scopes(scopes: &[String]) -> Option<HeaderValue> {
    if scopes.is_empty() {
        return None;
    }
    let mut text = String::new();
    for scope in scopes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend(utf8_percent_encode(scope, UNSAFE));
    }
    Some(HeaderValue::try_from(text).expect("printable ASCII can be sent"))
}

/// Headers about a caller who is no API client, made once and set on every request.
pub(super) struct SubjectHeaders(Vec<(HeaderName, HeaderValue)>);

impl SubjectHeaders {
    pub(super) fn new(subject: &str, granted: &[String]) -> Self {
        let mut headers = vec![(CLIENT, value(subject))];
        headers.extend(scopes(granted).map(|scopes| (SCOPES, scopes)));
        Self(headers)
    }

    /// Of a token: who made it, and its claims in base64url.
    pub(super) fn of(mut self, issuer: &str, claims: Option<&str>) -> Self {
        self.0.push((ISSUER, value(issuer)));
        self.0.extend(claims.map(|claims| (CLAIMS, value(claims))));
        self
    }

    pub(super) fn set(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_so_that_they_can_be_read_back() {
        for (text, expected) in [
            ("acme", "acme"),
            ("auth0|a@b.example", "auth0|a@b.example"),
            ("https://id.example/a,b\"c", "https://id.example/a,b\"c"),
            ("Ada Lovelace", "Ada%20Lovelace"),
            ("50%", "50%25"),
            ("%20", "%2520"),
            ("a\r\nx-squall-plan: gold", "a%0D%0Ax-squall-plan:%20gold"),
            ("zoë\u{0}", "zo%C3%AB%00"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
            let back = percent_encoding::percent_decode_str(expected).decode_utf8().unwrap();
            assert_eq!(back, text);
        }
    }

    #[test]
    fn a_scope_can_not_smuggle_another() {
        let granted = ["read".to_owned(), "a admin".to_owned(), String::new()];
        assert_eq!(scopes(&granted).unwrap(), "read a%20admin ");
        assert!(scopes(&[]).is_none());
    }
}
