//! The edge cache: what a caller gets, what its origin is asked, and what remains after a
//! purge, a restart and a crash.

mod crash;
mod poisoning;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, App, TestNode, wait_for};

/// A request as the origin saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    /// The first request has 1.
    number: usize,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// Before it answers.
    delay: Duration,
}

impl Reply {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Respond = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server that remembers what it was asked.
#[derive(Clone)]
struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    respond: Arc<Respond>,
}

impl Origin {
    async fn start(respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self { address, seen: Arc::default(), respond: Arc::new(respond) };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        origin
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap();
            let mut lines = head.lines();
            let mut words = lines.next().unwrap().split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
            stream.read_exact(&mut vec![0; length]).await?;
            let seen = {
                let mut all = self.seen.lock().unwrap();
                let (method, path) = (method.to_owned(), path.to_owned());
                let number = all.len() + 1;
                all.push(Seen { method, path, headers, number });
                all[number - 1].clone()
            };
            let reply = (self.respond)(&seen);
            tokio::time::sleep(reply.delay).await;
            let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
            for (name, value) in &reply.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            if !matches!(reply.status, 204 | 304) {
                text.push_str(&format!("content-length: {}\r\n", reply.body.len()));
            }
            text.push_str("\r\n");
            if seen.method != "HEAD" && reply.status != 304 {
                text.push_str(&reply.body);
            }
            stream.write_all(text.as_bytes()).await?;
        }
    }
}

/// Deploys an app that is a cache in front of an origin.
fn deploy(node: &TestNode, origin: &Origin, rules: &str) {
    let folder = node.dir.path().join("apps/front");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "name = \"front\"\n[gateway.policy.cache]\n{rules}\n[upstreams.origin]\ntargets = [\"http://{}\"]\nallow_private = true\nretry = {{ attempts = 0 }}\n[[routes]]\nname = \"all\"\nupstream = \"origin\"\n",
        origin.address
    );
    std::fs::write(folder.join("squall.toml"), manifest).unwrap();
    node.cli_json(&["deploy", folder.to_str().unwrap()]);
}

async fn front(
    rules: &str,
    respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (TestNode, Origin) {
    let origin = Origin::start(respond).await;
    let node = TestNode::start();
    deploy(&node, &origin, rules);
    (node, origin)
}

async fn ask(node: &TestNode, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    node.request(method, "front", path, headers, Bytes::new()).await
}

async fn get(node: &TestNode, path: &str) -> Answer {
    ask(node, "GET", path, &[]).await
}

/// What the cache said that it did.
fn status(answer: &Answer) -> &str {
    answer.headers.get("cache-status").map_or("", |value| value.to_str().unwrap())
}

#[track_caller]
fn assert_hit(answer: &Answer, body: &str) {
    assert_eq!((answer.status, answer.text()), (200, body), "{}", status(answer));
    assert!(status(answer).starts_with("Squall; hit"), "{}", status(answer));
}

fn numbered(seen: &Seen) -> Reply {
    Reply::new(200, format!("answer {}", seen.number)).with("cache-control", "max-age=60")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_response_is_asked_for_once_and_is_no_invocation_again() {
    let (node, origin) = front("", numbered).await;
    let first = get(&node, "/a").await;
    assert_eq!(first.text(), "answer 1");
    assert!(
        status(&first).starts_with("Squall; fwd=uri-miss; fwd-status=200; stored"),
        "{}",
        status(&first)
    );
    for _ in 0..3 {
        let again = get(&node, "/a").await;
        assert_hit(&again, "answer 1");
        assert!(again.headers.contains_key("age"));
    }
    let head = ask(&node, "HEAD", "/a", &[]).await;
    assert_eq!(head.headers["content-length"], "8");
    assert_eq!(get(&node, "/a?other").await.text(), "answer 2");
    assert_eq!(origin.asked(), 2);

    wait_for("the records", || node.usage("front")["total"]["cache_hits"] == 4);
    let total = node.usage("front")["total"].clone();
    assert_eq!(total["invocations"], 2, "{total}");
    let stats = node.cli_json(&["cache", "stats", "--app", "front"]);
    let route = &stats["routes"][0];
    assert_eq!((&route["hits"], &route["misses"]), (&4.into(), &2.into()), "{stats}");
    assert!(route["bytes_saved"].as_u64().unwrap() >= 24, "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_stored_is_asked_for_each_time() {
    let (node, origin) = front("", |seen| {
        let reply = Reply::new(200, format!("{}", seen.number));
        match seen.path.as_str() {
            "/private" => reply.with("cache-control", "private, max-age=60"),
            "/no-store" => reply.with("cache-control", "no-store, max-age=60"),
            "/cookie" => reply.with("cache-control", "max-age=60").with("set-cookie", "a=1"),
            "/star" => reply.with("cache-control", "max-age=60").with("vary", "*"),
            _ => reply.with("cache-control", "max-age=60"),
        }
    })
    .await;
    let mut expected = 0;
    for path in ["/private", "/no-store", "/cookie", "/star"] {
        for _ in 0..2 {
            expected += 1;
            let answer = get(&node, path).await;
            assert_eq!(answer.text(), expected.to_string(), "{path}: {}", status(&answer));
        }
    }
    for _ in 0..2 {
        expected += 1;
        let answer = ask(&node, "GET", "/authorized", &[("authorization", "Bearer x")]).await;
        assert_eq!(answer.text(), expected.to_string());
    }
    assert_eq!(origin.asked(), expected);
    let inspected = inspect(&node, "/private");
    assert_eq!(inspected["not_stored"], "the response says private", "{inspected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_a_callers_own_is_validated_by_its_caller() {
    let (node, origin) = front("", |seen| {
        let reply = match seen.headers.contains_key("if-none-match") {
            true => Reply::new(304, ""),
            false => Reply::new(200, "own"),
        };
        reply.with("cache-control", "private, max-age=60").with("etag", "\"v1\"")
    })
    .await;
    assert_eq!(get(&node, "/").await.text(), "own");
    let again = ask(&node, "GET", "/", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!((again.status, again.text()), (304, ""));
    assert_eq!(get(&node, "/").await.text(), "own");
    assert_eq!(origin.asked(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_turns_out_to_be_a_callers_own_does_not_stay() {
    let (node, origin) = front("", |seen| match seen.headers.contains_key("if-none-match") {
        false => Reply::new(200, "all")
            .with("cache-control", "no-cache, max-age=60")
            .with("etag", "\"v1\""),
        true => Reply::new(304, "")
            .with("cache-control", "private, max-age=60")
            .with("etag", "\"v1\"")
            .with("set-cookie", "a=1"),
    })
    .await;
    assert_eq!(get(&node, "/").await.text(), "all");
    let validated = get(&node, "/").await;
    assert_eq!(
        (validated.text(), &validated.headers["set-cookie"]),
        ("all", &"a=1".parse().unwrap())
    );
    assert!(status(&validated).contains("private"), "{}", status(&validated));
    let next = get(&node, "/").await;
    assert!(!next.headers.contains_key("set-cookie"));
    assert!(!origin.last().headers.contains_key("if-none-match"));
    assert_eq!(origin.asked(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fetch_answers_all_who_ask_at_once() {
    let (node, origin) = front("", |seen| numbered(seen).after(Duration::from_millis(500))).await;
    let all = join_all((0..200).map(|_| get(&node, "/cold"))).await;
    assert!(all.iter().all(|answer| answer.text() == "answer 1"));
    assert_eq!(origin.asked(), 1);
    let collapsed = all.iter().filter(|answer| status(answer).contains("collapsed")).count();
    assert!(collapsed > 0, "{}", status(&all[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_may_not_share_do_not_wait_for_each_other_for_ever() {
    let (node, origin) = front("", |seen| {
        Reply::new(200, format!("{}", seen.number))
            .with("cache-control", "private")
            .after(Duration::from_millis(50))
    })
    .await;
    let all = join_all((0..50).map(|_| get(&node, "/own"))).await;
    let mut bodies: Vec<_> = all.iter().map(|answer| answer.text().to_owned()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), origin.asked()), (50, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waited_gets_nothing_that_must_be_validated() {
    let (node, origin) = front("", |seen| {
        let said = match seen.path.as_str() {
            "/no-cache" => "no-cache",
            _ => "max-age=0, must-revalidate",
        };
        Reply::new(200, format!("{}", seen.number))
            .with("cache-control", said)
            .with("etag", format!("\"{}\"", seen.number))
            .after(Duration::from_millis(200))
    })
    .await;
    for (path, asked) in [("/no-cache", 20), ("/stale", 40)] {
        let all = join_all((0..20).map(|_| get(&node, path))).await;
        let mut bodies: Vec<_> = all.iter().map(|answer| answer.text().to_owned()).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!((bodies.len(), origin.asked()), (20, asked), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_kept_apart() {
    let (node, origin) = front("", |seen| {
        let language = seen.headers.get("accept-language").cloned().unwrap_or_default();
        Reply::new(200, language)
            .with("cache-control", "max-age=60")
            .with("vary", "Accept-Language")
    })
    .await;
    for expected in [["fwd=uri-miss", "fwd=vary-miss"], ["hit", "hit"]] {
        for (language, expected) in ["de", "en"].into_iter().zip(expected) {
            let answer = ask(&node, "GET", "/", &[("accept-language", language)]).await;
            assert_eq!(answer.text(), language);
            let said = status(&answer);
            assert!(said.starts_with(&format!("Squall; {expected};")), "{said}");
        }
    }
    assert_eq!(origin.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_response_is_validated_and_becomes_fresh() {
    let (node, origin) = front("", |seen| {
        let fresh = if seen.number == 1 { "max-age=1" } else { "max-age=60" };
        let reply = match seen.headers.get("if-none-match").map(String::as_str) {
            Some("\"v1\"") => Reply::new(304, ""),
            _ => Reply::new(200, "body"),
        };
        reply.with("cache-control", fresh).with("etag", "\"v1\"")
    })
    .await;
    assert_eq!(get(&node, "/").await.text(), "body");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let validated = get(&node, "/").await;
    assert_eq!(validated.text(), "body");
    assert!(
        status(&validated).contains("fwd=stale; fwd-status=304; stored"),
        "{}",
        status(&validated)
    );
    assert_hit(&get(&node, "/").await, "body");
    assert_eq!(origin.asked(), 2);
    let own = ask(&node, "GET", "/", &[("if-none-match", "\"v0\", \"v1\"")]).await;
    assert_eq!((own.status, own.text()), (304, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_response_answers_while_it_is_fetched_anew_and_when_that_fails() {
    let (node, origin) = front("", |seen| match seen.path.as_str() {
        "/while" => Reply::new(200, format!("{}", seen.number))
            .with("cache-control", "max-age=1, stale-while-revalidate=60"),
        _ if seen.number > 3 => Reply::new(503, "down"),
        _ => Reply::new(200, "good").with("cache-control", "max-age=1, stale-if-error=60"),
    })
    .await;
    assert_eq!(get(&node, "/while").await.text(), "1");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_hit(&get(&node, "/while").await, "1");
    wait_for("the fetch behind", || origin.asked() == 2);
    let mut now = get(&node, "/while").await;
    for _ in 0..100 {
        if now.text() == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        now = get(&node, "/while").await;
    }
    assert_hit(&now, "2");

    assert_eq!(get(&node, "/error").await.text(), "good");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let stale = get(&node, "/error").await;
    assert_eq!((stale.status, stale.text()), (200, "good"));
    assert!(status(&stale).contains("fwd=stale; fwd-status=503"), "{}", status(&stale));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_a_url_makes_what_is_stored_of_it_invalid() {
    let (node, _origin) = front("", |seen| match seen.method.as_str() {
        "POST" => Reply::new(201, "").with("location", "/list"),
        "DELETE" => Reply::new(500, ""),
        _ => numbered(seen),
    })
    .await;
    let item = get(&node, "/item").await.text().to_owned();
    let list = get(&node, "/list").await.text().to_owned();
    assert_eq!(ask(&node, "DELETE", "/item", &[]).await.status, 500);
    assert_hit(&get(&node, "/item").await, &item);
    assert_eq!(ask(&node, "POST", "/item", &[]).await.status, 201);
    assert_ne!(get(&node, "/item").await.text(), item);
    assert_ne!(get(&node, "/list").await.text(), list);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_come_from_what_is_stored() {
    let whole = "0123456789";
    let (node, origin) = front("", move |seen| {
        let reply = match seen.headers.get("range").map(String::as_str) {
            Some("bytes=0-4") => Reply::new(206, &whole[..5]).with("content-range", "bytes 0-4/10"),
            Some("bytes=5-9") => Reply::new(206, &whole[5..]).with("content-range", "bytes 5-9/10"),
            _ => Reply::new(200, whole),
        };
        reply.with("cache-control", "max-age=60").with("etag", "\"strong\"")
    })
    .await;
    let range = async |path: &str, range: &str| ask(&node, "GET", path, &[("range", range)]).await;
    get(&node, "/whole").await;
    for (wanted, expected) in [("bytes=2-4", "234"), ("bytes=8-", "89"), ("bytes=-3", "789")] {
        let part = range("/whole", wanted).await;
        assert_eq!((part.status, part.text()), (206, expected), "{wanted}");
    }
    let beyond = range("/whole", "bytes=10-").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.headers["content-range"], "bytes */10");
    let several = range("/whole", "bytes=0-1,4-5").await;
    assert_eq!(several.status, 206);
    assert!(several.text().contains("\r\n\r\n01\r\n--"), "{}", several.text());
    assert_eq!(origin.asked(), 1);

    assert_eq!(range("/parts", "bytes=0-4").await.text(), "01234");
    assert_eq!(range("/parts", "bytes=5-9").await.text(), "56789");
    wait_for("both parts", || inspect(&node, "/parts")["variants"][0]["partial"] == false);
    assert_hit(&get(&node, "/parts").await, whole);
    assert_eq!(origin.asked(), 3);
}

fn purge(node: &TestNode, arguments: &[&str]) {
    let whole = |argument: &&str| match argument.strip_prefix('/') {
        Some(path) => format!("http://front.localhost/{path}"),
        None => (*argument).to_owned(),
    };
    let arguments: Vec<String> = arguments.iter().map(whole).collect();
    let mut all = vec!["cache", "purge", "--app", "front"];
    all.extend(arguments.iter().map(String::as_str));
    node.cli_json(&all);
}

fn inspect(node: &TestNode, path: &str) -> Value {
    let url = format!("http://front.localhost{path}");
    node.cli_json(&["cache", "inspect", "--app", "front", &url])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_reach_urls_prefixes_tags_and_everything() {
    let (node, _origin) = front("key = { query_except = ['utm_*'] }", |seen| {
        numbered(seen).with("cache-tag", if seen.path.contains("x") { "x, both" } else { "both" })
    })
    .await;
    let paths = ["/a/1", "/a/x", "/b/1", "/b/x?q=1"];
    let now = async || {
        let answers = join_all(paths.iter().map(|path| get(&node, path))).await;
        answers.iter().map(|answer| answer.text().to_owned()).collect::<Vec<_>>()
    };
    let changed = |before: &[String], after: &[String]| -> Vec<usize> {
        (0..4).filter(|at| before[*at] != after[*at]).collect()
    };
    let mut before = now().await;
    assert_eq!(before, now().await);
    assert!(!get(&node, "/a/1").await.headers.contains_key("cache-tag"));
    for (arguments, expected) in [
        // Written with a parameter that the route's keys do not have.
        (&["http://front.localhost/b/x?q=1&utm_source=y"][..], &[3][..]),
        (&["/a/1"], &[0]),
        (&["--prefix", "/a/"], &[0, 1]),
        (&["--tag", "x"], &[1, 3]),
        (&["--tag", "both"], &[0, 1, 2, 3]),
        (&["--all"], &[0, 1, 2, 3]),
    ] {
        purge(&node, arguments);
        let after = now().await;
        assert_eq!(changed(&before, &after), expected, "{arguments:?}");
        before = after;
    }
    let output = node.cli(&["cache", "purge", "--app", "front", "--prefix", "nonsense"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("https://"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_purge_answers_once_more_while_it_fetches() {
    let (node, origin) = front("", |seen| numbered(seen).with("cache-tag", "all")).await;
    get(&node, "/").await;
    purge(&node, &["--tag", "all", "--soft"]);
    let found = inspect(&node, "/");
    assert!(found["answer"].as_str().unwrap().contains("was purged softly"), "{found}");
    let variant = &found["variants"][0];
    let facts = (&variant["soft_purged"], &variant["must_validate"]);
    assert_eq!(facts, (&true.into(), &false.into()), "{found}");
    let stale = get(&node, "/").await;
    assert_hit(&stale, "answer 1");
    assert!(status(&stale).ends_with("ttl=-1"), "{}", status(&stale));
    wait_for("the fetch behind", || origin.asked() == 2);
    wait_for("the new response", || {
        inspect(&node, "/")["answer"].as_str().unwrap().starts_with("a hit")
    });
    assert_hit(&get(&node, "/").await, "answer 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_remembers_over_a_restart_and_an_upgrade() {
    let (mut node, origin) = front("", numbered).await;
    let kept = get(&node, "/kept").await.text().to_owned();
    let purged = get(&node, "/purged").await.text().to_owned();
    purge(&node, &["/purged"]);
    node.stop();
    node.restart();
    assert_hit(&get(&node, "/kept").await, &kept);
    let now = get(&node, "/purged").await.text().to_owned();
    assert_ne!(now, purged);

    node.cli_json(&["upgrade"]);
    // The server before lets go of the disk when it drains.
    let mut again = get(&node, "/kept").await;
    for _ in 0..100 {
        if again.text() == kept {
            break;
        }
        purge(&node, &["/none"]);
        again = get(&node, "/kept").await;
    }
    assert_eq!(origin.last().method, "GET");
    assert_eq!(get(&node, "/purged").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_and_assets_are_cached_by_what_they_say() {
    let node = TestNode::start();
    let source = "let calls = 0;
export default { fetch(request) {
  const { pathname } = new URL(request.url);
  const headers = { 'cache-control': pathname === '/fresh' ? 's-maxage=60' : 'no-store' };
  return new Response(`${pathname} ${Math.random()}`, { headers });
} };";
    let app = App::typescript("front", source).and("[gateway.policy.cache]\n");
    node.deploy(&app);
    let first = get(&node, "/fresh").await.text().to_owned();
    assert_hit(&get(&node, "/fresh").await, &first);
    assert_ne!(get(&node, "/other").await.text(), get(&node, "/other").await.text());
    // A deployment never answers with what the one before said.
    node.deploy(
        &App::typescript("front", &source.replace("${pathname}", "new ${pathname}"))
            .and("[gateway.policy.cache]\n"),
    );
    assert!(get(&node, "/fresh").await.text().starts_with("new "));
    wait_for("the records", || node.usage("front")["total"]["cache_hits"] == 1);
    let total: Value = node.usage("front")["total"].clone();
    assert_eq!(total["invocations"], 4, "{total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_rules_and_requests_are_told_apart() {
    let (node, _origin) = front("", numbered).await;
    let only = ask(
        &node,
        "GET",
        "/x",
        &[("cache-control", "only-if-cached"), ("accept", "application/json")],
    )
    .await;
    assert_eq!((only.status, only.code()), (504, "SQ0510".to_owned()));
    let folder = node.dir.path().join("apps/front");
    std::fs::write(
        folder.join("squall.toml"),
        "name = \"front\"\n[gateway.policy.cache]\nttl = 5\n[[routes]]\nresponse = { status = 204 }\n",
    )
    .unwrap();
    let output = node.cli(&["gateway", "check", folder.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("ttl"), "{text}");
}
