//! A request that came whole and asks for nothing special.

use std::ops::Range;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::lines::{parse_length, trim};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The request, when `bytes` are one whole head in its strictest form (RFC 9112, sections 3 and 5)
/// and as much of a body as it announces, and nothing else; and whether its client wants no
/// other. `None` is no judgement: whatever it is then, hyper reads it.
pub(crate) fn read(bytes: &[u8], headers_max: usize) -> Option<(Request<Bytes>, bool)> {
    let head_bytes = match bytes.ends_with(HEAD_END) {
        // A body that ends so makes two heads of it.
        true => bytes.len(),
        false => memchr::memmem::find(bytes, HEAD_END)? + HEAD_END.len(),
    };
    // One line for the request, and an empty one.
    let fields = memchr::memchr_iter(b'\n', &bytes[..head_bytes]).count().checked_sub(2)?;
    if fields > headers_max {
        return None;
    }
    let mut head = Bytes::copy_from_slice(bytes);
    let body = head.split_off(head_bytes);
    let mut rest = 0..head.len();
    let mut announced = None;
    let mut request = Request::new(Bytes::new());
    (*request.method_mut(), *request.uri_mut()) = read_line(&head, next_line(&head, &mut rest)?)?;
    let mut headers = HeaderMap::with_capacity(fields);
    let mut is_last = false;
    for _ in 0..fields {
        let line = next_line(&head, &mut rest)?;
        // Nor is an empty line a field: there are two heads.
        let colon = line.start + memchr::memchr(b':', &head[line.clone()])?;
        let name = HeaderName::from_bytes(&head[line.start..colon]).ok()?;
        let value = trim(&head, colon + 1..line.end);
        match name {
            header::CONNECTION => is_last |= closes(&head[value.clone()])?,
            header::CONTENT_LENGTH if announced.is_some() => return None,
            header::CONTENT_LENGTH => announced = Some(length(&head[value.clone()])?),
            // They speak of a body in pieces, of trailers or of another protocol.
            header::TRANSFER_ENCODING
            | header::TRAILER
            | header::TE
            | header::EXPECT
            | header::UPGRADE => return None,
            _ => {}
        }
        headers.append(name, HeaderValue::from_maybe_shared(head.slice(value)).ok()?);
    }
    if body.len() != announced.unwrap_or(0) {
        return None;
    }
    *request.headers_mut() = headers;
    *request.body_mut() = body;
    // As many lines as were counted: the empty one is the last.
    next_line(&head, &mut rest)?.is_empty().then_some((request, is_last))
}

/// A Content-Length that can be read in one way.
fn length(value: &[u8]) -> Option<usize> {
    let length = parse_length(value).filter(|_| value == b"0" || !value.starts_with(b"0"))?;
    usize::try_from(length).ok()
}

/// The next line without its CR LF; `rest` is what comes behind it.
fn next_line(head: &[u8], rest: &mut Range<usize>) -> Option<Range<usize>> {
    let newline = rest.start + memchr::memchr(b'\n', &head[rest.clone()])?;
    let line = rest.start..newline.checked_sub(1).filter(|end| *end >= rest.start)?;
    rest.start = newline + 1;
    (head[line.end] == b'\r').then_some(line)
}

/// Of a common method, and a path.
fn read_line(head: &Bytes, line: Range<usize>) -> Option<(Method, Uri)> {
    const VERSION: &[u8] = b" HTTP/1.1";

    let space = line.start + memchr::memchr(b' ', &head[line.clone()])?;
    let method = match &head[line.start..space] {
        b"GET" => Method::GET,
        b"HEAD" => Method::HEAD,
        b"POST" => Method::POST,
        b"PUT" => Method::PUT,
        b"PATCH" => Method::PATCH,
        b"DELETE" => Method::DELETE,
        b"OPTIONS" => Method::OPTIONS,
        _ => return None,
    };
    let target = space + 1..line.end.checked_sub(VERSION.len()).filter(|end| *end > space)?;
    // A fragment would be dropped in silence.
    let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~') && *byte != b'#';
    let path = &head[target.clone()];
    if !path.starts_with(b"/")
        || !path.iter().all(is_plain)
        || !head[target.end..].starts_with(VERSION)
    {
        return None;
    }
    let path = PathAndQuery::from_maybe_shared(head.slice(target)).ok()?;
    Some((method, path.into()))
}

/// Whether a Connection field ends the connection. `None` where it is about anything else.
fn closes(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        return Some(false);
    }
    value.eq_ignore_ascii_case(b"close").then_some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100;

    #[test]
    fn a_common_request_is_read() {
        let (request, is_last) = read(
            b"GET /a/b?c=%20d HTTP/1.1\r\nHost: example.com\r\nX-Two:1\r\nx-two: \t2 \r\nx-none:\r\n\
              Connection: Keep-Alive\r\n\r\n",
            MAX,
        )
        .unwrap();
        assert_eq!(*request.method(), Method::GET);
        assert_eq!(*request.uri(), "/a/b?c=%20d");
        let headers = request.headers();
        assert_eq!(headers["host"], "example.com");
        assert_eq!(headers.get_all("x-two").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers["x-none"], "");
        assert_eq!(headers["connection"], "Keep-Alive");
        assert_eq!(headers.len(), 5);
        assert!(!is_last);
        assert!(read(b"OPTIONS / HTTP/1.1\r\n\r\n", MAX).is_some());
        let closing = b"GET / HTTP/1.1\r\nconnection: Close\r\nConnection: keep-alive\r\n\r\n";
        assert!(read(closing, MAX).unwrap().1);
    }

    #[test]
    fn a_body_that_came_with_its_head_is_read() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            let text =
                format!("{method} /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\r\n\nab");
            let (request, is_last) = read(text.as_bytes(), MAX).unwrap();
            assert_eq!((request.method().as_str(), is_last), (method, false));
            assert_eq!(request.headers()["content-length"], "5");
            assert_eq!(request.body(), &b"\r\n\nab"[..]);
        }
        for text in
            ["POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n\r\n"]
        {
            assert!(read(text.as_bytes(), MAX).unwrap().0.body().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_just_what_its_head_says_is_left_to_hyper() {
        for (fields, body) in [
            ("Content-Length: 3", "ab"),
            ("Content-Length: 1", "ab"),
            ("Content-Length: 0", "ab"),
            ("Host: a", "ab"),
            ("Content-Length: 02", "ab"),
            ("Content-Length: 00", ""),
            ("Content-Length: +2", "ab"),
            ("Content-Length: 2, 2", "ab"),
            ("Content-Length: 2\r\nContent-Length: 2", "ab"),
            ("Content-Length: 2\r\nContent-Length: 0", "ab"),
            ("Content-Length:", ""),
            ("Content-Length: 99999999999999999999", "ab"),
            ("Content-Length: 18446744073709551618", "ab"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "0\r\n\r\n"),
            ("Content-Length: 2\r\nExpect: 100-continue", "ab"),
            // It could be two heads.
            ("Content-Length: 4", "\r\n\r\n"),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{body}");
            assert!(read(text.as_bytes(), MAX).is_none(), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_left_to_hyper() {
        let left = |text: &str| assert!(read(text.as_bytes(), MAX).is_none(), "{text:?}");
        // Not whole, or more than one.
        for text in ["", "\r\n\r\n", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n"] {
            left(text);
        }
        left("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        left("GET / HTTP/1.1\r\n\r\nabc\r\n\r\n");
        left("GET / HTTP/1.1\r\n\r\n\r\n\r\n");
        left("\r\nGET / HTTP/1.1\r\n\r\n");
        // Lines that end otherwise, or hold an end for some.
        left("GET / HTTP/1.1\nA: b\r\n\r\n");
        left("GET / HTTP/1.1\r\nA: b\n\r\n");
        left("GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n");
        left("GET / HTTP/1.1\r\nA: b\0\r\n\r\n");
        // Other methods, targets and versions.
        left("TRACE / HTTP/1.1\r\n\r\n");
        left("get / HTTP/1.1\r\n\r\n");
        left("CONNECT a:1 HTTP/1.1\r\n\r\n");
        for target in ["", "*", "a", "http://a/", "/a#b", "/a b", "/\u{e4}", "/\t", "/<"] {
            left(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for line in
            ["GET /", "GET / HTTP/1.0", "GET / HTTP/1.1 ", "GET  / HTTP/1.1", "GET / http/1.1"]
        {
            left(&format!("{line}\r\nHost: a\r\n\r\n"));
        }
        // Fields that are not valid, or fold the line before.
        for field in ["A", ": b", "A : b", " A: b", "A: b\r\n c", "A: b\r\n\tc: d", "A\u{e4}: b"] {
            left(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        }
        // Fields that ask for something.
        for field in [
            "content-length: 5",
            "Transfer-Encoding: chunked",
            "Trailer: a",
            "TE: trailers",
            "Expect: 100-continue",
            "Upgrade: websocket",
            "Connection: close, x-a",
            "Connection: keep-alive, x-a",
        ] {
            left(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX + 1));
        left(&many);
    }

    /// Method, target and fields.
    type Parts = (String, String, Vec<(String, Vec<u8>)>);

    /// What httparse, which hyper reads with, makes of a head, and what it leaves.
    fn beside(bytes: &[u8]) -> Option<(Parts, &[u8])> {
        let mut fields = [httparse::EMPTY_HEADER; MAX];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(head_bytes) = request.parse(bytes).ok()? else {
            return None;
        };
        assert_eq!(request.version, Some(1));
        let fields = request.headers.iter();
        let fields = fields.map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
        let parts = (request.method?.to_owned(), request.path?.to_owned(), fields.collect());
        Some((parts, &bytes[head_bytes..]))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read(&bytes, MAX);
            let _ = read(&[b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat(), MAX);
        }

        /// What is read is read as hyper would.
        #[test]
        fn two_readers_agree(
            line in "(GET|POST) /[!-~]{0,8}( HTTP/1.1)?",
            fields in proptest::collection::vec("[a-cA-C:\r\n\t \u{0}-]{0,4}: ?[ -~\t\r\n]{0,6}", 0..4),
            lengths in proptest::collection::vec("Content-Length:[ 0]?[0-9]", 0..3),
            body in "[a\r\n]{0,9}",
        ) {
            let fields = fields.iter().chain(&lengths).map(|field| format!("{field}\r\n"));
            let text = format!("{line}\r\n{}\r\n{body}", fields.collect::<String>());
            if let Some((request, _)) = read(text.as_bytes(), MAX) {
                let read = (
                    request.method().to_string(),
                    request.uri().to_string(),
                    request.headers().iter()
                        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                        .collect::<Vec<_>>(),
                );
                let beside = beside(text.as_bytes());
                let ((method, path, mut fields), rest) = beside.expect("hyper refuses it");
                prop_assert_eq!(request.body(), rest);
                let announced = request.headers().get_all("content-length").iter();
                let announced: Vec<_> = announced.map(|length| length.to_str().unwrap()).collect();
                let length = rest.len().to_string();
                prop_assert!(announced == [&*length] || announced.is_empty() && rest.is_empty());
                // A map keeps fields of one name together.
                let mut kept = read.2;
                kept.sort();
                fields.sort();
                prop_assert_eq!((read.0, read.1, kept), (method, path, fields));
            }
        }
    }
}
