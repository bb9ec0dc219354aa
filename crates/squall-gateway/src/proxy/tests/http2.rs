//! Origins that speak HTTP/2.

use super::*;

/// At once on a connection.
const STREAMS_OF_ECHO: u32 = 20;

/// An origin that echoes by HTTP/2, with trailers as gRPC has them.
async fn h2c_echo() -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let service =
                hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                    let seen = format!(
                        "{:?} {} te={:?}",
                        request.version(),
                        request.uri().path(),
                        request.headers().get("te").map(|te| te.to_str().unwrap().to_owned())
                    );
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    trailers.insert("x-seen", seen.parse().unwrap());
                    let body = request.into_body();
                    let end = futures_util::stream::once(async { Ok(Frame::trailers(trailers)) });
                    let echoed = http_body_util::BodyStream::new(body);
                    let frames = futures_util::StreamExt::chain(echoed, end);
                    Ok::<_, hyper::Error>(Response::new(StreamBody::new(frames)))
                });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .initial_connection_window_size(16 << 20)
                    .max_concurrent_streams(STREAMS_OF_ECHO)
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    });
    (address, connections)
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_over_one_connection() {
    let (address, connections) = h2c_echo().await;
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], ", \"protocol\": \"http2\"");
    let calls = (0..8).map(|number| {
        let pool = pool.clone();
        async move {
            let frames = [format!("ping {number} "), "pong".to_owned()];
            let frames = frames.map(|text| Ok::<_, BodyError>(Frame::data(Bytes::from(text))));
            let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
            let request = Request::post("/echo.Echo/Say")
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(body)
                .unwrap();
            let response = send(&pool, request).await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().unwrap().clone();
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["x-seen"], "HTTP/2.0 /echo.Echo/Say te=Some(\"trailers\")");
            assert_eq!(body.to_bytes(), format!("ping {number} pong"));
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(pool.targets()[0].in_flight(), 0);
}

#[tokio::test]
async fn clients_that_break_off_are_no_fault_of_the_target() {
    let (address, _) = h2c_echo().await;
    let bench = Bench::new();
    let more = ", \"protocol\": \"http2\", \"circuit_breaker\": {\"min_requests\": 4}";
    let pool = bench.pool(&[format!("http://{address}")], more);
    for _ in 0..8 {
        let (feed, body) = fed();
        let response = send(&pool, Request::post("/").body(body).unwrap()).await.unwrap();
        feed.send(Err(BodyError::new(ErrorCode::RequestBodyTooLarge, "too much"))).unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestBodyTooLarge);
    }
    let target = &pool.targets()[0];
    assert_eq!(target.counters.broken.load(Ordering::Relaxed), 0);
    assert!(!target.health.is_ejected(pool.now_ms()) && !pool.is_circuit_open());
}

#[tokio::test]
async fn a_connection_of_http_2_is_closed_when_it_has_had_nothing_to_do() {
    let (address, connections) = h2c_echo().await;
    let bench = Bench::new();
    let more = ", \"protocol\": \"http2\", \"keep_alive_ms\": 20";
    let pool = bench.pool(&[format!("http://{address}")], more);
    let tidy = || async {
        for _ in 0..3 {
            pool.tidy();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let (feed, body) = fed();
    let open = send(&pool, Request::post("/").body(body).unwrap()).await.unwrap();
    tidy().await;
    assert_eq!(ask(&pool, "POST").await.unwrap().0, 200);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "it has something to do");
    drop(feed);
    open.into_body().collect().await.unwrap();
    until("the streams to end", || pool.targets()[0].in_flight() == 0).await;
    tidy().await;
    assert_eq!(ask(&pool, "POST").await.unwrap().0, 200);
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

/// Heads without a status: nobody asks twice for those.
#[tokio::test]
async fn an_answer_by_http_2_that_can_not_be_understood_is_asked_for_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // HEADERS with END_STREAM and END_HEADERS: the field a with the value b.
        const HEADS: [u8; 9] = [0, 0, 5, 1, 5, 0, 0, 0, 1];
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            stream.write_all(&SETTINGS).await.unwrap();
            loop {
                let mut head = [0; 9];
                if stream.read_exact(&mut head).await.is_err() {
                    break;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
                if head[3] == 1 {
                    counted.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(&HEADS).await.unwrap();
                    stream.write_all(&[0, 1, b'a', 1, b'b']).await.unwrap();
                }
            }
        }
    });
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], ", \"protocol\": \"http2\"");
    assert_eq!(ask(&pool, "GET").await, Err(ErrorCode::UpstreamProtocol));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(pool.targets()[0].counters.malformed.load(Ordering::Relaxed), 1);
}

/// What is read slowly holds its stream; others have another connection.
#[tokio::test]
async fn a_target_that_allows_few_streams_gets_more_connections() {
    let (address, connections) = h2c_echo().await;
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], ", \"protocol\": \"http2\"");
    let mut open = Vec::new();
    for number in 0..2 * STREAMS_OF_ECHO + 1 {
        let (sender, body) = fed();
        let request = Request::post("/").body(body).unwrap();
        let answering = tokio::time::timeout(Duration::from_secs(10), send(&pool, request));
        let response = answering.await.unwrap_or_else(|_| panic!("{number} waits"));
        open.push((sender, response.unwrap()));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3);
    drop(open);
    // What was opened stays in use.
    until("all to end", || pool.targets()[0].in_flight() == 0).await;
    let request = Request::post("/").body(Body::full("a")).unwrap();
    let body = send(&pool, request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!((body.to_bytes().as_ref(), connections.load(Ordering::Relaxed)), (&b"a"[..], 3));
}

/// They share a connection, and its window.
#[tokio::test]
async fn clients_that_do_not_read_hold_nobody_else_up() {
    let (address, connections) = h2c_echo().await;
    let bench = Bench::new();
    let pool = bench.pool(&[format!("http://{address}")], ", \"protocol\": \"http2\"");
    let ask = || {
        let request = Request::post("/large").body(Body::full(vec![b'x'; 300_000]));
        send(&pool, request.unwrap())
    };
    let mut unread = Vec::new();
    for _ in 0..12 {
        unread.push(ask().await.unwrap());
    }
    let response = ask().await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), response.into_body().collect());
    assert_eq!(read.await.unwrap().unwrap().to_bytes().len(), 300_000);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
