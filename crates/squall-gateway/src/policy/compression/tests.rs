use std::collections::VecDeque;
use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use squall_types::gateway::CompressionAlgorithm::{Br, Gzip, Zstd};
use squall_types::{BodyError, ErrorCode};

use super::*;

const ALL: [CompressionAlgorithm; 3] = [Zstd, Br, Gzip];

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

/// What a decoder makes of a beginning: everything that was flushed.
fn decode_beginning(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // What is missing behind the beginning is an error for each of them.
    let _ = match coding {
        "zstd" => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        other => panic!("{other}"),
    };
    out
}

/// Text that compresses about as well as JSON does.
fn text(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 64);
    let mut number = 1u64;
    while out.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line = format!("{{\"id\":{},\"name\":\"user-{}\"}},", number >> 40, number >> 52);
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(bytes);
    out
}

/// A body in pieces; `None` makes the reader wait once.
struct Pieces(VecDeque<Option<Result<Frame<Bytes>, BodyError>>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.pop_front() {
            Some(Some(frame)) => Poll::Ready(Some(frame)),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

fn pieces<const N: usize>(pieces: [Option<&[u8]>; N]) -> Body {
    let frames =
        pieces.map(|piece| piece.map(|data| Ok(Frame::data(Bytes::copy_from_slice(data)))));
    Body::stream(Pieces(frames.into()))
}

fn rules() -> CompressionRules {
    CompressionRules::compile(&Compression { algorithms: ALL.to_vec(), ..Compression::default() })
        .unwrap()
}

fn accepts(coding: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(coding).unwrap());
    headers
}

fn html(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

struct Case {
    rules: CompressionRules,
    encoders: Arc<Encoders>,
}

impl Case {
    fn new() -> Self {
        Self { rules: rules(), encoders: Arc::default() }
    }

    fn apply(&self, accept: &str, mut response: Response<Body>) -> Response<Body> {
        let offer = self.rules.offer(&accepts(accept));
        self.rules.apply(offer, &Method::GET, &self.encoders, &mut response);
        response
    }
}

async fn collect(response: Response<Body>) -> (http::HeaderMap, Vec<u8>) {
    let (head, body) = response.into_parts();
    (head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn whole_bodies_come_back_from_every_decoder() {
    let case = Case::new();
    for coding in ["zstd", "br", "gzip"] {
        // Twice each, so that an encoder is used again; short, and beyond every batch.
        for bytes in [1_024, 5_000, 5_000, 60_000, 60_000, 1_000_000] {
            let original = text(bytes);
            let response = case.apply(coding, html(Body::full(original.clone())));
            assert_eq!(response.headers()[header::CONTENT_ENCODING], coding);
            let exact = response.body().size_hint().exact().is_some();
            let inline = inline_bytes_max(response_algorithm(coding));
            assert_eq!(exact, bytes <= inline, "{coding} {bytes}");
            let (_, compressed) = collect(response).await;
            assert!(compressed.len() < bytes / 2, "{coding} {bytes}: {}", compressed.len());
            assert_eq!(decode(coding, &compressed), original, "{coding} {bytes}");
        }
    }
    assert_eq!(case.encoders.used_bytes(), 0);
    // Those of brotli are not used again.
    assert_eq!(case.encoders.idle(), 2);
}

fn response_algorithm(coding: &str) -> CompressionAlgorithm {
    match coding {
        "zstd" => Zstd,
        "br" => Br,
        _ => Gzip,
    }
}

#[tokio::test]
async fn a_client_has_everything_that_came_before_a_wait() {
    for coding in ["zstd", "br", "gzip"] {
        let case = Case::new();
        for bytes in [10, 3_000, 40_000, 200_000] {
            let original = text(bytes);
            let body = pieces([Some(&original), None, Some(b"the rest")]);
            let mut body = case.apply(coding, html(body)).into_body();
            let mut received = Vec::new();
            while decode_beginning(coding, &received).len() < bytes {
                let frame = body.frame().await.expect("more comes before the rest").unwrap();
                received.extend_from_slice(&frame.into_data().unwrap());
                // The frame with the rest comes last and alone.
                assert!(!body.is_end_stream(), "{coding} {bytes}");
            }
            let rest = body.collect().await.unwrap().to_bytes();
            received.extend_from_slice(&rest);
            assert!(!rest.is_empty());
            let expected = [&original[..], b"the rest"].concat();
            assert_eq!(decode(coding, &received), expected, "{coding} {bytes}");
        }
    }
}

#[tokio::test]
async fn errors_and_trailers_pass_through() {
    let case = Case::new();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [
        Some(Ok(Frame::data(Bytes::from(text(100))))),
        None,
        Some(Ok(Frame::trailers(trailers.clone()))),
    ];
    let body = case.apply("gzip", html(Body::stream(Pieces(frames.into())))).into_body();
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(decode("gzip", &collected.to_bytes()), text(100));

    let broken = BodyError::new(ErrorCode::OutboundFailed, "gone");
    let frames = [Some(Ok(Frame::data(Bytes::from(text(100))))), None, Some(Err(broken))];
    let mut body = case.apply("br", html(Body::stream(Pieces(frames.into())))).into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err().code, ErrorCode::OutboundFailed);
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(case.encoders.used_bytes(), 0);
}

#[tokio::test]
async fn a_guard_lasts_as_long_as_the_compressed_body() {
    let case = Case::new();
    for bytes in [2_000, 100_000] {
        let guard = Arc::new(());
        let body = Body::full(text(bytes)).with_guard(guard.clone());
        let response = case.apply("zstd", html(body));
        assert_eq!(Arc::strong_count(&guard), 2, "{bytes}");
        collect(response).await;
        assert_eq!(Arc::strong_count(&guard), 1, "{bytes}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_to_its_end_gives_everything_back() {
    let case = Case::new();
    for coding in ["zstd", "br", "gzip"] {
        let guard = Arc::new(());
        let body = Body::full(text(1_000_000)).with_guard(guard.clone());
        let mut body = case.apply(coding, html(body)).into_body();
        assert!(body.frame().await.unwrap().is_ok());
        assert!(case.encoders.used_bytes() > 0);
        drop(body);
        assert_eq!(Arc::strong_count(&guard), 1);
    }
    // What is being compressed elsewhere ends first.
    for _ in 0..1_000 {
        if case.encoders.used_bytes() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(case.encoders.used_bytes(), 0);
}

#[tokio::test]
async fn memory_of_encoders_is_bounded() {
    let case = Case { rules: rules(), encoders: Arc::new(Encoders::with_memory(4 << 20)) };
    let open: Vec<_> =
        (0..5).map(|_| case.apply("zstd", html(Body::full(text(100_000))))).collect();
    let compressed = open.iter().filter(|one| one.headers().contains_key("content-encoding"));
    assert_eq!(compressed.count(), 2);
    // A cache must know that another client may get it compressed.
    assert!(open.iter().all(|one| one.headers()["vary"] == "accept-encoding"));
    for response in open {
        collect(response).await;
    }
    let again = case.apply("zstd", html(Body::full(text(2_000))));
    assert!(again.headers().contains_key("content-encoding"));
    let mut metrics = String::new();
    case.encoders.write_metrics(&mut metrics);
    assert!(metrics.contains("squall_compression_responses_total{coding=\"zstd\"} 3\n"));
    assert!(metrics.contains("squall_compression_refused_total 3\n"), "{metrics}");
    assert!(metrics.contains("squall_compression_memory_bytes 0\n"), "{metrics}");
}

/// Applies the rules for a client that takes gzip; whether it was compressed, and what it
/// varies by.
#[track_caller]
fn check(change: impl FnOnce(&mut Response<Body>), compressed: bool, varies: bool) {
    let mut response = html(Body::full(text(2_000)));
    change(&mut response);
    let response = Case::new().apply("gzip", response);
    let headers = response.headers();
    let found = headers.get("content-encoding").is_some_and(|coding| coding == "gzip");
    assert_eq!(found, compressed, "{headers:?}");
    let vary = headers.get("vary").is_some_and(|vary| vary == "accept-encoding");
    assert_eq!(vary, varies, "{headers:?}");
}

fn with(name: &'static str, value: &'static str) -> impl FnOnce(&mut Response<Body>) {
    move |response| drop(response.headers_mut().insert(name, HeaderValue::from_static(value)))
}

fn status(status: u16) -> impl FnOnce(&mut Response<Body>) {
    move |response| *response.status_mut() = StatusCode::from_u16(status).unwrap()
}

#[test]
fn what_must_not_be_compressed_is_not() {
    check(|_| {}, true, true);
    check(status(404), true, true);
    check(status(206), false, false);
    check(status(204), false, false);
    check(status(205), false, false);
    check(status(304), false, true);
    check(status(101), false, false);
    check(with("content-encoding", "br"), false, false);
    check(with("content-encoding", "identity"), false, false);
    check(with("cache-control", "public, No-Transform"), false, false);
    check(with("cache-control", "public"), true, true);
    check(with("content-range", "bytes 0-9/100"), false, false);
    check(with("content-digest", "sha-256=:AA==:"), false, false);
    check(with("content-md5", "AA=="), false, false);
    check(with("content-type", "text/event-stream"), false, false);
    check(with("content-type", "Text/Event-Stream; charset=utf-8"), false, false);
    check(with("content-type", "image/png"), false, false);
    let image_unchanged = |response: &mut Response<Body>| {
        status(304)(response);
        with("content-type", "image/png")(response);
    };
    check(image_unchanged, false, false);
    check(with("content-type", "application/grpc"), false, false);
    check(with("content-type", "Application/JSON"), true, true);
    check(with("content-type", "application/problem+json; charset=utf-8"), true, true);
    check(with("content-type", "image/svg+xml"), true, true);
    check(|response| drop(response.headers_mut().remove("content-type")), false, false);
    check(|response| *response.body_mut() = Body::full(text(1_023)), false, false);
    check(|response| *response.body_mut() = Body::full(text(1_024)), true, true);
    check(|response| *response.body_mut() = Body::empty(), false, false);
    // Of a stream only what its head says is known.
    check(|response| *response.body_mut() = pieces([Some(b"short")]), true, true);
    check(
        |response| {
            *response.body_mut() = pieces([Some(b"short")]);
            response.headers_mut().insert("content-length", 5.into());
        },
        false,
        false,
    );
}

#[test]
fn a_client_that_takes_nothing_else_gets_short_bodies_compressed() {
    let case = Case::new();
    let short = || html(Body::full(text(30)));
    assert!(!case.apply("gzip", short()).headers().contains_key("content-encoding"));
    let forced = case.apply("gzip, identity;q=0", short());
    assert_eq!(forced.headers()["content-encoding"], "gzip");
    let hopeless = case.apply("identity;q=0", html(Body::full(text(2_000))));
    assert!(!hopeless.headers().contains_key("content-encoding"));
}

#[test]
fn heads_say_what_is_true_of_the_compressed_body() {
    let mut response = html(Body::full(text(2_000)));
    for (name, value) in [
        ("content-length", "2000"),
        ("accept-ranges", "bytes"),
        ("etag", "\"abc\""),
        ("vary", "Accept-Encoding, Cookie"),
    ] {
        with(name, value)(&mut response);
    }
    let headers = Case::new().apply("br", response).headers().clone();
    assert!(!headers.contains_key("content-length") && !headers.contains_key("accept-ranges"));
    assert_eq!(headers["etag"], "W/\"abc\"");
    assert_eq!(headers.get_all("vary").iter().count(), 1);

    let mut weak = html(Body::full(text(2_000)));
    with("etag", "W/\"abc\"")(&mut weak);
    assert_eq!(Case::new().apply("br", weak).headers()["etag"], "W/\"abc\"");
}

/// HEAD says what GET would, but for a length that is not known.
#[test]
fn a_head_alone_is_that_of_the_compressed_response() {
    let case = Case::new();
    let head = |coding: &str| {
        let mut response = html(Body::full(text(2_000)));
        for (name, value) in
            [("etag", "\"abc\""), ("content-length", "2000"), ("accept-ranges", "bytes")]
        {
            with(name, value)(&mut response);
        }
        let offer = case.rules.offer(&accepts(coding));
        case.rules.apply(offer, &Method::HEAD, &case.encoders, &mut response);
        assert_eq!(response.headers()["vary"], "accept-encoding");
        response
    };
    let (response, plain) = (head("gzip"), head("identity"));
    let headers = response.headers();
    assert_eq!(
        (&headers["content-encoding"], &headers["etag"]),
        (&"gzip".parse().unwrap(), &"W/\"abc\"".parse().unwrap())
    );
    assert!(!headers.contains_key("content-length") && !headers.contains_key("accept-ranges"));
    assert!(response.body().as_full().is_some_and(<[u8]>::is_empty));
    let headers = plain.headers();
    assert_eq!(
        (&headers["content-length"], &headers["etag"]),
        (&"2000".parse().unwrap(), &"\"abc\"".parse().unwrap())
    );
    assert!(!headers.contains_key("content-encoding"));
}

#[test]
fn a_compressed_body_is_confirmed_by_its_own_tag() {
    let check_tag = |tag: &'static str, known: &str, expected: &str| {
        let case = Case::new();
        let mut asked = accepts("gzip");
        for line in known.split('\n') {
            asked.append("if-none-match", HeaderValue::from_str(line).unwrap());
        }
        let mut response = Response::new(Body::empty());
        status(304)(&mut response);
        with("etag", tag)(&mut response);
        case.rules.apply(case.rules.offer(&asked), &Method::GET, &case.encoders, &mut response);
        assert_eq!(response.headers()["etag"], expected, "{known}");
    };
    check_tag("\"a, b\"", "W/\"a, b\"", "W/\"a, b\"");
    let check = |known, expected| check_tag("\"abc\"", known, expected);
    check("\"x\"\nW/\"abc\"", "W/\"abc\"");
    check("W/\"abc\"", "W/\"abc\"");
    check("\"x\", W/\"abc\"", "W/\"abc\"");
    check("\"abc\"", "\"abc\"");
    check("W/\"other\"", "\"abc\"");
    check("*", "\"abc\"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_division_of_a_body_comes_back(
        sizes in prop::collection::vec((0usize..70_000, any::<bool>()), 0..12),
        algorithm in 0usize..3,
    ) {
        let coding = ["zstd", "br", "gzip"][algorithm];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut frames = VecDeque::new();
            let mut expected = Vec::new();
            for (index, (size, waits)) in sizes.iter().enumerate() {
                let piece = text(size + index).split_off(index);
                expected.extend_from_slice(&piece);
                frames.push_back(Some(Ok(Frame::data(Bytes::from(piece)))));
                if *waits {
                    frames.push_back(None);
                }
            }
            let case = Case::new();
            let response = case.apply(coding, html(Body::stream(Pieces(frames))));
            let (headers, compressed) = collect(response).await;
            prop_assert_eq!(&headers["content-encoding"], coding);
            prop_assert_eq!(decode(coding, &compressed), expected);
            prop_assert_eq!(case.encoders.used_bytes(), 0);
            Ok(())
        })?;
    }
}
