//! When keys are fetched, from where, and how long they are used.

use serde_json::json;
use squall_types::ErrorCode;

use super::*;
use crate::policy::identity::testing::{
    ISSUER, JWKS_URL, Page, Signer, Web, ask_with_token, authenticator, claims, jwks, jwt_source,
};
use crate::policy::identity::{Authenticator, Sources};

const DISCOVERY_URL: &str = "https://id.example.com/.well-known/openid-configuration";
const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    web: Arc<Web>,
    sources: Sources,
    door: Authenticator,
    key: Signer,
}

impl Bench {
    fn new() -> Self {
        Self::with(&jwt_source(""))
    }

    fn with(settings: &str) -> Self {
        let web = Arc::new(Web::default());
        let sources = Sources::new(web.clone());
        let door = authenticator(&sources, settings);
        let bench = Self { web, sources, door, key: Signer::ed25519() };
        bench.publish(&[("one", &bench.key)]);
        bench
    }

    fn publish(&self, keys: &[(&str, &Signer)]) {
        let keys: Vec<_> =
            keys.iter().map(|(id, key)| key.jwk(&format!(r#""kid":"{id}""#))).collect();
        self.web.put(JWKS_URL, Page::of(jwks(&keys)));
    }

    fn token(&self, id: &str, key: &Signer) -> String {
        key.token(&format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#), &claims(json!({})))
    }

    /// Another token each time, so that none is remembered.
    fn fresh_token(&self) -> String {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let claims = claims(json!({"jti": number.to_string()}));
        self.key.token(r#"{"alg":"EdDSA","kid":"one"}"#, &claims)
    }

    async fn outcome(&self, token: &str) -> Result<(), ErrorCode> {
        ask_with_token(&self.door, token).await.map(drop).map_err(|why| why.code)
    }

    fn fetches(&self) -> usize {
        self.web.asked().len()
    }
}

/// Lets what was started behind a request end.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test(start_paused = true)]
async fn many_first_requests_cause_one_fetch() {
    let bench = Bench::new();
    let token = bench.fresh_token();
    assert_eq!(bench.fetches(), 0, "nobody asks before the first request");
    let all = (0..50).map(|_| bench.outcome(&token));
    for outcome in futures_util::future::join_all(all).await {
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(bench.web.asked(), [JWKS_URL]);
    let policy = &bench.web.policies()[0];
    assert_eq!(policy.allowed_hosts, ["id.example.com"]);
    assert!(!policy.allow_private);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_does_not_stop_the_fetch() {
    let bench = Bench::new();
    let token = bench.fresh_token();
    let given_up = tokio::time::timeout(Duration::from_millis(1), bench.outcome(&token)).await;
    assert!(given_up.is_err());
    settle().await;
    assert_eq!(bench.outcome(&token).await, Ok(()));
    assert_eq!(bench.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_are_renewed_by_age_behind_the_requests() {
    let bench = Bench::new();
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    tokio::time::advance(LIFETIME_USUAL - Duration::from_secs(5)).await;
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    assert_eq!(bench.fetches(), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    // An issuer that takes its time holds nobody up.
    let slow = Page { takes: Duration::from_secs(9), ..Page::of("") };
    bench.web.put(JWKS_URL, slow);
    let before = Instant::now();
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    assert!(before.elapsed() < Duration::from_secs(1));
    settle().await;
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_once_and_then_once_in_thirty_seconds() {
    let bench = Bench::new();
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    let (second, third) = (Signer::ed25519(), Signer::ed25519());
    bench.publish(&[("one", &bench.key), ("two", &second)]);
    assert_eq!(bench.outcome(&bench.token("two", &second)).await, Ok(()));
    assert_eq!(bench.fetches(), 2);

    bench.publish(&[("two", &second), ("three", &third)]);
    let invalid = Err(ErrorCode::InvalidCredentials);
    let many = (0..100).map(|number| bench.token(&format!("unknown-{number}"), &third));
    for token in many.chain([bench.token("three", &third)]) {
        assert_eq!(bench.outcome(&token).await, invalid);
    }
    assert_eq!(bench.fetches(), 2);

    tokio::time::advance(UNKNOWN_KEY_FLOOR).await;
    let tokens: Vec<_> = (0..20).map(|_| bench.token("three", &third)).collect();
    let outcomes = futures_util::future::join_all(tokens.iter().map(|one| bench.outcome(one)));
    assert!(outcomes.await.iter().all(Result::is_ok));
    assert_eq!(bench.fetches(), 3);
    // And the first key is withdrawn.
    assert_eq!(bench.outcome(&bench.fresh_token()).await, invalid);
}

#[tokio::test(start_paused = true)]
async fn remembered_tokens_are_forgotten_with_their_keys() {
    let bench = Bench::new();
    let token = bench.fresh_token();
    assert_eq!(bench.outcome(&token).await, Ok(()));
    // The same keys again leave them alone.
    tokio::time::advance(LIFETIME_USUAL + Duration::from_secs(1)).await;
    assert_eq!(bench.outcome(&token).await, Ok(()));
    settle().await;
    assert_eq!((bench.outcome(&token).await, bench.fetches()), (Ok(()), 2));
    // Another key under the same name.
    bench.publish(&[("one", &Signer::ed25519())]);
    tokio::time::advance(LIFETIME_USUAL + Duration::from_secs(1)).await;
    let _ = bench.outcome(&token).await;
    settle().await;
    assert_eq!(bench.outcome(&token).await, Err(ErrorCode::InvalidCredentials));
}

#[tokio::test(start_paused = true)]
async fn stale_keys_work_while_the_issuer_is_down_for_a_day() {
    let bench = Bench::new();
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    bench.web.remove(JWKS_URL);
    let mut until = Duration::ZERO;
    while until < 23 * HOUR {
        tokio::time::advance(LIFETIME_USUAL / 2).await;
        until += LIFETIME_USUAL / 2;
        assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()), "after {until:?}");
        tokio::task::yield_now().await;
    }
    let remembered = bench.fresh_token();
    assert_eq!(bench.outcome(&remembered).await, Ok(()));
    tokio::time::advance(2 * HOUR).await;
    for token in [bench.fresh_token(), remembered] {
        assert_eq!(bench.outcome(&token).await, Err(ErrorCode::IdentityUnavailable));
    }
    tokio::time::advance(RETRY_MAX).await;
    bench.publish(&[("one", &bench.key)]);
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_nothing_is_let_in_by_keys_that_were_withdrawn_meanwhile() {
    let bench = Bench::new();
    let token = bench.fresh_token();
    assert_eq!(bench.outcome(&token).await, Ok(()));
    bench.publish(&[("two", &Signer::ed25519())]);
    tokio::time::advance(2 * HOUR).await;
    assert_eq!(bench.outcome(&token).await, Err(ErrorCode::InvalidCredentials));
}

#[tokio::test(start_paused = true)]
async fn without_keys_a_request_is_told_when_to_come_again() {
    let bench = Bench::new();
    bench.web.remove(JWKS_URL);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let why = ask_with_token(&bench.door, &bench.fresh_token()).await.err().unwrap();
        assert_eq!(why.code, ErrorCode::IdentityUnavailable);
        let wait = why.retry_after_s.unwrap();
        waits.push(wait);
        let fetches = bench.fetches();
        // Too early: nobody is asked again.
        assert!(bench.outcome(&bench.fresh_token()).await.is_err());
        assert_eq!(bench.fetches(), fetches);
        tokio::time::advance(Duration::from_secs(wait.into())).await;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    // A token that could be nobody's is refused as such, whoever is down.
    let invalid = Err(ErrorCode::InvalidCredentials);
    assert_eq!(bench.outcome("a.b.c").await, invalid);
    let foreign = bench.key.token(r#"{"alg":"EdDSA"}"#, &claims(json!({"iss": "https://other"})));
    assert_eq!(bench.outcome(&foreign).await, invalid);
    bench.publish(&[("one", &bench.key)]);
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_keys_are_failures() {
    let good = jwks(&[Signer::ed25519().jwk(r#""kid":"one""#)]);
    let many = vec![Signer::p256().jwk(r#""kid":"x""#); KEYS_MAX + 1];
    let huge = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(ANSWER_BYTES_MAX));
    for (what, page) in [
        ("a redirect", Page { status: 302, ..Page::of(good.clone()) }),
        ("404", Page { status: 404, ..Page::of(good.clone()) }),
        ("500", Page { status: 500, ..Page::of(good.clone()) }),
        ("204", Page { status: 204, ..Page::of("") }),
        ("HTML", Page::of("<html>")),
        ("a list", Page::of("[]")),
        ("no list of keys", Page::of(r#"{"keys":{}}"#)),
        ("a member twice", Page::of(good.replacen("\"keys\":", "\"keys\":[],\"keys\":", 1))),
        ("too many keys", Page::of(jwks(&many))),
        ("too much", Page::of(huge)),
        ("too late", Page { takes: FETCH_MAX + Duration::from_secs(1), ..Page::of(good) }),
    ] {
        let bench = Bench::new();
        bench.web.put(JWKS_URL, page);
        let outcome = bench.outcome(&bench.fresh_token()).await;
        assert_eq!(outcome, Err(ErrorCode::IdentityUnavailable), "{what}");
        let mut metrics = String::new();
        bench.sources.write_metrics(&mut metrics);
        assert!(metrics.contains("fetches_total{result=\"failed\"} 1"), "{what}: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn discovery_asks_the_issuer_for_the_place_of_its_keys() {
    let settings = jwt_source("").replace(&format!("jwks_url = \"{JWKS_URL}\"\n"), "");
    let document = |issuer: &str, keys: &str| {
        Page::of(json!({"issuer": issuer, "jwks_uri": keys}).to_string())
    };
    let elsewhere = "https://keys.example.net/set";
    let bench = Bench::with(&settings);
    bench.web.put(DISCOVERY_URL, document(ISSUER, elsewhere));
    bench.web.put(elsewhere, Page::of(jwks(&[bench.key.jwk(r#""kid":"one""#)])));
    assert_eq!(bench.outcome(&bench.fresh_token()).await, Ok(()));
    assert_eq!(bench.web.asked(), [DISCOVERY_URL, elsewhere]);
    let hosts: Vec<_> =
        bench.web.policies().iter().map(|policy| policy.allowed_hosts.clone()).collect();
    assert_eq!(hosts, [["id.example.com"], ["keys.example.net"]]);

    for (what, page) in [
        ("another issuer", document("https://id.example.com.evil.example", JWKS_URL)),
        ("a slash more", document("https://id.example.com/", JWKS_URL)),
        ("keys without TLS", document(ISSUER, "http://id.example.com/keys")),
        ("keys in a file", document(ISSUER, "file:///etc/passwd")),
        ("keys nowhere", document(ISSUER, "")),
        ("no keys", Page::of(json!({"issuer": ISSUER}).to_string())),
        ("no document", Page::of("gone")),
    ] {
        let bench = Bench::with(&settings);
        bench.web.put(DISCOVERY_URL, page);
        let outcome = bench.outcome(&bench.fresh_token()).await;
        assert_eq!(outcome, Err(ErrorCode::IdentityUnavailable), "{what}");
        assert_eq!(bench.web.asked(), [DISCOVERY_URL], "{what}");
    }
}

#[test]
fn the_issuer_says_how_long_its_keys_last_within_bounds() {
    for (said, expected_s) in [
        ("", 600),
        ("no-store", 600),
        ("max-age=3600", 3_600),
        ("public, max-age=120, must-revalidate", 120),
        ("max-age=0", 60),
        ("max-age=99999999", 86_400),
        ("max-age=99999999999999999999999", 600),
        ("max-age=-1", 600),
        ("max-age=\"60\"", 600),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(said));
        assert_eq!(lifetime(&headers), Duration::from_secs(expected_s), "{said}");
    }
    assert_eq!(lifetime(&HeaderMap::new()), LIFETIME_USUAL);
}
