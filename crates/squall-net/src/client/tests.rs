use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::resolve::ResolveFuture;

/// In these tests 127.0.0.2 is a public address and every other one is what it is.
fn judge(address: IpAddr) -> bool {
    address == IpAddr::from(PUBLIC) || is_public(address)
}
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PRIVATE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Answers each name with the next of its answers; the last one stays.
#[derive(Default)]
struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(names: &[(&str, &[&[Ipv4Addr]])]) -> Arc<Self> {
        let names = names.iter().map(|(name, answers)| {
            let answers = answers
                .iter()
                .map(|answer| answer.iter().map(|address| IpAddr::from(*address)).collect())
                .collect();
            ((*name).to_owned(), answers)
        });
        Arc::new(Self { answers: Mutex::new(names.collect()), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str, port: u16) -> ResolveFuture {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let answer = answers.get_mut(name).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        });
        let answer = answer
            .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"));
        Box::pin(async { answer })
    }
}

/// A server on any loopback address, which counts its connections.
#[derive(Clone)]
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let response = Response::builder();
    let response = match head.uri.path() {
        "/redirect" => response.status(302).header("location", query).body(Body::empty()),
        "/keep" => response.status(307).header("location", query).body(Body::empty()),
        "/silent" => std::future::pending().await,
        "/pause" => {
            let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"first"))) });
            let rest = stream::pending();
            let frames = futures_util::StreamExt::chain(first, rest);
            response.body(Body::stream(StreamBody::new(frames)))
        }
        "/close" => response.header("connection", "close").body(Body::from("closed")),
        "/hops" => response
            .header("keep-alive", "timeout=5")
            .header("x-kept", "1")
            .body(Body::from("hops")),
        "/trailers" => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let frames =
                [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
            response
                .header("trailer", "x-sum")
                .body(Body::stream(StreamBody::new(stream::iter(frames))))
        }
        _ => {
            let host = head.uri.authority().map(ToString::to_string);
            let body = body.collect().await.unwrap();
            let trailers = body.trailers().cloned();
            let text = format!(
                "{} {} {:?} authority={host:?} headers={:?} trailers={trailers:?} body={}",
                head.method,
                head.uri.path_and_query().unwrap(),
                head.version,
                head.headers,
                String::from_utf8_lossy(&body.to_bytes()),
            );
            response.body(Body::from(text))
        }
    };
    Ok(response.unwrap())
}

/// Serves HTTP/1 on `address` and a free port, or what ALPN says with `tls`.
async fn serve(address: &str, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let tls = tls.clone();
            tokio::spawn(async move {
                let Some(tls) = tls else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                    return;
                };
                let Ok(stream) = tls.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                }
            });
        }
    });
    Server { port, connections }
}

fn client(names: Arc<Names>) -> GuardedClient {
    let options = ClientOptions { resolver: names, ..ClientOptions::default() };
    GuardedClient::with_judgement(options, judge).unwrap()
}

fn policy(allow_private: bool) -> Arc<OutboundPolicy> {
    Arc::new(OutboundPolicy { owner: "app".into(), allowed_hosts: vec!["*".into()], allow_private })
}

fn get(uri: impl AsRef<str>) -> Request<Body> {
    Request::get(uri.as_ref()).body(Body::empty()).unwrap()
}

async fn send(
    client: &GuardedClient,
    request: Request<Body>,
    policy: Arc<OutboundPolicy>,
) -> Result<String, OutboundErrorKind> {
    let response = client
        .send(request, policy, OutboundTimeouts::default())
        .await
        .map_err(|failure| failure.kind)?;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

const DENIED: Result<String, OutboundErrorKind> = Err(OutboundErrorKind::Denied);

/// Waits until connections have come back to the pool.
async fn idle(client: &GuardedClient, count: usize) {
    while client.inner.pool.waiting() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn private_addresses_need_permission_in_every_form() {
    let v4 = serve("127.0.0.1", None).await;
    let v6 = serve("::1", None).await;
    let client = client(Names::new(&[("inside.test", &[&[PRIVATE]])]));
    for uri in [
        format!("http://127.0.0.1:{}/", v4.port),
        format!("http://127.1:{}/", v4.port),
        format!("http://2130706433:{}/", v4.port),
        format!("http://0x7f000001:{}/", v4.port),
        format!("http://[::ffff:127.0.0.1]:{}/", v4.port),
        format!("http://[::ffff:7f00:1]:{}/", v4.port),
        format!("http://[::1]:{}/", v6.port),
        format!("http://inside.test:{}/", v4.port),
        format!("http://INSIDE.test.:{}/", v4.port),
    ] {
        assert_eq!(send(&client, get(&uri), policy(false)).await, DENIED, "{uri}");
        assert!(send(&client, get(&uri), policy(true)).await.is_ok(), "{uri}");
        // The connection that is open now is not for those without permission.
        assert_eq!(send(&client, get(&uri), policy(false)).await, DENIED, "{uri}");
    }
    for uri in ["http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/", "http://0/"] {
        assert_eq!(send(&client, get(uri), policy(false)).await, DENIED, "{uri}");
    }
    let mut metrics = String::new();
    client.write_metrics(&mut metrics);
    assert!(metrics.contains("\nsquall_outbound_denied_total 21\n"), "{metrics}");
}

#[tokio::test]
async fn only_allowed_hosts_are_reached() {
    let server = serve("127.0.0.2", None).await;
    let names = Names::new(&[("api.test", &[&[PUBLIC]]), ("other.test", &[&[PUBLIC]])]);
    let client = client(names.clone());
    let allow = |host: String| {
        Arc::new(OutboundPolicy { allowed_hosts: vec![host], ..(*policy(false)).clone() })
    };
    let uri = format!("http://api.test:{}/", server.port);
    assert_eq!(send(&client, get(&uri), allow("api.test".into())).await, DENIED);
    assert_eq!(names.asked.load(Ordering::Relaxed), 0, "what is not allowed is not resolved");
    let with_port = format!("api.test:{}", server.port);
    assert!(send(&client, get(&uri), allow(with_port.clone())).await.is_ok());
    let other = format!("http://other.test:{}/", server.port);
    assert_eq!(send(&client, get(&other), allow(with_port.clone())).await, DENIED);
    let user_info = format!("http://api.test@other.test:{}/", server.port);
    let refused = send(&client, get(user_info), allow(with_port)).await;
    assert_eq!(refused, Err(OutboundErrorKind::InvalidRequest));
    assert_eq!(
        send(&client, get("ftp://api.test/"), policy(true)).await,
        Err(OutboundErrorKind::InvalidRequest)
    );
    assert_eq!(
        send(&client, get("http://unknown.test/"), policy(true)).await,
        Err(OutboundErrorKind::DnsFailed)
    );
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_checked_again_and_pinned_until_then() {
    let server = serve("127.0.0.2", None).await;
    let names = Names::new(&[("rebind.test", &[&[PUBLIC], &[PRIVATE]])]);
    let client = client(names.clone());
    let uri = |path: &str| format!("http://rebind.test:{}{path}", server.port);
    assert!(send(&client, get(uri("/")), policy(false)).await.is_ok());
    idle(&client, 1).await;
    // The connection to the checked address serves without another resolution.
    assert!(send(&client, get(uri("/close")), policy(false)).await.is_ok());
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    // A new connection resolves anew and meets the private answer.
    idle(&client, 0).await;
    while names.asked.load(Ordering::Relaxed) == 1 {
        let outcome = send(&client, get(uri("/")), policy(false)).await;
        assert!(outcome == DENIED || names.asked.load(Ordering::Relaxed) == 1);
    }
    assert_eq!(send(&client, get(uri("/")), policy(false)).await, DENIED);
}

#[tokio::test]
async fn one_private_answer_spoils_the_others() {
    let server = serve("127.0.0.2", None).await;
    let client = client(Names::new(&[
        ("mixed.test", &[&[PUBLIC, PRIVATE]]),
        ("mixed2.test", &[&[PRIVATE, PUBLIC]]),
        ("empty.test", &[&[]]),
    ]));
    for name in ["mixed.test", "mixed2.test"] {
        let uri = format!("http://{name}:{}/", server.port);
        assert_eq!(send(&client, get(uri), policy(false)).await, DENIED);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
    // With permission, addresses are tried in order: nothing listens on the private one.
    let uri = format!("http://mixed2.test:{}/", server.port);
    assert!(send(&client, get(uri), policy(true)).await.is_ok());
    assert_eq!(
        send(&client, get("http://empty.test/"), policy(true)).await,
        Err(OutboundErrorKind::DnsFailed)
    );
}

#[tokio::test]
async fn redirects_are_returned_or_followed_under_the_same_checks() {
    let public = serve("127.0.0.2", None).await;
    let private = serve("127.0.0.1", None).await;
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]]), ("inside.test", &[&[PRIVATE]])]));
    let base = format!("http://site.test:{}", public.port);
    let timeouts = OutboundTimeouts::default();
    let follow = async |request| {
        let response = client.send_following(request, policy(false), timeouts, 3).await;
        match response {
            Ok(response) => {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                Ok(String::from_utf8(body.to_vec()).unwrap())
            }
            Err(failure) => Err(failure.kind),
        }
    };

    let request = get(format!("{base}/redirect?/there"));
    let response = client.send(request, policy(false), timeouts).await.unwrap();
    assert_eq!(response.status(), 302);
    assert!(
        follow(get(format!("{base}/redirect?/there"))).await.unwrap().starts_with("GET /there")
    );

    for target in [
        format!("http://127.0.0.1:{}/", private.port),
        format!("http://0x7f.1:{}/", private.port),
        format!("http://[::ffff:127.0.0.1]:{}/", private.port),
        format!("http://inside.test:{}/", private.port),
        format!("//inside.test:{}/", private.port),
        "http://169.254.169.254/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let outcome = follow(get(format!("{base}/redirect?{target}"))).await;
        assert_eq!(outcome, DENIED, "{target}");
    }
    assert_eq!(private.connections.load(Ordering::Relaxed), 0);

    let endless =
        follow(get(format!("{base}/redirect?redirect?redirect?redirect?redirect?redirect")));
    assert_eq!(endless.await, Err(OutboundErrorKind::TooManyRedirects));

    let post = |path: &str| {
        Request::post(format!("{base}{path}"))
            .header("authorization", "secret")
            .body(Body::from("payload"))
            .unwrap()
    };
    assert!(follow(post("/redirect?/there")).await.unwrap().starts_with("GET /there"));
    let kept = follow(post("/keep?/there")).await.unwrap();
    assert!(kept.starts_with("POST /there") && kept.ends_with("body=payload"), "{kept}");
    assert!(kept.contains("secret"), "{kept}");
    let elsewhere = serve("127.0.0.2", None).await;
    let moved = follow(post(&format!("/keep?http://site.test:{}/", elsewhere.port))).await.unwrap();
    assert!(moved.ends_with("body=payload") && !moved.contains("secret"), "{moved}");
}

#[tokio::test]
async fn connections_are_reused_by_their_owner_only() {
    let server = serve("127.0.0.2", None).await;
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let uri = format!("http://site.test:{}/", server.port);
    for _ in 0..5 {
        send(&client, get(&uri), policy(false)).await.unwrap();
        idle(&client, 1).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    let other = Arc::new(OutboundPolicy { owner: "other".into(), ..(*policy(false)).clone() });
    send(&client, get(&uri), other).await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    // A body that is not read takes its connection with it.
    idle(&client, 2).await;
    let request = get(format!("http://site.test:{}/pause", server.port));
    drop(client.send(request, policy(false), OutboundTimeouts::default()).await.unwrap());
    assert_eq!(client.inner.pool.waiting(), 1);
    send(&client, get(&uri), policy(false)).await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
}

#[test]
fn connections_stay_with_their_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (serving, first, second) = (
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
        runtime(),
        runtime(),
    );
    let server = serving.block_on(serve("127.0.0.2", None));
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let uri = format!("http://site.test:{}/", server.port);
    for round in 0..3 {
        for (place, runtime) in [&first, &second].into_iter().enumerate() {
            runtime.block_on(async {
                send(&client, get(&uri), policy(false)).await.unwrap();
                idle(&client, if round == 0 { place + 1 } else { 2 }).await;
            });
        }
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    drop(first);
    assert_eq!(client.inner.pool.waiting(), 1, "a runtime takes its connections with it");
    second.block_on(async { send(&client, get(&uri), policy(false)).await.unwrap() });
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn waiting_connections_are_closed() {
    let server = serve("127.0.0.2", None).await;
    let options = ClientOptions {
        resolver: Names::new(&[("site.test", &[&[PUBLIC]])]),
        idle_timeout: Duration::from_millis(20),
        ..ClientOptions::default()
    };
    let client = GuardedClient::with_judgement(options, judge).unwrap();
    let uri = format!("http://site.test:{}/", server.port);
    send(&client, get(uri), policy(false)).await.unwrap();
    idle(&client, 1).await;
    idle(&client, 0).await;
}

#[tokio::test]
async fn headers_of_the_connection_stay_behind() {
    let server = serve("127.0.0.2", None).await;
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let request = Request::post(format!("http://site.test:{}/x?y", server.port))
        .header("host", "evil.test")
        .header("connection", "close, x-named")
        .header("x-named", "1")
        .header("keep-alive", "timeout=1")
        .header("proxy-authorization", "Basic x")
        .header("te", "gzip, trailers")
        .header("upgrade", "websocket")
        .header("transfer-encoding", "gzip")
        .header("expect", "100-continue")
        .header("content-length", "9999")
        .header("x-kept", "1")
        .body(Body::from("payload"))
        .unwrap();
    let seen = send(&client, request, policy(false)).await.unwrap();
    for gone in ["evil", "x-named", "keep-alive", "proxy", "gzip", "upgrade", "expect"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.contains("\"content-length\": \"7\""), "{seen}");
    assert!(seen.contains("x-kept") && seen.contains("\"te\": \"trailers\""), "{seen}");
    assert!(seen.contains(&format!("\"host\": \"site.test:{}\"", server.port)), "{seen}");
    assert!(seen.ends_with("body=payload"), "{seen}");

    let request = get(format!("http://site.test:{}/hops", server.port));
    let response = client.send(request, policy(false), OutboundTimeouts::default()).await.unwrap();
    assert!(response.headers().contains_key("x-kept"));
    assert!(!response.headers().contains_key("keep-alive"));
}

#[tokio::test]
async fn bodies_and_trailers_stream_both_ways() {
    let server = serve("127.0.0.2", None).await;
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let request = get(format!("http://site.test:{}/trailers", server.port));
    let mut request = request;
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let response = client.send(request, policy(false), OutboundTimeouts::default()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "42");

    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"one "))),
        Ok(Frame::data(Bytes::from_static(b"two"))),
        Ok(Frame::trailers(trailers)),
    ];
    let request = Request::post(format!("http://site.test:{}/", server.port))
        .header("trailer", "x-sum")
        .body(Body::stream(StreamBody::new(stream::iter(frames))))
        .unwrap();
    let seen = send(&client, request, policy(false)).await.unwrap();
    assert!(seen.ends_with("body=one two") && seen.contains("\"x-sum\": \"7\""), "{seen}");

    let broken = stream::iter([
        Ok(Frame::data(Bytes::from_static(b"one "))),
        Err(BodyError::new(squall_types::ErrorCode::Cancelled, "gone")),
    ]);
    let request = Request::post(format!("http://site.test:{}/", server.port))
        .body(Body::stream(StreamBody::new(broken)))
        .unwrap();
    let outcome = send(&client, request, policy(false)).await;
    assert_eq!(outcome, Err(OutboundErrorKind::RequestBody));
}

#[tokio::test]
async fn silence_times_out_in_every_phase() {
    let server = serve("127.0.0.2", None).await;
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let timeouts = OutboundTimeouts {
        first_byte: Duration::from_millis(30),
        between_bytes: Duration::from_millis(30),
        ..OutboundTimeouts::default()
    };
    let request = get(format!("http://site.test:{}/silent", server.port));
    let failure = client.send(request, policy(false), timeouts).await.unwrap_err();
    assert_eq!(failure.kind, OutboundErrorKind::ResponseTimeout);

    let request = get(format!("http://site.test:{}/pause", server.port));
    let response = client.send(request, policy(false), timeouts).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let failure = body.frame().await.unwrap().unwrap_err();
    assert_eq!(failure.code, squall_types::ErrorCode::OutboundFailed);

    // A listener that never speaks TLS.
    let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let timeouts =
        OutboundTimeouts { connect: Duration::from_millis(30), ..OutboundTimeouts::default() };
    let request = get(format!("https://site.test:{}/", silent.local_addr().unwrap().port()));
    let failure = client.send(request, policy(false), timeouts).await.unwrap_err();
    assert_eq!(failure.kind, OutboundErrorKind::ConnectionTimeout);

    struct Never;
    impl Resolve for Never {
        fn resolve(&self, _: &str, _: u16) -> ResolveFuture {
            Box::pin(std::future::pending())
        }
    }
    let options = ClientOptions { resolver: Arc::new(Never), ..ClientOptions::default() };
    let client = GuardedClient::new(options).unwrap();
    let failure = client.send(get("http://site.test/"), policy(false), timeouts).await.unwrap_err();
    assert_eq!(failure.kind, OutboundErrorKind::DnsTimeout);
}

#[tokio::test]
async fn a_closed_port_and_a_foreign_protocol_are_told_apart() {
    let client = client(Names::new(&[("site.test", &[&[PUBLIC]])]));
    let closed = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap().port();
    let outcome = send(&client, get(format!("http://site.test:{closed}/")), policy(false)).await;
    assert_eq!(outcome, Err(OutboundErrorKind::ConnectionRefused));

    let foreign = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = foreign.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = foreign.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp ready\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = send(&client, get(format!("http://site.test:{port}/")), policy(false)).await;
    assert_eq!(outcome, Err(OutboundErrorKind::HttpProtocol));
}

/// An authority of our own and a server certificate for `names`.
fn certificates(names: &[&str]) -> (CertificateDer<'static>, CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    (authority.der().clone(), certificate.der().clone(), key)
}

#[tokio::test]
async fn tls_is_verified_and_alpn_chooses_the_protocol() {
    let (authority, certificate, key) = certificates(&["site.test", "127.0.0.2"]);
    let names = Names::new(&[("site.test", &[&[PUBLIC]]), ("wrong.test", &[&[PUBLIC]])]);
    let options = ClientOptions {
        resolver: names.clone(),
        extra_roots: vec![authority],
        ..ClientOptions::default()
    };
    let trusting = GuardedClient::with_judgement(options, judge).unwrap();
    for (alpn, version) in [(&b"h2"[..], "HTTP/2.0"), (b"http/1.1", "HTTP/1.1"), (b"", "HTTP/1.1")]
    {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] };
        let server = serve("127.0.0.2", Some(TlsAcceptor::from(Arc::new(config)))).await;
        let request = || {
            Request::post(format!("https://site.test:{}/x?y", server.port))
                .header("host", "evil.test")
                .body(Body::from("payload"))
                .unwrap()
        };
        let seen = send(&trusting, request(), policy(false)).await.unwrap();
        assert!(seen.starts_with(&format!("POST /x?y {version}")), "{seen}");
        assert!(seen.contains(&format!("site.test:{}", server.port)), "{seen}");
        assert!(seen.ends_with("body=payload") && !seen.contains("evil"), "{seen}");
        if alpn == b"h2" {
            // Requests at the same time share one connection.
            let requests = (0..10).map(|_| send(&trusting, request(), policy(false)));
            for seen in futures_util::future::join_all(requests).await {
                seen.unwrap();
            }
            assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        }

        let by_address = get(format!("https://127.0.0.2:{}/", server.port));
        send(&trusting, by_address, policy(false)).await.unwrap();
        let wrong_name = get(format!("https://wrong.test:{}/", server.port));
        let outcome = send(&trusting, wrong_name, policy(false)).await;
        assert_eq!(outcome, Err(OutboundErrorKind::TlsCertificate));
        let untrusting = client(names.clone());
        let outcome = send(&untrusting, request(), policy(false)).await;
        assert_eq!(outcome, Err(OutboundErrorKind::TlsCertificate));
    }
}

#[tokio::test]
async fn what_is_dialled_is_under_the_same_guard() {
    use squall_types::dial::{Dial as _, Dialed, Endpoint, EndpointTls, Offer};

    let (authority, certificate, key) = certificates(&["site.test"]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = serve("127.0.0.2", Some(TlsAcceptor::from(Arc::new(config)))).await;
    let names = Names::new(&[
        ("site.test", &[&[PUBLIC]]),
        ("other.test", &[&[PUBLIC]]),
        ("mixed.test", &[&[PUBLIC, PRIVATE]]),
    ]);
    let options =
        ClientOptions { resolver: names, extra_roots: vec![authority], ..ClientOptions::default() };
    let client = GuardedClient::with_judgement(options, judge).unwrap();
    let endpoint = |host: &str, allow_private: bool| Endpoint {
        host: host.to_owned(),
        port: server.port,
        allow_private,
        tls: None,
    };

    let denied = client.resolve(&endpoint("mixed.test", false)).await.unwrap_err();
    assert_eq!(denied.kind, OutboundErrorKind::Denied);
    assert_eq!(client.resolve(&endpoint("mixed.test", true)).await.unwrap().len(), 2);
    for form in ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let denied = client.resolve(&endpoint(form, false)).await.unwrap_err();
        assert_eq!(denied.kind, OutboundErrorKind::Denied, "{form}");
    }
    // Whatever the caller believes that the name means.
    let private = SocketAddr::from((PRIVATE, server.port));
    let denied = client.open(&endpoint("site.test", false), private).await.err().unwrap();
    assert_eq!(denied.kind, OutboundErrorKind::Denied);

    let address = SocketAddr::from((PUBLIC, server.port));
    let encrypted = |host: &str, insecure: bool, name: Option<&str>, offer: Offer| {
        let server_name = name.map(str::to_owned);
        let tls = Some(EndpointTls { server_name, insecure, offer });
        client.open(&Endpoint { tls, ..endpoint(host, false) }, address)
    };
    for (offer, expected) in [(Offer::Either, true), (Offer::Http2, true), (Offer::Http1, false)] {
        let dialed = encrypted("site.test", false, None, offer).await.unwrap();
        assert!(matches!(dialed, Dialed::Tls { http2, .. } if http2 == expected), "{offer:?}");
    }
    let wrong = encrypted("other.test", false, None, Offer::Either).await.err().unwrap();
    assert_eq!(wrong.kind, OutboundErrorKind::TlsCertificate);
    encrypted("other.test", false, Some("site.test"), Offer::Either).await.unwrap();
    encrypted("other.test", true, None, Offer::Either).await.unwrap();
}
