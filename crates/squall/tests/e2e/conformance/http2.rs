//! The vectors of HTTP/2: frames written by hand (RFC 9113), header blocks without
//! compression (RFC 7541, section 6.2.2), and a reader for the answers.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{HOST, PATIENCE, Vector};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const WHOLE: u8 = END_STREAM | END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Literals that are not indexed, names and values as they are.
fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A length of seven bits, or more of it (RFC 7541, section 5.1).
            if text.len() < 127 {
                block.push(text.len() as u8);
            } else {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn request<'a>(method: &'a str, path: &'a str) -> Fields<'a> {
    vec![(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)]
}

fn headers(stream: u32, flags: u8, fields: &Fields<'_>) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields.iter().copied()))
}

fn begin() -> Vec<u8> {
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    begin
}

fn vector(name: &'static str, frames: Vec<u8>, decision: &'static str) -> Vector {
    let send = [begin(), frames].concat();
    Vector { name, send, decision, origin: &[], absent: "" }
}

pub(super) fn pseudo_headers() -> Vec<Vector> {
    let fields =
        |name, fields: Fields<'_>, decision| vector(name, headers(1, WHOLE, &fields), decision);
    let replaced = |name, field: &'static str, value: &'static str, decision| {
        let mut all = request("GET", "/a");
        all.retain(|(name, _)| *name != field);
        if value != "absent" {
            all.push((field, value));
        }
        fields(name, all, decision)
    };
    let doubled = |name, field: &'static str, value: &'static str| {
        let mut all = request("GET", "/a");
        all.push((field, value));
        fields(name, all, "reset")
    };
    let and = |name, more: &[(&'static str, &'static str)], decision| {
        let mut all = request("GET", "/a");
        all.extend_from_slice(more);
        fields(name, all, decision)
    };
    let get_a = &["GET /a"];
    let passes = |vector: Vector| Vector { origin: get_a, ..vector };
    vec![
        passes(and("a plain request", &[], "200")),
        passes(and("Host equal to :authority", &[("host", HOST)], "200")),
        passes(fields(
            "Host in place of :authority",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a"), ("host", HOST)],
            "200",
        )),
        passes(and("te: trailers", &[("te", "trailers")], "200")),
        Vector {
            absent: "admin",
            ..passes(and("a borrowed identity", &[("x-squall-client", "admin")], "200"))
        },
        replaced("no :method", ":method", "absent", "reset"),
        replaced("no :scheme", ":scheme", "absent", "reset"),
        replaced("no :path", ":path", "absent", "reset"),
        replaced("an empty :path", ":path", "", "reset"),
        replaced("a :path without a slash", ":path", "a", "reset"),
        replaced("a :path with a space", ":path", "/a HTTP/1.1", "reset"),
        replaced("a :path with CR and LF", ":path", "/a\r\nX: 1", "reset"),
        replaced("a :path with an encoded slash", ":path", "/a%2fb", "400"),
        replaced("a :path that leaves the root", ":path", "/../a", "400"),
        replaced(":path is *", ":path", "*", "400"),
        replaced("a :method with a request in it", ":method", "GET /smuggled HTTP/1.1", "closed"),
        replaced(
            "an :authority with a user's name",
            ":authority",
            "user@conformance.localhost",
            "400",
        ),
        replaced("an :authority with CR and LF", ":authority", "a\r\nX: 1", "reset"),
        replaced("another scheme", ":scheme", "ftp", "400"),
        fields(
            "neither :authority nor Host",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a")],
            "400",
        ),
        and("Host that contradicts :authority", &[("host", "other.localhost")], "400"),
        and("Host twice", &[("host", HOST), ("host", HOST)], "400"),
        doubled("two :path", ":path", "/a"),
        doubled("two :method", ":method", "GET"),
        doubled("two :authority", ":authority", HOST),
        and("an unknown pseudo-header", &[(":protocol-x", "1")], "closed"),
        fields(
            "a pseudo-header behind a header",
            vec![
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", HOST),
                ("x", "1"),
                (":path", "/a"),
            ],
            "reset",
        ),
        and("a :status", &[(":status", "200")], "reset"),
        vector(
            "CONNECT",
            headers(1, END_HEADERS, &vec![(":method", "CONNECT"), (":authority", HOST)]),
            "400",
        ),
    ]
}

pub(super) fn fields() -> Vec<Vector> {
    let and = |name, field: &'static str, value: &'static str, decision| {
        let mut all = request("GET", "/a");
        all.push((field, value));
        vector(name, headers(1, WHOLE, &all), decision)
    };
    let post = |name, more: &[(&'static str, &'static str)], frames: Vec<u8>, decision| {
        let mut all = request("POST", "/a");
        all.extend_from_slice(more);
        vector(name, [headers(1, END_HEADERS, &all), frames].concat(), decision)
    };
    let hello = || frame(DATA, END_STREAM, 1, b"hello");
    let trailers =
        |fields: &Fields<'_>| [frame(DATA, 0, 1, b"hello"), headers(1, WHOLE, fields)].concat();
    let passes = |vector: Vector| Vector { origin: &["POST /a hello"], ..vector };
    vec![
        passes(post("a body", &[], hello(), "200")),
        passes(post("a body of the promised length", &[("content-length", "5")], hello(), "200")),
        passes(post(
            "framing as trailers",
            &[],
            trailers(&vec![("content-length", "5"), ("x-squall-client", "admin")]),
            "200",
        )),
        post("a body shorter than promised", &[("content-length", "6")], hello(), "broken"),
        post("a body longer than promised", &[("content-length", "4")], hello(), "broken"),
        post("two lengths", &[("content-length", "5"), ("content-length", "5")], hello(), "400"),
        post("a length that is no number", &[("content-length", "+5")], hello(), "broken"),
        passes(post("a :path as a trailer", &[], trailers(&vec![(":path", "/b")]), "200")),
        post("transfer-encoding: chunked", &[("transfer-encoding", "chunked")], hello(), "reset"),
        and("a name in upper case", "X-Upper", "1", "closed"),
        and("connection: close", "connection", "close", "reset"),
        and("keep-alive", "keep-alive", "1", "reset"),
        and("proxy-connection", "proxy-connection", "keep-alive", "reset"),
        and("upgrade", "upgrade", "h2c", "reset"),
        and("te: gzip", "te", "gzip", "reset"),
        and("CR and LF inside a value", "x", "a\r\nsmuggled: 1", "closed"),
        and("NUL inside a value", "x", "a\0b", "closed"),
        and("a colon inside a name", "x:y", "1", "closed"),
        and("a space inside a name", "x y", "1", "closed"),
        and("an empty name", "", "1", "closed"),
        and("an underscore that shadows an identity", "x_squall_client", "admin", "400"),
        and("a value that begins with a blank", "x-a", " b", "400"),
        and("a value that ends with a tab", "x-a", "b\t", "400"),
        vector(
            "200 headers",
            headers(1, WHOLE, &[request("GET", "/a"), vec![("x", "a"); 200]].concat()),
            "431",
        ),
    ]
}

pub(super) fn connections() -> Vec<Vector> {
    let get = |stream| headers(stream, WHOLE, &request("GET", "/a"));
    let any = |vector: Vector| Vector { origin: &["*"], ..vector };
    let resets: Vec<u8> = (0..1_000)
        .flat_map(|number| {
            let stream = 5 + 2 * number;
            [get(stream), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        })
        .collect();
    // A window beyond its limit makes the server reset the stream (MadeYouReset).
    let made_resets: Vec<u8> = (0..1_000)
        .flat_map(|number| {
            let stream = 5 + 2 * number;
            let window = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes());
            [get(stream), window].concat()
        })
        .collect();
    let open = headers(1, END_STREAM, &request("GET", "/a"));
    let large = "a".repeat(100_000);
    let mut large_fields = request("GET", "/a");
    large_fields.push(("x", &large));
    let large = block(large_fields);
    let mut large_frames = frame(HEADERS, END_STREAM, 1, &large[..16_000]);
    let rest: Vec<&[u8]> = large[16_000..].chunks(16_000).collect();
    for (number, chunk) in rest.iter().enumerate() {
        let last = if number + 1 == rest.len() { END_HEADERS } else { 0 };
        large_frames.extend(frame(CONTINUATION, last, 1, chunk));
    }
    vec![
        vector("100,000 bytes of header", large_frames, "431"),
        vector("headers on stream 0", headers(0, WHOLE, &request("GET", "/a")), "closed"),
        vector("headers on an even stream", headers(2, WHOLE, &request("GET", "/a")), "closed"),
        vector("data on a stream that was not opened", frame(DATA, 0, 1, b"hello"), "closed"),
        vector("a frame longer than agreed", frame(DATA, 0, 1, &[0; 20_000]), "closed"),
        vector("a header block that is no HPACK", frame(HEADERS, WHOLE, 1, &[0xff; 8]), "closed"),
        vector(
            "another frame inside a header block",
            [open.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            "closed",
        ),
        vector(
            "1,000 empty continuations",
            [open, frame(CONTINUATION, 0, 1, &[]).repeat(1_000)].concat(),
            "closed",
        ),
        any(vector("1,000 requests taken back (rapid reset)", resets, "closed")),
        any(vector("1,000 resets provoked (MadeYouReset)", made_resets, "closed")),
        vector("100,000 pings", frame(PING, 0, 0, &[0; 8]).repeat(100_000), "closed"),
        vector("100,000 empty settings", frame(SETTINGS, 0, 0, &[]).repeat(100_000), "closed"),
        vector(
            "100,000 priorities",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]).repeat(100_000),
            "closed",
        ),
    ]
}

/// What became of the first request and of the marked one behind it.
pub(super) struct Outcome {
    pub(super) decision: String,
    pub(super) marked: bool,
}

const FIRST: u32 = 1;
const MARKED: u32 = 3;

pub(super) fn send(address: SocketAddr, bytes: &[u8], marker: &str) -> Outcome {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let marked = headers(MARKED, WHOLE, &request("GET", marker));
    let (mut writer, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
    // Apart, as a server that answers each frame stops reading when nobody reads.
    let writing = std::thread::spawn(move || {
        // The server may have closed before everything was sent.
        if writer.write_all(&bytes).is_ok() {
            let _ = writer.write_all(&marked);
        }
    });
    let answers = read_answers(&mut stream);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    let decision = answers.streams.get(&FIRST).cloned();
    let ended = || if answers.ended { "closed" } else { "silence" }.to_owned();
    Outcome {
        decision: decision.unwrap_or_else(ended),
        marked: answers.streams.get(&MARKED).is_some_and(|status| status == "200"),
    }
}

#[derive(Default)]
struct Answers {
    /// A status, or `reset`.
    streams: BTreeMap<u32, String>,
    ended: bool,
    /// The one status that was not in the static table (RFC 7541, appendix A).
    indexed: String,
}

fn read_answers(stream: &mut TcpStream) -> Answers {
    let mut answers = Answers::default();
    let mut received = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !(answers.streams.contains_key(&FIRST) && answers.streams.contains_key(&MARKED)) {
        match stream.read(&mut buffer) {
            Ok(0) => answers.ended = true,
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) => {
                let quiet = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                answers.ended = !quiet.contains(&error.kind());
                return answers;
            }
        }
        while received.len() >= 9 {
            let length = usize::from(received[0]) << 16
                | usize::from(received[1]) << 8
                | usize::from(received[2]);
            if received.len() < 9 + length {
                break;
            }
            let frame: Vec<u8> = received.drain(..9 + length).collect();
            answers.take(&frame);
        }
        if answers.ended {
            return answers;
        }
    }
    // Frames behind the answers can not change them.
    std::thread::sleep(Duration::from_millis(1));
    answers
}

impl Answers {
    fn take(&mut self, frame: &[u8]) {
        let (kind, payload) = (frame[3], &frame[9..]);
        let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
        match kind {
            HEADERS => {
                let status = self.status(payload);
                self.streams.entry(stream).or_insert(status);
            }
            // After a status it only says that the rest of the request is not wanted.
            RST_STREAM => {
                self.streams.entry(stream).or_insert_with(|| "reset".to_owned());
            }
            GOAWAY => self.ended = true,
            _ => {}
        }
    }

    /// Of a header block that begins with it, as those of servers do.
    fn status(&mut self, block: &[u8]) -> String {
        const STATIC: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
        let mut block = block;
        // Changes of the table's size come first.
        while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
            block = &block[1..];
        }
        match *block {
            [byte @ 0x88..=0x8e, ..] => STATIC[usize::from(byte - 0x88)].to_owned(),
            [0x48 | 0x08, length, ref text @ ..] => {
                let text = &text[..usize::from(length & 0x7f)];
                let huffman = length & 0x80 != 0;
                let status =
                    if huffman { digits(text) } else { String::from_utf8_lossy(text).into() };
                self.indexed.clone_from(&status);
                status
            }
            [byte, ..] if byte >= 0xbe => self.indexed.clone(),
            _ => format!("{block:02x?}"),
        }
    }
}

/// Huffman's code of the ten digits (RFC 7541, appendix B).
fn digits(bytes: &[u8]) -> String {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut text = String::new();
    'digits: loop {
        let mut code = 0;
        for length in 1..=6 {
            let Some(bit) = bits.next() else { break 'digits };
            code = code << 1 | bit;
            match (length, code) {
                (5, 0..=2) => text.push(char::from(b'0' + code)),
                (6, 0x19..=0x1f) => text.push(char::from(b'3' + code - 0x19)),
                _ => continue,
            }
            continue 'digits;
        }
        break;
    }
    text
}
