//! Connections that are slow, too many, or have nothing to say.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::tests::{Door, LARGE_BYTES};
use crate::{DoorLimits, Options};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn door(limits: DoorLimits) -> Door {
    Door::with(Options { limits, ..Options::default() })
}

fn connect(door: &Door) -> TcpStream {
    let stream = TcpStream::connect(door.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

/// Whether the server closes the connection, given time.
fn is_closed(stream: &mut TcpStream, mut meanwhile: impl FnMut(&mut TcpStream)) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        meanwhile(stream);
        match stream.read(&mut [0; 256]) {
            Ok(0) => return true,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
            _ => {}
        }
    }
    false
}

#[test]
fn a_head_that_drips_is_given_up_long_before_the_longest_time() {
    let door = door(DoorLimits { head_timeout: Duration::from_secs(3_600), ..Default::default() });
    let mut stream = connect(&door);
    stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\nX: ").unwrap();
    let drip = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"a");
    };
    assert!(is_closed(&mut stream, drip));
    assert!(door.metrics().contains("squall_http_slow_clients_total 1"), "{}", door.metrics());
}

#[test]
fn one_client_has_so_many_connections_and_no_more() {
    let door = door(DoorLimits { connections_per_client_max: 2, ..Default::default() });
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        let begun = Instant::now();
        while let Err(error) = stream.read_exact(&mut answer) {
            let early = error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(early && begun.elapsed() < PATIENCE, "{error}");
        }
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    let (mut first, mut second) = (connect(&door), connect(&door));
    ask(&mut first);
    ask(&mut second);
    assert!(is_closed(&mut connect(&door), |_| {}), "the third is one too many");
    drop(first);
    let begun = Instant::now();
    // The place is free once the server has noticed.
    loop {
        let mut stream = connect(&door);
        let _ = stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n");
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the place is not given back");
    }
}

/// Sends a request and reads what the `Fake` answers to it.
fn served(stream: &mut TcpStream, head: &str) {
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        let bytes = stream.read(&mut piece).unwrap();
        assert!(bytes > 0, "the connection ended after {answer:?}");
        answer.extend_from_slice(&piece[..bytes]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// The statuses of all responses until the server closes, which are without bodies or have short
/// ones.
fn statuses(stream: &mut TcpStream) -> Vec<u16> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let found =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| crate::tests::status(&answers[at..]));
    found.collect()
}

const GET: &str = "GET /exact HTTP/1.1\r\nHost: one.localhost\r\n\r\n";
const LAST: &str = "GET /exact HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n\r\n";

#[test]
fn requests_of_all_kinds_follow_each_other_on_one_connection() {
    let door = door(DoorLimits::default());
    let mut stream = connect(&door);
    for _ in 0..3 {
        served(&mut stream, GET);
    }
    // With a body, in pieces, with something behind it, and in a form that only hyper reads.
    let post = "POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: 5\r\n\r\nhello";
    served(&mut stream, post);
    for cut in [1, 20, GET.len() - 1] {
        let (begun, rest) = GET.split_at(cut);
        stream.write_all(begun.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        served(&mut stream, rest);
    }
    wait_for_resting(&door, 1);
    served(&mut stream, GET);
    stream.write_all(format!("\r\n{GET}{post}{GET}{LAST}").as_bytes()).unwrap();
    assert_eq!(statuses(&mut stream), [200; 4]);
    assert_eq!(door.records(12).len(), 12);
}

#[test]
fn a_request_that_comes_while_another_is_served_waits_for_its_turn() {
    let door = door(DoorLimits::default());
    for behind in [format!("{GET}{LAST}"), "GET /exact HTTP/1.1\r\nHo".to_owned(), LAST.to_owned()]
    {
        let mut stream = connect(&door);
        stream.write_all(b"GET /api/slow HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(30));
        stream.write_all(behind.as_bytes()).unwrap();
        if !behind.ends_with("\r\n\r\n") {
            std::thread::sleep(Duration::from_millis(30));
            stream.write_all(b"st: one.localhost\r\nConnection: close\r\n\r\n").unwrap();
        }
        let statuses = statuses(&mut stream);
        assert_eq!(statuses, vec![200; 1 + behind.matches("GET").count()], "{behind:?}");
    }
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let door = door(DoorLimits::default());
    let mut stream = connect(&door);
    served(&mut stream, GET);
    stream.write_all(b"GET /api/never HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    drop(stream);
    assert_eq!(door.records(2)[1].status, 499);
    // Also when it has begun to say something else.
    let mut stream = TcpStream::connect(door.address).unwrap();
    stream.write_all(b"GET /api/never HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(b"\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    drop(stream);
    assert_eq!(door.records(3)[2].status, 499);
}

/// Heads are numbered the same whoever read those before.
#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused_behind_others() {
    let door = door(DoorLimits::default());
    let bad = "GET /exact HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: 5\r\n\
               Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for before in 0..4 {
        let mut stream = connect(&door);
        for _ in 0..before {
            served(&mut stream, GET);
        }
        stream.write_all(format!("{bad}{GET}").as_bytes()).unwrap();
        assert_eq!(statuses(&mut stream), [400], "behind {before}");
        let mut stream = connect(&door);
        for _ in 0..before {
            served(&mut stream, GET);
        }
        stream.write_all(format!("{GET}{bad}{GET}").as_bytes()).unwrap();
        assert_eq!(statuses(&mut stream), [200, 400], "behind {before} and one");
    }
}

fn wait_for_resting(door: &Door, connections: usize) {
    let begun = Instant::now();
    while !door.metrics().contains(&format!("squall_http_connections_resting {connections}\n")) {
        assert!(begun.elapsed() < PATIENCE, "{}", door.metrics());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn idle_connections_rest_and_go_on_where_they_were() {
    let door = door(DoorLimits::default());
    let mut streams = [connect(&door), connect(&door), connect(&door)];
    let head = "GET /exact HTTP/1.1\r\nHost: one.localhost\r\n\r\n";
    for round in 0..3 {
        for stream in &mut streams {
            served(stream, head);
        }
        wait_for_resting(&door, 3);
        // One that wakes up by half a head does not rest in the middle of it.
        let (begun, rest) = head.split_at(10 + round);
        streams[0].write_all(begun.as_bytes()).unwrap();
        wait_for_resting(&door, 2);
        std::thread::sleep(Duration::from_millis(300));
        assert!(door.metrics().contains("squall_http_connections_resting 2\n"));
        served(&mut streams[0], rest);
    }
    drop(streams);
    wait_for_resting(&door, 0);
    assert!(door.metrics().contains("squall_http_connections 0\n"));
}

/// Whoever takes the end of a response late gets it all the same.
#[test]
fn a_connection_with_something_left_to_send_does_not_rest() {
    let door = door(DoorLimits::default());
    let mut stream = connect(&door);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /api/large HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut taken = stream.read(&mut piece).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(door.metrics().contains("squall_http_connections_resting 0\n"));
    // The head comes before the body.
    while taken < LARGE_BYTES {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed after {taken} bytes");
        taken += read;
    }
}

#[test]
fn a_connection_does_not_rest_for_longer_than_a_head_may_be_awaited() {
    let door = door(DoorLimits { head_timeout: Duration::from_secs(1), ..Default::default() });
    let mut stream = connect(&door);
    served(&mut stream, "GET /exact HTTP/1.1\r\nHost: one.localhost\r\n\r\n");
    wait_for_resting(&door, 1);
    assert!(is_closed(&mut stream, |_| {}));
    wait_for_resting(&door, 0);
}

#[test]
fn a_connection_of_http_2_without_requests_is_ended_and_one_with_a_request_is_not() {
    let door = door(DoorLimits {
        // The period of pings, whose answers show that nothing else comes.
        head_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(1),
        ..Default::default()
    });
    let client = tokio::runtime::Runtime::new().unwrap();
    client.block_on(async {
        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://one.localhost/api/x").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
        let ended = tokio::time::timeout(PATIENCE, connection).await;
        ended.expect("the server ends it").unwrap().expect("by GOAWAY, not by an error");

        let stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        // A request whose body does not end keeps the connection.
        let (_body, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let request = http::Request::post("http://one.localhost/api/x").body(Unfinished(receiver));
        let waiting = sender.send_request(request.unwrap());
        let waited = tokio::time::timeout(Duration::from_secs(7), waiting).await;
        assert!(waited.is_err(), "it is not answered yet");
        assert!(!connection.is_finished());
    });
}

struct Unfinished(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

fn open_by_core(door: &Door) -> Vec<usize> {
    let metrics = door.metrics();
    let of_core = |line: &str| {
        line.strip_prefix("squall_http_core_connections{")?.split(' ').nth(1)?.parse().ok()
    };
    metrics.lines().filter_map(of_core).collect()
}

#[test]
fn few_connections_are_shared_by_the_cores() {
    let door = door(DoorLimits::default());
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("other-core")
        .enable_all()
        .build()
        .unwrap();
    // The other core accepts nothing by itself.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    door.gateway.serve(other.handle(), silent).unwrap();
    let mut streams: Vec<_> = (0..40).map(|_| connect(&door)).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    let open = open_by_core(&door);
    assert_eq!(open.iter().sum::<usize>(), 40);
    assert!(open.iter().all(|core| (17..=23).contains(core)), "{open:?}");
    drop(streams);
    let begun = Instant::now();
    while open_by_core(&door) != [0, 0] {
        assert!(begun.elapsed() < PATIENCE, "{:?}", open_by_core(&door));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// It was accepted before, and says its first word when the node ends idle connections.
#[test]
fn a_connection_that_begins_while_the_node_drains_ends_after_its_request() {
    let door = door(DoorLimits::default());
    let mut stream = connect(&door);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    while !door.metrics().contains("squall_http_connections 1\n") {
        assert!(begun.elapsed() < PATIENCE, "not accepted");
    }
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(door.gateway.drain(PATIENCE))
        });
        std::thread::sleep(Duration::from_millis(1_500));
        stream.write_all(b"GET /exact HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(drained.join().unwrap(), 0, "nothing had to be cut off");
    });
}

/// A client that keeps to one CPU, and a connection that was accepted by the core of another.
#[test]
fn a_connection_follows_its_packets() {
    let cpus = squall_runtime::own_cpus();
    let Some(elsewhere) = cpus.get(1) else {
        // With one CPU there is nowhere to follow to.
        return;
    };
    let core_cpus = vec![cpus[0], *elsewhere];
    let door = Door::with(Options { core_cpus, ..Options::default() });
    let other =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    door.gateway.serve(other.handle(), silent).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            squall_runtime::keep_to_cpu(*elsewhere).unwrap();
            let mut stream = connect(&door);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for number in 0..1_000 {
                stream.write_all(b"HEAD /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
                let mut answer = Vec::new();
                while !answer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                    let mut piece = [0; 1_024];
                    let read = stream.read(&mut piece).unwrap();
                    assert!(read > 0, "closed at request {number}");
                    answer.extend_from_slice(&piece[..read]);
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{number}");
                if open_by_core(&door) == [0, 1] {
                    return (number, stream);
                }
            }
            panic!("it is still at {:?}", open_by_core(&door));
        });
        let (number, mut stream) = client.join().unwrap();
        assert!(number >= 64, "{number}");
        assert!(door.metrics().contains("\nsquall_http_connection_moves_total 1\n"));
        // And it goes on as before.
        stream.write_all(b"GET /api/x HTTP/1.1\r\nHost: one.localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    });
}
