//! Forgeries, the vectors of the RFCs, and random input.

use std::sync::Arc;

use proptest::prelude::*;
use ring::signature;
use serde_json::json;
use squall_types::ErrorCode;
use squall_types::gateway::JwtAlgorithm;

use super::super::testing::{
    ISSUER, JWKS_URL, Page, RSA_N, Signer, Web, ask, ask_with_token, authenticator, base64url,
    claims, from_base64url, jwks, jwt_source, now,
};
use super::super::{Authenticator, Sources};
use super::key::Key;
use super::{strict_json, token};

/// An issuer with one key of each kind, and a route that asks for its tokens.
struct Bench {
    rsa: Signer,
    p256: Signer,
    p384: Signer,
    ed25519: Signer,
    door: Authenticator,
}

impl Bench {
    fn new() -> Self {
        let rsa = Signer::rsa(&signature::RSA_PKCS1_SHA256);
        let (p256, p384, ed25519) = (Signer::p256(), Signer::p384(), Signer::ed25519());
        let keys = jwks(&[
            rsa.jwk(r#""kid":"rsa""#),
            rsa.jwk(r#""kid":"rsa-rs256","alg":"RS256","use":"sig","key_ops":["verify"]"#),
            rsa.jwk(r#""kid":"rsa-enc","use":"enc""#),
            rsa.jwk(r#""kid":"rsa-sign","key_ops":["sign"]"#),
            rsa.jwk(r#""kid":"rsa-oaep","alg":"RSA-OAEP""#),
            p256.jwk(r#""kid":"p256""#),
            p384.jwk(r#""kid":"p384""#),
            ed25519.jwk(r#""kid":"ed25519""#),
            r#"{"kty":"oct","kid":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"Ed25519","kid":"weak","x":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.to_owned(),
        ]);
        let web = Arc::new(Web::default());
        web.put(JWKS_URL, Page::of(keys));
        let door = authenticator(&Sources::new(web), &jwt_source(""));
        Self { rsa, p256, p384, ed25519, door }
    }

    /// A token that is let in.
    fn good(&self) -> String {
        self.ed25519.token(r#"{"alg":"EdDSA","kid":"ed25519","typ":"JWT"}"#, &claims(json!({})))
    }

    fn with_claims(&self, claims: &str) -> String {
        self.ed25519.token(r#"{"alg":"EdDSA","kid":"ed25519"}"#, claims)
    }

    fn with_header(&self, header: &str) -> String {
        self.ed25519.token(header, &claims(json!({})))
    }
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_let_in() {
    let bench = Bench::new();
    let rsa = |encoding: &'static dyn signature::RsaEncoding| Signer::rsa(encoding);
    let cases = [
        ("RS256", "rsa", &rsa(&signature::RSA_PKCS1_SHA256)),
        ("RS256", "rsa-rs256", &rsa(&signature::RSA_PKCS1_SHA256)),
        ("RS384", "rsa", &rsa(&signature::RSA_PKCS1_SHA384)),
        ("RS512", "rsa", &rsa(&signature::RSA_PKCS1_SHA512)),
        ("PS256", "rsa", &rsa(&signature::RSA_PSS_SHA256)),
        ("PS384", "rsa", &rsa(&signature::RSA_PSS_SHA384)),
        ("PS512", "rsa", &rsa(&signature::RSA_PSS_SHA512)),
        ("ES256", "p256", &bench.p256),
        ("ES384", "p384", &bench.p384),
        ("EdDSA", "ed25519", &bench.ed25519),
    ];
    for (algorithm, key, signer) in cases {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{key}"}}"#);
        let token = signer.token(&header, &claims(json!({})));
        for times in ["first", "second"] {
            let identity = ask_with_token(&bench.door, &token).await;
            let identity = identity.unwrap_or_else(|why| panic!("{header} {times}: {why:?}"));
            assert_eq!(identity.unwrap().name(), "ada");
        }
    }
}

#[tokio::test]
async fn claims_in_all_their_forms_are_understood() {
    let bench = Bench::new();
    for changes in [
        json!({"aud": ["other", "shop"]}),
        json!({"exp": now() as f64 + 60.5}),
        // Within the leeway of 30 seconds.
        json!({"exp": now() - 20}),
        json!({"nbf": now() + 20, "iat": now() + 20}),
        json!({"exp": 1e300}),
        json!({"iat": null}),
        json!({"scope": null}),
        json!({"scope": ["read", "write"]}),
    ] {
        let outcome =
            ask_with_token(&bench.door, &bench.with_claims(&claims(changes.clone()))).await;
        assert!(outcome.is_ok(), "{changes}: {outcome:?}", outcome = outcome.err());
    }
    // What the forgeries below start from.
    let exp = now() + 3_600;
    let text = format!(r#"{{"iss":"{ISSUER}","aud":"shop","exp":{exp},"sub":"ada"}}"#);
    assert!(ask_with_token(&bench.door, &bench.with_claims(&text)).await.is_ok());
    for header in [
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"Ed25519","kid":"ed25519"}"#,
        r#"{"alg":"EdDSA","kid":"ed25519","typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"ed25519","typ":"application/at+JWT"}"#,
        r#"{"kid":"ed25519","alg":"EdDSA","unknown":{"is":["ignored"]}}"#,
    ] {
        let outcome = ask_with_token(&bench.door, &bench.with_header(header)).await;
        assert!(outcome.is_ok(), "{header}");
    }
    let token = bench.good();
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        let value = format!("{scheme} {token}");
        assert!(ask(&bench.door, &[("authorization", &value)]).await.is_ok(), "{scheme:?}");
    }
}

/// Tokens that somebody else made, or that are not for us: every one is refused.
fn forgeries(bench: &Bench) -> Vec<(String, String)> {
    let good = bench.good();
    let [header, payload, signature] = parts(&good);
    let mut list = Vec::new();
    let mut add = |what: &str, token: String| list.push((what.to_owned(), token));

    // No signature at all (RFC 8725, section 2.1).
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let header = base64url(format!(r#"{{"alg":"{none}","kid":"ed25519"}}"#));
        add(&format!("alg {none:?}"), format!("{header}.{payload}."));
        add(&format!("alg {none:?}, signature kept"), format!("{header}.{payload}.{signature}"));
    }
    add("no alg", bench.with_header(r#"{"kid":"ed25519"}"#));
    add("alg null", bench.with_header(r#"{"alg":null,"kid":"ed25519"}"#));
    add("alg list", bench.with_header(r#"{"alg":["EdDSA"],"kid":"ed25519"}"#));
    add("alg in lower case", bench.with_header(r#"{"alg":"eddsa","kid":"ed25519"}"#));
    add("no signature", format!("{header}.{payload}."));
    add("no third part", format!("{header}.{payload}"));
    add("no payload", format!("{header}..{signature}"));

    // Confusion of algorithms: a public key as a secret, or as a key of another type.
    for (what, secret) in [
        ("the modulus", from_base64url(RSA_N)),
        ("the modulus in base64url", RSA_N.into()),
        ("the JWK", bench.rsa.jwk(r#""kid":"rsa""#).into_bytes()),
        ("an empty key", Vec::new()),
        ("the shared key of the set", b"secret".to_vec()),
    ] {
        for key in ["rsa", "oct"] {
            let header = base64url(format!(r#"{{"alg":"HS256","kid":"{key}"}}"#));
            let signed = format!("{header}.{payload}");
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let tag = ring::hmac::sign(&key, signed.as_bytes());
            add(&format!("HS256 with {what}"), format!("{signed}.{}", base64url(tag)));
        }
    }
    let plain = claims(json!({}));
    let with = |signer: &Signer, header: &str| signer.token(header, &plain);
    add("ES256 with the RSA key", with(&bench.rsa, r#"{"alg":"ES256","kid":"rsa"}"#));
    add("RS256 with the EC key", with(&bench.p256, r#"{"alg":"RS256","kid":"p256"}"#));
    add("EdDSA with the EC key", with(&bench.p256, r#"{"alg":"EdDSA","kid":"p256"}"#));
    add("ES384 with the key of P-256", with(&bench.p256, r#"{"alg":"ES384","kid":"p256"}"#));
    add("RS256 named RS512", with(&bench.rsa, r#"{"alg":"RS512","kid":"rsa"}"#));
    add("RS256 named PS256", with(&bench.rsa, r#"{"alg":"PS256","kid":"rsa"}"#));
    let pss = Signer::rsa(&signature::RSA_PSS_SHA256);
    add("PS256 with a key for RS256", with(&pss, r#"{"alg":"PS256","kid":"rsa-rs256"}"#));
    add("a key for encryption", with(&bench.rsa, r#"{"alg":"RS256","kid":"rsa-enc"}"#));
    add("a key for signing only", with(&bench.rsa, r#"{"alg":"RS256","kid":"rsa-sign"}"#));
    add("a key for OAEP", with(&bench.rsa, r#"{"alg":"RS256","kid":"rsa-oaep"}"#));
    for other in ["ES512", "ES256K", "Ed448", "HS384", "HS512", "RS1", "RSA-OAEP", "dir", "A128KW"]
    {
        let header = format!(r#"{{"alg":"{other}","kid":"ed25519"}}"#);
        add(&format!("alg {other}"), bench.with_header(&header));
    }

    // Keys that the token brings itself.
    let attacker = Signer::ed25519();
    let own = attacker.jwk(r#""kid":"ed25519""#);
    for (what, header) in [
        ("jwk", format!(r#"{{"alg":"EdDSA","jwk":{own}}}"#)),
        ("jwk with a known kid", format!(r#"{{"alg":"EdDSA","kid":"ed25519","jwk":{own}}}"#)),
        ("jku", r#"{"alg":"EdDSA","kid":"ed25519","jku":"https://evil.example/keys"}"#.into()),
        ("jku on our host", format!(r#"{{"alg":"EdDSA","kid":"x","jku":"{JWKS_URL}?x"}}"#)),
        ("x5u", r#"{"alg":"EdDSA","kid":"ed25519","x5u":"https://evil.example/cert"}"#.into()),
        ("x5c", r#"{"alg":"EdDSA","kid":"ed25519","x5c":["MIIB"]}"#.into()),
        ("another's key", r#"{"alg":"EdDSA","kid":"ed25519"}"#.into()),
        ("another's key without kid", r#"{"alg":"EdDSA"}"#.into()),
    ] {
        add(what, attacker.token(&header, &plain));
    }

    // Names of keys.
    for kid in [
        "\"../../../../../../dev/null\"",
        "\"x' UNION SELECT 'c2VjcmV0'--\"",
        "\"ed25519|/bin/true\"",
        "\"https://evil.example/key\"",
        "\"\\u0000\"",
        "\"\"",
        "\"ED25519\"",
        "\"p256\"",
        "\"weak\"",
        "\"unknown\"",
        "7",
        "null",
        "[\"ed25519\"]",
    ] {
        add(&format!("kid {kid}"), bench.with_header(&format!(r#"{{"alg":"EdDSA","kid":{kid}}}"#)));
    }
    let long = "k".repeat(300);
    add("a long kid", bench.with_header(&format!(r#"{{"alg":"EdDSA","kid":"{long}"}}"#)));
    // Two keys of the set could have made it.
    add("no kid where there is a choice", with(&bench.rsa, r#"{"alg":"RS256"}"#));

    // Extensions and other kinds of tokens.
    for more in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""enc":"A128GCM""#,
        r#""typ":"JWE""#,
        r#""typ":"dpop+jwt""#,
        r#""typ":"logout+jwt""#,
        r#""typ":"JWT ""#,
        r#""typ":7"#,
        r#""typ":"JWT","cty":"JWT""#,
        r#""alg":"EdDSA""#,
        r#""\u0061lg":"none""#,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"ed25519",{more}}}"#);
        add(&format!("header with {more}"), bench.with_header(&header));
    }
    let inner = good.clone();
    add("a token as the payload", bench.with_claims(&inner));
    add("a token as the payload, quoted", bench.with_claims(&format!("\"{inner}\"")));
    add("a JWE", format!("{header}.{payload}.{payload}.{payload}.{signature}"));
    add("four parts", format!("{good}.{signature}"));
    add("a dot at the end", format!("{good}."));
    add("a dot at the start", format!(".{good}"));
    add(
        "flattened JSON",
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
    );
    let general =
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
    add("general JSON", general.to_string());
    add("two tokens", format!("{good},{good}"));
    add("two tokens with a space", format!("{good} {good}"));

    // Signatures.
    let bytes = from_base64url(signature);
    let signed = |bytes: &[u8]| format!("{header}.{payload}.{}", base64url(bytes));
    add("a signature cut short", signed(&bytes[..63]));
    add("a signature with more", signed(&[&bytes[..], &[0]].concat()));
    add("a signature of zeros", signed(&[0; 64]));
    let mut identity = [0; 64];
    identity[0] = 1;
    add("R of small order and S zero", signed(&identity));
    add("S not reduced", signed(&plus_group_order(&bytes)));
    let es256 = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let token = with(&bench.p256, r#"{"alg":"ES256","kid":"p256"}"#);
        let [header, payload, signature] = parts(&token);
        format!("{header}.{payload}.{}", base64url(change(&from_base64url(signature))))
    };
    add("ES256 in DER", es256(&|raw| der(raw)));
    add("ES256 with r and s zero", es256(&|_| vec![0; 64]));
    add("ES256 with r zero", es256(&|raw| [&[0; 32], &raw[32..]].concat()));
    add("ES256 with s zero", es256(&|raw| [&raw[..32], &[0; 32]].concat()));
    add("ES256 with r and s 2^256-1", es256(&|_| vec![0xff; 64]));
    add("ES256 with a zero before", es256(&|raw| [&[0], raw].concat()));
    let rs256 = with(&bench.rsa, r#"{"alg":"RS256","kid":"rsa"}"#);
    let [rs_header, rs_payload, rs_signature] = parts(&rs256);
    for (what, bytes) in [
        ("zero", vec![0; 256]),
        ("one", [vec![0; 255], vec![1]].concat()),
        ("the modulus", from_base64url(RSA_N)),
        ("cut short", from_base64url(rs_signature)[..255].to_vec()),
    ] {
        add(
            &format!("RS256 with {what}"),
            format!("{rs_header}.{rs_payload}.{}", base64url(bytes)),
        );
    }
    let other = bench.with_claims(&claims(json!({"sub": "eve"})));
    let [_, eve, eve_signature] = parts(&other);
    add("another payload", format!("{header}.{eve}.{signature}"));
    add("the signature of another token", format!("{header}.{payload}.{eve_signature}"));

    // Base64url.
    add("padding after the header", format!("{header}=.{payload}.{signature}"));
    add("padding after the payload", format!("{header}.{payload}==.{signature}"));
    add("padding after the signature", format!("{good}=="));
    add("bits left over", with_bits_left_over(&good));
    add("a space inside", good.replacen('.', ". ", 1));
    add("a tab inside", good.replacen('.', ".\t", 1));
    add("a quoted token", format!("\"{good}\""));
    add("percent-encoding", good.replacen('.', "%2E", 1));
    add("the scheme twice", format!("Bearer {good}"));
    let escaped = base64url(claims(json!({"name": "\u{fb}\u{ff}\u{fb}\u{ff}~~~???"})));
    let standard = escaped.replace('-', "+").replace('_', "/");
    let standard = format!("{header}.{standard}");
    let standard_signature = base64url(bench.ed25519.sign(standard.as_bytes()));
    if standard.contains(['+', '/']) {
        add("the standard alphabet", format!("{standard}.{standard_signature}"));
    }

    // Claims that a careful issuer does not make.
    for (name, wrong) in [
        (
            "iss",
            vec![
                json!(null),
                json!("https://id.example.com/"),
                json!("https://ID.example.com"),
                json!("https://id.example.com.evil.example"),
                json!("http://id.example.com"),
                json!("https://id.example.co"),
                json!(["https://id.example.com"]),
                json!(7),
                json!(""),
                json!("https://id.example.com\u{0}"),
            ],
        ),
        (
            "aud",
            vec![
                json!(null),
                json!("other"),
                json!("SHOP"),
                json!("shop2"),
                json!("sho"),
                json!(""),
                json!([]),
                json!(["other"]),
                json!([["shop"]]),
                json!(["shop", 7]),
                json!({"shop": true}),
                json!(7),
                json!(true),
                json!("shop other"),
            ],
        ),
        (
            "exp",
            vec![
                json!(null),
                json!(now() - 3_600),
                json!(now() - 31),
                json!(0),
                json!(-1),
                json!(-1e300),
                json!(format!("{}", now() + 3_600)),
                json!("never"),
                json!(true),
                json!([now() + 3_600]),
                json!({}),
            ],
        ),
        (
            "nbf",
            vec![
                json!(now() + 3_600),
                json!(format!("{}", now() - 3_600)),
                json!("0"),
                json!(-1),
                json!(true),
                json!([0]),
            ],
        ),
        ("iat", vec![json!(now() + 3_600), json!("0"), json!(-5), json!({})]),
        ("sub", vec![json!(null), json!(""), json!(7), json!(["ada"]), json!({})]),
        (
            "scope",
            vec![json!(7), json!([7]), json!([["admin"]]), json!({"admin": true}), json!(true)],
        ),
    ] {
        for value in wrong {
            let changed = claims(json!({name: value}));
            add(&format!("{name} {value}"), bench.with_claims(&changed));
        }
    }
    let exp = now() + 3_600;
    let start = format!(r#""iss":"https://id.example.com","aud":"shop","exp":{exp}"#);
    for text in [
        format!(r#"{{{start},"sub":"eve","sub":"ada"}}"#),
        format!(r#"{{{start},"sub":"ada","exp":1}}"#),
        format!(r#"{{{start},"sub":"ada","\u0065xp":1}}"#),
        format!(r#"{{{start},"sub":"ada","x":{{"a":1,"a":2}}}}"#),
        format!(r#"{{{start},"sub":"ada","nbf":1e999}}"#),
        format!(r#"{{{start},"sub":"ada","nbf":NaN}}"#),
        format!(r#"{{{start},"sub":"ada"}}}}"#),
        format!(r#"{{{start},"sub":"ada"}}{{}}"#),
        format!(r#"{{{start},"sub":"ada""#),
        format!(r#"{{{start},"sub":"ada",}}"#),
        format!("\u{feff}{{{start},\"sub\":\"ada\"}}"),
        format!(r#"[{{{start},"sub":"ada"}}]"#),
        format!(r#"{{{start},"sub":"ada","deep":{}{}}}"#, "[".repeat(40), "]".repeat(40)),
        format!(r#"{{{start},"sub":"ada","deep":{}1{}}}"#, r#"{"a":"#.repeat(40), "}".repeat(40)),
        format!(r#"{{{start},"sub":"ada","long":"{}"}}"#, "x".repeat(16 << 10)),
        "null".to_owned(),
        "\"ada\"".to_owned(),
        "7".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        String::new(),
        "eyJhbGciOiJub25lIn0".to_owned(),
    ] {
        add(&format!("claims {text:.80}"), bench.with_claims(&text));
    }
    let abyss = format!("{}.{}.", base64url("[".repeat(5_000)), base64url("[".repeat(5_000)));
    add("an abyss", abyss);
    add("not UTF-8", {
        let claims = [br#"{"iss":""#.as_slice(), &[0xff, 0xfe], br#""}"#].concat();
        let signed = format!("{header}.{}", base64url(claims));
        format!("{signed}.{}", base64url(bench.ed25519.sign(signed.as_bytes())))
    });
    list
}

#[tokio::test]
async fn every_forgery_is_refused() {
    let bench = Bench::new();
    // With the keys fetched and a token remembered, as in operation.
    assert!(ask_with_token(&bench.door, &bench.good()).await.is_ok());
    let forgeries = forgeries(&bench);
    assert!(forgeries.len() >= 150, "{}", forgeries.len());
    for (what, token) in forgeries {
        match ask_with_token(&bench.door, &token).await {
            Ok(_) => panic!("{what} was let in: {token}"),
            Err(why) => assert_eq!(why.code, ErrorCode::InvalidCredentials, "{what}: {why:?}"),
        }
    }
    let good = format!("Bearer {}", bench.good());
    let two = [("authorization", good.as_str()), ("authorization", good.as_str())];
    let twice = ask(&bench.door, &two).await.err().unwrap();
    assert_eq!(twice.code, ErrorCode::InvalidCredentials, "two headers");
    for scheme in ["Bearer", "Bearer ", "Bearer\t"] {
        assert!(ask(&bench.door, &[("authorization", scheme)]).await.is_err(), "{scheme:?}");
    }
    assert!(ask_with_token(&bench.door, &bench.good()).await.is_ok());
}

#[tokio::test]
async fn an_algorithm_that_the_source_does_not_list_is_refused() {
    let bench = Bench::new();
    let web = Arc::new(Web::default());
    web.put(JWKS_URL, Page::of(jwks(&[bench.ed25519.jwk(r#""kid":"ed25519""#)])));
    let settings = jwt_source("").replace("\"ES384\", \"EdDSA\"", "\"ES384\"");
    let door = authenticator(&Sources::new(web), &settings);
    let why = ask_with_token(&door, &bench.good()).await.err().unwrap();
    assert_eq!(why.message, "the token's algorithm is not accepted");
}

/// RFC 7515, appendix A; RFC 7519, sections 3.1 and 6.1; RFC 8037, appendix A.
mod vectors {
    use super::*;

    const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const ES256: &str =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

    fn key(jwk: &str) -> Key {
        Key::from_jwk(&strict_json::object(jwk.as_bytes()).unwrap()).unwrap()
    }

    #[track_caller]
    fn verifies(token: &str, jwk: &str) {
        let parsed = token::parse(token).unwrap();
        let key = key(jwk);
        assert!(key.verifies(parsed.algorithm, parsed.signed.as_bytes(), &parsed.signature));
        let mut other = parsed.signature.clone();
        other[10] ^= 1;
        assert!(!key.verifies(parsed.algorithm, parsed.signed.as_bytes(), &other));
    }

    #[test]
    fn rfc_7515_a_2_and_a_3_verify() {
        let rsa = format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB"}}"#);
        verifies(&format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{RS256}"), &rsa);
        let ec = r#"{"kty":"EC","crv":"P-256",
            "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        verifies(&format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{ES256}"), ec);
    }

    #[test]
    fn what_is_not_signed_with_a_public_key_is_refused() {
        // RFC 7515 A.1 and RFC 7519 section 3.1; A.4; A.5 and RFC 7519 section 6.1; A.6; A.7.
        let hs256 = format!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        let es512 = format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{ES256}");
        let none = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
        let signature = json!({"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": ES256});
        let general = json!({"payload": CLAIMS, "signatures": [signature]}).to_string();
        let flattened =
            json!({"payload": CLAIMS, "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": ES256});
        for token in [hs256, es512, none, general, flattened.to_string()] {
            assert!(token::parse(&token).is_err(), "{token}");
        }
    }

    #[test]
    fn rfc_8037_a_4_verifies_and_is_no_jwt() {
        let jwk =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let bytes = from_base64url(signature);
        assert!(key(jwk).verifies(JwtAlgorithm::EdDSA, signed.as_bytes(), &bytes));
        assert!(token::parse(&format!("{signed}.{signature}")).is_err());
    }
}

#[test]
fn keys_that_can_not_be_trusted_are_not_used() {
    let rsa =
        |modulus: &[u8]| format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, base64url(modulus));
    let modulus = from_base64url(RSA_N);
    let edwards =
        |x: [u8; 32]| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, base64url(x));
    let mut negative = [0; 32];
    negative[31] = 0x80;
    for jwk in [
        rsa(&modulus[..255]),
        rsa(&[0x7f; 256]),
        rsa(&[0xff; 1025]),
        rsa(&[]),
        edwards([0; 32]),
        edwards(negative),
        r#"{"kty":"RSA"}"#.to_owned(),
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
            .to_owned(),
        r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
        Signer::p256().jwk(r#""d":"AA""#),
        Signer::p256().jwk(r#""alg":"RS256""#),
        Signer::p256().jwk(r#""alg":"none""#),
        Signer::p256().jwk(r#""alg":7"#),
        Signer::p256().jwk(r#""use":"enc""#),
        Signer::p256().jwk(r#""key_ops":[]"#),
        Signer::p256().jwk(r#""key_ops":"verify""#),
        Signer::p256().jwk(r#""kid":7"#),
        "{}".to_owned(),
    ] {
        let members = strict_json::object(jwk.as_bytes()).unwrap();
        assert!(Key::from_jwk(&members).is_err(), "{jwk}");
    }
    // A leading zero is a known mistake of encoders and changes nothing.
    let zero_led = rsa(&[&[0], modulus.as_slice()].concat());
    for jwk in [rsa(&modulus), zero_led, Signer::ed25519().jwk(r#""alg":"Ed25519""#)] {
        let members = strict_json::object(jwk.as_bytes()).unwrap();
        assert!(Key::from_jwk(&members).is_ok(), "{jwk}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn parsing_never_panics(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = token::parse(&text);
        let _ = strict_json::object(&bytes);
        let parts = format!("{}.{}.{}", base64url(&bytes), base64url(&text), base64url(&bytes));
        let _ = token::parse(&parts);
    }

    #[test]
    fn what_is_read_strictly_is_read_the_same_by_others(text in r#"\{("[ab]":([0-9]{1,3}|"x"|null|\[1,2\]),?){0,4}\}"#) {
        if let Some(members) = strict_json::object(text.as_bytes()) {
            prop_assert_eq!(serde_json::Value::Object(members), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }
    }
}

/// Every place of a token, with several other bytes.
#[tokio::test]
async fn a_token_with_one_byte_changed_is_refused() {
    let bench = Bench::new();
    for good in [
        bench.good(),
        bench.p256.token(r#"{"alg":"ES256","kid":"p256"}"#, &claims(json!({}))),
        bench.rsa.token(r#"{"alg":"RS256","kid":"rsa"}"#, &claims(json!({}))),
    ] {
        assert!(ask_with_token(&bench.door, &good).await.is_ok());
        for place in 0..good.len() {
            for other in [b'A', b'_', b'.', b'=', b' ', good.as_bytes()[place] ^ 1] {
                let mut changed = good.clone().into_bytes();
                if changed[place] == other || !(0x20..0x7f).contains(&other) {
                    continue;
                }
                changed[place] = other;
                let changed = String::from_utf8(changed).unwrap();
                // White space at the ends is the header's, not the token's.
                if changed.trim() == good || changed.len() != changed.trim_start().len() {
                    continue;
                }
                assert!(ask_with_token(&bench.door, &changed).await.is_err(), "{place}: {changed}");
            }
        }
    }
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// The same signature bytes with other bits behind them, which a lax decoder drops.
fn with_bits_left_over(token: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = token.as_bytes().to_vec();
    let last = bytes.last_mut().unwrap();
    let value = ALPHABET.iter().position(|letter| letter == last).unwrap();
    *last = ALPHABET[value ^ 1];
    String::from_utf8(bytes).unwrap()
}

/// An Ed25519 signature with S + L in place of S, which is the same number modulo L.
fn plus_group_order(signature: &[u8]) -> Vec<u8> {
    // L = 2^252 + 27742317777372353535851937790883648493, little-endian.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut changed = signature.to_vec();
    let mut carry = 0;
    for (byte, add) in changed[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    changed
}

/// An ECDSA signature as X.509 has it.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let mut bytes = bytes[zeros..].to_vec();
        if bytes.first().is_none_or(|byte| *byte >= 0x80) {
            bytes.insert(0, 0);
        }
        [&[2, bytes.len() as u8], bytes.as_slice()].concat()
    };
    let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
    [&[0x30, both.len() as u8], both.as_slice()].concat()
}
