//! Bodies through the gateway as clients see them: CORS, compression, and what the access
//! log, the metrics and `gateway top` say about it.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use crate::harness::{Answer, App, TestNode, wait_for};

const SOURCE: &str = r#"
const rows = Array.from({ length: 400 }, (_, id) => ({ id, name: `user-${id}`, active: id % 3 === 0 }));

export default {
  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/rows":
        return Response.json(rows, { headers: { etag: '"v1"' } });
      case "/stream":
        return new Response(new ReadableStream({
          async start(controller) {
            controller.enqueue(new TextEncoder().encode("the first line\n"));
            await new Promise((resolve) => setTimeout(resolve, 1500));
            controller.enqueue(new TextEncoder().encode("the second line\n"));
            controller.close();
          },
        }), { headers: { "content-type": "text/plain" } });
      case "/hop":
        console.log("on my way out");
        return fetch(url.searchParams.get("url")!);
      default:
        return new Response("hello\n");
    }
  },
};
"#;

const GATEWAY: &str = r#"
[gateway.policy]
cors = { origins = ["https://app.example.com", "https://*.example.org"], methods = ["PUT"], headers = ["x-token"], credentials = true, expose = ["x-request-id"] }
compression = { min_bytes = 200 }

[identity.partners.api_key]

[[routes]]
name = "private"
paths = ["/private"]
function = "api"
policy = { auth = ["partners"] }
[[routes]]
name = "quiet"
paths = ["/quiet"]
function = "api"
policy = { access_log = { sample = 0 } }
"#;

fn app() -> App {
    App::typescript("bodies", SOURCE).and(GATEWAY)
}

fn decode(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "zstd" => out = zstd::decode_all(bytes).unwrap(),
        "br" => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap()),
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        other => panic!("{other}"),
    }
    out
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_are_compressed_and_come_back_whole() {
    let node = TestNode::start();
    node.deploy(&app().file("public/a.txt", &"a line of a file\n".repeat(5_000)).and(
        "[assets]\ndir = \"public\"\n[[routes]]\nname = \"files\"\npaths = [\"/a.txt\"]\nassets = true\n",
    ));
    let plain = node.get("bodies", "/rows").await;
    assert_eq!(header(&plain, "etag"), "\"v1\"");
    let vary: Vec<_> = plain.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["origin", "accept-encoding"]);
    for coding in ["zstd", "br", "gzip"] {
        let accept = format!("{coding};q=0.9, deflate;q=0.1");
        let headers = [("accept-encoding", accept.as_str())];
        let answer = node.request("GET", "bodies", "/rows", &headers, "").await;
        assert_eq!(header(&answer, "content-encoding"), coding);
        assert_eq!(header(&answer, "etag"), "W/\"v1\"");
        assert!(answer.body.len() < plain.body.len() / 3, "{coding}: {}", answer.body.len());
        assert_eq!(decode(coding, &answer.body), plain.body, "{coding}");
        // A file, which is read and compressed piece by piece.
        let file = node.request("GET", "bodies", "/a.txt", &headers, "").await;
        assert_eq!(header(&file, "content-encoding"), coding);
        assert_eq!(decode(coding, &file.body).len(), 85_000);
    }
    let part = [("accept-encoding", "gzip"), ("range", "bytes=0-5")];
    let part = node.request("GET", "bodies", "/a.txt", &part, "").await;
    assert_eq!((part.status, part.text()), (206, "a line"));
    assert_eq!(header(&part, "content-encoding"), "");
    let short = node.request("GET", "bodies", "/", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(short.text(), "hello\n");

    let url = format!("http://{}/rows", node.gateway());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--compressed", "--max-time", "60"]);
    let output = curl.args(["-H", "Host: bodies.localhost", &url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, plain.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_stream_still_streams() {
    let node = TestNode::start();
    node.deploy(&app());
    for coding in ["zstd", "br", "gzip"] {
        let stream = tokio::net::TcpStream::connect(node.gateway()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::get("/stream")
            .header("host", "bodies.localhost")
            .header("accept-encoding", coding)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], coding);
        let mut body = response.into_body();
        let mut received = Vec::new();
        let mut frames = 0;
        let started = std::time::Instant::now();
        let mut first_after = None;
        while let Some(frame) = body.frame().await {
            received.extend_from_slice(&frame.unwrap().into_data().unwrap());
            frames += 1;
            first_after.get_or_insert_with(|| started.elapsed());
        }
        let all_after = started.elapsed();
        assert_eq!(decode(coding, &received), b"the first line\nthe second line\n");
        // The function waits for one and a half seconds between its lines.
        let between = all_after - first_after.unwrap();
        assert!(frames >= 2 && between > Duration::from_millis(500), "{coding}: {between:?}");
        driver.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_allowed_origins_may_ask_and_read() {
    let node = TestNode::start();
    node.deploy(&app());
    let preflight = async |origin: &str, method: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-token"),
        ];
        node.request("OPTIONS", "bodies", "/rows", &headers, "").await
    };
    let allowed = preflight("https://a.b.example.org", "PUT").await;
    assert_eq!(allowed.status, 204);
    assert_eq!(header(&allowed, "access-control-allow-origin"), "https://a.b.example.org");
    assert_eq!(header(&allowed, "access-control-allow-credentials"), "true");
    assert_eq!(header(&allowed, "access-control-allow-headers"), "x-token");
    assert_eq!(header(&allowed, "access-control-max-age"), "600");
    for (origin, method) in
        [("https://example.org", "PUT"), ("null", "PUT"), ("https://app.example.com", "DELETE")]
    {
        let refused = preflight(origin, method).await;
        assert_eq!(refused.status, 204);
        assert_eq!(header(&refused, "access-control-allow-origin"), "", "{origin} {method}");
    }
    // No function has run so far.
    assert!(node.usage("bodies")["rows"].as_array().unwrap().is_empty());

    let page = [("origin", "https://app.example.com")];
    let answer = node.request("GET", "bodies", "/rows", &page, "").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), page[0].1);
    assert_eq!(header(&answer, "access-control-expose-headers"), "x-request-id");
    let refused = node.request("GET", "bodies", "/private", &page, "").await;
    assert_eq!(refused.status, 401);
    assert_eq!(header(&refused, "access-control-allow-origin"), page[0].1);
}

/// An origin that keeps the heads that it is sent.
fn recording_origin() -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut piece = [0; 2048];
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => head.extend_from_slice(&piece[..bytes]),
                }
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfound";
            let _ = stream.write_all(answer.as_bytes());
            let _ = heads.send(String::from_utf8_lossy(&head).to_lowercase());
        }
    });
    (port, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_joins_what_everybody_on_the_way_says() {
    let node = TestNode::start();
    let (port, heads) = recording_origin();
    let reach = format!("allowed_hosts = [\"127.0.0.1:{port}\"]\nallow_private = true");
    let upstream = format!(
        "[upstreams.origin]\ntargets = [\"http://127.0.0.1:{port}\"]\nallow_private = true\n[[routes]]\nname = \"proxied\"\npaths = [\"/proxied\"]\nupstream = \"origin\"\n"
    );
    node.deploy(&app().with(&reach).and(&upstream));
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    let headers = [("traceparent", parent.as_str())];

    let hop = format!("/hop?url=http://127.0.0.1:{port}/");
    let answer = node.request("GET", "bodies", &hop, &headers, "").await;
    assert_eq!((answer.text(), header(&answer, "x-request-id")), ("found", id));
    let answer = node.request("POST", "bodies", "/proxied", &headers, "a body").await;
    assert_eq!((answer.text(), header(&answer, "x-request-id")), ("found", id));
    for _ in 0..2 {
        let head = heads.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(head.contains(&format!("traceparent: 00-{id}-")), "{head}");
    }
    let mut entries: Vec<serde_json::Value> = Vec::new();
    wait_for("both requests and the line to be logged", || {
        let output = node.cli(&["logs", "--trace", id, "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        entries = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.len() == 3
    });
    let entry = |wanted: &str| -> &serde_json::Value {
        let found =
            entries.iter().find(|entry| entry["message"].as_str().unwrap().contains(wanted));
        found.unwrap_or_else(|| panic!("{wanted}: {entries:?}"))
    };
    assert_eq!(entry("on my way out")["source"], "stdout");
    let function = entry("GET /hop");
    assert_eq!(
        (&function["route"], &function["version"]),
        (&"function-api".into(), &"HTTP/1.1".into())
    );
    let proxied = entry("POST /proxied");
    assert_eq!((&proxied["route"], &proxied["upstream"]), (&"proxied".into(), &"origin".into()));
    assert_eq!(proxied["upstream_address"], format!("127.0.0.1:{port}"));
    assert_eq!((&proxied["upstream_tries"], &proxied["bytes_in"]), (&1.into(), &6.into()));
    assert!(proxied["upstream_us"].as_u64().unwrap() <= proxied["duration_us"].as_u64().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_and_metrics_show_what_routes_do() {
    let node = TestNode::start();
    node.deploy(&app());
    let top = std::thread::scope(|scope| {
        let top = scope.spawn(|| {
            node.cli_json(&["gateway", "top", "--once", "--app", "bodies", "--interval", "3"])
        });
        let gateway = node.gateway();
        let ask = |path: &str| {
            let mut stream = std::net::TcpStream::connect(gateway).unwrap();
            let head = "Host: bodies.localhost\r\nConnection: close";
            write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        };
        while !top.is_finished() {
            ["/", "/private", "/quiet"].into_iter().for_each(ask);
        }
        top.join().unwrap()
    });
    let routes = top["routes"].as_array().unwrap();
    let route = |name: &str| routes.iter().find(|route| route["route"] == name).unwrap();
    let served = route("function-api");
    assert!(served["requests_per_second"].as_f64().unwrap() > 0.3, "{served}");
    assert!(served["p99_us"].as_u64() >= served["p50_us"].as_u64(), "{served}");
    let refused = route("private");
    assert_eq!(refused["client_error_ratio"], 1.0);
    assert!(refused["rejections"]["SQ0500"].as_u64().unwrap() > 0, "{refused}");

    let metrics = Command::new("curl")
        .args(["--silent", &format!("http://{}/metrics", node.admin())])
        .output()
        .unwrap();
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    let line = "squall_route_requests_total{app=\"bodies\",route=\"private\",status=\"4xx\"}";
    assert!(metrics.contains(line), "{metrics}");
    // What is not sampled is counted and not logged.
    assert!(metrics.contains("route=\"quiet\",status=\"2xx\""), "{metrics}");
    node.expect_log_text("bodies", "GET /private 401");
    assert!(!node.logs("bodies").iter().any(|entry| entry["path"] == "/quiet"));

    let table = node.cli(&["gateway", "top", "--once", "--interval", "0.2"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("APP     ROUTE"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
}
