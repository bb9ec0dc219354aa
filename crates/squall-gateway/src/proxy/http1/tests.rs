//! What an upstream may say, and how it may come.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;
use squall_types::{Body, BodyError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::head::HeadReader;
use super::*;
use crate::turn::Tcp;

/// What a reader makes of one response: status, headers that are kept, body, trailers,
/// and what is left behind it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    keep_alive: bool,
    left: Vec<u8>,
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut pairs: Vec<_> = headers.iter().map(pair).collect();
    pairs.sort();
    pairs
}

/// Feeds the pieces one after the other; the connection ends behind the last.
fn read_pieces(pieces: &[&[u8]], to_head: bool) -> Result<Option<Read>, &'static str> {
    let mut buffer = BytesMut::new();
    let mut heads = HeadReader::default();
    let mut head: Option<(ResponseHead, Decoder)> = None;
    let mut body = Vec::new();
    let mut trailers = HeaderMap::new();
    for (place, piece) in pieces.iter().chain([&&b""[..]]).enumerate() {
        buffer.extend_from_slice(piece);
        let at_end = place == pieces.len();
        while head.is_none() {
            match heads.next(&mut buffer, to_head).map_err(|error| error.0)? {
                Some(found) if found.status.is_informational() => {}
                Some(found) => {
                    let decoder = Decoder::new(found.framing);
                    head = Some((found, decoder));
                }
                None => break,
            }
        }
        let Some((_, decoder)) = &mut head else { continue };
        loop {
            match decoder.next(&mut buffer, at_end).map_err(|error| error.0)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(found) => trailers = found,
                Piece::Unfinished | Piece::End => break,
            }
        }
    }
    Ok(head.filter(|(_, decoder)| decoder.remaining() == Some(0)).map(|(head, _)| Read {
        status: head.status.as_u16(),
        headers: pairs(&head.headers),
        body,
        trailers: pairs(&trailers),
        keep_alive: head.keep_alive,
        left: buffer.to_vec(),
    }))
}

/// However the bytes are divided, the same is read.
#[track_caller]
fn read(response: &[u8], to_head: bool) -> Result<Option<Read>, &'static str> {
    let read_pieces = |pieces: &[&[u8]]| read_pieces(pieces, to_head);
    let whole = read_pieces(&[response]);
    for place in 0..=response.len() {
        let (first, second) = response.split_at(place);
        let divided = read_pieces(&[first, second]);
        // Where there are two things wrong, the division decides which is found.
        assert!(divided == whole || divided.is_err() && whole.is_err(), "{place}: {divided:?}");
    }
    let single: Vec<&[u8]> = response.chunks(1).collect();
    let single = read_pieces(&single);
    assert!(single == whole || single.is_err() && whole.is_err(), "byte by byte");
    whole
}

#[track_caller]
fn good(response: &str, status: u16, body: &str, keep_alive: bool, left: &str) -> Read {
    let read = read(response.as_bytes(), false).unwrap().expect("a whole response");
    let found = (read.status, read.body.as_slice(), read.keep_alive, read.left.as_slice());
    assert_eq!(found, (status, body.as_bytes(), keep_alive, left.as_bytes()), "{response:?}");
    read
}

#[test]
fn every_framing_is_read_to_its_end_and_not_beyond() {
    good("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true, "");
    good("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", 200, "hello", true, "HTTP");
    good("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true, "");
    good("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end", false, "");
    good("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, "");
    good("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", true, "");
    good("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", 200, "a", false, "");
    good("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", false, "");
    good(
        "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
        200,
        "a",
        true,
        "",
    );
    good(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n3;ext=\"a b\"\r\n wo\r\n0A \r\nrld1234567\r\n0\r\n\r\nrest",
        200,
        "hello world1234567",
        true,
        "rest",
    );
    let read = good(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
        200,
        "a",
        true,
        "",
    );
    assert_eq!(read.trailers.len(), 2);
}

#[test]
fn informational_responses_are_passed_over() {
    good(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        200,
        "a",
        true,
        "",
    );
}

#[test]
fn responses_to_head_have_no_body_whatever_they_say() {
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let read = read(response.as_bytes(), true).unwrap().unwrap();
        assert!(read.body.is_empty() && read.keep_alive, "{fields}");
    }
}

#[test]
fn what_belongs_to_the_connection_or_claims_an_identity_stays_here() {
    let read = good(
        "HTTP/1.1 200 OK\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nTE: x\r\nX-Squall-Client: root\r\nX-Kept: \t 1 \r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        200,
        "",
        true,
        "",
    );
    let expected =
        [("content-length", "0"), ("set-cookie", "a"), ("set-cookie", "b"), ("x-kept", "1")];
    let expected: Vec<_> =
        expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(read.headers, expected);
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let chunked = |body: &str| format!("{}{body}", head("Transfer-Encoding: chunked\r\n"));
    for response in [
        head("Content-Length: 5\r\nContent-Length: 5\r\n"),
        head("Content-Length: 5\r\nContent-Length: 6\r\n"),
        head("Content-Length: 5, 5\r\n"),
        head("Content-Length: +5\r\n"),
        head("Content-Length: -1\r\n"),
        head("Content-Length: 5x\r\n"),
        head("Content-Length: \r\n"),
        head("Content-Length: 99999999999999999999\r\n"),
        head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        head("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        head("Transfer-Encoding: gzip, chunked\r\n"),
        head("Transfer-Encoding: identity\r\n"),
        head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        head("X-A: 1\r\n folded\r\n"),
        head("X-A : 1\r\n"),
        head("X A: 1\r\n"),
        head(": 1\r\n"),
        head("no colon\r\n"),
        head("X-A: 1\n"),
        head("X-A: a\rb\r\n"),
        head("X-A: a\0b\r\n"),
        "HTTP/1.1 200 OK\n\n".to_owned(),
        "HTTP/1.1 200 OK\r\n\n".to_owned(),
        "\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2x0 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200OK\r\n\r\n".to_owned(),
        "HTTP/1.1  200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1\t200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 O\rK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 O\0K\r\n\r\n".to_owned(),
        head("Connection: a\rb\r\n"),
        head("Keep-Alive: a\0b\r\n"),
        "HTTP/1.2 200 OK\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello\n0\r\n\r\n"),
        chunked("5\r\nhello!\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked(" 5\r\nhello\r\n0\r\n\r\n"),
        chunked("-1\r\n\r\n0\r\n\r\n"),
        chunked("\r\nhello\r\n0\r\n\r\n"),
        chunked("fffffffffffffffff\r\n"),
        chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunked("5;a\0\r\nhello\r\n0\r\n\r\n"),
        chunked("5\rx\r\nhello\r\n0\r\n\r\n"),
        chunked("0\r\nContent-Length: 5\r\n\r\n"),
        chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        chunked("0\r\nSet-Cookie: a=b\r\n\r\n"),
        chunked("0\r\nX A: 1\r\n\r\n"),
        chunked("0\r\nX-A: 1\n\r\n"),
        chunked("0\r\n folded\r\n\r\n"),
    ] {
        assert!(read(response.as_bytes(), false).is_err(), "{response:?}");
    }
}

#[test]
fn a_body_that_ends_too_early_is_no_body() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(read(response.as_bytes(), false).is_err(), "{response:?}");
    }
    // There is not even a head.
    assert_eq!(read(b"HTTP/1.1 200 OK\r\nX: 1\r\n", false), Ok(None));
}

#[test]
fn heads_are_bounded() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(70 << 10));
    assert!(read_pieces(&[long.as_bytes()], false).is_err());
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(200));
    assert!(read_pieces(&[many.as_bytes()], false).is_err());
    let trailers = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: {}",
        "a".repeat(20 << 10)
    );
    assert!(read_pieces(&[trailers.as_bytes()], false).is_err());
}

/// A well-formed response, and what it must be read as.
fn response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunks = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..6);
    (chunks, any::<bool>(), any::<bool>()).prop_map(|(chunks, chunked, informational)| {
        let body = chunks.concat();
        let mut out = Vec::new();
        if informational {
            out.extend_from_slice(b"HTTP/1.1 102 Processing\r\n\r\n");
        }
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nx-a: 1\r\n");
        if chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in &chunks {
                out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        } else {
            out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            out.extend_from_slice(&body);
        }
        (out, body)
    })
}

proptest! {
    #[test]
    fn any_division_of_a_response_is_read_the_same(
        (bytes, body) in response(),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        piece in 1usize..700,
    ) {
        let mut all = bytes;
        all.extend_from_slice(&behind);
        let pieces: Vec<&[u8]> = all.chunks(piece).collect();
        let read = read_pieces(&pieces, false).unwrap().unwrap();
        prop_assert_eq!(read.body, body);
        prop_assert_eq!(read.left, behind);
    }

    /// A head with some bytes exchanged: what is read of it is what another reader reads.
    #[test]
    fn damaged_heads_are_read_as_httparse_reads_them(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = b"HTTP/1.1 200 Fine\r\nserver: x/1\r\nx-a:\t1 2 \r\nX-A: 3\r\nlast:\r\n\r\n".to_vec();
        for (place, byte) in &damage {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        if let Ok(Some(ours)) = HeadReader::default().next(&mut buffer, false) {
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut theirs = httparse::Response::new(&mut fields);
            let length = theirs.parse(&bytes).unwrap().unwrap();
            prop_assert_eq!(length, bytes.len() - buffer.len());
            prop_assert_eq!(Some(ours.status.as_u16()), theirs.code);
            for field in theirs.headers.iter() {
                let values = ours.headers.get_all(field.name);
                let kept = values.iter().any(|value| value.as_bytes() == field.value);
                prop_assert!(kept || !ours.headers.contains_key(field.name), "{}", field.name);
            }
            prop_assert!(ours.headers.len() <= theirs.headers.len());
        }
    }

    #[test]
    fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_pieces(&[&bytes], false);
        let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        chunked.extend_from_slice(&bytes);
        let _ = read_pieces(&[&chunked], false);
    }
}

const LIMITS: TimeLimits =
    TimeLimits { first_byte: Duration::from_secs(20), idle: Duration::from_secs(20), total: None };

/// A connection to a socket that the test holds the other end of.
async fn pair() -> (Box<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    (Connection::new(Stream::Tcp(Tcp::new(ours))), theirs)
}

fn exchange(connection: Box<Connection>, method: Method, body: Body) -> Exchange {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("accept", "*/*"), ("host", "wrong"), ("content-length", "99"), ("te", "x")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let head = RequestHead {
        method: &method,
        prefix: "/v1",
        path_and_query: "/a?b",
        host: b"origin.test",
        headers: &headers,
        forwarded: None,
        upgrade: None,
    };
    Exchange::new(connection, &head, body)
}

fn streamed(pieces: &[&'static [u8]]) -> Body {
    let frames: Vec<Result<Frame<Bytes>, BodyError>> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))).collect();
    Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn a_request_is_written_with_the_framing_of_its_body() {
    for (method, body, expected) in [
        (Method::GET, Body::empty(), "\r\n"),
        (Method::POST, Body::empty(), "content-length: 0\r\n\r\n"),
        (Method::POST, Body::from("hello"), "content-length: 5\r\n\r\nhello"),
        (
            Method::PUT,
            streamed(&[b"hello", b"", b" world"]),
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
    ] {
        let (connection, mut origin) = pair().await;
        let begin = format!("{method} /v1/a?b HTTP/1.1\r\nhost: origin.test\r\naccept: */*\r\n");
        let expected = begin + expected;
        let mut exchange = exchange(connection, method, body);
        let heads = exchange.head(&LIMITS);
        let serve = async {
            let mut seen = vec![0; expected.len()];
            origin.read_exact(&mut seen).await.unwrap();
            assert_eq!(String::from_utf8(seen).unwrap(), expected);
            origin.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let (head, ()) = tokio::join!(heads, serve);
        assert_eq!(head.unwrap().status, 200);
        assert!(exchange.into_reusable().is_some());
    }
}

#[tokio::test]
async fn a_large_body_goes_out_while_an_early_answer_comes_back() {
    let piece: &'static [u8] = Box::leak(vec![b'x'; 1 << 20].into_boxed_slice());
    let (connection, mut origin) = pair().await;
    let mut exchange = exchange(connection, Method::POST, streamed(&[piece; 8]));
    origin.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    // The origin has read nothing: the head comes all the same.
    let head = exchange.head(&LIMITS).await.unwrap();
    assert_eq!(head.status, 413);
    assert_eq!(&exchange.unread()[..], b"no");
    exchange.unread().clear();
    assert!(exchange.into_reusable().is_none(), "half of the request is still here");
}

#[tokio::test]
async fn an_answer_counts_even_when_the_rest_of_the_request_is_not_taken() {
    let piece: &'static [u8] = Box::leak(vec![b'x'; 4 << 20].into_boxed_slice());
    let (connection, mut origin) = pair().await;
    let mut exchange = exchange(connection, Method::POST, streamed(&[piece; 4]));
    let serve = async {
        let mut some = [0; 1000];
        origin.read_exact(&mut some).await.unwrap();
        origin.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        origin.shutdown().await.unwrap();
        origin
    };
    let (head, _origin) = tokio::join!(exchange.head(&LIMITS), serve);
    assert_eq!(head.unwrap().status, 401);
}

#[tokio::test]
async fn failures_before_the_head_are_told_apart() {
    // Closed at once.
    let (connection, origin) = pair().await;
    drop(origin);
    let failure = exchange(connection, Method::GET, Body::empty()).head(&LIMITS).await.unwrap_err();
    assert!(matches!(failure, Failure::Closed { .. }), "{failure}");

    // In the middle of the head.
    let (connection, mut origin) = pair().await;
    origin.write_all(b"HTTP/1.1 200").await.unwrap();
    drop(origin);
    let failure = exchange(connection, Method::GET, Body::empty()).head(&LIMITS).await.unwrap_err();
    assert!(matches!(failure, Failure::BrokeOff), "{failure}");

    // Never.
    let (connection, _origin) = pair().await;
    let limits = TimeLimits { first_byte: Duration::from_millis(20), ..LIMITS };
    let failure = exchange(connection, Method::GET, Body::empty()).head(&limits).await.unwrap_err();
    assert!(matches!(failure, Failure::Silent), "{failure}");

    // Not in the time of the request as a whole.
    let (connection, _origin) = pair().await;
    let limits = TimeLimits { total: Some(Instant::now() + Duration::from_millis(20)), ..LIMITS };
    let failure = exchange(connection, Method::GET, Body::empty()).head(&limits).await.unwrap_err();
    assert!(matches!(failure, Failure::OutOfTime), "{failure}");

    // A client that takes its time does not make the upstream silent.
    let (connection, mut origin) = pair().await;
    let limits = TimeLimits { first_byte: Duration::from_millis(20), ..LIMITS };
    let late = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Frame::data(Bytes::from_static(b"late")))
    });
    let mut exchange =
        exchange(connection, Method::POST, Body::stream(StreamBody::new(Box::pin(late))));
    let serve = async {
        let mut seen = Vec::new();
        while !seen.ends_with(b"0\r\n\r\n") {
            origin.read_buf(&mut seen).await.unwrap();
        }
        origin.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    let (head, ()) = tokio::join!(exchange.head(&limits), serve);
    assert_eq!(head.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_that_spoke_or_closed_while_idle_is_not_used_again() {
    let (mut connection, mut origin) = pair().await;
    assert!(connection.is_quiet() && connection.is_quiet_now());
    origin.write_all(b"HTTP/1.1 408 Too Slow\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!connection.is_quiet());

    let (mut connection, origin) = pair().await;
    drop(origin);
    // The event loop has not heard of it yet, and the system has.
    assert!(connection.is_quiet() && !connection.is_quiet_now());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!connection.is_quiet());
}
