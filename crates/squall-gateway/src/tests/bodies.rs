//! CORS, compression, counters and the access log over real sockets.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_types::ErrorCode;
use squall_types::clients::{ApiClient, ApiKey, ApiKeyText, Clients};
use squall_types::gateway::{ReportRoutes as _, RouteReport};
use squall_types::state::{AppState, ApplySnapshot as _, BlobId, Snapshot};

use super::{Door, app, status};
use crate::{DoorLimits, Options};

const ROUTES: &str = r#"
[gateway.policy]
cors = { origins = ["https://app.example.com"], methods = ["PUT"], headers = ["x-token"], expose = ["x-request-id"] }
compression = { min_bytes = 16 }
[[routes]]
name = "put"
paths = ["/orders"]
methods = ["PUT"]
function = "api"
response_headers = { set = { content-type = "text/plain", access-control-allow-origin = "*" } }
policy = { limits = { body_bytes = 5 } }
[[routes]]
name = "own"
paths = ["/own"]
response = { status = 200, body = "a body of more than sixteen bytes", headers = { access-control-allow-origin = "https://own.example" } }
policy = { cors = { origins = [] }, compression = { algorithms = [] } }
[[routes]]
name = "sampled"
paths = ["/sampled/*"]
function = "api"
policy = { access_log = { sample = 0.5 } }
[[routes]]
name = "silent"
paths = ["/fails"]
function = "api"
policy = { access_log = { sample = 0 } }
"#;

fn door() -> Door {
    Door::of("one", ROUTES)
}

fn send(door: &Door, method: &str, path: &str, headers: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n");
    door.raw(format!("{head}{headers}\r\n").as_bytes())
}

const ORIGIN: &str = "Origin: https://app.example.com\r\n";

impl Door {
    fn report(&self, route: &str) -> RouteReport {
        let report = self.gateway.routes(None);
        let found = report.items.iter().find(|one| one.route == route);
        found.unwrap_or_else(|| panic!("{route}: {report:?}")).clone()
    }
}

#[test]
fn a_preflight_is_answered_for_the_route_of_the_method_that_it_asks_for() {
    let door = door();
    let asks = format!("{ORIGIN}Access-Control-Request-Method: PUT\r\n");
    let allowed = send(&door, "OPTIONS", "/orders", &asks);
    assert_eq!(status(&allowed), 204, "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com\r\n"));
    assert!(allowed.contains("access-control-allow-methods: GET, HEAD, POST, PUT\r\n"));
    assert!(allowed.contains("access-control-allow-headers: x-token\r\n"), "{allowed}");
    assert_eq!(allowed.matches("access-control-allow-origin").count(), 1);

    let refused = send(&door, "OPTIONS", "/orders", &asks.replace("app.", "evil."));
    assert_eq!(status(&refused), 204);
    assert!(!refused.contains("access-control-allow"), "{refused}");
    // Without an origin it is a request like any other, which the route does not take.
    let plain = send(&door, "OPTIONS", "/orders", "");
    assert!(status(&plain) >= 400, "{plain}");
    assert_eq!(door.fake.usage.lock().unwrap().len(), 0, "no function was reached");
    assert_eq!(door.records(3)[0].route.as_deref(), Some("put"));
}

#[test]
fn pages_read_answers_and_rejections() {
    let door = door();
    let answer = send(&door, "PUT", "/orders", ORIGIN);
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example.com\r\n"));
    assert!(answer.contains("access-control-expose-headers: x-request-id\r\n"));
    assert_eq!(answer.matches("access-control-allow-origin").count(), 1, "{answer}");
    assert!(answer.contains("vary: origin\r\n"), "{answer}");

    let body = "Content-Length: 6\r\n";
    let refused = send(&door, "PUT", "/orders", &format!("{ORIGIN}{body}"));
    assert_eq!(status(&refused), 413, "{refused}");
    assert!(refused.contains("access-control-allow-origin: https://app.example.com\r\n"));
    let other = send(&door, "PUT", "/orders", "Origin: https://evil.example.com\r\n");
    assert!(!other.contains("access-control-"), "{other}");
    assert!(other.contains("vary: origin\r\n"), "{other}");
}

#[test]
fn a_route_without_origins_leaves_cors_to_its_target() {
    let answer = door().get("/own", ORIGIN);
    assert!(answer.contains("access-control-allow-origin: https://own.example\r\n"), "{answer}");
    assert!(!answer.contains("vary"), "{answer}");
}

#[test]
fn responses_are_compressed_for_those_who_take_it() {
    let door = door();
    let plain = send(&door, "PUT", "/orders", "");
    assert!(plain.contains("PUT http://one.localhost/orders\n"), "{plain}");
    let answer = send(&door, "PUT", "/orders", "Accept-Encoding: gzip\r\n");
    assert!(answer.contains("content-encoding: gzip\r\n"), "{answer}");
    assert!(answer.contains("vary: accept-encoding\r\n"), "{answer}");
    assert!(!answer.contains("PUT http://"), "{answer}");
    let own = door.get("/own", "Accept-Encoding: gzip\r\n");
    assert!(own.ends_with("sixteen bytes") && !own.contains("content-encoding"), "{own}");
    // A file of ten bytes is too short to be worth it.
    let file = door.get("/a.txt", "Accept-Encoding: gzip\r\n");
    assert!(file.ends_with("0123456789") && !file.contains("content-encoding"), "{file}");
    let mut metrics = String::new();
    door.gateway.write_metrics(&mut metrics);
    let line = "squall_compression_responses_total{coding=\"gzip\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_compressed_body_arrives_as_it_was() {
    let door = door();
    let request = "PUT /orders HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nAccept-Encoding: br;q=0.5, zstd\r\n\r\n";
    let mut stream = std::net::TcpStream::connect(door.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.contains("content-encoding: zstd\r\n"), "{head}");
    let length = format!("content-length: {}\r\n", answer.len() - end);
    assert!(head.contains(&length), "{head}");
    let body = String::from_utf8(zstd::decode_all(&answer[end..]).unwrap()).unwrap();
    assert!(body.starts_with("PUT http://one.localhost/orders\n"), "{body}");
    assert_eq!(door.records(1)[0].bytes_out, (answer.len() - end) as u64);
}

#[test]
fn what_a_route_does_is_counted_over_new_configurations() {
    let door = door();
    let started =
        |version| Arc::new(Snapshot { version, apps: vec![app("one", ROUTES, BlobId([1; 32]))] });
    send(&door, "PUT", "/orders", "");
    door.records(1);
    door.gateway.apply(&started(2));
    send(&door, "PUT", "/orders", "Content-Length: 6\r\n");
    door.records(2);
    let report = door.report("put");
    assert_eq!(report.requests, [("2xx".to_owned(), 1), ("4xx".to_owned(), 1)].into());
    assert_eq!(report.rejections, [("SQ0105".to_owned(), 1)].into());
    assert_eq!(report.in_flight, 0);
    assert_eq!(door.report("assets").requests.len(), 0);
    let names = |door: &Door| door.gateway.routes(None).items.len();
    // Four tables, the function's own paths, the files.
    assert_eq!(names(&door), 6);
    let other = vec![app("two", "", BlobId([1; 32]))];
    door.gateway.apply(&Arc::new(Snapshot { version: 3, apps: other }));
    assert_eq!(names(&door), 2, "{:?}", door.gateway.routes(None));
}

#[test]
fn a_thousand_swaps_leave_nothing_behind() {
    let door = door();
    for version in 0..1_000 {
        let name = format!("{ROUTES}\n[[routes]]\nname = \"v{version}\"\nresponse.status = 200\n");
        let apps = vec![app("one", &name, BlobId([1; 32]))];
        door.gateway.apply(&Arc::new(Snapshot { version, apps }));
    }
    assert_eq!(door.gateway.routes(None).items.len(), 7);
    assert_eq!(door.gateway.0.route_metrics.len(), 7);
}

#[test]
fn a_trace_is_logged_whole_or_not_at_all_and_errors_always() {
    let door = door();
    let trace = |random: &str| {
        format!("traceparent: 00-0af7651916cd43dd84{random}-b7ad6b7169203331-01\r\n")
    };
    let (kept, left_out) = (trace("00000000000001"), trace("ffffffffffffff"));
    for path in ["/sampled/a", "/sampled/b"] {
        assert_eq!(status(&door.get(path, &kept)), 200);
        assert_eq!(status(&door.get(path, &left_out)), 200);
    }
    assert_eq!(status(&door.get("/fails", &left_out)), 500);
    let records = door.records(3);
    let paths: Vec<&str> = records.iter().map(|record| record.path.as_str()).collect();
    assert_eq!(paths, ["/sampled/a", "/sampled/b", "/fails"]);
    assert_eq!(door.report("sampled").requests["2xx"], 4, "all are counted");
}

#[test]
fn a_trace_joins_the_record_the_response_and_what_is_sent_on() {
    let door = door();
    let id = "0af7651916cd43dd8448eb211c80319c";
    let answer = door.get("/api/x", &format!("traceparent: 00-{id}-b7ad6b7169203331-01\r\n"));
    assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{answer}");
    let sent = answer.lines().find(|line| line.starts_with("traceparent: ")).unwrap();
    let record = &door.records(1)[0];
    assert_eq!(record.trace.trace_id_hex().as_str(), id);
    let header = String::from_utf8(record.trace.header().to_vec()).unwrap();
    assert_eq!(sent, format!("traceparent: {header}"), "the same span, too");
    assert_eq!(record.route.as_deref(), Some("function-api"));
}

#[test]
fn a_caller_is_logged_by_name_and_never_by_its_key() {
    let key = ApiKeyText::generate();
    let client = ApiClient { id: "acme".into(), plan: None, scopes: Vec::new(), disabled: false };
    let known = ApiKey { client: Arc::new(client), hash: key.hash(), expires_at: None };
    let private = "[identity.partners.api_key]\n[[routes]]\nname = \"private\"\npaths = [\"/private\"]\nfunction = \"api\"\npolicy = { auth = [\"partners\"] }\n";
    let door = Door::serving(Options::default(), |blob| {
        let keys = [(key.prefix().into(), known.clone())].into();
        let app = app("one", private, blob);
        vec![Arc::new(AppState { clients: Arc::new(Clients { keys }), ..AppState::clone(&app) })]
    });
    let header = format!("X-Api-Key: {}\r\n", key.as_str());
    assert_eq!(status(&door.get("/private", &header)), 200);
    assert_eq!(status(&door.get("/private", "")), 401);
    let records = door.records(2);
    let expected = ("partners".into(), "acme".into(), Some(key.prefix().to_owned()));
    assert_eq!(records[0].caller, Some(expected));
    assert!(!records[0].text.contains(key.as_str()));
    assert_eq!((&records[1].caller, records[1].code), (&None, Some(ErrorCode::MissingCredentials)));
}

/// Uploads that bring a few bytes now and again: to a route that asks for more, to one that
/// asks for nothing, and to one that leaves it to the door.
#[test]
fn a_route_has_a_minimum_rate_of_its_own_for_bodies() {
    let routes = r#"
[[routes]]
paths = ["/hasty"]
function = "api"
policy = { timeouts = { body_rate_min_bytes_per_s = 1000000 } }
[[routes]]
paths = ["/patient"]
function = "api"
policy = { timeouts = { body_rate_min_bytes_per_s = 0 } }
"#;
    let door = Door::of("one", routes);
    let answer_to = |path: &str| {
        let mut stream = std::net::TcpStream::connect(door.address).unwrap();
        let (seconds, bytes_per_s) = (14, 60);
        let length = bytes_per_s * seconds;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let begun = Instant::now();
        for _ in 0..seconds {
            // It may have been answered already.
            let _ = stream.write_all(&vec![b'x'; bytes_per_s]);
            std::thread::sleep(Duration::from_secs(1));
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(begun.elapsed() < Duration::from_secs(60));
        answer.get(9..12).map(str::to_owned)
    };
    std::thread::scope(|scope| {
        let answers =
            ["/hasty", "/patient", "/api/x"].map(|path| scope.spawn(move || answer_to(path)));
        let answers = answers.map(|answer| answer.join().unwrap());
        let expected = ["408", "200", "408"].map(|status| Some(status.to_owned()));
        assert_eq!(answers, expected);
    });
    assert!(door.metrics().contains("squall_http_slow_clients_total 2\n"), "{}", door.metrics());
    door.records(3);
    let usage = door.fake.usage.lock().unwrap();
    assert_eq!(usage.len(), 1, "nothing is called for a body that does not come");
    let wall = Duration::from_nanos(usage[0].wall_ns);
    assert!(wall < Duration::from_secs(10), "{wall:?}: the client's time is not the function's");
    assert_eq!(usage[0].status, 200);
}

/// `/api/large` answers without a look at its body.
#[test]
fn a_function_is_called_when_the_beginning_of_its_body_is_there() {
    let routes = r#"
[[routes]]
paths = ["/api/large"]
methods = ["PUT"]
function = "api"
policy = { request_buffering = false }
"#;
    let door = Door::of("one", routes);
    let begin = |method: &str, fields: &str, sent: usize| {
        let mut stream = std::net::TcpStream::connect(door.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "{method} /api/large HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n{fields}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; sent]).unwrap();
        stream
    };
    let first_line = |stream: &mut std::net::TcpStream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
    };
    let mut waiting = begin("POST", "Content-Length: 900\r\n", 899);
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(first_line(&mut waiting).is_err(), "it is not called yet");
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    waiting.write_all(b"x").unwrap();
    assert_eq!(first_line(&mut waiting).unwrap(), "HTTP/1.1 200");
    drop(waiting);
    // Without a length, where the route says so, and where more is announced than it takes.
    let mut chunked = begin("POST", "Transfer-Encoding: chunked\r\n", 0);
    assert_eq!(first_line(&mut chunked).unwrap(), "HTTP/1.1 200");
    let mut unbuffered = begin("PUT", "Content-Length: 900\r\n", 1);
    assert_eq!(first_line(&mut unbuffered).unwrap(), "HTTP/1.1 200");
    let mut too_large = begin("POST", "Content-Length: 1001\r\n", 1);
    assert_eq!(first_line(&mut too_large).unwrap(), "HTTP/1.1 413");
    let mut expecting = begin("POST", "Content-Length: 900\r\nExpect: 100-continue\r\n", 0);
    assert_eq!(first_line(&mut expecting).unwrap(), "HTTP/1.1 200");
}

/// Who leaves before is no usage, however it leaves.
#[test]
fn a_client_that_leaves_before_its_body_has_begun_calls_nothing() {
    let door = Door::of("one", "");
    let mut stream = std::net::TcpStream::connect(door.address).unwrap();
    let head = "POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: 900\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b'x'; 500]).unwrap();
    drop(stream);
    door.records(1);
    door.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://one.localhost/api/x");
        let request = request.header("content-length", "900").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(vec![b'x'; 500].into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // As a proxy does whose own client has left.
        body.send_reset(h2::Reason::NO_ERROR);
        assert!(response.await.is_err());
    });
    let records = door.records(2);
    assert_eq!(records.iter().map(|record| record.status).collect::<Vec<_>>(), [499, 499]);
    assert_eq!(door.fake.usage.lock().unwrap().len(), 0);
}

/// They share a connection, and its window.
#[test]
fn uploads_that_nobody_reads_hold_no_other_up() {
    let door = Door::of("one", "");
    door.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut post = |path: &str, bytes: usize| {
            let request = http::Request::post(format!("http://one.localhost{path}"));
            let (response, mut body) =
                sender.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(vec![b'x'; bytes].into(), true).unwrap();
            response
        };
        let unread: Vec<_> = (0..90).map(|_| post("/api/never", 65_535)).collect();
        let read = tokio::time::timeout(Duration::from_secs(20), post("/api/x", 900));
        assert_eq!(read.await.unwrap().unwrap().status(), 200);
        drop(unread);
    });
}

/// Where the next request begins could be read in two ways.
#[test]
fn a_body_that_is_framed_strangely_is_the_last_of_its_connection() {
    let door = Door::of("one", "");
    let post = "POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = "GET /api/next HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n\r\n";
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(200));
    for body in [&*long, "0\r\nA: b\n\nGET /api/y HTTP/1.1\r\n\r\n"] {
        let answer = door.raw(format!("{post}{body}{next}").as_bytes());
        assert!(!answer.contains("/api/next") && !answer.contains("/api/y"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

/// A reset that answers what nobody reads would overtake the response.
#[test]
fn who_sends_more_than_is_taken_hears_why() {
    let door = door();
    let begin = |bytes: usize| {
        let mut stream = std::net::TcpStream::connect(door.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "PUT /orders HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut eager = begin(8 << 20);
    for _ in 0..8 {
        eager.write_all(&vec![b'x'; 1 << 20]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut answer = String::new();
    eager.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 413, "{answer}");
    drop(eager);

    // Who says nothing more is not waited for.
    let mut silent = begin(8 << 20);
    silent.write_all(&vec![b'x'; 1 << 20]).unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 413, "{answer}");
    let until = Instant::now() + Duration::from_secs(20);
    while !door.metrics().contains("squall_http_connections 0\n") {
        assert!(Instant::now() < until, "it is still held");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// With HTTP/2 a client may give no room for a response and keep its connection alive.
#[test]
fn a_stream_whose_client_takes_nothing_is_given_up() {
    let limits = DoorLimits { write_timeout: Duration::from_millis(300), ..DoorLimits::default() };
    let door = Door::with(Options { limits, ..Options::default() });
    door.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let (mut sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let mut get = |path: &str| {
            let request = http::Request::get(format!("http://one.localhost{path}"));
            sender.send_request(request.body(()).unwrap(), true).unwrap().0
        };
        let (stuck, short) = tokio::join!(get("/api/large"), get("/api/x"));
        for response in [stuck, short] {
            let mut body = response.unwrap().into_body();
            let ended = tokio::time::timeout(Duration::from_secs(20), body.data()).await;
            let error = ended.expect("it ends").expect("not as a whole").unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
        }
        // Whoever waits for a function is nobody who takes nothing.
        let slow = get("/api/slow").await.unwrap();
        assert_eq!(slow.status(), 200);
    });
    assert!(door.metrics().contains("squall_http_slow_clients_total 2\n"), "{}", door.metrics());
}

/// The end of a response may wait for room where nobody watches it any more.
#[test]
fn a_connection_ends_whose_client_leaves_the_end_of_a_response() {
    let limits = DoorLimits {
        head_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_millis(500),
        write_timeout: Duration::from_millis(500),
        ..DoorLimits::default()
    };
    let door = Door::with(Options { limits, ..Options::default() });
    door.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1);
        let (mut sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://one.localhost/api/x").body(()).unwrap();
        let response = sender.send_request(request, true).unwrap().0.await.unwrap();
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap().len(), 1);
        // Its client answers pings all the while.
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
        let _ = ended.expect("the server ends it").unwrap();
        body.data().await.expect("not as a whole").unwrap_err();
    });
    let until = Instant::now() + Duration::from_secs(20);
    while !door.metrics().contains("squall_http_connections 0\n") {
        assert!(Instant::now() < until, "{}", door.metrics());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(door.metrics().contains("squall_http_slow_clients_total 1\n"), "{}", door.metrics());
}
