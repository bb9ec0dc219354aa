//! The door over real sockets: what it lets in, what it refuses, what it counts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use squall_cache::store::Store;
use squall_types::invoke::{Invocation, InvokeFuture};
use squall_types::log::{AccessRecord, AppLine, LogLine, LogSink};
use squall_types::manifest::Manifest;
use squall_types::state::{
    AppState, ApplySnapshot as _, Asset, BlobId, FunctionKey, FunctionSpec, HandlerWorld,
    RevisionState, Share, Snapshot,
};
use squall_types::trace::TraceContext;
use squall_types::usage::{UsageRecord, UsageSink};
use squall_types::{AppName, Body, ErrorCode, Invoke, InvokeError, RevisionId};

use crate::{Contracts, DoorLimits, Gateway, Options};

mod bodies;
mod files;
mod routes;

#[derive(Default)]
struct Fake {
    usage: Mutex<Vec<UsageRecord>>,
    access: Mutex<Vec<Accessed>>,
}

/// What tests look at in an access record.
#[derive(Debug, Clone)]
pub(crate) struct Accessed {
    path: String,
    route: Option<String>,
    code: Option<ErrorCode>,
    bytes_out: u64,
    trace: TraceContext,
    /// The table that knows the caller, its name, and what is shown of its key.
    caller: Option<(String, String, Option<String>)>,
    /// All of it, for what must not be there.
    text: String,
    pub(crate) status: u16,
}

impl UsageSink for Fake {
    fn record(&self, record: UsageRecord) {
        self.usage.lock().unwrap().push(record);
    }
}
impl LogSink for Fake {
    fn line(&self, _: LogLine) {}
    fn app_line(&self, _: AppLine) {}
    fn access(&self, record: &AccessRecord<'_>) {
        let owned = |text: &str| text.to_owned();
        self.access.lock().unwrap().push(Accessed {
            path: owned(record.path),
            route: record.route.map(owned),
            code: record.code,
            bytes_out: record.bytes_out,
            trace: record.trace,
            caller: record.caller.map(|caller| {
                (owned(caller.source), owned(caller.name), caller.key_prefix.map(owned))
            }),
            text: format!("{record:?}"),
            status: record.status,
        });
    }
}
impl Invoke for Fake {
    /// Answers with what it got: method, path and headers, a line each, then the body.
    fn invoke(&self, invocation: Invocation) -> InvokeFuture {
        Box::pin(async move {
            let (head, body) = invocation.request.into_parts();
            if head.uri.path() == "/fails" {
                return Err(InvokeError::new(ErrorCode::Trapped, "the owner's business"));
            }
            if head.uri.path() == "/api/large" {
                tokio::task::yield_now().await;
                return Ok(http::Response::new(Body::full(vec![b'x'; LARGE_BYTES])));
            }
            if head.uri.path() == "/api/never" {
                std::future::pending::<()>().await;
            }
            if head.uri.path() == "/api/slow" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => return Err(InvokeError::new(error.code, error.message)),
            };
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            text.push_str(&String::from_utf8_lossy(&body));
            let mut response = http::Response::new(Body::full(text));
            response.headers_mut().insert("connection", "x-hop".parse().unwrap());
            response.headers_mut().insert("x-hop", "1".parse().unwrap());
            Ok(response)
        })
    }
}

/// What `/api/large` answers with, after a moment. More than sockets hold.
pub(crate) const LARGE_BYTES: usize = 16 << 20;

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls_address: Option<SocketAddr>,
    fake: Arc<Fake>,
    pub(crate) gateway: Gateway,
    runtime: tokio::runtime::Runtime,
    _blobs: tempfile::TempDir,
}

fn app(name: &str, extra: &str, blob: BlobId) -> Arc<AppState> {
    app_with_files(name, extra, "", blob)
}

/// `files` is more of the manifest's table of assets.
fn app_with_files(name: &str, extra: &str, files: &str, blob: BlobId) -> Arc<AppState> {
    let manifest = format!(
        "name = {name:?}\n{extra}\n[functions.api]\ncomponent = \"a.wasm\"\nroutes = [\"/api/*\", \"/exact\"]\n[assets]\ndir = \"public\"\n{files}\n"
    );
    let manifest = Manifest::parse(&manifest).unwrap();
    let app = AppName::parse(name).unwrap();
    let id = RevisionId::parse("abcdefghij").unwrap();
    let functions = manifest
        .functions
        .iter()
        .map(|(function, settings)| {
            Arc::new(FunctionSpec {
                key: FunctionKey {
                    app: app.clone(),
                    revision: id.clone(),
                    function: function.clone(),
                },
                code: blob,
                world: HandlerWorld::Http02,
                mode: settings.instances,
                shared: settings.shared.clone(),
                limits: squall_types::Limits {
                    request_body_bytes: settings.limits.request_body_bytes.min(1000),
                    ..Default::default()
                },
                allowed_hosts: Vec::new(),
                allow_private: false,
                variables: Default::default(),
                fall_through: false,
                bindings: Default::default(),
            })
        })
        .collect();
    let asset = Asset { blob, bytes: 10 };
    let revision = Arc::new(RevisionState {
        id,
        app: app.clone(),
        functions,
        assets: ["/index.html", "/a.txt", "/404.html", "/b.css", "/b.css.gz"]
            .map(|path| (path.to_owned(), asset.clone()))
            .into(),
        manifest: manifest.clone(),
    });
    Arc::new(AppState {
        name: app,
        hosts: manifest.hosts.clone(),
        default: manifest.default,
        traffic: vec![Share { revision: revision.clone(), percent: 100 }],
        revisions: vec![revision],
        environment: Arc::default(),
        clients: Arc::default(),
    })
}

impl Door {
    fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::serving(options, |blob| {
            vec![
                app("one", "hosts = [\"www.example.com\", \"*.wild.example\"]", blob),
                app("two", "", blob),
            ]
        })
    }

    /// One app of this name, with more in its manifest.
    fn of(name: &str, extra: &str) -> Self {
        Self::serving(Options::default(), |blob| vec![app(name, extra, blob)])
    }

    fn serving(options: Options, apps: impl Fn(BlobId) -> Vec<Arc<AppState>>) -> Self {
        let tls = options.tls.is_some();
        let blobs = tempfile::tempdir().unwrap();
        let blob = BlobId::from(blake3::hash(b"0123456789"));
        std::fs::write(blobs.path().join(blob.to_string()), "0123456789").unwrap();
        let fake = Arc::new(Fake::default());
        let folder = blobs.path().to_owned();
        let contracts = Contracts {
            invoke: fake.clone(),
            usage: fake.clone(),
            logs: fake.clone(),
            blobs: Arc::new(move |id: &BlobId| folder.join(id.to_string())),
            outbound: crate::inert::inert_contracts().outbound,
            dial: crate::inert::inert_contracts().dial,
            cache: Arc::new(Store::in_memory(1 << 20)),
        };
        let gateway = Gateway::new(options, contracts);
        gateway.apply(&Arc::new(Snapshot { version: 1, apps: apps(blob) }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        let (address, listener) = listen();
        gateway.serve(runtime.handle(), listener).unwrap();
        let tls_address = tls.then(|| {
            let (address, listener) = listen();
            gateway.serve_tls(runtime.handle(), listener).unwrap();
            address
        });
        Self { address, tls_address, fake, gateway, runtime, _blobs: blobs }
    }

    pub(crate) fn metrics(&self) -> String {
        let mut metrics = String::new();
        self.gateway.write_metrics(&mut metrics);
        metrics
    }

    /// Records of requests, which are written when the last byte is gone.
    pub(crate) fn records(&self, count: usize) -> Vec<Accessed> {
        for _ in 0..500 {
            let records = self.fake.access.lock().unwrap();
            if records.len() >= count {
                return records.clone();
            }
            drop(records);
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} records were expected");
    }

    /// Sends bytes and reads until the server closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may have closed before everything was sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.raw(
            format!(
                "GET {path} HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n{headers}\r\n"
            )
            .as_bytes(),
        )
    }
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[track_caller]
fn check(door: &Door, request: &str, expected: u16) {
    let answer = door.raw(request.as_bytes());
    assert_eq!(status(&answer), expected, "{request:?} gave {answer:?}");
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused_and_the_connection_closed() {
    let door = Door::new();
    let post =
        |headers: &str| format!("POST /api/x HTTP/1.1\r\nHost: one.localhost\r\n{headers}\r\n");
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 005\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X: a\r\n folded\r\n",
        "X : a\r\n",
        "X: a\nY: b\r\n",
    ] {
        // What follows must never be taken for a request.
        let smuggled = "0\r\n\r\nGET /api/smuggled HTTP/1.1\r\nHost: one.localhost\r\n\r\n";
        check(&door, &(post(headers) + smuggled), 400);
    }
    for head in [
        "GET /api/x HTTP/1.1\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: one.localhost\r\nHost: one.localhost\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: a@one.localhost\r\n\r\n",
        "GET /api/x HTTP/1.1\r\nHost: one.localhost/x\r\n\r\n",
        "GET http://two.localhost/api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: one.localhost\r\n\r\n",
        "CONNECT one.localhost:80 HTTP/1.1\r\nHost: one.localhost:80\r\n\r\n",
        "GET /api/../../x HTTP/1.1\r\nHost: one.localhost\r\n\r\n",
        "GET /api/%2fx HTTP/1.1\r\nHost: one.localhost\r\n\r\n",
        "GET /api/\u{e9} HTTP/1.1\r\nHost: one.localhost\r\n\r\n",
        "GET /api/x HTTP/1.1\nHost: one.localhost\n\n",
        "NONSENSE\r\n\r\n",
    ] {
        check(&door, head, 400);
    }
    assert_eq!(door.fake.usage.lock().unwrap().len(), 0, "no function was reached");
}

/// Whoever looks for an attack wants to know on whom.
#[test]
fn the_log_of_a_refused_request_has_its_host() {
    let door = Door::new();
    let heads = [
        "GET /a%2fb HTTP/1.1\r\nHost: One.localhost:80\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: one.localhost\r\nHost: one.localhost\r\n\r\n",
    ];
    for head in heads {
        check(&door, head, 400);
    }
    let records = door.records(3);
    let has_host = |record: &Accessed| record.text.contains("host: \"one.localhost\"");
    assert_eq!(records.iter().map(has_host).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn limits_of_the_head() {
    let limits = DoorLimits { head_timeout: Duration::from_millis(200), ..DoorLimits::default() };
    let door = Door::with(Options { limits, ..Options::default() });
    let long = format!("GET /{} HTTP/1.1\r\nHost: one.localhost\r\n\r\n", "a".repeat(10_000));
    check(&door, &long, 414);
    let large =
        format!("GET / HTTP/1.1\r\nHost: one.localhost\r\nX: {}\r\n\r\n", "a".repeat(70_000));
    check(&door, &large, 431);
    // However it is divided into reads: a limit is one to the byte.
    let max = DoorLimits::default().head_bytes_max;
    let head = |bytes: usize| {
        let line = "GET / HTTP/1.1\r\nHost: one.localhost\r\nX: ";
        format!("{line}{}\r\n\r\n", "a".repeat(bytes - line.len() - 4))
    };
    check(&door, &head(max), 200);
    check(&door, &head(max + 1), 431);
    // Counted when the connection is gone.
    for _ in 0..500 {
        if door.metrics().contains("squall_http_heads_refused_total 2\n") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(door.metrics().contains("squall_http_heads_refused_total 2\n"), "{}", door.metrics());
    let many = format!("GET / HTTP/1.1\r\nHost: one.localhost\r\n{}\r\n", "X: a\r\n".repeat(200));
    check(&door, &many, 431);
    // Silence, half a preface and half a head all end.
    for start in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost"] {
        let answer = door.raw(start.as_bytes());
        assert!(answer.is_empty() || status(&answer) == 408, "{answer:?}");
    }
}

#[test]
fn a_function_sees_one_normalised_request_and_no_borrowed_identity() {
    let door = Door::new();
    let answer = door.get(
        "/x/../api/./%61?q=/../1",
        "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Squall-App: two\r\nTE: trailers\r\nX-Private: 1\r\nConnection: x-private\r\n",
    );
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("GET http://one.localhost/api/a?q=/../1\n"), "{answer}");
    assert!(answer.contains("x-forwarded-for: 127.0.0.1\n"), "{answer}");
    assert!(answer.contains("traceparent: 00-"), "{answer}");
    for absent in ["6.6.6.6", "x-squall-app", "x-private", "x-hop"] {
        assert!(!answer.contains(absent), "{absent} in {answer}");
    }
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!(door.fake.access.lock().unwrap()[0].trace.trace_id_hex().as_str(), id);
}

#[test]
fn a_trace_is_continued() {
    let door = Door::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = door.get("/api/x", &format!("traceparent: {parent}\r\n"));
    assert!(answer.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{answer}");
    assert!(!answer.contains("b7ad6b7169203331"), "the span is our own: {answer}");
    let state = "tracestate: a=b\r\n";
    let given = format!("traceparent: {parent}\r\n");
    assert!(door.get("/api/x", &format!("{given}{state}")).contains("\ntracestate: a=b\n"));
    // What is said of a trace that can not be read, or of one of two, is about no trace.
    for other in [format!("traceparent: ff-{parent}\r\n"), format!("{given}{given}")] {
        let answer = door.get("/api/x", &format!("{other}{state}"));
        assert!(!answer.contains("tracestate") && !answer.contains("0af7651916cd43dd"), "{answer}");
    }
}

#[test]
fn hosts_and_paths_lead_to_their_owners() {
    let door = Door::new();
    let get = |host: &str, path: &str| {
        door.raw(
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    };
    for (host, path, expected) in [
        ("one.localhost", "/api", 200),
        ("one.localhost", "/api/deep/path", 200),
        ("one.localhost", "/apix", 404),
        ("one.localhost", "/exact", 200),
        ("one.localhost", "/exact/x", 404),
        ("ONE.localhost:8080", "/exact", 200),
        ("www.example.com", "/exact", 200),
        ("abcdefghij--two.localhost", "/exact", 200),
        ("three.localhost", "/exact", 404),
    ] {
        assert_eq!(status(&get(host, path)), expected, "{host}{path}");
    }
}

#[test]
fn assets_are_served_with_conditions_and_ranges() {
    let door = Door::new();
    let whole = door.get("/a.txt", "");
    assert!(whole.ends_with("\r\n\r\n0123456789"), "{whole}");
    assert!(whole.contains("content-type: text/plain; charset=utf-8"), "{whole}");
    let etag = whole.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(status(&door.get("/a.txt", &format!("If-None-Match: {etag}\r\n"))), 304);
    let part = door.get("/a.txt", "Range: bytes=2-4\r\n");
    assert_eq!(status(&part), 206);
    assert!(
        part.contains("content-range: bytes 2-4/10") && part.ends_with("\r\n\r\n234"),
        "{part}"
    );
    assert_eq!(status(&door.get("/a.txt", "Range: bytes=50-\r\n")), 416);
    assert_eq!(status(&door.get("/", "")), 200);
    let missing = door.get("/nowhere", "Range: bytes=2-4\r\n");
    assert_eq!(status(&missing), 404, "{missing}");
    assert!(missing.ends_with("\r\n\r\n0123456789"), "the app's own page: {missing}");
    assert_eq!(status(&door.get("/../a.txt", "")), 400);
    check(
        &door,
        "POST /a.txt HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        405,
    );
    let head =
        door.raw(b"HEAD /a.txt HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n\r\n");
    assert!(head.contains("content-length: 10") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn failures_tell_callers_little_and_are_counted() {
    let door = Door::new();
    let answer = door.get("/api/../api/x", "");
    assert_eq!(status(&answer), 200);
    let failed = door.raw(b"GET /exact HTTP/1.1\r\nHost: one.localhost\r\n\r\nGET /fails HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n\r\n");
    assert!(failed.contains("HTTP/1.1 404"), "{failed}");
    let large = format!(
        "POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n{}",
        "x".repeat(2000)
    );
    check(&door, &large, 413);
    let usage = door.fake.usage.lock().unwrap();
    let statuses: Vec<u16> = usage.iter().map(|record| record.status).collect();
    // What is refused by its size has called nobody.
    assert_eq!(statuses, [200, 200]);
    assert!(!usage.iter().any(|record| record.aborted));
}

#[test]
fn continue_is_said_when_the_body_is_wanted() {
    let door = Door::new();
    let mut stream = TcpStream::connect(door.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(b"POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("body"), "{rest}");
    check(&door, "GET /api/x HTTP/1.1\r\nHost: one.localhost\r\nExpect: tea\r\n\r\n", 417);
    // Nobody asks for the body of a request that is refused.
    let refused = door.raw(b"POST /nowhere HTTP/1.1\r\nHost: three.localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(status(&refused), 404, "{refused}");
}

#[test]
fn the_proxy_protocol_and_trusted_proxies_name_the_client() {
    let options = Options {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        proxy_protocol: true,
        ..Options::default()
    };
    let door = Door::with(options);
    let request = "GET /api/x HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n\r\n";
    let answer =
        door.raw(format!("PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n{request}").as_bytes());
    assert!(answer.contains("x-forwarded-for: 192.0.2.7\n"), "{answer}");
    assert_eq!(door.raw(request.as_bytes()), "", "a connection without its header is closed");
}

#[test]
fn draining_answers_what_is_on_its_way_and_then_closes() {
    let door = Door::new();
    let mut idle = TcpStream::connect(door.address).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n";
    idle.write_all(request).unwrap();
    let mut answer = [0; 4096];
    let read = idle.read(&mut answer).unwrap();
    assert!(!String::from_utf8_lossy(&answer[..read]).contains("connection: close"));
    let gateway = door.gateway.clone();
    let drained = door.runtime.spawn(async move { gateway.drain(Duration::from_secs(10)).await });
    std::thread::sleep(Duration::from_millis(100));
    // The connection was idle; its next request is answered still.
    idle.write_all(request).unwrap();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("connection: close"), "{rest}");
    assert_eq!(door.runtime.block_on(drained).unwrap(), 0);
}

#[test]
fn http2_is_served_on_the_same_port() {
    let door = Door::new();
    let answer = door.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://one.localhost/api/x")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap().to_bytes()
    });
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("GET http://one.localhost/api/x\n"), "{answer}");
}
