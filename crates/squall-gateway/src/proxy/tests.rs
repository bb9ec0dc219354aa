//! Pools over real sockets: origins that do as they are told, and what is made of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use squall_types::dial::{Dial, Dialed, Endpoint, OpenFuture, ResolveFuture};
use squall_types::gateway::Upstream;
use squall_types::log::UpstreamCall;
use squall_types::outbound::{OutboundError, OutboundErrorKind};
use squall_types::trace::TraceContext;
use squall_types::{AppName, Body, BodyError, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Resolves names as the test says, and connects to what it is told.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, Vec<IpAddr>>>);

impl Names {
    fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.0.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }
}

impl Dial for Names {
    fn resolve(&self, endpoint: &Endpoint) -> ResolveFuture {
        let (host, port) = (&endpoint.host, endpoint.port);
        if host == "slow.example" {
            return Box::pin(std::future::pending());
        }
        let known = match host.parse() {
            Ok(address) => Some(vec![address]),
            Err(_) => self.0.lock().unwrap().get(host).cloned(),
        };
        let missing = || OutboundError::new(OutboundErrorKind::DnsFailed, "no such name");
        let found = known.filter(|known| !known.is_empty()).ok_or_else(missing);
        Box::pin(async move {
            found.map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }

    fn open(&self, _: &Endpoint, address: SocketAddr) -> OpenFuture {
        Box::pin(async move {
            let opened = TcpStream::connect(address).await;
            opened.map(Dialed::Tcp).map_err(|error| {
                OutboundError::new(OutboundErrorKind::ConnectionRefused, error.to_string())
            })
        })
    }
}

/// What an origin does with the next request that it has read.
#[derive(Clone)]
enum Act {
    /// A response with this status, and its name as the body.
    Answer(u16),
    /// These bytes, and the connection stays open.
    Say(&'static str),
    /// These bytes, then the end.
    SayAndClose(&'static str),
    Silence,
}

/// A server on a port of its own that records what it is asked.
#[derive(Clone)]
struct Origin {
    address: SocketAddr,
    /// What to do next; the last one stays.
    acts: Arc<Mutex<Vec<Act>>>,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
}

impl Origin {
    async fn start(acts: &[Act]) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), 0, acts).await
    }

    async fn start_on(ip: IpAddr, port: u16, acts: &[Act]) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            acts: Arc::new(Mutex::new(acts.to_vec())),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let serving = origin.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        origin
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut buffer).await {
            self.seen.lock().unwrap().push(request);
            let act = {
                let mut acts = self.acts.lock().unwrap();
                if acts.len() > 1 { acts.remove(0) } else { acts[0].clone() }
            };
            let (text, stays) = match act {
                Act::Answer(status) => {
                    let name = self.address.to_string();
                    let length = name.len();
                    (format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{name}"), true)
                }
                Act::Say(text) => (text.to_owned(), true),
                Act::SayAndClose(text) => (text.to_owned(), false),
                Act::Silence => std::future::pending().await,
            };
            if stream.write_all(text.as_bytes()).await.is_err() || !stays {
                return;
            }
        }
    }

    fn acts(&self, acts: &[Act]) {
        *self.acts.lock().unwrap() = acts.to_vec();
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A head, and the body that it announces.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
            let whole = match length {
                Some(length) => body.len() >= length.parse::<usize>().unwrap(),
                None if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
                None => true,
            };
            if whole {
                buffer.clear();
                return Some(text);
            }
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

struct Bench {
    upstreams: Upstreams,
    names: Arc<Names>,
}

fn settings(targets: &[String], more: &str) -> Upstream {
    let targets = serde_json::to_string(targets).unwrap();
    serde_json::from_str(&format!("{{\"targets\": {targets} {more}}}")).unwrap()
}

impl Bench {
    fn new() -> Self {
        let names = Arc::new(Names::default());
        Self {
            upstreams: Upstreams::new(names.clone(), crate::inert::inert_contracts().logs),
            names,
        }
    }

    fn pool(&self, targets: &[String], more: &str) -> Arc<UpstreamPool> {
        let app = AppName::parse("app").unwrap();
        self.upstreams.compile(&app, "users", &settings(targets, more))
    }
}

async fn send(
    pool: &Arc<UpstreamPool>,
    request: Request<Body>,
) -> Result<Response<Body>, ErrorCode> {
    let (head, body) = request.into_parts();
    let mut call = UpstreamCall::to(pool.name.own());
    let mut context = Context {
        forwarded: Forwarded {
            client: "192.0.2.9".parse().unwrap(),
            https: false,
            authority: "shop.example",
            trace: TraceContext::from_random([1; 24]),
            via: None,
        },
        path_and_query: head.uri.path_and_query().unwrap(),
        host: None,
        response_timeout: None,
        upgrade: None,
        call: &mut call,
    };
    let body = ReplayBody::new(body, None);
    let sent = UpstreamPool::forward(&pool.clone().into(), &head, &body, &mut context).await;
    sent.map_err(|rejection| rejection.code)
}

/// Status and body, or the code.
async fn ask(pool: &Arc<UpstreamPool>, method: &str) -> Result<(u16, String), ErrorCode> {
    let request = Request::builder().method(method).uri("/a?b").body(Body::empty()).unwrap();
    let response = send(pool, request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| error.code)?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An address at which nothing listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn connections_are_kept_and_requests_say_the_truth() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(200)]).await;
    let pool = bench.pool(&[format!("{}/base/", origin.url())], "");
    for _ in 0..5 {
        let answer = ask(&pool, "GET").await.unwrap();
        assert_eq!(answer, (200, origin.address.to_string()));
    }
    assert_eq!(origin.connections.load(Ordering::Relaxed), 1);
    let seen = origin.seen.lock().unwrap()[0].clone();
    assert!(seen.starts_with("GET /base/a?b HTTP/1.1\r\n"), "{seen}");
    for line in [
        format!("host: {}", origin.address),
        "x-forwarded-for: 192.0.2.9".to_owned(),
        "x-forwarded-host: shop.example".to_owned(),
        "forwarded: for=192.0.2.9;host=shop.example;proto=http".to_owned(),
    ] {
        assert!(seen.split("\r\n").any(|one| one == line), "{line} is not in {seen}");
    }
    let mut metrics = String::new();
    bench.upstreams.write_metrics(&mut metrics);
    let target = format!("app=\"app\",upstream=\"users\",target=\"{}\"", origin.address);
    for row in [
        format!("squall_upstream_requests_total{{{target},status=\"2xx\"}} 5"),
        format!("squall_upstream_reused_total{{{target}}} 4"),
        format!("squall_upstream_in_flight{{{target}}} 0"),
        format!("squall_upstream_up{{{target}}} 1"),
    ] {
        assert!(metrics.contains(&row), "{row} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice_and_a_get_is() {
    let bench = Bench::new();
    // It closes the connection on which it has answered once, when the next request comes.
    let closing = [Act::Answer(200), Act::SayAndClose("")];
    for (method, expected) in [("GET", Ok(())), ("POST", Err(ErrorCode::UpstreamBroke))] {
        let origin = Origin::start(&closing).await;
        let pool = bench.pool(&[origin.url()], "");
        ask(&pool, "GET").await.unwrap();
        origin.acts(&[Act::SayAndClose(""), Act::Answer(200)]);
        assert_eq!(ask(&pool, method).await.map(|_| ()), expected, "{method}");
        assert_eq!(origin.asked(), if method == "GET" { 3 } else { 2 });
    }
    // On a connection of its own it is no different.
    let origin = Origin::start(&[Act::SayAndClose("")]).await;
    let pool = bench.pool(&[origin.url()], ", \"retry\": {\"attempts\": 3}");
    assert_eq!(ask(&pool, "POST").await, Err(ErrorCode::UpstreamBroke));
    assert_eq!(origin.asked(), 1);
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::UpstreamBroke));
    assert_eq!(origin.asked(), 5);
}

#[tokio::test]
async fn what_was_not_sent_goes_to_another_target_whatever_it_is() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(200)]).await;
    let pool = bench.pool(&[closed().await, origin.url()], "");
    for _ in 0..6 {
        assert_eq!(ask(&pool, "POST").await.unwrap().0, 200);
    }
    assert_eq!(origin.asked(), 6);
    let alone = bench.pool(&[closed().await], "");
    assert_eq!(ask(&alone, "GET").await, Err(ErrorCode::UpstreamConnectFailed));
}

#[tokio::test]
async fn statuses_are_tried_again_only_where_that_is_safe() {
    let bench = Bench::new();
    let bad = Origin::start(&[Act::Answer(503)]).await;
    let good = Origin::start(&[Act::Answer(200)]).await;
    let off = ", \"outliers\": {\"consecutive_failures\": 0}";
    let pool = bench.pool(&[bad.url(), good.url()], off);
    for _ in 0..10 {
        assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
    }
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(ask(&pool, "POST").await.unwrap().0);
    }
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");

    // The body of a PUT is sent again as it was.
    let bad = Origin::start(&[Act::Answer(502), Act::Answer(200)]).await;
    let pool = bench.pool(&[bad.url()], off);
    let frames = ["one ", "two"].map(|text| Ok::<_, BodyError>(Frame::data(Bytes::from(text))));
    let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
    let response = send(&pool, Request::put("/").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = bad.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|one| one.ends_with("4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")), "{seen:?}");

    // One that asks to be left alone is, when there is nobody else.
    let busy =
        Origin::start(&[Act::Say("HTTP/1.1 503 X\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n")])
            .await;
    let pool = bench.pool(&[busy.url()], off);
    let response = send(&pool, Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(busy.asked(), 1);
}

#[tokio::test]
async fn retries_have_a_budget() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(503)]).await;
    let more = ", \"retry\": {\"budget_percent\": 10, \"backoff_ms\": 0}, \"outliers\": {\"consecutive_failures\": 0}";
    let pool = bench.pool(&[origin.url()], more);
    for _ in 0..50 {
        assert_eq!(ask(&pool, "GET").await.unwrap().0, 503);
    }
    // Ten are always allowed; ten percent of fifty are fewer.
    assert_eq!(origin.asked(), 60);
}

#[tokio::test]
async fn faults_have_their_codes() {
    let bench = Bench::new();
    let times =
        ", \"retry\": {\"attempts\": 0}, \"timeouts\": {\"first_byte_ms\": 50, \"idle_ms\": 50}";
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for (act, expected) in [
        (Act::Silence, ErrorCode::UpstreamTimeout),
        (Act::SayAndClose("HTTP/1.1 200"), ErrorCode::UpstreamBroke),
        (Act::SayAndClose(long), ErrorCode::UpstreamBroke),
        (Act::Say(long), ErrorCode::UpstreamBroke),
        (Act::Say("HTTP/1.1 200 OK\ncontent-length: 0\n\n"), ErrorCode::UpstreamProtocol),
        (Act::Say("220 smtp ready\r\n"), ErrorCode::UpstreamProtocol),
        (Act::Say("HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n"), ErrorCode::UpstreamProtocol),
    ] {
        let origin = Origin::start(&[act]).await;
        let pool = bench.pool(&[origin.url()], times);
        assert_eq!(ask(&pool, "GET").await, Err(expected), "{:?}", origin.asked());
        assert_eq!(pool.targets()[0].in_flight(), 0);
        assert_eq!(pool.targets()[0].waiting(), 0);
    }
    let origin = Origin::start(&[Act::Silence]).await;
    let pool = bench.pool(&[origin.url()], ", \"timeouts\": {\"total_ms\": 50}");
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::UpstreamTimeout));
}

#[tokio::test]
async fn bytes_behind_a_response_end_its_connection() {
    let bench = Bench::new();
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let origin = Origin::start(&[Act::Say(smuggled), Act::Answer(200)]).await;
    let pool = bench.pool(&[origin.url()], "");
    assert_eq!(ask(&pool, "GET").await.unwrap().1, "ok");
    assert_eq!(ask(&pool, "GET").await.unwrap().1, origin.address.to_string());
    assert_eq!(origin.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_failing_target_is_ejected_and_comes_back() {
    let bench = Bench::new();
    let flapping = Origin::start(&[Act::Answer(500)]).await;
    let good = Origin::start(&[Act::Answer(200)]).await;
    let more = ", \"outliers\": {\"consecutive_failures\": 3, \"ejection_ms\": 1500}";
    let pool = bench.pool(&[flapping.url(), good.url()], more);
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(ask(&pool, "POST").await.unwrap().0 == 500);
    }
    assert_eq!(failed, 3);
    flapping.acts(&[Act::Answer(200)]);
    let before = flapping.asked();
    let began = Instant::now();
    while flapping.asked() == before {
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn checks_take_a_target_out_and_bring_it_back() {
    let bench = Bench::new();
    let sick = Origin::start(&[Act::Answer(200)]).await;
    let more = ", \"health\": {\"path\": \"/healthz\", \"interval_ms\": 20, \"healthy_after\": 2, \"unhealthy_after\": 2}";
    let pool = bench.pool(&[sick.url()], more);
    assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
    sick.acts(&[Act::Answer(500)]);
    until("the target to fail", || !pool.targets()[0].health.passes_checks()).await;
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::UpstreamUnavailable));
    sick.acts(&[Act::Answer(204)]);
    until("the target to recover", || pool.targets()[0].health.passes_checks()).await;
    assert_eq!(ask(&pool, "GET").await.unwrap().0, 204);
    assert!(sick.seen.lock().unwrap().iter().any(|one| one.starts_with("GET /healthz HTTP/1.1")));
}

#[tokio::test]
async fn what_gets_no_traffic_is_not_checked() {
    let bench = Bench::new();
    let sick = Origin::start(&[Act::Answer(500)]).await;
    let check = |interval_ms: u32| {
        format!(
            ", \"health\": {{\"path\": \"/healthz\", \"interval_ms\": {interval_ms}, \"unhealthy_after\": 1}}"
        )
    };
    let before = bench.pool(&[sick.url()], &check(20));
    assert_eq!(ask(&before, "GET").await.unwrap().0, 500);
    until("the target to fail", || !before.targets()[0].health.passes_checks()).await;
    let up = |is: u8| {
        format!(
            "squall_upstream_up{{app=\"app\",upstream=\"users\",target=\"{}\"}} {is}\n",
            sick.address
        )
    };
    let metrics = || {
        let mut metrics = String::new();
        bench.upstreams.write_metrics(&mut metrics);
        metrics
    };
    assert!(metrics().contains(&up(0)));

    // Another configuration gets the traffic now, and finds the target well.
    sick.acts(&[Act::Answer(200)]);
    let after = bench.pool(&[sick.url()], &check(21));
    assert_eq!(ask(&after, "GET").await.unwrap().0, 200);
    bench.upstreams.note_current(|pool| std::ptr::eq(pool, &*after));
    assert!(metrics().contains(&up(1)), "{}", metrics());
    until("the earlier one to be asked again", || before.targets()[0].health.passes_checks()).await;
    assert_eq!(ask(&before, "GET").await.unwrap().0, 200);
    bench.upstreams.note_current(|_| false);
    let rests = |pool: &Arc<UpstreamPool>| pool.targets()[0].health.passes_checks();
    until("both to rest", || rests(&before) && rests(&after)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let asked = sick.asked();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(sick.asked(), asked);
    assert!(!metrics().contains("squall_upstream_up{"), "{}", metrics());

    sick.acts(&[Act::Answer(500)]);
    bench.upstreams.note_current(|_| true);
    until("checks to begin again", || !rests(&before) && !rests(&after)).await;
}

#[tokio::test]
async fn a_name_that_takes_long_holds_up_no_other() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(200)]).await;
    let pool = bench.pool(&["http://slow.example".to_owned(), origin.url()], "");
    assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
    assert_eq!(pool.targets().len(), 1);
}

/// Whoever is told a length waits for nothing behind it.
#[tokio::test]
async fn trailers_of_a_short_response_are_not_lost() {
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n";
    let origin = Origin::start(&[Act::Say(text)]).await;
    let pool = Bench::new().pool(&[origin.url()], "");
    for _ in 0..2 {
        let response = send(&pool, Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        let body = response.into_body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "hi");
    }
    assert_eq!(origin.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn names_are_followed_and_their_last_addresses_kept() {
    let bench = Bench::new();
    let first = Origin::start(&[Act::Answer(200)]).await;
    let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let second = Origin::start_on(other, first.address.port(), &[Act::Answer(200)]).await;
    let url = format!("http://users.test:{}", first.address.port());
    let pool = bench.pool(&[url], ", \"dns_refresh_ms\": 100");
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::UpstreamUnresolved));

    bench.names.set("users.test", &[first.address.ip()]);
    until("the name to resolve", || !pool.targets().is_empty()).await;
    assert_eq!(ask(&pool, "GET").await.unwrap().1, first.address.to_string());
    assert!(first.seen.lock().unwrap()[0].contains("\r\nhost: users.test:"));

    let kept = pool.targets()[0].clone();
    bench.names.set("users.test", &[first.address.ip(), other]);
    until("a second address", || pool.targets().len() == 2).await;
    assert!(Arc::ptr_eq(&kept, &pool.targets()[0]), "what stays keeps its connections");
    for _ in 0..4 {
        ask(&pool, "GET").await.unwrap();
    }
    assert!(second.asked() >= 2);

    // The name is gone: what it meant last is still used.
    bench.names.set("users.test", &[]);
    until("lookups that fail", || pool.counters.resolve_failures.load(Ordering::Relaxed) > 2).await;
    assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
}

#[tokio::test]
async fn an_open_circuit_refuses_and_closes_again() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(500)]).await;
    let more = ", \"circuit_breaker\": {\"min_requests\": 4, \"open_ms\": 100}, \"outliers\": {\"consecutive_failures\": 0}";
    let pool = bench.pool(&[origin.url()], more);
    for _ in 0..4 {
        assert_eq!(ask(&pool, "GET").await.unwrap().0, 500);
    }
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::CircuitOpen));
    assert_eq!(origin.asked(), 4);
    origin.acts(&[Act::Answer(200)]);
    tokio::time::sleep(Duration::from_millis(150)).await;
    for _ in 0..3 {
        assert_eq!(ask(&pool, "GET").await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn requests_beyond_the_most_are_refused_until_a_body_has_ended() {
    let bench = Bench::new();
    let streaming = "HTTP/1.1 200 OK\r\n\r\nfirst";
    let origin = Origin::start(&[Act::Say(streaming)]).await;
    let pool = bench.pool(&[origin.url()], ", \"circuit_breaker\": {\"max_requests\": 1}");
    let request = || Request::get("/").body(Body::empty()).unwrap();
    let held = send(&pool, request()).await.unwrap();
    assert_eq!(send(&pool, request()).await.unwrap_err(), ErrorCode::UpstreamOverloaded);
    drop(held);
    send(&pool, request()).await.unwrap();
}

#[tokio::test]
async fn pools_are_found_again_and_end_when_nobody_names_them() {
    let bench = Bench::new();
    let origin = Origin::start(&[Act::Answer(200)]).await;
    let pool = bench.pool(&[origin.url()], "");
    ask(&pool, "GET").await.unwrap();
    for _ in 0..1_000 {
        assert!(Arc::ptr_eq(&pool, &bench.pool(&[origin.url()], "")));
    }
    let changed = bench.pool(&[origin.url()], ", \"keep_alive\": 3");
    assert!(!Arc::ptr_eq(&pool, &changed));
    assert_eq!(bench.upstreams.live().len(), 2);
    let gone = Arc::downgrade(&changed);
    drop(changed);
    until("its tasks to let go", || gone.strong_count() == 0).await;
    ask(&pool, "GET").await.unwrap();
    assert_eq!(origin.connections.load(Ordering::Relaxed), 1);
}

/// Two revisions that share the traffic may differ in nothing but a setting.
#[tokio::test]
async fn an_upstream_of_two_settings_is_counted_once() {
    let origin = Origin::start(&[Act::Answer(200)]).await;
    let bench = Bench::new();
    let pools = ["", ", \"keep_alive\": 3"].map(|more| bench.pool(&[origin.url()], more));
    for (pool, requests) in pools.iter().zip([2, 3]) {
        for _ in 0..requests {
            ask(pool, "GET").await.unwrap();
        }
    }
    let mut metrics = String::new();
    bench.upstreams.write_metrics(&mut metrics);
    let label = format!("app=\"app\",upstream=\"users\",target=\"{}\"", origin.address);
    for line in
        ["requests_total{LABEL,status=\"2xx\"} 5", "up{LABEL} 1", "connections_total{LABEL} 2"]
    {
        let line = format!("squall_upstream_{}\n", line.replace("LABEL", &label));
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let series = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<_> = series.map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a series is there once");
}

/// Bodies whose pieces come when the test says so.
fn fed() -> (tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (sender, frames) = tokio::sync::mpsc::unbounded_channel();
    let body = futures_util::stream::unfold(frames, |mut frames| async {
        frames.recv().await.map(|frame| (frame, frames))
    });
    (sender, Body::stream(StreamBody::new(body)))
}

#[tokio::test]
async fn whoever_gives_up_a_silent_client_is_not_to_blame() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        for patience_ms in [1_500, 0] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1 << 10]).await;
            stream.write_all(head).await.unwrap();
            tokio::time::sleep(Duration::from_millis(patience_ms)).await;
        }
    });
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], "");
    for broken in [0, 1] {
        let (feed, body) = fed();
        feed.send(Ok(Frame::data(Bytes::from_static(b"begun")))).unwrap();
        let response = send(&pool, Request::post("/").body(body).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap_err();
        assert_eq!(pool.targets()[0].counters.broken.load(Ordering::Relaxed), broken);
        drop(feed);
    }
}

#[tokio::test]
async fn the_time_of_all_tries_is_that_of_looking_a_name_up_too() {
    let bench = Bench::new();
    let times = "{\"total_ms\": 50, \"connect_ms\": 3600000}";
    let pool = bench.pool(&["http://slow.example".to_owned()], &format!(", \"timeouts\": {times}"));
    let asked = tokio::time::timeout(Duration::from_secs(20), ask(&pool, "GET")).await;
    assert_eq!(
        asked.expect("long before connecting has to end"),
        Err(ErrorCode::UpstreamUnresolved)
    );
}

#[tokio::test]
async fn a_stream_comes_through_piece_by_piece() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, mut gone) = tokio::sync::mpsc::channel::<&'static [u8]>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = Vec::new();
        read_request(&mut stream, &mut buffer).await;
        while let Some(piece) = gone.recv().await {
            stream.write_all(piece).await.unwrap();
        }
    });
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], "");
    go.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await
    .unwrap();
    let response = send(&pool, Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    for event in [&b"9\r\ndata: 1\n\n\r\n"[..], b"9\r\ndata: 2\n\n\r\n"] {
        go.send(event).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), &event[3..12]);
    }
    go.send(b"0\r\n\r\n").await.unwrap();
    assert!(body.frame().await.is_none());
    until("the connection to come back", || pool.targets()[0].waiting() == 1).await;
}

#[tokio::test]
async fn the_last_byte_of_a_length_gives_the_connection_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = Vec::new();
        while read_request(&mut stream, &mut buffer).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.write_all(b"body").await.unwrap();
        }
    });
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], "");
    for _ in 0..3 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let mut body = send(&pool, request).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "body");
        // As hyper does, without asking for what comes next.
        assert!(http_body::Body::is_end_stream(&body));
        drop(body);
        assert_eq!(pool.targets()[0].waiting(), 1);
    }
    assert_eq!(pool.targets()[0].counters.connections.load(Ordering::Relaxed), 1);
}

mod http2;
