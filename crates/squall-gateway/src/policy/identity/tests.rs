//! A route's callers, whichever way they say who they are.

use std::collections::HashMap;

use squall_types::clients::{ApiKey, ApiKeyText};

use super::testing::{
    ISSUER, JWKS_URL, Page, Signer, Web, authenticator, base64url, claims, headers, jwks,
    jwt_source,
};
use super::*;
use serde_json::json;

struct Bench {
    door: Authenticator,
    clients: Clients,
    api_key: String,
    signer: Signer,
}

/// What became of a request.
struct Answer {
    outcome: Result<Option<Identity>, Rejection>,
    /// As the target sees it.
    headers: HeaderMap,
    target: String,
}

impl Bench {
    /// `auth` and the rest of the policy.
    fn new(policy: &str) -> Self {
        let signer = Signer::ed25519();
        let web = Arc::new(Web::default());
        web.put(JWKS_URL, Page::of(jwks(&[signer.jwk(r#""kid":"one""#)])));
        let other_issuer = jwt_source("cookie = \"session\"\nforward_claims = true")
            .replace("[gateway.policy]\nauth = [\"main\"]\n", "")
            .replace("identity.main", "identity.other")
            .replace(ISSUER, "https://other.example.com")
            .replace("https://other.example.com/keys", JWKS_URL);
        let hash = hash_password("sesame");
        let text = format!(
            "{}\n{other_issuer}\n[identity.partners.api_key]\nquery = \"api_key\"\n[identity.staff.basic]\nrealm = \"staff\"\nscopes = [\"admin\"]\nusers = {{ alice = \"{hash}\" }}\n",
            jwt_source("").replace("auth = [\"main\"]", policy)
        );
        let door = authenticator(&Sources::new(web), &text);
        let key = ApiKeyText::generate();
        let client = ApiClient {
            id: "acme".to_owned(),
            plan: Some("gold".to_owned()),
            scopes: vec!["read".to_owned(), "write".to_owned()],
            disabled: false,
        };
        let stored = ApiKey { client: Arc::new(client), hash: key.hash(), expires_at: None };
        let clients = Clients { keys: HashMap::from([(key.prefix().into(), stored)]) };
        Self { door, clients, api_key: key.as_str().to_owned(), signer }
    }

    fn token(&self, changes: serde_json::Value) -> String {
        self.signer.token(r#"{"alg":"EdDSA","kid":"one"}"#, &claims(changes))
    }

    async fn ask(&self, pairs: &[(&str, &str)], target: &str) -> Answer {
        let mut headers = headers(pairs);
        let mut target = PathAndQuery::try_from(target).unwrap();
        let outcome = self.door.authenticate(&mut headers, &mut target, &self.clients).await;
        if let Ok(Some(identity)) = &outcome {
            identity.set_headers(&mut headers);
        }
        Answer { outcome, headers, target: target.to_string() }
    }
}

impl Answer {
    #[track_caller]
    fn name(&self) -> &str {
        match &self.outcome {
            Ok(Some(identity)) => identity.name(),
            Ok(None) => "anonymous",
            Err(why) => panic!("{why:?}"),
        }
    }

    #[track_caller]
    fn refused(self, code: ErrorCode, message: &str) -> Vec<String> {
        let Err(why) = self.outcome else { panic!("it was let in") };
        assert_eq!((why.code, why.message.as_str()), (code, message));
        let response = why.into_response(&HeaderMap::new());
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        challenges.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

const ALL: &str = "auth = [\"partners\", \"main\", \"other\", \"staff\"]";
const ALICE: &str = "Basic YWxpY2U6c2VzYW1l";

#[tokio::test]
async fn every_source_lets_its_callers_in_and_says_who_they_are() {
    let bench = Bench::new(ALL);

    let answer = bench.ask(&[("x-api-key", &bench.api_key)], "/").await;
    assert_eq!(answer.name(), "acme");
    assert_eq!(answer.header("x-squall-client"), Some("acme"));
    assert_eq!(answer.header("x-squall-identity"), Some("partners"));
    assert_eq!(answer.header("x-squall-scopes"), Some("read write"));
    assert_eq!(answer.header("x-squall-plan"), Some("gold"));
    assert_eq!(answer.header("x-squall-issuer"), None);
    assert_eq!(answer.header("x-api-key"), None);
    let identity = answer.outcome.unwrap().unwrap();
    assert_eq!(identity.limit_key(), ("", "acme"));
    assert_eq!(identity.client().unwrap().plan.as_deref(), Some("gold"));

    let target = format!("/a?x=1&api_key={}&y=2", bench.api_key);
    let answer = bench.ask(&[], &target).await;
    assert_eq!((answer.name(), answer.target.as_str()), ("acme", "/a?x=1&y=2"));

    let bearer = format!("Bearer {}", bench.token(json!({"sub": "ada lovelace"})));
    let answer = bench.ask(&[("authorization", &bearer)], "/").await;
    assert_eq!(answer.name(), "ada lovelace");
    assert_eq!(answer.header("x-squall-client"), Some("ada%20lovelace"));
    assert_eq!(answer.header("x-squall-identity"), Some("main"));
    assert_eq!(answer.header("x-squall-scopes"), Some("read write"));
    assert_eq!(answer.header("x-squall-issuer"), Some(ISSUER));
    assert_eq!(answer.header("x-squall-claims"), None);
    assert_eq!(answer.header("authorization"), Some(bearer.as_str()));
    let identity = answer.outcome.unwrap().unwrap();
    assert_eq!(identity.limit_key(), ("main", "ada lovelace"));
    assert!(identity.client().is_none());

    // The token itself tells which of two issuers is meant; a cookie may hold it.
    let told = claims(json!({"iss": "https://other.example.com"}));
    let token = bench.signer.token(r#"{"alg":"EdDSA","kid":"one"}"#, &told);
    for pair in [
        ("authorization", format!("Bearer {token}")),
        ("cookie", format!("a=b; session={token}; c=d")),
    ] {
        let answer = bench.ask(&[(pair.0, &pair.1)], "/").await;
        assert_eq!(answer.header("x-squall-identity"), Some("other"), "{}", pair.0);
        assert_eq!(answer.header("x-squall-claims"), Some(base64url(&told).as_str()));
    }

    for scheme in ["Basic", "basic", "BASIC "] {
        let answer = bench.ask(&[("authorization", &ALICE.replace("Basic", scheme))], "/").await;
        assert_eq!(answer.name(), "alice");
        assert_eq!(answer.header("x-squall-identity"), Some("staff"));
        assert_eq!(answer.header("x-squall-scopes"), Some("admin"));
        assert_eq!(answer.header("authorization"), None);
    }
}

#[tokio::test]
async fn no_token_goes_on_that_was_not_checked() {
    let bench = Bench::new(ALL);
    let bearer = format!("Bearer {}", bench.token(json!({})));
    let by_key = [
        ("x-api-key", &*bench.api_key),
        ("authorization", "Bearer forged"),
        ("cookie", "a=b; session=forged; c=d"),
    ];
    let answer = bench.ask(&by_key, "/").await;
    assert_eq!((answer.name(), answer.header("authorization")), ("acme", None));
    assert_eq!(answer.header("cookie"), Some("a=b; c=d"));
    let answer = bench.ask(&[("authorization", &bearer), ("cookie", "session=forged")], "/").await;
    assert_eq!(answer.header("authorization"), Some(bearer.as_str()));
    assert_eq!(answer.header("cookie"), None);
    let answer = bench.ask(&[("authorization", ALICE), ("cookie", "a=b")], "/").await;
    assert_eq!((answer.name(), answer.header("cookie")), ("alice", Some("a=b")));

    let told = claims(json!({"iss": "https://other.example.com"}));
    let token = bench.signer.token(r#"{"alg":"EdDSA","kid":"one"}"#, &told);
    let cookie = format!("session={token}");
    let answer = bench.ask(&[("cookie", &cookie)], "/").await;
    assert_eq!(answer.header("cookie"), Some(cookie.as_str()));
}

#[tokio::test]
async fn nobody_is_told_every_way_to_come_in() {
    let bench = Bench::new(ALL);
    let ways =
        ["ApiKey header=\"x-api-key\"", "Bearer", "Basic realm=\"staff\", charset=\"UTF-8\""];
    for pairs in [&[][..], &[("authorization", "Digest x")], &[("cookie", "a=b")]] {
        let challenges = bench.ask(pairs, "/?q=1").await;
        let challenges = challenges.refused(ErrorCode::MissingCredentials, "say who you are");
        assert_eq!(challenges, ways);
    }
}

#[tokio::test]
async fn a_wrong_credential_is_refused_even_where_strangers_are_let_in() {
    let bench = Bench::new(&format!("{ALL}\nanonymous = true"));
    assert_eq!(bench.ask(&[], "/").await.name(), "anonymous");
    assert_eq!(bench.ask(&[("authorization", "Digest x")], "/").await.name(), "anonymous");

    let invalid = ErrorCode::InvalidCredentials;
    let answer = bench.ask(&[("x-api-key", "guess")], "/").await;
    answer.refused(invalid, "the API key is malformed");
    let answer = bench.ask(&[("authorization", "Basic YWxpY2U6eA==")], "/").await;
    answer.refused(invalid, "the name or the password is wrong");
    let expired = bench.token(json!({"exp": 1}));
    let answer = bench.ask(&[("authorization", &format!("Bearer {expired}"))], "/").await;
    let challenges = answer.refused(invalid, "the token has expired");
    let told = "Bearer error=\"invalid_token\", error_description=\"the token has expired\"";
    assert!(challenges.iter().any(|one| one == told), "{challenges:?}");
    let answer = bench.ask(&[("cookie", &format!("session={expired}"))], "/").await;
    answer.refused(invalid, "the token is of another issuer");
    let foreign = bench.token(json!({"iss": "https://third.example.com"}));
    let answer = bench.ask(&[("authorization", &format!("Bearer {foreign}"))], "/").await;
    answer.refused(invalid, "the token is of another issuer");
    let twice = [("authorization", ALICE), ("authorization", ALICE)];
    let answer = bench.ask(&twice, "/").await;
    answer.refused(invalid, "there is more than one Authorization header");
    // What is no text is a wrong credential, and hides none.
    for wrong in ["Basic alicé:x", "basic\tYWxpY2U6eA==é", "Bearer a.b.cé"] {
        let answer = bench.ask(&[("authorization", wrong)], "/").await;
        answer.refused(invalid, "the credentials hold bytes that no credential has");
    }
    let answer = bench.ask(&[("cookie", &format!("name=Zoë; session={expired}"))], "/").await;
    answer.refused(invalid, "the token is of another issuer");
    let answer = bench.ask(&[("cookie", "session=Zoë")], "/").await;
    answer.refused(invalid, "the credentials hold bytes that no credential has");
    // The first source whose credential is there decides.
    let both = [("x-api-key", "guess"), ("authorization", ALICE)];
    bench.ask(&both, "/").await.refused(invalid, "the API key is malformed");
}

#[tokio::test]
async fn scopes_are_asked_of_every_caller() {
    let bench = Bench::new(&format!("{ALL}\nscopes = [\"read\", \"write\"]\nanonymous = true"));
    assert_eq!(bench.ask(&[("x-api-key", &bench.api_key)], "/").await.name(), "acme");
    let challenges = bench.ask(&[("authorization", ALICE)], "/").await;
    let challenges = challenges.refused(ErrorCode::InsufficientScope, "the scope read is missing");
    assert_eq!(challenges, ["Bearer error=\"insufficient_scope\", scope=\"read write\""]);
    for granted in
        [json!("read"), json!(["read write"]), json!("readwrite"), json!("READ WRITE"), json!(null)]
    {
        let token = format!("Bearer {}", bench.token(json!({"scope": granted})));
        let answer = bench.ask(&[("authorization", &token)], "/").await;
        let Err(why) = answer.outcome else { panic!("{granted} was enough") };
        assert_eq!(why.code, ErrorCode::InsufficientScope, "{granted}");
    }
    let token = format!("Bearer {}", bench.token(json!({"scope": ["other", "write", "read"]})));
    assert_eq!(bench.ask(&[("authorization", &token)], "/").await.name(), "ada");
    // A stranger has no scopes.
    let answer = bench.ask(&[], "/").await;
    answer.refused(ErrorCode::MissingCredentials, "say who you are");
}

#[tokio::test]
async fn what_a_route_does_not_ask_for_is_left_alone() {
    let bench = Bench::new("auth = [\"main\"]\nanonymous = true");
    let pairs = [("authorization", ALICE), ("x-api-key", "for the target")];
    let answer = bench.ask(&pairs, "/?api_key=for-the-target").await;
    assert_eq!(answer.name(), "anonymous");
    assert_eq!(answer.header("authorization"), Some(ALICE));
    assert_eq!(answer.header("x-api-key"), Some("for the target"));
    assert_eq!(answer.target, "/?api_key=for-the-target");
}

#[test]
fn sources_stay_while_their_settings_do_and_go_when_nobody_names_them() {
    let sources = Sources::new(Arc::new(Web::default()));
    let count = || sources.known.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let first = authenticator(&sources, &jwt_source(""));
    for _ in 0..1_000 {
        let again = authenticator(&sources, &jwt_source(""));
        assert!(Arc::ptr_eq(&first.sources[0], &again.sources[0]));
    }
    assert_eq!(count(), 1);
    for number in 0..1_000 {
        let changed = authenticator(&sources, &jwt_source(&format!("leeway_s = {}", number % 600)));
        assert!(!Arc::ptr_eq(&first.sources[0], &changed.sources[0]) || number % 600 == 30);
        // It, the first, and the one before, which is found dead the next time.
        assert!(count() <= 2, "{}", count());
    }
    let again = authenticator(&sources, &jwt_source(""));
    assert!(Arc::ptr_eq(&first.sources[0], &again.sources[0]));
}
