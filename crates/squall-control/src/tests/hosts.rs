//! Domains and the default app: no change of traffic gives one to two apps.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Bench, Fake, archive, open};

/// Deploys an app of one fixed response; the response tells its revisions apart.
async fn deploy(bench: &Bench, app: &str, hosts: &[&str], query: &str) -> Value {
    let manifest = format!(
        "name = {app:?}\nhosts = {hosts:?}\n[[routes]]\nresponse = {{ status = 204 }}\nname = \"r{}\"\n",
        hosts.len()
    );
    let path = format!("/v1/apps/{app}/deployments{query}");
    bench.send("POST", &path, &bench.token, archive(&[("squall.toml", &manifest)])).await.1
}

#[track_caller]
fn check_refused(problem: &Value, host: &str, other: &str) {
    // A deployment says it in its last line.
    let problem = if problem["problem"].is_null() { problem } else { &problem["problem"] };
    assert_eq!((&problem["code"], &problem["status"]), (&"SQ0328".into(), &409.into()));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(host) && detail.contains(&format!("app {other}")), "{detail}");
}

fn hosts(bench: &Bench, app: &str) -> Vec<String> {
    let newest = bench.newest();
    newest.apps.iter().find(|one| one.name.as_str() == app).unwrap().hosts.clone()
}

#[tokio::test]
async fn a_domain_belongs_to_one_app_whichever_way_traffic_changes() {
    let bench = Bench::new();
    let first = deploy(&bench, "one", &["a.example", "*.b.example"], "").await;
    let last = deploy(&bench, "one", &["c.example"], "").await;
    assert_eq!((&first["event"], &last["event"]), (&"live".into(), &"live".into()), "{last}");
    check_refused(
        &deploy(&bench, "two", &["d.example", "c.example"], "").await,
        "c.example",
        "one",
    );
    // What `one` gave up is free.
    assert_eq!(deploy(&bench, "two", &["d.example", "a.example"], "").await["event"], "live");
    check_refused(
        &bench.ask("POST", "/v1/apps/one/rollback", Value::Null).await.1,
        "a.example",
        "two",
    );
    let back = json!({ "revision": first["revision"] });
    check_refused(&bench.ask("POST", "/v1/apps/one/rollback", back).await.1, "a.example", "two");
    let shares = |old: u32| {
        let (first, last) = (&first["revision"], &last["revision"]);
        json!({ "shares": [{ "revision": first, "percent": old }, { "revision": last, "percent": 100 - old }] })
    };
    let traffic = "/v1/apps/one/traffic";
    check_refused(&bench.ask("PUT", traffic, shares(90)).await.1, "a.example", "two");
    // Its domains are those of most of the traffic.
    assert_eq!(bench.ask("PUT", traffic, shares(10)).await.0, 200);
    let gateway = json!({ "gateway": { "hosts": ["c.example"], "routes": [{ "response": { "status": 200 } }] } });
    check_refused(&bench.ask("PUT", "/v1/apps/three/gateway", gateway).await.1, "c.example", "one");
    assert_eq!(
        (hosts(&bench, "one"), hosts(&bench, "two").len()),
        (vec!["c.example".to_owned()], 2)
    );

    // What every app answers on is no other's, whichever comes first.
    check_refused(&deploy(&bench, "four", &["two.localhost"], "").await, "two.localhost", "two");
    let preview = "kqzfw3x2ab--two.localhost";
    check_refused(&deploy(&bench, "four", &[preview], "").await, preview, "two");
    assert_eq!(deploy(&bench, "four", &["five.localhost"], "").await["event"], "live");
    check_refused(&deploy(&bench, "five", &[], "").await, "five.localhost", "four");
    assert_eq!(deploy(&bench, "four", &["four.localhost"], "").await["event"], "live");

    // A preview takes nothing from anybody, until it is to be live.
    let preview = deploy(&bench, "three", &["c.example", "e.example"], "?activate=false").await;
    assert_eq!(preview["event"], "live", "{preview}");
    let live = json!({ "shares": [{ "revision": preview["revision"], "percent": 100 }] });
    check_refused(
        &bench.ask("PUT", "/v1/apps/three/traffic", live.clone()).await.1,
        "c.example",
        "one",
    );
    assert_eq!(bench.ask("DELETE", "/v1/apps/one", Value::Null).await.0, 204);
    assert_eq!(bench.ask("PUT", "/v1/apps/three/traffic", live).await.0, 200);
}

#[tokio::test]
async fn domains_are_kept_over_a_restart() {
    let mut bench = Bench::new();
    assert_eq!(deploy(&bench, "one", &["a.example"], "").await["event"], "live");
    bench.fake = Arc::new(Fake::default());
    bench.control = open(bench.dir.path().to_owned(), &bench.fake);
    bench.control.reload().unwrap();
    check_refused(&deploy(&bench, "two", &["a.example"], "").await, "a.example", "one");
    assert_eq!(hosts(&bench, "one"), ["a.example"]);
    assert_eq!(deploy(&bench, "one", &["a.example", "b.example"], "").await["event"], "live");
}

/// Deploys an app of one fixed response, `number` for its revision.
async fn deploy_default(bench: &Bench, app: &str, default: bool, number: u16) -> Value {
    let manifest = format!(
        "name = {app:?}\ndefault = {default}\n[[routes]]\nresponse = {{ status = 204 }}\nname = \"r{number}\"\n"
    );
    let path = format!("/v1/apps/{app}/deployments");
    bench.send("POST", &path, &bench.token, archive(&[("squall.toml", &manifest)])).await.1
}

#[track_caller]
fn check_default(bench: &Bench, expected: &[&str]) {
    let newest = bench.newest();
    let defaults = newest.apps.iter().filter(|app| app.default);
    assert_eq!(defaults.map(|app| app.name.as_str()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn one_app_answers_on_any_host() {
    let bench = Bench::new();
    assert_eq!(deploy_default(&bench, "one", true, 1).await["event"], "live");
    let refused_for = |problem: &Value, other: &str| {
        let problem = if problem["problem"].is_null() { problem } else { &problem["problem"] };
        assert_eq!((&problem["code"], &problem["status"]), (&"SQ0317".into(), &409.into()));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{other} is the default app")), "{detail}");
    };
    let refused = |problem: &Value| refused_for(problem, "one");
    refused(&deploy_default(&bench, "two", true, 1).await);
    assert_eq!(deploy_default(&bench, "two", false, 1).await["event"], "live");
    refused(&deploy_default(&bench, "two", true, 2).await);
    let gateway =
        json!({ "gateway": { "default": true, "routes": [{ "response": { "status": 200 } }] } });
    refused(&bench.ask("PUT", "/v1/apps/three/gateway", gateway).await.1);
    check_default(&bench, &["one"]);

    // Whoever has it can give it up, and get it back by a rollback while nobody else has it.
    assert_eq!(deploy_default(&bench, "one", false, 2).await["event"], "live");
    check_default(&bench, &[]);
    assert_eq!(bench.ask("POST", "/v1/apps/one/rollback", Value::Null).await.0, 200);
    refused(&deploy_default(&bench, "two", true, 2).await);

    // By hand it is moved, and what the manifest of the other says does not count from then on.
    let by_hand = json!({ "default": true });
    assert_eq!(bench.ask("PATCH", "/v1/apps/two", by_hand.clone()).await.0, 200);
    check_default(&bench, &["two"]);
    assert_eq!(deploy_default(&bench, "one", true, 3).await["event"], "live");
    check_default(&bench, &["two"]);
    assert_eq!(bench.ask("PATCH", "/v1/apps/one", by_hand.clone()).await.0, 200);
    check_default(&bench, &["one"]);

    // What was said by hand is taken back, unless the manifest's word is in the way of another.
    let by_manifest = json!({ "default": null });
    assert_eq!(bench.ask("PATCH", "/v1/apps/two", by_manifest.clone()).await.0, 200);
    check_default(&bench, &["one"]);
    assert_eq!(bench.ask("PATCH", "/v1/apps/one", json!({ "default": false })).await.0, 200);
    check_default(&bench, &[]);
    assert_eq!(deploy_default(&bench, "two", true, 2).await["event"], "live");
    check_default(&bench, &["two"]);
    refused_for(&bench.ask("PATCH", "/v1/apps/one", by_manifest.clone()).await.1, "two");
    check_default(&bench, &["two"]);
    assert_eq!(deploy_default(&bench, "two", false, 3).await["event"], "live");
    assert_eq!(bench.ask("PATCH", "/v1/apps/one", by_manifest).await.0, 200);
    check_default(&bench, &["one"]);

    // One that is only a preview takes it from nobody when it is to be live.
    let preview = deploy(&bench, "three", &[], "?activate=false").await;
    assert_eq!(bench.ask("PATCH", "/v1/apps/three", by_hand).await.0, 200);
    assert_eq!(bench.ask("DELETE", "/v1/apps/two", Value::Null).await.0, 204);
    assert_eq!(deploy_default(&bench, "two", true, 1).await["event"], "live");
    let live = json!({ "shares": [{ "revision": preview["revision"], "percent": 100 }] });
    let (status, problem) = bench.ask("PUT", "/v1/apps/three/traffic", live).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0317".into()), "{problem}");
}
