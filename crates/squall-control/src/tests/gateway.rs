//! The gateway part: applied, shown, rolled back, and how many revisions are kept.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Bench, Fake, archive, open};

const GATEWAY: &str = "/v1/apps/a/gateway";

fn fixed(status: u16) -> Value {
    json!({ "routes": [{ "name": "all", "response": { "status": status } }] })
}

/// The routes of the function that `Bench::deploy` brings, with one more.
fn with_function(status: u16) -> Value {
    let mut gateway = fixed(status);
    gateway["routes"][0]["paths"] = json!(["/fixed"]);
    gateway["functions"] = json!({ "api": { "routes": ["/*"] } });
    gateway
}

async fn apply(bench: &Bench, gateway: Value) -> (u16, Value) {
    bench.ask("PUT", GATEWAY, json!({ "gateway": gateway })).await
}

#[tokio::test]
async fn the_first_apply_makes_an_app_and_rolling_back_takes_one_back() {
    let bench = Bench::new();
    let (status, first) = apply(&bench, fixed(204)).await;
    assert_eq!((status, &first["created"], &first["previous"]), (200, &true.into(), &Value::Null));
    let (_, second) = apply(&bench, fixed(410)).await;
    assert_eq!(second["previous"], first["revision"]);
    let (_, shown) = bench.ask("GET", GATEWAY, Value::Null).await;
    assert_eq!(shown["gateway"], fixed(410));
    assert_eq!(shown["revision"], second["revision"]);

    bench.ask("POST", "/v1/apps/a/rollback", Value::Null).await;
    let (_, shown) = bench.ask("GET", GATEWAY, Value::Null).await;
    assert_eq!((&shown["gateway"], &shown["revision"]), (&fixed(204), &first["revision"]));
    // The same content is the same revision, however it came.
    let manifest = "name = \"a\"\n[[routes]]\nname = \"all\"\nresponse = { status = 410 }\n";
    let upload = archive(&[("squall.toml", manifest)]);
    let path = "/v1/apps/a/deployments";
    let (_, deployed) = bench.send("POST", path, &bench.token, upload).await;
    assert_eq!((&deployed["revision"], &deployed["created"]), (&second["revision"], &false.into()));
}

#[tokio::test]
async fn functions_files_and_variables_stay_as_they_are() {
    let bench = Bench::new();
    let deployed = bench.deploy("a", "1").await;
    let before = bench.newest().apps[0].traffic[0].revision.clone();
    let (status, applied) = apply(&bench, with_function(410)).await;
    assert_eq!((status, &applied["previous"]), (200, &deployed["revision"]), "{applied}");
    let after = bench.newest().apps[0].traffic[0].revision.clone();
    assert_ne!(after.id, before.id);
    assert_eq!(after.functions[0].code, before.functions[0].code);
    assert_eq!(after.manifest.env, before.manifest.env);
    assert_eq!(after.manifest.routes.len(), 1);
    // It is on disk.
    let fake = Arc::new(Fake::default());
    open(bench.dir.path().to_owned(), &fake).reload().unwrap();
    let found = fake.snapshots.lock().unwrap().last().unwrap().clone();
    assert_eq!(found.apps[0].traffic[0].revision.id, after.id);
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing() {
    let bench = Bench::new();
    let first = bench.deploy("a", "1").await["revision"].clone();
    let snapshots = bench.fake.snapshots.lock().unwrap().len();
    let mut unknown = with_function(204);
    unknown["functions"]["new"] = json!({ "routes": ["/new"] });
    let mut leads_nowhere = with_function(204);
    leads_nowhere["routes"][0] = json!({ "name": "x", "upstream": "users" });
    let mut to_a_missing_function = with_function(204);
    to_a_missing_function["routes"][0] = json!({ "name": "x", "function": "new" });
    let mut misspelt = with_function(204);
    misspelt["routs"] = json!([]);
    for (gateway, status, code, says) in [
        (unknown, 422, "SQ0326", "functions.new is not live"),
        (fixed(204), 422, "SQ0326", "functions.api is live"),
        (leads_nowhere, 422, "SQ0300", "[upstreams.users]"),
        (to_a_missing_function, 422, "SQ0300", "the function new"),
        (misspelt, 400, "SQ0312", "routs"),
    ] {
        let (found, problem) = apply(&bench, gateway).await;
        assert_eq!((found, problem["code"].as_str().unwrap()), (status, code), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    let stale = json!({ "gateway": with_function(204), "base": "abcdefghij" });
    let (status, problem) = bench.ask("PUT", GATEWAY, stale).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0317".into()));
    let for_nothing = json!({ "gateway": with_function(204), "base": null });
    let (status, problem) = bench.ask("PUT", GATEWAY, for_nothing).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0317".into()));
    let large = json!({ "gateway": { "routes": ["x".repeat(17 << 20)] } });
    let (status, problem) = bench.ask("PUT", GATEWAY, large).await;
    assert_eq!((status, &problem["code"]), (413, &"SQ0312".into()));
    // An app with functions begins with a deployment.
    let body = json!({ "gateway": with_function(204) });
    let (status, problem) = bench.ask("PUT", "/v1/apps/b/gateway", body).await;
    assert_eq!((status, &problem["code"]), (422, &"SQ0326".into()));
    assert_eq!(bench.ask("GET", "/v1/apps/b", Value::Null).await.0, 404);

    let (_, shown) = bench.ask("GET", GATEWAY, Value::Null).await;
    assert_eq!(shown["revision"], first);
    assert_eq!(bench.newest().apps.len(), 1);
    let now = bench.newest().apps[0].traffic[0].revision.id.to_string();
    assert_eq!(now, first.as_str().unwrap());
    assert_eq!(bench.fake.snapshots.lock().unwrap().len(), snapshots, "nothing was published");
}

#[tokio::test]
async fn a_split_has_no_gateway_part_to_start_from() {
    let bench = Bench::new();
    let first = bench.deploy("a", "1").await["revision"].clone();
    let second = bench.deploy("a", "2").await["revision"].clone();
    let shares = json!({ "shares": [
        { "revision": first, "percent": 30 }, { "revision": second, "percent": 70 },
    ] });
    assert_eq!(bench.ask("PUT", "/v1/apps/a/traffic", shares).await.0, 200);
    let (status, problem) = apply(&bench, with_function(204)).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0327".into()));
    assert!(problem["detail"].as_str().unwrap().contains("(30%)"), "{problem}");
    let (_, shown) = bench.ask("GET", GATEWAY, Value::Null).await;
    assert_eq!((&shown["revision"], shown["traffic"].as_array().unwrap().len()), (&second, 2));
}

#[tokio::test]
async fn a_file_without_code_is_deployed_and_explained() {
    let bench = Bench::new();
    let manifest = "name = \"a\"\nhosts = [\"*.example.com\", \"example.org\"]\n[[routes]]\nresponse = { status = 204 }\n";
    let upload = archive(&[("squall.toml", manifest)]);
    let path = "/v1/apps/a/deployments";
    let (_, live) = bench.send("POST", path, &bench.token, upload).await;
    assert_eq!(live["event"], "live");
    let urls = live["urls"].to_string();
    assert!(urls.contains("http://example.org:8080/") && !urls.contains('*'), "{urls}");
    let asked = json!({ "method": "GET", "url": "/x", "app": "a" });
    let (status, explained) = bench.ask("POST", "/v1/gateway/explain", asked).await;
    assert_eq!((status, &explained["route"]), (200, &"/x".into()));
    let nobody = json!({ "method": "GET", "url": "/x", "app": "b" });
    assert_eq!(bench.ask("POST", "/v1/gateway/explain", nobody).await.0, 404);
}

#[tokio::test]
async fn large_configurations_have_few_previews_and_can_all_be_gone_back_to() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for number in 0..6_u16 {
        let mut gateway = fixed(200);
        gateway["routes"][0]["response"]["body"] = json!(number.to_string().repeat(1 << 20));
        ids.push(apply(&bench, gateway).await.1["revision"].as_str().unwrap().to_owned());
    }
    let served = |bench: &Bench| -> Vec<String> {
        bench.newest().apps[0].revisions.iter().map(|one| one.id.to_string()).collect()
    };
    // The live one, and three of the five before it.
    assert_eq!(served(&bench), [&*ids[5], &*ids[4], &*ids[3], &*ids[2]]);
    let back = json!({ "revision": ids[0] });
    assert_eq!(bench.ask("POST", "/v1/apps/a/rollback", back).await.0, 200);
    assert_eq!(served(&bench), [&*ids[5], &*ids[4], &*ids[3], &*ids[0]]);
    assert_eq!(bench.newest().apps[0].traffic[0].revision.id.as_str(), ids[0]);
}

#[tokio::test]
async fn old_revisions_are_forgotten_but_not_those_that_can_be_gone_back_to() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    // The first one is live again after each of the others: old, and always needed.
    for number in 0..70_u16 {
        let mut gateway = fixed(204);
        gateway["plans"] = json!({ "p": { "requests_per_day": number + 1 } });
        ids.push(apply(&bench, gateway.clone()).await.1["revision"].clone());
        if number > 0 {
            let back = json!({ "revision": ids[0] });
            assert_eq!(bench.ask("POST", "/v1/apps/a/rollback", back).await.0, 200);
        }
    }
    let (_, kept) = bench.ask("GET", "/v1/apps/a/revisions?limit=500", Value::Null).await;
    let kept: Vec<&Value> =
        kept["items"].as_array().unwrap().iter().map(|revision| &revision["id"]).collect();
    assert_eq!(kept.len(), 51, "the newest fifty, and the one that is live");
    assert!(kept.contains(&&ids[0]) && kept.contains(&&ids[69]) && !kept.contains(&&ids[1]));
    // Every state that can be gone back to is whole.
    let mut steps = 0;
    loop {
        let (status, app) = bench.ask("POST", "/v1/apps/a/rollback", Value::Null).await;
        if status == 409 {
            break;
        }
        assert!(kept.contains(&&app["traffic"][0]["revision"]), "{app}");
        assert_eq!(bench.newest().apps[0].traffic.len(), 1);
        steps += 1;
    }
    assert!(steps >= 10, "only {steps} steps back");
}
