//! The door's conformance: raw bytes from a client, the decision about them, and a server
//! behind the gateway that proves what became of them.
//!
//! Each vector is followed on the same connection by a marked request. Behind the gateway
//! nothing may be seen but what the vector's line says, and the marked request if the
//! connection goes on: whatever was smuggled or split would be seen beside it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{App, TestNode};

mod http1;
mod http2;
mod nginx;
mod origin;
mod report;

use origin::{Origin, Seen};

const HOST: &str = "conformance.localhost";
const MARKER: &str = "/marked";
/// For an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes, and what must become of them.
struct Vector {
    name: &'static str,
    send: Vec<u8>,
    /// A status; `reset` for a stream of HTTP/2; `closed` for a connection that ends
    /// without an answer; `broken` for a request that ends in any way but whole.
    decision: &'static str,
    /// What must be seen behind the gateway; `*` for anything but what is smuggled.
    origin: &'static [&'static str],
    /// What must not be in the heads that are seen there.
    absent: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

struct Group {
    title: &'static str,
    protocol: Protocol,
    vectors: Vec<Vector>,
}

fn groups() -> Vec<Group> {
    use Protocol::{Http1, Http2};
    let group = |title, protocol, vectors| Group { title, protocol, vectors };
    vec![
        group("Framing", Http1, http1::framing()),
        group("Trailers", Http1, http1::trailers()),
        group("Heads", Http1, http1::heads()),
        group("Host", Http1, http1::hosts()),
        group("Request targets", Http1, http1::targets()),
        group("HTTP/2: pseudo-headers", Http2, http2::pseudo_headers()),
        group("HTTP/2: fields and bodies", Http2, http2::fields()),
        group("HTTP/2: connections", Http2, http2::connections()),
    ]
}

/// What a server did with a vector.
struct Found {
    /// Statuses in the order of their coming, or what came in place of them.
    decision: String,
    /// Behind it, without the marked request.
    seen: Vec<Seen>,
    /// How often the marked request arrived there.
    marked: usize,
}

fn send(protocol: Protocol, address: SocketAddr, vector: &Vector, origin: &Origin) -> Found {
    origin.take();
    let (decision, answered) = match protocol {
        Protocol::Http1 => send_http1(address, &vector.send),
        Protocol::Http2 => {
            let outcome = http2::send(address, &vector.send, MARKER);
            (outcome.decision, outcome.marked)
        }
    };
    // What was smuggled may still be on its way.
    std::thread::sleep(Duration::from_millis(10));
    let (marked, seen): (Vec<Seen>, Vec<Seen>) =
        origin.take().into_iter().partition(|seen| seen.request == format!("GET {MARKER}"));
    assert!(!answered || marked.len() == 1, "{}: answered, but not seen once", vector.name);
    Found { decision, seen, marked: marked.len() }
}

fn send_http1(address: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let marked = format!("GET {MARKER} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    // The server may have closed before everything was sent.
    let _ = stream.write_all(&[bytes, marked.as_bytes()].concat());
    let mut answer = Vec::new();
    let ended = match stream.read_to_end(&mut answer) {
        Ok(_) => "closed",
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "closed",
        Err(_) => "silence",
    };
    let answer = String::from_utf8_lossy(&answer);
    // A client of HTTP/1.0 is answered in its own version.
    let statuses = answer.match_indices("HTTP/1.").map(|(at, _)| answer.get(at + 9..at + 12));
    let statuses = statuses.flatten();
    let mut statuses: Vec<&str> = statuses.filter(|status| *status != "100").collect();
    // The marked request's answer is the last, and the only one that closes by request.
    let whole = statuses.len() > 1 && statuses.iter().all(|status| *status == "200");
    if statuses.len() > 1 {
        statuses.pop();
    }
    statuses.dedup();
    let decision = if statuses.is_empty() { ended.to_owned() } else { statuses.join(", ") };
    (decision, whole)
}

/// What is wrong with what was found, if anything is.
fn judge(protocol: Protocol, vector: &Vector, found: &Found) -> Option<String> {
    let requests: Vec<&str> = found.seen.iter().map(|seen| seen.request.as_str()).collect();
    let broken = ["400", "reset", "closed", "408"].contains(&found.decision.as_str());
    let decided = match vector.decision {
        "broken" => broken,
        decision => found.decision == decision,
    };
    if !decided {
        return Some(format!("decided {:?}, not {:?}", found.decision, vector.decision));
    }
    let any = vector.origin == ["*"];
    let meant = |request: &&str| any && *request == "GET /a";
    if requests != vector.origin && !requests.iter().all(meant) {
        return Some(format!("behind it {requests:?} was seen, not {:?}", vector.origin));
    }
    let absent = vector.absent;
    if !absent.is_empty() && found.seen.iter().any(|seen| seen.head.contains(absent)) {
        return Some(format!("{absent:?} was seen behind it"));
    }
    let goes_on = match protocol {
        Protocol::Http1 => vector.decision == "200",
        Protocol::Http2 => vector.decision != "closed",
    };
    if found.marked != usize::from(goes_on) && !(any && found.marked == 0) {
        return Some(format!("the request after it was seen {} times", found.marked));
    }
    None
}

#[test]
fn every_vector_is_decided_as_the_table_says_and_nothing_is_smuggled() {
    let origin = Origin::start();
    let node = TestNode::start();
    node.deploy(&App::proxy("conformance", origin.address));
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    for group in groups() {
        let mut of_group = Vec::new();
        for vector in &group.vectors {
            let found = send(group.protocol, node.gateway(), vector, &origin);
            if let Some(why) = judge(group.protocol, vector, &found) {
                wrong.push(format!("{}, {}: {why}", group.title, vector.name));
            }
            of_group.push(found);
        }
        rows.push(of_group);
    }
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
    if std::env::var_os("SQUALL_UPDATE_CONFORMANCE").is_some() {
        let nginx = nginx::Nginx::start(origin.address);
        let theirs = |group: &Group| {
            let send =
                |vector| send(group.protocol, nginx.address(group.protocol), vector, &origin);
            group.vectors.iter().map(send).collect::<Vec<_>>()
        };
        let groups = groups();
        let theirs: Vec<_> = groups.iter().map(theirs).collect();
        report::write(&groups, &rows, &theirs, &nginx.version());
    }
}
