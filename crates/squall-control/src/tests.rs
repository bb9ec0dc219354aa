//! The admin API against a control plane whose neighbours are fakes.

mod clients;
mod gateway;
mod hosts;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use squall_types::build::{Build, BuildFuture, BuildJob, BuildOutput, Target};
use squall_types::cache::{
    CacheAdmin, CacheError, CacheInspect, CacheInspection, CacheReport, PurgeRequest,
};
use squall_types::gateway::{Explain, ExplainQuery, Explanation};
use squall_types::gateway::{
    ReportRoutes, ReportUpstreams, RouteReport, RoutesReport, UpstreamReport, UpstreamsReport,
};
use squall_types::invoke::{Invocation, InvokeFuture};
use squall_types::limits::Limits;
use squall_types::log::{LogEntry, LogEvent, LogFilter, LogStore};
use squall_types::node::{Node, NodeStatus};
use squall_types::state::{ApplySnapshot, BlobId, HandlerWorld, Snapshot};
use squall_types::usage::{UsageFilter, UsageRecord, UsageRow, UsageSink, UsageStore};
use squall_types::{AppName, Invoke};
use tower::ServiceExt as _;

use crate::{Control, ControlOptions};

#[derive(Default)]
struct Fake {
    snapshots: Mutex<Vec<Arc<Snapshot>>>,
}

impl ApplySnapshot for Fake {
    fn apply(&self, snapshot: &Arc<Snapshot>) {
        self.snapshots.lock().unwrap().push(snapshot.clone());
    }
}
impl Build for Fake {
    fn build(&self, _: BuildJob) -> BuildFuture<'_, BuildOutput> {
        let output = BuildOutput {
            world: HandlerWorld::Http02,
            artifact_bytes: 1,
            compile_ms: 1,
            warnings: Vec::new(),
        };
        Box::pin(async { Ok(output) })
    }
    fn is_built(&self, _: &BlobId, _: &Target) -> bool {
        false
    }
}
impl Invoke for Fake {
    fn invoke(&self, invocation: Invocation) -> InvokeFuture {
        let path = invocation.request.uri().path().to_owned();
        Box::pin(async move { Ok(http::Response::new(squall_types::Body::full(path))) })
    }
}
impl Explain for Fake {
    fn explain(&self, query: &ExplainQuery) -> Explanation {
        Explanation { route: Some(query.url.clone()), ..Explanation::default() }
    }
}
impl UsageSink for Fake {
    fn record(&self, _: UsageRecord) {}
}
impl UsageStore for Fake {
    fn usage(&self, _: &UsageFilter) -> std::io::Result<Vec<UsageRow>> {
        Ok(Vec::new())
    }
}
impl LogStore for Fake {
    fn recent(&self, _: &LogFilter, _: usize) -> Vec<Arc<LogEntry>> {
        Vec::new()
    }
    fn follow(&self, _: LogFilter) -> tokio::sync::mpsc::Receiver<LogEvent> {
        tokio::sync::mpsc::channel(1).1
    }
}
impl ReportRoutes for Fake {
    fn routes(&self, app: Option<&AppName>) -> RoutesReport {
        let app = app.cloned().unwrap_or_else(|| AppName::parse("shop").unwrap());
        let route = RouteReport {
            app,
            route: "orders".to_owned(),
            requests: [("2xx".to_owned(), 3)].into(),
            rejections: Default::default(),
            in_flight: 1,
            request_bytes: 0,
            response_bytes: 30,
            latency: Vec::new(),
            latency_sum_us: 600,
        };
        RoutesReport { uptime_us: 1_000_000, items: vec![route] }
    }
}
impl ReportUpstreams for Fake {
    fn upstreams(&self, app: Option<&AppName>) -> UpstreamsReport {
        let upstream = UpstreamReport {
            app: app.cloned().unwrap_or_else(|| AppName::parse("shop").unwrap()),
            upstream: "users".to_owned(),
            revisions: Vec::new(),
            circuit: None,
            unresolved: None,
            tunnels: 0,
            retries: 0,
            refused: 0,
            targets: Vec::new(),
        };
        UpstreamsReport { items: vec![upstream] }
    }
}
impl CacheAdmin for Fake {
    fn purge(&self, _: &AppName, _: &PurgeRequest) -> Result<(), CacheError> {
        Ok(())
    }
    fn inspect(&self, _: &AppName, _: &CacheInspect) -> Result<CacheInspection, CacheError> {
        Ok(CacheInspection::default())
    }
    fn report(&self, _: Option<&AppName>) -> CacheReport {
        CacheReport::default()
    }
}
impl Node for Fake {
    fn status(&self) -> NodeStatus {
        NodeStatus {
            version: "0".into(),
            pid: 1,
            supervisor_pid: 1,
            started_at: String::new(),
            gateway_urls: vec!["http://127.0.0.1:8080/".into()],
            admin_url: "http://127.0.0.1:8081/".into(),
            data_dir: String::new(),
            ready: true,
            waiting_for: None,
        }
    }
    fn metrics(&self) -> String {
        String::new()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    control: Control,
    fake: Arc<Fake>,
    token: String,
}

fn open(dir: PathBuf, fake: &Arc<Fake>) -> Control {
    Control::open(ControlOptions {
        data_dir: dir,
        node_key: [7; 32],
        build: fake.clone(),
        apply: vec![fake.clone()],
        invoke: fake.clone(),
        explain: fake.clone(),
        usage_sink: fake.clone(),
        usage: fake.clone(),
        logs: fake.clone(),
        routes: fake.clone(),
        upstreams: fake.clone(),
        cache: fake.clone(),
        node: fake.clone(),
        caps: Limits::node_caps(),
        upload_bytes_max: 100_000,
        admin_hosts: vec!["admin.example".into()],
    })
    .unwrap()
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        let control = open(dir.path().to_owned(), &fake);
        control.reload().unwrap();
        let token = control.ensure_local_token(None).unwrap().unwrap();
        Self { dir, control, fake, token }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8081")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
        let response = self.control.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let last = body.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        (status, last.map_or(Value::Null, |last| serde_json::from_slice(last).unwrap()))
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(method, path, &self.token, body).await
    }

    async fn deploy(&self, app: &str, version: &str) -> Value {
        let manifest = format!(
            "name = {app:?}\nenv = {{ V = {version:?} }}\n[functions.api]\ncomponent = \"./api.wasm\"\nroutes = [\"/*\"]\n"
        );
        let archive = archive(&[("squall.toml", &manifest), ("api.wasm", "component")]);
        let path = format!("/v1/apps/{app}/deployments");
        let (status, last) = self.send("POST", &path, &self.token, archive).await;
        assert_eq!((status, &last["event"]), (200, &"live".into()), "{last}");
        last
    }

    fn newest(&self) -> Arc<Snapshot> {
        self.fake.snapshots.lock().unwrap().last().unwrap().clone()
    }
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn deployments_are_idempotent_and_survive_a_restart() {
    let bench = Bench::new();
    let first = bench.deploy("a", "1").await;
    assert_eq!((&first["created"], &first["active"]), (&true.into(), &true.into()));
    let again = bench.deploy("a", "1").await;
    assert_eq!(again["created"], false);
    assert_eq!(again["revision"], first["revision"]);
    let second = bench.deploy("a", "2").await;
    assert_ne!(second["revision"], first["revision"]);
    assert_eq!(bench.newest().apps[0].traffic[0].revision.id.as_str(), second["revision"]);

    let fake = Arc::new(Fake::default());
    open(bench.dir.path().to_owned(), &fake).reload().unwrap();
    let found = fake.snapshots.lock().unwrap().last().unwrap().clone();
    assert_eq!(found.apps[0].traffic[0].revision.id.as_str(), second["revision"]);
    assert_eq!(found.apps[0].revisions.len(), 2);
}

#[tokio::test]
async fn what_did_not_change_keeps_its_address() {
    let bench = Bench::new();
    bench.deploy("a", "1").await;
    let before = bench.newest().apps[0].revisions[0].clone();
    bench.deploy("b", "1").await;
    bench.ask("PUT", "/v1/apps/a/secrets/KEY", json!({"value": "wind"})).await;
    let after = bench.newest();
    let app = after.apps.iter().find(|app| app.name.as_str() == "a").unwrap();
    assert!(Arc::ptr_eq(&before, &app.revisions[0]));
    assert_eq!(app.environment.secrets["KEY"], "wind");
}

#[tokio::test]
async fn rolling_back_twice_goes_two_steps() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for version in ["1", "2", "3"] {
        ids.push(bench.deploy("a", version).await["revision"].clone());
    }
    for expected in [&ids[1], &ids[0]] {
        let (status, app) = bench.ask("POST", "/v1/apps/a/rollback", Value::Null).await;
        assert_eq!((status, &app["traffic"][0]["revision"]), (200, expected));
    }
    let (status, problem) = bench.ask("POST", "/v1/apps/a/rollback", Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &"SQ0320".into()));
    let (_, app) = bench.ask("POST", "/v1/apps/a/rollback", json!({"revision": ids[2]})).await;
    assert_eq!(app["traffic"][0]["revision"], ids[2]);
}

#[tokio::test]
async fn traffic_must_add_up() {
    let bench = Bench::new();
    let first = bench.deploy("a", "1").await["revision"].clone();
    let second = bench.deploy("a", "2").await["revision"].clone();
    let shares = |a: u32, b: u32| json!({"shares": [{"revision": first, "percent": a}, {"revision": second, "percent": b}]});
    let (status, app) = bench.ask("PUT", "/v1/apps/a/traffic", shares(70, 30)).await;
    assert_eq!((status, &app["traffic"][1]["percent"]), (200, &30.into()));
    for wrong in [shares(70, 20), shares(100, 0), json!({"shares": []})] {
        let (status, problem) = bench.ask("PUT", "/v1/apps/a/traffic", wrong).await;
        assert_eq!((status, &problem["code"]), (422, &"SQ0314".into()));
    }
    let (status, _) = bench
        .ask(
            "PUT",
            "/v1/apps/a/traffic",
            json!({"shares": [{"revision": "nonsense", "percent": 100}]}),
        )
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn scopes_bound_what_a_token_may_do() {
    let bench = Bench::new();
    bench.deploy("a", "1").await;
    let make = async |scope: &str| {
        let (status, made) =
            bench.ask("POST", "/v1/tokens", json!({"name": "t", "scope": scope})).await;
        assert_eq!(status, 201);
        (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
    };
    let (read, read_id) = make("read").await;
    let (deploy, _) = make("deploy").await;
    for (token, method, path, status) in [
        (&read, "GET", "/v1/apps", 200),
        (&read, "POST", "/v1/apps/a/rollback", 403),
        (&read, "GET", "/v1/tokens", 403),
        (&deploy, "GET", "/v1/apps", 200),
        (&deploy, "DELETE", "/v1/apps/a", 403),
    ] {
        let (found, _) = bench.send(method, path, token, Body::empty()).await;
        assert_eq!(found, status, "{method} {path}");
    }
    bench.ask("DELETE", &format!("/v1/tokens/{read_id}"), Value::Null).await;
    assert_eq!(bench.send("GET", "/v1/apps", &read, Body::empty()).await.0, 401);
    assert_eq!(bench.send("GET", "/v1/apps", "sqt_wrong", Body::empty()).await.0, 401);
    for name in ["", " ", "two\nlines", "\u{1b}[2J"] {
        let asked = json!({ "name": name, "scope": "read" });
        assert_eq!(bench.ask("POST", "/v1/tokens", asked).await.0, 400, "{name:?}");
    }
}

#[tokio::test]
async fn uploads_that_can_not_be_right_are_refused_and_leave_nothing() {
    let bench = Bench::new();
    let manifest = "name = \"a\"\n[functions.api]\ncomponent = \"api.wasm\"\nroutes = [\"/*\"]\n";
    let good = archive(&[("squall.toml", manifest), ("api.wasm", "component")]);
    let send = async |bytes: Vec<u8>| {
        bench.send("POST", "/v1/apps/a/deployments", &bench.token, bytes).await
    };
    // Cut in the middle of a file and in the middle of a header.
    for cut in [700, 1_100] {
        let (status, problem) = send(good[..cut].to_vec()).await;
        assert_eq!((status, &problem["code"]), (400, &"SQ0304".into()), "cut at {cut}");
    }
    let (status, problem) = send(archive(&[("api.wasm", "component")])).await;
    assert_eq!((status, &problem["code"]), (422, &"SQ0313".into()));
    let (_, failed) = send(archive(&[("squall.toml", manifest)])).await;
    assert_eq!(failed["problem"]["code"], "SQ0313");
    let large = "x".repeat(200_000);
    let (status, problem) = send(archive(&[("squall.toml", manifest), ("api.wasm", &large)])).await;
    assert_eq!((status, &problem["code"]), (413, &"SQ0305".into()));
    let (_, failed) =
        send(archive(&[("squall.toml", "name = \"other\"\n[assets]\ndir = \"p\"\n")])).await;
    assert_eq!(failed["problem"]["code"], "SQ0300");
    assert_eq!(std::fs::read_dir(bench.dir.path().join("staging")).unwrap().count(), 0);
    assert_eq!(bench.ask("GET", "/v1/apps", Value::Null).await.1["items"], json!([]));
}

#[tokio::test]
async fn deleting_an_app_frees_its_files() {
    let bench = Bench::new();
    bench.deploy("a", "1").await;
    assert_eq!(bench.ask("DELETE", "/v1/apps/a", Value::Null).await.0, 204);
    assert!(bench.newest().apps.is_empty());
    assert_eq!(bench.ask("GET", "/v1/apps/a", Value::Null).await.1["code"], "SQ0307");
    assert_eq!(bench.control.sweep().unwrap(), 1);
}

#[tokio::test]
async fn pages_of_apps_follow_each_other() {
    let bench = Bench::new();
    for app in ["a", "b", "c"] {
        bench.deploy(app, "1").await;
    }
    let (_, first) = bench.ask("GET", "/v1/apps?limit=2", Value::Null).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (2, &"b".into()));
    let (_, second) = bench.ask("GET", "/v1/apps?limit=2&cursor=b", Value::Null).await;
    assert_eq!((&second["items"][0]["name"], &second["next"]), (&"c".into(), &Value::Null));
    assert_eq!(bench.ask("GET", "/v1/apps?limit=0", Value::Null).await.0, 400);
}

#[tokio::test]
async fn strange_hosts_and_secrets_are_handled() {
    let bench = Bench::new();
    bench.deploy("a", "1").await;
    for (host, status) in [("evil.example", 400), ("admin.example:1", 200), ("[::1]:8081", 200)] {
        let request =
            http::Request::get("/livez").header("host", host).body(Body::empty()).unwrap();
        let response = bench.control.router().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
    assert_eq!(bench.ask("PUT", "/v1/apps/a/secrets/K", json!({"value": "v"})).await.0, 204);
    let (_, listed) = bench.ask("GET", "/v1/apps/a/secrets", Value::Null).await;
    assert_eq!(listed["items"][0]["name"], "K");
    assert!(listed["items"][0].get("value").is_none());
    assert_eq!(bench.ask("DELETE", "/v1/apps/a/secrets/K", Value::Null).await.0, 204);
    assert_eq!(bench.ask("DELETE", "/v1/apps/a/secrets/K", Value::Null).await.0, 404);
    let (_, answer) = bench.ask("POST", "/v1/apps/a/invoke", json!({"path": "/x"})).await;
    assert_eq!((&answer["status"], &answer["body_base64"]), (&200.into(), &"L3g=".into()));
}

/// Rewrite with `SQUALL_UPDATE_GOLDEN=1 cargo test -p squall-control`.
#[test]
fn the_openapi_document_is_what_it_was() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut found = crate::api::openapi_document();
    // Whether maps keep their order is up to what else is built in the same run.
    found.sort_all_objects();
    let found = format!("{found:#}\n");
    if std::env::var_os("SQUALL_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == golden, "the API changed; look at the difference, then update openapi.json");
}

#[tokio::test]
async fn routes_and_upstreams_are_reported_of_all_apps_or_one() {
    let bench = Bench::new();
    for path in ["/v1/gateway/routes", "/v1/gateway/upstreams"] {
        let (status, report) = bench.ask("GET", path, Value::Null).await;
        assert_eq!((status, &report["items"][0]["app"]), (200, &"shop".into()), "{report}");
        for nobody in ["blog", "A%20b"] {
            let path = format!("{path}?app={nobody}");
            let (status, problem) = bench.ask("GET", &path, Value::Null).await;
            assert_eq!((status, &problem["code"]), (404, &"SQ0307".into()), "{problem}");
        }
    }
    bench.deploy("blog", "1").await;
    for path in ["/v1/gateway/routes", "/v1/gateway/upstreams"] {
        let (_, report) = bench.ask("GET", &format!("{path}?app=blog"), Value::Null).await;
        assert_eq!(report["items"][0]["app"], "blog");
    }
}

/// What is kept may be of an app that is there no more; what is not asks for one that is.
#[tokio::test]
async fn nothing_is_not_what_an_unknown_app_has() {
    let bench = Bench::new();
    for path in ["/v1/logs?app=nobody", "/v1/cache?app=nobody"] {
        let (status, problem) = bench.ask("GET", path, Value::Null).await;
        assert_eq!((status, &problem["code"]), (404, &"SQ0307".into()), "{path}: {problem}");
    }
}
