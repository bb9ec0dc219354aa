//! The vectors of HTTP/1: bytes as they are sent, and what must become of them.

use super::{HOST, Vector};

/// A request that must never reach anybody.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: conformance.localhost\r\n\r\n";

fn vector(name: &'static str, send: impl Into<Vec<u8>>, decision: &'static str) -> Vector {
    Vector { name, send: send.into(), decision, origin: &[], absent: "" }
}

fn passes(name: &'static str, send: impl Into<Vec<u8>>, origin: &'static [&'static str]) -> Vector {
    Vector { origin, ..vector(name, send, "200") }
}

/// A request with these lines after its request line and Host.
fn with(request: &str, lines: &str, rest: &str) -> Vec<u8> {
    format!("{request} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{rest}").into_bytes()
}

fn get(target: &str) -> Vec<u8> {
    with(&format!("GET {target}"), "", "")
}

fn hosted(hosts: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\n{hosts}\r\n").into_bytes()
}

pub(super) fn framing() -> Vec<Vector> {
    let post = |lines: &str, body: &str| with("POST /a", lines, body);
    let refused = |name, lines: &str| {
        vector(name, with("POST /a", lines, &format!("0\r\n\r\n{SMUGGLED}")), "400")
    };
    let chunked = |body: &str| with("POST /a", "Transfer-Encoding: chunked\r\n", body);
    let hello: &[&str] = &["POST /a hello"];
    let inside = format!(
        "POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len()
    );
    let in_chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let body_of_smuggled: &[&str] =
        &["POST /a GET /smuggled HTTP/1.1\r\nHost: conformance.localhost"];
    vec![
        passes("no body", get("/a"), &["GET /a"]),
        passes("Content-Length", post("Content-Length: 5\r\n", "hello"), hello),
        passes("chunked", chunked("5\r\nhello\r\n0\r\n\r\n"), hello),
        passes("two chunks", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), hello),
        passes("chunk extensions", chunked("5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"), hello),
        passes("chunk size with leading zeros", chunked("0005\r\nhello\r\n000\r\n\r\n"), hello),
        passes(
            "GET with a body",
            with("GET /a", "Content-Length: 5\r\n", "hello"),
            &["GET /a hello"],
        ),
        passes(
            "Content-Length: 0, then a request",
            post("Content-Length: 0\r\n", "GET /b HTTP/1.1\r\nHost: conformance.localhost\r\n\r\n"),
            &["POST /a", "GET /b"],
        ),
        passes("two requests at once", [get("/a"), get("/b")].concat(), &["GET /a", "GET /b"]),
        passes(
            "empty lines before a request",
            [b"\r\n\r\n".to_vec(), get("/a")].concat(),
            &["GET /a"],
        ),
        passes("a request as a body", inside, body_of_smuggled),
        passes("a request as a chunk", chunked(&in_chunk), body_of_smuggled),
        passes(
            "Transfer-Encoding after a tab",
            with("POST /a", "Transfer-Encoding:\tchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            hello,
        ),
        passes(
            "Connection names Content-Length",
            post("Content-Length: 5\r\nConnection: content-length\r\n", "hello"),
            hello,
        ),
        passes(
            "Connection names Transfer-Encoding",
            with(
                "POST /a",
                "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            hello,
        ),
        passes("Connection names Host", with("GET /a", "Connection: host\r\n", ""), &["GET /a"]),
        refused(
            "Content-Length, then Transfer-Encoding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        refused(
            "Transfer-Encoding, then Content-Length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        refused("two equal Content-Lengths", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        refused("two different Content-Lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        refused("Content-Length: 5, 5", "Content-Length: 5, 5\r\n"),
        refused("Content-Length: +5", "Content-Length: +5\r\n"),
        refused("Content-Length: -1", "Content-Length: -1\r\n"),
        refused("Content-Length: 005", "Content-Length: 005\r\n"),
        refused("Content-Length: 0x5", "Content-Length: 0x5\r\n"),
        refused("Content-Length: 5 5", "Content-Length: 5 5\r\n"),
        refused("Content-Length without a value", "Content-Length:\r\n"),
        refused("Content-Length of 20 digits", "Content-Length: 99999999999999999999\r\n"),
        refused("Content-Length of 2^64 + 5", "Content-Length: 18446744073709551621\r\n"),
        refused("Transfer-Encoding: identity", "Transfer-Encoding: identity\r\n"),
        refused("Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n"),
        refused("Transfer-Encoding: chunked, identity", "Transfer-Encoding: chunked, identity\r\n"),
        refused("Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n"),
        refused("Transfer-Encoding: xchunked", "Transfer-Encoding: xchunked\r\n"),
        refused("Transfer-Encoding: chunked;q=1", "Transfer-Encoding: chunked;q=1\r\n"),
        refused("Transfer-Encoding: \"chunked\"", "Transfer-Encoding: \"chunked\"\r\n"),
        refused("Transfer-Encoding after a vertical tab", "Transfer-Encoding:\u{b}chunked\r\n"),
        refused(
            "two Transfer-Encodings",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        refused(
            "Transfer-Encoding with a space before the colon",
            "Transfer-Encoding : chunked\r\n",
        ),
        refused("Transfer-Encoding on a folded line", "X: a\r\n Transfer-Encoding: chunked\r\n"),
        refused(
            "Transfer_Encoding beside Content-Length",
            "Content-Length: 5\r\nTransfer_Encoding: chunked\r\n",
        ),
        vector(
            "Transfer-Encoding with HTTP/1.0",
            format!(
                "POST /a HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            "400",
        ),
        vector("chunk size +5", chunked(&format!("+5\r\nhello\r\n0\r\n\r\n{SMUGGLED}")), "broken"),
        vector("chunk size -1", chunked(&format!("-1\r\nhello\r\n0\r\n\r\n{SMUGGLED}")), "broken"),
        vector(
            "chunk size 0x5",
            chunked(&format!("0x5\r\nhello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "chunk size beyond 64 bits",
            chunked(&format!("10000000000000005\r\nhello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "chunk size without digits",
            chunked(&format!("\r\nhello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "chunk lines end without CR",
            chunked(&format!("5\nhello\n0\n\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "chunk longer than its size",
            chunked(&format!("5\r\nhellohello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "chunk without an end",
            chunked(&format!("5\r\nhello0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "LF in a chunk extension",
            chunked(&format!("5;a\nhello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
        vector(
            "CR in a chunk extension",
            chunked(&format!("5;a\rb\r\nhello\r\n0\r\n\r\n{SMUGGLED}")),
            "broken",
        ),
    ]
}

pub(super) fn trailers() -> Vec<Vector> {
    let chunked = |trailers: &str| {
        let body = format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
        with("POST /a", "Transfer-Encoding: chunked\r\n", &body)
    };
    let without = |name, trailers: &str| passes(name, chunked(trailers), &["POST /a hello"]);
    vec![
        without("Content-Length as a trailer", "Content-Length: 5\r\n"),
        without("Transfer-Encoding as a trailer", "Transfer-Encoding: chunked\r\n"),
        without("Host as a trailer", "Host: other.localhost\r\n"),
        without("Authorization as a trailer", "Authorization: Bearer stolen\r\n"),
        without("X-Forwarded-For as a trailer", "X-Forwarded-For: 6.6.6.6\r\n"),
        without("the gateway's own header as a trailer", "X-Squall-Client: admin\r\n"),
        vector("a trailer with a space before its colon", chunked("X : a\r\n"), "broken"),
    ]
}

pub(super) fn heads() -> Vec<Vector> {
    let refused = |name, lines: &str| vector(name, with("GET /a", lines, ""), "400");
    let line = |name, line: &str| vector(name, format!("{line}\r\nHost: {HOST}\r\n\r\n"), "400");
    let not_seen = |name, lines: &str, absent| Vector {
        absent,
        ..passes(name, with("GET /a", lines, ""), &["GET /a"])
    };
    vec![
        refused("a folded line", "X: a\r\n b\r\n"),
        refused("a header line ends without CR", "X: a\nY: b\r\n"),
        refused("CR inside a value", "X: a\rb\r\n"),
        refused("NUL inside a value", "X: a\0b\r\n"),
        refused("a space before the colon", "X : a\r\n"),
        refused("a space inside a name", "X Y: a\r\n"),
        refused("a name without letters", ": a\r\n"),
        refused("a line without a colon", "nonsense\r\n"),
        refused("a name that is not ASCII", "X\u{e9}: a\r\n"),
        passes("a value that is not ASCII", with("GET /a", "X: caf\u{e9}\r\n", ""), &["GET /a"]),
        vector("all lines end without CR", format!("GET /a HTTP/1.1\nHost: {HOST}\n\n"), "400"),
        line("two spaces in the request line", "GET  /a HTTP/1.1"),
        line("a tab in the request line", "GET\t/a HTTP/1.1"),
        line("a space after the version", "GET /a HTTP/1.1 "),
        line("a method that is no token", "GE(T /a HTTP/1.1"),
        line("no version", "GET /a"),
        line("HTTP/1.2", "GET /a HTTP/1.2"),
        line("HTTP/2.0 without its preface", "GET /a HTTP/2.0"),
        line("a version in lower case", "GET /a http/1.1"),
        line("CONNECT", "CONNECT conformance.localhost:80 HTTP/1.1"),
        vector(
            "100,000 bytes of header",
            with("GET /a", &format!("X: {}\r\n", "a".repeat(100_000)), ""),
            "431",
        ),
        vector("200 headers", with("GET /a", &"X: a\r\n".repeat(200), ""), "431"),
        refused("an underscore that shadows an identity", "X_Squall_Client: admin\r\n"),
        refused("an underscore that shadows the client's address", "X_Forwarded_For: 6.6.6.6\r\n"),
        refused("an underscore that shadows a header of the request", "X-A: 1\r\nX_A: 2\r\n"),
        not_seen("a borrowed identity", "X-Squall-Client: admin\r\n", "admin"),
        not_seen(
            "a borrowed address",
            "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
            "6.6.6.6",
        ),
        not_seen("a borrowed host", "X-Forwarded-Host: other.localhost\r\n", "other.localhost"),
        not_seen(
            "a header for this connection alone",
            "Connection: x-hop\r\nX-Hop: secret\r\n",
            "secret",
        ),
        not_seen(
            "an upgrade to HTTP/2",
            "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "AAMAAABkAAQAAP__",
        ),
        vector("TRACE", with("TRACE /a", "", ""), "405"),
        vector("an expectation that nobody knows", with("GET /a", "Expect: tea\r\n", ""), "417"),
    ]
}

pub(super) fn hosts() -> Vec<Vector> {
    let refused = |name, hosts: &str| vector(name, hosted(hosts), "400");
    vec![
        passes("upper case", hosted("Host: CONFORMANCE.localhost\r\n"), &["GET /a"]),
        passes("a port", hosted("Host: conformance.localhost:8080\r\n"), &["GET /a"]),
        passes("a final dot", hosted("Host: conformance.localhost.\r\n"), &["GET /a"]),
        refused("none", ""),
        vector(
            "none beside the absolute form",
            "GET http://conformance.localhost/a HTTP/1.1\r\n\r\n",
            "400",
        ),
        vector("none, with HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", "400"),
        refused("an empty one", "Host:\r\n"),
        refused("two equal ones", "Host: conformance.localhost\r\nHost: conformance.localhost\r\n"),
        refused("two different ones", "Host: conformance.localhost\r\nHost: other.localhost\r\n"),
        refused("a list", "Host: conformance.localhost, other.localhost\r\n"),
        refused("a user's name", "Host: user@conformance.localhost\r\n"),
        refused("a path", "Host: conformance.localhost/x\r\n"),
        refused("a port that is no number", "Host: conformance.localhost:http\r\n"),
        refused("a port beyond 65535", "Host: conformance.localhost:65536\r\n"),
        refused("two ports", "Host: conformance.localhost:80:80\r\n"),
        refused("a space before the colon", "Host : conformance.localhost\r\n"),
        refused("a byte that is not ASCII", "Host: conformanc\u{e9}.localhost\r\n"),
    ]
}

pub(super) fn targets() -> Vec<Vector> {
    let refused = |name, target: &str| vector(name, get(target), "400");
    let normal = |name, target: &str, origin| passes(name, get(target), origin);
    vec![
        normal("dot segments", "/x/../a/./b", &["GET /a/b"]),
        normal("encoded dot segments", "/x/%2e%2E/a", &["GET /a"]),
        normal("slashes in a row", "//a///b", &["GET /a/b"]),
        normal("encoded letters", "/%61", &["GET /a"]),
        normal("a query with dots and slashes", "/a?b=/../%2e%2e/", &["GET /a?b=/../%2e%2e/"]),
        normal("the absolute form", "http://conformance.localhost/a", &["GET /a"]),
        passes("OPTIONS *", with("OPTIONS *", "", ""), &["OPTIONS /"]),
        refused("dots that leave the root", "/../a"),
        refused("encoded dots that leave the root", "/%2e%2e/a"),
        refused("an encoded slash", "/a%2fb"),
        refused("an encoded backslash", "/a%5cb"),
        refused("a backslash", "/a\\b"),
        refused("an encoded NUL", "/a%00"),
        refused("a broken escape", "/a%z"),
        refused("a byte that is not ASCII", "/caf\u{e9}"),
        refused("a fragment", "/a#b"),
        refused("a space", "/a b"),
        refused("no slash at the beginning", "a"),
        refused("GET *", "*"),
        refused("the authority form without CONNECT", "conformance.localhost:80"),
        refused("the absolute form of another host", "http://other.localhost/a"),
        refused("the absolute form with a user's name", "http://user@conformance.localhost/a"),
        refused("the absolute form of another scheme", "ftp://conformance.localhost/a"),
        vector("9,000 bytes", get(&format!("/{}", "a".repeat(9_000))), "414"),
    ]
}
