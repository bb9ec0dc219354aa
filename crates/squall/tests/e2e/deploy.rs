//! Deploying, changing, splitting and rolling back, while requests arrive.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::harness::{App, Load, TestNode, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_app_answers_on_its_name_and_on_any_host() {
    let node = TestNode::start();
    let deployed = node.deploy(&App::new("hello", squall_testkit::HELLO));
    assert_eq!(deployed["app"], "hello");
    assert_eq!(node.get("hello", "/").await.status, 200);
    let any =
        crate::harness::request(node.gateway(), "127.0.0.1", "GET", "/", &[], bytes::Bytes::new());
    assert_eq!(any.await.unwrap().status, 200, "the only app answers on any Host");

    // With a second app, a Host that names none has no owner any more.
    node.deploy(&App::new("other", squall_testkit::HELLO));
    let stray = crate::harness::request(
        node.gateway(),
        "127.0.0.1",
        "GET",
        "/",
        &[("accept", "application/json")],
        bytes::Bytes::new(),
    );
    let stray = stray.await.unwrap();
    assert_eq!((stray.status, stray.code().as_str()), (404, "SQ0103"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_is_the_same_revision() {
    let node = TestNode::start();
    let app = App::new("hello", squall_testkit::HELLO);
    let first = node.deploy(&app);
    let again = node.deploy(&app);
    assert_eq!(first["revision"], again["revision"]);
    assert_eq!((&first["created"], &again["created"]), (&true.into(), &false.into()));
    let changed = node.deploy(&app.clone().with("env = { A = \"1\" }"));
    assert_ne!(first["revision"], changed["revision"]);
}

/// Deploys, rollbacks and splits under load: nothing fails, and no answer comes from a
/// revision that was not live between the request's start and its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_fail_no_request() {
    let node = TestNode::start();
    let version = |n: u32| App::probe("live").with(&format!("env = {{ VERSION = \"v{n}\" }}"));
    node.deploy(&version(0));
    let active: Arc<Mutex<HashSet<String>>> = Arc::default();
    active.lock().unwrap().insert("v0".to_owned());
    let seen = active.clone();
    let load = Load::start(node.gateway(), "live.localhost", "/env", 8, move |status, body| {
        let answer: serde_json::Value = serde_json::from_slice(body)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(body)))?;
        let version = answer["VERSION"].as_str().unwrap_or("none").to_owned();
        if status == 200 && seen.lock().unwrap().contains(&version) {
            return Ok(());
        }
        Err(format!("{status} from {version}"))
    });
    for n in 1..=20 {
        // Its answers may begin as soon as it is live, which is before the CLI returns.
        active.lock().unwrap().insert(format!("v{n}"));
        node.deploy(&version(n));
        assert_eq!(node.get("live", "/env").await.json()["VERSION"], format!("v{n}"));
        if n % 4 == 0 {
            let back = node.cli(&["rollback", "live"]);
            assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
            let now = node.get("live", "/env").await.json();
            assert_eq!(now["VERSION"], format!("v{}", n - 1));
        }
    }
    let completed = load.completed.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(load.stop().await, Vec::<String>::new());
    assert!(completed > 100, "only {completed} requests were made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_splits_and_previews() {
    let node = TestNode::start();
    let version = |n: &str| App::probe("split").with(&format!("env = {{ VERSION = {n:?} }}"));
    let first = node.deploy(&version("a"))["revision"].as_str().unwrap().to_owned();
    let second = node.deploy(&version("b"))["revision"].as_str().unwrap().to_owned();
    node.cli_json(&["traffic", "split", &format!("{first}=70"), &format!("{second}=30")]);
    let mut of_second = 0;
    for _ in 0..300 {
        of_second += u32::from(node.get("split", "/env").await.json()["VERSION"] == "b");
    }
    // Binomial with n = 300, p = 0.3: more than five standard deviations each way.
    assert!((45..=135).contains(&of_second), "{of_second} of 300");
    for (revision, version) in [(&first, "a"), (&second, "b")] {
        let preview = node.get(&format!("{revision}--split"), "/env").await;
        assert_eq!(preview.json()["VERSION"], version);
    }
    let wrong = node.cli(&["traffic", "split", &format!("{first}=70"), &format!("{second}=20")]);
    assert_eq!(wrong.status.code(), Some(5), "{}", String::from_utf8_lossy(&wrong.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_and_a_function_that_falls_through_to_them() {
    let node = TestNode::start();
    let mut app = App::probe("site").with("fall_through = true");
    app.more = "[assets]\ndir = \"public\"".to_owned();
    app.files = vec![
        ("public/index.html".to_owned(), "<h1>home</h1>".to_owned()),
        ("public/css/site.css".to_owned(), "body{}".to_owned()),
    ];
    node.deploy(&app);
    let style = node.get("site", "/css/site.css").await;
    assert_eq!((style.status, style.text()), (200, "body{}"));
    assert!(style.headers["content-type"].to_str().unwrap().starts_with("text/css"));
    let etag = style.headers["etag"].to_str().unwrap();
    let unchanged =
        node.request("GET", "site", "/css/site.css", &[("if-none-match", etag)], "").await;
    assert_eq!(unchanged.status, 304);
    let part = node.request("GET", "site", "/css/site.css", &[("range", "bytes=0-3")], "").await;
    assert_eq!((part.status, part.text()), (206, "body"));
    assert_eq!(node.get("site", "/count").await.status, 200, "the function comes first");
    assert_eq!(node.get("site", "/nowhere").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_an_app_lets_what_runs_finish() {
    let node = TestNode::start();
    node.deploy(&App::probe("gone"));
    let address = node.gateway();
    let running = tokio::spawn(crate::harness::request(
        address,
        "gone.localhost",
        "GET",
        "/sleep?ms=700",
        &[],
        bytes::Bytes::new(),
    ));
    wait_for("the request to run", || {
        let metrics = std::process::Command::new("curl")
            .args(["-s", &format!("http://{}/metrics", node.admin())])
            .output()
            .unwrap();
        String::from_utf8_lossy(&metrics.stdout).contains("squall_invocations_running 1")
    });
    assert!(node.cli(&["delete", "gone", "--yes"]).status.success());
    assert_eq!(node.get("gone", "/count").await.status, 404);
    assert_eq!(running.await.unwrap().unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_change_without_a_deploy_and_can_not_be_read_back() {
    let node = TestNode::start();
    node.deploy(&App::probe("safe"));
    let set = |value: &str| {
        let file = node.dir.path().join("secret");
        std::fs::write(&file, value).unwrap();
        let done =
            node.cli(&["secrets", "set", "safe", "API_KEY", "--from-file", file.to_str().unwrap()]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    for value in ["wind-and-rain-1", "wind-and-rain-2"] {
        set(value);
        assert_eq!(node.get("safe", "/env").await.json()["API_KEY"], value);
    }
    let listed =
        String::from_utf8(node.cli(&["secrets", "list", "safe", "--json"]).stdout).unwrap();
    assert!(listed.contains("API_KEY") && !listed.contains("wind-and-rain"), "{listed}");
    // Nothing in the data directory holds it as it is.
    let grep = std::process::Command::new("grep")
        .args(["-r", "-l", "wind-and-rain"])
        .arg(node.data_dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}
