//! API clients and their keys.

use std::sync::Arc;

use axum::body::Body;
use serde_json::{Value, json};
use squall_types::clients::ApiKeyText;
use squall_types::state::AppState;

use super::{Bench, Fake, open};

const APP: &str = "/v1/apps/a";
const CLIENTS: &str = "/v1/apps/a/clients";

async fn with_plans() -> Bench {
    let bench = Bench::new();
    let gateway = json!({
        "routes": [{ "response": { "status": 204 } }],
        "plans": { "gold": {}, "silver": {} },
    });
    let body = json!({ "gateway": gateway });
    assert_eq!(bench.ask("PUT", &format!("{APP}/gateway"), body).await.0, 200);
    bench
}

fn app_of(fake: &Fake) -> Arc<AppState> {
    fake.snapshots.lock().unwrap().last().unwrap().apps[0].clone()
}

#[tokio::test]
async fn a_key_reaches_the_data_plane_and_survives_a_restart() {
    let bench = with_plans().await;
    let client = json!({ "id": "acme", "plan": "gold", "scopes": ["b", "a", "b"] });
    let (status, created) = bench.ask("POST", CLIENTS, client.clone()).await;
    assert_eq!((status, &created["scopes"]), (201, &json!(["a", "b"])));
    let before = app_of(&bench.fake);
    let asked = json!({ "label": "one", "expires_in_s": 3_600 });
    let (status, made) = bench.ask("POST", &format!("{CLIENTS}/acme/keys"), asked).await;
    assert_eq!(status, 201, "{made}");
    let (prefix, hash) = ApiKeyText::parse(made["key"].as_str().unwrap()).unwrap();
    assert_eq!(made["prefix"], prefix);

    let app = app_of(&bench.fake);
    assert!(!Arc::ptr_eq(&before.clients, &app.clients), "a new Arc says that they changed");
    let again = Arc::new(Fake::default());
    open(bench.dir.path().to_owned(), &again).reload().unwrap();
    for app in [app, app_of(&again)] {
        let key = &app.clients.keys[prefix];
        assert_eq!((key.hash, key.client.plan.as_deref()), (hash, Some("gold")));
        assert_eq!((key.client.id.as_str(), key.client.disabled), ("acme", false));
        assert!(key.expires_at.is_some());
    }
    // What does not concern clients leaves them alone.
    let before = app_of(&bench.fake);
    bench.ask("PUT", &format!("{APP}/secrets/KEY"), json!({ "value": "wind" })).await;
    assert!(Arc::ptr_eq(&before.clients, &app_of(&bench.fake).clients));

    // It is kept by its hash only.
    let secret = &made["key"].as_str().unwrap()[17..];
    let (_, listed) = bench.ask("GET", &format!("{CLIENTS}/acme/keys"), Value::Null).await;
    assert_eq!(listed["items"][0]["label"], "one");
    assert!(!listed.to_string().contains(secret));

    let revoke = format!("{CLIENTS}/acme/keys/{prefix}");
    assert_eq!(bench.ask("DELETE", &revoke, Value::Null).await.0, 204);
    assert!(app_of(&bench.fake).clients.keys.is_empty());
    let (status, problem) = bench.ask("DELETE", &revoke, Value::Null).await;
    assert_eq!((status, &problem["code"]), (404, &"SQ0324".into()));
}

#[tokio::test]
async fn clients_are_made_once_changed_in_part_and_deleted_with_their_keys() {
    let bench = with_plans().await;
    let client = json!({ "id": "acme", "plan": "gold", "scopes": ["a"] });
    assert_eq!(bench.ask("POST", CLIENTS, client.clone()).await.0, 201);
    assert_eq!(bench.ask("POST", CLIENTS, client).await.0, 200, "the same may be asked again");
    let other = json!({ "id": "acme", "plan": "silver", "scopes": ["a"] });
    let (status, problem) = bench.ask("POST", CLIENTS, other).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0317".into()));

    let acme = format!("{CLIENTS}/acme");
    bench.ask("POST", &format!("{acme}/keys"), json!({})).await;
    let (_, changed) = bench.ask("PATCH", &acme, json!({ "disabled": true })).await;
    assert_eq!((&changed["plan"], &changed["scopes"]), (&"gold".into(), &json!(["a"])));
    assert_eq!((&changed["disabled"], &changed["keys"]), (&true.into(), &1.into()));
    let app = app_of(&bench.fake);
    assert!(app.clients.keys.values().all(|key| key.client.disabled));
    let (_, changed) = bench.ask("PATCH", &acme, json!({ "plan": null, "scopes": [] })).await;
    assert_eq!((&changed["plan"], &changed["scopes"]), (&Value::Null, &json!([])));

    assert_eq!(bench.ask("DELETE", &acme, Value::Null).await.0, 204);
    assert!(app_of(&bench.fake).clients.keys.is_empty());
    for (method, path, body) in [
        ("GET", acme.clone(), Value::Null),
        ("PATCH", acme.clone(), json!({})),
        ("DELETE", acme.clone(), Value::Null),
        ("GET", format!("{acme}/keys"), Value::Null),
        ("POST", format!("{acme}/keys"), json!({})),
    ] {
        let (status, problem) = bench.ask(method, &path, body).await;
        assert_eq!((status, &problem["code"]), (404, &"SQ0323".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn whoever_moves_traffic_is_told_of_clients_without_a_plan() {
    let bench = Bench::new();
    let put = |plans: Value| json!({ "gateway": { "routes": [{ "response": { "status": 204 } }], "plans": plans } });
    let gateway = format!("{APP}/gateway");
    let (_, without) = bench.ask("PUT", &gateway, put(json!({}))).await;
    let (_, with) = bench.ask("PUT", &gateway, put(json!({ "gold": {} }))).await;
    let (without, with) = (&without["revision"], &with["revision"]);
    let client = json!({ "id": "acme", "plan": "gold", "scopes": [] });
    assert_eq!(bench.ask("POST", CLIENTS, client).await.0, 201);
    let (_, back) = bench.ask("POST", &format!("{APP}/rollback"), Value::Null).await;
    let says = format!("revision {}: there is no [plans.gold]", without.as_str().unwrap());
    let warnings = back["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{back}");
    assert!(warnings[0].as_str().unwrap().starts_with(&says), "{back}");
    for (shares, warned) in [(json!([[with, 100]]), 0), (json!([[with, 60], [without, 40]]), 1)] {
        let share = |share: &Value| json!({ "revision": share[0], "percent": share[1] });
        let shares: Vec<Value> = shares.as_array().unwrap().iter().map(share).collect();
        let body = json!({ "shares": shares });
        let (status, split) = bench.ask("PUT", &format!("{APP}/traffic"), body).await;
        assert_eq!((status, split["warnings"].as_array().unwrap().len()), (200, warned), "{split}");
    }
}

#[tokio::test]
async fn what_can_not_be_right_is_refused() {
    let bench = with_plans().await;
    for (body, code) in [
        (json!({ "id": "" }), "SQ0312"),
        (json!({ "id": "-a" }), "SQ0312"),
        (json!({ "id": "a b" }), "SQ0312"),
        (json!({ "id": "a".repeat(65) }), "SQ0312"),
        (json!({ "id": "a", "scopes": ["a b"] }), "SQ0312"),
        (json!({ "id": "a", "scope": ["a"] }), "SQ0312"),
        (json!({ "id": "a", "plan": "bronze" }), "SQ0325"),
    ] {
        let (_, problem) = bench.ask("POST", CLIENTS, body.clone()).await;
        assert_eq!(problem["code"], code, "{body}: {problem}");
    }
    bench.ask("POST", CLIENTS, json!({ "id": "a" })).await;
    let keys = format!("{CLIENTS}/a/keys");
    for body in [json!({ "expires_in_s": 0 }), json!({ "label": "a\nb" })] {
        assert_eq!(bench.ask("POST", &keys, body.clone()).await.0, 400, "{body}");
    }
    let (_, problem) = bench.ask("PATCH", &format!("{CLIENTS}/a"), json!({ "plan": "x" })).await;
    assert_eq!(problem["code"], "SQ0325");
    assert!(problem["detail"].as_str().unwrap().contains("gold, silver"), "{problem}");
    assert_eq!(bench.ask("GET", "/v1/apps/nobody/clients", Value::Null).await.0, 404);
}

#[tokio::test]
async fn pages_of_clients_follow_each_other_and_scopes_of_tokens_hold() {
    let bench = with_plans().await;
    for id in ["a", "b", "c"] {
        bench.ask("POST", CLIENTS, json!({ "id": id })).await;
    }
    let (_, first) = bench.ask("GET", &format!("{CLIENTS}?limit=2"), Value::Null).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (2, &"b".into()));
    let path = format!("{CLIENTS}?limit=2&cursor=b");
    let (_, second) = bench.ask("GET", &path, Value::Null).await;
    assert_eq!((&second["items"][0]["id"], &second["next"]), (&"c".into(), &Value::Null));

    // The keys of a client are in the order in which they were made.
    let keys = format!("{CLIENTS}/a/keys");
    for _ in 0..4 {
        bench.ask("POST", &keys, json!({})).await;
    }
    let (_, all) = bench.ask("GET", &keys, Value::Null).await;
    let all: Vec<&str> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["prefix"].as_str().unwrap())
        .collect();
    let (_, page) = bench.ask("GET", &format!("{keys}?limit=2"), Value::Null).await;
    assert_eq!(page["next"], all[1]);
    bench.ask("DELETE", &format!("{keys}/{}", all[1]), Value::Null).await;
    let (status, rest) =
        bench.ask("GET", &format!("{keys}?limit=2&cursor={}", all[1]), Value::Null).await;
    // Where it was is not known: none is left out silently.
    assert_eq!((status, &rest["code"]), (400, &"SQ0312".into()), "{rest}");

    for wrong in ["limit=abc", "limit=-1", "limit=1&limit=2"] {
        let (status, problem) = bench.ask("GET", &format!("{CLIENTS}?{wrong}"), Value::Null).await;
        assert_eq!((status, &problem["code"]), (400, &"SQ0312".into()), "{wrong}: {problem}");
    }
    for day in ["2026-13-99", "2026-02-30", "0000-00-00", "yesterday"] {
        let (status, problem) =
            bench.ask("GET", &format!("/v1/usage?since={day}"), Value::Null).await;
        assert_eq!((status, &problem["code"]), (400, &"SQ0312".into()), "{day}: {problem}");
    }

    let (_, made) = bench.ask("POST", "/v1/tokens", json!({ "name": "r", "scope": "read" })).await;
    let read = made["token"].as_str().unwrap();
    for (method, path, status) in [
        ("GET", CLIENTS.to_owned(), 200),
        ("POST", CLIENTS.to_owned(), 403),
        ("PATCH", format!("{CLIENTS}/a"), 403),
        ("DELETE", format!("{CLIENTS}/a"), 403),
        ("GET", format!("{CLIENTS}/a/keys"), 200),
        ("POST", format!("{CLIENTS}/a/keys"), 403),
        ("DELETE", format!("{CLIENTS}/a/keys/x"), 403),
        ("GET", format!("{APP}/gateway"), 200),
        ("PUT", format!("{APP}/gateway"), 403),
    ] {
        let found = bench.send(method, &path, read, Body::from("{}")).await.0;
        assert_eq!(found, status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_plan_that_goes_while_clients_are_on_it_is_told() {
    let bench = with_plans().await;
    bench.ask("POST", CLIENTS, json!({ "id": "acme", "plan": "gold" })).await;
    let without = json!({ "gateway": { "routes": [{ "response": { "status": 204 } }] } });
    let (status, applied) = bench.ask("PUT", &format!("{APP}/gateway"), without).await;
    assert_eq!(status, 200);
    assert!(applied["warnings"][0].as_str().unwrap().contains("[plans.gold]"), "{applied}");
    assert!(app_of(&bench.fake).clients.keys.is_empty());
    assert_eq!(bench.ask("DELETE", APP, Value::Null).await.0, 204);
    assert!(bench.fake.snapshots.lock().unwrap().last().unwrap().apps.is_empty());
}
