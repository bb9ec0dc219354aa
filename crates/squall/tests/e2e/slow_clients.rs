//! Clients that hold on to the door, beside others that only want to be served; and
//! uploads that are large for good reasons.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{App, Load, TestNode};

/// Counts the bytes of a body as they come.
const SINK: &str = "
    export default {
      async fetch(request: Request) {
        let bytes = 0;
        if (request.body) for await (const chunk of request.body) bytes += chunk.length;
        return new Response(String(bytes));
      },
    };";

/// Far longer than anybody is given.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sends `start`, then a byte now and again, until the server has had enough. Says
/// whether it had.
fn drip(address: SocketAddr, start: &str, byte: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    let begun = Instant::now();
    let mut answer = [0; 1024];
    while begun.elapsed() < PATIENCE {
        if stream.write_all(byte).is_err() {
            return true;
        }
        match stream.read(&mut answer) {
            Ok(0) => return true,
            // What it says before it closes.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return true,
            Err(_) => {}
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_drip_heads_and_bodies_are_cut_off_and_others_served() {
    let node = TestNode::start();
    node.deploy(&App::typescript("sink", SINK));
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    let address = node.gateway();
    let head = "GET / HTTP/1.1\r\nHost: sink.localhost\r\nX: ";
    let body = "POST / HTTP/1.1\r\nHost: sink.localhost\r\nContent-Length: 1000000\r\n\r\n";
    let attackers: Vec<_> = (0..100)
        .map(|number| {
            let start = if number % 2 == 0 { head } else { body };
            std::thread::spawn(move || drip(address, start, b"a"))
        })
        .collect();
    let load = Load::start(address, "hello.localhost", "/", 64, |status, _| {
        if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
    });
    let waiting = tokio::task::spawn_blocking(move || {
        attackers.into_iter().map(|attacker| attacker.join().unwrap()).filter(|cut| *cut).count()
    });
    assert_eq!(waiting.await.unwrap(), 100, "every attacker is cut off");
    assert!(load.completed.load(std::sync::atomic::Ordering::Relaxed) > 64);
    assert_eq!(load.stop().await, Vec::<String>::new());
    assert_eq!(node.terminate(), Some(0), "nothing is left to be cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_slow_but_not_too_slow_is_served() {
    let node = TestNode::start();
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    let address = node.gateway();
    let served = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n")
            .unwrap();
        // Longer than the time of grace, and faster than the slowest that is allowed.
        for number in 0..16 {
            let line = format!("X-{number}: {}\r\n", "a".repeat(500));
            stream.write_all(line.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        stream.write_all(b"\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = served.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// `SQUALL_LARGE` asks for the whole ten gigabytes.
fn upload_bytes() -> u64 {
    if std::env::var_os("SQUALL_LARGE").is_some() { 10_000_000_000 } else { 256 << 20 }
}

fn upload(address: SocketAddr, total: u64, mut look: impl FnMut()) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: sink.localhost\r\nConnection: close\r\nContent-Length: {total}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'a'; 1 << 20];
    let mut left = total;
    while left > 0 {
        let now = left.min(piece.len() as u64);
        stream.write_all(&piece[..now as usize]).unwrap();
        left -= now;
        look();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_large_upload_flows_in_constant_memory() {
    let total = upload_bytes();
    let node = TestNode::start_with(&format!(
        "[limits]\nrequest_body_bytes = {total}\nwall_time_ms = 3600000\ncpu_time_ms = 3600000\n"
    ));
    let limits = format!(
        "limits = {{ request_body_bytes = {total}, wall_time_ms = 3600000, cpu_time_ms = 3600000 }}"
    );
    node.deploy(&App::typescript("sink", SINK).with(&limits));
    upload(node.gateway(), 8 << 20, || {});
    let before = node.resident_bytes();
    let mut highest = 0;
    let answer = upload(node.gateway(), total, || highest = highest.max(node.resident_bytes()));
    assert!(answer.ends_with(&format!("\r\n\r\n{total}")), "{answer}");
    let grown = highest.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more while {total} flowed in");
}

/// What it did not take lies in the core's outbox, and no request waits for it.
#[test]
fn a_connection_that_takes_nothing_does_not_rest_for_ever() {
    // It is taken apart to rest before the time of its next head is over.
    let node = TestNode::start_with("[gateway]\nhead_timeout_ms = 6000\nwrite_timeout_ms = 1000\n");
    let body = "x".repeat(15_000);
    let route =
        format!("[[routes]]\npaths = [\"/fixed\"]\nresponse = {{ status = 200, body = {body:?} }}");
    let address = node.gateway();
    node.deploy(&App::new("fixed", squall_testkit::HELLO).and(&route));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let own = stream.local_addr().unwrap();
    // As /proc/net/tcp has it: both ends, the state (01 is open) and what waits to be taken.
    let server_end = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ends = format!(" 0100007F:{:04X} 0100007F:{:04X} ", address.port(), own.port());
        let line = table.lines().find(|line| line.contains(&ends))?;
        let (state, queue) = line[line.find(&ends)? + ends.len()..].split_at(2);
        let waits = u64::from_str_radix(&queue[1..9], 16).unwrap();
        Some((state.to_owned(), waits))
    };
    let (mut waits, mut asked) = (0, 0);
    loop {
        stream.write_all(b"GET /fixed HTTP/1.1\r\nHost: fixed.localhost\r\n\r\n").unwrap();
        asked += 1;
        let wanted = waits + body.len() as u64;
        let begun = Instant::now();
        while waits < wanted && begun.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(1));
            waits = server_end().expect("it is open").1;
        }
        // Not all of it was taken. Another request would wait for its own turn to be sent.
        if waits < wanted && asked > 5 {
            break;
        }
        assert!(asked < 5_000, "{waits} bytes wait");
    }
    let since = Instant::now();
    while server_end().is_some_and(|(state, _)| state == "01") {
        assert!(since.elapsed() < Duration::from_secs(30), "it is held");
        std::thread::sleep(Duration::from_millis(20));
    }
}
