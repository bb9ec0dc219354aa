//! How requests reach an app, changed without a deploy: checked, compared, applied,
//! explained and rolled back through the command line; and who calls it by a key.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::Value;

use crate::harness::{Answer, App, Load, TestNode, request};
use crate::templates::Dev;

const EDGE: &str = r#"name = "edge"
hosts = ["*.edge.example"]

[[routes]]
name = "hello"
paths = ["/hello"]
response = { status = 200, body = "one" }

[[routes]]
name = "old"
paths = ["/old/*"]
redirect = { prefix = "/new", status = 308 }
"#;

/// A folder with nothing but this manifest.
fn folder(node: &TestNode, name: &str, manifest: &str) -> PathBuf {
    let folder = node.dir.path().join("apps").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("squall.toml"), manifest).unwrap();
    folder
}

fn gateway(node: &TestNode, command: &str, folder: &Path, more: &[&str]) -> Output {
    node.cli(&[&["gateway", command, folder.to_str().unwrap()], more].concat())
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn apply(node: &TestNode, folder: &Path) -> Value {
    let output = gateway(node, "apply", folder, &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Ends with this code; returns what it said.
#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

async fn on_host(node: &TestNode, host: &str, path: &str) -> Answer {
    request(node.gateway(), host, "GET", path, &[], Bytes::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_functions_is_applied_compared_shown_and_rolled_back() {
    let node = TestNode::start();
    // A second app, so that none answers on every host.
    node.deploy(&App::new("other", squall_testkit::HELLO));
    let folder = folder(&node, "edge", EDGE);
    let new = gateway(&node, "diff", &folder, &[]);
    ends_with(&new, 6);
    assert!(printed(&new).contains("+ routes.hello.response.body = \"one\"\n"), "{new:?}");

    let first = apply(&node, &folder);
    assert_eq!((&first["created"], &first["previous"]), (&true.into(), &Value::Null));
    ends_with(&gateway(&node, "diff", &folder, &[]), 0);
    for host in ["edge.localhost", "a.edge.example", "b.c.edge.example"] {
        assert_eq!(on_host(&node, host, "/hello").await.text(), "one", "{host}");
    }
    assert_eq!(on_host(&node, "edge.example", "/hello").await.status, 404);
    let sent_on = on_host(&node, "edge.localhost", "/old/x").await;
    assert_eq!(sent_on.status, 308);
    assert!(sent_on.headers["location"].to_str().unwrap().ends_with("/new/x"));

    std::fs::write(folder.join("squall.toml"), EDGE.replace("\"one\"", "\"two\"")).unwrap();
    let changed = gateway(&node, "diff", &folder, &[]);
    ends_with(&changed, 6);
    assert_eq!(printed(&changed), "~ routes.hello.response.body = \"one\" -> \"two\"\n");
    let machine = gateway(&node, "diff", &folder, &["--json"]);
    ends_with(&machine, 6);
    let machine: Value = serde_json::from_slice(&machine.stdout).unwrap();
    assert_eq!(machine["changes"][0]["key"], "routes.hello.response.body");
    let second = apply(&node, &folder);
    assert_eq!(second["previous"], first["revision"]);
    assert_eq!(on_host(&node, "edge.localhost", "/hello").await.text(), "two");
    let again = apply(&node, &folder);
    assert_eq!(
        (&again["revision"], &again["changes"]),
        (&second["revision"], &Value::Array(vec![]))
    );

    // What is shown can be applied, and is the same.
    let shown = node.cli(&["gateway", "show", "edge"]);
    let copy = folder.with_file_name("copy");
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::write(copy.join("squall.toml"), &shown.stdout).unwrap();
    ends_with(&gateway(&node, "diff", &copy, &[]), 0);

    node.cli_json(&["rollback", "edge"]);
    assert_eq!(on_host(&node, "edge.localhost", "/hello").await.text(), "one");
    assert!(node.cli(&["delete", "edge", "--yes"]).status.success());
    let after = on_host(&node, "a.edge.example", "/hello").await;
    assert_ne!(after.text(), "one", "the other app is the only one now");
    ends_with(&node.cli(&["gateway", "show", "edge"]), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_functions_is_checked_deployed_and_developed_like_others() {
    let node = TestNode::start();
    let folder = folder(&node, "edge", EDGE);
    let path = folder.to_str().unwrap();
    assert_eq!(printed(&node.cli(&["check", path])), "edge: 2 routes: ok\n");
    assert_eq!(printed(&gateway(&node, "check", &folder, &[])), "edge: 2 routes: ok\n");
    let deployed = node.cli_json(&["deploy", path]);
    assert_eq!(apply(&node, &folder)["revision"], deployed["revision"]);
    assert_eq!(node.get("edge", "/hello").await.text(), "one");

    let dev = Dev::start(&node, &folder);
    dev.expect(&["waiting for changes"]);
    std::fs::write(folder.join("squall.toml"), EDGE.replace("\"one\"", "\"two\"")).unwrap();
    dev.expect(&["Reloaded edge in "]);
    assert_eq!(node.get("edge", "/hello").await.text(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_changes_nothing_and_says_where_it_is_wrong() {
    let node = TestNode::start();
    let good = folder(&node, "edge", EDGE);
    let live = apply(&node, &good)["revision"].clone();
    let file = good.join("squall.toml");
    for (from, to, place, says) in [
        ("paths = [\"/hello\"]", "path = [\"/hello\"]", ":6:1", "did you mean `paths`?"),
        ("paths = [\"/hello\"]", "paths = [\"hello\"]", ":6:1", "routes.hello.paths"),
        ("status = 308", "status = 200", ":12:31", "routes.old.redirect.status must be 301"),
        ("redirect =", "upstream = \"users\" #", ":9:1", "add function, upstream"),
    ] {
        assert!(EDGE.contains(from), "{from}");
        let text = match to.starts_with("upstream") {
            // Without a target at all.
            true => EDGE.replace("redirect = { prefix = \"/new\", status = 308 }\n", ""),
            false => EDGE.replace(from, to),
        };
        std::fs::write(&file, text).unwrap();
        for command in ["check", "diff", "apply"] {
            let said = ends_with(&gateway(&node, command, &good, &[]), 5);
            let place = format!("squall.toml{place}: ");
            assert!(said.contains("error[SQ0300]") && said.contains(&place), "{said}");
            assert!(said.contains(says), "{said}");
        }
    }
    assert_eq!(node.cli_json(&["gateway", "show", "edge"])["revision"], live);
    assert_eq!(node.get("edge", "/hello").await.text(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_keep_their_code_and_get_other_routes() {
    let node = TestNode::start();
    let app = App::probe("shop").with("env = { VERSION = \"v1\" }");
    let folder = node.write_app(&app);
    let deployed = node.cli_json(&["deploy", folder.to_str().unwrap()]);
    let file = folder.join("squall.toml");
    let manifest = std::fs::read_to_string(&file).unwrap();
    // The component is gone: nothing is built or uploaded.
    std::fs::remove_file(folder.join("api.wasm")).unwrap();
    let narrowed = manifest.replace("[\"/*\"]", "[\"/env\"]");
    std::fs::write(
        &file,
        format!("{narrowed}\n[[routes]]\nname = \"rest\"\nresponse = {{ status = 410 }}\n"),
    )
    .unwrap();
    let applied = apply(&node, &folder);
    assert_eq!(applied["previous"], deployed["revision"]);
    assert_eq!(node.get("shop", "/env").await.json()["VERSION"], "v1");
    assert_eq!(node.get("shop", "/count").await.status, 410);

    // Functions come and go with a deployment only.
    let more = format!("{manifest}\n[functions.new]\nsource = \"a.ts\"\nroutes = [\"/new\"]\n");
    std::fs::write(&file, more).unwrap();
    let said = ends_with(&gateway(&node, "apply", &folder, &[]), 5);
    assert!(said.contains("error[SQ0326]") && said.contains("functions.new"), "{said}");
    assert!(said.contains("try: squall deploy"), "{said}");

    // Neither does it take sides in a split.
    let shares = [deployed, applied].map(|one| format!("{}=50", one["revision"].as_str().unwrap()));
    node.cli_json(&["traffic", "shop", &shares[0], &shares[1]]);
    std::fs::write(&file, &manifest).unwrap();
    let said = ends_with(&gateway(&node, "apply", &folder, &[]), 5);
    assert!(said.contains("error[SQ0327]"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_explained_by_what_is_live_and_by_a_folder_alike() {
    let node = TestNode::start();
    let folder = folder(&node, "edge", EDGE);
    apply(&node, &folder);
    let asked = ["gateway", "explain", "GET", "http://a.edge.example/old/x?y=1"];
    let live = node.cli_json(&asked);
    assert_eq!((&live["route"], &live["host"]), (&"old".into(), &"*.edge.example".into()));
    assert_eq!(live["target"], "redirect 308 to http://a.edge.example/new/x?y=1");
    let local = node.cli_json(&[&asked[..], &["--file", folder.to_str().unwrap()]].concat());
    for same in ["route", "host", "target", "matched_by", "considered"] {
        assert_eq!(live[same], local[same], "{same}");
    }
    let by_path = node.cli(&["gateway", "explain", "GET", "/hello", "--app", "edge"]);
    assert!(printed(&by_path).contains("\ntarget     response 200\n"), "{by_path:?}");
    let nowhere = node.cli_json(&["gateway", "explain", "GET", "/nowhere", "--app", "edge"]);
    assert_eq!(nowhere["rejection"]["code"], "SQ0103");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_applies_under_load_fail_no_request_and_leave_a_bounded_state() {
    let node = TestNode::start();
    let version = |n: usize| EDGE.replace("\"one\"", &format!("\"v{n}\""));
    let folder = folder(&node, "edge", &version(0));
    apply(&node, &folder);
    let load = Load::start(node.gateway(), "edge.localhost", "/hello", 8, |status, body| {
        match status == 200 && body.starts_with(b"v") {
            true => Ok(()),
            false => Err(format!("{status}: {}", String::from_utf8_lossy(body))),
        }
    });
    for n in 1..=55 {
        std::fs::write(folder.join("squall.toml"), version(n)).unwrap();
        apply(&node, &folder);
        assert_eq!(node.get("edge", "/hello").await.text(), format!("v{n}"));
    }
    let completed = load.completed.load(Ordering::Relaxed);
    assert_eq!(load.stop().await, Vec::<String>::new());
    assert!(completed > 100, "only {completed} requests were made");
    let revisions = node.cli_json(&["revisions", "edge"]);
    assert_eq!(revisions["items"].as_array().unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_their_keys_hold_at_once_and_survive_a_kill() {
    let mut node = TestNode::start();
    let manifest = format!(
        "{EDGE}policy = {{ auth = [\"keys\"] }}\n[identity.keys.api_key]\n[plans.gold]\nrequests_per_day = 1000\n"
    );
    apply(&node, &folder(&node, "edge", &manifest));
    let client = ["clients", "create", "edge", "acme", "--plan", "gold", "--scope", "read"];
    node.cli_json(&client);
    assert!(node.cli(&client).status.success(), "the same may be asked again");
    let said = ends_with(&node.cli(&["clients", "create", "edge", "b", "--plan", "lead"]), 5);
    assert!(said.contains("error[SQ0325]") && said.contains("gold"), "{said}");
    let made = node.cli_json(&["clients", "keys", "create", "edge", "acme", "--label", "ci"]);
    let key = made["key"].as_str().unwrap().to_owned();
    let with_key = async |node: &TestNode| {
        let header = [("x-api-key", key.as_str())];
        node.request("GET", "edge", "/old/x", &header, "").await.status
    };
    assert_eq!(node.get("edge", "/old/x").await.status, 401);
    assert_eq!(with_key(&node).await, 308);

    node.kill();
    node.restart();
    assert_eq!(with_key(&node).await, 308);
    let shown = node.cli_json(&["clients", "show", "edge", "acme"]);
    assert_eq!((&shown["plan"], &shown["scopes"][0]), (&"gold".into(), &"read".into()));
    assert_eq!(shown["keys"][0]["prefix"], made["prefix"]);
    let grep = std::process::Command::new("grep")
        .args(["-r", "-l", &key[17..]])
        .arg(node.data_dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "a key is kept by its hash only");

    node.cli_json(&["clients", "update", "edge", "acme", "--disable"]);
    assert_eq!(with_key(&node).await, 401);
    node.cli_json(&["clients", "update", "edge", "acme", "--enable", "--no-plan"]);
    assert_eq!(with_key(&node).await, 308);
    // The whole key names it as well as its prefix does; its secret is not sent.
    node.cli_json(&["clients", "keys", "revoke", "edge", "acme", &key]);
    assert_eq!(with_key(&node).await, 401);
    node.cli_json(&["clients", "delete", "edge", "acme"]);
    assert_eq!(node.cli_json(&["clients", "list", "edge"])["items"], Value::Array(Vec::new()));
}
