//! Services behind a node: what is made of their answers, and of their faults.

use std::collections::HashMap;
use std::marker;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, TestNode, request};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deploys an app that is a gateway and nothing else.
fn deploy(node: &TestNode, manifest: &str) {
    let folder = node.dir.path().join("apps/front");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("squall.toml"), format!("name = \"front\"\n{manifest}")).unwrap();
    node.cli_json(&["deploy", folder.to_str().unwrap()]);
}

/// One upstream for every path.
fn upstream(targets: &[String], more: &str) -> String {
    format!(
        "[upstreams.users]\ntargets = {targets:?}\nallow_private = true\n{more}\n[[routes]]\nupstream = \"users\"\n"
    )
}

async fn ask(node: &TestNode, method: &str, path: &str) -> Answer {
    let accept = [("accept", "application/json")];
    node.request(method, "front", path, &accept, Bytes::new()).await
}

/// A server that reads one head for each connection and does as the path of it says.
#[derive(Clone)]
struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    status: Arc<AtomicU32>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            status: Arc::new(AtomicU32::new(200)),
        };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        origin
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.seen.lock().unwrap().push(head);
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        let say = match path.as_str() {
            "/reset" => String::new(),
            "/half-a-head" => "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
            "/half-a-body" => half.to_owned(),
            "/nonsense" => "220 smtp ready\r\n".to_owned(),
            "/two-lengths" => {
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned()
            }
            "/pauses" => {
                stream.write_all(half.as_bytes()).await?;
                return std::future::pending().await;
            }
            "/silent" => return std::future::pending().await,
            _ => {
                let status = self.status.load(Ordering::Relaxed);
                let name = self.address.port().to_string();
                let length = name.len();
                format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{name}"
                )
            }
        };
        stream.write_all(say.as_bytes()).await?;
        stream.shutdown().await
    }
}

async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The table of docs/guides/upstreams.md, line by line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_documented_answer() {
    let node = TestNode::start();
    let origin = Origin::start().await;
    let more = "retry = { attempts = 0 }\ntimeouts = { first_byte_ms = 200, idle_ms = 200 }\noutliers = { consecutive_failures = 0 }";
    deploy(&node, &upstream(&[origin.url()], more));
    for (path, status, code) in [
        ("/reset", 502, "SQ0604"),
        ("/half-a-head", 502, "SQ0604"),
        ("/nonsense", 502, "SQ0603"),
        ("/two-lengths", 502, "SQ0603"),
        ("/silent", 504, "SQ0602"),
    ] {
        let answer = ask(&node, "GET", path).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
    for path in ["/half-a-body", "/pauses"] {
        let answer = ask(&node, "GET", path).await;
        assert_eq!((answer.status, answer.broken), (200, true), "{path}");
        assert_eq!(answer.body, "half", "{path}");
    }
    origin.status.store(500, Ordering::Relaxed);
    assert_eq!(ask(&node, "GET", "/").await.status, 500);
    // The owner is told what callers are not.
    let told = node.expect_log_text("front", &format!("upstream users: {}: ", origin.address));
    assert_eq!((&told["source"], &told["level"]), (&"platform".into(), &"warn".into()), "{told}");
    let shown = node.cli_json(&["gateway", "upstreams", "--app", "front"]);
    let target = &shown["items"][0]["targets"][0];
    assert_eq!(target["target"], origin.address.to_string(), "{shown}");
    assert_eq!((&target["health"], &target["in_flight"]), (&"up".into(), &0.into()), "{shown}");
    assert_eq!(target["responses"]["5xx"], 1, "{shown}");
    for reason in ["broken", "malformed", "timeout"] {
        assert!(target["failures"][reason].as_u64() > Some(0), "{reason}: {shown}");
    }

    let refused = closed_port().await;
    for (manifest, status, code) in [
        (upstream(&[refused], "retry = { attempts = 0 }"), 502, "SQ0601"),
        (upstream(&["http://nobody.invalid".to_owned()], ""), 503, "SQ0606"),
        (upstream(&[origin.url()], "").replace("allow_private = true", ""), 503, "SQ0600"),
    ] {
        deploy(&node, &manifest);
        let answer = ask(&node, "GET", "/").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{manifest}");
        assert!(!answer.text().contains("127.0.0.1"), "callers learn no addresses");
    }
    // The earlier revisions still answer under names of their own, each with its settings.
    let shown = node.cli_json(&["gateway", "upstreams", "--app", "front"]);
    let items = shown["items"].as_array().unwrap();
    let of_each: Vec<_> = items.iter().map(|item| item["revisions"].as_array().unwrap()).collect();
    assert!(of_each.len() == 4 && of_each.iter().all(|revisions| revisions.len() == 1), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_told_the_truth_and_spread_by_weight() {
    let node = TestNode::start();
    let (heavy, light) = (Origin::start().await, Origin::start().await);
    let weighted = format!(
        "[upstreams.users]\ntargets = [{{ url = \"{}/v1\", weight = 3 }}, \"{}/v1\"]\nallow_private = true\n[[routes]]\npaths = [\"/users/{{id}}\"]\nupstream = \"users\"\n",
        heavy.url(),
        light.url()
    );
    deploy(&node, &weighted);
    for _ in 0..80 {
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-squall-client", "root"),
            ("connection", "x-private"),
            ("x-private", "1"),
            ("accept", "*/*"),
        ];
        let answer = node.request("GET", "front", "/users/7?x=1", &headers, Bytes::new()).await;
        assert_eq!(answer.status, 200);
    }
    // Each core takes turns for itself.
    assert!(heavy.asked().abs_diff(60) <= 4, "{}", heavy.asked());
    let head = light.seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /v1/users/7?x=1 HTTP/1.1\r\n"), "{head}");
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: front.localhost",
        "forwarded: for=127.0.0.1;host=front.localhost;proto=http",
        "x-squall-params: id=7",
        "accept: */*",
    ] {
        assert!(head.split("\r\n").any(|one| one == line), "{line} is not in {head}");
    }
    for word in ["6.6.6.6", "root", "x-private"] {
        assert!(!head.contains(word), "{word} is in {head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_target_is_left_alone_and_comes_back_and_no_post_is_sent_twice() {
    let node = TestNode::start();
    let (good, flapping) = (Origin::start().await, Origin::start().await);
    let more = "outliers = { consecutive_failures = 3, ejection_ms = 2000 }";
    deploy(&node, &upstream(&[good.url(), flapping.url()], more));
    flapping.status.store(503, Ordering::Relaxed);
    let mut statuses = HashMap::new();
    for _ in 0..40 {
        *statuses.entry(ask(&node, "POST", "/").await.status).or_insert(0u32) += 1;
    }
    // Each of them was sent once, and three failures are enough.
    assert_eq!(good.asked() + flapping.asked(), 40);
    assert_eq!(statuses[&503], 3, "{statuses:?}");
    flapping.status.store(200, Ordering::Relaxed);
    let (before, began) = (flapping.asked(), Instant::now());
    while flapping.asked() == before {
        assert!(began.elapsed() < PATIENCE, "it did not come back");
        assert_eq!(ask(&node, "GET", "/").await.status, 200);
    }
    // A GET goes to the other one, and its caller sees nothing of it.
    flapping.status.store(503, Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(ask(&node, "GET", "/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cuts_off_every_body_is_ejected() {
    let node = TestNode::start_with("[node]\ncores = 1\n");
    let (one, other) = (Origin::start().await, Origin::start().await);
    let settings = "outliers = { consecutive_failures = 3 }\ncircuit_breaker = { min_requests = 20, failure_percent = 100 }";
    deploy(&node, &upstream(&[one.url(), other.url()], settings));
    for _ in 0..8 {
        assert!(ask(&node, "GET", "/half-a-body").await.broken);
    }
    let shown = node.cli_json(&["gateway", "upstreams", "--app", "front"]);
    let targets = shown["items"][0]["targets"].as_array().unwrap();
    let ejections: u64 = targets.iter().map(|one| one["ejections"].as_u64().unwrap()).sum();
    assert_eq!(ejections, 1, "{shown}");
    // Each of them was one try: too few for the circuit.
    assert_eq!(shown["items"][0]["circuit"], "closed", "{shown}");
}

/// An upstream that speaks cleartext HTTP/2; gives its URL.
async fn serve_http2<F, B>(answer: fn(Request<hyper::body::Incoming>) -> F) -> String
where
    F: Future<Output = Result<Response<B>, hyper::Error>> + marker::Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + marker::Send + Sync>>>
        + marker::Send
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// Of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Serves one connection: each request gets `answer` for its stream.
async fn speak_frames(
    mut stream: TcpStream,
    answer: impl Fn(u32) -> Vec<u8>,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await?;
        if head[3] == 1 {
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            stream.write_all(&answer(id)).await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leaving_connection_did_not_take_is_sent_again() {
    let node = TestNode::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let goaways = Arc::new(AtomicU32::new(0));
    let counted = goaways.clone();
    tokio::spawn(async move {
        for index in 0_u32.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let counted = counted.clone();
            tokio::spawn(speak_frames(stream, move |id| {
                if index % 2 == 0 {
                    // GOAWAY: the last stream that was taken is 0.
                    counted.fetch_add(1, Ordering::Relaxed);
                    return frame(7, 0, 0, &[0; 8]);
                }
                // `:status 200`, which is the whole response; then the connection leaves too.
                [
                    frame(1, 5, id, &[0x88]),
                    frame(7, 0, 0, &[&id.to_be_bytes()[..], &[0; 4]].concat()),
                ]
                .concat()
            }));
        }
    });
    deploy(&node, &upstream(&[url], "protocol = \"http2\"\nretry = { attempts = 0 }"));
    for _ in 0..5 {
        assert_eq!(ask(&node, "POST", "/").await.status, 200);
    }
    assert!(goaways.load(Ordering::Relaxed) >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_break_off_are_not_held_against_an_upstream_of_http2() {
    let node = TestNode::start();
    let url = serve_http2(|request| async {
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(http_body_util::Full::new(body)))
    })
    .await;
    let settings = "protocol = \"http2\"\ncircuit_breaker = { min_requests = 4 }";
    deploy(&node, &upstream(&[url], settings));
    for _ in 0..8 {
        let mut client = TcpStream::connect(node.gateway()).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: front.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        // More than is waited for before anybody is called.
        let chunk = format!("{head}8000\r\n{}\r\n", "x".repeat(0x8000));
        client.write_all(chunk.as_bytes()).await.unwrap();
        let called = async || {
            let shown = node.cli_json(&["gateway", "upstreams", "--app", "front"]);
            shown["items"][0]["targets"][0]["in_flight"].as_u64().unwrap()
        };
        while called().await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(client);
        while called().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let shown = node.cli_json(&["gateway", "upstreams", "--app", "front"]);
    let upstream = &shown["items"][0];
    assert_eq!(upstream["circuit"], "closed", "{shown}");
    assert_eq!(upstream["targets"][0]["failures"], serde_json::json!({}), "{shown}");
    assert_eq!(ask(&node, "POST", "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_passes_through_with_its_trailers() {
    let node = TestNode::start();
    let url = serve_http2(|request| async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let te = request.headers().get("te").cloned();
        let end = stream::once(async { Ok(Frame::trailers(trailers)) });
        let echoed = BodyStream::new(request.into_body()).chain(end);
        let mut response = Response::new(StreamBody::new(echoed));
        response.headers_mut().insert("x-te", te.unwrap());
        Ok(response)
    })
    .await;
    deploy(&node, &upstream(&[url], "protocol = \"http2\""));

    let client = TcpStream::connect(node.gateway()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (mut send, receive) = futures_channel();
    let request = Request::post("http://front.localhost/echo.Echo/Talk")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(StreamBody::new(receive))
        .unwrap();
    send.send(Bytes::from_static(b"ping ")).await;
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-te"], "trailers");
    // Both directions are open: each message comes back before the next is sent.
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ping ");
    send.send(Bytes::from_static(b"pong")).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "pong");
    drop(send);
    let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(end["grpc-status"], "0");
}

/// The minimum rate of bodies is for who holds up a call, not for a conversation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_may_rest() {
    let node = TestNode::start();
    let url = serve_http2(|request| async move {
        let late = request.uri().path() == "/late";
        let body = request.into_body();
        // Servers of gRPC may have nothing to say before the first message.
        let body = match late {
            true => body.collect().await?.map_err(|never| match never {}).boxed(),
            false => body.boxed(),
        };
        Ok(Response::new(body))
    })
    .await;
    deploy(&node, &upstream(&[url], "protocol = \"http2\""));
    let client = TcpStream::connect(node.gateway()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    let call = async |path: &str, kind: &str| {
        let (mut send, receive) = futures_channel();
        let request = Request::post(format!("http://front.localhost{path}"))
            .header("content-type", kind)
            .body(StreamBody::new(receive))
            .unwrap();
        send.send(Bytes::from_static(b"one ")).await;
        let rest = async move {
            // Longer than the rate is looked at.
            tokio::time::sleep(Duration::from_secs(11)).await;
            // Of one that is over by then nobody takes it.
            let _ = send.0.send(Bytes::from_static(b"two")).await;
        };
        let mut sender = sender.clone();
        let answered = async move {
            let response = sender.send_request(request).await.unwrap();
            (response.status().as_u16(), response.into_body().collect().await)
        };
        let ((status, body), ()) = tokio::join!(answered, rest);
        (status, body.map(|body| body.to_bytes()).ok())
    };
    let whole = (200, Some(Bytes::from_static(b"one two")));
    let (answered, grpc, slow) = tokio::join!(
        call("/echo", "text/plain"),
        call("/late", "application/grpc"),
        call("/late", "text/plain")
    );
    assert_eq!((answered, grpc), (whole.clone(), whole));
    assert_eq!(slow.0, 408);
}

struct Send(tokio::sync::mpsc::Sender<Bytes>);

impl Send {
    async fn send(&mut self, bytes: Bytes) {
        self.0.send(bytes).await.unwrap();
    }
}

/// A body that is written piece by piece.
fn futures_channel()
-> (Send, impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Unpin)
{
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let frames = stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receive))
    });
    (Send(send), Box::pin(frames))
}

/// A certificate for `inner.example`, and the authority's own in PEM.
fn inner_example() -> (tokio_rustls::TlsAcceptor, String) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["inner.example".to_owned()];
    let certificate =
        rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), authority.pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_upstreams_are_verified() {
    let (acceptor, authority) = inner_example();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = Origin::start().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, origin) = (acceptor.clone(), origin.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = origin.serve(stream).await;
                }
            });
        }
    });
    let roots = tempfile::tempdir().unwrap();
    let root = roots.path().join("root.pem");
    std::fs::write(&root, authority).unwrap();
    let node = TestNode::start_with(&format!("[outbound]\nextra_roots = [{root:?}]\n"));
    let target = [format!("https://127.0.0.1:{port}")];
    for (tls, expected) in [
        ("tls = { server_name = \"inner.example\" }", 200),
        ("tls = { insecure = true }", 200),
        // The certificate has another name.
        ("", 502),
    ] {
        deploy(&node, &upstream(&target, tls));
        assert_eq!(ask(&node, "GET", "/").await.status, expected, "{tls:?}");
    }
}

/// Whether a target speaks HTTP/2 is asked by one connection; when it does not, those who waited
/// for the answer connect side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_learn_the_protocol_does_not_connect_one_after_another() {
    const ASKING: usize = 8;
    let (acceptor, _) = inner_example();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = Origin::start().await;
    tokio::spawn(async move {
        let others = Arc::new(tokio::sync::Barrier::new(ASKING - 1));
        for index in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let (acceptor, origin, others) = (acceptor.clone(), origin.clone(), others.clone());
            tokio::spawn(async move {
                // The first one takes until all have asked, the others until all are there.
                if index == 0 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                } else {
                    others.wait().await;
                }
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = origin.serve(stream).await;
                }
            });
        }
    });
    let node = TestNode::start_with("[node]\ncores = 1\n");
    let target = [format!("https://127.0.0.1:{port}")];
    deploy(&node, &upstream(&target, "tls = { insecure = true }\nretry = { attempts = 0 }"));
    let answers = futures_util::future::join_all((0..ASKING).map(|_| ask(&node, "GET", "/"))).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; ASKING]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_outlive_deployments_and_are_told_when_the_node_ends() {
    let mut node = TestNode::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (closes, mut closed) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let closes = closes.clone();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Close(frame) = &message {
                        let _ =
                            closes.send(frame.as_ref().map(|frame| u16::from(frame.code))).await;
                    } else {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    deploy(&node, &upstream(std::slice::from_ref(&url), ""));
    let connect = async || {
        let stream = TcpStream::connect(node.gateway()).await.unwrap();
        let (socket, response) =
            tokio_tungstenite::client_async("ws://front.localhost/chat", stream).await.unwrap();
        assert_eq!(response.status(), 101);
        socket
    };
    let mut sockets = [connect().await, connect().await, connect().await];
    let large = "x".repeat(200_000);
    for round in 0..10 {
        deploy(
            &node,
            &upstream(std::slice::from_ref(&url), &format!("keep_alive = {}", round + 1)),
        );
        for socket in &mut sockets {
            for text in [format!("round {round}"), large.clone()] {
                socket.send(Message::text(text.clone())).await.unwrap();
                let echoed = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
                let echoed = echoed.unwrap().unwrap().into_text().unwrap();
                assert!(echoed.as_str() == text, "{} bytes", echoed.len());
            }
        }
    }
    // The first one ends by itself.
    let [mut first, mut second, mut third] = sockets;
    first.close(None).await.unwrap();
    while let Some(message) = first.next().await {
        assert!(message.unwrap().is_close());
    }
    assert_eq!(closed.recv().await, Some(None));

    let stopping = tokio::task::spawn_blocking(move || node.stop());
    for socket in [&mut second, &mut third] {
        let told = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        let Message::Close(Some(frame)) = told else { panic!("{told:?}") };
        assert_eq!(u16::from(frame.code), 1001);
        assert_eq!(closed.recv().await, Some(Some(1001)));
        let _ = socket.close(None).await;
    }
    assert_eq!(stopping.await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_uploads_stream() {
    let node = TestNode::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    deploy(&node, &upstream(&[url], ""));

    // Events come one by one, and a client that leaves is noticed behind the gateway.
    let mut client = TcpStream::connect(node.gateway()).await.unwrap();
    client
        .write_all(
            b"GET /events HTTP/1.1\r\nhost: front.localhost\r\naccept: text/event-stream\r\n\r\n",
        )
        .await
        .unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(origin.read_u8().await.unwrap());
    }
    origin.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        origin.write_all(event.as_bytes()).await.unwrap();
        while !seen.contains(&event) {
            let mut bytes = Vec::new();
            let reading = client.read_buf(&mut bytes);
            tokio::time::timeout(PATIENCE, reading).await.expect("the event").unwrap();
            seen.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
    drop(client);
    let mut rest = Vec::new();
    let leaving = origin.read_buf(&mut rest);
    assert_eq!(tokio::time::timeout(PATIENCE, leaving).await.unwrap().unwrap_or(0), 0);

    // An upload arrives while it is being sent, and an early answer ends it.
    let mut client = TcpStream::connect(node.gateway()).await.unwrap();
    client
        .write_all(b"POST /upload HTTP/1.1\r\nhost: front.localhost\r\nexpect: 100-continue\r\ncontent-length: 1000000000\r\n\r\n")
        .await
        .unwrap();
    let mut go = [0; 25];
    client.read_exact(&mut go).await.unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(&[b'x'; 100_000]).await.unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    while received.len() < 100_000 {
        origin.read_buf(&mut received).await.unwrap();
    }
    assert!(!String::from_utf8_lossy(&received).contains("expect:"));
    origin.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_go_through_changes_of_the_upstream() {
    let node = TestNode::start();
    let origin = Origin::start().await;
    deploy(&node, &upstream(&[origin.url()], ""));
    let address = node.gateway();
    let load = crate::harness::Load::start(address, "front.localhost", "/", 4, |status, _| {
        if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
    });
    for round in 0..20 {
        deploy(&node, &upstream(&[origin.url()], &format!("keep_alive = {}", round + 1)));
    }
    let began = Instant::now();
    while load.completed.load(Ordering::Relaxed) < 1_000 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(load.stop().await, Vec::<String>::new());
    let metrics = request(node.admin(), "127.0.0.1", "GET", "/metrics", &[], Bytes::new()).await;
    let metrics = metrics.unwrap();
    assert!(
        metrics.text().contains("squall_upstream_requests_total{app=\"front\",upstream=\"users\"")
    );
}
