//! Tunnels through a whole gateway, from a client's socket to an origin's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_types::dial::Dial;
use squall_types::gateway::ReportRoutes as _;
use squall_types::state::{AppState, ApplySnapshot as _, Snapshot};
use squall_types::usage::{UsageRecord, UsageSink};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::tests::Names;
use crate::inert::inert_contracts;
use crate::{Contracts, Gateway, Options};

const HELLO: &str = "GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A frame as a client sends it, masked with zeros, and as a server does.
fn from_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

fn from_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, u8::try_from(payload.len()).unwrap()];
    frame.extend_from_slice(payload);
    frame
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut seen = vec![0; bytes.len()];
    let reading = stream.read_exact(&mut seen);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("in time").unwrap();
    assert_eq!(seen, bytes);
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

struct Bench {
    gateway: Gateway,
    address: std::net::SocketAddr,
    origin: TcpListener,
    app: Arc<AppState>,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Ledger(Mutex<Vec<UsageRecord>>);

impl UsageSink for Ledger {
    fn record(&self, record: UsageRecord) {
        self.0.lock().unwrap().push(record);
    }
}

impl Bench {
    async fn new(protocol: &str) -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", origin.local_addr().unwrap());
        let app = crate::testing::deployed(
            "shop",
            &format!(
                "[upstreams.chat]\ntargets = [\"{url}\"]\nallow_private = true\n{protocol}\n[[routes]]\npaths = [\"/ws\"]\nupstream = \"chat\"\n"
            ),
        );
        let dial: Arc<dyn Dial> = Arc::new(Names::default());
        let ledger = Arc::new(Ledger::default());
        let contracts = Contracts { dial, usage: ledger.clone(), ..inert_contracts() };
        let gateway = Gateway::new(Options::default(), contracts);
        let bench = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bench.set_nonblocking(true).unwrap();
        let address = bench.local_addr().unwrap();
        gateway.serve(&tokio::runtime::Handle::current(), bench).unwrap();
        let bench = Self { gateway, address, origin, app, ledger };
        bench.apply(1);
        bench
    }

    fn apply(&self, version: u64) {
        self.gateway.apply(&Arc::new(Snapshot { version, apps: vec![self.app.clone()] }));
    }

    fn in_flight(&self) -> u64 {
        self.gateway.routes(None).items[0].in_flight
    }

    /// The usage of the only request, once it has ended.
    async fn usage(&self) -> UsageRecord {
        loop {
            if let Some(record) = self.ledger.0.lock().unwrap().pop() {
                assert_eq!(self.in_flight(), 0);
                return record;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A client and an origin that have switched.
    async fn switched(&self) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(HELLO.as_bytes()).await.unwrap();
        let (mut origin, _) = self.origin.accept().await.unwrap();
        let asked = read_head(&mut origin).await.to_ascii_lowercase();
        for line in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
            "sec-websocket-version: 13",
        ] {
            assert!(asked.contains(line), "{line} is not in {asked}");
        }
        // With the first bytes of the new protocol right behind it.
        let mut answer =
            b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n".to_vec();
        answer.extend(from_server(1, b"welcome"));
        origin.write_all(&answer).await.unwrap();
        let head = read_head(&mut client).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pp"] {
            assert!(head.contains(line), "{line} is not in {head}");
        }
        expect(&mut client, &from_server(1, b"welcome")).await;
        (client, origin)
    }
}

#[tokio::test]
async fn frames_pass_both_ways_while_the_configuration_changes() {
    let bench = Bench::new("").await;
    let (mut client, mut origin) = bench.switched().await;
    for round in 0..50u8 {
        bench.apply(u64::from(round) + 2);
        client.write_all(&from_client(1, &[round; 100])).await.unwrap();
        expect(&mut origin, &from_client(1, &[round; 100])).await;
        origin.write_all(&from_server(2, &[round; 90])).await.unwrap();
        expect(&mut client, &from_server(2, &[round; 90])).await;
    }
    let mut metrics = String::new();
    bench.gateway.write_metrics(&mut metrics);
    assert!(metrics.contains("squall_upstream_tunnels{app=\"shop\",upstream=\"chat\"} 1"));
    assert!(metrics.contains("squall_http_connections 1\n"), "a tunnel is an open connection");
    // The end of one side is the end of the other.
    drop(client);
    assert_eq!(origin.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn both_ends_are_told_when_the_node_drains() {
    let bench = Bench::new("").await;
    let (mut client, mut origin) = bench.switched().await;
    // In the middle of a frame: its end comes first.
    let frame = from_server(1, b"half a frame");
    origin.write_all(&frame[..5]).await.unwrap();
    expect(&mut client, &frame[..5]).await;
    let gateway = bench.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(Duration::from_secs(20)).await });
    let goodbye = from_client(8, &[]);
    let mut told = [0; 8];
    origin.read_exact(&mut told).await.unwrap();
    assert_eq!(told[..2], [0x88, 0x82], "a close frame, masked");
    origin.write_all(&frame[5..]).await.unwrap();
    expect(&mut client, &frame[5..]).await;
    expect(&mut client, &from_server(8, &1001u16.to_be_bytes())).await;
    // Both answer, and are let go.
    client.write_all(&goodbye).await.unwrap();
    origin.write_all(&from_server(8, &[])).await.unwrap();
    assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(origin.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(drained.await.unwrap(), 0, "nothing had to be cut off");
}

#[tokio::test]
async fn those_who_do_not_answer_are_let_go_after_a_while() {
    let bench = Bench::new("").await;
    let (mut client, _origin) = bench.switched().await;
    assert_eq!(bench.gateway.drain(Duration::from_secs(20)).await, 0);
    expect(&mut client, &from_server(8, &1001u16.to_be_bytes())).await;
    assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn silence_ends_a_tunnel() {
    let bench = Bench::new("timeouts = { idle_ms = 100 }").await;
    let (mut client, mut origin) = bench.switched().await;
    assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(origin.read(&mut [0; 10]).await.unwrap(), 0);
}

/// Its connection is closed, which an origin need not care for.
#[tokio::test]
async fn a_client_that_is_gone_is_not_waited_for() {
    let bench = Bench::new("").await;
    let (mut client, mut origin) = bench.switched().await;
    client.shutdown().await.unwrap();
    assert_eq!(origin.read(&mut [0; 10]).await.unwrap(), 0);
    let usage = tokio::time::timeout(Duration::from_secs(20), bench.usage());
    assert!(usage.await.expect("long before it would be idle").aborted);
}

#[tokio::test]
async fn an_upstream_may_decline_to_switch() {
    let bench = Bench::new("").await;
    let mut client = TcpStream::connect(bench.address).await.unwrap();
    client.write_all(HELLO.as_bytes()).await.unwrap();
    let (mut origin, _) = bench.origin.accept().await.unwrap();
    read_head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    expect(&mut client, b"no").await;
    // HTTP goes on, and a request that does not ask for anything does not get it.
    client
        .write_all(b"GET /ws HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let asked = read_head(&mut origin).await;
    assert!(!asked.to_ascii_lowercase().contains("upgrade"), "{asked}");
}

/// HTTP/2 knows no upgrade: what asks for one is a request like any other.
#[tokio::test]
async fn an_upstream_of_http_2_is_asked_by_http_2() {
    let bench = Bench::new("protocol = \"http2\"").await;
    let mut client = TcpStream::connect(bench.address).await.unwrap();
    client.write_all(HELLO.as_bytes()).await.unwrap();
    let (mut origin, _) = bench.origin.accept().await.unwrap();
    expect(&mut origin, b"PRI * HTTP/2.0").await;
}

#[tokio::test]
async fn nobody_switches_to_what_was_not_asked_for() {
    for (protocol, expected) in [("chat", "HTTP/1.1 502"), ("WebSocket", "HTTP/1.1 101")] {
        let bench = Bench::new("").await;
        let mut client = TcpStream::connect(bench.address).await.unwrap();
        client.write_all(HELLO.as_bytes()).await.unwrap();
        let (mut origin, _) = bench.origin.accept().await.unwrap();
        read_head(&mut origin).await;
        let answer =
            format!("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        origin.write_all(answer.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with(expected), "{protocol}: {head}");
    }
}

/// What is on its way to a client that is slow, and says something meanwhile, is not lost with the
/// end of the tunnel.
#[tokio::test]
async fn a_slow_client_gets_all_that_came_before_the_end() {
    const BYTES: usize = 1 << 20;
    let bench = Bench::new("").await;
    let (mut client, mut origin) = bench.switched().await;
    let mut head = vec![0x82, 127];
    head.extend((BYTES as u64).to_be_bytes());
    origin.write_all(&head).await.unwrap();
    origin.write_all(&vec![7; BYTES]).await.unwrap();
    origin.write_all(&from_server(8, &[3, 232])).await.unwrap();
    origin.shutdown().await.unwrap();
    // Longer than one end is waited for that is left alone.
    tokio::time::sleep(super::GOODBYE + Duration::from_millis(500)).await;
    client.write_all(&from_client(9, b"there?")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), head.len() + BYTES + 4);
}

#[tokio::test]
async fn a_tunnel_is_one_request_from_its_head_to_its_end() {
    let bench = Bench::new("").await;
    let (mut client, mut origin) = bench.switched().await;
    client.write_all(&from_client(1, &[7; 100])).await.unwrap();
    expect(&mut origin, &from_client(1, &[7; 100])).await;
    let lasts = Duration::from_millis(50);
    tokio::time::sleep(lasts).await;
    assert_eq!(bench.in_flight(), 1);
    assert!(bench.ledger.0.lock().unwrap().is_empty());
    // One end after the other.
    client.shutdown().await.unwrap();
    assert_eq!(origin.read(&mut [0; 10]).await.unwrap(), 0);
    origin.write_all(&from_server(8, &[])).await.unwrap();
    drop(origin);
    expect(&mut client, &from_server(8, &[])).await;
    let usage = bench.usage().await;
    assert_eq!((usage.status, usage.aborted, usage.code), (101, false, None));
    let came = from_server(1, b"welcome").len() + from_server(8, &[]).len();
    assert_eq!((usage.bytes_in, usage.bytes_out), (106, came as u64));
    assert!(u128::from(usage.wall_ns) >= lasts.as_nanos());
}

#[tokio::test]
async fn a_tunnel_that_is_cut_counts_as_aborted() {
    let bench = Bench::new("").await;
    let (client, mut origin) = bench.switched().await;
    // Closed with something unread, and at once: a reset.
    client.set_zero_linger().unwrap();
    drop(client);
    let _ = origin.read(&mut [0; 10]).await;
    let usage = bench.usage().await;
    assert_eq!((usage.status, usage.aborted), (101, true));
    assert_eq!((usage.bytes_in, usage.bytes_out), (0, 9));

    let bench = Bench::new("timeouts = { idle_ms = 100 }").await;
    let (_client, _origin) = bench.switched().await;
    assert!(bench.usage().await.aborted, "it fell silent");
}
