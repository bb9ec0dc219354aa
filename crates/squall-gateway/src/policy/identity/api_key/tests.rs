use std::collections::HashMap;

use squall_types::clients::ApiKey;

use super::*;

fn client(id: &str, disabled: bool) -> Arc<ApiClient> {
    Arc::new(ApiClient { id: id.to_owned(), plan: None, scopes: Vec::new(), disabled })
}

#[test]
fn a_key_is_known_until_it_expires_or_its_client_is_disabled() {
    let made: Vec<_> = (0..4).map(|_| ApiKeyText::generate()).collect();
    let key =
        |client, made: &ApiKeyText, expires_at| ApiKey { client, hash: made.hash(), expires_at };
    let mut keys = HashMap::new();
    keys.insert(made[0].prefix().into(), key(client("acme", false), &made[0], None));
    keys.insert(made[1].prefix().into(), key(client("acme", false), &made[1], Some(1_000)));
    keys.insert(made[2].prefix().into(), key(client("late", true), &made[2], None));
    let clients = Clients { keys };
    let ask = |text: &str, now| check(text, &clients, now).map(|(client, _)| client.id.clone());

    assert_eq!(ask(made[0].as_str(), 5_000), Ok("acme".to_owned()));
    assert_eq!(ask(made[1].as_str(), 999), Ok("acme".to_owned()));
    assert_eq!(ask(made[1].as_str(), 1_000), Err("the API key has expired"));
    assert_eq!(ask(made[2].as_str(), 0), Err("the API client is disabled"));
    assert_eq!(ask(made[3].as_str(), 0), Err("the API key is not known"));
    // A known prefix with another secret, of keys in every state.
    for key in &made[..3] {
        let other = ApiKeyText::generate();
        let (secret, _) = other.as_str().split_at(17);
        assert!(secret.starts_with("sqk_"));
        let mixed = format!("sqk_{}{}", key.prefix(), &other.as_str()[16..]);
        assert_eq!(ask(&mixed, 5_000), Err("the API key is not known"), "{mixed}");
    }
    for text in ["", "sqk_", "secret", &made[0].as_str()[..48], "\u{fb}\u{ff}"] {
        assert_eq!(ask(text, 0), Err("the API key is malformed"), "{text}");
    }
}

fn keys(query: Option<&str>) -> ApiKeys {
    let settings = ApiKeySource { query: query.map(str::to_owned), ..ApiKeySource::default() };
    ApiKeys::new(&settings).unwrap()
}

fn find(
    keys: &ApiKeys,
    pairs: &[(&'static str, &'static str)],
    target: &'static str,
) -> Result<Option<String>, &'static str> {
    let headers = crate::policy::identity::testing::headers(pairs);
    let target = PathAndQuery::from_static(target);
    keys.find(&headers, &target).map(|found| found.map(|found| found.into_owned()))
}

#[test]
fn a_key_is_found_where_it_may_be() {
    let found = |text: &str| Ok(Some(text.to_owned()));
    let only_header = keys(None);
    assert_eq!(find(&only_header, &[("X-API-Key", "k")], "/"), found("k"));
    assert_eq!(find(&only_header, &[], "/?api_key=k"), Ok(None));
    let both = keys(Some("api_key"));
    assert_eq!(find(&both, &[], "/?a=1&api_key=k"), found("k"));
    assert_eq!(find(&both, &[], "/?api%5Fkey=%6b"), found("k"));
    assert_eq!(find(&both, &[], "/?api_key"), found(""));
    assert_eq!(find(&both, &[], "/api_key=k?xapi_key=k&api_keys=k&k=api_key"), Ok(None));
    // Nobody could tell which of them counts.
    for (pairs, target) in [
        (&[("x-api-key", "k"), ("x-api-key", "k")][..], "/"),
        (&[("x-api-key", "k")][..], "/?api_key=k"),
        (&[][..], "/?api_key=k&api_key=k"),
        (&[][..], "/?api_key=k&api%5fkey=k"),
    ] {
        assert!(find(&both, pairs, target).is_err(), "{target}");
    }
}

#[test]
fn a_key_goes_no_further() {
    let both = keys(Some("api_key"));
    for (before, after) in [
        ("/", "/"),
        ("/a?b=1", "/a?b=1"),
        ("/a?api_key=k", "/a"),
        ("/a?b=1&api_key=k", "/a?b=1"),
        ("/a?api_key=k&b=1&c=%20&&d", "/a?b=1&c=%20&&d"),
        ("/a?b=1&api%5Fkey=k&api_key&c", "/a?b=1&c"),
        ("/api_key=k?x=api_key=k", "/api_key=k?x=api_key=k"),
    ] {
        let mut headers =
            crate::policy::identity::testing::headers(&[("x-api-key", "k"), ("a", "b")]);
        let mut target = PathAndQuery::from_static(before);
        both.remove(&mut headers, &mut target);
        assert_eq!(target.as_str(), after, "{before}");
        assert!(!headers.contains_key("x-api-key") && headers.contains_key("a"));
    }
}
